//! Owns what the roles of a node stand on: clock, threads, store, cache, directory, links; and how
//! each role is put on it. Leaves the order of things, and their end, to `node`.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use crate::{
    account::{
        self, AccountCenter, AccountSettings, Gates, Own, OwnRoutes, ProofSettings, Sender,
        Validators,
    },
    admin::{Admin, Guard},
    ask::{Asker, Calls},
    chance::Chance,
    clock::Clock,
    config::Config,
    directory::{ClusterSettings, Directory, EtcdSettings, Role},
    doors::Doors,
    entity::{self, AnyKind, Homes, Host, Hosted, Kinds, RoomSide, World},
    gate::{Codecs, Gate, GateSettings, Grounds, Hooks, Pages, Players, TextSide},
    limits::NODE_LEASE,
    link::{Hosts, Links, Me, Served, Tls},
    node::{StartError, system},
    outage::Outage,
    room::{AnyRoomKind, Book, CenterGround, RoomCenter, Tickets},
    schema::Schema,
    secret,
    sessions::{self, Sessions},
    shards::Shards,
    store::{Cache, Redis, Store},
    tasks::Tasks,
    telemetry::Meters,
};

/// What the roles of a node stand on. Whether it is alone or one of many is decided here; nothing
/// above knows.
pub(crate) struct Ground {
    pub(crate) clock: Clock,
    pub(crate) chance: Chance,
    pub(crate) tasks: Tasks,
    pub(crate) meters: Meters,
    pub(crate) shards: Arc<Shards>,
    /// `None` where nothing is kept.
    pub(crate) store: Option<Store>,
    pub(crate) cache: Cache,
    pub(crate) directory: Directory,
    /// `None` where there are no others.
    pub(crate) links: Option<Links>,
    pub(crate) asker: Asker,
}

impl Ground {
    pub(crate) async fn lay(config: &Config, tasks: Tasks) -> Result<Self, StartError> {
        let (clock, chance, meters) = (Clock::system(), Chance::from_os(), Meters::new());
        tasks.spawn(meters.clone().add_up(tasks.clone()));
        let shards = Arc::new(Shards::start(config.node.shards).map_err(system("node.shards"))?);
        let keeps = config.has(Role::Account) || config.has(Role::Game);
        let store = if keeps { Some(open_store(config).await?) } else { None };
        let cluster = &config.cluster.name;
        let redis = config.cache.redis.as_ref();
        let redis = redis.map(|url| Redis::open(&url.0, cluster, Handle::current())).transpose()?;
        let cache = redis.clone().map_or_else(Cache::memory, Cache::redis);
        let Some(redis) = redis.filter(|_| config.clustered()) else {
            let incarnation = match &store {
                Some(store) => store.next_incarnation(clock.now_ms()).await?,
                None => clock.now_ms() * 1000,
            };
            let directory = Directory::alone(&format!("{cluster}-{incarnation}"), incarnation);
            let (links, asker) = (None, Asker::default());
            return Ok(Self {
                clock,
                chance,
                tasks,
                meters,
                shards,
                store,
                cache,
                directory,
                links,
                asker,
            });
        };
        let (node, etcd, tls) = (node_id(&chance), etcd_settings(config), Tls::load(&config.link)?);
        let settings = ClusterSettings { node: node.clone(), etcd, redis, clock: clock.clone() };
        let directory = Directory::join(settings, Handle::current(), &tasks).await?;
        let me = Me { cluster: cluster.clone(), node };
        let (handles, counted) = (shards.handles(), meters.link.clone());
        let links = Links::new(me, tls, handles, tasks.clone(), chance.clone(), counted);
        let asker = Asker::of_cluster(directory.clone(), links.clone());
        let links = Some(links);
        Ok(Self { clock, chance, tasks, meters, shards, store, cache, directory, links, asker })
    }

