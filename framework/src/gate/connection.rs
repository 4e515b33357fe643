//! Owns one client's connection: one task that reads, cuts, forwards and writes.
//!
//! Reading goes through a scratch buffer that a whole shard shares; a connection keeps bytes of
//! its own only while a frame is incomplete. What a read brought is forwarded at once as one
//! batch, and what waits to be written goes out in one write.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::ReadBuf,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Carrier, Gate, Outbox, close::Close, outbox::Kicked, rate::Budget, routes::Routes,
    session::Session,
};
use crate::{
    limits::{
        BLOCKED_BYTES, FRAME_BYTES_BEFORE_SIGN_IN_MAX, READ_BYTES, READS_PER_WAKE_MAX, STUCK_MAX,
    },
    link::{Batch, SessionEnd as _},
    msg, spare,
    wire::{Code, Cut, FRAME_BYTES_MAX, FrameError, cut},
};

thread_local! {
    /// One read's bytes; every connection of the shard reads into it in turn, never across a poll.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// One client's connection.
pub(super) struct Connection<C> {
    pub(super) carrier: C,
    pub(super) peer: SocketAddr,
    pub(super) gate: Arc<Gate>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) routes: Arc<Routes>,
    routes_version: u64,
    /// Who is signed in here.
    pub(super) session: Option<Session>,
    pub(super) budget: Budget,
    /// The beginning of a frame whose rest has not arrived, or frames behind a sign-in.
    rest: Vec<u8>,
    /// `rest` holds what came behind a sign-in and has not been looked at.
    rest_unseen: bool,
    /// What this read has for the player.
    pub(super) requests: Batch,
    /// How many frames the client waits for because of it.
    pub(super) asked: usize,
    /// Taken from the outbox; `written` bytes of it are gone.
    pub(super) writing: Vec<u8>,
    pub(super) written: usize,
    /// The carrier keeps nothing back, as TLS and texts do for a client that takes in little.
    flushed: bool,
    pub(super) opened: Instant,
    pub(super) last_frame: Instant,
    timer: Pin<Box<Sleep>>,
    timer_at: Instant,
    /// The timer knows this task's waker; polling it again would be for nothing.
    timer_set: bool,
    /// When something was read since the task was woken.
    read_at: Option<Instant>,
    pub(super) reading: Reading,
    /// How often the client failed to sign in or to resume.
    pub(super) tries: u32,
    /// The player was told that the client takes in less than it is told.
    pub(super) blocked: bool,
    /// When something was written last, while three quarters of the outbox waited.
    stuck: Option<Instant>,
    /// The player goes to another node: nothing is forwarded before it is found there.
    moving: bool,
    /// Nothing is read before an answer has come.
    waits: bool,
    /// The gate is going away.
    draining: bool,
    /// How the connection ends once every answer is given.
    pub(super) leaving: Option<Close>,
}

/// Whether the client's bytes are taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Open,
    /// Too many requests wait for their answers, or too many answers for the client: the socket's
    /// own buffer holds it back.
    Paused,
    /// The client has said its last, or the gate has taken its last.
    Over,
}

/// What the connection cannot do within a poll.
#[derive(Debug)]
pub(super) enum Event {
    Login(msg::login::Req),
    Resume(msg::resume::Req),
    /// The ticket signs in.
    Join(msg::join_room::Req),
    /// The player goes to another node.
    Moved,
    Close(Close),
}

