//! Owns what all room centers know of the rooms of the cluster: one record for each, in the cache,
//! and its place in the lists. A record says where a room is; that it runs there, and nowhere else,
//! is the claim's.
//!
//! Every change is a function of the record that is there, tried again when another came first; so
//! centers and rooms change one record together, and whoever dies leaves it as it was or changed.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use ring::digest::{Context, SHA256};

use crate::{
    clock::Clock,
    limits::{RESERVATION_TTL, ROOM_CHANGES_MAX, ROOM_RECORD_TTL},
    proto::link::{Reservation, RoomRecord},
    store::{Cache, CacheError, Found, Range, Rank, Swap},
};

/// The rooms of the cluster. A clone is a handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    cache: Cache,
    clock: Clock,
}

/// A record as it was read: what a change expects to find.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    bytes: Option<Vec<u8>>,
    pub(super) record: Option<RoomRecord>,
}

/// A record in a list.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// `kind/id`.
    pub(super) name: String,
    /// Empty when the record has expired.
    pub(super) seen: Seen,
}

/// What a change makes of a record.
enum Change<T> {
    Put(Box<RoomRecord>, T),
    Remove(T),
    /// It stays as it is.
    Leave(T),
}

/// What came of asking for seats in a room.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seating {
    /// They are kept, or taken already by whom they are for.
    Kept(Box<RoomRecord>),
    /// It is full or locked.
    Full,
    /// There is no such room.
    Missing,
}

/// Which of the lists of rooms.
#[derive(Clone, Copy, Debug)]
pub(super) enum List<'a> {
    /// Of a kind, those that anybody may enter who wants such a one ([`likeness`]), the fullest
    /// first.
    Space(&'a str, &'a str),
    /// Of a kind, those that are not private, by id.
    Public(&'a str),
    /// Every room.
    All,
}

impl Book {
    pub(crate) fn new(cache: Cache, clock: Clock) -> Self {
        Self { cache, clock }
    }

    /// A room that runs tells what it is now: everything but `reserved` and `opening_until_ms`.
    /// Reservations of its members are over. Whether it was to say so: another node runs it when
    /// the record is of a later claim.
    pub(crate) async fn report(&self, record: RoomRecord) -> Result<bool, CacheError> {
        let name = name(&record.kind, &record.room_id);
        let now_ms = self.clock.now_ms();
        let done = self.change(name, None, |before| {
            if is_later(before, record.epoch) {
                return Change::Leave(false);
            }
            let mut record = record.clone();
            record.reserved = before.map(|before| before.reserved.clone()).unwrap_or_default();
            record.opening_until_ms = 0;
            record.private |= wants_private(&record.options);
            prune(&mut record, now_ms);
            Change::Put(Box::new(record), true)
        });
        done.await?.ok_or_else(contended)
    }

    /// A room that ran under this claim has ended.
    pub(crate) async fn closed(
        &self,
        kind: &str,
        room_id: &str,
        epoch: i64,
    ) -> Result<(), CacheError> {
        let done = self.change(name(kind, room_id), None, |before| match before {
            before if is_later(before, epoch) => Change::Leave(()),
            _ => Change::Remove(()),
        });
        done.await?.ok_or_else(contended)
    }

    /// A room that nobody is in has ended, unless a seat of it is kept for somebody. Says whether it
    /// has.
    pub(crate) async fn closed_unused(
        &self,
        kind: &str,
        room_id: &str,
        epoch: i64,
    ) -> Result<bool, CacheError> {
        let now_ms = self.clock.now_ms();
        let done = self.change(name(kind, room_id), None, |before| match before {
            before if is_later(before, epoch) => Change::Leave(true),
            Some(before) if before.reserved.iter().any(|r| r.until_ms > now_ms) => {
                Change::Leave(false)
            }
            _ => Change::Remove(true),
        });
        done.await?.ok_or_else(contended)
    }

