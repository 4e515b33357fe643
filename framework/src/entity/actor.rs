//! Owns the life of one entity: a kameo actor that takes its mail a batch at a time, runs the
//! handlers one after the other, saves its state behind them and stops when nobody needs it.

use std::{
    convert::Infallible,
    future::poll_fn,
    ops::ControlFlow,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures_util::future::BoxFuture;
use kameo::{
    Actor,
    actor::{ActorRef, WeakActorRef},
    error::ActorStopReason,
    mailbox::{MailboxReceiver, Signal},
};
use prost::Message as _;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, Sleep},
};

use super::{
    Ctx, Host, Kind,
    call::{Begun, Urgent, Waiting},
    seats::{self, Seats, Target},
    session::Session,
    table::Calling,
};
use crate::{
    limits::MAIL_PER_TURN_MAX,
    link::{ConnectionId, End, Mail, Mailbox, Mark, Requests},
    msg,
    store::StoreError,
    telemetry::{Panic, catch},
    wire::{Code, Cut, FRAME_BYTES_MAX, Frame, Refusal, cut},
};

/// One entity and everything it owns.
pub(crate) struct Entity<S> {
    pub(super) kind: Arc<Kind<S>>,
    pub(super) host: Arc<Host>,
    pub(super) state: S,
    pub(super) ctx: Ctx,
    /// Who is signed in, connected or away.
    pub(super) session: Option<Session>,
    /// Its seats in rooms.
    pub(super) seats: Seats,
    /// The connection that may speak to it; mail of any other is from the past.
    pub(super) connection: Option<ConnectionId>,
    /// The connection that spoke to it last.
    pub(super) last: u64,
    /// The connection that asked last to sign in. What an older one has in the mailbox is skipped
    /// at once, so that a busy old session keeps no new one waiting.
    pub(super) newest: Arc<AtomicU64>,
    /// Something of the connection was not taken, for a newer session waits: nothing behind it may
    /// be taken either.
    pub(super) skipped: bool,
    /// The session that may be gone on with; 0: none. Who names another one is refused before it
    /// stands in the mailbox.
    pub(super) resumable: Arc<AtomicU64>,
    /// The session came from another node, where so many frames were said, and nobody has gone on
    /// with it here yet.
    pub(super) moved: Option<u64>,
    /// The session is away until then: it ends.
    pub(super) away_until: Option<Instant>,
    pub(super) mailbox: Mailbox,
    /// How much mail was taken since the others of the shard had their turn.
    pub(super) streak: usize,
    /// When the state is to be written; `None` while nothing has happened since the last time.
    pub(super) save_due: Option<Instant>,
    pub(super) saving: Option<BoxFuture<'static, Result<(), StoreError>>>,
    /// Its state may have been written: who wrote hears of another owner.
    pub(super) wrote: bool,
    /// The last save failed: the state is only here.
    pub(super) save_failed: bool,
    /// Saved, given up, and gone on elsewhere: what still comes is given back to the session.
    pub(super) left: bool,
    /// Somebody ended the session while a handler ran; the connection was closed at once.
    pub(super) ended: Option<(End, oneshot::Sender<bool>)>,
    /// Without a session until then: stop.
    pub(super) linger_until: Option<Instant>,
    /// It rests then, if nothing has stirred it since.
    pub(super) rest_at: Instant,
    pub(super) stirred: bool,
    pub(super) rests: bool,
    /// No actor runs it.
    pub(super) lies: bool,
    /// It is nudged then, at the latest, while no actor runs it.
    pub(super) alarm_at: Option<Instant>,
    /// The shard that it lies on.
    pub(super) home: Option<Handle>,
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    /// When it goes off, while it knows this task: it need not be looked at before.
    pub(super) timer_at: Option<Instant>,
    /// A time since the task ran last: requests were taken then, and nothing else.
    pub(super) woken_at: Option<Instant>,
}

/// Everything that can wake an entity; the order is the priority.
enum Wake {
    Saved(Result<(), StoreError>),
    /// A room has said something.
    Heard,
    Mail(Mail),
    Timer,
}

/// An entity that an actor runs. Boxed: the actor's future has room for it several times over.
pub(super) struct Awake<S>(pub(super) Box<Entity<S>>);

impl<S: Send + Sync + 'static> Actor for Awake<S> {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(mut awake: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        // Whoever woke it may have given up before it is here.
        awake.0.set_timer();
        Ok(awake)
    }

    /// Lives: takes mail, saves, until nobody needs it. What kameo would have for it is nothing.
    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        _: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        self.0.live().await;
        Ok(None)
    }

    async fn on_stop(
        &mut self,
        _: WeakActorRef<Self>,
        _: ActorStopReason,
    ) -> Result<(), Infallible> {
        if !self.0.rests {
            self.0.stop().await;
        }
        Ok(())
    }
}

