//! Owns a player's seats in rooms: what its client says to a room goes from here, and what the
//! room says comes here, so that the player stays the one who knows what its client was told, and
//! in which order. Leaves what happens in a room to `room`, and who gets a seat to its center.

mod inbox;
mod own;
#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use rustc_hash::FxHashMap;
use tokio::time::{Instant, sleep};

use self::inbox::Inbox;
use super::{Ctx, EntityId, Host};
use crate::{
    limits::{NODE_LEASE, ROOM_SEARCH_GRACE, ROOM_SEARCH_RETRY},
    link::{Attached, Batch, ConnectionId, EntityPort, Entry, Mark, NotAttached, Seating, Seeking},
    msg,
    proto::link as proto,
    room::AnyRoomKind,
    wire::{ApiName, Code, Frame, Refusal},
};

pub(super) use self::own::{Asks, Own};

/// Whom a client's message is for, when it is not for its player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The rooms as such: to come, to go, to look.
    Rooms(Own),
    /// The player's room of this kind.
    Kind(&'static str),
}

/// The messages of rooms, by name.
#[derive(Debug, Default)]
pub(super) struct Targets(FxHashMap<Box<[u8]>, Target>);

impl Targets {
    pub(super) fn new(kinds: &[Arc<dyn AnyRoomKind>]) -> Self {
        let mut targets = FxHashMap::default();
        for kind in kinds {
            for own in Own::ALL {
                targets.insert(own.name().as_bytes().into(), Target::Rooms(own));
            }
            for api in kind.apis() {
                let before = targets.insert(api.as_bytes().into(), Target::Kind(kind.name()));
                assert!(before.is_none(), "two kinds of rooms handle {api}: keep one of them");
            }
        }
        Self(targets)
    }

    #[inline]
    pub(super) fn find(&self, api: ApiName<'_>) -> Option<Target> {
        self.0.get(api.as_bytes()).copied()
    }

    pub(super) fn has(&self, api: &str) -> bool {
        self.0.contains_key(api.as_bytes())
    }

    /// Every name.
    pub(super) fn apis(&self) -> impl Iterator<Item = String> {
        self.0.keys().map(|api| String::from_utf8_lossy(api).into_owned())
    }
}

/// A player's seats; at most one in each kind of room.
#[derive(Default)]
pub(super) struct Seats {
    seats: Vec<Seat>,
    /// The client has no connection.
    away: bool,
    /// It waits to be matched.
    pub(super) wish: Option<own::Wish>,
}

struct Seat {
    kind: &'static str,
    room_id: String,
    at: At,
}

/// Where the room is.
enum At {
    There(Way),
    /// It was lost out of sight; perhaps it is somewhere else by now.
    Sought(BoxFuture<'static, Result<(Way, Vec<u8>), Refusal>>),
}

/// The way to a room. Dropped, the room thinks that the member is away.
struct Way {
    host: Arc<Host>,
    connection: ConnectionId,
    /// `None` once it needs no goodbye.
    port: Option<EntityPort>,
    inbox: Arc<Inbox>,
    /// What was taken out of it; empty but while it is heard.
    heard: Batch,
    /// Answers that are to come.
    owed: usize,
}

impl Drop for Way {
    fn drop(&mut self) {
        if let Some(port) = self.port.take() {
            port.detach(self.connection, &self.host.world().tasks);
            port.forget(self.connection);
        }
    }
}

impl Way {
    fn forward(&self, mark: Mark, frame: &[u8], deadline: Instant) -> Result<(), Code> {
        let mut batch = Batch::default();
        batch.push(mark, frame);
        let port = self.port.as_ref().ok_or(Code::NOT_CONNECTED)?;
        port.forward(self.connection, Instant::now(), deadline, &mut batch)
    }

    fn blocked(&self, blocked: bool) {
        if let Some(port) = &self.port {
            port.blocked(self.connection, blocked, &self.host.world().tasks);
        }
    }