    /// Keeps seats for accounts, again for those that have one already. Where there is no such
    /// room, `fresh` is put there. `None`: others changed it all the time.
    pub(super) async fn seat(
        &self,
        name: &str,
        seen: Option<Seen>,
        accounts: &[i64],
        fresh: Option<RoomRecord>,
    ) -> Result<Option<Seating>, CacheError> {
        let now_ms = self.clock.now_ms();
        let until_ms = now_ms.saturating_add(ms(RESERVATION_TTL));
        let done = self.change(name.to_owned(), seen, |before| {
            let Some(mut record) = before.cloned().or_else(|| fresh.clone()) else {
                return Change::Leave(Seating::Missing);
            };
            prune(&mut record, now_ms);
            for account in accounts {
                if record.members.contains(account) {
                    continue;
                }
                if let Some(kept) = record.reserved.iter_mut().find(|r| r.account == *account) {
                    kept.until_ms = until_ms;
                    continue;
                }
                if record.locked || seats(&record) >= u64::from(record.capacity) {
                    return Change::Leave(Seating::Full);
                }
                record.reserved.push(Reservation { account: *account, until_ms });
            }
            Change::Put(Box::new(record.clone()), Seating::Kept(Box::new(record)))
        });
        done.await
    }

    /// A game server says that it runs a room.
    pub(super) async fn opened(&self, opened: &RoomRecord) -> Result<Option<()>, CacheError> {
        let now_ms = self.clock.now_ms();
        let done = self.change(name_of(opened), None, |before| {
            let mut record = before.unwrap_or(opened).clone();
            // Whoever wrote something else did so before it was known.
            record.node.clone_from(&opened.node);
            record.incarnation = opened.incarnation;
            record.saved = opened.saved;
            record.opening_until_ms = 0;
            prune(&mut record, now_ms);
            Change::Put(Box::new(record), ())
        });
        done.await
    }

    /// A room is to run at another node, if it is where `seen` has it. The record as it is then;
    /// whether that is this. Two who write the very same at once both hear so.
    pub(super) async fn moved(
        &self,
        seen: &RoomRecord,
        to: (String, i64),
        until_ms: i64,
    ) -> Result<Option<(bool, Option<RoomRecord>)>, CacheError> {
        let done = self.change(name_of(seen), None, |before| {
            let Some(before) = before else { return Change::Leave((false, None)) };
            if !is_same_opening(before, seen) {
                return Change::Leave((false, Some(before.clone())));
            }
            let mut record = before.clone();
            record.node.clone_from(&to.0);
            record.incarnation = to.1;
            record.opening_until_ms = until_ms;
            Change::Put(Box::new(record.clone()), (true, Some(record)))
        });
        done.await
    }

    /// Gives up seats in a room that could not be opened, and the room when nobody else wants it.
    pub(super) async fn abandon(
        &self,
        name: &str,
        accounts: &[i64],
    ) -> Result<Option<()>, CacheError> {
        let done = self.change(name.to_owned(), None, |before| {
            let Some(before) = before else { return Change::Leave(()) };
            let mut record = before.clone();
            record.reserved.retain(|r| !accounts.contains(&r.account));
            if record.opening_until_ms > 0 && !record.saved && seats(&record) == 0 {
                return Change::Remove(());
            }
            Change::Put(Box::new(record), ())
        });
        done.await
    }

    /// Removes a room that is as `seen`: where it was, and open or not as it was.
    pub(super) async fn remove_lost(&self, seen: &RoomRecord) -> Result<Option<bool>, CacheError> {
        let done = self.change(name_of(seen), None, |before| match before {
            Some(before) if is_same_opening(before, seen) => Change::Remove(true),
            _ => Change::Leave(false),
        });
        done.await
    }

    /// Ends the reservations whose time is over.
    pub(super) async fn pruned(&self, name: &str, seen: Seen) -> Result<Option<()>, CacheError> {
        self.pruned_like(name, "", seen).await
    }

