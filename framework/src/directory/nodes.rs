//! Owns what a node tells the others about itself.
//!
//! Nodes of the next release may be in the same cluster: what this release does not know of them
//! is passed over, and what they no longer tell has its default.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

/// What a node does; one process may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Signs people in over HTTP.
    Account,
    /// Holds client connections.
    Gate,
    /// Runs entities.
    Game,
    /// Places rooms.
    Rooms,
}

impl Role {
    /// As operators, logs and nodes write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Gate => "gate",
            Self::Game => "game",
            Self::Rooms => "rooms",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Account, Self::Gate, Self::Game, Self::Rooms].into_iter().find(|r| r.name() == name)
    }
}

/// Whether a node takes new work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeState {
    /// It does.
    #[default]
    Up,
    /// It finishes what it has. So is read what this release does not know: who is not up for
    /// sure gets nothing new.
    #[serde(other)]
    Draining,
}

/// One node, as the others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NodeInfo {
    /// Unique in the cluster.
    pub(crate) id: String,
    /// Where other nodes reach its link, `ip:port`; none in a town of one process.
    pub(crate) addr: Option<String>,
    #[serde(deserialize_with = "known")]
    pub(crate) roles: BTreeSet<Role>,
    /// What its game server has handlers for.
    pub(crate) apis: Vec<String>,
    /// Where clients reach its gate, `ip:port`.
    pub(crate) gate: Option<String>,
    /// The same for WebSockets, `ws://ip:port/ws`; not told when it does not listen for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ws: Option<String>,
    /// Where clients of a codec reach its gate, by the codec's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) codecs: BTreeMap<String, String>,
    /// Where people reach its account center, `ip:port`; not told where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<String>,
    /// Connections and entities; the smaller, the sooner it gets the next.
    pub(crate) load: u32,
    /// The version of bastide it was built with.
    pub(crate) version: String,
    /// Grows with each start.
    pub(crate) incarnation: i64,
    pub(crate) state: NodeState,
    /// The keys with which its account center signs tokens.
    #[serde(deserialize_with = "known")]
    pub(crate) keys: Vec<Jwk>,
}

/// Where somebody is sent who asks a load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Front {
    /// An account center's HTTP, `ip:port`.
    pub(crate) addr: String,
    /// The URL of a gate for WebSockets, where one listens for them.
    pub(crate) ws: Option<String>,
}

/// The public half of a signing key, as `/.well-known/jwks.json` and discovery show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Jwk {
    pub(crate) kty: String,
    pub(crate) crv: String,
    pub(crate) kid: String,
    /// The 32 bytes of the key, base64url.
    pub(crate) x: String,
    pub(crate) alg: String,
    #[serde(rename = "use")]
    pub(crate) usage: String,
}

/// Those of a list that this release can read.
fn known<'de, D, C>(list: D) -> Result<C, D::Error>
where
    D: Deserializer<'de>,
    C: FromIterator<C::Item> + IntoIterator<Item: DeserializeOwned>,
{
    let all = Vec::<serde_json::Value>::deserialize(list)?;
    Ok(all.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_another_release_is_read_as_far_as_this_one_knows_it() {
        let text = r#"{
            "addr": "10.0.0.7:3100", "roles": ["game", "weather", {"custom": 1}, "rooms"],
            "state": "resting", "moods": [1, 2], "keys": [{"kty": "PQ", "kid": "k2"}]
        }"#;
        let node: NodeInfo = serde_json::from_str(text).expect("readable");
        let expected = NodeInfo {
            addr: Some("10.0.0.7:3100".into()),
            roles: BTreeSet::from([Role::Game, Role::Rooms]),
            state: NodeState::Draining,
            ..NodeInfo::default()
        };
        assert_eq!(node, expected);
    }

    #[test]
    fn what_a_node_tells_is_read_back_as_it_was() {
        let text = |s: &str| s.to_owned();
        let (kty, crv, kid) = (text("OKP"), text("Ed25519"), text("k1"));
        let key = Jwk { kty, crv, kid, x: text("eA"), alg: text("EdDSA"), usage: text("sig") };
        let node = NodeInfo {
            id: text("town-1"),
            addr: Some(text("10.0.0.7:3100")),
            roles: BTreeSet::from([Role::Account, Role::Gate, Role::Game, Role::Rooms]),
            apis: vec![text("msg.Echo.Req")],
            gate: Some(text("1.2.3.4:3017")),
            ws: Some(text("ws://1.2.3.4:18080/ws")),
            codecs: BTreeMap::from([(text("lines"), text("1.2.3.4:9001"))]),
            http: Some(text("1.2.3.4:8080")),
            load: 7,
            version: text("0.1.0"),
            incarnation: 3,
            state: NodeState::Draining,
            keys: vec![key],
        };
        let written = serde_json::to_string(&node).expect("writable");
        assert_eq!(serde_json::from_str::<NodeInfo>(&written).expect("readable"), node);
    }
}
