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
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use kameo::{
    Actor,
    actor::{ActorRef, WeakActorRef},
    error::ActorStopReason,
    mailbox::{MailboxReceiver, Signal},
};
use prost::Message as _;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::{Ctx, Host, Kind, table::Calling};
use crate::{
    def,
    directory::Lease,
    limits::{LEAVE_DEADLINE, MAIL_PER_TURN_MAX, USER_BYTES_MAX},
    link::{Account, Attach, Attached, Mail, Mailbox, Requests, SessionId, SessionPort},
    store::StoreError,
    telemetry::{Panic, catch},
    wire::{Code, Frame, Refusal},
};

/// One entity and everything it owns.
pub(crate) struct Entity<S> {
    pub(super) kind: Arc<Kind<S>>,
    pub(super) host: Arc<Host>,
    pub(super) state: S,
    pub(super) ctx: Ctx,
    /// The session that may speak to it; mail of any other is from the past.
    pub(super) session: Option<SessionId>,
    /// The session that asked last to speak to it. What an older one has in the mailbox is
    /// skipped at once, so that a busy old session keeps no new one waiting.
    pub(super) newest: Arc<AtomicU64>,
    pub(super) mailbox: Mailbox,
    /// How much mail was taken since the others of the shard had their turn.
    pub(super) streak: usize,
    /// When the state is to be written; `None` while nothing has happened since the last time.
    pub(super) save_due: Option<Instant>,
    pub(super) saving: Option<BoxFuture<'static, Result<(), StoreError>>>,
    /// The last save failed: the state is only here.
    pub(super) save_failed: bool,
    /// Saved, given up, and gone on elsewhere: what still comes is given back to the session.
    pub(super) left: bool,
    /// Without a session until then: stop.
    pub(super) linger_until: Option<Instant>,
    pub(super) timer: Option<Pin<Box<Sleep>>>,
}

/// Everything that can wake an entity; the order is the priority.
enum Wake {
    Saved(Result<(), StoreError>),
    Mail(Mail),
    Timer,
}

impl<S: Send + Sync + 'static> Actor for Entity<S> {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(entity: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(entity)
    }

    /// Lives: takes mail, saves, until nobody needs it. What kameo would have for it is nothing.
    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        _: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        loop {
            if self.ctx.writer().fenced() {
                tracing::warn!(target: "entity", entity = %self.ctx.entity(), "another node runs it now: stopping");
                return Ok(None);
            }
            match poll_fn(|cx| self.poll_wake(cx)).await {
                Wake::Mail(mail) => {
                    if self.take(mail).await.is_break() {
                        return Ok(None);
                    }
                }
                Wake::Saved(result) => self.saved(result),
                Wake::Timer => {
                    if self.unneeded() {
                        return Ok(None);
                    }
                    self.set_timer();
                }
            }
        }
    }

    async fn on_stop(
        &mut self,
        _: WeakActorRef<Self>,
        _: ActorStopReason,
    ) -> Result<(), Infallible> {
        self.host.stopping(self.ctx.entity());
        self.refuse_mail();
        if self.left {
            self.host.stopped(self.ctx.entity());
            return Ok(());
        }
        if let Some(session) = self.ctx.session() {
            session.kick(Code::NOT_CONNECTED, "the player's game server stopped");
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
        Ok(())
    }
}

