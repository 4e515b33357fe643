//! Owns what must be given back when who began something stops waiting: the right to wake an
//! entity, and a sign-in under way.

use std::sync::{Arc, atomic::Ordering};

use tokio_util::sync::CancellationToken;

use super::{
    EntityId, Host,
    host::{Running, Slot},
};
use crate::link::{ConnectionId, Mailbox};

/// A sign-in under way. When its caller stops waiting, the player hears that the session is over:
/// it may have been attached in the same moment.
pub(super) struct GivenUp<'a> {
    host: &'a Host,
    /// `None` once there is nothing to tell.
    entity: Option<Mailbox>,
    connection: ConnectionId,
}

impl GivenUp<'_> {
    /// It is there, or was never.
    pub(super) fn is_not(&mut self) {
        self.entity = None;
    }
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if let Some(entity) = self.entity.take() {
            let _told: bool = entity.detach(self.connection, &self.host.world().tasks);
        }
    }
}

/// The right to wake one entity; given back when the waking is not finished.
pub(super) struct Place {
    host: Arc<Host>,
    pub(super) id: EntityId,
    /// How often the node had lost the right to run something when it was taken.
    pub(super) evictions: u64,
    over: CancellationToken,
    filled: bool,
}

impl Place {
    pub(super) fn take(host: &Arc<Host>, id: &EntityId) -> Option<Self> {
        let mut slots = host.slots();
        if slots.contains_key(id) {
            return None;
        }
        let over = CancellationToken::new();
        slots.insert(id.clone(), Slot::Busy(over.clone()));
        host.count_slots(&slots);
        let evictions = host.evictions.load(Ordering::Acquire);
        Some(Self { host: host.clone(), id: id.clone(), evictions, over, filled: false })
    }

    pub(super) fn fill(mut self, running: Running) {
        self.filled = true;
        let mut slots = self.host.slots();
        slots.insert(self.id.clone(), Slot::Running(running));
        self.host.count_slots(&slots);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.filled {
            let mut slots = self.host.slots();
            slots.remove(&self.id);
            self.host.count_slots(&slots);
        }
        self.over.cancel();
    }
}

impl Host {
    pub(super) fn given_up(&self, entity: &Mailbox, connection: ConnectionId) -> GivenUp<'_> {
        GivenUp { host: self, entity: Some(entity.clone()), connection }
    }
}
