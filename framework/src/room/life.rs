//! Owns the life of one room: a kameo actor that takes its mail, ticks, tells its members what the
//! room says, and closes when nobody needs it. What happens in the room is its core's.

use std::{
    convert::Infallible,
    future::poll_fn,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use kameo::{
    Actor,
    actor::{ActorRef, PreparedActor, WeakActorRef},
    error::ActorStopReason,
    mailbox::{self, MailboxReceiver, Signal},
};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Room, RoomKind,
    context::Told,
    core::{Core, Input},
    pace::Pace,
    seats::Seats,
    upkeep::{Keeper, Teller},
};
use crate::{
    directory::Claim,
    entity::{EntityId, Host},
    limits::{MAIL_PER_TURN_MAX, ROOM_LINGER, ROOM_TOLD},
    link::{Mail, Mailbox},
    store::{CacheError, StoreError},
    telemetry::RoomMeters,
    wire::{Code, Refusal},
};

/// How often a room looks whether its node may run it again.
const LEASE_LOOK: Duration = Duration::from_millis(100);

/// One room and everything it owns.
pub(super) struct Life<R> {
    pub(super) host: Arc<Host>,
    pub(super) id: EntityId,
    pub(super) claim: Claim,
    pub(super) core: Core<R>,
    pub(super) seats: Seats,
    pub(super) mailbox: Mailbox,
    pub(super) pace: Option<Pace>,
    pub(super) keeper: Keeper,
    pub(super) teller: Teller,
    /// What room centers were told last.
    pub(super) told: Told,
    pub(super) meters: Counted,
    /// Nobody is in it: it closes then.
    pub(super) empty_until: Option<Instant>,
    /// Whether it may is being asked.
    closing: Option<BoxFuture<'static, Result<bool, CacheError>>>,
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    /// How much mail was taken since the last tick, or since it was idle.
    pub(super) streak: usize,
    /// The others of the shard are to have their turn.
    pub(super) rests: bool,
    /// The last thing was a tick: the next is mail, if there is some.
    pub(super) ticked: bool,
    pub(super) end: End,
}

/// Why a room is over.
pub(super) enum End {
    /// The node goes away, or may not run it any more.
    Stopped,
    /// Another node runs it.
    Fenced,
    Closed(String),
}

/// Everything that can wake a room; the order is the priority.
enum Wake {
    Kept(Result<(), StoreError>),
    Told(Result<bool, CacheError>),
    Unused(Result<bool, CacheError>),
    Tick,
    Timer,
    Mail(Mail),
}

/// Sets a room going, on the caller's shard.
pub(super) fn begin<R: Room>(
    core: Core<R>,
    kind: &RoomKind<R>,
    host: &Arc<Host>,
    id: EntityId,
    claim: Claim,
) -> Mailbox {
    let (now, mailbox) = (Instant::now(), Mailbox::default());
    let until = now + host.sessions().resume_window;
    let mut life = Life {
        pace: Pace::new(kind.ticks_per_s, kind.overrun, now, host.world().chance.next_u64()),
        keeper: Keeper::new(kind.snapshot_every, now),
        meters: Counted::new(&host.meters().room),
        seats: Seats::vacant(core.ctx().seats(), until),
        told: core.ctx().told().clone(),
        host: host.clone(),
        mailbox: mailbox.clone(),
        teller: Teller::default(),
        empty_until: None,
        closing: None,
        timer: None,
        streak: 0,
        rests: false,
        ticked: false,
        end: End::Stopped,
        id,
        claim,
        core,
    };
    life.teller.news(now);
    // Its mail comes through a mailbox of ours: kameo's own has nothing to hold.
    let prepared = PreparedActor::<Life<R>>::new(mailbox::bounded(1));
    host.world().tasks.spawn(async move {
        if let Err(panic) = prepared.run(life).await {
            tracing::error!(target: "room", "a room failed to start: {panic}");
        }
    });
    mailbox
}

impl<R: Room> Actor for Life<R> {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(mut life: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        life.after(Instant::now());
        Ok(life)
    }

