//! Owns what a room is: what a studio made of it, and what happens to that, one input after the
//! other. Nothing here waits or looks at a clock: the same inputs give the same room and the same
//! words. Leaves connections, timers and the store to the room's life.

use std::{sync::Arc, time::Duration};

use metrics::Counter;
use prost::Message as _;
use ring::digest::{SHA256, digest};

use super::{
    Member, Room, RoomCtx, Seat, context::Setting, record::Recorder, said::Said, table::Table,
};
use crate::{
    LoadError,
    limits::ROOM_STATE_BYTES_MAX,
    link::Mark,
    proto::link as proto,
    telemetry::{Panic, catch},
    wire::{Code, Refusal},
};

/// A room without what is around it.
pub(super) struct Core<R> {
    table: Arc<Table<R>>,
    room: R,
    ctx: RoomCtx,
    recorder: Option<Recorder>,
    panics: Counter,
}

/// What can happen to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input<'a> {
    Join { account: i64, name: &'a str },
    Leave(Seat),
    Away(Seat),
    Back(Seat),
    Message { seat: Seat, mark: Mark, api: &'a str, payload: &'a [u8] },
    Tick(Duration),
}

impl<R: Room> Core<R> {
    /// A new room.
    ///
    /// # Errors
    /// What its kind says; 1 when it panicked.
    pub(super) fn open(
        table: Arc<Table<R>>,
        setting: Setting,
        panics: Counter,
    ) -> Result<Self, Refusal> {
        let mut ctx = RoomCtx::new(setting);
        let room = catch(|| R::open(&mut ctx)).unwrap_or_else(|panic| {
            tell_panic(ctx.id(), "open", &panic, &panics);
            Err(Code::INTERNAL.into())
        })?;
        Ok(Self { table, room, ctx, recorder: None, panics })
    }

    /// A room that was kept.
    ///
    /// # Errors
    /// When what was kept cannot be understood.
    pub(super) fn restore(
        table: Arc<Table<R>>,
        setting: Setting,
        kept: &[u8],
        panics: Counter,
    ) -> Result<Self, LoadError> {
        let kept = proto::KeptRoom::decode(kept)?;
        let mut ctx = RoomCtx::restored(&kept, setting)?;
        let room = catch(|| R::restore(&kept.state, &mut ctx))
            .unwrap_or_else(|Panic(text)| Err(LoadError::new(format!("panicked: {text}"))))?;
        Ok(Self { table, room, ctx, recorder: None, panics })
    }

