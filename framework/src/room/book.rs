//! Owns what all room centers know of the rooms of the cluster: one record for each, in the cache.
//! A record says where a room is; that it runs there, and nowhere else, is the claim's.

use crate::{
    clock::Clock,
    proto::link::RoomRecord,
    store::{Cache, CacheError},
};

/// The rooms of the cluster. A clone is a handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    cache: Cache,
    clock: Clock,
}

impl Book {
    pub(crate) fn new(cache: Cache, clock: Clock) -> Self {
        Self { cache, clock }
    }

    /// A room that runs tells what it is now: everything but `reserved` and `opening_until_ms`.
    /// Reservations of its members are over.
    pub(crate) async fn report(&self, record: RoomRecord) -> Result<(), CacheError> {
        let _ = (record, &self.cache, &self.clock);
        Ok(())
    }

    /// A room has ended.
    pub(crate) async fn closed(&self, kind: &str, room_id: &str) -> Result<(), CacheError> {
        let _ = (kind, room_id);
        Ok(())
    }
}
