//! Owns which nodes there are, what they do, and which of them runs which entity.
//!
//! Alone: everything is in this process, so a registration is seen at once and a claim is always
//! granted. In a cluster etcd tells which nodes there are and Redis who claims what; callers see
//! the same calls.

mod claims;
mod cluster;
mod etcd;
mod lease;
mod nodes;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use ring::digest;
use tokio::sync::watch;

pub(crate) use self::{
    cluster::{ClusterSettings, Evicted, JoinError},
    etcd::{Etcd, EtcdError, EtcdSettings},
    lease::Lease,
    nodes::{Front, Jwk, NodeInfo, NodeState, Role},
};

use self::cluster::Cluster;
use crate::wire::{Code, Refusal};

/// The nodes that are known now, in no particular order.
pub(crate) type Nodes = Arc<Vec<Arc<NodeInfo>>>;

/// Which nodes there are, and which of them runs which entity. A clone is a handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct Directory(Arc<Inner>);

struct Inner {
    /// This node's id.
    me: String,
    nodes: Arc<watch::Sender<Nodes>>,
    /// Std mutex: held to replace one node's entry, never across an await.
    writer: Mutex<()>,
    /// By node, what it said of its load and how often it was chosen since: what was sent to it
    /// is not yet in its word. Std mutex: held to choose one.
    chosen: Mutex<HashMap<String, (u32, u32)>>,
    lease: Lease,
    kind: Kind,
}

enum Kind {
    /// Grows with each start on the same store, so that what an earlier process still writes is
    /// refused.
    Alone {
        incarnation: i64,
    },
    Cluster(Cluster),
}

/// The right to run one entity and to write its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// A later owner's epoch is greater; the store refuses the smaller one.
    pub(crate) epoch: i64,
}

/// Why an entity was not claimed.
#[derive(Debug)]
pub(crate) enum NotClaimed {
    /// This node runs it.
    Elsewhere(String),
    /// For the client.
    Refused(Refusal),
}

impl Directory {
    /// A directory of this process alone.
    pub(crate) fn alone(me: &str, incarnation: i64) -> Self {
        let nodes = Arc::new(watch::Sender::new(Nodes::default()));
        Self::new(me, nodes, Lease::for_ever(), Kind::Alone { incarnation })
    }

    fn new(me: &str, nodes: Arc<watch::Sender<Nodes>>, lease: Lease, kind: Kind) -> Self {
        let (writer, chosen) = (Mutex::new(()), Mutex::default());
        Self(Arc::new(Inner { me: me.to_owned(), nodes, writer, chosen, lease, kind }))
    }

    /// This node's id.
    pub(crate) fn me(&self) -> &str {
        &self.0.me
    }

    /// Until when this node may run what it claims.
    pub(crate) fn lease(&self) -> &Lease {
        &self.0.lease
    }

    // === Nodes ===

    /// Makes this node known, or replaces what is known of it.
    pub(crate) fn register(&self, node: NodeInfo) {
        match &self.0.kind {
            Kind::Cluster(cluster) => cluster.tell(Some(node)),
            Kind::Alone { .. } => self.change(|nodes| {
                nodes.retain(|n| n.id != node.id);
                nodes.push(Arc::new(node));
            }),
        }
    }

    /// Changes what is known of this node; nothing happens when it is not registered.
    pub(crate) fn update(&self, change: impl FnOnce(&mut NodeInfo)) {
        match &self.0.kind {
            Kind::Cluster(cluster) => cluster.update(change),
            Kind::Alone { .. } => self.change(|nodes| {
                if let Some(node) = nodes.iter_mut().find(|n| n.id == self.0.me) {
                    change(Arc::make_mut(node));
                }
            }),
        }
    }

    /// Takes this node off the list.
    pub(crate) fn deregister(&self) {
        match &self.0.kind {
            Kind::Cluster(cluster) => cluster.tell(None),
            Kind::Alone { .. } => self.change(|nodes| nodes.retain(|n| n.id != self.0.me)),
        }
    }

