//! Owns a seat for who asks: in a certain room, in one with space, or in a new one.
//!
//! The steps, each of which may be the last that a center does: (1) what the request id stands for
//! is written; (2) the seat is kept, in a record that is made with it where there is none; (3) the
//! game server opens the room; (4) the record says so; (5) a ticket is written. Asked again, each
//! finds what it left, and does the same.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
};

use tokio::time::timeout;

use super::{
    Inner, PlacedKind, RoomCenter, away, checked_name, checked_options, contended, name_of,
    wants_private,
};
use crate::{
    directory::{NodeInfo, NodeState, Role},
    limits::{
        ENTER_DEADLINE, ENTER_KEPT, ROOM_OPEN_DEADLINE, ROOM_OPEN_NODES_MAX, ROOM_OPENING_MAX,
        ROOMS_LOOKED_AT_MAX, ROOMS_OPENED_PER_ACCOUNT_MAX,
    },
    proto::link::{Asking, Reservation, RoomRecord, enter, open_room},
    room::book::{List, Listed, Seating, Seen, likeness, ms, name},
    store::Swap,
    wire::{Code, Refusal},
};

/// How often a request is led elsewhere because a room was full when its turn came. Beyond: 1002.
const TURNED_AWAY_MAX: usize = 8;

/// A request, looked through.
struct Wanted<'a> {
    placed: &'a PlacedKind,
    account: i64,
    options: BTreeMap<String, String>,
    private: bool,
    /// Where its request id is kept.
    request: Option<String>,
}

impl RoomCenter {
    /// A seat and a ticket for it.
    pub(crate) async fn enter(self, request: enter::Req) -> Result<enter::Res, Refusal> {
        let entered = timeout(ENTER_DEADLINE, self.0.entered(request)).await;
        entered.unwrap_or_else(|_| Err(Code::DEADLINE.into()))
    }
}

impl Inner {
    async fn entered(&self, request: enter::Req) -> Result<enter::Res, Refusal> {
        let enter::Req { who, kind, room_id, request_id, options } = request;
        let who = who.ok_or(Code::UNDECODABLE)?;
        checked_name("room_id", &room_id)?;
        let wanted = self.wanted(&who, &kind, &request_id, options)?;
        let room = match room_id.as_str() {
            "" => self.any(&wanted).await?,
            certain => self.certain(&kind, certain, who.account).await?,
        };
        let room = self.opened(room, &[who.account]).await?;
        let ticket = self.ticket(&who, &room).await?;
        // A room tells of who has come a moment later: whoever has a ticket counts as well.
        let coming = |kept: &&Reservation| {
            kept.account != who.account && !room.members.contains(&kept.account)
        };
        let members = room.members.len() + room.reserved.iter().filter(coming).count();
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        Ok(enter::Res {
            addr: self.gate_of(&room, who.account),
            room_id: room.room_id,
            ticket,
            members,
        })
    }

