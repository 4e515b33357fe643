//! Owns the entities of one node: finds the running one, wakes a sleeping one, stops them all.

use std::{
    collections::HashSet,
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use rustc_hash::FxHashMap;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Classes, EntityId, ReplayRoom, RoomSide, World,
    kind::{AnyKind, Waking},
    place::Place,
};
use crate::{
    config,
    directory::{Claim, Directory, Evicted, Lease, NotClaimed},
    limits::ATTACH_TRIES_MAX,
    link::{Account, Arrival, Attach, Attached, End, Entry, Hosts, Mail, Mailbox, NotAttached},
    room::{AnyRoomKind, Book},
    store::StoreError,
    telemetry::EntityMeters,
    wire::{Code, Refusal},
};

/// A running entity, as its host sees it.
#[derive(Clone)]
pub(crate) struct Running {
    pub(super) mailbox: Mailbox,
    /// See [`Entity::newest`](super::actor::Entity::newest).
    pub(super) newest: Arc<AtomicU64>,
    /// See [`Entity::resumable`](super::actor::Entity::resumable).
    pub(super) resumable: Arc<AtomicU64>,
}

impl Running {
    /// Something that has no sessions.
    pub(super) fn of(mailbox: Mailbox) -> Self {
        Self { mailbox, newest: Arc::default(), resumable: Arc::default() }
    }
}

/// What may run in this process.
pub(crate) struct Kinds {
    pub(crate) player: Arc<dyn AnyKind>,
    pub(crate) rooms: Vec<Arc<dyn AnyRoomKind>>,
    pub(crate) side: RoomSide,
}

#[cfg(test)]
impl<P: super::Player> From<Arc<super::Kind<P>>> for Kinds {
    /// Players alone.
    fn from(player: Arc<super::Kind<P>>) -> Self {
        Self { player, rooms: Vec::new(), side: RoomSide::alone() }
    }
}

/// The entities that run in this process.
pub(crate) struct Host {
    player: Arc<dyn AnyKind>,
    pub(super) rooms: Vec<Arc<dyn AnyRoomKind>>,
    side: RoomSide,
    /// Std mutex: held for a map look-up at sign-in and stop, never per message or across an await.
    slots: Mutex<FxHashMap<EntityId, Slot>>,
    count: watch::Sender<usize>,
    directory: Directory,
    world: World,
    settings: config::Game,
    sessions: config::Session,
    pub(super) replay_room: ReplayRoom,
    meters: EntityMeters,
    /// The node is going away: nothing is woken any more.
    closing: AtomicBool,
    /// How often this node has lost the right to run something.
    pub(super) evictions: AtomicU64,
    /// When a failed save was last logged, in ms: an outage is told once a minute, not per player.
    outage_told_ms: AtomicI64,
}

/// What came of ending a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Done,
    /// The player runs here, without such a session.
    NoSession,
    /// Nothing of the player runs here.
    NotHere,
    /// The player is being woken or put away, or has just left: ask again.
    Moving,
}

pub(super) enum Slot {
    Running(Running),
    /// Being woken or being stopped; the token is cancelled when that is over.
    Busy(CancellationToken),
}

impl Host {
    pub(crate) fn new(
        kinds: impl Into<Kinds>,
        directory: Directory,
        world: World,
        settings: config::Game,
        sessions: config::Session,
        meters: EntityMeters,
    ) -> Arc<Self> {
        let Kinds { player, rooms, side } = kinds.into();
        let replay_room =
            ReplayRoom::new(sessions.replay_bytes_max, sessions.replay_bytes_total_max);
        Arc::new(Self {
            player,
            rooms,
            side,
            slots: Mutex::default(),
            count: watch::Sender::new(0),
            directory,
            world,
            settings,
            sessions,
            replay_room,
            meters,
            closing: AtomicBool::new(false),
            evictions: AtomicU64::new(0),
            outage_told_ms: AtomicI64::new(i64::MIN),
        })
    }

    /// The names of the messages that its entities have handlers for.
    pub(crate) fn apis(&self) -> Vec<String> {
        self.player.apis()
    }

    /// What may become of messages while a client does not take them in.
    pub(crate) fn classes(&self) -> Arc<Classes> {
        self.player.classes()
    }

