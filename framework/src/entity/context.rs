//! Owns what a handler may ask of the world: its session, the clock, chance, the store.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::Counter;

use super::{
    Classes, EntityId, Player,
    classes::{Loose, Loosely},
    session::Said,
    writer::Writer,
};
use crate::{
    Named, Request,
    chance::Chance,
    clock::Clock,
    directory::Claim,
    link::{Account, Batch, Mark, SessionPort},
    store::{Cache, Store, StoreError},
    tasks::Tasks,
    telemetry::LooseCounters,
    wire::{Code, Frame, FrameError, Refusal, put_message},
};

/// A handler's view of the world around its entity.
///
/// Time, chance and storage come from here only, so that a test or a simulation decides them.
pub struct Ctx {
    writer: Writer,
    account: Option<Account>,
    /// What may become of a message while its client does not take it in.
    classes: Arc<Classes>,
    /// Where the session is connected; `None` while it is away, or there is none.
    port: Option<SessionPort>,
    /// Std mutex: held to append a frame, never across an await. Handlers share the context by
    /// reference, and their futures must be `Send`.
    outgoing: Mutex<Outgoing>,
}

/// What is on its way to the session.
#[derive(Debug)]
struct Outgoing {
    /// Since the last flush.
    batch: Batch,
    /// Until then; `None` while there is no session.
    said: Option<Said>,
    /// What waits until the client takes it in.
    loose: Loose,
    /// It is away, or takes in less than it is told.
    blocked: bool,
    /// The largest frame that may travel beside the stream; 0: none.
    datagram_bytes_max: usize,
}

/// What every entity of a node shares.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    /// Where sessions lie on their way to another node; `None` where there is no other.
    pub(crate) in_transit: Option<Cache>,
    pub(crate) chance: Chance,
    pub(crate) tasks: Tasks,
}

impl Ctx {
    pub(super) fn new(writer: Writer, classes: Arc<Classes>, counters: LooseCounters) -> Self {
        let (batch, loose) = (Batch::default(), Loose::new(counters));
        let outgoing = Outgoing { batch, said: None, loose, blocked: true, datagram_bytes_max: 0 };
        Self { writer, account: None, classes, port: None, outgoing: Mutex::new(outgoing) }
    }

    /// A context without a session or a stored state.
    pub(crate) fn alone(entity: EntityId, claim: Claim, world: World) -> Self {
        let counters = LooseCounters { replaced: Counter::noop(), dropped: Counter::noop() };
        Self::new(Writer::new(entity, claim, world, None), Arc::default(), counters)
    }