impl<S: Send + Sync + 'static> Entity<S> {
    /// Until it stops, or rests.
    async fn live(&mut self) {
        loop {
            match poll_fn(|cx| self.poll_wake(cx)).await {
                Wake::Mail(mail) => {
                    // What a client asks for can be done where it lies.
                    self.stirred |= !matches!(mail, Mail::Requests(_));
                    if self.take(mail).await.is_break() {
                        return;
                    }
                }
                Wake::Saved(result) => self.saved(result),
                Wake::Heard => {
                    self.stirred = true;
                    self.woken_at = None;
                    self.ctx.flush();
                    self.take_turn().await;
                }
                Wake::Timer => {
                    let now = Instant::now();
                    if self.unneeded(now) {
                        return;
                    }
                    self.rests = self.may_rest(now);
                    if self.rests {
                        return;
                    }
                    self.set_timer();
                }
            }
            if self.is_overtaken() {
                return;
            }
        }
    }

    /// Whether another node has taken it over, as who wrote to the store hears.
    pub(super) fn is_overtaken(&mut self) -> bool {
        let overtaken = std::mem::take(&mut self.wrote) && self.ctx.writer().fenced();
        if overtaken {
            tracing::warn!(target: "entity", entity = %self.ctx.entity(), "another node runs it now: stopping");
        }
        overtaken
    }

    pub(super) async fn stop(&mut self) {
        self.host.stopping(self.ctx.entity());
        self.refuse_mail();
        if self.left {
            self.host.stopped(self.ctx.entity());
            return;
        }
        if let Some(port) = self.ctx.port() {
            port.kick(Code::NOT_CONNECTED, "the player's game server stopped");
        }
        if !self.ctx.writer().fenced()
            && let Some(state) = self.state_bytes()
            && let Err(e) = self.ctx.writer().write(state).await
            // Whoever runs it by now has a later one.
            && e != StoreError::Fenced
        {
            tracing::error!(target: "entity", entity = %self.ctx.entity(), "the last state is lost: {e}");
        }
        self.host.release(self.ctx.entity(), self.ctx.writer().claim()).await;
        self.host.stopped(self.ctx.entity());
    }
}

