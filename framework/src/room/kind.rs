//! Owns what a studio writes for its rooms: what happens in one, and what all of a kind have.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use super::{
    Member, Recording, ReplayError, Replayed, RoomCtx, context::Setting, core::Core, life,
    record::Recorder, table::Table,
};
use crate::{
    Code, LoadError, Refusal, Request,
    directory::Claim,
    entity::{Classes, EntityId, Host},
    limits::{ROOM_CAPACITY_MAX, ROOM_TICKS_PER_S_MAX},
    link::Mailbox,
};

/// The state of one room, and what happens in it.
///
/// Nothing here is `async`, and time, chance and members come from the context alone: the same
/// room, given the same, does the same, so that a recorded match can be replayed. One method is
/// required.
pub trait Room: Sized + Send + 'static {
    /// Makes a new room; its options are those of whoever asked for it.
    ///
    /// # Errors
    /// When the options make no sense; whoever asked for the room is told.
    fn open(ctx: &mut RoomCtx) -> Result<Self, Refusal>;

    /// Somebody takes a seat; it is among the members already.
    ///
    /// # Errors
    /// When it may not; the client is told, and nothing has happened.
    fn on_join(&mut self, member: &Member, ctx: &mut RoomCtx) -> Result<(), Refusal> {
        let _ = (member, ctx);
        Ok(())
    }

    /// What whoever takes a seat, also one it had before, is told of the room
    /// (`msg.JoinRoom.Res.state`).
    fn state(&self, member: &Member, ctx: &RoomCtx) -> Vec<u8> {
        let _ = (member, ctx);
        Vec::new()
    }

    /// Somebody has left; it is no longer among the members.
    fn on_leave(&mut self, member: &Member, ctx: &mut RoomCtx) {
        let _ = (member, ctx);
    }

    /// A member's client has no connection.
    fn on_away(&mut self, member: &Member, ctx: &mut RoomCtx) {
        let _ = (member, ctx);
    }

    /// A member's client is back, perhaps after a new sign-in.
    fn on_back(&mut self, member: &Member, ctx: &mut RoomCtx) {
        let _ = (member, ctx);
    }

    /// Time has passed since the last tick: always the same span, but where late ticks are
    /// skipped.
    fn on_tick(&mut self, dt: Duration, ctx: &mut RoomCtx) {
        let _ = (dt, ctx);
    }

    /// The whole state as bytes: what a room comes back from when its server is lost, and what
    /// the hash of a replayed match is taken of.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Makes the room from what was saved; its members are in the context, all of them away.
    ///
    /// # Errors
    /// When the bytes cannot be understood.
    fn restore(saved: &[u8], ctx: &mut RoomCtx) -> Result<Self, LoadError> {
        let _ = (saved, ctx);
        Err(LoadError::new("this kind of room cannot come back"))
    }
}

/// What becomes of ticks that come too late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overrun {
    /// They are left out: the next tick is told how much time has passed.
    #[default]
    Skip,
    /// They are made up for, one after the other, each with its own span: at most a second of
    /// them, the rest is left out.
    CatchUp,
}

/// A kind of rooms: its name, its handlers, and what all of them have.
pub struct RoomKind<R> {
    pub(super) name: &'static str,
    pub(super) capacity: u32,
    pub(super) match_size: u32,
    pub(super) ticks_per_s: u32,
    pub(super) overrun: Overrun,
    pub(super) snapshot_every: Option<Duration>,
    pub(super) recorded: bool,
    /// Shared once there are rooms.
    pub(super) table: Arc<Table<R>>,
}

impl<R: Room> RoomKind<R> {
    /// Rooms of up to 16 members that do not tick.
    ///
    /// # Panics
    /// When the name is not 1 to 32 lower-case letters, digits and `-`.
    pub fn new(name: &'static str) -> Self {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let is_name = (1..=32).contains(&name.len()) && name.bytes().all(plain);
        assert!(is_name, "a kind of rooms named {name:?}: choose 1 to 32 of a-z, 0-9 and '-'");
        Self {
            name,
            capacity: 16,
            match_size: 2,
            ticks_per_s: 0,
            overrun: Overrun::default(),
            snapshot_every: None,
            recorded: false,
            table: Arc::new(Table::new()),
        }
    }

    /// Seats in one room, at most 10,000.
    ///
    /// # Panics
    /// When there is none, or more.
    #[must_use]
    pub fn capacity(mut self, seats: u32) -> Self {
        let fits = (1..=ROOM_CAPACITY_MAX).contains(&seats);
        assert!(fits, "{seats} seats in a room: choose 1 to {ROOM_CAPACITY_MAX}");
        self.capacity = seats;
        self
    }

    /// Members that a match begins with (`msg.MatchRoom`), 2 if nothing is said: where parties do
    /// not fit, some more, up to the capacity.
    #[must_use]
    pub fn match_size(mut self, members: u32) -> Self {
        self.match_size = members;
        self
    }

    /// Ticks a second, at most 1000.
    ///
    /// # Panics
    /// When they are more.
    #[must_use]
    pub fn ticks(mut self, per_s: u32) -> Self {
        let fits = per_s <= ROOM_TICKS_PER_S_MAX;
        assert!(fits, "{per_s} ticks a second: choose at most {ROOM_TICKS_PER_S_MAX}");
        self.ticks_per_s = per_s;
        self
    }

    /// What becomes of ticks that come too late.
    #[must_use]
    pub fn overrun(mut self, policy: Overrun) -> Self {
        self.overrun = policy;
        self
    }

