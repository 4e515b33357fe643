//! Owns what a handler may ask of the world: its session, the clock, chance, the store.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{EntityId, Player};
use crate::{
    Named, Request,
    clock::Clock,
    directory::Claim,
    link::{Account, Batch, SessionPort, UNTAGGED},
    store::{Store, StoreError},
    wire::{Code, Refusal},
};

/// A handler's view of the world around its entity.
///
/// Time, chance and storage come from here only, so that a test or a simulation decides them.
pub struct Ctx {
    entity: EntityId,
    claim: Claim,
    world: World,
    account: Option<Account>,
    session: Option<SessionPort>,
    /// Std mutex: held to append a frame, never across an await. Handlers share the context by
    /// reference, and their futures must be `Send`.
    outgoing: Mutex<Batch>,
}

/// What every entity of a node shares.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) chance: Chance,
}

/// The node's randomness: a cryptographic generator, seeded once.
#[derive(Clone)]
pub(crate) struct Chance(Arc<Mutex<StdRng>>);

impl Chance {
    /// Seeded by the operating system.
    pub(crate) fn from_os() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    pub(crate) fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chance")
    }
}

impl Ctx {
    pub(crate) fn new(entity: EntityId, claim: Claim, world: World) -> Self {
        Self { entity, claim, world, account: None, session: None, outgoing: Mutex::default() }
    }

    /// Sends a message to the client that nobody asked for.
    ///
    /// It is written together with the answer, in the order of the calls. Without a connected
    /// client it is dropped: the state is what survives, not the news of it.
    pub fn push<M: Named>(&self, message: &M) {
        if self.session.is_none() {
            return;
        }
        if let Err(e) = self.outgoing().push_message(UNTAGGED, message) {
            tracing::error!(target: "entity", entity = %self.entity, api = M::NAME, "push dropped: {e}");
        }
    }

    /// Writes the player's state now, rather than within `game.save_interval`: for what must
    /// not be lost once it is answered, such as a purchase.
    ///
    /// # Errors
    /// [`Code::NOT_READY`] when the store is away. [`Code::NOT_CONNECTED`] when another node has
    /// taken this player over; what was changed here is then lost, and should not be answered.
    pub async fn save<P: Player>(&self, player: &P) -> Result<(), Refusal> {
        self.write(player.save()).await.map_err(|e| match e {
            StoreError::Fenced => Code::NOT_CONNECTED.into(),
            StoreError::Unavailable(_) => Code::NOT_READY.because("the store is away"),
        })
    }

    pub(crate) fn write(
        &self,
        state: Vec<u8>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let Self { entity, claim, world, .. } = self;
        let (entity, claim, world) = (entity.clone(), *claim, world.clone());
        async move {
            let now_ms = world.clock.now_ms();
            world.store.save_record(entity.kind, &entity.key, claim.epoch, state, now_ms).await
        }
    }

    /// Who is signed in.
    ///
    /// # Panics
    /// Never in a handler: a player gets messages only from its own signed-in session.
    pub fn account(&self) -> &Account {
        self.account.as_ref().expect("a player handles messages of its own session only")
    }

    /// The time of day, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.world.clock.now_ms()
    }

    /// A random number from a cryptographic generator, every value equally likely.
    pub fn random(&self) -> u64 {
        self.world.chance.next_u64()
    }

    // === Called by the entity ===

    pub(super) fn entity(&self) -> &EntityId {
        &self.entity
    }

    pub(super) fn session(&self) -> Option<&SessionPort> {
        self.session.as_ref()
    }

    pub(super) fn attach(&mut self, account: Account, session: SessionPort) {
        self.account = Some(account);
        self.session = Some(session);
    }

    pub(super) fn detach(&mut self) {
        self.session = None;
        self.outgoing.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }

    #[inline]
    pub(super) fn answer<Q: Request>(&self, tag: u32, answer: &Q::Res) -> Result<(), Refusal> {
        let name = Q::ANSWER.unwrap_or_default();
        self.outgoing().push_answer(tag, name, answer).map_err(|e| {
            tracing::error!(target: "entity", entity = %self.entity, api = Q::NAME, "answer dropped: {e}");
            Code::INTERNAL.into()
        })
    }

    pub(super) fn refuse(&self, tag: u32, api: &str, refusal: &Refusal) {
        self.outgoing().push_error(tag, api, refusal.code, &refusal.message);
    }

    /// Gives the session everything that was answered and pushed since the last time.
    #[inline]
    pub(crate) fn flush(&self) {
        let mut outgoing = self.outgoing();
        match &self.session {
            Some(session) if !outgoing.is_empty() => session.deliver(&mut outgoing),
            _ => outgoing.clear(),
        }
    }

    /// As [`Ctx::flush`], when a handler goes on waiting.
    pub(super) fn flush_if(&self, waits: bool) {
        if waits {
            self.flush();
        }
    }

    #[inline]
    fn outgoing(&self) -> std::sync::MutexGuard<'_, Batch> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entity, claim, world: _, account, session, outgoing: _ } = self;
        f.debug_struct("Ctx")
            .field("entity", entity)
            .field("claim", claim)
            .field("account", account)
            .field("connected", &session.is_some())
            .finish_non_exhaustive()
    }
}
