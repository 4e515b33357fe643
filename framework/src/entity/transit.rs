//! Owns sessions on their way from one node to another: a node that goes away puts them down in the
//! cache, the one that runs the player next takes them from there.

use prost::Message as _;

use super::{
    EntityId, Host,
    session::{self, Carried},
};
use crate::{
    limits::{LOOKS_FOR_CARRIED, SIGN_IN_DEADLINE},
    link::{Arrival, Entry, NotAttached},
    proto::link as proto,
    wire::{Code, Refusal},
};

/// Where a session lies on its way from one node to another.
pub(crate) fn carried_key(id: &EntityId) -> String {
    format!("session:{id}")
}

impl Host {
    /// Whether a session can go on elsewhere when this node goes away.
    pub(super) fn carries(&self) -> bool {
        self.world().in_transit.is_some()
    }

    /// Puts a session down for the node that runs its player next. Says whether it lies there.
    pub(super) async fn carry(&self, id: &EntityId, session: &proto::Session) -> bool {
        let Some(cache) = &self.world().in_transit else { return false };
        // Who is connected goes on within the time that a move may take.
        let ttl = self.sessions().resume_window.max(SIGN_IN_DEADLINE);
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let (key, now_ms) = (carried_key(id), self.world().clock.now_ms());
        let put = cache.put(&key, session.encode_to_vec(), ttl_ms, now_ms).await;
        put.inspect_err(|e| tracing::debug!(target: "entity", entity = %id, "cannot leave: {e}"))
            .is_ok()
    }

    /// Refuses who comes to go on with a session that no other node has put down.
    pub(super) async fn find_carried(
        &self,
        id: &EntityId,
        arrival: &Arrival,
    ) -> Result<(), NotAttached> {
        if let Entry::SignIn { .. } = arrival.entry {
            return Ok(());
        }
        let refused = Refusal::from(Code::RESUME_REFUSED);
        let Some(cache) = &self.world().in_transit else { return Err(refused.into()) };
        // It is put down before its player is given up, and taken out after that was claimed. So
        // whoever looks in this order misses it only where it moves between each two looks: game
        // servers that are replaced one after the other may do that twice.
        for _ in 0..LOOKS_FOR_CARRIED {
            self.directory().runs_elsewhere(&id.to_string()).await?;
            let packed = cache.get(&carried_key(id), self.world().clock.now_ms()).await;
            let packed = packed.map_err(|_| Code::NOT_READY.because("the cache is away"))?;
            if packed.is_some_and(|packed| self.unpack(&packed, arrival).is_some()) {
                return Ok(());
            }
        }
        Err(refused.into())
    }

    /// A session that lay in the cache, when it is the one that the arrival goes on with.
    pub(super) fn unpack(&self, packed: &[u8], arrival: &Arrival) -> Option<Carried> {
        let packed = proto::Session::decode(packed).ok()?;
        let carried = session::unpack(packed, self.replay_room.clone())?;
        let Carried { session, .. } = &carried;
        let is_meant = match arrival.entry {
            Entry::SignIn { .. } | Entry::Seat(_) => false,
            Entry::Resume { session: id, secret, .. } => session.is_known_by(id, secret),
            Entry::Moved { session: id } => {
                session.id == id && session.follower == Some(arrival.connection)
            }
        };
        is_meant.then_some(carried)
    }

    /// Whoever is awake here has the newest session: none that lies elsewhere comes back. What lay
    /// there: of those who go on with it and those who end it, one has it.
    pub(super) async fn unload(&self, id: &EntityId) -> Result<Option<Vec<u8>>, Refusal> {
        let Some(cache) = &self.world().in_transit else { return Ok(None) };
        let taken = cache.take(&carried_key(id), self.world().clock.now_ms()).await;
        taken.map_err(|e| {
            tracing::debug!(target: "entity", entity = %id, "an old session may still lie in the cache: {e}");
            Code::NOT_READY.because("the cache is away")
        })
    }
}
