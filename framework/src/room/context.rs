//! Owns what a room may ask of the world around it, and what it says to its members.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{RngCore as _, SeedableRng as _},
};

use super::{
    Member, Seat,
    said::{Said, To},
};
use crate::{
    Code, LoadError, Named, entity::Classes, limits::ROOM_INFO_MAX, link::Mark,
    proto::link as proto, wire::Refusal,
};

/// A room's view of the world: its members, its clock, its chance, and what it says.
///
/// What is said goes out when the handler, or the tick, is done.
#[derive(Debug)]
pub struct RoomCtx {
    id: Box<str>,
    options: BTreeMap<String, String>,
    members: BTreeMap<Seat, Arc<Member>>,
    next_seat: u32,
    capacity: u32,
    now_ms: i64,
    tick: u64,
    /// Always the same generator, so that a recording is good with later versions.
    chance: ChaCha12Rng,
    classes: Arc<Classes>,
    told: Told,
    pub(super) said: Said,
    /// Who loses its seat when what happens now is done.
    leaving: VecDeque<(Seat, Code, String)>,
    closing: Option<String>,
}

/// What lists of rooms tell of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) locked: bool,
    pub(super) info: BTreeMap<String, String>,
    /// Counts who came and who left.
    turnover: u64,
}

/// What a room is opened with.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) id: Box<str>,
    pub(super) options: BTreeMap<String, String>,
    pub(super) capacity: u32,
    pub(super) seed: [u8; 32],
    pub(super) now_ms: i64,
    pub(super) classes: Arc<Classes>,
}

/// How far a room had got in what it wants.
pub(super) struct Before {
    said: usize,
    leaving: usize,
    told: Told,
    closing: Option<String>,
}