    /// Hears what comes up to the answer that is owed last, and that one. The rest stays.
    fn poll_answer(&mut self, ctx: &Ctx, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        while let Poll::Ready(lost) = self.inbox.take(&mut self.heard, cx.waker()) {
            let mut frames = self.heard.frames();
            while let Some((mark, frame)) = frames.next() {
                if mark != Mark::Answer {
                    hear(ctx, mark, &frame);
                    continue;
                }
                self.owed = self.owed.saturating_sub(1);
                if self.owed == 0 {
                    ctx.say(Mark::Answer, frame.bytes);
                    self.inbox.put_back(Batch::from(frames), lost);
                    self.heard.clear();
                    return Poll::Ready(Ok(()));
                }
            }
            self.heard.clear();
            if let Some((code, reason)) = &lost {
                let refusal = match *code {
                    // Whether it was done is unknown.
                    Code::NOT_CONNECTED => Code::DEADLINE.because("the room was lost out of sight"),
                    Code::OK => Code::NOT_IN_ROOM.into(),
                    code => code.because(reason.clone()),
                };
                self.inbox.put_back(Batch::default(), lost);
                return Poll::Ready(Err(refusal));
            }
        }
        Poll::Pending
    }
}

/// What a room says reaches the client as its player's own words.
fn hear(ctx: &Ctx, mark: Mark, frame: &Frame<'_>) {
    match mark {
        Mark::Loose => ctx.say_loosely(frame),
        _ => ctx.say(Mark::Plain, frame.bytes),
    }
}

impl Seats {
    /// Asks a room, or says something to it. Ready when the answer was said to the client.
    pub(super) async fn ask(
        &mut self,
        kind: &str,
        mark: Mark,
        frame: &Frame<'_>,
        ctx: &Ctx,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let seat = self.of_kind(kind).ok_or(Code::NOT_IN_ROOM)?;
        let At::There(way) = &mut seat.at else {
            return Err(Code::NOT_CONNECTED.because("the room is being looked for"));
        };
        way.forward(mark, frame.bytes, deadline)?;
        if !mark.is_awaited() {
            return Ok(());
        }
        way.owed += 1;
        poll_fn(|cx| way.poll_answer(ctx, cx)).await
    }

    /// Whether nothing may be heard of a room, nor of a match.
    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty() && self.wish.is_none()
    }

    fn of_kind(&mut self, kind: &str) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.kind == kind)
    }

    // === What rooms say ===

    /// Ready when something was heard.
    pub(super) fn poll_heard(&mut self, ctx: &Ctx, cx: &mut Context<'_>) -> Poll<()> {
        let (mut heard, away) = (false, self.away);
        self.seats.retain_mut(|seat| match seat.poll(away, ctx, cx) {
            Poll::Pending => true,
            Poll::Ready(stays) => {
                heard = true;
                stays
            }
        });
        if heard { Poll::Ready(()) } else { Poll::Pending }
    }

    // === The session ===

    /// The client has lost its connection, or is back.
    pub(super) fn set_away(&mut self, away: bool) {
        self.away = away;
        for seat in &self.seats {
            if let At::There(way) = &seat.at {
                way.blocked(away);
            }
        }
    }

    /// The session is over: its seats are free.
    pub(super) fn leave_all(&mut self) {
        self.seats.iter().for_each(Seat::leave);
        *self = Self::default();
    }

    /// A newer session takes its place: it may join anew while the rooms keep the seats, as for
    /// whoever is away.
    pub(super) fn part_all(&mut self) {
        *self = Self::default();
    }

    // === On the way to another node ===

    /// As they travel. The rooms are not told: the player speaks to them from elsewhere soon.
    pub(super) fn pack(&self) -> Vec<proto::Seating> {
        let pack = |seat: &Seat| proto::Seating {
            kind: seat.kind.to_owned(),
            room_id: seat.room_id.clone(),
            name: String::new(),
            joins: false,
        };
        self.seats.iter().map(pack).collect()
    }

    /// They have left with their player.
    pub(super) fn let_go(&mut self) {
        for seat in self.seats.drain(..) {
            if let At::There(mut way) = seat.at
                && let Some(port) = way.port.take()
            {
                port.forget(way.connection);
            }
        }
    }

    /// The same on arrival.
    pub(super) fn unpack(packed: Vec<proto::Seating>, host: &Arc<Host>, account: i64) -> Self {
        let seat = |seating: proto::Seating| {
            let proto::Seating { kind, room_id, name: _, joins: _ } = seating;
            let kind = host.room_kind(&kind)?.name();
            let at = At::Sought(seek(host.clone(), account, kind, room_id.clone()));
            Some(Seat { kind, room_id, at })
        };
        // Until its client is there.
        Self { seats: packed.into_iter().filter_map(seat).collect(), away: true, wish: None }
    }
}

