//! Owns the entities of one node: finds the running one, wakes a sleeping one, stops them all.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use kameo::{actor::PreparedActor, mailbox};
use rustc_hash::FxHashMap;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Ctx, EntityId, LoadError, Player, Table, World, actor::Entity, writer::Writer};
use crate::{
    config, def,
    directory::{Claim, Directory, Evicted, Lease, NotClaimed},
    limits::ATTACH_TRIES_MAX,
    link::{Account, Attach, Attached, Hosts, Mail, Mailbox, NotAttached, SessionId, SessionPort},
    store::StoreError,
    telemetry::{EntityMeters, Panic, catch},
    wire::{Code, Refusal},
};

/// Makes a state from what was saved, at a time in ms since 1970.
type Load<S> = fn(&Account, Option<&[u8]>, i64) -> Result<S, LoadError>;

/// The kind of the entities that sessions have; their keys are accounts.
pub(crate) const PLAYER: &str = "player";

/// What a studio declared for one kind of entity.
pub(crate) struct Kind<S> {
    pub(super) name: &'static str,
    pub(super) table: Table<S>,
    pub(super) load: Load<S>,
    pub(super) save: fn(&S) -> Vec<u8>,
    pub(super) user: fn(&S, &Account, i64) -> def::User,
    pub(super) on_sign_in: fn(&mut S, &Ctx),
    pub(super) on_moved: fn(&mut S, &Ctx),
    pub(super) on_sign_out: fn(&mut S, &Ctx),
}

impl<P: Player> Kind<P> {
    /// Players, with the handlers that the studio added.
    pub(crate) fn player(table: Table<P>) -> Self {
        Self {
            name: PLAYER,
            table,
            load: P::load,
            save: P::save,
            user: P::user,
            on_sign_in: P::on_sign_in,
            on_moved: P::on_moved,
            on_sign_out: P::on_sign_out,
        }
    }
}

/// A kind whose state's type does not matter.
pub(crate) trait AnyKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn apis(&self) -> Vec<String>;
    /// What describes its messages.
    fn schemas(&self) -> &[&'static [u8]];
    /// Makes the entity from its stored state and sets it going.
    fn wake(
        self: Arc<Self>,
        host: &Arc<Host>,
        id: EntityId,
        waking: &Waking<'_>,
    ) -> Result<Running, LoadError>;
}

/// What a sleeping entity is woken with.
pub(crate) struct Waking<'a> {
    account: &'a Account,
    claim: Claim,
    stored: Option<Vec<u8>>,
}

impl<S: Send + Sync + 'static> AnyKind for Kind<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn apis(&self) -> Vec<String> {
        self.table.names().iter().map(|n| (*n).to_owned()).collect()
    }

    fn schemas(&self) -> &[&'static [u8]] {
        self.table.schemas()
    }

    fn wake(
        self: Arc<Self>,
        host: &Arc<Host>,
        id: EntityId,
        waking: &Waking<'_>,
    ) -> Result<Running, LoadError> {
        let (world, newest) = (host.world.clone(), Arc::new(AtomicU64::new(0)));
        let mailbox = Mailbox::default();
        let stored = waking.stored.as_deref();
        let state = catch(|| (self.load)(waking.account, stored, world.clock.now_ms()))
            .unwrap_or_else(|Panic(text)| Err(LoadError::new(format!("load panicked: {text}"))))?;
        let entity = Entity {
            kind: self,
            host: host.clone(),
            state,
            ctx: Ctx::new(Writer::new(id, waking.claim, world, stored)),
            session: None,
            newest: newest.clone(),
            mailbox: mailbox.clone(),
            streak: 0,
            save_due: None,
            saving: None,
            save_failed: false,
            left: false,
            linger_until: None,
            timer: None,
        };
        // Its mail comes through a mailbox of ours: kameo's own has nothing to hold.
        let prepared = PreparedActor::<Entity<S>>::new(mailbox::bounded(1));
        // On the caller's shard: an entity lives beside the connection that woke it.
        host.world.tasks.spawn(async move {
            if let Err(panic) = prepared.run(entity).await {
                tracing::error!(target: "entity", "an entity failed to start: {panic}");
            }
        });
        Ok(Running { mailbox, newest })
    }
}