    /// Lives. What kameo would have for it is nothing.
    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        _: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        loop {
            if let Some(reason) = self.core.ctx().closing() {
                self.end = End::Closed(reason.to_owned());
                return Ok(None);
            }
            let wake = poll_fn(|cx| self.poll_wake(cx)).await;
            let now = Instant::now();
            let goes_on = match wake {
                Wake::Mail(mail) => self.take(mail, now),
                Wake::Unused(result) => self.may_close(result, now),
                Wake::Tick => self.tick(now),
                Wake::Timer => self.chores(now),
                Wake::Kept(result) => self.kept(result),
                Wake::Told(result) => self.was_told(result, now),
            };
            if goes_on.is_break() {
                return Ok(None);
            }
            self.after(now);
            if std::mem::take(&mut self.rests) {
                self.seats.send();
                tokio::task::yield_now().await;
            }
        }
    }

    async fn on_stop(
        &mut self,
        _: WeakActorRef<Self>,
        _: ActorStopReason,
    ) -> Result<(), Infallible> {
        self.host.stopping(&self.id);
        let fenced = self.keeper.finish().await == Err(StoreError::Fenced);
        if fenced && matches!(self.end, End::Stopped) {
            self.end = End::Fenced;
        }
        // Before its members hear of it: whoever then asks for a room is not sent to this one.
        self.put_down().await;
        match &self.end {
            End::Closed(reason) => self.seats.clear(Code::ROOM_CLOSED, reason),
            End::Stopped if !self.keeper.is_saved() => {
                self.seats.clear(Code::ROOM_CLOSED, "its server went away");
            }
            End::Stopped | End::Fenced => {}
        }
        // After them: to a mailbox that is closed the way is lost, and whoever waits for an answer
        // would never know whether it was done.
        self.refuse_mail();
        self.write_recording();
        self.host.release(&self.id, self.claim).await;
        // Whoever is left looks for the room again, and it is free now.
        self.seats.clear(Code::NOT_CONNECTED, "the room's game server stopped");
        if matches!(self.end, End::Stopped) && self.keeper.is_saved() {
            self.move_on().await;
        }
        self.host.stopped(&self.id);
        Ok(())
    }
}