impl Seat {
    /// Ready when something happened: whether the seat is still there.
    fn poll(&mut self, away: bool, ctx: &Ctx, cx: &mut Context<'_>) -> Poll<bool> {
        match &mut self.at {
            At::There(way) => {
                let lost = ready!(way.inbox.take(&mut way.heard, cx.waker()));
                if !ctx.pass_on(&mut way.heard) {
                    for (mark, frame) in way.heard.frames() {
                        match mark {
                            // Whoever asked was told that it took too long.
                            Mark::Answer => way.owed = way.owed.saturating_sub(1),
                            _ => hear(ctx, mark, &frame),
                        }
                    }
                    way.heard.clear();
                }
                Poll::Ready(lost.is_none_or(|(code, reason)| self.lost(ctx, code, reason)))
            }
            At::Sought(found) => match ready!(found.as_mut().poll(cx)) {
                Ok((way, state)) => {
                    way.blocked(away);
                    let (code, room_id) = (Code::OK.0, self.room_id.clone());
                    // What the room said meanwhile is lost: the client begins with this.
                    ctx.push(&msg::join_room::Res { code, room_id, state });
                    self.at = At::There(way);
                    Poll::Ready(true)
                }
                Err(refusal) => {
                    self.closed(ctx, refusal.code, refusal.message.into_owned());
                    Poll::Ready(false)
                }
            },
        }
    }

    /// The room does not speak to this player any more. Says whether there is hope.
    fn lost(&mut self, ctx: &Ctx, code: Code, reason: String) -> bool {
        if code == Code::TOO_SLOW {
            // It is this end that has given up: the room does not know.
            self.leave();
        } else if let At::There(way) = &mut self.at
            && let Some(port) = way.port.take()
        {
            port.forget(way.connection);
            if code == Code::NOT_CONNECTED {
                let (host, account) = (way.host.clone(), ctx.account().id);
                self.at = At::Sought(seek(host, account, self.kind, self.room_id.clone()));
                return true;
            }
        }
        self.closed(ctx, code, reason);
        false
    }

    fn closed(&self, ctx: &Ctx, code: Code, reason: String) {
        if code != Code::OK {
            ctx.push(&msg::RoomClosed { room_id: self.room_id.clone(), code: code.0, reason });
        }
    }

    fn leave(&self) {
        if let At::There(way) = &self.at {
            let mut frame = Vec::new();
            let leaves = msg::leave_room::Req { room_id: self.room_id.clone() };
            let named = crate::wire::put_message(&mut frame, &leaves);
            named.expect("an id is small");
            let deadline = Instant::now() + way.host.settings().request_timeout;
            if let Err(code) = way.forward(Mark::Logout, &frame, deadline) {
                tracing::debug!(target: "entity", room = self.room_id, "not left in time: {code}");
            }
        }
    }
}

/// Looks for a room that was lost out of sight: until it is found, or is no more, or has had the
/// time to come back elsewhere.
fn seek(
    host: Arc<Host>,
    account: i64,
    kind: &'static str,
    room_id: String,
) -> BoxFuture<'static, Result<(Way, Vec<u8>), Refusal>> {
    Box::pin(async move {
        let comes_back = host.room_kind(kind).is_some_and(|kind| kind.is_saved());
        let until = Instant::now() + NODE_LEASE + ROOM_SEARCH_GRACE;
        let (id, mut none) = (EntityId { kind, key: room_id.as_str().into() }, 0);
        loop {
            let seating = Seating {
                kind: kind.to_owned(),
                room_id: room_id.clone(),
                name: String::new(),
                joins: false,
            };
            let refusal = match attach(&host, account, &id, seating).await {
                Ok((way, attached)) => return Ok((way, attached.state)),
                Err(refusal) => refusal,
            };
            match refusal.code {
                Code::NOT_IN_ROOM | Code::ROOM_FULL => break,
                // Asked twice: it may be between its old place and its new one.
                Code::ROOM_NOT_FOUND if !comes_back => none += 1,
                _ => {}
            }
            if none > 1 || Instant::now() > until {
                break;
            }
            sleep(ROOM_SEARCH_RETRY).await;
        }
        Err(Code::ROOM_CLOSED.because("the room's game server is gone"))
    })
}

/// Brings a player to a room, wherever that is.
async fn attach(
    host: &Arc<Host>,
    account: i64,
    room: &EntityId,
    seating: Seating,
) -> Result<(Way, Attached), Refusal> {
    let connection = ConnectionId(host.world().chance.next_u64());
    let inbox = Arc::new(Inbox::new());
    let seeking = Seeking {
        connection,
        account,
        end: inbox.clone(),
        entry: Entry::Seat(Box::new(seating)),
        datagram_bytes_max: 0,
    };
    let deadline = Instant::now() + ATTACH_DEADLINE;
    let (port, attached) =
        host.find_room(room, &seeking, deadline).await.map_err(|not| match not {
            NotAttached::Refused(refusal) => refusal,
            NotAttached::Elsewhere(_) => Code::NOT_CONNECTED.because("the room moves just now"),
        })?;
    let way = Way {
        host: host.clone(),
        connection,
        port: Some(port),
        inbox,
        heard: Batch::default(),
        owed: 0,
    };
    Ok((way, attached))
}

/// One try to reach a room.
const ATTACH_DEADLINE: Duration = Duration::from_secs(3);
