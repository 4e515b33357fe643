//! Owns this node's part in a cluster: it is registered in etcd, claims entities in Redis, proves
//! both in time, and stops what it runs when another node has taken over.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    Claim, Directory, Etcd, EtcdError, Kind, Lease, NodeInfo, Nodes, NotClaimed,
    claims::{Claimed, Owner, RedisClaims, Renewed},
    etcd::EtcdSettings,
};
use crate::{
    clock::Clock,
    limits::NODE_LEASE,
    store::{CacheError, Redis},
    tasks::Tasks,
    wire::{Code, Refusal},
};

/// Where the cluster is.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSettings {
    pub(crate) node: String,
    pub(crate) etcd: EtcdSettings,
    pub(crate) redis: Redis,
    pub(crate) clock: Clock,
}

/// Why a node cannot be part of a cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error(transparent)]
    Etcd(#[from] EtcdError),
}

/// What this node must stop running, for another may run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Evicted {
    /// Everything: another node took over from this one.
    All,
    /// These entities, by name.
    These(Vec<String>),
}

/// Stops what was evicted; ready when it has stopped.
pub(crate) type Evict = Arc<dyn Fn(Evicted) -> BoxFuture<'static, ()> + Send + Sync>;

pub(super) struct Cluster {
    node: String,
    incarnation: AtomicI64,
    /// What the others are to know of this node.
    info: watch::Sender<Option<NodeInfo>>,
    /// Whether the view of the nodes is live.
    synced: watch::Receiver<bool>,
    etcd: Etcd,
    claims: RedisClaims,
    redis: Redis,
    clock: Clock,
    /// What this node claims, by name, with the epochs: Redis may lose them. Std mutex: held for
    /// a look-up, never across an await.
    owned: Mutex<HashMap<String, i64>>,
    /// The node has ended.
    resigned: AtomicBool,
}

/// This start of this node, as a renewal leaves it.
enum Start {
    /// The claims know it.
    Known,
    /// They do not know it yet: another took over from the one before.
    Anew,
}

impl Directory {
    /// Joins a cluster: from now on the nodes are etcd's. This one is not among them before
    /// [`Directory::register`].
    ///
    /// # Errors
    /// On what the operator must mend; that a service is away is none of it.
    pub(crate) async fn join(
        settings: ClusterSettings,
        handle: Handle,
        tasks: &Tasks,
    ) -> Result<Self, JoinError> {
        let ClusterSettings { node, etcd, redis, clock } = settings;
        let etcd = Etcd::connect(etcd, handle).await?;
        let nodes = Arc::new(watch::Sender::new(Nodes::default()));
        let (live, synced) = watch::channel(false);
        let (info, told) = watch::channel(None);
        let lease = Lease::new(NODE_LEASE);
        let proved = lease.clone();
        tasks.spawn(etcd.clone().follow(nodes.clone(), live, tasks.clone()));
        let keep = etcd.clone();
        let proved = move |sent| proved.proved_by_discovery(sent);
        tasks.spawn(keep.keep(told, proved, tasks.clone()));
        let cluster = Cluster {
            node: node.clone(),
            incarnation: AtomicI64::new(clock.now_ms() * 1000),
            info,
            synced,
            claims: RedisClaims::new(redis.clone(), NODE_LEASE),
            etcd,
            redis,
            clock,
            owned: Mutex::default(),
            resigned: AtomicBool::new(false),
        };
        Ok(Self::new(&node, nodes, lease, Kind::Cluster(cluster)))
    }

    /// This start of this node; it grows.
    pub(crate) fn incarnation(&self) -> i64 {
        match &self.0.kind {
            Kind::Alone { incarnation } => *incarnation,
            Kind::Cluster(cluster) => cluster.incarnation.load(Ordering::Acquire),
        }
    }

    /// Ready when this node is registered and sees itself.
    pub(crate) async fn registered(&self) {
        let mut nodes = self.watch();
        let here = |nodes: &Nodes| nodes.iter().any(|n| n.id == self.0.me);
        // It lives as long as this directory.
        let _seen = nodes.wait_for(here).await;
    }

