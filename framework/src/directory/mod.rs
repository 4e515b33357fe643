//! Owns which nodes there are, what they do, and which of them runs which entity.
//!
//! Embedded: everything is in this process, so a registration is seen at once and a claim is
//! always granted. Callers see the same calls that a cluster answers from etcd and Redis.

#[cfg_attr(not(test), expect(dead_code, reason = "the node is wired to it next"))]
mod etcd;
mod nodes;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

pub(crate) use nodes::{Jwk, NodeInfo, NodeState, Role};

/// The nodes that are known now, in no particular order.
pub(crate) type Nodes = Arc<Vec<Arc<NodeInfo>>>;

/// Which node runs which entity.
#[derive(Clone, Debug)]
pub(crate) struct Directory(Arc<Embedded>);

#[derive(Debug)]
struct Embedded {
    nodes: watch::Sender<Nodes>,
    /// Std mutex: held to replace one node's entry, never across an await.
    writer: Mutex<()>,
    /// Grows with each start on the same store, so that what an earlier process still writes
    /// is refused.
    incarnation: i64,
}

/// The right to run one entity and to write its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// A later owner's epoch is greater; the store refuses the smaller one.
    pub(crate) epoch: i64,
}

impl Directory {
    /// A directory of this process alone.
    pub(crate) fn embedded(incarnation: i64) -> Self {
        Self(Arc::new(Embedded {
            nodes: watch::Sender::new(Nodes::default()),
            writer: Mutex::new(()),
            incarnation,
        }))
    }

    /// Makes a node known, or replaces what is known of it.
    pub(crate) fn register(&self, node: NodeInfo) {
        self.change(|nodes| {
            nodes.retain(|n| n.id != node.id);
            nodes.push(Arc::new(node));
        });
    }

    /// Changes what is known of a node; nothing happens when it is not registered.
    pub(crate) fn update(&self, id: &str, change: impl FnOnce(&mut NodeInfo)) {
        self.change(|nodes| {
            if let Some(node) = nodes.iter_mut().find(|n| n.id == id) {
                change(Arc::make_mut(node));
            }
        });
    }

    /// Forgets a node.
    pub(crate) fn deregister(&self, id: &str) {
        self.change(|nodes| nodes.retain(|n| n.id != id));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<NodeInfo>>)) {
        let _one_at_a_time = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.nodes.send_modify(|nodes| change(Arc::make_mut(nodes)));
    }

    pub(crate) fn nodes(&self) -> Nodes {
        self.0.nodes.borrow().clone()
    }

    /// Follows the nodes: the present ones are seen at once, then each change.
    pub(crate) fn watch(&self) -> watch::Receiver<Nodes> {
        let mut nodes = self.0.nodes.subscribe();
        nodes.mark_changed();
        nodes
    }

    /// The address that clients are sent to: of the gates that are up, the least loaded.
    pub(crate) fn gate_for_sign_in(&self) -> Option<String> {
        let nodes = self.0.nodes.borrow();
        let up = nodes.iter().filter(|n| n.state == NodeState::Up);
        let gate = up.filter(|n| n.gate.is_some()).min_by_key(|n| n.load)?;
        gate.gate.clone()
    }

    /// Claims an entity for this process.
    pub(crate) fn claim(&self) -> Claim {
        Claim { epoch: self.0.incarnation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(id: &str, load: u32) -> NodeInfo {
        NodeInfo { id: id.into(), gate: Some(format!("{id}:3017")), load, ..NodeInfo::default() }
    }

    #[test]
    fn clients_are_sent_to_the_least_loaded_gate_that_is_up() {
        let directory = Directory::embedded(1);
        assert_eq!(directory.gate_for_sign_in(), None);
        directory.register(gate("a", 5));
        directory.register(gate("b", 3));
        assert_eq!(directory.gate_for_sign_in().as_deref(), Some("b:3017"));
        directory.update("b", |n| n.state = NodeState::Draining);
        assert_eq!(directory.gate_for_sign_in().as_deref(), Some("a:3017"));
        directory.deregister("a");
        assert_eq!(directory.gate_for_sign_in(), None);
    }

    #[tokio::test]
    async fn a_watcher_sees_the_present_nodes_first_and_then_each_change() {
        let directory = Directory::embedded(1);
        directory.register(gate("a", 0));
        let mut nodes = directory.watch();
        nodes.changed().await.expect("the directory lives");
        assert_eq!(nodes.borrow_and_update().len(), 1);
        directory.register(gate("b", 0));
        nodes.changed().await.expect("the directory lives");
        assert_eq!(nodes.borrow_and_update().len(), 2);
    }
}