    /// Brings a connection to its player, waking it when it sleeps.
    ///
    /// # Errors
    /// A [`Refusal`] for the client: 101 store away, 1001 nothing may run here now, 1002 busy,
    /// 2003 the record is unreadable, 2004 there is no such session, 2007 the node is going away;
    /// or which node runs the player.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        arrival: Arrival,
    ) -> Result<(Mailbox, Attached), NotAttached> {
        if let Entry::Seat(seating) = &arrival.entry {
            let seating = seating.clone();
            return self.attach_to_room(arrival, &seating).await;
        }
        let id = self.player_id(arrival.account);
        // A player that stops just now bounces its mail; it is then woken again.
        for _ in 0..ATTACH_TRIES_MAX {
            let found = self.find_or_wake(&id, &arrival).await?;
            let Running { mailbox: entity, newest, resumable } = found;
            let connection = arrival.connection;
            if let Entry::Resume { session, .. } = arrival.entry
                && session.0 != resumable.load(Ordering::Acquire)
            {
                // Not by the entity: those who make it up would fill the mailbox of somebody else.
                return Err(Refusal::from(Code::RESUME_REFUSED).into());
            }
            if matches!(arrival.entry, Entry::SignIn { .. }) {
                newest.store(connection.0, Ordering::Release);
            }
            let mut given_up = self.given_up(&entity, connection);
            let (reply, answer) = oneshot::channel();
            let attach = Attach { arrival: arrival.clone(), reply };
            // A sign-in waits behind what an older session left in the mailbox, which is skipped.
            if entity.deliver(Mail::Attach(attach)).await
                && let Ok(attached) = answer.await
            {
                given_up.is_not();
                return Ok((entity, attached?));
            }
            given_up.is_not();
            self.forget_stopped(&id).await;
        }
        Err(Refusal::from(Code::BUSY).into())
    }

    /// Ends the session of an account, if its player runs here.
    pub(crate) async fn end_session(&self, account: i64, end: End) -> Ended {
        let Running { mailbox, .. } = match self.slots().get(&self.player_id(account)) {
            Some(Slot::Running(running)) => running.clone(),
            Some(Slot::Busy(_)) => return Ended::Moving,
            None => return Ended::NotHere,
        };
        let (reply, answer) = oneshot::channel();
        // Handed over for good: a caller that stops waiting leaves nothing half done.
        mailbox.end(end, reply, &self.world.tasks);
        match answer.await {
            Ok(true) => Ended::Done,
            Ok(false) => Ended::NoSession,
            // It has stopped, or left.
            Err(_) => Ended::Moving,
        }
    }

    /// Whether anything may be woken here now.
    pub(super) fn may_run(&self) -> Result<(), Refusal> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(Code::DRAINING.into());
        }
        if !self.lease().holds(Instant::now()) {
            return Err(
                Code::NOT_CONNECTED.because("this game server has lost touch with the others")
            );
        }
        Ok(())
    }

    pub(super) fn player_id(&self, account: i64) -> EntityId {
        EntityId { kind: self.player.name(), key: account.to_string().into() }
    }

    async fn find_or_wake(
        self: &Arc<Self>,
        id: &EntityId,
        arrival: &Arrival,
    ) -> Result<Running, NotAttached> {
        loop {
            self.may_run()?;
            let busy = match self.slots().get(id) {
                Some(Slot::Running(running)) => return Ok(running.clone()),
                Some(Slot::Busy(over)) => Some(over.clone()),
                None => None,
            };
            match busy {
                Some(over) => over.cancelled().await,
                None => {
                    // Who has nothing to go on with takes no place: its owner may want in.
                    self.find_carried(id, arrival).await?;
                    if let Some(place) = Place::take(self, id) {
                        return self.wake_to_the_end(place, arrival.clone()).await;
                    }
                }
            }
        }
    }

    /// Also when the caller stops waiting: what was claimed, and what was taken out of the cache,
    /// would be nobody's.
    async fn wake_to_the_end(
        self: &Arc<Self>,
        place: Place,
        arrival: Arrival,
    ) -> Result<Running, NotAttached> {
        let (host, (woken, told)) = (self.clone(), oneshot::channel());
        self.world.tasks.spawn(async move {
            // Who asked may have given up.
            let _heard = woken.send(host.wake(place, &arrival).await);
        });
        // It is cut short only when the process ends.
        told.await.unwrap_or_else(|_| Err(Refusal::from(Code::DRAINING).into()))
    }

    async fn wake(
        self: &Arc<Self>,
        place: Place,
        arrival: &Arrival,
    ) -> Result<Running, NotAttached> {
        let id = place.id.clone();
        let (claim, stored) = self.claim_and_load(&id).await?;
        // What lay there before the claim may be old by now: it may have gone on and come back.
        let unloaded = self.unload(&id).await;
        let carried = match &unloaded {
            Ok(Some(packed)) => self.unpack(packed, arrival),
            Ok(None) | Err(_) => None,
        };
        let openid = match (&arrival.entry, &carried) {
            (Entry::SignIn { openid, .. }, _) => openid.clone(),
            (_, Some(carried)) => carried.session.openid.clone(),
            (_, None) => {
                self.directory.release(&id.to_string(), claim).await;
                // If the cache says so, somebody has ended the session while it lay there.
                let refused = unloaded.map(|_| Refusal::from(Code::RESUME_REFUSED));
                return Err(refused.unwrap_or_else(|away| away).into());
            }
        };
        let account = Account { id: arrival.account, openid };
        let waking = Waking { account, claim, stored, carried };
        let running = match self.player.clone().wake(self, id.clone(), waking) {
            Ok(running) => running,
            Err(e) => {
                tracing::error!(target: "entity", entity = %id, "{e}");
                self.directory.release(&id.to_string(), claim).await;
                return Err(Refusal::from(Code::USER_NOT_CREATED).into());
            }
        };
        self.run(place, running.clone());
        Ok(running)
    }

    /// What was woken, or opened, is there for everybody.
    pub(super) fn run(&self, place: Place, running: Running) {
        let mailbox = running.mailbox.clone();
        let evicted = place.evictions != self.evictions.load(Ordering::Acquire);
        place.fill(running);
        if evicted || self.closing.load(Ordering::Relaxed) {
            // Woken while the node lost its right, or began to go away: it was not among those
            // that were told.
            self.tell_to_stop(&mailbox);
        }
    }

    /// Claims an entity and reads its state, which fences whoever ran it before.
    pub(super) async fn claim_and_load(
        &self,
        id: &EntityId,
    ) -> Result<(Claim, Option<Vec<u8>>), NotAttached> {
        let store = &self.world.store;
        let away = |why: &str| {
            self.save_failed(why);
            Code::NOT_READY.because("the store is away")
        };
        let mut floor = 0;
        for _ in 0..2 {
            let claim = self.directory.claim(&id.to_string(), floor).await?;
            match store.load_record(id.kind, &id.key, claim.epoch).await {
                Ok(stored) => return Ok((claim, stored)),
                Err(StoreError::Unavailable(why)) => {
                    self.directory.release(&id.to_string(), claim).await;
                    return Err(away(&why).into());
                }
                // Written under an epoch of other claims, which this store saw before.
                Err(StoreError::Fenced) => {
                    self.directory.release(&id.to_string(), claim).await;
                    let epoch = store.record_epoch(id.kind, &id.key).await;
                    floor = epoch.map_err(|e| away(&e.to_string()))?.unwrap_or(0);
                }
            }
        }
        Err(Code::NOT_CONNECTED.because("another node runs this player").into())
    }

    /// An entity has stopped, or left: whoever wants it may claim it.
    pub(crate) async fn release(&self, id: &EntityId, claim: Claim) {
        self.directory.release(&id.to_string(), claim).await;
    }

    /// The entity is about to stop: who looks for it waits until its state is saved.
    pub(crate) fn stopping(&self, id: &EntityId) {
        let mut slots = self.slots();
        if let Some(slot @ Slot::Running(_)) = slots.get_mut(id) {
            *slot = Slot::Busy(CancellationToken::new());
        }
    }

    pub(crate) fn stopped(&self, id: &EntityId) {
        let mut slots = self.slots();
        if let Some(Slot::Busy(over)) = slots.remove(id) {
            over.cancel();
        }
        self.count_slots(&slots);
    }

    /// Waits for the end of an entity whose mailbox is closed.
    async fn forget_stopped(&self, id: &EntityId) {
        let over = match self.slots().get(id) {
            Some(Slot::Busy(over)) => Some(over.clone()),
            _ => None,
        };
        match over {
            Some(over) => over.cancelled().await,
            None => tokio::task::yield_now().await,
        }
    }

    /// Saves and stops every entity; how many were left when `patience` was over.
    pub(crate) async fn stop_all(&self, patience: Duration) -> usize {
        self.closing.store(true, Ordering::Relaxed);
        self.tell_to_stop_those(|_| true);
        let mut count = self.count.subscribe();
        match tokio::time::timeout(patience, count.wait_for(|n| *n == 0)).await {
            Ok(_) => 0,
            Err(_) => self.count(),
        }
    }

    /// Stops what this node has lost the right to run. What it had not saved is refused by the
    /// store where another node runs it by now.
    pub(crate) async fn evict(&self, evicted: Evicted) {
        // What is being woken now was claimed before, and must not come to run.
        self.evictions.fetch_add(1, Ordering::AcqRel);
        let names: Option<HashSet<String>> = match evicted {
            Evicted::All => None,
            Evicted::These(names) => Some(names.into_iter().collect()),
        };
        let lost = |id: &EntityId| names.as_ref().is_none_or(|n| n.contains(&id.to_string()));
        self.tell_to_stop_those(lost);
        // A handler that hangs is cut at its deadline, and its entity stops behind it.
        let mut count = self.count.subscribe();
        // The slots are looked at while the count is not: who counts them holds them, and would
        // wait for whoever looks at the count.
        let gone = async {
            loop {
                let is_here = self.slots().keys().any(lost);
                if !is_here || count.changed().await.is_err() {
                    return;
                }
            }
        };
        let _gone = tokio::time::timeout(self.settings.request_timeout, gone).await;
    }

    fn tell_to_stop_those(&self, which: impl Fn(&EntityId) -> bool) {
        let running: Vec<_> = self
            .slots()
            .iter()
            .filter_map(|(id, slot)| match slot {
                Slot::Running(running) if which(id) => Some(running.mailbox.clone()),
                Slot::Running(_) | Slot::Busy(_) => None,
            })
            .collect();
        for mailbox in &running {
            self.tell_to_stop(mailbox);
        }
    }

    /// An entity whose mailbox is full is told in its turn; the others do not wait for it.
    fn tell_to_stop(&self, mailbox: &Mailbox) {
        // One that has stopped needs no telling.
        let _told: bool = mailbox.must_send(Mail::Stop, &self.world.tasks);
    }

    /// How many entities are in memory.
    pub(crate) fn count(&self) -> usize {
        self.slots().len()
    }

    pub(crate) fn settings(&self) -> &config::Game {
        &self.settings
    }

    pub(crate) fn sessions(&self) -> &config::Session {
        &self.sessions
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(super) fn replay_room(&self) -> ReplayRoom {
        self.replay_room.clone()
    }

    /// What room centers know of the rooms that run here.
    pub(crate) fn book(&self) -> &Book {
        &self.side.book
    }

    pub(crate) fn room_side(&self) -> &RoomSide {
        &self.side
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Where rooms put their recordings.
    pub(crate) fn recordings(&self) -> Option<&Path> {
        self.side.recordings.as_deref()
    }

    /// This node, and this start of it.
    pub(crate) fn me(&self) -> (&str, i64) {
        (self.directory.me(), self.directory.incarnation())
    }

    /// Until when entities may run here.
    pub(crate) fn lease(&self) -> &Lease {
        self.directory.lease()
    }

    pub(crate) fn meters(&self) -> &EntityMeters {
        &self.meters
    }

    /// Tells of an outage of the store, at most once a minute.
    pub(crate) fn save_failed(&self, why: &str) {
        self.meters.saves_failed.increment(1);
        let now = self.world.clock.now_ms();
        let told = self.outage_told_ms.load(Ordering::Relaxed);
        if now.saturating_sub(told) >= 60_000 {
            self.outage_told_ms.store(now, Ordering::Relaxed);
            tracing::warn!(target: "store", "states are kept in memory and tried again: {why}");
        }
    }

    pub(super) fn slots(&self) -> MutexGuard<'_, FxHashMap<EntityId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_slots(&self, slots: &FxHashMap<EntityId, Slot>) {
        self.count.send_replace(slots.len());
        self.meters.entities.set(slots.len() as f64);
    }
}