    /// The same for one that was found in the list of those with space that are like it.
    pub(super) async fn pruned_like(
        &self,
        name: &str,
        like: &str,
        seen: Seen,
    ) -> Result<Option<()>, CacheError> {
        let now_ms = self.clock.now_ms();
        let done = self.change_like(name.to_owned(), like, Some(seen), |before| {
            let Some(before) = before else { return Change::Remove(()) };
            let mut record = before.clone();
            prune(&mut record, now_ms);
            Change::Put(Box::new(record), ())
        });
        done.await
    }

    /// Lets a record live on as it is.
    pub(super) async fn refresh(&self, listed: &Listed) -> Result<(), CacheError> {
        let Seen { bytes: Some(bytes), record } = &listed.seen else { return Ok(()) };
        let like = record.as_ref().map(|r| likeness(&r.options)).unwrap_or_default();
        let (old, new) = (Some(bytes.clone()), Some(bytes.clone()));
        let swap = swap(&listed.name, &like, old, new, record.as_ref());
        // Changed meanwhile: it lives on as well.
        self.cache.swap(swap, self.clock.now_ms()).await.map(drop)
    }

    pub(super) async fn find(&self, name: &str) -> Result<Option<RoomRecord>, CacheError> {
        Ok(self.read(name).await?.record)
    }

    /// Some of a list.
    pub(super) async fn list(
        &self,
        list: List<'_>,
        offset: usize,
        count: usize,
    ) -> Result<Vec<Listed>, CacheError> {
        let set = list.set();
        let of_kind = |kind: &str| format!("{RECORD}{kind}/");
        let (prefix, kind, greatest_first) = match list {
            List::Space(kind, _) => (of_kind(kind), Some(kind), true),
            List::Public(kind) => (of_kind(kind), Some(kind), false),
            List::All => (RECORD.to_owned(), None, false),
        };
        let range = Range { set: &set, prefix: &prefix, greatest_first, offset, count };
        let found = self.cache.range(range, self.clock.now_ms()).await?;
        let listed = |Found { member, value }| {
            let name = kind.map(|kind| name(kind, &member)).unwrap_or(member);
            Listed { name, seen: Seen::of(value) }
        };
        Ok(found.into_iter().map(listed).collect())
    }

    async fn read(&self, name: &str) -> Result<Seen, CacheError> {
        Ok(Seen::of(self.cache.get(&format!("{RECORD}{name}"), self.clock.now_ms()).await?))
    }

    /// `None`: others changed it all the time.
    async fn change<T>(
        &self,
        name: String,
        seen: Option<Seen>,
        change: impl Fn(Option<&RoomRecord>) -> Change<T>,
    ) -> Result<Option<T>, CacheError> {
        self.change_like(name, "", seen, change).await
    }