    fn wanted(
        &self,
        who: &Asking,
        kind: &str,
        request_id: &str,
        options: HashMap<String, String>,
    ) -> Result<Wanted<'_>, Refusal> {
        let placed = self.kind(kind)?;
        checked_name("request_id", request_id)?;
        let private = wants_private(&options);
        let options = checked_options(options)?;
        let account = who.account;
        let request = (!request_id.is_empty()).then(|| format!("enter:{account}:{request_id}"));
        Ok(Wanted { placed, account, options, private, request })
    }

    /// A seat in one room.
    pub(super) async fn certain(
        &self,
        kind: &str,
        id: &str,
        account: i64,
    ) -> Result<RoomRecord, Refusal> {
        let seating = self.book.seat(&name(kind, id), None, &[account], None).await;
        match seating.map_err(away)?.ok_or_else(contended)? {
            Seating::Kept(room) if self.is_there(&room).await? => Ok(*room),
            Seating::Full => Err(Code::ROOM_FULL.into()),
            Seating::Kept(_) | Seating::Missing => Err(Code::ROOM_NOT_FOUND.into()),
        }
    }

    /// A seat in any room of a kind: the one that was chosen before for this request, one with
    /// space, or a new one.
    async fn any(&self, wanted: &Wanted<'_>) -> Result<RoomRecord, Refusal> {
        for _ in 0..TURNED_AWAY_MAX {
            let before = match &wanted.request {
                Some(key) => self.ground.cache.get(key, self.now_ms()).await.map_err(away)?,
                None => None,
            };
            let room = match before {
                Some(id) => self.again(wanted, id).await?,
                None if wanted.private => self.choose(wanted, &mut Vec::new()).await?,
                None => {
                    let _turn = wanted.placed.looking.lock().await;
                    let kind = wanted.placed.kind.name();
                    let like = likeness(&wanted.options);
                    let listed =
                        self.book.list(List::Space(kind, &like), 0, ROOMS_LOOKED_AT_MAX).await;
                    self.choose(wanted, &mut listed.map_err(away)?).await?
                }
            };
            if let Some(room) = room {
                return Ok(room);
            }
        }
        Err(Code::BUSY.into())
    }

    /// Goes on with the room that this request led to. `None`: it is no longer to be had.
    async fn again(&self, wanted: &Wanted<'_>, id: Vec<u8>) -> Result<Option<RoomRecord>, Refusal> {
        let room_id = String::from_utf8_lossy(&id).into_owned();
        let mut seating = self.seat(wanted, &room_id, None, false).await?;
        if seating == Seating::Missing {
            // Nobody got as far as making it, or it has ended since.
            seating = self.seat(wanted, &room_id, Some(Seen::nothing()), true).await?;
        }
        match seating {
            Seating::Kept(room) if self.is_there(&room).await? => return Ok(Some(*room)),
            Seating::Kept(_) | Seating::Full | Seating::Missing => {}
        }
        if let Some(key) = wanted.request.clone() {
            let (expected, ttl_ms) = (Some(id), ms(ENTER_KEPT));
            let forget = Swap { key, expected, new: None, ttl_ms, ranks: Vec::new() };
            // Another center, asked the same, may have been sooner.
            self.ground.cache.swap(forget, self.now_ms()).await.map_err(away)?;
        }
        Ok(None)
    }

    /// A seat in one of some rooms, else in a new one. `None`: another center has chosen for this
    /// request, or the rooms were full by the time.
    async fn choose(
        &self,
        wanted: &Wanted<'_>,
        listed: &mut Vec<Listed>,
    ) -> Result<Option<RoomRecord>, Refusal> {
        let mut chosen = None;
        for Listed { name, seen } in mem::take(listed) {
            match &seen.record {
                Some(room) if self.takes_more(room) => {
                    chosen = Some((room.room_id.clone(), seen));
                    break;
                }
                Some(_) => {}
                // It is in the list, and nowhere else.
                None => {
                    let like = likeness(&wanted.options);
                    self.book.pruned_like(&name, &like, seen).await.map_err(away)?;
                }
            }
        }
        let is_new = chosen.is_none();
        let (room_id, seen) = chosen.unwrap_or_else(|| (self.new_room_id(), Seen::nothing()));
        if let Some(key) = &wanted.request {
            let (value, ttl_ms) = (room_id.clone().into_bytes(), ms(ENTER_KEPT));
            let put = self.ground.cache.put_if_absent(key, value, ttl_ms, self.now_ms()).await;
            if !put.map_err(away)? {
                return Ok(None);
            }
        }
        match self.seat(wanted, &room_id, Some(seen), is_new).await? {
            Seating::Kept(room) => Ok(Some(*room)),
            Seating::Full | Seating::Missing => Ok(None),
        }
    }

    async fn seat(
        &self,
        wanted: &Wanted<'_>,
        room_id: &str,
        seen: Option<Seen>,
        is_new: bool,
    ) -> Result<Seating, Refusal> {
        let kind = &*wanted.placed.kind;
        let fresh = match is_new {
            true => {
                self.may_open(wanted.account).await?;
                self.opens(wanted.account).await?;
                Some(self.fresh(kind, room_id, &wanted.options)?)
            }
            false => None,
        };
        let name = name(kind.name(), room_id);
        let seating = self.book.seat(&name, seen, &[wanted.account], fresh).await;
        seating.map_err(away)?.ok_or_else(contended)
    }

    /// Whether an account has a share left of the rooms that are opened.
    ///
    /// # Errors
    /// 1007 when it has none.
    pub(super) async fn may_open(&self, account: i64) -> Result<(), Refusal> {
        let opened = self.ground.cache.count(&share_key(account), self.now_ms()).await;
        if opened.map_err(away)? >= ROOMS_OPENED_PER_ACCOUNT_MAX.0 {
            return Err(Code::RATE_LIMITED.because("too many rooms opened: wait a little"));
        }
        Ok(())
    }

    /// A room is opened for an account.
    pub(super) async fn opens(&self, account: i64) -> Result<(), Refusal> {
        let span = ms(ROOMS_OPENED_PER_ACCOUNT_MAX.1);
        let counted = self.ground.cache.incr(&share_key(account), span, self.now_ms()).await;
        counted.map(drop).map_err(away)
    }

    /// Seats for those who play a match, in a room of their own.
    pub(super) async fn place_match(
        &self,
        placed: &PlacedKind,
        room_id: &str,
        accounts: &[i64],
        options: &BTreeMap<String, String>,
    ) -> Result<RoomRecord, Refusal> {
        let fresh = self.fresh(&*placed.kind, room_id, options)?;
        let (name, nothing) = (name_of(&fresh), Some(Seen::nothing()));
        let seating = self.book.seat(&name, nothing, accounts, Some(fresh)).await;
        match seating.map_err(away)?.ok_or_else(contended)? {
            Seating::Kept(room) => self.opened(*room, accounts).await,
            Seating::Full | Seating::Missing => Err(Code::ROOM_FULL.into()),
        }
    }

    /// Whether a room with space is one to send more to: it is not where something hangs or ends.
    fn takes_more(&self, room: &RoomRecord) -> bool {
        let began_ms = room.opening_until_ms.saturating_sub(ms(ROOM_OPENING_MAX));
        let hangs = room.opening_until_ms > 0 && self.now_ms() - began_ms > ms(ROOM_OPEN_DEADLINE);
        let up = |n: Arc<NodeInfo>| n.incarnation == room.incarnation && n.state == NodeState::Up;
        !hangs && self.ground.directory.node(&room.node).is_some_and(up)
    }

    /// Whether a room runs, or is going to: one that is lost comes back if it was saved.
    async fn is_there(&self, room: &RoomRecord) -> Result<bool, Refusal> {
        let directory = &self.ground.directory;
        let there = room.saved
            || room.opening_until_ms > 0
            || directory.has(&room.node, room.incarnation)
            || !directory.is_lost(&room.node, room.incarnation).await?;
        Ok(there)
    }

    /// The room, once it is open; whoever has a seat in it by then has it opened. One that was
    /// open before, and is lost, is had back by the reaper: there is a seat in it all the same.
    async fn opened(&self, mut room: RoomRecord, accounts: &[i64]) -> Result<RoomRecord, Refusal> {
        let mut tried = Vec::new();
        while room.opening_until_ms > 0 && !room.saved {
            let refusal = match self.open_at(&room, false).await {
                Ok(()) => {
                    room.saved = self.kind(&room.kind)?.kind.is_saved();
                    room.opening_until_ms = 0;
                    self.book.opened(&room).await.map_err(away)?.ok_or_else(contended)?;
                    return Ok(room);
                }
                Err(refusal) => refusal,
            };
            if refusal.code == Code::DEADLINE {
                // Perhaps it runs: who asks again finds out.
                return Err(refusal);
            }
            tried.push(room.node.clone());
            let next = match is_passing(refusal.code) && tried.len() < ROOM_OPEN_NODES_MAX {
                true => self.ground.directory.game_server(&tried),
                false => None,
            };
            let Some(next) = next else {
                self.book.abandon(&name_of(&room), accounts).await.map_err(away)?;
                let nobody = is_passing(refusal.code) && refusal.code != Code::BUSY;
                return Err(if nobody { Code::NO_ROOM_SERVER.into() } else { refusal });
            };
            let to = (next.id.clone(), next.incarnation);
            let moved = self.book.moved(&room, to, self.opening_until_ms()).await;
            let (_, now) = moved.map_err(away)?.ok_or_else(contended)?;
            room = now.ok_or(Code::ROOM_CLOSED)?;
        }
        Ok(room)
    }

    /// Has a room opened where its record has it.
    pub(super) async fn open_at(&self, room: &RoomRecord, again: bool) -> Result<(), Refusal> {
        let RoomRecord { kind, room_id, options, .. } = room.clone();
        let request = open_room::Req { kind, room_id, options, again };
        let asker = &self.ground.asker;
        asker.ask_at(&room.node, Role::Game, &request, ROOM_OPEN_DEADLINE).await.map(drop)
    }

    pub(super) fn opening_until_ms(&self) -> i64 {
        self.now_ms().saturating_add(ms(ROOM_OPENING_MAX))
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.ground.clock.now_ms()
    }
}

fn share_key(account: i64) -> String {
    format!("opened:{account}")
}

/// Whether another game server may do what this one did not.
pub(super) fn is_passing(code: Code) -> bool {
    [Code::NOT_READY, Code::NOT_CONNECTED, Code::BUSY, Code::DEADLINE, Code::DRAINING]
        .contains(&code)
}