/// What a host is to the links that other nodes have to it.
#[derive(Debug)]
pub(crate) struct Hosted(pub(crate) Arc<Host>);

impl Hosts for Hosted {
    fn attach(
        &self,
        arrival: Arrival,
    ) -> BoxFuture<'static, Result<(Mailbox, Attached), NotAttached>> {
        let host = self.0.clone();
        Box::pin(async move { host.attach(arrival).await })
    }
}

impl From<NotClaimed> for NotAttached {
    fn from(not: NotClaimed) -> Self {
        match not {
            NotClaimed::Elsewhere(node) => Self::Elsewhere(node),
            NotClaimed::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("entities", &self.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entity::model::{self, End as Gate},
        link::{ConnectionId, SessionPort},
    };

    /// Who counts the slots and who waits for them once stood in each other's way, for ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_node_that_loses_all_it_runs_is_not_stuck_while_it_stops() {
        for round in 0..100 {
            // Nowhere to go: they stop at once.
            let world = World { in_transit: None, ..model::world() };
            let host = model::host(&world, 1);
            for account in 1i64..=64 {
                let entry = Entry::SignIn { openid: "o".into(), sid: "s".into() };
                let port = SessionPort::Local(Arc::new(Gate::default()));
                let connection = ConnectionId(account.unsigned_abs());
                let arrival = Arrival { connection, account, port, entry, datagram_bytes_max: 0 };
                host.attach(arrival).await.expect("signed in");
            }
            let (evicts, (done, stopped)) = (host.clone(), oneshot::channel());
            world.tasks.spawn(async move {
                evicts.evict(Evicted::All).await;
                done.send(evicts.count()).expect("waited for");
            });
            let patience = Duration::from_secs(20);
            let left = tokio::time::timeout(patience, stopped).await;
            assert_eq!(left.expect("in time").expect("told"), 0, "round {round}");
        }
    }
}