impl<C> Connection<C>
where
    C: Carrier,
{
    pub(super) fn new(
        carrier: C,
        peer: SocketAddr,
        opened: Instant,
        gate: Arc<Gate>,
        outbox: Arc<Outbox>,
    ) -> Self {
        let now = Instant::now();
        let settings = &gate.settings.gate;
        let timer_at = opened + settings.sign_in_timeout;
        Self {
            budget: Budget::new(settings.rate_frames_per_s, settings.rate_burst_frames, now),
            timer: Box::pin(sleep_until(timer_at)),
            timer_at,
            routes_version: gate.routes_version(),
            routes: gate.routes(),
            carrier,
            peer,
            gate,
            outbox,
            session: None,
            rest: Vec::new(),
            rest_unseen: false,
            requests: Batch::default(),
            asked: 0,
            tries: 0,
            blocked: false,
            stuck: None,
            writing: Vec::new(),
            written: 0,
            flushed: true,
            opened,
            last_frame: now,
            timer_set: false,
            read_at: None,
            reading: Reading::Open,
            moving: false,
            waits: false,
            draining: false,
            leaving: None,
        }
    }

    /// Serves the client until it is gone.
    pub(super) async fn run(&mut self) {
        // What is done outside of a poll has a place of its own, and only while it lasts: an idle
        // connection pays for what it waits with.
        loop {
            let event = poll_fn(|cx| self.poll(cx)).await;
            let over = Box::pin(self.handle(event)).await;
            if over {
                return;
            }
        }
    }

    /// Whether the connection is over then.
    async fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Login(request) => self.sign_in(request).await,
            Event::Resume(request) => self.resume(request).await,
            Event::Join(request) => self.join(request).await,
            Event::Moved => self.follow_player().await,
            Event::Close(close) => {
                self.end(close).await;
                return true;
            }
        }
        false
    }

    async fn end(&mut self, close: Close) {
        let account = self.session.as_ref().map(|session| session.account);
        tracing::debug!(target: "gate", peer = %self.peer, account, ?close, "closing");
        self.outbox.write_no_more();
        self.tell_closed(&close);
        self.end_session();
        self.say_goodbye(close).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.outbox.register(cx.waker());
        self.read_at = None;
        for _ in 0..READS_PER_WAKE_MAX {
            if let Some(close) = self.write(cx) {
                return Poll::Ready(Event::Close(close));
            }
            if std::mem::take(&mut self.moving) {
                return Poll::Ready(Event::Moved);
            }
            match self.read(cx) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(event)) => return Poll::Ready(event),
                // What had arrived when the drain began is still taken in.
                Poll::Pending if self.draining && self.leaving.is_none() => {
                    self.leaving = Some(Close::Drained);
                }
                Poll::Pending => {
                    self.read_datagrams(cx);
                    return match self.check_time(cx) {
                        Some(close) => Poll::Ready(Event::Close(close)),
                        None => Poll::Pending,
                    };
                }
            }
        }
        if self.draining && self.leaving.is_none() {
            self.leaving = Some(Close::Drained);
        }
        // A client that never stops sending lets the others of its shard have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    // === Writing ===

    /// Writes what is there; says why the connection must end, if so.
    fn write(&mut self, cx: &mut Context<'_>) -> Option<Close> {
        let settings = &self.gate.settings.gate;
        let in_flight_max = settings.requests_in_flight_max;
        let paused_above = settings.outbox_bytes_max / 4 * 3;
        loop {
            let unwritten = self.unwritten();
            if unwritten == 0 {
                spare::give(&mut self.writing);
            }
            let taken = self.outbox.take(&mut self.writing, unwritten);
            if taken.loose {
                self.send_datagrams();
            }
            if unwritten == 0 {
                self.written = taken.written;
            }
            if let Some(kicked) = taken.kicked {
                return Some(Close::Kicked(kicked));
            }
            // A drain does not wait for a client to read: the goodbye has a time of its own.
            let drained = matches!(self.leaving, Some(Close::Drained));
            let quiet = taken.in_flight == 0 && (drained || self.unwritten() == 0);
            self.draining = taken.draining;
            self.moving = taken.moving;
            if quiet && let Some(close) = self.leaving.take() {
                return Some(close);
            }
            let waits = self.leaving.is_some() || taken.in_flight >= in_flight_max;
            if self.waits != waits {
                self.waits = waits;
                self.outbox.watch(waits);
                // The answer may have come in between.
                continue;
            }
            self.reading = if self.leaving.is_some() {
                Reading::Over
            } else if taken.in_flight >= in_flight_max || taken.unwritten >= paused_above {
                Reading::Paused
            } else {
                Reading::Open
            };
            self.watch_deadline(taken.oldest_deadline);
            if self.writing.is_empty() {
                self.tell_blocked(false);
                return None;
            }
            let written = self.written;
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) => self.stuck = None,
                Poll::Ready(Err(_)) => return Some(Close::Gone),
                Poll::Pending => {
                    self.watch_stuck(taken.unwritten >= paused_above, self.written > written);
                    self.tell_blocked(taken.unwritten >= BLOCKED_BYTES);
                    return None;
                }
            }
        }
    }

    /// The player keeps back what it may, while its client does not take it in.
    #[inline]
    fn tell_blocked(&mut self, blocked: bool) {
        if self.blocked != blocked
            && let Some(Session { connection, player, .. }) = &self.session
        {
            self.blocked = blocked;
            player.blocked(*connection, blocked, &self.gate.tasks);
        }
    }

    fn send_datagrams(&mut self) {
        let (loose, dropped) = self.outbox.take_loose();
        self.gate.meters.datagrams_dropped.increment(dropped);
        let mut rest = &loose[..];
        while let Ok(Cut::Frame(frame)) = cut(rest, FRAME_BYTES_MAX) {
            self.carrier.send_datagram(frame.bytes);
            rest = &rest[frame.bytes.len()..];
        }
    }

    /// Bytes that the carrier has not taken; at least one while it keeps back what it took.
    fn unwritten(&self) -> usize {
        let rest = self.writing.len() - self.written;
        if self.flushed { rest } else { rest.max(1) }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = false;
        while self.written < self.writing.len() {
            let rest = &self.writing[self.written..];
            let n = ready!(Pin::new(&mut self.carrier).poll_write(cx, rest))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
            self.gate.meters.bytes_out.increment(n as u64);
        }
        ready!(Pin::new(&mut self.carrier).poll_flush(cx))?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    // === Reading ===

    /// Reads once and handles every whole frame.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.reading != Reading::Open {
            return Poll::Pending;
        }
        if self.rest_unseen {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(self.take_in(0, &rest));
        }
        let read = if self.rest.is_empty() {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut self.carrier).poll_read(cx, &mut buffer))?;
                let bytes = buffer.filled();
                Poll::Ready(Ok((bytes.len(), self.take_in(bytes.len(), bytes))))
            })
        } else {
            self.read_rest(cx)
        };
        match ready!(read) {
            // The client may have closed one way only: what it asked for is still answered.
            Ok((0, _)) => {
                self.leave(Close::Gone);
                Poll::Ready(None)
            }
            Ok((_, event)) => Poll::Ready(event),
            Err(e) => {
                let e: io::Error = e;
                let e = match e.downcast::<FrameError>() {
                    Ok(fault) => {
                        self.fault(fault);
                        self.forward(Instant::now());
                        return Poll::Ready(None);
                    }
                    Err(e) => e,
                };
                tracing::debug!(target: "gate", peer = %self.peer, "read failed: {e}");
                Poll::Ready(Some(Event::Close(Close::Gone)))
            }
        }
    }

    /// Reads behind the beginning of a frame. What arrives is appended and its fields are judged;
    /// the frame is handled once it is whole, so that a byte costs a byte.
    fn read_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(usize, Option<Event>)>> {
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.carrier).poll_read(cx, &mut buffer))?;
            self.rest.extend_from_slice(buffer.filled());
            Poll::Ready(io::Result::Ok(buffer.filled().len()))
        });
        let read = ready!(read)?;
        if read == 0 {
            return Poll::Ready(Ok((0, None)));
        }
        if let Ok(Cut::Partial { .. }) = cut(&self.rest, self.frame_bytes_max()) {
            self.gate.meters.bytes_in.increment(read as u64);
            return Poll::Ready(Ok((read, None)));
        }
        let rest = std::mem::take(&mut self.rest);
        Poll::Ready(Ok((read, self.take_in(read, &rest))))
    }

    /// Handles every whole frame in `bytes`, of which `new` have just arrived; keeps the rest.
    fn take_in(&mut self, new: usize, bytes: &[u8]) -> Option<Event> {
        let now = Instant::now();
        self.read_at = Some(now);
        self.gate.meters.bytes_in.increment(new as u64);
        self.follow_routes();
        let mut at = 0;
        let mut frames = 0;
        let event = loop {
            match cut(&bytes[at..], self.frame_bytes_max()) {
                Ok(Cut::Frame(frame)) => {
                    at += frame.bytes.len();
                    frames += 1;
                    let event = self.frame(&frame, now);
                    if event.is_some() || self.leaving.is_some() {
                        break event;
                    }
                }
                Ok(Cut::Partial { .. }) => break None,
                Err(e) => {
                    self.fault(e);
                    break None;
                }
            }
        };
        if frames > 0 {
            self.last_frame = now;
            self.gate.meters.frames_in.increment(frames);
        }
        self.forward(now);
        self.rest_unseen = event.is_some() && at < bytes.len();
        if self.leaving.is_none() {
            self.rest.extend_from_slice(&bytes[at..]);
        }
        event
    }

    pub(super) fn frame_bytes_max(&self) -> usize {
        match self.session {
            Some(_) => self.gate.settings.gate.frame_bytes_max,
            None => FRAME_BYTES_BEFORE_SIGN_IN_MAX,
        }
    }

    pub(super) fn follow_routes(&mut self) {
        let version = self.gate.routes_version();
        if version != self.routes_version {
            self.routes = self.gate.routes();
            self.routes_version = version;
        }
    }

    /// Takes no more requests; the connection ends when those under way are answered.
    pub(super) fn leave(&mut self, close: Close) {
        self.leaving = Some(close);
        self.reading = Reading::Over;
    }

    // === Time ===

    fn idle_deadline(&self) -> Instant {
        let settings = &self.gate.settings.gate;
        match self.session {
            Some(_) => self.last_frame + settings.idle_timeout,
            None => self.opened + settings.sign_in_timeout,
        }
    }

    /// Wakes no later than the oldest request's deadline. The timer is only ever moved forward
    /// here: a busy connection touches it once in a while, not per message.
    fn watch_deadline(&mut self, oldest: Option<Instant>) {
        if let Some(oldest) = oldest
            && oldest < self.timer_at
        {
            self.set_timer(oldest);
        }
    }

    /// Wakes when a client that has much to take in has taken nothing for too long.
    fn watch_stuck(&mut self, much: bool, moves: bool) {
        if !much {
            self.stuck = None;
        } else if moves || self.stuck.is_none() {
            let now = Instant::now();
            self.stuck = Some(now);
            self.watch_deadline(Some(now + STUCK_MAX));
        }
    }

    fn set_timer(&mut self, at: Instant) {
        self.timer.as_mut().reset(at);
        (self.timer_at, self.timer_set) = (at, false);
    }

    /// The limits are others once a client has signed in.
    pub(super) fn signed_in(&mut self, session: Session)
    where
        C: Carrier,
    {
        self.carrier.signed_in();
        self.gate.meters.sessions.increment(1);
        self.session = Some(session);
        self.set_timer(self.idle_deadline());
    }

    fn check_time(&mut self, cx: &mut Context<'_>) -> Option<Close> {
        if self.carrier.heard() {
            self.last_frame = Instant::now();
        }
        // What was due when the task was woken is looked at; what comes due later wakes it.
        let early = self.read_at.is_some_and(|now| now < self.timer_at);
        if self.timer_set && (early || !self.timer.is_elapsed()) {
            return None;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let idle = self.idle_deadline();
            let stuck = self.stuck.map(|since| since + STUCK_MAX);
            let next = match self.outbox.oldest_deadline() {
                Some(oldest) if oldest <= now => {
                    self.gate.meters.deadlines.increment(1);
                    let reason = "the player's game server does not answer".to_owned();
                    return Some(Close::Kicked(Kicked { code: Code::DEADLINE, reason }));
                }
                _ if stuck.is_some_and(|stuck| stuck <= now) => {
                    let limit = STUCK_MAX.as_secs();
                    let reason = format!("took in nothing for {limit} s, with much to read");
                    // Through the outbox, which takes nothing more: what came behind what is
                    // thrown away now would be heard as if nothing were missing.
                    self.outbox.kick(Code::TOO_SLOW, &reason);
                    return None;
                }
                // Who waits for an answer is not idle.
                Some(oldest) => oldest,
                None if idle > now => idle,
                None if self.session.is_some() => return Some(Close::Idle),
                None => return Some(Close::NotSignedIn),
            };
            self.set_timer(stuck.map_or(next, |stuck| stuck.min(next)));
        }
        self.timer_set = true;
        None
    }
}

impl<C> Drop for Connection<C> {
    /// However the connection ended, the player hears of it.
    fn drop(&mut self) {
        self.outbox.write_no_more();
        self.end_session();
    }
}
