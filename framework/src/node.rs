//! Owns a node's life: [`start`] wires everything in one place, top to bottom in the order in
//! which it is needed; [`Node::drain`] takes it down in the reverse order.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use actix_web::dev::ServerHandle;
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    account::{self, AccountCenter, AccountSettings},
    admin::{self, Admin},
    ask::{Asker, Calls},
    clock::Clock,
    config::Config,
    directory::{Directory, NodeInfo, NodeState, Role},
    entity::{AnyKind, Chance, Host, World},
    gate::{Gate, GateSettings},
    limits::ACCEPT_QUEUE_MAX,
    shards::Shards,
    store::{Cache, OpenError, Store, StoreError},
    tasks::Tasks,
    telemetry::Meters,
};

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    id: String,
    addresses: Addresses,
    directory: Directory,
    asker: Asker,
    gate: Arc<Gate>,
    host: Arc<Host>,
    store: Store,
    shards: Arc<Shards>,
    tasks: Tasks,
    /// The account center's server first: it must not send people here while the rest stops.
    servers: Vec<ServerHandle>,
    grace: Duration,
}

/// Where a node is reached; what `--announce` writes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Addresses {
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) gate_tcp: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) pid: u32,
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

/// Starts a node with every role in this process.
///
/// # Errors
/// [`StartError`]: a sentence for the operator; nothing is left running.
pub(crate) async fn start(config: &Config, player: Arc<dyn AnyKind>) -> Result<Node, StartError> {
    // 1. Doors first: a port that is taken is the commonest mistake, and it costs nothing yet.
    let doors = Doors::bind(config)?;
    let addresses = doors.addresses();

    // 2. What everything stands on: store, cache, directory, clock, threads.
    let store = Store::open(&config.store_url(), Handle::current()).await?;
    let (clock, tasks, meters, asker) =
        (Clock::system(), Tasks::default(), Meters::new(), Asker::default());
    let incarnation = store.next_incarnation(clock.now_ms()).await?;
    let directory = Directory::embedded(incarnation);
    let shards = Shards::start(config.node.shards).map_err(system("node.shards"))?;
    let shards = Arc::new(shards);

    // 3. The game server: entities with the studio's handlers.
    let (chance, times) = (Chance::from_os(), config.game.clone());
    let world = World {
        clock: clock.clone(),
        store: store.clone(),
        chance: chance.clone(),
        tasks: tasks.clone(),
    };
    let host = Host::new(player, directory.clone(), world, times, meters.entity.clone());

    // 4. The gate, which follows the directory: what is handled, and whose tokens are good.
    let settings = GateSettings {
        gate: config.gate.clone(),
        cluster: config.cluster.name.clone(),
        request_timeout: config.game.request_timeout,
    };
    let gate = Gate::new(
        settings,
        host.clone(),
        clock.clone(),
        chance,
        meters.gate.clone(),
        tasks.clone(),
    );

    // 5. The account center, an actor behind thin routes; it sends people to the directory's gates.
    let gates = directory.clone();
    let center = AccountCenter::start(
        store.clone(),
        Cache::memory(),
        Arc::new(move || gates.gate_for_sign_in()),
        clock,
        AccountSettings {
            cluster: config.cluster.name.clone(),
            token_ttl: config.account.token_ttl,
        },
    )
    .await?;
    let calls =
        Calls::default().on(&center, AccountCenter::auth).on(&center, AccountCenter::registry);
    asker.start(Role::Account, calls, &tasks);

    // 6. The node tells the directory what it is; the gate knows it from its first connection on.
    let id = format!("{}-{incarnation}", config.cluster.name);
    directory.register(NodeInfo {
        id: id.clone(),
        roles: BTreeSet::from([Role::Account, Role::Gate, Role::Game]),
        apis: host.apis(),
        gate: Some(advertised(config, addresses.gate_tcp)),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        incarnation,
        state: NodeState::Up,
        keys: center.jwks(),
        ..NodeInfo::default()
    });
    gate.learn(&directory.nodes());
    tasks.spawn(gate.clone().follow(directory.clone()));

    // 7. The doors open.
    let routes = account::Routes { asker: asker.clone(), keys: center.jwks() };
    let admin =
        Admin { node: id.clone(), directory: directory.clone(), store: store.clone(), meters };
    let servers = doors.open(&gate, &shards, routes, admin, &tasks)?;

    let grace = config.shutdown.grace;
    let node =
        Node { id, addresses, directory, asker, gate, host, store, shards, tasks, servers, grace };
    config.announce.as_ref().map_or(Ok(()), |path| node.announce(path))?;
    Ok(node)
}

