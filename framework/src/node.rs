//! Owns a node's life: [`start`] wires everything in one place, top to bottom in the order in
//! which it is needed; [`Node::drain`] takes it down in the reverse order.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    account::{self, AccountCenter, SenderError},
    admin::Guard,
    app::Game,
    ask::Asker,
    clock::Clock,
    config::Config,
    directory::{Directory, JoinError, NodeInfo, NodeState, Role},
    doors::{Addresses, Desk, Doors},
    entity::Host,
    gate::{CertificateError, Certificates, Entrance, EntranceError, Gate},
    ground::Ground,
    limits::LOAD_TOLD,
    link::{Links, TlsError},
    schema::Schema,
    secret::SecretError,
    shards::Shards,
    store::{CacheOpenError, OpenError, Store, StoreError},
    tasks::Tasks,
};

/// A running node. What a role needs is there when the node has the role.
#[derive(Debug)]
pub(crate) struct Node {
    addresses: Addresses,
    directory: Directory,
    asker: Asker,
    links: Option<Links>,
    gate: Option<Arc<Gate>>,
    /// What clients are shown, where something is encrypted.
    certificates: Option<Arc<Certificates>>,
    host: Option<Arc<Host>>,
    store: Option<Store>,
    shards: Arc<Shards>,
    tasks: Tasks,
    /// The account center's server first: it must not send people here while the rest stops.
    servers: Vec<Desk>,
    grace: Duration,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Another program has the port, or the address is not this machine's.
    #[error("{key}: cannot listen on {addr}: {source}; {}", remedy(.source, .flag))]
    Listen { key: String, flag: String, addr: SocketAddr, source: io::Error },
    /// A codec that the game does not have.
    #[error("codecs.{name}: there is no such codec here; {}", choose(.known))]
    Codec { name: String, known: String },
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
    /// The files of `gate.cert` and `gate.key` are not what they should be.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Clients cannot be let in.
    #[error(transparent)]
    Entrance(#[from] EntranceError),
    /// The account center cannot start.
    #[error(transparent)]
    Account(#[from] account::StartError),
    /// A secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Codes cannot be sent as `[account]` says.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// The operating system refuses what a node needs.
    #[error("{what}: {source}; free some resources of this machine, or raise its limits")]
    System { what: &'static str, source: io::Error },
    /// The file for `--announce` cannot be written.
    #[error("announce: cannot write {}: {source}; name a file in a folder that you may write", .path.display())]
    Announce { path: PathBuf, source: io::Error },
}

fn choose(codecs: &str) -> String {
    match codecs {
        "" => "this game has none: take the section away".to_owned(),
        codecs => format!("take the section away, or choose from {codecs}"),
    }
}

fn remedy(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse if flag.starts_with("--set") => {
            format!("another program has this port: stop it, or choose another with {flag}")
        }
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
pub(crate) async fn start(config: &Config, game: Game) -> Result<Node, StartError> {
    // 1. Doors first: a port that is taken is the commonest mistake, and it costs nothing yet.
    let mut doors = Doors::bind(config, &game.parts.codecs)?;
    let addresses = doors.addresses();
    let certificates = Certificates::load(config)?;

    // 2. What everything stands on: clock, chance, threads, store, cache, directory, links.
    let tasks = Tasks::default();
    let not_started = StopOnDrop(Some(tasks.clone()));
    let guard = Arc::new(Guard::of(&config.admin, Clock::system())?);
    let ground = Ground::lay(config, tasks).await?;

    // 3. The room center; the game server: entities with the studio's handlers.
    let schema = Arc::new(Schema::new(&game.schemas()));
    ground.rooms(config, &game.parts.rooms);
    let host = ground.host(config, game.player, game.parts.rooms);

    // 4. The gate, which forwards what clients say to the players, wherever they are.
    let gate =
        |hooks, pages| ground.gate(config, host.clone(), schema, hooks, pages, doors.codecs());
    let gate = config.has(Role::Gate).then(|| gate(game.parts.hooks, game.parts.pages));

    // 5. The account center, an actor behind thin routes; it sends people to the directory's gates.
    let center = ground.center(config, game.parts.sender, game.parts.validators).await?;

    // 6. The node lets others in and tells the directory what it is; the gate knows the nodes
    // from its first connection on.
    let directory = &ground.directory;
    let apis = host.as_ref().map(|host| host.apis()).unwrap_or_default();
    let keys = center.as_ref().map(AccountCenter::jwks).unwrap_or_default();
    let me = NodeInfo { apis, keys, ..told(directory, &doors, config) };
    ground.open_link(&mut doors, host.as_ref())?;
    if host.is_some() {
        // Nobody is sent to a game server that may not run anything yet.
        directory.lease().held().await;
    }
    directory.register(me);
    directory.registered().await;
    if let Some(gate) = &gate {
        gate.learn(&directory.nodes());
        ground.tasks.spawn(gate.clone().follow(directory.clone()));
    }
    let load = tell_load(directory.clone(), gate.clone(), host.clone(), ground.tasks.clone());
    ground.tasks.spawn(load);
    ground.keep(center.clone());

    // 7. The doors open.
    let own = ground.own(game.parts.routes);
    let admin = ground.admin(config, guard);
    let Ground { tasks, meters, shards, store, directory, links, asker, .. } = ground;
    let datagrams = doors.take_datagrams();
    let entrance = |gate: &Arc<Gate>| {
        Entrance::new(gate.clone(), shards.clone(), certificates.as_ref(), datagrams)
    };
    let entrance = gate.as_ref().map(entrance).transpose()?;
    let servers = doors.open(entrance.as_ref(), center, &config.account, own, admin, &tasks)?;
    if let Some(certificates) = &certificates {
        tasks.spawn(certificates.clone().follow(tasks.clone(), meters.gate));
    }

    not_started.defuse();
    let grace = config.shutdown.grace;
    let node = Node {
        addresses,
        directory,
        asker,
        links,
        gate,
        certificates,
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

/// What a node tells the others about itself, but for what it handles and signs with.
fn told(directory: &Directory, doors: &Doors, config: &Config) -> NodeInfo {
    NodeInfo {
        id: directory.me().to_owned(),
        addr: doors.link_advertised(config),
        roles: config.node.roles.iter().copied().collect(),
        gate: doors.gate_advertised(config),
        ws: doors.websocket_advertised(config),
        codecs: doors.codecs_advertised(config),
        http: doors.http_advertised(config),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        incarnation: directory.incarnation(),
        state: NodeState::Up,
        ..NodeInfo::default()
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
struct StopOnDrop(Option<Tasks>);

impl StopOnDrop {
    fn defuse(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
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

    /// The gate's certificate, in DER, where it has one.
    pub(crate) fn gate_certificate(&self) -> Option<Vec<u8>> {
        self.certificates.as_ref().map(|certificates| certificates.shown())
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
            certificates: _,
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
            if tokio::time::timeout(patience, server.stop()).await.is_err() {
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
