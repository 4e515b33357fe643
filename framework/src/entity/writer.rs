//! Owns the writes of one entity's state: one after the other, never an older one over a newer
//! one, never the same bytes twice, none after another node has taken the entity over.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex, oneshot};

use super::{EntityId, PLAYER, World};
use crate::{directory::Claim, store::StoreError};

/// Writes states to the store.
#[derive(Clone, Debug)]
pub(super) struct Writer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: EntityId,
    claim: Claim,
    world: World,
    /// Numbers states in the order in which they were taken.
    taken: AtomicU64,
    /// Async mutex, for it is held while the store works: writes queue behind each other. It is
    /// taken in a task of its own, so that a caller who stops waiting does not let the next pass.
    stored: Mutex<Stored>,
    fenced: AtomicBool,
    /// How often the store did not answer.
    failed: AtomicU64,
}

/// Whether a write is still made when one before it has failed meanwhile.
#[derive(Clone, Copy, Debug)]
enum Patience {
    Waits,
    /// Not when there are more failures than so many.
    UntilFailed(u64),
}

/// What the store holds.
#[derive(Debug)]
struct Stored {
    number: u64,
    hash: Option<u64>,
}

impl Writer {
    /// `stored` is what the store holds already.
    pub(super) fn new(id: EntityId, claim: Claim, world: World, stored: Option<&[u8]>) -> Self {
        let stored = Mutex::new(Stored { number: 0, hash: stored.map(hash) });
        let (taken, fenced) = (AtomicU64::new(1), AtomicBool::new(false));
        let failed = AtomicU64::new(0);
        Self(Arc::new(Shared { id, claim, world, taken, stored, fenced, failed }))
    }

    /// Writes a state. It is written to its end even when the future is dropped.
    pub(super) fn write(
        &self,
        state: Vec<u8>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        self.write_with(state, Patience::Waits)
    }

    /// The same for who has a deadline, and is told that the store is away rather than wait for
    /// it once behind another write and once more by itself.
    pub(super) fn write_soon(
        &self,
        state: Vec<u8>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let failed = self.0.failed.load(Ordering::Acquire);
        self.write_with(state, Patience::UntilFailed(failed))
    }

    fn write_with(
        &self,
        state: Vec<u8>,
        patience: Patience,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let number = self.0.taken.fetch_add(1, Ordering::Relaxed);
        let (done, result) = oneshot::channel();
        let shared = self.0.clone();
        self.0.world.tasks.spawn(async move {
            let written = shared.write(number, state, patience).await;
            if done.send(written).is_err() {
                tracing::trace!(target: "entity", "nobody waited for a write");
            }
        });
        async move {
            let stopped = || StoreError::Unavailable("the node is stopping".to_owned());
            result.await.unwrap_or_else(|_| Err(stopped()))
        }
    }

    /// Notes at the account that its session is over. Nobody waits for it: an operator wants to
    /// know, the game does not.
    pub(super) fn note_played(&self) {
        let EntityId { kind, key } = &self.0.id;
        let Some(account) = (*kind == PLAYER).then(|| key.parse().ok()).flatten() else { return };
        let World { store, clock, tasks, .. } = &self.0.world;
        let (store, now_ms) = (store.clone(), clock.now_ms());
        tasks.spawn(async move {
            if let Err(e) = store.note_played(account, now_ms).await {
                tracing::debug!(target: "entity", account, "when it played last is not noted: {e}");
            }
        });
    }

    /// Whether another node has taken this entity over: what happens here is lost.
    pub(super) fn fenced(&self) -> bool {
        self.0.fenced.load(Ordering::Relaxed)
    }

    pub(super) fn claim(&self) -> Claim {
        self.0.claim
    }

    pub(super) fn id(&self) -> &EntityId {
        &self.0.id
    }

    pub(super) fn world(&self) -> &World {
        &self.0.world
    }
}

impl Shared {
    async fn write(
        &self,
        number: u64,
        state: Vec<u8>,
        patience: Patience,
    ) -> Result<(), StoreError> {
        let mut stored = self.stored.lock().await;
        if let Patience::UntilFailed(before) = patience
            && self.failed.load(Ordering::Acquire) > before
        {
            return Err(StoreError::Unavailable("a write before this one failed".to_owned()));
        }
        let hash = hash(&state);
        if stored.number > number || stored.hash == Some(hash) {
            return Ok(());
        }
        let World { clock, store, .. } = &self.world;
        let Self { id, claim, .. } = self;
        // Whether a write that failed was done is not known: the next one is never skipped.
        stored.hash = None;
        let written = store.save_record(id.kind, &id.key, claim.epoch, state, clock.now_ms()).await;
        match &written {
            Ok(()) => *stored = Stored { number, hash: Some(hash) },
            Err(StoreError::Fenced) => self.fenced.store(true, Ordering::Relaxed),
            Err(StoreError::Unavailable(_)) => {
                self.failed.fetch_add(1, Ordering::Release);
            }
        }
        written
    }
}

fn hash(state: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chance::Chance, clock::Clock, store::Store, tasks::Tasks};

    fn writer(store: &Store, epoch: i64) -> Writer {
        let world = World {
            clock: Clock::fixed(0),
            store: store.clone(),
            chance: Chance::from_os(),
            tasks: Tasks::default(),
            in_transit: None,
        };
        let id = EntityId { kind: "player", key: "1".into() };
        Writer::new(id, Claim { epoch }, world, None)
    }

    async fn stored(store: &Store) -> Vec<u8> {
        store.load_record("player", "1", 9).await.expect("readable").expect("written")
    }

    #[tokio::test]
    async fn a_write_that_was_taken_earlier_never_lands_on_a_later_one() {
        let store = Store::memory();
        let writer = writer(&store, 1);
        // Taken first, asked for last.
        let number = writer.0.taken.fetch_add(1, Ordering::Relaxed);
        writer.write(b"new".to_vec()).await.expect("written");
        writer.0.write(number, b"old".to_vec(), Patience::Waits).await.expect("skipped");
        assert_eq!(stored(&store).await, b"new");
    }

    #[tokio::test]
    async fn a_write_nobody_waits_for_is_done_before_the_next_one() {
        let store = Store::memory();
        let writer = writer(&store, 1);
        drop(writer.write(b"abandoned".to_vec()));
        writer.write(b"last".to_vec()).await.expect("written");
        assert_eq!(stored(&store).await, b"last");
    }

    #[tokio::test]
    async fn who_has_a_deadline_does_not_wait_for_a_store_that_failed_the_write_before() {
        let store = Store::memory();
        let writer = writer(&store, 1);
        let stored_now = writer.0.stored.lock().await;
        let (soon, patient) = (writer.write_soon(b"soon".to_vec()), writer.write(b"last".to_vec()));
        // The write that has the lock fails.
        writer.0.failed.fetch_add(1, Ordering::Release);
        drop(stored_now);
        assert!(matches!(soon.await, Err(StoreError::Unavailable(_))));
        patient.await.expect("written");
        writer.write_soon(b"again".to_vec()).await.expect("the failure was before");
        assert_eq!(stored(&store).await, b"again");
    }

    #[tokio::test]
    async fn a_newer_owner_is_noticed_whoever_wrote() {
        let store = Store::memory();
        let (old, new) = (writer(&store, 1), writer(&store, 2));
        new.write(b"new".to_vec()).await.expect("written");
        assert_eq!(old.write(b"old".to_vec()).await, Err(StoreError::Fenced));
        assert!(old.fenced() && !new.fenced());
        assert_eq!(stored(&store).await, b"new");
    }
}
