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

use kameo::{
    Actor,
    actor::{ActorRef, PreparedActor, WeakActorRef},
    error::ActorStopReason,
    mailbox::{self, MailboxReceiver, Signal},
};
use prost::Message as _;
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
    limits::{MAIL_PER_TURN_MAX, ROOM_LINGER},
    link::{
        Attach, Attached, Batch, ConnectionId, Entry, Mail, Mailbox, Mark, Requests, Seating,
        Secret, SessionId, SessionPort,
    },
    msg,
    proto::link::RoomRecord,
    store::{CacheError, StoreError},
    telemetry::RoomMeters,
    wire::{Code, Frame, Refusal},
};

/// How often a room looks whether its node may run it again.
const LEASE_LOOK: Duration = Duration::from_millis(100);

/// One room and everything it owns.
struct Life<R> {
    host: Arc<Host>,
    id: EntityId,
    claim: Claim,
    core: Core<R>,
    seats: Seats,
    mailbox: Mailbox,
    pace: Option<Pace>,
    keeper: Keeper,
    teller: Teller,
    /// What room centers were told last.
    told: Told,
    meters: Counted,
    /// Nobody is in it: it closes then.
    empty_until: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// How much mail was taken since the last tick, or since it was idle.
    streak: usize,
    /// The others of the shard are to have their turn.
    rests: bool,
    /// The last thing was a tick: the next is mail, if there is some.
    ticked: bool,
    end: End,
}

/// Why a room is over.
enum End {
    /// The node goes away, or may not run it any more.
    Stopped,
    /// Another node runs it.
    Fenced,
    Closed(String),
}

