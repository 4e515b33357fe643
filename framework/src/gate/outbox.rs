//! Owns what waits to be written to one client: bounded in bytes, in the order in which its player
//! said it.
//!
//! Entities append from any thread. While nothing waits, what they bring is written to the client's
//! socket at once, where that may be; else the connection takes everything that is there and writes
//! it together. The gate itself says nothing within a session: what it refuses goes the way of the
//! requests, so that the player knows every frame that its client was told.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use futures_util::task::AtomicWaker;
use metrics::Counter;
use tokio::{net::tcp::OwnedWriteHalf, time::Instant};

use crate::{
    Named,
    limits::{LOOSE_BYTES_MAX, OUTBOX_BYTES_BEFORE_SIGN_IN_MAX},
    link::{Batch, Frames, MARK_BYTES, Mark, SessionEnd},
    spare,
    wire::{Code, Cut, FRAME_BYTES_MAX, Refusal, cut, put_message},
};

/// The frames on their way to one client.
pub(crate) struct Outbox {
    /// Std mutex: held to append, to swap a buffer, or for one write that does not block; never
    /// across an await.
    inner: Mutex<Inner>,
    /// The connection's task.
    writer: AtomicWaker,
    bytes_max: usize,
    /// What a client that goes on with its session may have missed: as much again.
    replay_bytes_max: usize,
}

/// How the connection ends, decided by somebody else than the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kicked {
    /// [`Code::OK`]: without a word.
    pub(crate) code: Code,
    pub(crate) reason: String,
}

#[derive(Default)]
struct Inner {
    /// Whole frames, ready to be written.
    ready: Vec<u8>,
    /// Bytes of it that are written already.
    ready_written: usize,
    /// Where frames may be written without the connection, while nothing waits before them.
    through: Option<Through>,
    /// The connection wants to know of each answer.
    watched: bool,
    /// Frames that travel beside the stream.
    loose: Loose,
    /// Bytes that the connection has taken and not yet written.
    taken_bytes: usize,
    /// Frames that the client waits for, oldest first.
    awaited: VecDeque<Awaited>,
    in_flight: usize,
    /// What the entity said before the client was told that it is signed in.
    held: Option<Vec<u8>>,
    /// Bytes of it that are not written: the client cannot have read them yet.
    replayed: usize,
    kicked: Option<Kicked>,
    /// The player goes to another node.
    moving: Option<Moving>,
    draining: bool,
}

/// The client's socket, for whoever brings frames. It belongs to the connection.
#[derive(Debug)]
struct Through {
    socket: OwnedWriteHalf,
    bytes_out: Counter,
}

/// Frames that may be lost, and that are when their connection is slower than their player.
#[derive(Debug, Default)]
struct Loose {
    frames: Vec<u8>,
    /// Where the oldest that is not dropped begins.
    begin: usize,
    dropped: u64,
}

/// A player on its way to another node.
#[derive(Debug, Default)]
struct Moving {
    /// Requests that it had not begun.
    returned: Batch,
    /// Nothing more is returned.
    detached: bool,
}

/// Requests that were forwarded in one wake.
#[derive(Debug)]
struct Awaited {
    count: usize,
    /// When the gate stops waiting.
    deadline: Instant,
}