    /// The game server, when this node is one, and its right to run what it claims.
    pub(crate) fn host(
        &self,
        config: &Config,
        player: Arc<dyn AnyKind>,
        rooms: Vec<Arc<dyn AnyRoomKind>>,
    ) -> Option<Arc<Host>> {
        let store = self.store.clone().filter(|_| config.has(Role::Game))?;
        let world = World {
            clock: self.clock.clone(),
            store,
            in_transit: config.clustered().then(|| self.cache.clone()),
            chance: self.chance.clone(),
            tasks: self.tasks.clone(),
        };
        let (directory, meters) = (self.directory.clone(), self.meters.entity.clone());
        let side = RoomSide {
            book: self.book(),
            tickets: self.tickets(),
            asker: self.asker.clone(),
            links: self.links.clone(),
            recordings: config.rooms.record.clone(),
            homes: Homes::on(self.shards.handles()),
        };
        let kinds = Kinds { player, rooms, side };
        let host = Host::new(
            kinds,
            directory.clone(),
            world,
            config.game.clone(),
            config.session.clone(),
            meters,
        );
        let evicts = host.clone();
        let evict = Arc::new(move |evicted| {
            let host = evicts.clone();
            Box::pin(async move { host.evict(evicted).await }) as _
        });
        let calls = entity::calls(&host, sessions::calls(&host, Calls::default()));
        self.asker.start(Role::Game, calls, &self.tasks);
        self.tasks.spawn(directory.clone().keep_claims(evict, self.tasks.clone()));
        self.tasks.spawn(directory.sweep(self.tasks.clone()));
        Some(host)
    }

    /// What room centers know of rooms.
    pub(crate) fn book(&self) -> Book {
        Book::new(self.cache.clone(), self.clock.clone())
    }

    /// What lets players into rooms.
    pub(crate) fn tickets(&self) -> Tickets {
        Tickets::new(self.cache.clone(), self.chance.clone(), self.clock.clone())
    }

    /// Sets the room center going, when this node is one.
    pub(crate) fn rooms(&self, config: &Config, kinds: &[Arc<dyn AnyRoomKind>]) {
        if !config.has(Role::Rooms) {
            return;
        }
        let ground = CenterGround {
            cache: self.cache.clone(),
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            directory: self.directory.clone(),
            asker: self.asker.clone(),
            tasks: self.tasks.clone(),
        };
        RoomCenter::new(kinds, ground).start();
    }

    /// What operators see and may do.
    pub(crate) fn admin(&self, config: &Config, guard: Arc<Guard>) -> Admin {
        Admin {
            directory: self.directory.clone(),
            store: self.store.clone(),
            meters: self.meters.clone(),
            asker: self.asker.clone(),
            clock: self.clock.clone(),
            guard,
            cluster: config.cluster.name.clone(),
            marks: self.sessions().marks(),
        }
    }

    /// How sessions are ended, wherever they are.
    pub(crate) fn sessions(&self) -> Sessions {
        let (directory, asker) = (self.directory.clone(), self.asker.clone());
        Sessions::new(directory, asker, self.cache.clone(), self.clock.clone())
    }

    pub(crate) fn gate(
        &self,
        config: &Config,
        here: Option<Arc<Host>>,
        schema: Arc<Schema>,
        hooks: Hooks,
        pages: Pages,
        codecs: Codecs,
    ) -> Arc<Gate> {
        let settings = GateSettings {
            gate: config.gate.clone(),
            cluster: config.cluster.name.clone(),
            request_timeout: config.game.request_timeout,
            resume_window: config.session.resume_window,
            replay_bytes_max: config.session.replay_bytes_max,
        };
        let (links, directory) = (self.links.clone(), self.directory.clone());
        let players = Players { here, links, directory };
        let text = TextSide { schema, asker: self.asker.clone() };
        let grounds = Grounds {
            players,
            text,
            sessions: self.sessions(),
            tickets: self.tickets(),
            hooks,
            pages,
            codecs,
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            meters: self.meters.gate.clone(),
            tasks: self.tasks.clone(),
        };
        Gate::new(settings, grounds)
    }

