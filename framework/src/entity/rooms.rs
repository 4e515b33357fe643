//! Owns the rooms of a game server: opens them where the room center wants them, and brings
//! players to them, wherever they are.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    EntityId, Host,
    host::{Running, Slot},
    place::Place,
};
use crate::{
    Named,
    ask::{Asker, Calls},
    link::{
        Arrival, Attach, Attached, EntityPort, Links, Mail, Mailbox, NotAttached, Seating, Seeking,
        SessionPort,
    },
    proto::link::{open_room, tell},
    room::{AnyRoomKind, Book, Opening, Tickets},
    wire::{Code, Refusal, put_message},
};

/// What players and rooms need of the rest of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct RoomSide {
    pub(crate) book: Book,
    pub(crate) tickets: Tickets,
    /// The way to the room center.
    pub(crate) asker: Asker,
    /// The way to rooms at other nodes, when there are others.
    pub(crate) links: Option<Links>,
    /// Where rooms put their recordings; `None`: nowhere.
    pub(crate) recordings: Option<PathBuf>,
    pub(crate) homes: Homes,
}

/// The threads that rooms run on, those of connections and players: what a room says to a member
/// of its own thread wakes no other one. Each room has the next. Handles only: whoever holds the
/// shards themselves last ends their threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Homes {
    shards: Arc<[Handle]>,
    next: Arc<AtomicUsize>,
}

impl Homes {
    pub(crate) fn on(shards: Vec<Handle>) -> Self {
        Self { shards: shards.into(), next: Arc::default() }
    }

    /// `None` where there are none: a test.
    fn next(&self) -> Option<&Handle> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.shards.get(next.checked_rem(self.shards.len())?)
    }
}

#[cfg(test)]
impl RoomSide {
    pub(crate) fn alone() -> Self {
        use crate::{chance::Chance, clock::Clock, store::Cache};
        let (cache, clock) = (Cache::memory(), Clock::fixed(0));
        let tickets = Tickets::new(cache.clone(), Chance::from_os(), clock.clone());
        let (book, asker) = (Book::new(cache, clock), Asker::default());
        Self { book, tickets, asker, links: None, recordings: None, homes: Homes::default() }
    }
}

/// What a game server is asked about rooms.
pub(crate) fn calls(host: &Arc<Host>, calls: Calls) -> Calls {
    calls.on(host, open_here).on(host, tell_here)
}

pub(crate) async fn open_here(
    host: Arc<Host>,
    request: open_room::Req,
) -> Result<open_room::Res, Refusal> {
    let open_room::Req { kind, room_id, options, again } = request;
    let kind = host.room_kind(&kind).cloned().ok_or(Code::ROOM_NOT_FOUND)?;
    let id = EntityId { kind: kind.name(), key: room_id.into() };
    host.open_room(kind, id, options.into_iter().collect(), again).await?;
    Ok(open_room::Res {})
}

async fn tell_here(host: Arc<Host>, request: tell::Req) -> Result<tell::Res, Refusal> {
    let tell::Req { account, frame } = request;
    Ok(tell::Res { told: host.tell(account, frame) })
}

impl Host {
    pub(crate) fn room_kind(&self, name: &str) -> Option<&Arc<dyn AnyRoomKind>> {
        self.rooms.iter().find(|kind| kind.name() == name)
    }

    /// Runs a room here, unless it does already; to the end also when the caller stops waiting.
    ///
    /// # Errors
    /// 2007 when the node goes away, 1001 when another one runs the room, 101 when a service is
    /// away, 3001 when it is to come back and nothing of it was saved; the room's own.
    async fn open_room(
        self: &Arc<Self>,
        kind: Arc<dyn AnyRoomKind>,
        id: EntityId,
        options: BTreeMap<String, String>,
        again: bool,
    ) -> Result<(), Refusal> {
        loop {
            self.may_run()?;
            let busy = match self.slots().get(&id) {
                Some(Slot::Running(_)) => return Ok(()),
                Some(Slot::Busy(over)) => Some(over.clone()),
                None => None,
            };
            if let Some(over) = busy {
                over.cancelled().await;
                continue;
            }
            let Some(place) = Place::take(self, &id) else { continue };
            let (host, kind, options) = (self.clone(), kind.clone(), options.clone());
            let (opened, told) = oneshot::channel();
            let open = async move {
                // Who asked may have given up.
                let _heard = opened.send(host.open_at(place, kind, options, again).await);
            };
            match self.room_side().homes.next() {
                Some(shard) => self.world().tasks.spawn_on(open, shard),
                None => self.world().tasks.spawn(open),
            }
            return told.await.unwrap_or_else(|_| Err(Code::DRAINING.into()));
        }
    }