impl RoomCtx {
    /// The room's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it was opened with.
    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    /// Who has a seat, also those that are away, by seat.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values().map(|member| &**member)
    }

    /// Who sits there.
    pub fn member(&self, seat: Seat) -> Option<&Member> {
        self.members.get(&seat).map(|member| &**member)
    }

    /// Seats that there are.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The time of day when what happens now began, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Ticks that there have been.
    pub fn ticks(&self) -> u64 {
        self.tick
    }

    /// A random number, every value equally likely. Whoever has the recording of a match knows
    /// all of them: no secrets are to be made of it.
    pub fn random(&mut self) -> u64 {
        self.chance.next_u64()
    }

    /// Sends a message to one member.
    pub fn push<M: Named>(&mut self, to: Seat, message: &M) {
        self.say(To::One(to), message);
    }

    /// Sends a message to every member; it is encoded once.
    pub fn broadcast<M: Named>(&mut self, message: &M) {
        self.say(To::All, message);
    }

    /// Sends a message to every member but one; it is encoded once.
    pub fn broadcast_but<M: Named>(&mut self, but: Seat, message: &M) {
        self.say(To::But(but), message);
    }

    /// Whether anybody may come in who has no seat yet; those who have a reservation may, in any
    /// case. A room is open at first.
    pub fn lock(&mut self, locked: bool) {
        self.told.locked = locked;
    }

    /// What lists of rooms tell of this one: up to 16 values, each and its key of up to 256 bytes.
    /// An empty value is none.
    pub fn set_info(&mut self, key: &str, value: &str) {
        let info = &mut self.told.info;
        if value.is_empty() {
            info.remove(key);
            return;
        }
        let (entries, bytes) = ROOM_INFO_MAX;
        let is_full = info.len() >= entries && !info.contains_key(key);
        if is_full || key.len() > bytes || value.len() > bytes {
            tracing::warn!(target: "room", room = %self.id, key, "too much is told of this room: left out");
            return;
        }
        info.insert(key.to_owned(), value.to_owned());
    }

    /// Takes a seat away when the handler, or the tick, is done; its client hears
    /// `msg.RoomClosed` with the code and the reason.
    pub fn remove(&mut self, seat: Seat, code: Code, reason: &str) {
        let goes = self.leaving.iter().any(|(leaving, ..)| *leaving == seat);
        if !goes && self.members.contains_key(&seat) {
            self.leaving.push_back((seat, code, reason.to_owned()));
        }
    }

    /// Ends the room when the handler, or the tick, is done: every member hears `msg.RoomClosed`
    /// (3007) with the reason.
    pub fn close(&mut self, reason: &str) {
        self.closing.get_or_insert_with(|| reason.to_owned());
    }

    fn say<M: Named>(&mut self, to: To, message: &M) {
        let mark = if self.classes.is_loose(M::NAME) { Mark::Loose } else { Mark::Plain };
        if let Err(e) = self.said.message(to, mark, message) {
            tracing::error!(target: "room", room = %self.id, api = M::NAME, "push dropped: {e}");
        }
    }

    // === Called by the room's core ===

    pub(super) fn new(setting: Setting) -> Self {
        let Setting { id, options, capacity, seed, now_ms, classes } = setting;
        Self {
            id,
            options,
            members: BTreeMap::new(),
            next_seat: 1,
            capacity,
            now_ms,
            tick: 0,
            chance: ChaCha12Rng::from_seed(seed),
            classes,
            told: Told::default(),
            said: Said::default(),
            leaving: VecDeque::new(),
            closing: None,
        }
    }

    /// As it was kept; everybody is away. Of the setting count the id, the capacity and the
    /// classes.
    pub(super) fn restored(kept: &proto::KeptRoom, setting: Setting) -> Result<Self, LoadError> {
        let seed = kept.seed.as_slice().try_into();
        let seed = seed.map_err(|_| LoadError::new("the seed has another length"))?;
        let mut ctx = Self::new(Setting { seed, now_ms: kept.now_ms, ..setting });
        ctx.options = kept.options.clone().into_iter().collect();
        let info = kept.info.clone().into_iter().collect();
        ctx.told = Told { locked: kept.locked, info, turnover: 0 };
        (ctx.next_seat, ctx.tick) = (kept.next_seat, kept.ticks);
        let drawn = u128::from(kept.drawn_high) << 64 | u128::from(kept.drawn_low);
        ctx.chance.set_word_pos(drawn);
        for proto::KeptMember { seat, account, name } in &kept.members {
            let (seat, name) = (Seat(*seat), name.clone());
            let member = Member { seat, account: *account, name, away: true };
            ctx.members.insert(seat, Arc::new(member));
        }
        Ok(ctx)
    }

    /// What it is restored from, around the state of its kind.
    pub(super) fn kept(&self, state: Vec<u8>) -> proto::KeptRoom {
        let member = |m: &Arc<Member>| {
            let Member { seat, account, name, away: _ } = &**m;
            proto::KeptMember { seat: seat.0, account: *account, name: name.clone() }
        };
        let drawn = self.chance.get_word_pos();
        proto::KeptRoom {
            state,
            members: self.members.values().map(member).collect(),
            options: self.options.clone().into_iter().collect(),
            info: self.told.info.clone().into_iter().collect(),
            locked: self.told.locked,
            next_seat: self.next_seat,
            ticks: self.tick,
            now_ms: self.now_ms,
            seed: self.chance.get_seed().to_vec(),
            drawn_low: drawn as u64,
            drawn_high: (drawn >> 64) as u64,
        }
    }

    /// Something happens.
    pub(super) fn begin(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    pub(super) fn begin_tick(&mut self) {
        self.tick += 1;
    }

    /// A seat for somebody who has none.
    pub(super) fn seat(&mut self, account: i64, name: &str) -> Arc<Member> {
        let seat = Seat(self.next_seat);
        self.next_seat += 1;
        let member = Arc::new(Member { seat, account, name: name.to_owned(), away: false });
        self.members.insert(seat, member.clone());
        self.told.turnover += 1;
        member
    }

    pub(super) fn unseat(&mut self, seat: Seat) -> Option<Arc<Member>> {
        let member = self.members.remove(&seat)?;
        self.told.turnover += 1;
        Some(member)
    }

    /// A member, to be handed out while the context is.
    pub(super) fn shared(&self, seat: Seat) -> Option<Arc<Member>> {
        self.members.get(&seat).cloned()
    }

    pub(super) fn set_away(&mut self, seat: Seat, away: bool) -> Option<Arc<Member>> {
        let member = self.members.get_mut(&seat)?;
        Arc::make_mut(member).away = away;
        Some(member.clone())
    }

    pub(super) fn answer(
        &mut self,
        seat: Seat,
        mark: Mark,
        name: &str,
        answer: &impl prost::Message,
    ) -> Result<(), Refusal> {
        self.said.answer(To::One(seat), mark.answered(), name, answer).map_err(|e| {
            tracing::error!(target: "room", room = %self.id, api = name, "answer dropped: {e}");
            Code::INTERNAL.into()
        })
    }

    pub(super) fn before(&self) -> Before {
        let (said, leaving) = (self.said.len(), self.leaving.len());
        Before { said, leaving, told: self.told.clone(), closing: self.closing.clone() }
    }

    /// What it said and wanted since then is as if it had not been.
    pub(super) fn take_back(&mut self, before: Before) {
        let Before { said, leaving, told, closing } = before;
        self.said.cut(said);
        self.leaving.truncate(leaving);
        (self.told, self.closing) = (told, closing);
    }

    /// The next one who loses its seat.
    pub(super) fn next_leaving(&mut self) -> Option<(Seat, Code, String)> {
        self.leaving.pop_front()
    }

    pub(super) fn closing(&self) -> Option<&str> {
        self.closing.as_deref()
    }

    pub(super) fn told(&self) -> &Told {
        &self.told
    }

    /// Everybody's seat, also of those who are away.
    pub(super) fn seats(&self) -> impl Iterator<Item = Seat> {
        self.members.keys().copied()
    }
}