    /// As if another node had gone.
    #[cfg(test)]
    pub(crate) fn forget(&self, id: &str) {
        self.change(|nodes| nodes.retain(|n| n.id != id));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<NodeInfo>>)) {
        let _one_at_a_time = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.nodes.send_modify(|nodes| change(Arc::make_mut(nodes)));
    }

    pub(crate) fn nodes(&self) -> Nodes {
        self.0.nodes.borrow().clone()
    }

    pub(crate) fn node(&self, id: &str) -> Option<Arc<NodeInfo>> {
        self.0.nodes.borrow().iter().find(|n| n.id == id).cloned()
    }

    /// Follows the nodes: the present ones are seen at once, then each change.
    pub(crate) fn watch(&self) -> watch::Receiver<Nodes> {
        let mut nodes = self.0.nodes.subscribe();
        nodes.mark_changed();
        nodes
    }

    /// The address that clients are sent to: of the gates that are up, the least loaded.
    pub(crate) fn gate_for_sign_in(&self) -> Option<String> {
        self.least_loaded(|n| n.gate.is_some())?.gate.clone()
    }

    /// The same for clients that speak over WebSockets: a URL.
    pub(crate) fn gate_for_websocket(&self) -> Option<String> {
        self.least_loaded(|n| n.ws.is_some())?.ws.clone()
    }

    /// Where whoever is known by `whom` is sent: the same account center while it is up, and the
    /// same gate, whoever asks and whichever others come and go. Each has an equal share of all.
    pub(crate) fn front_of(&self, whom: &str) -> Option<Front> {
        let nodes = self.nodes();
        let up = || nodes.iter().filter(|n| n.state == NodeState::Up);
        // Nobody could play.
        up().find(|n| n.gate.is_some())?;
        let drawn = |of: fn(&NodeInfo) -> Option<&String>| {
            let up = up().filter_map(|n| Some((draw(&n.id, whom), of(n)?)));
            up.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, place)| place.clone())
        };
        Some(Front { addr: drawn(|n| n.http.as_ref())?, ws: drawn(|n| n.ws.as_ref()) })
    }

    /// Where a gate lets clients of a codec in: for whoever is known by `whom` always the same
    /// while it is up.
    pub(crate) fn gate_of_codec(&self, codec: &str, whom: &str) -> Option<String> {
        let nodes = self.nodes();
        let up = nodes.iter().filter(|n| n.state == NodeState::Up);
        let drawn = up.filter_map(|n| Some((draw(&n.id, whom), n.codecs.get(codec)?)));
        drawn.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, place)| place.clone())
    }

    /// A node that has a role and is up, and was not tried: the least loaded.
    pub(crate) fn with_role(&self, role: Role, tried: &[String]) -> Option<Arc<NodeInfo>> {
        self.least_loaded(|n| n.roles.contains(&role) && !tried.contains(&n.id))
    }

    /// Of the nodes that have a role and are up, the one that has a name to itself, whoever asks.
    pub(crate) fn owner_of(&self, role: Role, name: &str) -> Option<Arc<NodeInfo>> {
        let nodes = self.nodes();
        let up = nodes.iter().filter(|n| n.state == NodeState::Up && n.roles.contains(&role));
        up.max_by_key(|n| draw(&n.id, name)).cloned()
    }

    /// A game server for something new: the least loaded that is up, and not one that was tried.
    pub(crate) fn game_server(&self, tried: &[String]) -> Option<Arc<NodeInfo>> {
        self.with_role(Role::Game, tried)
    }

    /// Where clients reach a gate: that of a node, if it is one and is up, else the one that is
    /// drawn for `whom`. Most stay where they are: nobody is counted as sent there.
    pub(crate) fn gate_near(&self, node: &str, whom: &str) -> Option<String> {
        let nodes = self.nodes();
        let gates = || nodes.iter().filter(|n| n.state == NodeState::Up && n.gate.is_some());
        let near = gates().find(|n| n.id == node);
        let gate = near.or_else(|| gates().max_by_key(|n| draw(&n.id, whom)))?;
        gate.gate.clone()
    }

    /// Whether discovery has this start of a node.
    pub(crate) fn has(&self, node: &str, incarnation: i64) -> bool {
        self.node(node).is_some_and(|n| n.incarnation == incarnation)
    }

    /// Whether this start of a node runs nothing any more: discovery does not have it, and its
    /// lease is over.
    ///
    /// # Errors
    /// 101 when the claims are away.
    pub(crate) async fn is_lost(&self, node: &str, incarnation: i64) -> Result<bool, Refusal> {
        match &self.0.kind {
            Kind::Alone { incarnation: mine } => Ok(node != self.0.me || incarnation != *mine),
            Kind::Cluster(cluster) => cluster.is_lost(node, incarnation, &self.nodes()).await,
        }
    }

    /// Of the nodes that are up and fit, the one with the least to do, this one first among equals.
    fn least_loaded(&self, fits: impl Fn(&NodeInfo) -> bool) -> Option<Arc<NodeInfo>> {
        let nodes = self.nodes();
        let mut chosen = self.0.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        chosen.retain(|id, (load, _)| nodes.iter().any(|n| n.id == *id && n.load == *load));
        let up = nodes.iter().filter(|n| n.state == NodeState::Up && fits(n));
        let since = |n: &NodeInfo| chosen.get(&n.id).map_or(0, |(_, times)| *times);
        let node = up.min_by_key(|n| (n.load.saturating_add(since(n)), n.id != self.0.me))?;
        let (_, times) = chosen.entry(node.id.clone()).or_insert((node.load, 0));
        *times = times.saturating_add(1);
        Some(node.clone())
    }

    // === Entities ===

    /// The node to ask for an entity: the one that runs it, else the least loaded game server
    /// that is up and not among those that were tried.
    ///
    /// # Errors
    /// 101 when there is none, or the claims are away.
    pub(crate) async fn place(
        &self,
        entity: &str,
        tried: &[String],
    ) -> Result<Arc<NodeInfo>, Refusal> {
        if let Kind::Cluster(cluster) = &self.0.kind
            && let Some(owner) = cluster.locate(entity).await?
            && let Some(node) =
                self.node(&owner.node).filter(|n| n.incarnation == owner.incarnation)
        {
            if tried.contains(&node.id) {
                return Err(Code::NOT_CONNECTED.because("the player's game server is not reached"));
            }
            return Ok(node);
        }
        let fits = |n: &NodeInfo| n.roles.contains(&Role::Game) && !tried.contains(&n.id);
        self.least_loaded(fits).ok_or_else(|| Code::NOT_READY.into())
    }

    /// The id of the node that runs an entity, or did until it was lost; `None`: nobody does. In
    /// a process that is alone that is this one, whether it runs it or not.
    ///
    /// # Errors
    /// 101 when the claims are away.
    pub(crate) async fn locate(&self, entity: &str) -> Result<Option<String>, Refusal> {
        match &self.0.kind {
            Kind::Alone { .. } => Ok(Some(self.0.me.clone())),
            Kind::Cluster(cluster) => Ok(cluster.locate(entity).await?.map(|owner| owner.node)),
        }
    }

    /// Refuses, as [`Directory::claim`] would, what another node runs; claims nothing.
    pub(crate) async fn runs_elsewhere(&self, entity: &str) -> Result<(), NotClaimed> {
        match &self.0.kind {
            Kind::Alone { .. } => Ok(()),
            Kind::Cluster(cluster) => cluster.runs_elsewhere(entity, &self.nodes()).await,
        }
    }

    /// Claims an entity for this node, under an epoch above `floor`.
    pub(crate) async fn claim(&self, entity: &str, floor: i64) -> Result<Claim, NotClaimed> {
        match &self.0.kind {
            Kind::Alone { incarnation } => Ok(Claim { epoch: *incarnation }),
            Kind::Cluster(cluster) => cluster.claim(entity, floor, &self.nodes()).await,
        }
    }

    /// Gives an entity up.
    pub(crate) async fn release(&self, entity: &str, claim: Claim) {
        if let Kind::Cluster(cluster) = &self.0.kind {
            cluster.release(entity, claim).await;
        }
    }

    /// The services of the cluster that do not answer, in words for an operator.
    pub(crate) async fn missing(&self) -> Vec<String> {
        match &self.0.kind {
            Kind::Alone { .. } => Vec::new(),
            Kind::Cluster(cluster) => cluster.missing().await,
        }
    }
}