impl<R: Room> Life<R> {
    // === What wakes it ===

    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if let Poll::Ready(result) = self.keeper.poll(cx) {
            return Poll::Ready(Wake::Kept(result));
        }
        if let Poll::Ready(result) = self.teller.poll(cx) {
            return Poll::Ready(Wake::Told(result));
        }
        if let Some(closing) = &mut self.closing
            && let Poll::Ready(result) = closing.as_mut().poll(cx)
        {
            return Poll::Ready(Wake::Unused(result));
        }
        // A room whose ticks take too long still hears its members.
        if !self.ticked && self.poll_tick(cx).is_ready() {
            return Poll::Ready(Wake::Tick);
        }
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            self.timer = None;
            return Poll::Ready(Wake::Timer);
        }
        if let Poll::Ready(mail) = self.mailbox.poll_take(cx) {
            return Poll::Ready(Wake::Mail(mail));
        }
        self.seats.send();
        self.streak = 0;
        if std::mem::take(&mut self.ticked) && self.poll_tick(cx).is_ready() {
            return Poll::Ready(Wake::Tick);
        }
        Poll::Pending
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.pace.as_mut().map_or(Poll::Pending, |pace| pace.poll_due(cx))
    }

    fn tick(&mut self, now: Instant) -> ControlFlow<()> {
        (self.ticked, self.streak) = (true, 0);
        let may_run = self.host.lease().holds(now);
        let Some(pace) = &mut self.pace else { return ControlFlow::Continue(()) };
        if !may_run {
            pace.pass(now);
            return ControlFlow::Continue(());
        }
        let tick = pace.begin(now);
        let RoomMeters { tick_seconds, ticks_late, ticks_left_out, .. } = &self.meters.0;
        let tick_seconds = tick_seconds.clone();
        ticks_late.increment(u64::from(tick.late));
        ticks_left_out.increment(tick.left_out);
        // A tick is never refused but by a room that is over.
        let _done = self.apply(Input::Tick(tick.dt));
        tick_seconds.record(now.elapsed());
        // The others of the shard are late too.
        self.rests = tick.late;
        ControlFlow::Continue(())
    }

    /// Something happens in the room, and what it says to it is put where it belongs.
    pub(super) fn apply(&mut self, input: Input<'_>) -> Result<(), Refusal> {
        let done = self.core.apply(self.host.world().clock.now_ms(), input);
        self.seats.spread(self.core.said());
        self.keeper.touch();
        done
    }

    fn take(&mut self, mail: Mail, now: Instant) -> ControlFlow<()> {
        self.streak += 1;
        if self.streak >= MAIL_PER_TURN_MAX {
            (self.streak, self.ticked, self.rests) = (0, false, true);
        }
        match mail {
            Mail::Requests(requests) => self.requests(&requests, now),
            Mail::Attach(attach) => self.attach(attach, now),
            Mail::Detach(connection) => self.gone(connection, now),
            Mail::Blocked(connection, blocked) => self.seats.turn(connection, !blocked),
            Mail::End(_, reply) => {
                // Who asked may have given up; a room has no sessions.
                let _heard = reply.send(false);
            }
            // It has no client of its own.
            Mail::Push(_) => {}
            Mail::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// What follows from whatever happened.
    fn after(&mut self, now: Instant) {
        if self.host.lease().holds(now) {
            while let Some((seat, present)) = self.seats.next_turned() {
                let input = if present { Input::Back(seat) } else { Input::Away(seat) };
                if self.core.ctx().member(seat).is_some_and(|member| member.away == present) {
                    // The member is there.
                    let _done = self.apply(input);
                }
            }
        }
        if *self.core.ctx().told() != self.told {
            self.told = self.core.ctx().told().clone();
            self.teller.news(now);
        }
        let members = self.core.ctx().members().len();
        self.meters.set_members(members);
        self.empty_until = match members {
            0 => self.empty_until.or(Some(now + ROOM_LINGER)),
            _ => None,
        };
        self.set_timer(now);
    }

    fn set_timer(&mut self, now: Instant) {
        let empty = self.empty_until.filter(|_| self.closing.is_none());
        let due = [empty, self.seats.due(), self.keeper.due(), self.teller.due()];
        let turned = self.seats.is_turned().then_some(now);
        let Some(at) = due.into_iter().flatten().chain(turned).min() else {
            self.timer = None;
            return;
        };
        let waits = at <= now && !self.host.lease().holds(now);
        let at = if waits { now + LEASE_LOOK } else { at };
        match &mut self.timer {
            Some(timer) if timer.deadline() == at => {}
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(sleep_until(at))),
        }
    }

    /// It may close, or somebody has a ticket for it, or nobody knows.
    fn may_close(&mut self, result: Result<bool, CacheError>, now: Instant) -> ControlFlow<()> {
        self.closing = None;
        let later = match result {
            Ok(true) if self.core.ctx().members().len() == 0 => {
                self.end = End::Closed("nobody was in it".to_owned());
                return ControlFlow::Break(());
            }
            // Somebody has come meanwhile: it is in no list any more.
            Ok(true) => {
                self.teller.news(now);
                return ControlFlow::Continue(());
            }
            Ok(false) => ROOM_LINGER,
            Err(_away) => ROOM_TOLD.1,
        };
        self.empty_until = self.empty_until.map(|_| now + later);
        ControlFlow::Continue(())
    }

    /// Does what is due, if this node may still run the room.
    fn chores(&mut self, now: Instant) -> ControlFlow<()> {
        if !self.host.lease().holds(now) {
            return ControlFlow::Continue(());
        }
        for seat in self.seats.overdue(now) {
            self.seats.leave(seat);
            // It may have lost its seat already.
            let _left = self.apply(Input::Leave(seat));
        }
        if self.empty_until.is_some_and(|until| until <= now) && self.closing.is_none() {
            let (book, EntityId { kind, key }) = (self.host.book().clone(), self.id.clone());
            let epoch = self.claim.epoch;
            let closing = async move { book.closed_unused(kind, &key, epoch).await };
            self.closing = Some(Box::pin(closing));
        }
        if self.keeper.is_due(now) {
            let kept = self.core.kept().map(|kept| self.keeping(kept));
            self.keeper.begin(now, kept);
        }
        if self.teller.is_due(now) {
            let (book, record) = (self.host.book().clone(), self.record());
            self.teller.begin(now, async move { book.report(record).await });
        }
        ControlFlow::Continue(())
    }
}

impl<R> Drop for Life<R> {
    /// However it ended, nobody waits for it.
    fn drop(&mut self) {
        drop(self.mailbox.close());
    }
}

/// A room among those that the meters count, until it is dropped.
pub(super) struct Counted(pub(super) RoomMeters, usize);

impl Counted {
    fn new(meters: &RoomMeters) -> Self {
        meters.running.increment(1);
        Self(meters.clone(), 0)
    }

    fn set_members(&mut self, members: usize) {
        if members != self.1 {
            self.0.members.increment(members as f64 - self.1 as f64);
            self.1 = members;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running.decrement(1);
        self.0.members.decrement(self.1 as f64);
    }
}