    /// A room of this kind is saved so often, and comes back elsewhere when its server is lost.
    ///
    /// # Panics
    /// When that is no time at all.
    #[must_use]
    pub fn snapshots(mut self, every: Duration) -> Self {
        assert!(!every.is_zero(), "snapshots every 0 s: choose more");
        self.snapshot_every = Some(every);
        self
    }

    /// What happens in a room of this kind is recorded, where `rooms.record` says so: `replay`
    /// lets it happen again.
    #[must_use]
    pub fn recorded(mut self) -> Self {
        self.recorded = true;
        self
    }

    /// Adds a handler: a `fn(&mut R, Q, &Member, &mut RoomCtx) -> Result<Q::Res, E>`. Its
    /// request's type says which messages it gets; they come from members only.
    ///
    /// # Panics
    /// When there is a handler for these messages already.
    #[must_use]
    pub fn on<Q, H>(mut self, handler: H) -> Self
    where
        Q: Request,
        H: RoomHandler<R, Q>,
    {
        let table = Arc::get_mut(&mut self.table);
        table.expect("no room has it while it is declared").on(handler);
        self
    }
}

/// A function that answers one kind of request of a room's members.
///
/// Implemented for every `fn(&mut R, Q, &Member, &mut RoomCtx) -> Result<Q::Res, E>` whose error
/// becomes a [`Refusal`]. An input without `Req` is answered with `()`.
pub trait RoomHandler<R, Q: Request>: Send + Sync + 'static {
    /// Why it may refuse.
    type Error: Into<Refusal>;

    /// Calls it.
    ///
    /// # Errors
    /// Its own.
    fn call(
        &self,
        room: &mut R,
        request: Q,
        member: &Member,
        ctx: &mut RoomCtx,
    ) -> Result<Q::Res, Self::Error>;
}

impl<R, Q, E, F> RoomHandler<R, Q> for F
where
    Q: Request,
    E: Into<Refusal>,
    F: Fn(&mut R, Q, &Member, &mut RoomCtx) -> Result<Q::Res, E> + Send + Sync + 'static,
{
    type Error = E;

    fn call(
        &self,
        room: &mut R,
        request: Q,
        member: &Member,
        ctx: &mut RoomCtx,
    ) -> Result<Q::Res, E> {
        self(room, request, member, ctx)
    }
}

/// A kind of rooms whose state's type does not matter.
pub(crate) trait AnyRoomKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn capacity(&self) -> u32;
    /// Members that a match begins with.
    fn match_size(&self) -> u32;
    /// Whether its rooms come back when their server is lost.
    fn is_saved(&self) -> bool;
    fn apis(&self) -> Vec<String>;
    /// What describes its messages.
    fn schemas(&self) -> &[&'static [u8]];
    /// Lets what was recorded happen again.
    fn replay(&self, recording: &Recording) -> Result<Replayed, ReplayError>;
    /// Makes a room and sets it going, on the caller's shard.
    ///
    /// # Errors
    /// What its kind says; 1 when it panicked, or does not understand what it saved.
    fn open(self: Arc<Self>, opening: Opening) -> Result<Mailbox, Refusal>;
}

/// What a room is opened with.
pub(crate) struct Opening {
    pub(crate) host: Arc<Host>,
    pub(crate) id: EntityId,
    pub(crate) claim: Claim,
    pub(crate) options: BTreeMap<String, String>,
    /// What it saved before; `None`: it is new.
    pub(crate) saved: Option<Vec<u8>>,
    pub(crate) classes: Arc<Classes>,
}

impl<R: Room> AnyRoomKind for RoomKind<R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn match_size(&self) -> u32 {
        self.match_size
    }

    fn is_saved(&self) -> bool {
        self.snapshot_every.is_some()
    }

    fn apis(&self) -> Vec<String> {
        self.table.names().iter().map(|name| (*name).to_owned()).collect()
    }

    fn schemas(&self) -> &[&'static [u8]] {
        self.table.schemas()
    }

    fn replay(&self, recording: &Recording) -> Result<Replayed, ReplayError> {
        Self::replay(self, recording)
    }

    fn open(self: Arc<Self>, opening: Opening) -> Result<Mailbox, Refusal> {
        let Opening { host, id, claim, options, saved, classes } = opening;
        let saved = saved.filter(|saved| !saved.is_empty());
        let (world, meters) = (host.world(), &host.meters().room);
        let mut seed = [0; 32];
        for part in seed.chunks_exact_mut(8) {
            part.copy_from_slice(&world.chance.next_u64().to_le_bytes());
        }
        let setting = Setting {
            id: id.key.clone(),
            options,
            capacity: self.capacity,
            seed,
            now_ms: world.clock.now_ms(),
            classes,
        };
        let recorder = host.recordings().filter(|_| self.recorded).map(|folder| {
            let cuts = meters.recordings_cut.clone();
            Recorder::new(self.name, &setting, saved.as_deref(), folder, cuts)
        });
        let (table, panics) = (self.table.clone(), meters.panics.clone());
        let mut core = match &saved {
            None => Core::open(table, setting, panics)?,
            Some(saved) => Core::restore(table, setting, saved, panics).map_err(|e| {
                tracing::error!(target: "room", room = %id, "{e}");
                Code::INTERNAL.because("the room cannot come back")
            })?,
        };
        if let Some(recorder) = recorder {
            core.record(recorder);
        }
        Ok(life::begin(core, &self, &host, id, claim))
    }
}

impl<R> fmt::Debug for RoomKind<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomKind").field("name", &self.name).finish_non_exhaustive()
    }
}
