//! Owns the entities of one node: finds the running one, wakes a sleeping one, stops them all.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use kameo::{actor::PreparedActor, mailbox};
use rustc_hash::FxHashMap;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Ctx, EntityId, LoadError, Player, Table, World,
    actor::{Entity, Saves},
};
use crate::{
    config, def,
    directory::{Claim, Directory},
    limits::{ATTACH_TRIES_MAX, MAILBOX_BATCHES_MAX},
    link::{Account, Attach, Attached, EntityPort, Mail, SendError, SessionId, SessionPort},
    store::StoreError,
    tasks::Tasks,
    telemetry::{EntityMeters, Panic, catch},
    wire::{Code, Refusal},
};

/// Makes a state from what was saved, at a time in ms since 1970.
type Load<S> = fn(&Account, Option<&[u8]>, i64) -> Result<S, LoadError>;

/// What a studio declared for one kind of entity.
pub(crate) struct Kind<S> {
    pub(super) name: &'static str,
    pub(super) table: Table<S>,
    pub(super) load: Load<S>,
    pub(super) save: fn(&S) -> Vec<u8>,
    pub(super) user: fn(&S, &Account, i64) -> def::User,
    pub(super) on_sign_in: fn(&mut S, &Ctx),
    pub(super) on_sign_out: fn(&mut S, &Ctx),
}

impl<P: Player> Kind<P> {
    /// Players, with the handlers that the studio added.
    pub(crate) fn player(table: Table<P>) -> Self {
        Self {
            name: "player",
            table,
            load: P::load,
            save: P::save,
            user: P::user,
            on_sign_in: P::on_sign_in,
            on_sign_out: P::on_sign_out,
        }
    }
}

/// A kind whose state's type does not matter.
pub(crate) trait AnyKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn apis(&self) -> Vec<String>;
    /// Makes the entity from its stored state and sets it going.
    fn wake(
        self: Arc<Self>,
        host: &Arc<Host>,
        id: EntityId,
        waking: &Waking<'_>,
    ) -> Result<EntityPort, LoadError>;
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

    fn wake(
        self: Arc<Self>,
        host: &Arc<Host>,
        id: EntityId,
        waking: &Waking<'_>,
    ) -> Result<EntityPort, LoadError> {
        let world = host.world.clone();
        let stored = waking.stored.as_deref();
        let state = catch(|| (self.load)(waking.account, stored, world.clock.now_ms()))
            .unwrap_or_else(|Panic(text)| Err(LoadError::new(format!("load panicked: {text}"))))?;
        let entity = Entity {
            kind: self,
            host: host.clone(),
            state,
            ctx: Ctx::new(id, waking.claim, world),
            session: None,
            saves: Saves::default(),
            linger_until: None,
            timer: None,
        };
        let prepared = PreparedActor::<Entity<S>>::new(mailbox::bounded(MAILBOX_BATCHES_MAX));
        let port = EntityPort::Local(prepared.actor_ref().clone().recipient());
        // On the caller's shard: an entity lives beside the connection that woke it.
        host.tasks.spawn(async move {
            if let Err(panic) = prepared.run(entity).await {
                tracing::error!(target: "entity", "an entity failed to start: {panic}");
            }
        });
        Ok(port)
    }
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
    tasks: Tasks,
    meters: EntityMeters,
    /// When a failed save was last logged, in ms: an outage is told once a minute, not per player.
    outage_told_ms: AtomicI64,
}

enum Slot {
    Running(EntityPort),
    /// Being woken or being stopped; the token is cancelled when that is over.
    Busy(CancellationToken),
}

impl Host {
    pub(crate) fn new(
        player: Arc<dyn AnyKind>,
        directory: Directory,
        world: World,
        settings: config::Game,
        tasks: Tasks,
        meters: EntityMeters,
    ) -> Arc<Self> {
        Arc::new(Self {
            player,
            slots: Mutex::default(),
            count: watch::Sender::new(0),
            directory,
            world,
            settings,
            tasks,
            meters,
            outage_told_ms: AtomicI64::new(i64::MIN),
        })
    }

    /// The names of the messages that its entities have handlers for.
    pub(crate) fn apis(&self) -> Vec<String> {
        self.player.apis()
    }

    /// Brings a signed-in session to its player, waking it when it sleeps.
    ///
    /// # Errors
    /// A [`Refusal`] for the client: 101 store away, 1002 busy, 2003 the record is unreadable.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        session: SessionId,
        account: Account,
        port: SessionPort,
    ) -> Result<(EntityPort, Attached), Refusal> {
        let id = EntityId { kind: self.player.name(), key: account.id.to_string().into() };
        // A player that stops just now bounces its mail; it is then woken again.
        for _ in 0..ATTACH_TRIES_MAX {
            let entity = self.find_or_wake(&id, &account).await?;
            let (reply, answer) = oneshot::channel();
            let attach = Attach { session, account: account.clone(), port: port.clone(), reply };
            match entity.send(Mail::Attach(attach)) {
                Ok(()) => {
                    if let Ok(attached) = answer.await {
                        return attached.map(|attached| (entity, attached));
                    }
                }
                Err(SendError::Full(_)) => return Err(Code::BUSY.into()),
                Err(SendError::Stopped(_)) => self.forget_stopped(&id).await,
            }
        }
        Err(Code::BUSY.into())
    }

    async fn find_or_wake(
        self: &Arc<Self>,
        id: &EntityId,
        account: &Account,
    ) -> Result<EntityPort, Refusal> {
        loop {
            let busy = match self.slots().get(id) {
                Some(Slot::Running(port)) => return Ok(port.clone()),
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
    ) -> Result<EntityPort, Refusal> {
        let id = place.id.clone();
        let claim = self.directory.claim();
        let stored = self.world.store.load_record(id.kind, &id.key, claim.epoch).await;
        let stored = stored.map_err(|e| match e {
            StoreError::Fenced => Code::NOT_CONNECTED.because("another node runs this player"),
            StoreError::Unavailable(why) => {
                self.save_failed(&why);
                Code::NOT_READY.because("the store is away")
            }
        })?;
        let waking = Waking { account, claim, stored };
        let port = self.player.clone().wake(self, id, &waking).map_err(|e| {
            tracing::error!(target: "entity", entity = %place.id, "{e}");
            Code::USER_NOT_CREATED
        })?;
        place.fill(port.clone());
        Ok(port)
    }

    /// The entity is about to stop: who looks for it waits until its state is saved.
    pub(super) fn stopping(&self, id: &EntityId) {
        self.slots().insert(id.clone(), Slot::Busy(CancellationToken::new()));
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
        let ports: Vec<_> = self
            .slots()
            .values()
            .filter_map(|slot| match slot {
                Slot::Running(port) => Some(port.clone()),
                Slot::Busy(_) => None,
            })
            .collect();
        let all = async {
            for port in ports {
                port.deliver(Mail::Stop).await;
            }
            let mut count = self.count.subscribe();
            if count.wait_for(|n| *n == 0).await.is_err() {
                tracing::debug!(target: "entity", "the count of entities is gone");
            }
        };
        match tokio::time::timeout(patience, all).await {
            Ok(()) => 0,
            Err(_) => self.count(),
        }
    }

    /// How many entities are in memory.
    pub(crate) fn count(&self) -> usize {
        self.slots().len()
    }

    pub(super) fn settings(&self) -> &config::Game {
        &self.settings
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

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("entities", &self.count()).finish_non_exhaustive()
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

    fn fill(mut self, port: EntityPort) {
        self.filled = true;
        self.host.slots().insert(self.id.clone(), Slot::Running(port));
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