/// What each last step of a drain may take although the grace is over.
const LAST_PATIENCE: Duration = Duration::from_millis(100);

/// How long HTTP requests may take to end once everything else has: far more than a sign-in, far
/// less than what a client that sends a request byte by byte would like.
const HTTP_PATIENCE: Duration = Duration::from_secs(2);

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// The listeners of a node, bound before anything else and opened after everything else.
struct Doors {
    http: Vec<TcpListener>,
    tcp: TcpListener,
    admin: TcpListener,
}

impl Doors {
    fn bind(config: &Config) -> Result<Self, StartError> {
        let http = config.account.listen.iter();
        Ok(Self {
            http: http.map(|a| listen("account.listen", "--http", *a)).collect::<Result<_, _>>()?,
            tcp: listen("gate.tcp", "--gate-tcp", config.gate.tcp)?,
            admin: listen("admin.listen", "--admin", config.admin.listen)?,
        })
    }

    fn addresses(&self) -> Addresses {
        Addresses {
            http: self.http.iter().map(address).collect(),
            gate_tcp: address(&self.tcp),
            admin: address(&self.admin),
            pid: std::process::id(),
        }
    }

    /// Lets clients, people and operators in.
    fn open(
        self,
        gate: &Arc<Gate>,
        shards: &Arc<Shards>,
        routes: account::Routes,
        admin: Admin,
        tasks: &Tasks,
    ) -> Result<Vec<ServerHandle>, StartError> {
        let tcp = tokio::net::TcpListener::from_std(self.tcp).map_err(system("gate.tcp"))?;
        tasks.spawn(gate.clone().accept(tcp, shards.clone()));
        let people = account::serve(self.http, routes).map_err(system("account.listen"))?;
        let operators = admin::serve(self.admin, admin).map_err(system("admin.listen"))?;
        let handles = vec![people.handle(), operators.handle()];
        for server in [people, operators] {
            let until = tasks.clone();
            tasks.spawn(async move {
                tokio::select! {
                    ended = server => if let Err(e) = ended {
                        tracing::error!(target: "node", "an HTTP server ended: {e}");
                    },
                    // Whoever has not sent a whole request by then is cut.
                    () = until.stopped() => {}
                }
            });
        }
        Ok(handles)
    }
}

/// What clients are told to connect to.
fn advertised(config: &Config, bound: SocketAddr) -> String {
    if let Some(said) = &config.gate.advertise {
        return said.clone();
    }
    if !bound.ip().is_unspecified() {
        return bound.to_string();
    }
    let here = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bound.port());
    tracing::warn!(
        target: "node",
        "gate.tcp = {bound} is every address of this machine: clients are told {here}; say with \
         --gate-advertise where they reach the gate from elsewhere"
    );
    here.to_string()
}

impl Node {
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Writes the addresses where `--announce` says, whole or not at all.
    fn announce(&self, path: &PathBuf) -> Result<(), StartError> {
        let failed = |source| StartError::Announce { path: path.clone(), source };
        let text = serde_json::to_vec(&self.addresses).map_err(|e| failed(e.into()))?;
        let mut beside = path.clone().into_os_string();
        beside.push(".new");
        std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path)).map_err(failed)
    }

    /// Stops without losing anything: no new sign-ins, requests finish, players are saved. Every
    /// step has what is left of `shutdown.grace`.
    pub(crate) async fn drain(self) {
        let Self {
            id,
            addresses: _,
            directory,
            asker,
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

        directory.update(&id, |node| node.state = NodeState::Draining);
        // A third is kept for saving: what a handler that hangs may not take from the players.
        let connections = gate.drain(grace * 2 / 3).await;
        let entities = host.stop_all(left()).await;
        asker.stop();
        directory.deregister(&id);
        for server in servers {
            let patience = left().min(HTTP_PATIENCE);
            if tokio::time::timeout(patience, server.stop(true)).await.is_err() {
                tracing::info!(target: "node", "HTTP requests that did not end are cut");
            }
        }
        tasks.stop();
        drop(gate);
        let running = tasks.wait(left().max(LAST_PATIENCE)).await;
        if tokio::time::timeout(left().max(LAST_PATIENCE), store.close()).await.is_err() {
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

fn listen(
    key: &'static str,
    flag: &'static str,
    addr: SocketAddr,
) -> Result<TcpListener, StartError> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // A town that restarts takes its ports back at once; one that runs keeps them.
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(ACCEPT_QUEUE_MAX)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bound().map_err(|source| StartError::Listen { key, flag, addr, source })
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("a bound listener has an address")
}