/// A running entity, as its host sees it.
#[derive(Clone)]
pub(crate) struct Running {
    mailbox: Mailbox,
    /// See [`Entity::newest`].
    newest: Arc<AtomicU64>,
}

/// The entities that run in this process.
pub(crate) struct Host {
    player: Arc<dyn AnyKind>,
    /// Std mutex: held for a map look-up at sign-in and stop, never per message or across an await.
    slots: Mutex<FxHashMap<EntityId, Slot>>,
    count: watch::Sender<usize>,
    directory: Directory,
    world: World,
    settings: config::Game,
    meters: EntityMeters,
    /// The node is going away: nothing is woken any more.
    closing: AtomicBool,
    /// How often this node has lost the right to run something.
    evictions: AtomicU64,
    /// When a failed save was last logged, in ms: an outage is told once a minute, not per player.
    outage_told_ms: AtomicI64,
}

enum Slot {
    Running(Running),
    /// Being woken or being stopped; the token is cancelled when that is over.
    Busy(CancellationToken),
}

impl Host {
    pub(crate) fn new(
        player: Arc<dyn AnyKind>,
        directory: Directory,
        world: World,
        settings: config::Game,
        meters: EntityMeters,
    ) -> Arc<Self> {
        Arc::new(Self {
            player,
            slots: Mutex::default(),
            count: watch::Sender::new(0),
            directory,
            world,
            settings,
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

    /// Brings a signed-in session to its player, waking it when it sleeps. `moved`: another node
    /// ran it for this session before.
    ///
    /// # Errors
    /// A [`Refusal`] for the client: 101 store away, 1001 nothing may run here now, 1002 busy, 2003 the record is unreadable,
    /// 2007 the node is going away; or which node runs the player.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        session: SessionId,
        account: Account,
        port: SessionPort,
        moved: bool,
    ) -> Result<(Mailbox, Attached), NotAttached> {
        let id = EntityId { kind: self.player.name(), key: account.id.to_string().into() };
        // A player that stops just now bounces its mail; it is then woken again.
        for _ in 0..ATTACH_TRIES_MAX {
            let Running { mailbox: entity, newest } = self.find_or_wake(&id, &account).await?;
            newest.store(session.0, Ordering::Release);
            let mut given_up = GivenUp { host: self, entity: Some(entity.clone()), session };
            let (reply, answer) = oneshot::channel();
            let (account, port) = (account.clone(), port.clone());
            let attach = Attach { session, account, port, moved, reply };
            // It waits behind what an older session left in the mailbox, which is skipped.
            if entity.deliver(Mail::Attach(attach)).await
                && let Ok(attached) = answer.await
            {
                given_up.entity = None;
                return Ok((entity, attached?));
            }
            given_up.entity = None;
            self.forget_stopped(&id).await;
        }
        Err(Refusal::from(Code::BUSY).into())
    }

    async fn find_or_wake(
        self: &Arc<Self>,
        id: &EntityId,
        account: &Account,
    ) -> Result<Running, NotAttached> {
        loop {
            if self.closing.load(Ordering::Relaxed) {
                return Err(Refusal::from(Code::DRAINING).into());
            }
            if !self.lease().holds(Instant::now()) {
                let why = "this game server has lost touch with the others";
                return Err(Code::NOT_CONNECTED.because(why).into());
            }
            let busy = match self.slots().get(id) {
                Some(Slot::Running(running)) => return Ok(running.clone()),
                Some(Slot::Busy(over)) => Some(over.clone()),
                None => None,
            };
            match busy {
                Some(over) => over.cancelled().await,
                None => {
                    if let Some(place) = Place::take(self, id) {
                        return self.wake(place, account).await;
                    }
                }
            }
        }
    }

    async fn wake(
        self: &Arc<Self>,
        place: Place<'_>,
        account: &Account,
    ) -> Result<Running, NotAttached> {
        let id = place.id.clone();
        let evictions = self.evictions.load(Ordering::Acquire);
        let (claim, stored) = self.claim_and_load(&id).await?;
        let waking = Waking { account, claim, stored };
        let woken = self.player.clone().wake(self, id.clone(), &waking);
        let running = match woken {
            Ok(running) => running,
            Err(e) => {
                tracing::error!(target: "entity", entity = %id, "{e}");
                self.directory.release(&id.to_string(), claim).await;
                return Err(Refusal::from(Code::USER_NOT_CREATED).into());
            }
        };
        place.fill(running.clone());
        let evicted = evictions != self.evictions.load(Ordering::Acquire);
        if evicted || self.closing.load(Ordering::Relaxed) {
            // Woken while the node lost its right, or began to go away: it was not among those
            // that were told.
            self.tell_to_stop(&running.mailbox);
        }
        Ok(running)
    }

    /// Claims an entity and reads its state, which fences whoever ran it before.
    async fn claim_and_load(&self, id: &EntityId) -> Result<(Claim, Option<Vec<u8>>), NotAttached> {
        let store = &self.world.store;
        let away = |why: &str| {
            self.save_failed(why);
            Code::NOT_READY.because("the store is away")
        };
        let mut floor = 0;
        for _ in 0..2 {
            let claim =
                self.directory.claim(&id.to_string(), floor).await.map_err(|e| match e {
                    NotClaimed::Elsewhere(node) => NotAttached::Elsewhere(node),
                    NotClaimed::Refused(refusal) => refusal.into(),
                })?;
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
    pub(super) async fn release(&self, id: &EntityId, claim: Claim) {
        self.directory.release(&id.to_string(), claim).await;
    }

    /// The entity is about to stop: who looks for it waits until its state is saved.
    pub(super) fn stopping(&self, id: &EntityId) {
        let mut slots = self.slots();
        if let Some(slot @ Slot::Running(_)) = slots.get_mut(id) {
            *slot = Slot::Busy(CancellationToken::new());
        }
    }

    pub(super) fn stopped(&self, id: &EntityId) {
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
        let gone = count.wait_for(|_| !self.slots().keys().any(lost));
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

    pub(super) fn settings(&self) -> &config::Game {
        &self.settings
    }

    /// Until when entities may run here.
    pub(super) fn lease(&self) -> &Lease {
        self.directory.lease()
    }

    pub(super) fn meters(&self) -> &EntityMeters {
        &self.meters
    }

    /// Tells of an outage of the store, at most once a minute.
    pub(super) fn save_failed(&self, why: &str) {
        self.meters.saves_failed.increment(1);
        let now = self.world.clock.now_ms();
        let told = self.outage_told_ms.load(Ordering::Relaxed);
        if now.saturating_sub(told) >= 60_000 {
            self.outage_told_ms.store(now, Ordering::Relaxed);
            tracing::warn!(target: "store", "states are kept in memory and tried again: {why}");
        }
    }

    fn slots(&self) -> MutexGuard<'_, FxHashMap<EntityId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_slots(&self, slots: &FxHashMap<EntityId, Slot>) {
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
        session: SessionId,
        account: Account,
        port: SessionPort,
        moved: bool,
    ) -> BoxFuture<'static, Result<(Mailbox, Attached), NotAttached>> {
        let host = self.0.clone();
        Box::pin(async move { host.attach(session, account, port, moved).await })
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("entities", &self.count()).finish_non_exhaustive()
    }
}

/// A sign-in under way. When its caller stops waiting, the player hears that the session is over:
/// it may have been attached in the same moment.
struct GivenUp<'a> {
    host: &'a Host,
    /// `None` once there is nothing to tell.
    entity: Option<Mailbox>,
    session: SessionId,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if let Some(entity) = self.entity.take() {
            let _told: bool = entity.detach(self.session, &self.host.world.tasks);
        }
    }
}

/// The right to wake one entity; given back when the waking is not finished.
struct Place<'a> {
    host: &'a Host,
    id: &'a EntityId,
    over: CancellationToken,
    filled: bool,
}

impl<'a> Place<'a> {
    fn take(host: &'a Host, id: &'a EntityId) -> Option<Self> {
        let mut slots = host.slots();
        if slots.contains_key(id) {
            return None;
        }
        let over = CancellationToken::new();
        slots.insert(id.clone(), Slot::Busy(over.clone()));
        host.count_slots(&slots);
        Some(Self { host, id, over, filled: false })
    }

    fn fill(mut self, running: Running) {
        self.filled = true;
        let mut slots = self.host.slots();
        slots.insert(self.id.clone(), Slot::Running(running));
        self.host.count_slots(&slots);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.filled {
            let mut slots = self.host.slots();
            slots.remove(self.id);
            self.host.count_slots(&slots);
        }
        self.over.cancel();
    }
}
