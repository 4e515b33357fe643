//! Owns the gate's route table: api name → who handles it, built from what nodes announce.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::{Named, directory::NodeInfo, msg, wire::ApiName};

/// A route's place in the table. Tables only grow, so it stays true for the life of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RouteId(pub(crate) u32);

/// What a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `msg.Login.Req`
    Login,
    /// `msg.Resume.Req`
    Resume,
    /// `msg.Ping.Req`
    Ping,
    /// `msg.Logout.Req`
    Logout,
    /// The session's own player.
    Player,
    /// No node announces it any more.
    Nobody,
}

/// One immutable table; a gate swaps it whole when the directory changes.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    by_name: FxHashMap<Box<[u8]>, RouteId>,
    routes: Vec<Route>,
}

#[derive(Clone, Debug)]
struct Route {
    name: Arc<str>,
    target: Target,
}

impl Routes {
    /// The messages of the session itself, which every gate handles.
    pub(crate) fn new() -> Self {
        let mut routes = Self { by_name: FxHashMap::default(), routes: Vec::new() };
        routes.set(msg::login::Req::NAME, Target::Login);
        routes.set(msg::resume::Req::NAME, Target::Resume);
        routes.set(msg::ping::Req::NAME, Target::Ping);
        routes.set(msg::logout::Req::NAME, Target::Logout);
        routes
    }

    /// The table after the directory has changed to `nodes`.
    pub(crate) fn with_nodes(&self, nodes: &[Arc<NodeInfo>]) -> Self {
        let mut next = self.clone();
        if nodes.iter().all(|n| n.apis.is_empty()) {
            // No game server is known: players that run go on, and so does the way to them.
            return next;
        }
        for route in &mut next.routes {
            if route.target == Target::Player {
                route.target = Target::Nobody;
            }
        }
        for api in nodes.iter().flat_map(|n| &n.apis) {
            next.set(api, Target::Player);
        }
        next
    }

    fn set(&mut self, name: &str, target: Target) {
        if let Some(id) = self.by_name.get(name.as_bytes()) {
            let route = &mut self.routes[id.0 as usize];
            if matches!(route.target, Target::Player | Target::Nobody) {
                route.target = target;
            }
            return;
        }
        let id = RouteId(u32::try_from(self.routes.len()).expect("fewer than 2^32 apis"));
        self.by_name.insert(name.as_bytes().into(), id);
        self.routes.push(Route { name: name.into(), target });
    }

    /// Who handles messages of this name; `None` when nobody ever did.
    #[inline]
    pub(crate) fn find(&self, api: ApiName<'_>) -> Option<(RouteId, &Target)> {
        let id = *self.by_name.get(api.as_bytes())?;
        Some((id, &self.routes[id.0 as usize].target))
    }

    pub(crate) fn name(&self, id: RouteId) -> &str {
        self.routes.get(id.0 as usize).map_or("", |r| &r.name)
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

    fn target<'a>(routes: &'a Routes, name: &str) -> Option<&'a Target> {
        routes.find(ApiName::parse(name.as_bytes()).expect("a name")).map(|(_, t)| t)
    }

    #[test]
    fn a_name_keeps_its_id_when_nodes_come_and_go() {
        let one = Routes::new().with_nodes(&[node(&["a.Req", "b.Req"])]);
        let id = one.find(ApiName::parse(b"b.Req").expect("a name")).expect("known").0;
        let two = one.with_nodes(&[node(&["c.Req"])]);
        assert_eq!(two.name(id), "b.Req");
        assert_eq!(target(&two, "b.Req"), Some(&Target::Nobody));
        assert_eq!(target(&two, "c.Req"), Some(&Target::Player));
        assert_eq!(target(&two, "d.Req"), None);
    }

    #[test]
    fn while_no_game_server_is_known_messages_keep_their_way() {
        let routes = Routes::new().with_nodes(&[node(&["a.Req"])]).with_nodes(&[node(&[])]);
        assert_eq!(target(&routes, "a.Req"), Some(&Target::Player));
    }

    #[test]
    fn a_node_cannot_take_over_a_message_of_the_session() {
        let routes = Routes::new().with_nodes(&[node(&["msg.Login.Req"])]);
        assert_eq!(target(&routes, "msg.Login.Req"), Some(&Target::Login));
    }
}
