//! Owns what a node tells the others about itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

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
}

/// Whether a node takes new work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeState {
    /// It does.
    #[default]
    Up,
    /// It finishes what it has.
    Draining,
}

/// One node, as the others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeInfo {
    /// Unique in the cluster.
    pub(crate) id: String,
    pub(crate) roles: BTreeSet<Role>,
    /// What its game server has handlers for.
    pub(crate) apis: Vec<String>,
    /// Where clients reach its gate, `ip:port`.
    pub(crate) gate: Option<String>,
    /// The smaller, the sooner it gets the next session; 0 while there is one gate to choose from.
    pub(crate) load: u32,
    /// The version of bastide it was built with.
    pub(crate) version: String,
    /// Grows with each start.
    pub(crate) incarnation: i64,
    pub(crate) state: NodeState,
    /// The keys with which its account center signs tokens.
    pub(crate) keys: Vec<Jwk>,
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
