//! Owns what a handler may ask of the world: its session, the clock, chance, the store.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use super::{EntityId, Player, writer::Writer};
use crate::{
    Named, Request,
    chance::Chance,
    clock::Clock,
    directory::Claim,
    link::{Account, Batch, SessionPort, UNTAGGED},
    store::{Store, StoreError},
    tasks::Tasks,
    wire::{Code, Refusal},
};

/// A handler's view of the world around its entity.
///
/// Time, chance and storage come from here only, so that a test or a simulation decides them.
pub struct Ctx {
    writer: Writer,
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
    pub(crate) tasks: Tasks,
}

impl Ctx {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, account: None, session: None, outgoing: Mutex::default() }
    }

    /// A context without a session or a stored state.
    pub(crate) fn alone(entity: EntityId, claim: Claim, world: World) -> Self {
        Self::new(Writer::new(entity, claim, world, None))
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
            tracing::error!(target: "entity", entity = %self.entity(), api = M::NAME, "push dropped: {e}");
        }
    }

    /// Writes the player's state now, rather than within `game.save_interval`: for what must
    /// not be lost once it is answered, such as a purchase.
    ///
    /// # Errors
    /// [`Code::NOT_READY`] when the store is away. [`Code::NOT_CONNECTED`] when another node has
    /// taken this player over; what was changed here is then lost, and should not be answered.
    pub async fn save<P: Player>(&self, player: &P) -> Result<(), Refusal> {
        self.writer.write_soon(player.save()).await.map_err(|e| match e {
            StoreError::Fenced => Code::NOT_CONNECTED.into(),
            StoreError::Unavailable(_) => Code::NOT_READY.because("the store is away"),
        })
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
        self.writer.world().clock.now_ms()
    }

    /// A random number from a cryptographic generator, every value equally likely.
    pub fn random(&self) -> u64 {
        self.writer.world().chance.next_u64()
    }

    // === Called by the entity ===

    pub(super) fn entity(&self) -> &EntityId {
        self.writer.id()
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.writer
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
            tracing::error!(target: "entity", entity = %self.entity(), api = Q::NAME, "answer dropped: {e}");
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

    #[inline]
    fn outgoing(&self) -> std::sync::MutexGuard<'_, Batch> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writer, account, session, outgoing: _ } = self;
        f.debug_struct("Ctx")
            .field("entity", writer.id())
            .field("account", account)
            .field("connected", &session.is_some())
            .finish_non_exhaustive()
    }
}