/// Everything that can wake a room; the order is the priority.
enum Wake {
    Kept(Result<(), StoreError>),
    Told(Result<(), CacheError>),
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
        self.refuse_mail();
        let fenced = self.keeper.finish().await == Err(StoreError::Fenced);
        if fenced && matches!(self.end, End::Stopped) {
            self.end = End::Fenced;
        }
        match &self.end {
            End::Closed(reason) => self.seats.clear(Code::ROOM_CLOSED, reason),
            End::Stopped if !self.keeper.is_saved() => {
                self.seats.clear(Code::ROOM_CLOSED, "its server went away");
            }
            End::Stopped | End::Fenced => {}
        }
        self.write_recording();
        self.put_down().await;
        self.host.release(&self.id, self.claim).await;
        self.host.stopped(&self.id);
        // Whoever is left looks for the room again, and it is free now.
        self.seats.clear(Code::NOT_CONNECTED, "the room's game server stopped");
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
    fn apply(&mut self, input: Input<'_>) -> Result<(), Refusal> {
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
        let due = [self.empty_until, self.seats.due(), self.keeper.due(), self.teller.due()];
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
        if self.empty_until.is_some_and(|until| until <= now) {
            self.end = End::Closed("nobody was in it".to_owned());
            return ControlFlow::Break(());
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

    // === Members ===

    fn attach(&mut self, Attach { arrival, reply }: Attach, now: Instant) {
        if reply.is_closed() {
            // The player has given up meanwhile.
            return;
        }
        let connection = arrival.connection;
        let attached = match arrival.entry {
            Entry::Seat(seating) => {
                self.sit(connection, arrival.account, arrival.port, &seating, now)
            }
            Entry::SignIn { .. } | Entry::Resume { .. } | Entry::Moved { .. } => {
                Err(Code::RESUME_REFUSED.into())
            }
        };
        if reply.send(attached).is_err() {
            self.gone(connection, now);
        }
    }

    /// A player takes a seat, or the one that it has.
    fn sit(
        &mut self,
        connection: ConnectionId,
        account: i64,
        port: SessionPort,
        seating: &Seating,
        now: Instant,
    ) -> Result<Attached, Refusal> {
        if !self.host.lease().holds(now) {
            // Another node may run this room by now.
            return Err(Code::NOT_CONNECTED.into());
        }
        let Seating { kind, room_id, name, joins } = seating;
        if (kind.as_str(), room_id.as_str()) != (self.id.kind, &self.id.key) {
            return Err(Code::ROOM_NOT_FOUND.into());
        }
        let had = self.core.seat_of(account);
        if had.is_none() && *joins {
            // Its words wait until it can hear them.
            let now_ms = self.host.world().clock.now_ms();
            let joined = self.core.apply(now_ms, Input::Join { account, name });
            joined.inspect_err(|_| self.seats.spread(self.core.said()))?;
            self.keeper.touch();
        }
        let seat = self.core.seat_of(account).ok_or(Code::NOT_IN_ROOM)?;
        self.seats.come(seat, connection, port);
        self.seats.spread(self.core.said());
        if had.is_some() {
            self.apply(Input::Back(seat))?;
        }
        let state = self.core.state(seat);
        if state.is_err() && had.is_none() {
            self.seats.leave(seat);
            // It has only just come.
            let _left = self.apply(Input::Leave(seat));
        }
        Ok(Attached {
            user: None,
            session: SessionId(0),
            secret: Secret(0),
            received: 0,
            sid: String::new(),
            state: state?,
        })
    }

    /// The way to a member is gone.
    fn gone(&mut self, connection: ConnectionId, now: Instant) {
        self.seats.gone(connection, now + self.host.sessions().resume_window);
    }

    fn requests(&mut self, requests: &Requests, now: Instant) {
        let Requests { connection, deadline, batch } = requests;
        if self.seats.of(*connection).is_none() {
            self.meters.0.stale_requests.increment(1);
            return;
        }
        if !self.host.lease().holds(now) {
            // Another node may run this room by now.
            return self.refuse_all(*connection, batch);
        }
        for (mark, frame) in batch.frames() {
            // It may lose its seat by what it says.
            let Some(seat) = self.seats.of(*connection) else { return };
            match mark {
                Mark::Request | Mark::Plain | Mark::Loose | Mark::Logout if now >= *deadline => {
                    // Work that is too late is not begun.
                    self.refuse(*connection, mark, frame, &Code::DEADLINE.into());
                }
                Mark::Request | Mark::Plain | Mark::Loose => {
                    let (api, payload) = (frame.api.as_str(), frame.payload);
                    if let Err(refusal) = self.apply(Input::Message { seat, mark, api, payload }) {
                        self.refuse(*connection, mark, frame, &refusal);
                    }
                }
                Mark::Refused | Mark::RefusedPlain | Mark::Fault => {
                    self.say(*connection, |answer| answer.push(mark.answered(), frame.bytes));
                }
                Mark::Logout => self.leave(*connection, frame),
                // Nobody says that to a room.
                Mark::Answer | Mark::Ping => {}
            }
        }
    }

    /// A member leaves for good, whatever room the message names: there is one to leave here.
    fn leave(&mut self, connection: ConnectionId, frame: Frame<'_>) {
        let Some(seat) = self.seats.of(connection) else { return };
        if let Err(e) = msg::leave_room::Req::decode(frame.payload) {
            let refusal = Code::UNDECODABLE.because(e.to_string());
            return self.refuse(connection, Mark::Logout, frame, &refusal);
        }
        self.say(connection, |answer| {
            let left = msg::leave_room::Res { code: Code::OK.0 };
            answer.push_message(Mark::Answer, &left).expect("it is small");
        });
        self.seats.leave(seat);
        // It had a seat a moment ago.
        let _left = self.apply(Input::Leave(seat));
    }

    /// Tells a member something of the connection's own.
    fn say(&mut self, connection: ConnectionId, what: impl FnOnce(&mut Batch)) {
        if let Some(seat) = self.seats.of(connection) {
            let mut frames = Batch::default();
            what(&mut frames);
            self.seats.say(seat, frames.frames());
        }
    }

    fn refuse(
        &mut self,
        connection: ConnectionId,
        mark: Mark,
        frame: Frame<'_>,
        refusal: &Refusal,
    ) {
        self.say(connection, |answer| {
            let api = frame.api.as_str();
            answer.push_error(mark.answered(), api, refusal.code, &refusal.message);
        });
    }

    fn refuse_all(&mut self, connection: ConnectionId, batch: &Batch) {
        let (refused, _) = batch.refused(Code::NOT_CONNECTED);
        self.say(connection, |answer| {
            let answers = refused.frames().filter(|(mark, _)| *mark != Mark::Ping);
            answers.for_each(|(mark, frame)| answer.push(mark.answered(), frame.bytes));
        });
    }

    /// Takes no more mail, and answers what was not taken.
    fn refuse_mail(&mut self) {
        for mail in self.mailbox.close() {
            match mail {
                Mail::Requests(Requests { connection, batch, .. }) => {
                    self.refuse_all(connection, &batch);
                }
                // An attach is answered by the drop of its reply: the caller tries again.
                Mail::Attach(_)
                | Mail::Detach(_)
                | Mail::Blocked(..)
                | Mail::End(..)
                | Mail::Push(_)
                | Mail::Stop => {}
            }
        }
        self.seats.send();
    }

    // === What it leaves behind ===

    fn keeping(
        &self,
        kept: Vec<u8>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let (world, id, epoch) = (self.host.world().clone(), self.id.clone(), self.claim.epoch);
        let now_ms = world.clock.now_ms();
        async move { world.store.save_record(id.kind, &id.key, epoch, kept, now_ms).await }
    }

    fn kept(&mut self, result: Result<(), StoreError>) -> ControlFlow<()> {
        match result {
            Ok(()) => {}
            Err(StoreError::Unavailable(why)) => {
                self.keeper.touch();
                self.host.save_failed(&why);
            }
            Err(StoreError::Fenced) => {
                tracing::warn!(target: "room", room = %self.id, "another node runs it now: stopping");
                self.end = End::Fenced;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// What room centers are told.
    fn record(&self) -> RoomRecord {
        let ctx = self.core.ctx();
        let (node, incarnation) = self.host.me();
        RoomRecord {
            room_id: self.id.key.to_string(),
            kind: self.id.kind.to_owned(),
            node: node.to_owned(),
            incarnation,
            capacity: ctx.capacity(),
            locked: self.told.locked,
            private: ctx.options().get("private").is_some_and(|private| private == "1"),
            options: ctx.options().clone().into_iter().collect(),
            info: self.told.info.clone().into_iter().collect(),
            members: ctx.members().map(|member| member.account).collect(),
            reserved: Vec::new(),
            opening_until_ms: 0,
            saved: self.keeper.is_saved(),
        }
    }

    fn was_told(&mut self, result: Result<(), CacheError>, now: Instant) -> ControlFlow<()> {
        if let Err(e) = result {
            tracing::debug!(target: "room", room = %self.id, "the room centers are not told: {e}");
            self.teller.failed(now);
        }
        ControlFlow::Continue(())
    }

    /// The last of the room at this node: it is kept, or nowhere any more.
    async fn put_down(&mut self) {
        self.teller.finish().await;
        let (world, book) = (self.host.world().clone(), self.host.book().clone());
        let is_over = match self.end {
            End::Fenced => return,
            End::Closed(_) => true,
            End::Stopped => !self.keeper.is_saved(),
        };
        if is_over {
            let EntityId { kind, key } = &self.id;
            if self.keeper.is_saved()
                && let Err(e) = world.store.delete_record(kind, key, self.claim.epoch).await
            {
                tracing::warn!(target: "room", room = %self.id, "it may come back although it is closed: {e}");
            }
            let mut closed = book.closed(kind, key).await;
            if closed.is_err() {
                closed = book.closed(kind, key).await;
            }
            if let Err(e) = closed {
                tracing::debug!(target: "room", room = %self.id, "the room centers take it for open: {e}");
            }
        } else if let Some(kept) = self.core.kept()
            && let Err(e) = self.keeping(kept).await
            // Whoever runs it by now has a later one.
            && e != StoreError::Fenced
        {
            tracing::error!(target: "room", room = %self.id, "what happened since it was kept is lost: {e}");
        }
    }

    fn write_recording(&mut self) {
        let Some(recorder) = self.core.recording() else { return };
        let id = self.id.clone();
        self.host.world().tasks.spawn(async move {
            match tokio::task::spawn_blocking(move || recorder.write()).await {
                Ok(Ok(path)) => {
                    tracing::info!(target: "room", room = %id, path = %path.display(), "recorded");
                }
                Ok(Err(e)) => {
                    tracing::warn!(target: "room", room = %id, "not recorded, see `rooms.record`: {e}");
                }
                Err(e) => tracing::error!(target: "room", room = %id, "not recorded: {e}"),
            }
        });
    }
}

impl<R> Drop for Life<R> {
    /// However it ended, nobody waits for it.
    fn drop(&mut self) {
        drop(self.mailbox.close());
    }
}

/// A room among those that the meters count, until it is dropped.
struct Counted(RoomMeters, usize);

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
