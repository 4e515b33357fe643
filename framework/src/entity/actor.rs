//! Owns the life of one entity: a kameo actor that takes its mail a batch at a time, runs the
//! handlers one after the other, saves its state behind them and stops when nobody needs it.

use std::{
    convert::Infallible,
    future::poll_fn,
    hash::{DefaultHasher, Hash, Hasher},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use kameo::{
    Actor,
    actor::{ActorRef, WeakActorRef},
    error::ActorStopReason,
    mailbox::{MailboxReceiver, Signal},
    message::{self, BoxMessage, Message},
};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::{Ctx, Host, Kind, table::Calling};
use crate::{
    link::{Attach, Attached, Mail, Requests, SessionId},
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
    pub(super) saves: Saves,
    /// Without a session until then: stop.
    pub(super) linger_until: Option<Instant>,
    pub(super) timer: Option<Pin<Box<Sleep>>>,
}

/// Where the state stands against the store.
#[derive(Default)]
pub(super) struct Saves {
    /// When the state is to be written; `None` while nothing has happened since the last time.
    due: Option<Instant>,
    running: Option<BoxFuture<'static, Result<(), StoreError>>>,
    /// Hash of the bytes that `running` writes.
    writing: u64,
    /// Hash of the bytes in the store.
    written: Option<u64>,
    failed: bool,
}

/// Everything that can wake an entity; the order is the priority.
enum Wake<S: Send + Sync + 'static> {
    Saved(Result<(), StoreError>),
    Mail(Option<Signal<Entity<S>>>),
    Timer,
}

impl<S: Send + Sync + 'static> Actor for Entity<S> {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(entity: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(entity)
    }

    /// Waits for mail, for a save to end, or for the time to save or to stop.
    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        mailbox: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        loop {
            let go_on = match poll_fn(|cx| self.poll_wake(cx, mailbox)).await {
                Wake::Mail(signal) => return Ok(signal),
                Wake::Saved(result) => self.saved(result),
                Wake::Timer => self.timer_fired(),
            };
            if !go_on {
                self.host.stopping(self.ctx.entity());
                return Ok(None);
            }
        }
    }

    async fn on_stop(
        &mut self,
        _: WeakActorRef<Self>,
        _: ActorStopReason,
    ) -> Result<(), Infallible> {
        if let Some(session) = self.ctx.session() {
            session.kick(Code::NOT_CONNECTED, "the player's game server stopped");
        }
        self.save_last().await;
        self.host.stopped(self.ctx.entity());
        Ok(())
    }

    async fn on_undelivered(
        &mut self,
        _: ActorStopReason,
        mail: Vec<BoxMessage<Self>>,
    ) -> Result<(), Infallible> {
        for mail in mail {
            // An attach among them is answered by the drop of its reply: the caller tries again.
            if let Ok(mail) = mail.as_any().downcast::<Mail>()
                && let Mail::Requests(requests) = *mail
            {
                self.refuse_all(&requests, &Code::NOT_CONNECTED.into());
            }
        }
        Ok(())
    }
}

impl<S: Send + Sync + 'static> Message<Mail> for Entity<S> {
    type Reply = ();

    async fn handle(&mut self, mail: Mail, ctx: &mut message::Context<Self, ()>) {
        match mail {
            Mail::Requests(requests) => self.requests(requests).await,
            Mail::Attach(attach) => self.attach(attach),
            Mail::Detach(session) => self.detach(session),
            Mail::Stop => {
                self.host.stopping(self.ctx.entity());
                ctx.stop();
            }
        }
    }
}

