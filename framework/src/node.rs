//! Owns a node's life: [`start`] wires everything in one place, top to bottom in the order in
//! which it is needed; [`Node::drain`] takes it down in the reverse order.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use actix_web::dev::ServerHandle;
use tokio::{runtime::Handle, time::Instant};

use crate::{
    account::{self, AccountCenter, AccountSettings},
    admin::Admin,
    ask::{Asker, Calls},
    clock::Clock,
    config::Config,
    directory::{
        ClusterSettings, Directory, EtcdSettings, JoinError, NodeInfo, NodeState, Role,
    },
    doors::{Addresses, Doors},
    entity::{AnyKind, Chance, Host, World},
    gate::{Gate, GateSettings},
    limits::{LOAD_TOLD, NODE_LEASE},
    link::{Links, Me, Players, Served, Tls, TlsError},
    outage::Outage,
    shards::Shards,
    store::{Cache, CacheOpenError, OpenError, Redis, Store, StoreError},
    tasks::Tasks,
    telemetry::Meters,
};

/// A running node. What a role needs is there when the node has the role.
#[derive(Debug)]
pub(crate) struct Node {
    addresses: Addresses,
    directory: Directory,
    asker: Asker,
    links: Option<Links>,
    gate: Option<Arc<Gate>>,
    host: Option<Arc<Host>>,
    store: Option<Store>,
    shards: Arc<Shards>,
    tasks: Tasks,
    /// The account center's server first: it must not send people here while the rest stops.
    servers: Vec<ServerHandle>,
    grace: Duration,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Another program has the port, or the address is not this machine's.
    #[error("{key}: cannot listen on {addr}: {source}; {}", remedy(.source, .flag))]
    Listen { key: &'static str, flag: &'static str, addr: SocketAddr, source: io::Error },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store was opened, and then did not answer.
    #[error(transparent)]
    StoreAway(#[from] StoreError),
    /// `cache.redis` is no address.
    #[error(transparent)]
    Cache(#[from] CacheOpenError),
    /// This node cannot be part of a cluster.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The files of `[link]` are not what they should be.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The account center cannot start.
    #[error(transparent)]
    Account(#[from] account::StartError),
    /// The operating system refuses what a node needs.
    #[error("{what}: {source}; free some resources of this machine, or raise its limits")]
    System { what: &'static str, source: io::Error },
    /// The file for `--announce` cannot be written.
    #[error("announce: cannot write {}: {source}; name a file in a folder that you may write", .path.display())]
    Announce { path: PathBuf, source: io::Error },
}

fn remedy(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program has this port, perhaps a town of yours: stop it, or choose another port with {flag} or --port-base"
        ),
        io::ErrorKind::PermissionDenied => format!("choose a port above 1023 with {flag}"),
        _ => format!("choose an address of this machine with {flag}"),
    }
}

/// Starts a node with the roles that the configuration names. A service that is away is waited
/// for, and the log says so; drop the future to stop waiting.
///
/// # Errors
/// [`StartError`]: a sentence for the operator; nothing is left running.
pub(crate) async fn start(config: &Config, player: Arc<dyn AnyKind>) -> Result<Node, StartError> {
    // 1. Doors first: a port that is taken is the commonest mistake, and it costs nothing yet.
    let mut doors = Doors::bind(config)?;
    let addresses = doors.addresses();

    // 2. What everything stands on: clock, chance, threads, store, cache, directory, links.
    let (clock, chance) = (Clock::system(), Chance::from_os());
    let (tasks, meters) = (Tasks::default(), Meters::new());
    let shards = Arc::new(Shards::start(config.node.shards).map_err(system("node.shards"))?);
    let stop_unless_started = StopUnlessStarted(Some(tasks.clone()));
    let keeps = config.has(Role::Account) || config.has(Role::Game);
    let store = if keeps { Some(open_store(config).await?) } else { None };
    let Ground { cache, directory, links, asker } =
        ground(config, &store, &clock, &chance, &shards, &tasks, &meters).await?;

    // 3. The game server: entities with the studio's handlers.
    let host = store.clone().filter(|_| config.has(Role::Game)).map(|store| {
        let world = World {
            clock: clock.clone(),
            store,
            chance: chance.clone(),
            tasks: tasks.clone(),
        };
        Host::new(player, directory.clone(), world, config.game.clone(), meters.entity.clone())
    });
    if let Some(host) = host.clone() {
        let evict = Arc::new(move |evicted| {
            let host = host.clone();
            Box::pin(async move { host.evict(evicted).await }) as _
        });
        tasks.spawn(directory.clone().keep_claims(evict, tasks.clone()));
        tasks.spawn(directory.clone().sweep(tasks.clone()));
    }

    // 4. The gate, which follows the directory: what is handled, and whose tokens are good.
    let gate = config.has(Role::Gate).then(|| {
        let settings = GateSettings {
            gate: config.gate.clone(),
            cluster: config.cluster.name.clone(),
            request_timeout: config.game.request_timeout,
        };
        let (here, links) = (host.clone(), links.clone());
        let players = Players { here, links, directory: directory.clone() };
        Gate::new(settings, players, clock.clone(), chance, meters.gate.clone(), tasks.clone())
    });

    // 5. The account center, an actor behind thin routes; it sends people to the directory's gates.
    let center = match store.clone().filter(|_| config.has(Role::Account)) {
        Some(store) => Some(open_center(config, store, cache, &directory, clock).await?),
        None => None,
    };
    if let Some(center) = &center {
        let calls =
            Calls::default().on(center, AccountCenter::auth).on(center, AccountCenter::registry);
        asker.start(Role::Account, calls, &tasks);
    }

    // 6. The node lets others in and tells the directory what it is; the gate knows the nodes
    // from its first connection on.
    let addr = doors.link_advertised(config);
    if let Some(links) = &links {
        let served = Served { host: host.clone(), asker: asker.clone(), tasks: tasks.clone() };
        doors.open_link(links, served, &tasks)?;
        tasks.spawn(keep_links(links.clone(), directory.clone(), tasks.clone()));
    }
    let keys = center.as_ref().map(AccountCenter::jwks).unwrap_or_default();
    directory.register(NodeInfo {
        id: directory.me().to_owned(),
        addr,
        roles: config.node.roles.iter().copied().collect(),
        apis: host.as_ref().map(|host| host.apis()).unwrap_or_default(),
        gate: doors.gate_advertised(config),
        load: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        incarnation: directory.incarnation(),
        state: NodeState::Up,
        keys: keys.clone(),
    });
    directory.registered().await;
    if let Some(gate) = &gate {
        gate.learn(&directory.nodes());
        tasks.spawn(gate.clone().follow(directory.clone()));
    }
    tasks.spawn(tell_load(directory.clone(), gate.clone(), host.clone(), tasks.clone()));

    // 7. The doors open.
    let routes = center.map(|_| account::Routes { asker: asker.clone(), keys });
    let admin = Admin { directory: directory.clone(), store: store.clone(), meters };
    let servers = doors.open(gate.as_ref(), &shards, routes, admin, &tasks)?;

    let grace = config.shutdown.grace;
    stop_unless_started.started();
    let node = Node {
        addresses,
        directory,
        asker,
        links,
        gate,
        host,
        store,
        shards,
        tasks,
        servers,
        grace,
    };
    config.announce.as_ref().map_or(Ok(()), |path| node.announce(path))?;
    Ok(node)
}

/// What differs between a process that is alone and a node of a cluster; nothing above knows.
struct Ground {
    cache: Cache,
    directory: Directory,
    links: Option<Links>,
    asker: Asker,
}

async fn ground(
    config: &Config,
    store: &Option<Store>,
    clock: &Clock,
    chance: &Chance,
    shards: &Shards,
    tasks: &Tasks,
    meters: &Meters,
) -> Result<Ground, StartError> {
    let cluster = &config.cluster.name;
    let Some(redis) = config.cache.redis.as_ref().filter(|_| config.clustered()) else {
        let incarnation = match store {
            Some(store) => store.next_incarnation(clock.now_ms()).await?,
            None => clock.now_ms() * 1000,
        };
        let directory = Directory::alone(&format!("{cluster}-{incarnation}"), incarnation);
        let (cache, asker) = (cache_alone(config)?, Asker::default());
        return Ok(Ground { cache, directory, links: None, asker });
    };
    let redis = Redis::open(&redis.0, cluster, Handle::current())?;
    let node = node_id(chance);
    let etcd = etcd_settings(config);
    let tls = Tls::load(&config.link)?;
    let settings =
        ClusterSettings { node: node.clone(), etcd, redis: redis.clone(), clock: clock.clone() };
    let directory = Directory::join(settings, Handle::current(), tasks).await?;
    let me = Me { cluster: cluster.clone(), node };
    let (handles, meters) = (shards.handles(), meters.link.clone());
    let links = Links::new(me, tls, handles, tasks.clone(), chance.clone(), meters);
    let asker = Asker::of_cluster(directory.clone(), links.clone());
    Ok(Ground { cache: Cache::redis(redis), directory, links: Some(links), asker })
}

pub(crate) fn etcd_settings(config: &Config) -> EtcdSettings {
    let discovery = config.discovery.clone();
    EtcdSettings {
        endpoints: discovery.etcd,
        user: discovery.user,
        password: discovery.password.map(|password| password.0),
        ca: discovery.ca,
        cert: discovery.cert,
        key: discovery.key,
        cluster: config.cluster.name.clone(),
        lease: NODE_LEASE,
    }
}

/// Alone, a Redis may be used all the same: what it counts then survives a restart.
fn cache_alone(config: &Config) -> Result<Cache, CacheOpenError> {
    let Some(redis) = &config.cache.redis else { return Ok(Cache::memory()) };
    Redis::open(&redis.0, &config.cluster.name, Handle::current()).map(Cache::redis)
}

/// The machine's name, for people, and chance: no two starts are the same node.
fn node_id(chance: &Chance) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let host: String = host.trim().chars().filter(plain).take(48).collect();
    let host = if host.is_empty() { "node".to_owned() } else { host.to_lowercase() };
    format!("{host}-{:08x}", chance.next_u64() & 0xffff_ffff)
}

/// How often a service that is away at the start is tried again.
const START_RETRY: Duration = Duration::from_millis(500);

/// A database that starts later than its nodes is waited for.
async fn open_store(config: &Config) -> Result<Store, StartError> {
    let outage = Outage::new("store.url");
    loop {
        match Store::open(&config.store_url(), Handle::current()).await {
            Ok(store) => return Ok(store),
            Err(e) if e.is_away() => drop(outage.away(&e)),
            Err(e) => return Err(e.into()),
        }
        tokio::time::sleep(START_RETRY).await;
    }
}

async fn open_center(
    config: &Config,
    store: Store,
    cache: Cache,
    directory: &Directory,
    clock: Clock,
) -> Result<AccountCenter, StartError> {
    let outage = Outage::new("store.url");
    loop {
        let gates = directory.clone();
        let gates = Arc::new(move || gates.gate_for_sign_in());
        let settings = AccountSettings {
            cluster: config.cluster.name.clone(),
            token_ttl: config.account.token_ttl,
        };
        let (store, cache, clock) = (store.clone(), cache.clone(), clock.clone());
        match AccountCenter::start(store, cache, gates, clock, settings).await {
            Ok(center) => return Ok(center),
            Err(account::StartError::Store(e)) if config.clustered() => drop(outage.away(&e)),
            Err(e) => return Err(e.into()),
        }
        tokio::time::sleep(START_RETRY).await;
    }
}

/// Keeps nothing for nodes that are no more.
async fn keep_links(links: Links, directory: Directory, tasks: Tasks) {
    let mut nodes = directory.watch();
    loop {
        tokio::select! {
            biased; // stop before more work
            () = tasks.stopped() => return,
            changed = nodes.changed() => if changed.is_err() { return },
        }
        let now = nodes.borrow_and_update().clone();
        links.keep_only(&now);
    }
}

/// Says how much this node has to do, so that others choose well.
async fn tell_load(
    directory: Directory,
    gate: Option<Arc<Gate>>,
    host: Option<Arc<Host>>,
    tasks: Tasks,
) {
    loop {
        tokio::select! {
            biased; // stop before more work
            () = tasks.stopped() => return,
            () = tokio::time::sleep(LOAD_TOLD) => {}
        }
        let load = gate.as_ref().map_or(0, |gate| gate.connections())
            + host.as_ref().map_or(0, |host| host.count());
        directory.update(|node| node.load = u32::try_from(load).unwrap_or(u32::MAX));
    }
}

/// Ends the tasks of a node that did not come to be.
struct StopUnlessStarted(Option<Tasks>);

impl StopUnlessStarted {
    fn started(mut self) {
        self.0 = None;
    }
}

impl Drop for StopUnlessStarted {
    fn drop(&mut self) {
        if let Some(tasks) = &self.0 {
            tasks.stop();
        }
    }
}

/// What each last step of a drain may take although the grace is over.
const LAST_PATIENCE: Duration = Duration::from_millis(100);

/// How long HTTP requests may take to end once everything else has: far more than a sign-in, far
/// less than what a client that sends a request byte by byte would like.
const HTTP_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

impl Node {
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What the others know it by.
    pub(crate) fn id(&self) -> &str {
        self.directory.me()
    }