    async fn change_like<T>(
        &self,
        name: String,
        like: &str,
        mut seen: Option<Seen>,
        change: impl Fn(Option<&RoomRecord>) -> Change<T>,
    ) -> Result<Option<T>, CacheError> {
        for _ in 0..ROOM_CHANGES_MAX {
            let Seen { bytes, record } = match seen.take() {
                Some(seen) => seen,
                None => self.read(&name).await?,
            };
            let (new, outcome) = match change(record.as_ref()) {
                Change::Leave(outcome) => return Ok(Some(outcome)),
                Change::Put(record, outcome) => (Some(record), outcome),
                Change::Remove(outcome) => (None, outcome),
            };
            let encoded = new.as_ref().map(|new| new.encode_to_vec());
            let known = new.as_deref().or(record.as_ref());
            let like = known.map_or_else(|| like.to_owned(), |r| likeness(&r.options));
            let swap = swap(&name, &like, bytes, encoded, new.as_deref());
            if self.cache.swap(swap, self.clock.now_ms()).await? {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }
}

impl Seen {
    /// That there is none.
    pub(super) fn nothing() -> Self {
        Self::default()
    }

    fn of(bytes: Option<Vec<u8>>) -> Self {
        let record = bytes.as_ref().and_then(|bytes| RoomRecord::decode(bytes.as_slice()).ok());
        Self { bytes, record }
    }
}

impl List<'_> {
    fn set(self) -> String {
        match self {
            Self::Space(kind, "") => format!("rooms:space:{kind}"),
            Self::Space(kind, like) => format!("rooms:space:{kind}:{like}"),
            Self::Public(kind) => format!("rooms:public:{kind}"),
            Self::All => "rooms:all".to_owned(),
        }
    }
}

/// A record and its places in the lists change as one.
fn swap(
    name: &str,
    like: &str,
    expected: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
    record: Option<&RoomRecord>,
) -> Swap {
    let (kind, id) = name.split_once('/').unwrap_or((name, ""));
    let space = record.filter(|r| !r.locked && !r.private && seats(r) < u64::from(r.capacity));
    let fullness = space.map(|r| i64::try_from(seats(r)).unwrap_or(i64::MAX));
    let public = record.filter(|r| !r.private).map(|_| 0);
    let rank =
        |list: List<'_>, member: &str, at| Rank { set: list.set(), member: member.into(), at };
    let ranks = vec![
        rank(List::All, name, record.map(|_| 0)),
        rank(List::Public(kind), id, public),
        rank(List::Space(kind, like), id, fullness),
    ];
    let (key, ttl_ms) = (format!("{RECORD}{name}"), ms(ROOM_RECORD_TTL));
    Swap { key, expected, new, ttl_ms, ranks }
}

/// Reservations that are over go, and those of members.
fn prune(record: &mut RoomRecord, now_ms: i64) {
    let RoomRecord { members, reserved, .. } = record;
    reserved.retain(|r| r.until_ms > now_ms && !members.contains(&r.account));
}

/// Seats that are taken or kept.
pub(super) fn seats(record: &RoomRecord) -> u64 {
    let kept = record.reserved.iter().filter(|r| !record.members.contains(&r.account)).count();
    (record.members.len() + kept) as u64
}

/// Whether two records speak of one room at one node in one state.
fn is_same_opening(one: &RoomRecord, other: &RoomRecord) -> bool {
    let at = |r: &RoomRecord| (r.node.clone(), r.incarnation, r.opening_until_ms);
    at(one) == at(other)
}

/// Whether somebody spoke who runs the room under a later claim than this. Whoever was frozen in
/// the middle of a word ends it when another runs the room.
fn is_later(record: Option<&RoomRecord>, epoch: i64) -> bool {
    record.is_some_and(|record| record.epoch > epoch)
}

/// Whether a room that is opened with these is found by its id only.
pub(super) fn wants_private(options: &HashMap<String, String>) -> bool {
    options.get("private").is_some_and(|private| private == "1")
}

/// What rooms have in common that were opened with the same options: who asks for any room with
/// these gets one of them. Nothing for those without.
pub(super) fn likeness<'a>(options: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let mut options: Vec<_> = options.into_iter().collect();
    if options.is_empty() {
        return String::new();
    }
    options.sort();
    let mut context = Context::new(&SHA256);
    for text in options.into_iter().flat_map(|(key, value)| [key, value]) {
        context.update(&(text.len() as u64).to_le_bytes());
        context.update(text.as_bytes());
    }
    let digest = context.finish();
    digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of a room among those of all kinds.
pub(super) fn name(kind: &str, room_id: &str) -> String {
    format!("{kind}/{room_id}")
}

pub(super) fn name_of(record: &RoomRecord) -> String {
    name(&record.kind, &record.room_id)
}

pub(super) fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn contended() -> CacheError {
    CacheError::Unavailable("a room's record is full of changes, or there are too many".to_owned())
}

const RECORD: &str = "room:";