impl<S: Send + Sync + 'static> Entity<S> {
    async fn requests(&mut self, requests: Requests) {
        if self.session != Some(requests.session) {
            self.host.meters().stale_requests.increment(1);
            return;
        }
        if Instant::now() >= requests.deadline {
            return self.refuse_all(&requests, &Code::DEADLINE.into());
        }
        for (tag, frame) in requests.batch.iter() {
            self.request(tag, frame, requests.deadline).await;
        }
        self.ctx.flush();
        self.touch();
    }

    /// Runs one handler; whatever it does, the request is answered.
    async fn request(&mut self, tag: u32, frame: Frame<'_>, deadline: Instant) {
        let Self { kind, state, ctx, .. } = self;
        let Some(mut call) = kind.table.call(frame.api, state, tag, frame.payload, ctx) else {
            return ctx.refuse(tag, frame.api.as_str(), &Code::UNKNOWN_API.into());
        };
        // Most handlers never wait: no timer is made for them.
        let mut outcome = poll_fn(|cx| Poll::Ready(poll_call(&mut call, cx))).await;
        if outcome.is_pending() {
            ctx.flush();
            let rest = poll_fn(|cx| {
                let outcome = poll_call(&mut call, cx);
                ctx.flush_if(outcome.is_pending());
                outcome
            });
            outcome = timeout_at(deadline, rest)
                .await
                .map_or_else(|_| Poll::Ready(Ok(Err(Code::DEADLINE.into()))), Poll::Ready);
        }
        drop(call);
        match outcome {
            Poll::Ready(Ok(Ok(()))) => {}
            Poll::Ready(Ok(Err(refusal))) => ctx.refuse(tag, frame.api.as_str(), &refusal),
            Poll::Ready(Err(panic)) => {
                ctx.refuse(tag, frame.api.as_str(), &Code::INTERNAL.into());
                self.tell_panic(frame.api.as_str(), &panic);
            }
            Poll::Pending => unreachable!("awaited above"),
        }
    }

    fn refuse_all(&mut self, requests: &Requests, refusal: &Refusal) {
        if self.session == Some(requests.session) {
            for (tag, frame) in requests.batch.iter() {
                self.ctx.refuse(tag, frame.api.as_str(), refusal);
            }
            self.ctx.flush();
        }
    }

    /// A newer session always wins: the account center vouched for both, and only one is here.
    fn attach(&mut self, Attach { session, account, port, reply }: Attach) {
        if let Some(old) = self.ctx.session() {
            old.kick(Code::SIGNED_IN_ELSEWHERE, "the account signed in on another connection");
        }
        let user = catch(|| (self.kind.user)(&self.state, &account, self.ctx.now_ms()));
        let attached = user.map(|user| Attached { user }).map_err(|panic| {
            self.tell_panic("user", &panic);
            Code::INTERNAL.into()
        });
        let refused = attached.is_err();
        self.ctx.attach(account, port);
        self.session = Some(session);
        self.linger_until = None;
        self.hook("on_sign_in", self.kind.on_sign_in);
        self.ctx.flush();
        self.touch();
        if reply.send(attached).is_err() || refused {
            // The gate has given up meanwhile and will not say that the session ended.
            self.detach(session);
        }
    }

    fn detach(&mut self, session: SessionId) {
        if self.session != Some(session) {
            return;
        }
        self.session = None;
        self.hook("on_sign_out", self.kind.on_sign_out);
        self.ctx.detach();
        let now = Instant::now();
        self.saves.due = Some(now);
        self.linger_until = Some(now + self.host.settings().linger);
        self.set_timer();
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

    /// The state may have changed: it is written within the save interval.
    fn touch(&mut self) {
        if self.saves.due.is_none() {
            self.saves.due = Some(Instant::now() + self.host.settings().save_interval);
            self.set_timer();
        }
    }

    fn set_timer(&mut self) {
        let due = self.saves.due.filter(|_| self.saves.running.is_none());
        let Some(at) = due.into_iter().chain(self.linger_until).min() else {
            self.timer = None;
            return;
        };
        match &mut self.timer {
            Some(timer) if timer.deadline() == at && !timer.is_elapsed() => {}
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(sleep_until(at))),
        }
    }

    fn poll_wake(
        &mut self,
        cx: &mut Context<'_>,
        mail: &mut MailboxReceiver<Self>,
    ) -> Poll<Wake<S>> {
        if let Some(save) = &mut self.saves.running
            && let Poll::Ready(result) = save.as_mut().poll(cx)
        {
            return Poll::Ready(Wake::Saved(result));
        }
        if let Poll::Ready(signal) = mail.poll_recv(cx) {
            return Poll::Ready(Wake::Mail(signal));
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| Wake::Timer),
            None => Poll::Pending,
        }
    }

    /// Says whether the entity goes on.
    fn timer_fired(&mut self) -> bool {
        let now = Instant::now();
        if self.saves.running.is_none() && self.saves.due.is_some_and(|due| due <= now) {
            self.begin_save();
        }
        let idle = self.linger_until.is_some_and(|until| until <= now);
        if idle && self.saves.running.is_none() {
            return false;
        }
        if idle {
            // Stop once the save has ended.
            self.linger_until = Some(now + self.host.settings().save_interval);
        }
        self.set_timer();
        true
    }

    fn begin_save(&mut self) {
        self.saves.due = None;
        if let Some((bytes, hash)) = self.unsaved() {
            self.saves.writing = hash;
            self.saves.running = Some(Box::pin(self.ctx.write(bytes)));
        }
    }

    /// The state's bytes, unless they are in the store already.
    fn unsaved(&self) -> Option<(Vec<u8>, u64)> {
        match catch(|| (self.kind.save)(&self.state)) {
            Ok(bytes) => {
                let mut hasher = DefaultHasher::new();
                bytes.hash(&mut hasher);
                let hash = hasher.finish();
                (self.saves.written != Some(hash)).then_some((bytes, hash))
            }
            Err(panic) => {
                self.tell_panic("save", &panic);
                None
            }
        }
    }

    /// Takes note of a save that ended; says whether the entity goes on.
    fn saved(&mut self, result: Result<(), StoreError>) -> bool {
        self.saves.running = None;
        let go_on = match result {
            Ok(()) => {
                self.saves.written = Some(self.saves.writing);
                self.saves.failed = false;
                true
            }
            Err(StoreError::Unavailable(why)) => {
                if !std::mem::replace(&mut self.saves.failed, true) {
                    self.host.save_failed(&why);
                }
                self.saves.due = Some(Instant::now() + self.host.settings().save_interval);
                true
            }
            Err(StoreError::Fenced) => {
                let entity = self.ctx.entity();
                tracing::warn!(target: "entity", %entity, "another node runs it now: stopping");
                self.saves.due = None;
                self.saves.written = self.unsaved().map(|(_, hash)| hash);
                false
            }
        };
        self.set_timer();
        go_on
    }

    async fn save_last(&mut self) {
        if let Some(running) = self.saves.running.take()
            && running.await.is_ok()
        {
            self.saves.written = Some(self.saves.writing);
        }
        let Some((bytes, _)) = self.unsaved() else { return };
        if let Err(e) = self.ctx.write(bytes).await {
            let entity = self.ctx.entity();
            tracing::error!(target: "entity", %entity, "the last state is lost: {e}");
        }
    }
}

fn poll_call(
    call: &mut Calling<'_>,
    cx: &mut Context<'_>,
) -> Poll<Result<Result<(), Refusal>, Panic>> {
    match catch(|| call.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    }
}