    /// Whether it has a store.
    pub(crate) fn keeps(&self) -> bool {
        self.store.is_some()
    }

    /// Writes the addresses where `--announce` says, whole or not at all.
    fn announce(&self, path: &PathBuf) -> Result<(), StartError> {
        let failed = |source| StartError::Announce { path: path.clone(), source };
        let text = serde_json::to_vec(&self.addresses).map_err(|e| failed(e.into()))?;
        let mut beside = path.clone().into_os_string();
        beside.push(".new");
        std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path)).map_err(failed)
    }

    /// Stops without losing anything: no new sign-ins, requests finish, players are saved and go
    /// on elsewhere where there is an elsewhere. Every step has what is left of `shutdown.grace`.
    pub(crate) async fn drain(self) {
        let Self {
            addresses: _,
            directory,
            asker,
            links,
            gate,
            host,
            store,
            shards,
            tasks,
            servers,
            grace,
        } = self;
        let end = Instant::now() + grace;
        let left = || end.saturating_duration_since(Instant::now());

        directory.update(|node| node.state = NodeState::Draining);
        // A third is kept for saving: what a handler that hangs may not take from the players.
        let connections = match &gate {
            Some(gate) => gate.drain(grace * 2 / 3).await,
            None => 0,
        };
        let entities = match &host {
            Some(host) => host.stop_all(left()).await,
            None => 0,
        };
        asker.stop();
        for server in servers {
            let patience = left().min(HTTP_PATIENCE);
            if tokio::time::timeout(patience, server.stop(true)).await.is_err() {
                tracing::info!(target: "node", "HTTP requests that did not end are cut");
            }
        }
        if let Some(links) = &links {
            links.close();
        }
        if host.is_some() {
            let _late = tokio::time::timeout(left().max(LAST_PATIENCE), directory.resign()).await;
        }
        directory.deregister();
        tasks.stop();
        drop(gate);
        let running = tasks.wait(left().max(LAST_PATIENCE)).await;
        if let Some(store) = &store
            && tokio::time::timeout(left().max(LAST_PATIENCE), store.close()).await.is_err()
        {
            tracing::warn!(target: "node", "the store did not close in time");
        }
        if connections + entities + running > 0 {
            tracing::warn!(
                target: "node", connections, entities, tasks = running,
                "shutdown.grace of {} s is over: what had not finished was cut", grace.as_secs_f64()
            );
        }
        // The last reference: its threads end here, off the async runtime's own. One in which a
        // handler blocks is left behind; it ends with the process.
        let joined = tokio::task::spawn_blocking(move || drop(shards));
        if tokio::time::timeout(left().max(LAST_PATIENCE), joined).await.is_err() {
            tracing::warn!(target: "node", "a handler blocks its thread: it is left behind");
        }
    }
}