    /// The account center, when this node is one, as an actor that any node may ask.
    pub(crate) async fn center(
        &self,
        config: &Config,
        sender: Sender,
        validators: Validators,
    ) -> Result<Option<AccountCenter>, StartError> {
        let Some(store) = self.store.as_ref().filter(|_| config.has(Role::Account)) else {
            return Ok(None);
        };
        let account = &config.account;
        let (said, file) = (&account.internal_secret, &account.internal_secret_file);
        let admin = &config.admin;
        let proofs = ProofSettings {
            validators,
            settings: config.validators.clone(),
            dev: config.dev,
            admin_secret: secret::text("admin.secret", &admin.secret, &admin.secret_file)?,
        };
        let fronts = self.directory.clone();
        let settings = AccountSettings {
            cluster: config.cluster.name.clone(),
            token_ttl: account.token_ttl,
            refresh_ttl: account.refresh_ttl,
            key_ttl: account.key_ttl,
            internal: secret::of("account.internal_secret", said, file)?,
            country_code: account.country_code.clone(),
            accounts_per_ip_hour: config.accounts_per_ip_hour(),
            audit_keep: account.audit_keep,
            sender: Sender::of(account, config.dev, sender)?,
            proofs,
            fronts: Arc::new(move |whom: &str| fronts.front_of(whom)),
        };
        let (frames, sockets) = (self.directory.clone(), self.directory.clone());
        let gates = Gates {
            addr: Arc::new(move || frames.gate_for_sign_in()),
            url: Arc::new(move || sockets.gate_for_websocket()),
        };
        let center = loop {
            let (store, cache, gates) = (store.clone(), self.cache.clone(), gates.clone());
            let (sessions, clock) = (self.sessions(), self.clock.clone());
            let settings = settings.clone();
            match AccountCenter::start(store, cache, sessions, gates, clock, settings).await {
                Ok(center) => break center,
                // The store has said so itself.
                Err(account::StartError::Store(_)) if config.clustered() => {}
                Err(e) => return Err(e.into()),
            }
            tokio::time::sleep(START_RETRY).await;
        };
        let calls = Calls::default()
            .on(&center, AccountCenter::auth)
            .on(&center, AccountCenter::registry)
            .on(&center, AccountCenter::sign_out)
            .on(&center, AccountCenter::kick)
            .on(&center, AccountCenter::ban)
            .on(&center, AccountCenter::unban)
            .on(&center, AccountCenter::view)
            .on(&center, AccountCenter::rotate_key);
        self.asker.start(Role::Account, calls, &self.tasks);
        self.tasks.spawn(center.clone().keep_swept(self.tasks.clone()));
        Ok(Some(center))
    }

    /// What a studio adds to the account center's HTTP.
    pub(crate) fn own(&self, routes: OwnRoutes) -> Own {
        Own { routes, asker: self.asker.clone(), directory: self.directory.clone() }
    }

    /// Has the account center keep its keys, when this node is one; discovery knows it by now.
    pub(crate) fn keep(&self, center: Option<AccountCenter>) {
        if let Some(center) = center {
            self.tasks.spawn(center.keep(self.directory.clone(), self.tasks.clone()));
        }
    }

    /// Lets other nodes in, where there are others.
    pub(crate) fn open_link(
        &self,
        doors: &mut Doors,
        host: Option<&Arc<Host>>,
    ) -> Result<(), StartError> {
        let Some(links) = &self.links else { return Ok(()) };
        let host = host.map(|host| Arc::new(Hosted(host.clone())) as Arc<dyn Hosts>);
        let served = Served { host, asker: self.asker.clone(), tasks: self.tasks.clone() };
        doors.open_link(links, served, &self.tasks)?;
        let (directory, tasks) = (self.directory.clone(), self.tasks.clone());
        self.tasks.spawn(keep_links(links.clone(), directory, tasks));
        Ok(())
    }
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
    if config.clustered() && config.store.url.is_none() {
        tracing::warn!(
            target: "node",
            "store.url is not set: accounts and players are kept in a file of this node, which no \
             other node reads; set it to the PostgreSQL that all nodes share"
        );
    }
    let outage = Outage::new("store.url");
    loop {
        match Store::open(&config.store_url(), Handle::current()).await {
            Ok(store) => return Ok(store),
            Err(e) if e.is_away() => {
                let _news: bool = outage.away(&e);
            }
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