impl<S: Send + Sync + 'static> Entity<S> {
    /// Does what a piece of mail asks for; the entity may be over then.
    async fn take(&mut self, mail: Mail) -> ControlFlow<()> {
        self.streak += 1;
        if self.streak >= MAIL_PER_TURN_MAX {
            self.streak = 0;
            tokio::task::yield_now().await;
        }
        match mail {
            Mail::Requests(requests) if self.left => self.give_back(&requests),
            Mail::Requests(requests) => self.requests(requests).await,
            // The drop of its reply is an answer: the caller looks for the player anew.
            Mail::Attach(_) if self.left => {}
            Mail::Attach(attach) => self.attach(attach),
            Mail::Detach(session) if self.left => {
                self.detached(session);
                if self.session == Some(session) {
                    return ControlFlow::Break(());
                }
            }
            Mail::Detach(session) => self.detach(session),
            Mail::Stop if self.left => {}
            Mail::Stop => {
                if !self.leave().await {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Takes no more mail, and answers what was not taken.
    fn refuse_mail(&mut self) {
        for mail in self.mailbox.close() {
            match mail {
                Mail::Requests(requests) if self.left => self.give_back(&requests),
                Mail::Requests(requests) => {
                    self.refuse_all(&requests, &Code::NOT_CONNECTED.into());
                }
                Mail::Detach(session) => self.detached(session),
                // An attach is answered by the drop of its reply: the caller tries again.
                Mail::Attach(_) | Mail::Stop => {}
            }
        }
    }

    async fn requests(&mut self, requests: Requests) {
        let Requests { session, deadline, ref batch } = requests;
        if self.session != Some(session) || self.newest.load(Ordering::Acquire) != session.0 {
            self.host.meters().stale_requests.increment(1);
            return;
        }
        let mut now = Instant::now();
        if !self.host.lease().holds(now) {
            // Another node may run this player by now.
            return self.refuse_all(&requests, &Code::NOT_CONNECTED.into());
        }
        for (tag, frame) in batch.frames() {
            if now >= deadline {
                // Work that is too late is not begun.
                self.ctx.refuse(tag, frame.api.as_str(), &Code::DEADLINE.into());
            } else if self.request(tag, frame, deadline).await {
                now = Instant::now();
                if self.newest.load(Ordering::Acquire) != session.0 {
                    // A newer session waits; this one is about to be told so.
                    break;
                }
            }
        }
        self.ctx.flush();
        self.touch(now);
    }

    /// Runs one handler; whatever it does, the request is answered. Says whether it waited.
    async fn request(&mut self, tag: u32, frame: Frame<'_>, deadline: Instant) -> bool {
        let mut waited = false;
        let outcome = self.run(tag, frame, deadline, &mut waited).await;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => self.ctx.refuse(tag, frame.api.as_str(), &refusal),
            Err(panic) => {
                self.ctx.refuse(tag, frame.api.as_str(), &Code::INTERNAL.into());
                self.tell_panic(frame.api.as_str(), &panic);
            }
        }
        waited
    }

    async fn run(
        &mut self,
        tag: u32,
        frame: Frame<'_>,
        deadline: Instant,
        waited: &mut bool,
    ) -> Outcome {
        let Self { kind, host, state, ctx, .. } = self;
        let called = catch(|| kind.table.call(frame.api, state, tag, frame.payload, ctx))?;
        let Some(mut call) = called else {
            return Ok(Err(Code::UNKNOWN_API.into()));
        };
        // Most handlers never wait: no timer is made for them.
        let outcome = match poll_fn(|cx| Poll::Ready(poll_call(&mut call, cx))).await {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                *waited = true;
                wait(&mut call, ctx, host.lease(), deadline).await
            }
        };
        // What the handler leaves behind may panic in its turn.
        catch(|| drop(call)).and(outcome)
    }

    fn refuse_all(&mut self, requests: &Requests, refusal: &Refusal) {
        if self.session == Some(requests.session) {
            for (tag, frame) in requests.batch.frames() {
                self.ctx.refuse(tag, frame.api.as_str(), refusal);
            }
            self.ctx.flush();
        }
    }

    /// The session that asked last wins: the account center vouched for both, and only one is
    /// here.
    fn attach(&mut self, Attach { session, account, port, moved, reply }: Attach) {
        let user = match self.user_for(session, &account) {
            Ok(user) => user,
            Err(code) => {
                self.step_back(session);
                // Who has given up meanwhile need not be told.
                let _given_up = reply.send(Err(code.into()));
                return;
            }
        };
        if let Some(old) = self.ctx.session() {
            old.kick(Code::SIGNED_IN_ELSEWHERE, "the account signed in on another connection");
        }
        self.ctx.attach(account, port);
        self.session = Some(session);
        self.linger_until = None;
        match moved {
            false => self.hook("on_sign_in", self.kind.on_sign_in),
            true => self.hook("on_moved", self.kind.on_moved),
        }
        self.touch(Instant::now());
        if reply.send(Ok(Attached { user })).is_ok() {
            self.ctx.flush();
        } else {
            // The gate has given up meanwhile; what was pushed is for nobody.
            self.detach(session);
        }
    }

    /// What a session that wants to sign in is told about its player.
    fn user_for(&self, session: SessionId, account: &Account) -> Result<def::User, Code> {
        if self.newest.load(Ordering::Acquire) != session.0 {
            return Err(Code::SIGNED_IN_ELSEWHERE);
        }
        let user = catch(|| (self.kind.user)(&self.state, account, self.ctx.now_ms()));
        let user = user.map_err(|panic| {
            self.tell_panic("user", &panic);
            Code::INTERNAL
        })?;
        let bytes = user.encoded_len();
        if bytes > USER_BYTES_MAX {
            let entity = self.ctx.entity();
            tracing::error!(target: "entity", %entity, bytes, "the user record is too large to sign in with");
            return Err(Code::USER_NOT_CREATED);
        }
        Ok(user)
    }

    /// A session that did not come to be gives way to the one that is here.
    fn step_back(&self, session: SessionId) {
        let here = self.session.map_or(0, |here| here.0);
        let (set, get) = (Ordering::AcqRel, Ordering::Acquire);
        if self.newest.compare_exchange(session.0, here, set, get).is_ok() {
            tracing::debug!(target: "entity", entity = %self.ctx.entity(), "a sign-in was given up");
        }
    }

    fn detach(&mut self, session: SessionId) {
        if self.session != Some(session) {
            self.step_back(session);
            return;
        }
        self.session = None;
        self.hook("on_sign_out", self.kind.on_sign_out);
        self.ctx.detach();
        let now = Instant::now();
        self.save_due = Some(now);
        self.linger_until = Some(now + self.host.settings().linger);
        self.set_timer();
    }

    // === Leaving for another node ===

    /// The node goes away: the state is saved and the player given up, so that its session finds
    /// it elsewhere and goes on. False when it cannot: no session, one that ends with this node,
    /// a store that is away.
    async fn leave(&mut self) -> bool {
        let followed = self.ctx.session().is_some_and(SessionPort::can_follow);
        if !followed || self.ctx.writer().fenced() || !self.host.lease().holds(Instant::now()) {
            return false;
        }
        self.host.stopping(self.ctx.entity());
        let Some(state) = self.state_bytes() else { return false };
        if let Err(e) = self.ctx.writer().write(state).await {
            tracing::debug!(target: "entity", entity = %self.ctx.entity(), "cannot leave: {e}");
            return false;
        }
        self.host.release(self.ctx.entity(), self.ctx.writer().claim()).await;
        if let Some(session) = self.ctx.session() {
            session.leaving();
        }
        self.left = true;
        (self.save_due, self.saving, self.save_failed) = (None, None, false);
        self.linger_until = Some(Instant::now() + LEAVE_DEADLINE);
        self.set_timer();
        true
    }

    fn give_back(&self, requests: &Requests) {
        if self.session == Some(requests.session)
            && let Some(session) = self.ctx.session()
        {
            session.give_back(&requests.batch);
        }
    }

    fn detached(&self, session: SessionId) {
        if self.left
            && self.session == Some(session)
            && let Some(port) = self.ctx.session()
        {
            port.detached();
        }
    }

    fn hook(&mut self, name: &str, hook: fn(&mut S, &Ctx)) {
        if let Err(panic) = catch(|| hook(&mut self.state, &self.ctx)) {
            self.tell_panic(name, &panic);
        }
    }

    /// One line for the operator: what of the studio's panicked, for whom.
    fn tell_panic(&self, what: &str, Panic(text): &Panic) {
        self.host.meters().panics.increment(1);
        tracing::error!(target: "entity", api = what, entity = %self.ctx.entity(), "panicked: {text}");
    }

    // === Saving and stopping ===

    /// The state may have changed: it is written within the save interval, however busy the
    /// entity is.
    fn touch(&mut self, now: Instant) {
        match self.save_due {
            Some(due) if due <= now => self.begin_save(now),
            Some(_) => {}
            None => {
                self.save_due = Some(now + self.host.settings().save_interval);
                self.set_timer();
            }
        }
    }

    fn begin_save(&mut self, now: Instant) {
        if self.saving.is_some() {
            return;
        }
        self.save_due = None;
        if let Some(state) = self.state_bytes() {
            self.saving = Some(Box::pin(self.ctx.writer().write(state)));
        } else {
            self.save_due = Some(now + self.host.settings().save_interval);
        }
    }

    fn state_bytes(&self) -> Option<Vec<u8>> {
        catch(|| (self.kind.save)(&self.state))
            .inspect_err(|panic| self.tell_panic("save", panic))
            .ok()
    }

    fn saved(&mut self, result: Result<(), StoreError>) {
        self.saving = None;
        self.save_failed = false;
        if let Err(StoreError::Unavailable(why)) = result {
            self.save_failed = true;
            self.save_due = Some(Instant::now() + self.host.settings().save_interval);
            self.host.save_failed(&why);
        }
        self.set_timer();
    }

    /// Does what is due; says whether nobody needs the entity any more. It stays while its state
    /// is only here, however long the store is away.
    fn unneeded(&mut self) -> bool {
        let now = Instant::now();
        if self.save_due.is_some_and(|due| due <= now) {
            self.begin_save(now);
        }
        let idle = self.linger_until.is_some_and(|until| until <= now);
        idle && self.saving.is_none() && self.save_due.is_none()
    }

    fn set_timer(&mut self) {
        // While a save runs its end is waited for, and the timer is set again then.
        let due = self.save_due.filter(|_| self.saving.is_none());
        let idle = self.linger_until.filter(|_| self.saving.is_none() && !self.save_failed);
        let Some(at) = due.into_iter().chain(idle).min() else {
            self.timer = None;
            return;
        };
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(sleep_until(at))),
        }
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if let Some(save) = &mut self.saving
            && let Poll::Ready(result) = save.as_mut().poll(cx)
        {
            return Poll::Ready(Wake::Saved(result));
        }
        if let Poll::Ready(mail) = self.mailbox.poll_take(cx) {
            return Poll::Ready(Wake::Mail(mail));
        }
        self.streak = 0;
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| Wake::Timer),
            None => Poll::Pending,
        }
    }
}

impl<S> Drop for Entity<S> {
    /// However it ended, nobody waits for it.
    fn drop(&mut self) {
        drop(self.mailbox.close());
    }
}

type Outcome = Result<Result<(), Refusal>, Panic>;

/// Waits for a handler until its deadline. What it answered and pushed so far goes out each time
/// it waits.
async fn wait(call: &mut Calling<'_>, ctx: &Ctx, lease: &Lease, deadline: Instant) -> Outcome {
    ctx.flush();
    let rest = poll_fn(|cx| {
        if !lease.holds(Instant::now()) {
            // Another node may run this player by now; what the handler began ends here.
            return Poll::Ready(Ok(Err(Code::NOT_CONNECTED.into())));
        }
        let outcome = poll_call(call, cx);
        if outcome.is_pending() {
            ctx.flush();
        }
        outcome
    });
    timeout_at(deadline, rest).await.unwrap_or_else(|_| Ok(Err(Code::DEADLINE.into())))
}

fn poll_call(call: &mut Calling<'_>, cx: &mut Context<'_>) -> Poll<Outcome> {
    match catch(|| call.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    }
}