/// What the connection's task finds when it wakes.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Bytes of what was taken that are written already.
    pub(crate) written: usize,
    pub(crate) kicked: Option<Kicked>,
    pub(crate) draining: bool,
    pub(crate) moving: bool,
    pub(crate) in_flight: usize,
    /// Bytes that are not written.
    pub(crate) unwritten: usize,
    /// There are frames for beside the stream.
    pub(crate) loose: bool,
    /// When the oldest unanswered request must be given up.
    pub(crate) oldest_deadline: Option<Instant>,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize, replay_bytes_max: usize) -> Self {
        let (inner, writer) = (Mutex::default(), AtomicWaker::new());
        Self { inner, writer, bytes_max, replay_bytes_max }
    }

    /// Has whoever brings frames write them to the client, while nothing waits before them: the
    /// connection's task need not be woken for it.
    pub(crate) fn write_through(&mut self, socket: OwnedWriteHalf, bytes_out: Counter) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        inner.through = Some(Through { socket, bytes_out });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held leaves whole frames or one missing; the client goes on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection's task is woken by whatever happens from now on.
    pub(crate) fn register(&self, waker: &Waker) {
        self.writer.register(waker);
    }

    // === Called by the connection ===

    /// Swaps the ready frames into `writing`, which must have been written whole (`unwritten`
    /// bytes are left of it otherwise, and nothing is swapped).
    pub(crate) fn take(&self, writing: &mut Vec<u8>, unwritten: usize) -> Taken {
        let (mut inner, mut written) = (self.lock(), 0);
        // Here too: what the gate says itself does not come through `deliver`.
        inner.taken_bytes = unwritten;
        inner.kick_above(self.bytes_max);
        if unwritten == 0 {
            writing.clear();
            std::mem::swap(writing, &mut inner.ready);
            written = std::mem::take(&mut inner.ready_written);
            inner.taken_bytes = writing.len() - written;
        }
        inner.replayed = inner.replayed.min(inner.unwritten_bytes());
        Taken {
            written,
            kicked: inner.kicked.clone(),
            draining: inner.draining,
            moving: inner.moving.is_some(),
            in_flight: inner.in_flight,
            unwritten: inner.unwritten_bytes(),
            loose: !inner.loose.frames.is_empty(),
            oldest_deadline: inner.awaited.front().map(|a| a.deadline),
        }
    }

    /// Whether each answer wakes the connection, though nothing is left for it to write.
    pub(crate) fn watch(&self, watched: bool) {
        self.lock().watched = watched;
    }

    /// From now on everything is written by the connection.
    pub(crate) fn write_no_more(&self) {
        if let Some(Through { socket, .. }) = self.lock().through.take() {
            // The connection has more to say before the stream ends.
            socket.forget();
        }
    }

    /// What travels beside the stream, and how many frames before it were dropped.
    pub(crate) fn take_loose(&self) -> (Vec<u8>, u64) {
        let Loose { mut frames, begin, dropped } = std::mem::take(&mut self.lock().loose);
        frames.drain(..begin);
        (frames, dropped)
    }

    /// When the oldest unanswered request must be given up.
    pub(crate) fn oldest_deadline(&self) -> Option<Instant> {
        self.lock().awaited.front().map(|a| a.deadline)
    }

    /// So many frames more will come, the last of them before `deadline`.
    #[inline]
    pub(crate) fn await_answers(&self, count: usize, deadline: Instant) {
        let mut inner = self.lock();
        inner.in_flight += count;
        inner.awaited.push_back(Awaited { count, deadline });
    }

    /// Says something to a client that has no session.
    pub(crate) fn say<M: Named>(&self, message: &M) {
        let mut inner = self.lock();
        put_message(&mut inner.ready, message).expect("what a gate says itself is small");
        inner.kick_above(self.bytes_max.min(OUTBOX_BYTES_BEFORE_SIGN_IN_MAX));
    }

    /// From now on what entities say is held back until [`Outbox::open`].
    pub(crate) fn hold(&self) {
        self.lock().held = Some(Vec::new());
    }

    /// Tells the client that it is signed in, then everything that was held back.
    pub(crate) fn open<M: Named>(&self, greeting: &M) {
        let mut inner = self.lock();
        let held = inner.held.take().unwrap_or_default();
        inner.replayed = held.len().min(self.replay_bytes_max);
        put_message(&mut inner.ready, greeting).expect("a sign-in answer is small");
        inner.ready.extend_from_slice(&held);
    }

    /// Gives the client everything that was held back: it is signed in, and hears so by itself.
    pub(crate) fn release(&self) {
        let mut inner = self.lock();
        let held = inner.held.take().unwrap_or_default();
        inner.ready.extend_from_slice(&held);
    }

    /// Tells the client that it is not signed in; what was held back is none of its business.
    pub(crate) fn refuse<M: Named>(&self, answer: &M) {
        self.lock().held = None;
        self.say(answer);
    }

    /// Drops what has not been written, for a client that is told goodbye out of turn.
    pub(crate) fn discard(&self) {
        let mut inner = self.lock();
        inner.ready.clear();
        (inner.ready_written, inner.held) = (0, None);
    }

    /// Ready when the player has left its node, with what it had not begun.
    ///
    /// # Errors
    /// When the session is ended meanwhile.
    pub(crate) async fn moved(&self) -> Result<Batch, Refusal> {
        poll_fn(|cx| {
            self.register(cx.waker());
            let mut inner = self.lock();
            if let Some(Kicked { code, .. }) = &inner.kicked {
                return Poll::Ready(Err((*code).into()));
            }
            match inner.moving.take_if(|moving| moving.detached) {
                Some(moving) => Poll::Ready(Ok(moving.returned)),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Nobody is here who would follow the player.
    pub(crate) fn stay(&self) {
        self.lock().moving = None;
    }

    /// The gate is going away: no new requests, the answers still due are awaited.
    pub(crate) fn drain(&self) {
        self.lock().draining = true;
        self.writer.wake();
    }

    /// Unwritten bytes and unanswered requests.
    #[cfg(test)]
    pub(crate) fn depth(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.unwritten_bytes(), inner.in_flight)
    }
}

/// Without what is in it: a game's payloads, and the tokens of sign-ins and resumes.
impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl SessionEnd for Outbox {
    /// Appends what an entity has for this client. More than the limit unread: the client is
    /// kicked (2008), nobody waits for it.
    #[inline]
    fn deliver(&self, frames: Frames<'_>) {
        let mut inner = self.lock();
        if inner.kicked.is_some() {
            return;
        }
        inner.accept(frames);
        if inner.write_through() {
            return;
        }
        let held_max = if inner.held.is_some() { self.replay_bytes_max } else { 0 };
        inner.kick_above(self.bytes_max + held_max);
        drop(inner);
        self.writer.wake();
    }

    fn kick(&self, code: Code, reason: &str) {
        self.lock().kicked.get_or_insert_with(|| Kicked { code, reason: reason.to_owned() });
        self.writer.wake();
    }

    fn leaving(&self) {
        self.lock().moving.get_or_insert_default();
        self.writer.wake();
    }

    fn give_back(&self, frames: Frames<'_>) {
        self.lock().moving.get_or_insert_default().returned.append(frames);
    }

    fn detached(&self) {
        if let Some(moving) = &mut self.lock().moving {
            moving.detached = true;
        }
        self.writer.wake();
    }
}

impl Inner {
    fn unwritten_bytes(&self) -> usize {
        self.ready.len() - self.ready_written
            + self.taken_bytes
            + self.held.as_ref().map_or(0, Vec::len)
    }

    /// The client does not read: nobody waits for it.
    fn kick_above(&mut self, bytes_max: usize) {
        if self.unwritten_bytes() > bytes_max + self.replayed && self.kicked.is_none() {
            let reason = format!("more than {bytes_max} bytes unread");
            self.kicked = Some(Kicked { code: Code::TOO_SLOW, reason });
        }
    }

    #[inline]
    fn accept(&mut self, frames: Frames<'_>) {
        let (bytes, mut at) = (frames.bytes(), 0);
        let out = self.held.as_mut().unwrap_or(&mut self.ready);
        spare::take(out);
        let mut answers = 0;
        for (mark, len) in frames.spans() {
            let frame = &bytes[at + MARK_BYTES..at + len];
            match mark {
                Mark::Loose => self.loose.push(frame),
                _ => out.extend_from_slice(frame),
            }
            answers += usize::from(mark.answers());
            at += len;
        }
        self.answered(answers);
    }

    /// Writes what is ready, if the connection has nothing to do with it. Says whether nothing is
    /// left to do.
    #[inline]
    fn write_through(&mut self) -> bool {
        let Some(Through { socket, bytes_out }) = &self.through else { return false };
        let between = self.taken_bytes > 0
            || self.ready_written > 0
            || self.held.is_some()
            || self.kicked.is_some()
            || self.moving.is_some();
        if between {
            return false;
        }
        // The connection finds out itself what is wrong with its socket.
        let written = socket.try_write(&self.ready).unwrap_or(0);
        bytes_out.increment(written as u64);
        if written < self.ready.len() {
            self.ready_written = written;
            return false;
        }
        spare::give(&mut self.ready);
        self.replayed = 0;
        !self.watched && !self.draining && self.loose.frames.is_empty()
    }

    /// They come in the order of the requests.
    #[inline]
    fn answered(&mut self, mut count: usize) {
        self.in_flight = self.in_flight.saturating_sub(count);
        while let Some(oldest) = self.awaited.front_mut() {
            if oldest.count > count {
                oldest.count -= count;
                return;
            }
            count -= oldest.count;
            self.awaited.pop_front();
        }
        // Nothing is left: a client that asked much once does not keep the room for it.
        if self.awaited.capacity() > AWAITED_KEPT_MAX {
            self.awaited.shrink_to(AWAITED_KEPT);
        }
    }
}

/// Places for wakes that wait for answers: an idle connection keeps so many, and frees them only
/// when it had more than that.
const AWAITED_KEPT: usize = 4;
const AWAITED_KEPT_MAX: usize = 64;

impl Loose {
    /// Of what is too much the oldest goes.
    fn push(&mut self, frame: &[u8]) {
        self.frames.extend_from_slice(frame);
        while self.frames.len() - self.begin > LOOSE_BYTES_MAX {
            let Ok(Cut::Frame(oldest)) = cut(&self.frames[self.begin..], FRAME_BYTES_MAX) else {
                break;
            };
            self.begin += oldest.bytes.len();
            self.dropped += 1;
        }
        // Moved once in a while, so that a byte is moved once.
        if self.begin > LOOSE_BYTES_MAX {
            self.frames.drain(..self.begin);
            self.begin = 0;
        }
    }
}

#[cfg(test)]
mod tests;