    /// Keeps the right to run entities, until the tasks stop: renews it, says again what Redis
    /// has lost, and has everything stopped when another node took over.
    pub(crate) async fn keep_claims(self, evict: Evict, tasks: Tasks) {
        let Kind::Cluster(cluster) = &self.0.kind else { return };
        let mut generation = None;
        loop {
            let pause = match self.renew(cluster, &mut generation, &evict).await {
                Ok(Start::Known) => NODE_LEASE / 3,
                // At once: nothing may run here before the claims know this new start.
                Ok(Start::Anew) => Duration::ZERO,
                // The log has it; several tries are left before the lease is over.
                Err(_away) => NODE_LEASE / 10,
            };
            tokio::select! {
                biased; // stop before more work
                () = tasks.stopped() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Says whether this start of the node lives.
    async fn renew(
        &self,
        cluster: &Cluster,
        generation: &mut Option<String>,
        evict: &Evict,
    ) -> Result<Start, CacheError> {
        if cluster.resigned.load(Ordering::Acquire) {
            return Ok(Start::Known);
        }
        if generation.is_none() {
            cluster.found().await?;
        }
        let sent = Instant::now();
        let owner = cluster.owner();
        match cluster.claims.renew(&owner).await? {
            Renewed::Alive { generation: now } => {
                if generation.as_ref() != Some(&now) {
                    let owned: Vec<_> = cluster.owned().clone().into_iter().collect();
                    let lost = cluster.claims.reassert(&owner, &owned).await?;
                    if !lost.is_empty() {
                        tracing::warn!(target: "directory", entities = lost.len(), "run elsewhere by now: stopped");
                        evict(Evicted::These(lost)).await;
                    }
                    *generation = Some(now);
                }
                self.0.lease.proved_by_claims(sent);
                Ok(Start::Known)
            }
            Renewed::Dead => {
                self.0.lease.lost();
                tracing::error!(
                    target: "directory",
                    "this node was silent for longer than its lease, and another took over: \
                     everything is stopped, and it begins anew"
                );
                evict(Evicted::All).await;
                cluster.begin_anew();
                Ok(Start::Anew)
            }
        }
    }

    /// The node ends: nothing runs here any more, and what it claims is free at once.
    pub(crate) async fn resign(&self) {
        let Kind::Cluster(cluster) = &self.0.kind else { return };
        self.0.lease.lost();
        cluster.resigned.store(true, Ordering::Release);
        if let Err(e) = cluster.claims.resign(&cluster.owner()).await {
            tracing::warn!(target: "directory", "what this node claims is free when its lease is over: {e}");
        }
    }

    /// As the one node that was elected for it, forgets what dead nodes have left behind, until
    /// the tasks stop.
    pub(crate) async fn sweep(self, tasks: Tasks) {
        let Kind::Cluster(cluster) = &self.0.kind else { return };
        let (leading, mut elected) = watch::channel(false);
        let stand = cluster.etcd.clone();
        let (me, standing) = (self.0.me.clone(), tasks.clone());
        tasks.spawn(async move { stand.elect("sweeper", &me, leading, standing).await });
        loop {
            tokio::select! {
                biased; // stop before more work
                () = tasks.stopped() => return,
                led = elected.wait_for(|leading| *leading) => if led.is_err() { return },
            }
            // What cannot be done now is done the next time.
            if let Err(e) = self.sweep_once(cluster).await {
                tracing::debug!(target: "directory", "not swept: {e}");
            }
            tokio::select! {
                biased;
                () = tasks.stopped() => return,
                () = sleep(NODE_LEASE) => {}
            }
        }
    }

    async fn sweep_once(&self, cluster: &Cluster) -> Result<(), CacheError> {
        for owner in cluster.claims.owners().await? {
            if cluster.is_gone(&owner, &self.nodes()) && cluster.claims.sweep(&owner).await? {
                let Owner { node, incarnation } = owner;
                tracing::info!(target: "directory", node, incarnation, "what a dead node claimed is free");
            }
        }
        Ok(())
    }
}

impl Cluster {
    pub(super) fn tell(&self, node: Option<NodeInfo>) {
        self.info.send_replace(node);
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut NodeInfo)) {
        self.info.send_if_modified(|info| {
            let Some(node) = info else { return false };
            let before = node.clone();
            change(node);
            *node != before
        });
    }

    fn owner(&self) -> Owner {
        let incarnation = self.incarnation.load(Ordering::Acquire);
        Owner { node: self.node.clone(), incarnation }
    }

    fn owned(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cluster that never was before has lost nothing in Redis: its claims need no time to be
    /// said again. One node says so, and the others wait for it before they speak themselves.
    async fn found(&self) -> Result<(), CacheError> {
        let away = |e: EtcdError| CacheError::Unavailable(e.to_string());
        // Redis first: a founder that cannot found lets another be it.
        self.redis.ping().await?;
        let made = self.etcd.create("founder", &self.node).await.map_err(away)?;
        // An answer may have been lost: who is named there is it.
        let founder = self.etcd.value("founder").await.map_err(away)?;
        if made || founder.as_deref() == Some(self.node.as_str()) {
            self.claims.found().await?;
            return self.etcd.create("founded", &self.node).await.map(drop).map_err(away);
        }
        let patient_until = Instant::now() + FOUNDING_PATIENCE;
        while self.etcd.value("founded").await.map_err(away)?.is_none() {
            if Instant::now() > patient_until {
                // Its founder is gone: claims settle as if Redis had lost them.
                return self.etcd.create("founded", &self.node).await.map(drop).map_err(away);
            }
            sleep(FOUNDING_RETRY).await;
        }
        Ok(())
    }

    fn begin_anew(&self) {
        let before = self.incarnation.load(Ordering::Acquire);
        let now = (self.clock.now_ms() * 1000).max(before + 1);
        self.incarnation.store(now, Ordering::Release);
        self.owned().clear();
        self.update(|node| node.incarnation = now);
    }

    /// Whether discovery has no such start of a node. It knows only while its view is live.
    fn is_gone(&self, owner: &Owner, nodes: &Nodes) -> bool {
        if owner.node == self.node {
            return owner.incarnation != self.incarnation.load(Ordering::Acquire);
        }
        let here = |n: &Arc<NodeInfo>| n.id == owner.node && n.incarnation == owner.incarnation;
        *self.synced.borrow() && !nodes.iter().any(here)
    }

    pub(super) async fn locate(&self, entity: &str) -> Result<Option<Owner>, Refusal> {
        self.claims.locate(entity).await.map_err(|e| away(&e))
    }

    /// As [`Cluster::claim`] refuses it, when another node runs it: one that discovery here has,
    /// or one whose lease lives, for what discovery has not told yet looks like what is gone.
    pub(super) async fn runs_elsewhere(
        &self,
        entity: &str,
        nodes: &Nodes,
    ) -> Result<(), NotClaimed> {
        let refused = |e: CacheError| NotClaimed::Refused(away(&e));
        let Some(owner) = self.claims.locate(entity).await.map_err(refused)? else { return Ok(()) };
        if owner.node == self.node {
            return Ok(());
        }
        if !self.is_gone(&owner, nodes) || self.claims.lives(&owner).await.map_err(refused)? {
            return Err(held(owner, nodes));
        }
        Ok(())
    }

    pub(super) async fn is_lost(
        &self,
        node: &str,
        incarnation: i64,
        nodes: &Nodes,
    ) -> Result<bool, Refusal> {
        let owner = Owner { node: node.to_owned(), incarnation };
        Ok(self.is_gone(&owner, nodes) && !self.claims.lives(&owner).await.map_err(|e| away(&e))?)
    }

    pub(super) async fn claim(
        &self,
        entity: &str,
        floor: i64,
        nodes: &Nodes,
    ) -> Result<Claim, NotClaimed> {
        let me = self.owner();
        let refused = |e: CacheError| NotClaimed::Refused(away(&e));
        let mut claimed = self.claims.claim(entity, &me, floor).await.map_err(refused)?;
        if let Claimed::Held(owner) = &claimed
            && self.is_gone(owner, nodes)
        {
            let from = owner.clone();
            let taken = self.claims.take_over(entity, &from, &me, floor).await;
            claimed = taken.map_err(refused)?;
        }
        match claimed {
            Claimed::Granted { epoch } => {
                self.owned().insert(entity.to_owned(), epoch);
                Ok(Claim { epoch })
            }
            Claimed::Held(owner) => Err(held(owner, nodes)),
            Claimed::Settling => Err(passing("the claims were lost and are being said again")),
            Claimed::Dead => Err(passing("this game server begins anew")),
        }
    }

    pub(super) async fn release(&self, entity: &str, claim: Claim) {
        {
            let mut owned = self.owned();
            // A later claim of ours stays.
            if owned.get(entity) == Some(&claim.epoch) {
                owned.remove(entity);
            }
        }
        // What stays claimed is found here, and woken here again.
        if let Err(e) = self.claims.release(entity, &self.owner(), claim.epoch).await {
            tracing::debug!(target: "directory", entity, "not released: {e}");
        }
    }

    pub(super) async fn missing(&self) -> Vec<String> {
        let (etcd, redis) = tokio::join!(self.etcd.ping(), self.redis.ping());
        let etcd = etcd.err().map(|e| e.to_string());
        etcd.into_iter().chain(redis.err().map(|e| e.to_string())).collect()
    }
}

fn held(owner: Owner, nodes: &Nodes) -> NotClaimed {
    if nodes.iter().any(|n| n.id == owner.node) {
        return NotClaimed::Elsewhere(owner.node);
    }
    passing("the player's game server is gone, its lease not yet")
}

/// What may be otherwise in a moment.
fn passing(why: &'static str) -> NotClaimed {
    NotClaimed::Refused(Code::NOT_CONNECTED.because(why))
}

fn away(_: &CacheError) -> Refusal {
    Code::NOT_READY.because("the cache is away")
}

/// How long a cluster's founder may take, and how often it is looked for.
const FOUNDING_PATIENCE: Duration = Duration::from_secs(2);
const FOUNDING_RETRY: Duration = Duration::from_millis(20);