/// Rendezvous: whoever draws the highest has it. A node that goes away moves nothing but its own.
fn draw(id: &str, whom: &str) -> Vec<u8> {
    let mut both = digest::Context::new(&digest::SHA256);
    both.update(id.as_bytes());
    both.update(&[0]);
    both.update(whom.as_bytes());
    both.finish().as_ref().to_vec()
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Alone { .. } => "alone",
            Kind::Cluster(_) => "cluster",
        };
        f.debug_struct("Directory")
            .field("me", &self.me)
            .field("kind", &kind)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(id: &str, load: u32) -> NodeInfo {
        let roles = [Role::Game].into();
        let (gate, http) = (Some(id.into()), Some(id.into()));
        NodeInfo { id: id.into(), gate, http, load, roles, ..NodeInfo::default() }
    }

    fn directory(nodes: Vec<NodeInfo>) -> Directory {
        let directory = Directory::alone("a", 1);
        directory.0.nodes.send_replace(Arc::new(nodes.into_iter().map(Arc::new).collect()));
        directory
    }

    #[test]
    fn clients_are_sent_to_the_least_loaded_gate_that_is_up() {
        assert_eq!(directory(vec![]).gate_for_sign_in(), None);
        let directory = directory(vec![gate("a", 3), gate("b", 5)]);
        assert_eq!(directory.gate_for_sign_in().as_deref(), Some("a"));
        directory.update(|n| n.state = NodeState::Draining);
        assert_eq!(directory.gate_for_sign_in().as_deref(), Some("b"));
        directory.deregister();
        assert_eq!(directory.gate_for_sign_in().as_deref(), Some("b"));
    }

    #[test]
    fn a_client_of_websockets_is_sent_only_to_a_gate_that_takes_them() {
        let ws = NodeInfo { ws: Some("ws://b/ws".into()), ..gate("b", 5) };
        assert_eq!(directory(vec![gate("a", 0)]).gate_for_websocket(), None);
        let directory = directory(vec![gate("a", 0), ws]);
        assert_eq!(directory.gate_for_websocket().as_deref(), Some("ws://b/ws"));
    }

    #[test]
    fn somebody_is_sent_to_the_same_place_while_it_lives_and_all_share_alike() {
        let people: Vec<_> = (0..300).map(|n| format!("official.{n}")).collect();
        let sent = |nodes: Vec<NodeInfo>| -> Vec<String> {
            let directory = directory(nodes);
            people.iter().filter_map(|p| Some(directory.front_of(p)?.addr)).collect()
        };
        let three = sent(vec![gate("a", 0), gate("b", 9), gate("c", 0)]);
        assert_eq!(three, sent(vec![gate("c", 5), gate("b", 0), gate("a", 7)]));
        for gate in ["a", "b", "c"] {
            let share = three.iter().filter(|to| *to == gate).count();
            assert!((60..140).contains(&share), "{gate} has {share} of 300");
        }
        let two = sent(vec![gate("a", 0), gate("c", 0)]);
        for (before, after) in three.iter().zip(&two) {
            assert!(before == after || before == "b", "{before} lives, and was left for {after}");
        }
        let drains = NodeInfo { state: NodeState::Draining, ..gate("a", 0) };
        assert!(sent(vec![drains]).is_empty());
    }

    #[test]
    fn what_was_sent_to_a_node_since_it_last_spoke_counts_as_its_load() {
        let directory = directory(vec![gate("a", 0), gate("b", 2)]);
        let sent: Vec<_> = (0..6).filter_map(|_| directory.gate_for_sign_in()).collect();
        assert_eq!(sent, ["a", "a", "a", "b", "a", "b"]);
        directory.update(|n| n.load = 9);
        assert_eq!(directory.gate_for_sign_in().as_deref(), Some("b"));
    }

    #[tokio::test]
    async fn a_player_is_placed_where_it_was_not_tried() {
        let directory = directory(vec![gate("a", 0), gate("b", 2)]);
        let place =
            async |tried: &[String]| directory.place("player/1", tried).await.map(|n| n.id.clone());
        assert_eq!(place(&[]).await.as_deref(), Ok("a"));
        assert_eq!(place(&["a".to_owned()]).await.as_deref(), Ok("b"));
        let all = ["a".to_owned(), "b".to_owned()];
        assert_eq!(place(&all).await.map_err(|r| r.code), Err(Code::NOT_READY));
    }

    #[tokio::test]
    async fn a_watcher_sees_the_present_nodes_first_and_then_each_change() {
        let directory = Directory::alone("a", 1);
        directory.register(gate("a", 0));
        let mut nodes = directory.watch();
        nodes.changed().await.expect("the directory lives");
        assert_eq!(nodes.borrow_and_update().len(), 1);
        directory.update(|n| n.load = 7);
        nodes.changed().await.expect("the directory lives");
        assert_eq!(nodes.borrow_and_update()[0].load, 7);
    }
}