impl<S: Send + Sync + 'static> Entity<S> {
    /// Does what a piece of mail asks for; the entity may be over then.
    async fn take(&mut self, mail: Mail) -> ControlFlow<()> {
        self.take_turn().await;
        self.woken_at = None;
        match mail {
            Mail::Requests(requests) if self.left => self.give_back(&requests),
            Mail::Requests(requests) => self.requests(requests).await,
            // The drop of its reply is an answer: the caller looks for the player anew.
            Mail::Attach(_) if self.left => {}
            Mail::Attach(attach) => self.attach(attach),
            Mail::Detach(connection) if self.left => {
                self.detached(connection);
                if self.connection == Some(connection) {
                    return ControlFlow::Break(());
                }
            }
            Mail::Detach(connection) => self.detach(connection),
            // What it says from now on is not in the record that its session goes on with.
            Mail::Blocked(..) if self.left => {}
            Mail::Blocked(connection, blocked) => {
                if self.connection == Some(connection) {
                    self.ctx.set_blocked(blocked);
                    self.ctx.flush();
                }
            }
            // As with an attach: the caller looks for the player anew.
            Mail::End(..) if self.left => {}
            Mail::End(end, reply) => {
                let ended = self.end(&end);
                // Who asked may have given up; it is done all the same.
                let _heard = reply.send(ended);
            }
            Mail::Push(_) if self.left => {}
            Mail::Push(frame) => self.push(&frame),
            Mail::Stop if self.left => {}
            Mail::Stop => {
                if !self.leave().await {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Lets the others of its shard have their turn.
    async fn take_turn(&mut self) {
        self.streak += 1;
        if self.streak >= MAIL_PER_TURN_MAX {
            self.streak = 0;
            tokio::task::yield_now().await;
        }
    }

    /// Takes no more mail, and answers what was not taken.
    fn refuse_mail(&mut self) {
        for mail in self.mailbox.close() {
            match mail {
                Mail::Requests(requests) if self.left => self.give_back(&requests),
                Mail::Requests(requests) => {
                    self.refuse_all(&requests, &Code::NOT_CONNECTED.into());
                }
                Mail::Detach(connection) => self.detached(connection),
                // An attach is answered by the drop of its reply: the caller tries again.
                Mail::Attach(_)
                | Mail::Blocked(..)
                | Mail::End(..)
                | Mail::Push(_)
                | Mail::Stop => {}
            }
        }
    }

    pub(super) async fn requests(&mut self, requests: Requests) {
        let Requests { connection, deadline, ref batch } = requests;
        if self.connection != Some(connection) || self.is_outdone() {
            // Not counted: if the session goes on, its client sends them again.
            self.skipped |= self.connection == Some(connection);
            self.host.meters().stale_requests.increment(1);
            return;
        }
        let mut now = Instant::now();
        self.woken_at = Some(now);
        if !self.host.lease().holds(now) {
            // Another node may run this player by now.
            return self.refuse_all(&requests, &Code::NOT_CONNECTED.into());
        }
        for (mark, frame) in batch.frames() {
            match mark {
                Mark::Request | Mark::Plain | Mark::Loose if now >= deadline => {
                    // Work that is too late is not begun.
                    self.take_frame(mark);
                    self.ctx.refuse(mark, frame.api.as_str(), &Code::DEADLINE.into());
                }
                Mark::Request | Mark::Plain | Mark::Loose => {
                    self.take_frame(mark);
                    if self.request(mark, &frame, deadline).await {
                        now = Instant::now();
                        self.woken_at = Some(now);
                        self.stirred = true;
                        self.wrote = true;
                        if let Some((end, reply)) = self.ended.take() {
                            // Who asked may have given up; it is done all the same.
                            let _heard = reply.send(self.end(&end));
                            break;
                        }
                        if self.is_outdone() {
                            // A newer session waits; this one is about to be told so.
                            self.skipped = true;
                            break;
                        }
                    }
                }
                Mark::Refused | Mark::RefusedPlain | Mark::Fault => {
                    self.take_frame(mark);
                    self.ctx.say(mark, frame.bytes);
                }
                Mark::Ping => self.ping(frame),
                Mark::Logout => {
                    if self.logout(frame) {
                        break;
                    }
                }
                // Nobody says that to a player.
                Mark::Answer => {}
            }
        }
        self.ctx.flush();
        self.touch(now);
    }

    /// Says what somebody else has for the client.
    fn push(&mut self, frame: &[u8]) {
        if let Ok(Cut::Frame(frame)) = cut(frame, FRAME_BYTES_MAX)
            && self.session.is_some()
        {
            self.seats.told(&frame);
            self.ctx.say(Mark::Plain, frame.bytes);
            self.ctx.flush();
        }
    }

    /// A newer session is about to take over.
    fn is_outdone(&self) -> bool {
        self.connection.is_some_and(|c| self.newest.load(Ordering::Acquire) != c.0)
    }

    #[inline]
    fn take_frame(&mut self, mark: Mark) {
        if let Some(session) = &mut self.session
            && !matches!(mark, Mark::Loose | Mark::Fault)
        {
            session.take();
        }
    }

    /// Tells both counts; what the client has received need not be kept.
    fn ping(&mut self, frame: Frame<'_>) {
        let ping = match msg::ping::Req::decode(frame.payload) {
            Ok(ping) => ping,
            Err(e) => {
                let refusal = Code::UNDECODABLE.because(e.to_string());
                return self.ctx.refuse(Mark::Request, frame.api.as_str(), &refusal);
            }
        };
        // What was said in this wake is among what it counts.
        self.ctx.flush();
        if let Some(said) = self.ctx.said() {
            said.acknowledge(ping.received);
        }
        let received = self.session.as_ref().map_or(0, |session| session.received);
        let (ct, st) = (ping.ct, self.ctx.now_ms());
        self.ctx.say_message(Mark::Ping, &msg::ping::Res { ct, st, received });
    }

    /// Ends the session for good, whatever account the message names: there is one to end here.
    /// Says whether it did.
    fn logout(&mut self, frame: Frame<'_>) -> bool {
        self.take_frame(Mark::Logout);
        if let Err(e) = msg::logout::Req::decode(frame.payload) {
            let refusal = Code::UNDECODABLE.because(e.to_string());
            self.ctx.refuse(Mark::Logout, frame.api.as_str(), &refusal);
            return false;
        }
        self.ctx.say_message(Mark::Logout, &msg::logout::Res { code: Code::OK.0 });
        self.end_session(Code::OK, "");
        true
    }

    /// Runs one handler; whatever it does, the request is answered. Says whether it waited.
    #[inline]
    async fn request(&mut self, mark: Mark, frame: &Frame<'_>, deadline: Instant) -> bool {
        // Most handlers never wait: they are done before anything is made for the wait.
        let (waited, outcome) = match self.begin(mark, frame, deadline) {
            Begun::Done(outcome) => (false, outcome),
            // In a box: whoever does not wait would have room for it all the same.
            Begun::Waits(waiting) => (true, Box::pin(waiting.end(deadline)).await),
        };
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => self.ctx.refuse(mark, frame.api.as_str(), &refusal),
            Err(panic) => {
                self.ctx.refuse(mark, frame.api.as_str(), &Code::INTERNAL.into());
                self.tell_panic(frame.api.as_str(), &panic);
            }
        }
        waited
    }

    /// Calls a handler and looks once whether it is done.
    #[inline]
    fn begin<'a>(&'a mut self, mark: Mark, frame: &'a Frame<'_>, deadline: Instant) -> Begun<'a> {
        let Self { kind, host, state, ctx, session, seats, mailbox, ended, .. } = self;
        let (ctx, session) = (&*ctx, session.as_ref());
        let mut called: Option<Calling<'_>> = None;
        let looked = catch(|| {
            let call: Calling<'_> =
                match kind.table.call(frame.api, state, mark, frame.payload, ctx) {
                    Some(call) => call,
                    None => match kind.targets.find(frame.api) {
                        None => return Poll::Ready(Err(Code::UNKNOWN_API.into())),
                        Some(Target::Kind(name)) => {
                            Box::pin(seats.ask(name, mark, frame, ctx, deadline))
                        }
                        Some(Target::Rooms(own)) => {
                            let sid = session.map_or("", |session| &session.sid);
                            let asks = seats::Asks { host, sid, ctx, deadline };
                            Box::pin(seats.own(own, mark, frame, asks))
                        }
                    },
                };
            // Whom it is to wake is said when it is looked at again.
            let looked = called.insert(call).as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if looked.is_ready() {
                called = None;
            }
            looked
        });
        match looked {
            Ok(Poll::Ready(outcome)) => Begun::Done(Ok(outcome)),
            Ok(Poll::Pending) => {
                let urgent = Urgent { ctx, session, mailbox, ended };
                let lease = host.lease();
                Begun::Waits(Waiting { call: called.expect("it was begun"), urgent, lease })
            }
            // What it leaves behind may panic in its turn.
            Err(panic) => Begun::Done(catch(|| drop(called)).and(Err(panic))),
        }
    }

    fn refuse_all(&mut self, requests: &Requests, refusal: &Refusal) {
        if self.connection != Some(requests.connection) {
            return;
        }
        let (refused, _) = requests.batch.refused(refusal.code);
        for (mark, frame) in refused.frames() {
            if mark == Mark::Ping {
                self.ping(frame);
                continue;
            }
            self.take_frame(mark);
            self.ctx.say(mark, frame.bytes);
        }
        self.ctx.flush();
    }

    pub(super) fn hook(&mut self, name: &str, hook: fn(&mut S, &Ctx)) {
        if let Err(panic) = catch(|| hook(&mut self.state, &self.ctx)) {
            self.tell_panic(name, &panic);
        }
    }

    /// One line for the operator: what of the studio's panicked, for whom.
    pub(super) fn tell_panic(&self, what: &str, Panic(text): &Panic) {
        self.host.meters().panics.increment(1);
        tracing::error!(target: "entity", api = what, entity = %self.ctx.entity(), "panicked: {text}");
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if let Some(save) = &mut self.saving
            && let Poll::Ready(result) = save.as_mut().poll(cx)
        {
            return Poll::Ready(Wake::Saved(result));
        }
        if self.seats.poll_heard(&self.ctx, cx).is_ready() {
            return Poll::Ready(Wake::Heard);
        }
        if let Poll::Ready(mail) = self.mailbox.poll_take(cx) {
            return Poll::Ready(Wake::Mail(mail));
        }
        self.streak = 0;
        // What was due when the task was woken is looked at, and what comes due later wakes it.
        if let Some((woken, at)) = self.woken_at.take().zip(self.timer_at)
            && woken < at
        {
            return Poll::Pending;
        }
        self.timer_at = None;
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Wake::Timer);
        }
        self.timer_at = Some(timer.deadline());
        Poll::Pending
    }
}

impl<S> Drop for Entity<S> {
    /// However it ended, nobody waits for it.
    fn drop(&mut self) {
        drop(self.mailbox.close());
    }
}