    async fn open_at(
        self: &Arc<Self>,
        place: Place,
        kind: Arc<dyn AnyRoomKind>,
        options: BTreeMap<String, String>,
        again: bool,
    ) -> Result<(), Refusal> {
        let id = place.id.clone();
        let (claim, saved) = self.claim_and_load(&id).await.map_err(|not| match not {
            NotAttached::Refused(refusal) => refusal,
            NotAttached::Elsewhere(_) => Code::NOT_CONNECTED.because("another node runs this room"),
        })?;
        let opened = match saved.filter(|saved| !saved.is_empty()) {
            None if again => Err(Code::ROOM_NOT_FOUND.because("nothing of this room was saved")),
            saved => {
                let (host, id, classes) = (self.clone(), id.clone(), self.classes());
                kind.open(Opening { host, id, claim, options, saved, classes })
            }
        };
        match opened {
            Ok(mailbox) => {
                self.run(place, Running::of(mailbox));
                Ok(())
            }
            Err(refusal) => {
                self.release(&id, claim).await;
                Err(refusal)
            }
        }
    }

    /// Brings a player to a room here.
    pub(super) async fn attach_to_room(
        self: &Arc<Self>,
        arrival: Arrival,
        seating: &Seating,
    ) -> Result<(Mailbox, Attached), NotAttached> {
        let kind = self.room_kind(&seating.kind).ok_or(Refusal::from(Code::ROOM_NOT_FOUND))?;
        let id = EntityId { kind: kind.name(), key: seating.room_id.as_str().into() };
        let room = loop {
            let busy = match self.slots().get(&id) {
                Some(Slot::Running(Running { mailbox, .. })) => break mailbox.clone(),
                Some(Slot::Busy(over)) => over.clone(),
                None => return Err(Refusal::from(Code::ROOM_NOT_FOUND).into()),
            };
            busy.cancelled().await;
        };
        let (reply, answer) = oneshot::channel();
        let connection = arrival.connection;
        let mut given_up = self.given_up(&room, connection);
        let delivered = room.deliver(Mail::Attach(Attach { arrival, reply })).await;
        let attached = if delivered { answer.await.ok() } else { None };
        given_up.is_not();
        let attached = attached.ok_or(Refusal::from(Code::ROOM_NOT_FOUND))?;
        Ok((room, attached?))
    }

    /// Brings a player to a room, wherever it is.
    ///
    /// # Errors
    /// 3001 when no node runs it, 1001 when that node is not reached; the room's own.
    pub(crate) async fn find_room(
        self: &Arc<Self>,
        room: &EntityId,
        seeking: &Seeking,
        deadline: Instant,
    ) -> Result<(EntityPort, Attached), NotAttached> {
        let owner = self.directory().locate(&room.to_string()).await?;
        let owner = owner.ok_or(Refusal::from(Code::ROOM_NOT_FOUND))?;
        if owner == self.me().0 {
            let Seeking { connection, account, end, entry, datagram_bytes_max } = seeking.clone();
            let port = SessionPort::Local(end);
            let arrival = Arrival { connection, account, port, entry, datagram_bytes_max };
            let attached = timeout_at(deadline, self.attach(arrival)).await;
            let (mailbox, attached) = attached.map_err(|_| Refusal::from(Code::DEADLINE))??;
            return Ok((EntityPort::Local(mailbox), attached));
        }
        let gone = || Refusal::from(Code::NOT_CONNECTED);
        let node = self.directory().node(&owner).ok_or_else(gone)?;
        let links = self.room_side().links.as_ref().ok_or_else(gone)?;
        links.attach(&node, seeking, deadline).await
    }

    /// Has a player that runs here push a frame to its client. Says whether it runs here.
    pub(super) fn tell(&self, account: i64, frame: Vec<u8>) -> bool {
        let player = match self.slots().get(&self.player_id(account)) {
            Some(Slot::Running(Running { mailbox, .. })) => mailbox.clone(),
            Some(Slot::Busy(_)) | None => return false,
        };
        player.must_send(Mail::Push(frame), &self.world().tasks)
    }

    /// The same with a message, for a player that is thought to run here.
    pub(super) fn tell_message<M: Named>(&self, account: i64, message: &M) {
        let mut frame = Vec::new();
        if put_message(&mut frame, message).is_ok() {
            // Who is gone misses nothing.
            let _told: bool = self.tell(account, frame);
        }
    }
}

impl fmt::Debug for dyn AnyRoomKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