    /// From now on what happens is noted.
    pub(super) fn record(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// Something happens, at a time of day in ms. What the room says to it lies in
    /// [`Core::said`] then.
    ///
    /// # Errors
    /// Why nobody took a seat, or none did anything: the room is full (3002) or closed (3007),
    /// there is no such member (3006), or what its kind says. What a message is refused for is
    /// said to its member.
    pub(super) fn apply(&mut self, now_ms: i64, input: Input<'_>) -> Result<(), Refusal> {
        if self.ctx.closing().is_some() {
            return Err(Code::ROOM_CLOSED.into());
        }
        self.note(now_ms, input);
        self.ctx.begin(now_ms);
        let done = match input {
            Input::Join { account, name } => self.join(account, name),
            Input::Leave(seat) => self.leave(seat),
            Input::Away(seat) => self.turn(seat, true),
            Input::Back(seat) => self.turn(seat, false),
            Input::Message { seat, mark, api, payload } => self.message(seat, mark, api, payload),
            Input::Tick(dt) => {
                self.tick(dt);
                Ok(())
            }
        };
        self.settle();
        done
    }

    fn join(&mut self, account: i64, name: &str) -> Result<(), Refusal> {
        if self.seat_of(account).is_some() {
            return Err(Code::ALREADY_IN_ROOM.into());
        }
        if self.ctx.members().len() >= self.ctx.capacity() as usize {
            return Err(Code::ROOM_FULL.into());
        }
        let before = self.ctx.before();
        let member = self.ctx.seat(account, name);
        let Self { room, ctx, .. } = self;
        let joined = catch(|| room.on_join(&member, ctx)).unwrap_or_else(|panic| {
            self.tell_panic("on_join", &panic);
            Err(Code::INTERNAL.into())
        });
        if joined.is_err() {
            self.ctx.unseat(member.seat);
            self.ctx.take_back(before);
        }
        joined
    }

    fn leave(&mut self, seat: Seat) -> Result<(), Refusal> {
        let member = self.ctx.unseat(seat).ok_or(Code::NOT_IN_ROOM)?;
        self.hook("on_leave", R::on_leave, &member);
        Ok(())
    }

    fn turn(&mut self, seat: Seat, away: bool) -> Result<(), Refusal> {
        let member = self.ctx.set_away(seat, away).ok_or(Code::NOT_IN_ROOM)?;
        if away {
            self.hook("on_away", R::on_away, &member);
        } else {
            self.hook("on_back", R::on_back, &member);
        }
        Ok(())
    }

    fn message(
        &mut self,
        seat: Seat,
        mark: Mark,
        api: &str,
        payload: &[u8],
    ) -> Result<(), Refusal> {
        let member = self.ctx.shared(seat).ok_or(Code::NOT_IN_ROOM)?;
        let Self { table, room, ctx, .. } = self;
        let done = catch(|| table.call(api, room, mark, payload, &member, ctx));
        let done = done.unwrap_or_else(|panic| {
            self.tell_panic(api, &panic);
            Err(Code::INTERNAL.into())
        });
        if let Err(refusal) = done {
            self.ctx.said.refusal(seat, mark, api, &refusal);
        }
        Ok(())
    }

    /// A tick that panics ends the room: it would do so again, many times a second.
    fn tick(&mut self, dt: Duration) {
        self.ctx.begin_tick();
        let Self { room, ctx, .. } = self;
        if let Err(panic) = catch(|| room.on_tick(dt, ctx)) {
            self.tell_panic("on_tick", &panic);
            self.ctx.close("the room is broken");
        }
    }

    /// Who was to lose its seat loses it.
    fn settle(&mut self) {
        while let Some((seat, code, reason)) = self.ctx.next_leaving() {
            // It may have left by itself.
            if let Some(member) = self.ctx.unseat(seat) {
                self.ctx.said.lost(seat, code, reason);
                self.hook("on_leave", R::on_leave, &member);
            }
        }
    }

    fn hook(&mut self, name: &str, hook: fn(&mut R, &Member, &mut RoomCtx), member: &Member) {
        let Self { room, ctx, .. } = self;
        if let Err(panic) = catch(|| hook(room, member, ctx)) {
            self.tell_panic(name, &panic);
        }
    }

    /// What a member is told of the room.
    ///
    /// # Errors
    /// 1 when its kind panics, or tells more than a frame holds; 3006 when there is no such member.
    pub(super) fn state(&self, seat: Seat) -> Result<Vec<u8>, Refusal> {
        let member = self.ctx.member(seat).ok_or(Code::NOT_IN_ROOM)?;
        let state = catch(|| self.room.state(member, &self.ctx)).map_err(|panic| {
            self.tell_panic("state", &panic);
            Code::INTERNAL
        })?;
        if state.len() > ROOM_STATE_BYTES_MAX {
            let (room, bytes) = (self.ctx.id(), state.len());
            tracing::error!(target: "room", room, bytes, "`state` is too large to join with");
            return Err(Code::INTERNAL.into());
        }
        Ok(state)
    }

    /// The room as its kind saves it; `None` when that panics.
    pub(super) fn save(&self) -> Option<Vec<u8>> {
        catch(|| self.room.save()).inspect_err(|panic| self.tell_panic("save", panic)).ok()
    }

    /// What the room can be restored from.
    pub(super) fn kept(&self) -> Option<Vec<u8>> {
        Some(self.ctx.kept(self.save()?).encode_to_vec())
    }

    /// Whether what was saved tells this room from another.
    pub(super) fn hash(&self) -> Option<Vec<u8>> {
        Some(digest(&SHA256, &self.save()?).as_ref().to_vec())
    }

    /// What was said since the caller cleared it.
    pub(super) fn said(&mut self) -> &mut Said {
        &mut self.ctx.said
    }

    pub(super) fn seat_of(&self, account: i64) -> Option<Seat> {
        self.ctx.members().find(|member| member.account == account).map(|member| member.seat)
    }

    pub(super) fn ctx(&self) -> &RoomCtx {
        &self.ctx
    }

    // === Recording ===

    fn note(&mut self, now_ms: i64, input: Input<'_>) {
        let Some(recorder) = &mut self.recorder else { return };
        if recorder.note(now_ms, input) {
            return;
        }
        // It does not fit: the recording ends before it.
        if let Some(mut full) = self.recorder.take_if(|recorder| !recorder.is_over()) {
            full.end(self.hash(), true);
            self.recorder = Some(full);
        }
    }

    /// The recording, if there is one: it ends here.
    pub(super) fn recording(&mut self) -> Option<Recorder> {
        let mut recorder = self.recorder.take()?;
        if !recorder.is_over() {
            recorder.end(self.hash(), false);
        }
        Some(recorder)
    }

    fn tell_panic(&self, what: &str, panic: &Panic) {
        tell_panic(self.ctx.id(), what, panic, &self.panics);
    }
}

/// One line for the operator: what of the studio's panicked, and where.
fn tell_panic(room: &str, what: &str, Panic(text): &Panic, panics: &Counter) {
    panics.increment(1);
    tracing::error!(target: "room", api = what, room, "panicked: {text}");
}