    /// Sends a message to the client that nobody asked for.
    ///
    /// It is written together with the answer, in the order of the calls. A client that is away
    /// gets it when it is back within `session.resume_window`; without a session it is dropped:
    /// the state is what survives, not the news of it.
    pub fn push<M: Named>(&self, message: &M) {
        let mut outgoing = self.outgoing();
        if outgoing.said.is_none() {
            return;
        }
        let pushed = match self.classes.of(message) {
            None => outgoing.batch.push_message(Mark::Plain, message),
            Some(loosely) => outgoing.push_loosely(loosely, message),
        };
        if let Err(e) = pushed {
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

    pub(super) fn port(&self) -> Option<&SessionPort> {
        self.port.as_ref()
    }

    /// A session begins, or came from another node.
    pub(super) fn begin(&mut self, account: Account, said: Said) {
        self.account = Some(account);
        self.outgoing_mut().said = Some(said);
    }

    /// The session ends.
    pub(super) fn end(&mut self) {
        self.disconnect();
        let Outgoing { batch, said, loose, .. } = self.outgoing_mut();
        loose.release(batch);
        batch.clear();
        *said = None;
    }

    /// The session is connected: what waited for that is said.
    pub(super) fn connect(&mut self, port: SessionPort, datagram_bytes_max: usize) {
        self.port = Some(port);
        self.outgoing_mut().datagram_bytes_max = datagram_bytes_max;
        self.set_blocked(false);
    }

    /// The session is away. Says where it was.
    pub(super) fn disconnect(&mut self) -> Option<SessionPort> {
        self.outgoing_mut().datagram_bytes_max = 0;
        self.set_blocked(true);
        self.port.take()
    }

    /// The client takes in less than it is told, or all of it again: what waited is said.
    pub(super) fn set_blocked(&mut self, blocked: bool) {
        let outgoing = self.outgoing_mut();
        outgoing.blocked = blocked;
        if let Some(said) = &mut outgoing.said {
            said.set_behind(blocked);
        }
        if !blocked {
            outgoing.loose.release(&mut outgoing.batch);
        }
    }

    /// What was said to the session; `None` when there is none.
    pub(super) fn said(&mut self) -> Option<&mut Said> {
        self.outgoing_mut().said.as_mut()
    }

    #[inline]
    pub(super) fn answer<Q: Request>(&self, mark: Mark, answer: &Q::Res) -> Result<(), Refusal> {
        let name = Q::ANSWER.unwrap_or_default();
        self.outgoing().batch.push_answer(mark.answered(), name, answer).map_err(|e| {
            tracing::error!(target: "entity", entity = %self.entity(), api = Q::NAME, "answer dropped: {e}");
            Code::INTERNAL.into()
        })
    }

    pub(super) fn refuse(&self, mark: Mark, api: &str, refusal: &Refusal) {
        self.outgoing().batch.push_error(mark.answered(), api, refusal.code, &refusal.message);
    }

    /// Says a frame that is ready.
    pub(super) fn say(&self, mark: Mark, frame: &[u8]) {
        self.outgoing().batch.push(mark.answered(), frame);
    }

    /// Says a frame that may be lost, as its class has it.
    pub(super) fn say_loosely(&self, frame: &Frame<'_>) {
        let mut outgoing = self.outgoing();
        if outgoing.said.is_none() {
            return;
        }
        if !outgoing.blocked && outgoing.datagram_bytes_max == 0 {
            // Its client takes in what it is told: its key is of no interest.
            return outgoing.batch.push(Mark::Plain, frame.bytes);
        }
        match self.classes.of_frame(frame) {
            Some((name, loosely)) => outgoing.put_loosely(name, loosely, frame.bytes.to_vec()),
            None => outgoing.batch.push(Mark::Plain, frame.bytes),
        }
    }

    /// Says frames that are ready, as they are, and empties the batch: what a room says to
    /// everybody is not laid aside first. Says whether it did; else each is to be said by itself.
    pub(super) fn pass_on(&self, frames: &mut Batch) -> bool {
        let Outgoing { batch, said, .. } = &mut *self.outgoing();
        if !batch.is_empty() || frames.frames().spans().any(|(mark, _)| mark != Mark::Plain) {
            return false;
        }
        if let Some(said) = said {
            said.say(frames.frames());
        }
        match &self.port {
            Some(port) => port.deliver(frames),
            None => frames.clear(),
        }
        true
    }

    /// Says a message of the session's own.
    pub(super) fn say_message<M: Named>(&self, mark: Mark, message: &M) {
        let said = self.outgoing().batch.push_message(mark.answered(), message);
        said.expect("what a session says itself is small");
    }

    /// Gives the session everything that was answered and pushed since the last time; while it is
    /// away, keeps it.
    #[inline]
    pub(crate) fn flush(&self) {
        let Outgoing { batch, said, .. } = &mut *self.outgoing();
        if batch.is_empty() {
            return;
        }
        if let Some(said) = said {
            said.say(batch.frames());
        }
        match &self.port {
            Some(port) => port.deliver(batch),
            None => batch.clear(),
        }
    }

    /// Keeps no more room than it needs: nothing is said for a while.
    pub(super) fn shrink(&mut self) {
        let Outgoing { batch, said, .. } = self.outgoing_mut();
        if batch.is_empty() {
            batch.clear();
        }
        if let Some(said) = said {
            said.shrink();
        }
    }

    #[inline]
    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outgoing_mut(&mut self) -> &mut Outgoing {
        self.outgoing.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoing {
    fn push_loosely<M: Named>(&mut self, loosely: Loosely, message: &M) -> Result<(), FrameError> {
        let mut frame = Vec::new();
        put_message(&mut frame, message)?;
        self.put_loosely(M::NAME, loosely, frame);
        Ok(())
    }

    fn put_loosely(&mut self, name: &'static str, loosely: Loosely, frame: Vec<u8>) {
        if frame.len() <= self.datagram_bytes_max {
            self.loose.overtaken(name, loosely);
            self.batch.push(Mark::Loose, &frame);
        } else if self.blocked {
            self.loose.keep(name, loosely, frame);
        } else {
            self.batch.push(Mark::Plain, &frame);
        }
    }
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writer, account, classes: _, port, outgoing: _ } = self;
        f.debug_struct("Ctx")
            .field("entity", writer.id())
            .field("account", account)
            .field("connected", &port.is_some())
            .finish_non_exhaustive()
    }
}
