//! Owns the end of what is over: rooms whose node is lost, reservations nobody used, rooms that
//! were being opened by a center that died. A room that was saved is opened elsewhere.
//!
//! All centers do it. Who changes a record first does the rest; that a room is opened twice all the
//! same harms nothing, for its claim is granted once.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{Inner, RoomCenter, allocate::is_passing, away, contended};
use crate::{
    directory::Nodes,
    limits::{
        ROOM_OPENING_MAX, ROOM_RECORD_TTL, ROOM_REOPEN_RETRY, ROOMS_PER_PAGE_MAX,
        ROOMS_REOPENED_AT_ONCE_MAX, ROOMS_SWEPT,
    },
    proto::link::{RoomRecord, move_room},
    room::book::{List, Listed, name, name_of},
    wire::{Code, Refusal},
};

/// What is known of one who runs rooms.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Lives,
    /// Discovery does not have it, and it may still run what it claims.
    Fades,
    Lost,
}

/// One look through all rooms.
#[derive(Debug, Default)]
struct Sweep {
    fates: HashMap<(String, i64), Fate>,
    /// Rooms to open again.
    lost: Vec<RoomRecord>,
    /// Somebody fades: another look soon.
    again_soon: bool,
    /// Records live on by it.
    refreshes: bool,
}

impl RoomCenter {
    /// Looks through all rooms when a node goes, and every so often, until the tasks stop.
    pub(super) async fn keep_reaped(self) {
        let directory = &self.0.ground.directory;
        let mut nodes = directory.watch();
        let mut known = starts(&directory.nodes());
        let reopening = Arc::new(Semaphore::new(ROOMS_REOPENED_AT_ONCE_MAX));
        let mut refreshed = Instant::now();
        loop {
            let refreshes = refreshed.elapsed() > ROOM_RECORD_TTL / 4;
            if refreshes {
                refreshed = Instant::now();
            }
            let pause = match self.sweep(refreshes, &reopening).await {
                Ok(true) => ROOM_REOPEN_RETRY,
                Ok(false) => ROOMS_SWEPT,
                Err(refusal) => {
                    tracing::debug!(target: "room", "rooms not looked through: {refusal}");
                    ROOMS_SWEPT
                }
            };
            let until = Instant::now() + pause;
            tokio::select! {
                biased; // stop before more work
                () = self.0.ground.tasks.stopped() => return,
                () = news(&mut nodes, &mut known, until) => {}
            }
        }
    }

    /// Looks through all rooms once; whether to look again soon.
    pub(super) async fn sweep(
        &self,
        refreshes: bool,
        reopening: &Arc<Semaphore>,
    ) -> Result<bool, Refusal> {
        let mut sweep = Sweep { refreshes, ..Sweep::default() };
        let mut offset = 0;
        loop {
            let listed = self.0.book.list(List::All, offset, ROOMS_PER_PAGE_MAX).await;
            let listed = listed.map_err(away)?;
            let last = listed.len() < ROOMS_PER_PAGE_MAX;
            for listed in listed {
                // What is gone makes the list shorter.
                offset += usize::from(self.0.reap(listed, &mut sweep).await?);
            }
            if last {
                break;
            }
        }
        for room in sweep.lost {
            let (center, turns) = (self.clone(), reopening.clone());
            self.0.ground.tasks.spawn(async move { center.reopen(room, &turns).await });
        }
        Ok(sweep.again_soon)
    }

    /// A room that was saved is to run elsewhere: its node goes away, and has given it up.
    pub(super) async fn move_room(
        self,
        request: move_room::Req,
    ) -> Result<move_room::Res, Refusal> {
        let move_room::Req { kind, room_id } = request;
        let room = self.0.book.find(&name(&kind, &room_id)).await.map_err(away)?;
        let room = room.filter(|room| room.saved).ok_or(Code::ROOM_NOT_FOUND)?;
        if let Some(room) = self.0.taken_over(&room).await? {
            let center = self.clone();
            // Nobody waits for it: its node has other rooms to give up.
            self.0.ground.tasks.spawn(async move { center.reopen(room, &Semaphore::new(1)).await });
        }
        Ok(move_room::Res {})
    }

    /// Has a room back that was saved; it is written as being opened by this center.
    async fn reopen(self, room: RoomRecord, turns: &Semaphore) {
        let Ok(_turn) = turns.acquire().await else { return };
        tokio::select! {
            biased; // stop before more work
            () = self.0.ground.tasks.stopped() => {}
            reopened = self.0.reopened(room.clone()) => if let Err(refusal) = reopened {
                let RoomRecord { kind, room_id, .. } = room;
                tracing::warn!(target: "room", kind, room_id, "not back yet: {refusal}");
            }
        }
    }
}

