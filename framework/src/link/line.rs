//! Owns one connection between two nodes: one task that writes what was posted, in one write,
//! and hands on what arrives.
//!
//! Whoever posts only appends and wakes the task, which runs behind all who are ready on its
//! shard: what they post together is written together.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::{Instant, Sleep, sleep, timeout},
};

use super::envelope::{Envelope, Garbage};
use crate::{
    limits::{
        CLOSE_LINGER, ENVELOPES_PER_WAKE_MAX, LINK_ALIVE, LINK_BYTES_KEPT_MAX, LINK_BYTES_MAX,
        LINK_READ_BYTES, LINK_SILENCE_MAX, READS_PER_WAKE_MAX,
    },
    telemetry::LinkMeters,
};

/// What waits to be written to one peer. Bounded: see [`LINK_BYTES_MAX`].
pub(super) struct Line {
    /// Std mutex: held to append or to swap a buffer, never across an await or a syscall.
    out: Mutex<Out>,
    writer: AtomicWaker,
    meters: LinkMeters,
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Takes nothing more; ends when everything is written.
    Closing,
    /// The peer takes nothing in: everything is thrown away.
    Overflown,
    Closed,
}

/// Why nothing was posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The peer reads more slowly than we write.
    Full,
    Closed,
}

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("closed by us")]
    Closed,
    #[error("closed by the peer")]
    ByPeer,
    #[error(transparent)]
    Broken(#[from] io::Error),
    #[error("nothing was heard for {} s", LINK_SILENCE_MAX.as_secs())]
    Silent,
    #[error("the peer reads nothing: {LINK_BYTES_MAX} bytes wait")]
    Overflown,
    #[error(transparent)]
    Garbage(#[from] Garbage),
}

/// Who takes what arrives.
pub(super) trait Side: Send + Sync {
    /// Takes one envelope; never waits.
    ///
    /// # Errors
    /// When this side is never told such a thing: the connection is cut.
    fn take(&self, envelope: Envelope<'_>) -> Result<(), Garbage>;
}

/// Without what is in it: what nodes say to each other, the secrets of sessions among it.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl Line {
    pub(super) fn new(meters: LinkMeters) -> Self {
        Self { out: Mutex::default(), writer: AtomicWaker::new(), meters }
    }

    /// Appends an envelope that may be refused when the peer is slow.
    ///
    /// # Errors
    /// [`Unsent`].
    #[inline]
    pub(super) fn post(&self, envelope: &Envelope<'_>) -> Result<(), Unsent> {
        let mut out = self.lock();
        if out.state != State::Open {
            return Err(Unsent::Closed);
        }
        if out.bytes.len() > LINK_BYTES_MAX {
            return Err(Unsent::Full);
        }
        // Whoever posted the first has woken the task, which takes them all.
        let first = out.bytes.is_empty();
        envelope.put(&mut out.bytes);
        drop(out);
        if first {
            self.writer.wake();
        }
        Ok(())
    }

    /// Appends an envelope that the peer must not miss: when it reads too slowly for it, the
    /// connection is cut, and both ends know.
    #[inline]
    pub(super) fn must_post(&self, envelope: &Envelope<'_>) {
        if self.post(envelope) == Err(Unsent::Full) {
            self.meters.overflows.increment(1);
            self.end(State::Overflown);
        }
    }

    /// Takes nothing more; ends when everything is written.
    pub(super) fn close(&self) {
        self.end(State::Closing);
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock().state == State::Open
    }

    fn end(&self, state: State) {
        let mut out = self.lock();
        if out.state == State::Open {
            out.state = state;
        }
        drop(out);
        self.writer.wake();
    }

    /// The state; when the task has written what it took before, it takes what was posted since.
    fn take(&self, writing: &mut Vec<u8>, written: bool) -> State {
        let mut out = self.lock();
        if written {
            writing.clear();
            std::mem::swap(writing, &mut out.bytes);
        }
        out.state
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes and reads until the connection ends. `unread` came behind the hello.
    pub(super) async fn run<C, S>(&self, carrier: C, unread: Vec<u8>, side: &S) -> Ended
    where
        C: AsyncRead + AsyncWrite + Unpin + Send,
        S: Side + ?Sized,
    {
        let mut wire = Wire::new(carrier, unread);
        // Whoever stops waiting for this closes the line as well.
        let _closed = Closed(self);
        let ended = poll_fn(|cx| wire.poll(cx, self, side)).await;
        if matches!(ended, Ended::Closed) {
            wire.say_goodbye().await;
        }
        ended
    }
}

struct Closed<'a>(&'a Line);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        *self.0.lock() = Out { bytes: Vec::new(), state: State::Closed };
    }
}

