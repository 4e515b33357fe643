//! Owns the gate's route table: api name → who handles it, built from what nodes announce.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::{Named, directory::NodeInfo, msg, wire::ApiName};

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `msg.Login.Req`
    Login,
    /// `msg.Resume.Req`
    Resume,
    /// `msg.Ping.Req`
    Ping,
    /// `msg.Logout.Req`
    Logout,
    /// `msg.JoinRoom.Req`: as the first message it signs in, later it is the player's.
    Join,
    /// The session's own player.
    Player,
    /// No node announces it any more.
    Nobody,
}

fn of(api: &str) -> Target {
    if api == msg::join_room::Req::NAME { Target::Join } else { Target::Player }
}

/// One immutable table; a gate swaps it whole when the directory changes.
#[derive(Clone, Debug)]
pub(crate) struct Routes(FxHashMap<Box<[u8]>, Target>);

impl Routes {
    /// The messages of the session itself, which every gate handles.
    pub(crate) fn new() -> Self {
        let own = [
            (msg::login::Req::NAME, Target::Login),
            (msg::resume::Req::NAME, Target::Resume),
            (msg::ping::Req::NAME, Target::Ping),
            (msg::logout::Req::NAME, Target::Logout),
        ];
        Self(own.into_iter().map(|(name, target)| (name.as_bytes().into(), target)).collect())
    }

    /// The table after the directory has changed to `nodes`.
    pub(crate) fn with_nodes(&self, nodes: &[Arc<NodeInfo>]) -> Self {
        let mut next = self.clone();
        if nodes.iter().all(|n| n.apis.is_empty()) {
            // No game server is known: players that run go on, and so does the way to them.
            return next;
        }
        for target in next.0.values_mut().filter(|t| matches!(t, Target::Player | Target::Join)) {
            *target = Target::Nobody;
        }
        for api in nodes.iter().flat_map(|n| &n.apis) {
            let target = next.0.entry(api.as_bytes().into()).or_insert(Target::Nobody);
            // A node cannot take over what is the session's own.
            if *target == Target::Nobody {
                *target = of(api);
            }
        }
        next
    }

    /// Who handles messages of this name; `None` when nobody ever did.
    #[inline]
    pub(crate) fn find(&self, api: ApiName<'_>) -> Option<Target> {
        self.0.get(api.as_bytes()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::NodeInfo;

    fn node(apis: &[&str]) -> Arc<NodeInfo> {
        Arc::new(NodeInfo {
            apis: apis.iter().map(|a| (*a).to_owned()).collect(),
            ..NodeInfo::default()
        })
    }

    fn target(routes: &Routes, name: &str) -> Option<Target> {
        routes.find(ApiName::parse(name.as_bytes()).expect("a name"))
    }

    #[test]
    fn a_message_that_nobody_announces_any_more_is_known_to_have_been_one() {
        let one = Routes::new().with_nodes(&[node(&["a.Req", "b.Req"])]);
        let two = one.with_nodes(&[node(&["c.Req"])]);
        assert_eq!(target(&two, "b.Req"), Some(Target::Nobody));
        assert_eq!(target(&two, "c.Req"), Some(Target::Player));
        assert_eq!(target(&two, "d.Req"), None);
        let three = two.with_nodes(&[node(&["b.Req"])]);
        assert_eq!(target(&three, "b.Req"), Some(Target::Player));
    }

    #[test]
    fn while_no_game_server_is_known_messages_keep_their_way() {
        let routes = Routes::new().with_nodes(&[node(&["a.Req"])]).with_nodes(&[node(&[])]);
        assert_eq!(target(&routes, "a.Req"), Some(Target::Player));
    }

    #[test]
    fn a_node_cannot_take_over_a_message_of_the_session() {
        let routes = Routes::new().with_nodes(&[node(&["msg.Login.Req"])]);
        assert_eq!(target(&routes, "msg.Login.Req"), Some(Target::Login));
    }
}