impl Inner {
    /// Whether the record stays.
    async fn reap(&self, listed: Listed, sweep: &mut Sweep) -> Result<bool, Refusal> {
        let Some(room) = listed.seen.record.clone() else {
            self.book.pruned(&listed.name, listed.seen).await.map_err(away)?;
            return Ok(false);
        };
        let now_ms = self.now_ms();
        let is_opening = room.opening_until_ms > now_ms;
        let was_opening = room.opening_until_ms > 0 && !is_opening;
        match self.fate(&room, sweep).await? {
            Fate::Fades => sweep.again_soon = true,
            Fate::Lost if room.saved => {
                sweep.lost.extend(self.taken_over(&room).await?);
                return Ok(true);
            }
            // Whoever opens it finds that out, and takes another node.
            Fate::Lost if is_opening => {}
            Fate::Lives if was_opening && room.saved => {
                sweep.lost.extend(self.taken_over(&room).await?);
                return Ok(true);
            }
            Fate::Lives if !was_opening => {}
            Fate::Lost | Fate::Lives => {
                let removed = self.book.remove_lost(&room).await.map_err(away)?;
                return Ok(removed != Some(true));
            }
        }
        if room.reserved.iter().any(|kept| kept.until_ms <= now_ms) {
            self.book.pruned(&listed.name, listed.seen).await.map_err(away)?;
        } else if sweep.refreshes {
            self.book.refresh(&listed).await.map_err(away)?;
        }
        Ok(true)
    }

    async fn fate(&self, room: &RoomRecord, sweep: &mut Sweep) -> Result<Fate, Refusal> {
        let owner = (room.node.clone(), room.incarnation);
        if let Some(fate) = sweep.fates.get(&owner) {
            return Ok(*fate);
        }
        let directory = &self.ground.directory;
        let fate = match directory.has(&owner.0, owner.1) {
            true => Fate::Lives,
            false if directory.is_lost(&owner.0, owner.1).await? => Fate::Lost,
            false => Fate::Fades,
        };
        sweep.fates.insert(owner, fate);
        Ok(fate)
    }

    /// Writes that this center opens a room again. `None`: another does, or there is no node.
    async fn taken_over(&self, room: &RoomRecord) -> Result<Option<RoomRecord>, Refusal> {
        let Some(to) = self.home(room, true).await? else { return Ok(None) };
        let moved = self.book.moved(room, to, self.opening_until_ms()).await;
        let (done, now) = moved.map_err(away)?.ok_or_else(contended)?;
        Ok(now.filter(|_| done))
    }

    /// Where a room is to run: where it does already, else at the least loaded game server.
    async fn home(
        &self,
        room: &RoomRecord,
        elsewhere: bool,
    ) -> Result<Option<(String, i64)>, Refusal> {
        let directory = &self.ground.directory;
        let entity = name_of(room);
        let claimed = directory.locate(&entity).await?.and_then(|node| directory.node(&node));
        let stays = || directory.node(&room.node).filter(|_| !elsewhere);
        let other = || directory.game_server(std::slice::from_ref(&room.node));
        let node = claimed.or_else(stays).or_else(other).or_else(|| directory.game_server(&[]));
        Ok(node.map(|node| (node.id.clone(), node.incarnation)))
    }

    async fn reopened(&self, mut room: RoomRecord) -> Result<(), Refusal> {
        let until = Instant::now() + ROOM_OPENING_MAX;
        for tries in 1u32.. {
            let refusal = match self.open_at(&room, true).await {
                Ok(()) => {
                    room.opening_until_ms = 0;
                    self.book.opened(&room).await.map_err(away)?.ok_or_else(contended)?;
                    let RoomRecord { kind, room_id, node, .. } = room;
                    tracing::info!(target: "room", kind, room_id, node, "a room is back");
                    return Ok(());
                }
                Err(refusal) => refusal,
            };
            if !is_passing(refusal.code) {
                tracing::error!(
                    target: "room", kind = room.kind, room_id = room.room_id,
                    "a room cannot come back from what it saved: {refusal}"
                );
                self.book.remove_lost(&room).await.map_err(away)?;
                return Ok(());
            }
            if Instant::now() > until {
                // The next sweep begins anew.
                return Err(refusal);
            }
            sleep(ROOM_REOPEN_RETRY).await;
            // One that is up may be of no use all the same.
            let Some(to) = self.home(&room, tries.is_multiple_of(TRIES_AT_ONE_NODE)).await? else {
                continue;
            };
            if to != (room.node.clone(), room.incarnation) {
                let moved = self.book.moved(&room, to, self.opening_until_ms()).await;
                match moved.map_err(away)?.ok_or_else(contended)? {
                    (true, Some(now)) => room = now,
                    // Another center has it, or it has ended.
                    _ => return Ok(()),
                }
            }
        }
        Err(Code::INTERNAL.into())
    }
}

/// A claim that is refused for the dead node's lease is granted within some tries.
const TRIES_AT_ONE_NODE: u32 = 5;

/// Ready when there are other starts of nodes than were known, or the time has come.
async fn news(
    nodes: &mut watch::Receiver<Nodes>,
    known: &mut BTreeSet<(String, i64)>,
    until: Instant,
) {
    loop {
        tokio::select! {
            changed = nodes.changed() => if changed.is_err() {
                return sleep_until(until).await;
            },
            () = sleep_until(until) => return,
        }
        let now = starts(&nodes.borrow_and_update());
        if now != *known {
            *known = now;
            return;
        }
    }
}

fn starts(nodes: &Nodes) -> BTreeSet<(String, i64)> {
    nodes.iter().map(|node| (node.id.clone(), node.incarnation)).collect()
}
