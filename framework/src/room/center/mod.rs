//! Owns the role `rooms`: which room an account gets a seat in, and at which node it runs; who
//! plays with whom; rooms whose node is lost. Leaves what is known of rooms to `book`, what happens
//! in one to the room itself, and that it runs once to its claim.
//!
//! Any number of centers work side by side on the same records. One that dies leaves a step half
//! way, and whoever comes next goes on from there.

mod allocate;
mod list;
mod matches;
mod queue;
mod reaper;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex as StdMutex},
};

use tokio::sync::Mutex;

use self::queue::Queue;
use super::{
    AnyRoomKind, Book, Tickets,
    book::{name_of, wants_private},
};
use crate::{
    ask::{Asker, Calls},
    chance::Chance,
    clock::Clock,
    directory::{Directory, Role},
    limits::{ROOM_NAME_BYTES_MAX, ROOM_OPTIONS_BYTES_MAX, ROOM_OPTIONS_MAX},
    proto::link::{Asking, RoomRecord, TicketRecord},
    store::{Cache, CacheError},
    tasks::Tasks,
    wire::{Code, Refusal},
};

/// What a room center stands on.
#[derive(Clone, Debug)]
pub(crate) struct CenterGround {
    pub(crate) cache: Cache,
    pub(crate) clock: Clock,
    pub(crate) chance: Chance,
    pub(crate) directory: Directory,
    pub(crate) asker: Asker,
    pub(crate) tasks: Tasks,
}

/// Places rooms. A clone is a handle to the same center.
#[derive(Clone)]
pub(crate) struct RoomCenter(Arc<Inner>);

struct Inner {
    kinds: BTreeMap<&'static str, PlacedKind>,
    book: Book,
    tickets: Tickets,
    ground: CenterGround,
    /// Who waits here for a match, by kind. Std mutex: held for a look, never across an await.
    queues: StdMutex<BTreeMap<&'static str, Queue>>,
}

struct PlacedKind {
    kind: Arc<dyn AnyRoomKind>,
    /// Held by who looks for a room with space until it has a seat or opens a new one: a thousand
    /// who come at once are to fill rooms, not to open a thousand.
    looking: Mutex<()>,
}

impl RoomCenter {
    pub(crate) fn new(kinds: &[Arc<dyn AnyRoomKind>], ground: CenterGround) -> Self {
        let CenterGround { cache, clock, chance, .. } = ground.clone();
        let placed = |kind: &Arc<dyn AnyRoomKind>| {
            (kind.name(), PlacedKind { kind: kind.clone(), looking: Mutex::default() })
        };
        Self(Arc::new(Inner {
            kinds: kinds.iter().map(placed).collect(),
            book: Book::new(cache.clone(), clock.clone()),
            tickets: Tickets::new(cache, chance, clock),
            ground,
            queues: StdMutex::default(),
        }))
    }

    /// Sets the role going on this node, with what it does unasked.
    pub(crate) fn start(&self) {
        let CenterGround { asker, tasks, .. } = &self.0.ground;
        let calls = Calls::default()
            .on(self, Self::enter)
            .on(self, Self::list_rooms)
            .on(self, Self::all_rooms)
            .on(self, Self::seek_match)
            .on(self, Self::move_room);
        asker.start(Role::Rooms, calls, tasks);
        tasks.spawn(self.clone().keep_reaped());
        tasks.spawn(self.clone().keep_matched());
    }
}

impl Inner {
    /// # Errors
    /// 3001 when the game has no such kind of rooms.
    fn kind(&self, name: &str) -> Result<&PlacedKind, Refusal> {
        let unknown = || Code::ROOM_NOT_FOUND.because("there is no such kind of rooms");
        self.kinds.get(name).ok_or_else(unknown)
    }

    /// A new ticket for a seat that is kept.
    async fn ticket(&self, who: &Asking, room: &RoomRecord) -> Result<Vec<u8>, Refusal> {
        let Asking { account, openid, sid } = who.clone();
        let (kind, room_id) = (room.kind.clone(), room.room_id.clone());
        self.tickets.issue(&TicketRecord { account, openid, sid, kind, room_id }).await
    }

    /// Where a client reaches a gate for a connection of its own; empty while there is none.
    fn gate_of(&self, room: &RoomRecord, account: i64) -> String {
        self.ground.directory.gate_near(&room.node, &account.to_string()).unwrap_or_default()
    }

    /// A name that nobody has guessed: 50 bits, written with 10 of 32 signs.
    fn new_room_id(&self) -> String {
        const SIGNS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let drawn = self.ground.chance.next_u64();
        (0..10).map(|n| char::from(SIGNS[(drawn >> (5 * n)) as usize & 31])).collect()
    }

    /// A room that is to be opened.
    fn fresh(
        &self,
        kind: &dyn AnyRoomKind,
        room_id: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<RoomRecord, Refusal> {
        let node = self.ground.directory.game_server(&[]).ok_or(Code::NO_ROOM_SERVER)?;
        let options: HashMap<_, _> = options.clone().into_iter().collect();
        Ok(RoomRecord {
            room_id: room_id.to_owned(),
            kind: kind.name().to_owned(),
            node: node.id.clone(),
            incarnation: node.incarnation,
            capacity: kind.capacity(),
            private: wants_private(&options),
            options,
            opening_until_ms: self.opening_until_ms(),
            ..RoomRecord::default()
        })
    }
}

/// # Errors
/// 210 when there are too many, or they are too long.
fn checked_options(options: HashMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    let bytes: usize = options.iter().map(|(key, value)| key.len() + value.len()).sum();
    if options.len() > ROOM_OPTIONS_MAX || bytes > ROOM_OPTIONS_BYTES_MAX {
        let most = format!("at most {ROOM_OPTIONS_MAX} options of {ROOM_OPTIONS_BYTES_MAX} bytes");
        return Err(Code::PARAMETER.because(most));
    }
    Ok(options.into_iter().collect())
}

/// # Errors
/// 210 when it is too long.
fn checked_name(what: &str, name: &str) -> Result<(), Refusal> {
    if name.len() > ROOM_NAME_BYTES_MAX {
        return Err(Code::PARAMETER.because(format!("{what}: at most {ROOM_NAME_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn away(_: CacheError) -> Refusal {
    Code::NOT_READY.because("the cache is away")
}

/// Others changed a record all the time.
fn contended() -> Refusal {
    Code::BUSY.into()
}

impl fmt::Debug for RoomCenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RoomCenter").field(&self.0.kinds.keys()).finish()
    }
}