/// The task's own half of a connection.
struct Wire<C> {
    carrier: C,
    /// Taken from the line; `written` bytes of it are gone.
    writing: Vec<u8>,
    written: usize,
    /// `unread[..filled]` has arrived and was not taken.
    unread: Vec<u8>,
    filled: usize,
    heard: Instant,
    said: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Wire<C> {
    fn new(carrier: C, mut unread: Vec<u8>) -> Self {
        let (now, filled) = (Instant::now(), unread.len());
        unread.resize(filled.max(LINK_READ_BYTES), 0);
        Self {
            carrier,
            writing: Vec::new(),
            written: 0,
            unread,
            filled,
            heard: now,
            said: now,
            timer: Box::pin(sleep(LINK_ALIVE)),
        }
    }

    fn poll<S: Side + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        line: &Line,
        side: &S,
    ) -> Poll<Ended> {
        line.writer.register(cx.waker());
        let mut envelopes_left = ENVELOPES_PER_WAKE_MAX;
        if let Err(ended) = self.take_in(line, side, &mut envelopes_left) {
            return Poll::Ready(ended);
        }
        for _ in 0..READS_PER_WAKE_MAX {
            if let Err(ended) = self.write(cx, line) {
                return Poll::Ready(ended);
            }
            if envelopes_left == 0 {
                break;
            }
            match self.read(cx) {
                Poll::Ready(read) => {
                    let taken = read.and_then(|()| self.take_in(line, side, &mut envelopes_left));
                    if let Err(ended) = taken {
                        return Poll::Ready(ended);
                    }
                }
                Poll::Pending => return self.check_time(cx, line),
            }
        }
        // A peer that never stops lets the others of the shard have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends the connection so that the peer reads everything: closing over bytes that were not
    /// read would take the last ones from it.
    async fn say_goodbye(&mut self) {
        let goodbye = async {
            self.carrier.shutdown().await?;
            while self.carrier.read(&mut self.unread).await? > 0 {}
            io::Result::Ok(())
        };
        // The peer may be gone already, or not answer: everything was written.
        let _ended = timeout(CLOSE_LINGER, goodbye).await;
    }

    /// Writes what is there, as much as the peer takes.
    fn write(&mut self, cx: &mut Context<'_>, line: &Line) -> Result<(), Ended> {
        loop {
            let done = self.written == self.writing.len();
            if done && self.writing.capacity() > LINK_BYTES_KEPT_MAX {
                self.writing = Vec::new();
            }
            let state = line.take(&mut self.writing, done);
            if state == State::Overflown {
                return Err(Ended::Overflown);
            }
            if done {
                self.written = 0;
            }
            if self.writing.is_empty() {
                return match Pin::new(&mut self.carrier).poll_flush(cx) {
                    Poll::Ready(Err(e)) => Err(e.into()),
                    Poll::Ready(Ok(())) if state == State::Closing => Err(Ended::Closed),
                    Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
                };
            }
            match Pin::new(&mut self.carrier).poll_write(cx, &self.writing[self.written..]) {
                Poll::Ready(Ok(0)) => return Err(Ended::ByPeer),
                Poll::Ready(Ok(n)) => {
                    self.written += n;
                    self.said = Instant::now();
                    line.meters.bytes_out.increment(n as u64);
                }
                Poll::Ready(Err(e)) => return Err(e.into()),
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Reads once.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.filled == self.unread.len() {
            self.unread.resize(2 * self.filled, 0);
        }
        let mut buffer = ReadBuf::new(&mut self.unread[self.filled..]);
        ready!(Pin::new(&mut self.carrier).poll_read(cx, &mut buffer))?;
        match buffer.filled().len() {
            0 => Poll::Ready(Err(Ended::ByPeer)),
            n => {
                self.filled += n;
                self.heard = Instant::now();
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Hands on every whole envelope, `left` at most.
    fn take_in<S: Side + ?Sized>(
        &mut self,
        line: &Line,
        side: &S,
        left: &mut usize,
    ) -> Result<(), Ended> {
        let (mut at, before) = (0, *left);
        while *left > 0
            && let Some((envelope, len)) = Envelope::cut(&self.unread[at..self.filled])?
        {
            at += len;
            *left -= 1;
            side.take(envelope)?;
        }
        if *left < before {
            line.meters.envelopes_in.increment((before - *left) as u64);
            line.meters.bytes_in.increment(at as u64);
            self.unread.copy_within(at..self.filled, 0);
            self.filled -= at;
            if self.unread.len() > LINK_READ_BYTES && self.filled <= LINK_READ_BYTES {
                self.unread.truncate(LINK_READ_BYTES);
                self.unread.shrink_to_fit();
            }
        }
        Ok(())
    }

    /// Says something when nothing else was said, and gives up on a peer that says nothing.
    fn check_time(&mut self, cx: &mut Context<'_>, line: &Line) -> Poll<Ended> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now - self.heard >= LINK_SILENCE_MAX {
                return Poll::Ready(Ended::Silent);
            }
            if now - self.said >= LINK_ALIVE {
                line.must_post(&Envelope::Alive);
                cx.waker().wake_by_ref();
            }
            self.timer.as_mut().reset(now + LINK_ALIVE);
        }
        Poll::Pending
    }
}
