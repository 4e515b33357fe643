//! Owns the fixture: a small game that misbehaves on request, started in this process on free
//! ports with a folder of its own, and clients to it.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use bastide::{
    Account, App, Code, Ctx, GateHooks, LoadError, Player, Refusal, Running,
    client::{Client, ClientError, Push, guest},
    def, msg,
};
use bastide_testkit::{assert_none_is_logged, logged, secret};
use prost::Message;
use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, sleep},
};

use crate::square::square;

/// Counts; everything else it does is told to it by the request.
#[derive(Default)]
pub(crate) struct Counter {
    count: i64,
}

impl Player for Counter {
    fn load(_: &Account, saved: Option<&[u8]>, _: i64) -> Result<Self, LoadError> {
        let Some(saved) = saved else { return Ok(Self::default()) };
        let bytes = saved.try_into().map_err(LoadError::new)?;
        Ok(Self { count: i64::from_le_bytes(bytes) })
    }

    fn save(&self) -> Vec<u8> {
        self.count.to_le_bytes().to_vec()
    }

    fn on_sign_in(&mut self, ctx: &Ctx) {
        ctx.push(&items(self.count));
    }
}

fn items(count: i64) -> msg::get_items::Res {
    let item = def::Item { id: 1, idx: 100, num: count, create_time: 0, update_time: 0 };
    msg::get_items::Res { code: 0, items: vec![item] }
}

/// Comes back as it was sent.
async fn echo(_: &mut Counter, ask: msg::echo::Req, _: &Ctx) -> Result<msg::echo::Res, Code> {
    Ok(msg::echo::Res { val: ask.val, ct: ask.ct })
}

/// Counts one up and tells the count.
async fn count(
    me: &mut Counter,
    _: msg::get_items::Req,
    _: &Ctx,
) -> Result<msg::get_items::Res, Code> {
    me.count += 1;
    Ok(items(me.count))
}

/// Pushes `item_num` times before it answers: of what `item_idx` says, numbered on.
async fn pushes(
    me: &mut Counter,
    ask: msg::gift_items::Req,
    ctx: &Ctx,
) -> Result<msg::gift_items::Res, Code> {
    for _ in 0..ask.item_num {
        match ask.item_idx {
            LATEST | DROPPABLE => me.count += 1,
            _ => {}
        }
        let code = i32::try_from(me.count).map_err(|_| Code::PARAMETER)?;
        match ask.item_idx {
            LATEST => ctx.push(&msg::get_mails::Res { code, mails: Vec::new() }),
            DROPPABLE => ctx.push(&msg::bind_phone::Res { code }),
            _ => ctx.push(&items(me.count)),
        }
    }
    Ok(msg::gift_items::Res { code: 0 })
}

/// An input: counts `num` up and tells nothing; less than nothing it refuses.
async fn adds(me: &mut Counter, add: def::Item, _: &Ctx) -> Result<(), Code> {
    if add.num < 0 {
        return Err(Code::PARAMETER);
    }
    me.count += add.num;
    Ok(())
}

/// The input of [`adds`].
pub(crate) fn add_of(num: i64) -> def::Item {
    def::Item { id: 0, idx: 0, num, create_time: 0, update_time: 0 }
}

/// Takes `type` milliseconds.
async fn slow(
    _: &mut Counter,
    ask: msg::get_rank::Req,
    _: &Ctx,
) -> Result<msg::get_rank::Res, Code> {
    let ms = u64::try_from(ask.r#type.unwrap_or_default()).map_err(|_| Code::PARAMETER)?;
    sleep(Duration::from_millis(ms)).await;
    Ok(msg::get_rank::Res { code: 0, rank: None })
}

/// Panics.
async fn panics(
    _: &mut Counter,
    _: msg::set_event::Req,
    _: &Ctx,
) -> Result<msg::set_event::Res, Code> {
    panic!("asked to")
}

/// Refuses with a code of the studio's own.
async fn refuses(
    _: &mut Counter,
    ask: msg::get_user::Req,
    _: &Ctx,
) -> Result<msg::get_user::Res, Refusal> {
    Err(Code(10_007).because(format!("no user {}", ask.id)))
}

/// Answers with more than a frame holds.
async fn huge(
    _: &mut Counter,
    _: msg::get_mails::Req,
    _: &Ctx,
) -> Result<msg::get_mails::Res, Code> {
    let mail = def::Mail { content: Some("x".repeat(70_000)), ..def::Mail::default() };
    Ok(msg::get_mails::Res { code: 0, mails: vec![mail] })
}

/// What [`pushes`] pushes: messages of which the latest of odd and even numbers is enough.
pub(crate) const LATEST: i32 = 1;

/// Messages that may be dropped.
pub(crate) const DROPPABLE: i32 = 2;

pub(crate) fn game() -> App<Counter> {
    let game = App::new("counter").player::<Counter>();
    let game = game.latest(|m: &msg::get_mails::Res| u64::from(m.code % 2 == 0));
    let game = game.droppable::<msg::bind_phone::Res>();
    let game = game.on(echo).on(count).on(adds).on(pushes);
    game.on(slow).on(panics).on(refuses).on(huge).room(square())
}

/// How each node makes its game.
pub(crate) type Game<'a> = &'a (dyn Fn() -> App<Counter> + Sync);

/// A running game: one process that has everything, or, with `TEST_SET=cluster` in the
/// environment, an account center, a gate and two game servers on etcd, Redis and PostgreSQL.
pub(crate) struct World {
    /// The account center's first, then the gate, then the game servers; one may be all of them.
    nodes: Vec<Running>,
    home: Home,
    clients: Runtime,
    _log: LogWithoutSecrets,
}

/// Every world's log goes here, in words; when one ends, no secret of any stands among them.
struct LogWithoutSecrets;

impl LogWithoutSecrets {
    fn begin() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // What an operator may turn on to look for trouble; beyond it are other people's bytes.
            let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG);
            log.with_ansi(false).with_writer(|| Lines).init();
        });
        Self
    }
}

impl Drop for LogWithoutSecrets {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_none_is_logged();
        }
    }
}

/// Takes a line with each write.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        logged(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where it keeps what survives a restart.
enum Home {
    Folder(tempfile::TempDir),
    Cluster { name: String, database: String },
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// Started with settings beside the usual, such as `"gate.idle_timeout=1s"`.
    pub(crate) fn with(settings: &[&str]) -> Self {
        Self::playing(&game, settings)
    }

    /// With hooks at its gate.
    pub(crate) fn with_door(door: impl GateHooks + Clone, settings: &[&str]) -> Self {
        Self::playing(&|| game().gate(door.clone()), settings)
    }

    /// Another game than [`game`].
    pub(crate) fn playing(game: Game<'_>, settings: &[&str]) -> Self {
        match std::env::var("TEST_SET").as_deref() {
            Ok("cluster") => {
                let database = bastide_testkit::shared().postgres.database();
                let name = bastide_testkit::cluster_name();
                Self::at(Home::Cluster { name, database }, game, settings)
            }
            Ok("alone") | Err(_) => {
                Self::at(Home::Folder(tempfile::tempdir().unwrap()), game, settings)
            }
            Ok(other) => panic!("TEST_SET={other}: alone and cluster are known"),
        }
    }

    /// One process, whatever the set.
    pub(crate) fn alone(settings: &[&str]) -> Self {
        Self::at(Home::Folder(tempfile::tempdir().unwrap()), &game, settings)
    }

    fn at(home: Home, game: Game<'_>, settings: &[&str]) -> Self {
        let _log = LogWithoutSecrets::begin();
        // The clients' own: they may outlive a game that is stopped.
        let clients = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let nodes = match &home {
            Home::Folder(dir) => {
                vec![start(&["--data", dir.path().to_str().unwrap()], game, settings)]
            }
            Home::Cluster { name, database } => thread::scope(|scope| {
                let node =
                    |roles| scope.spawn(move || serve(name, database, roles, game, settings));
                let nodes = ["account,rooms", "gate", "game", "game"].map(node);
                nodes.map(|node| node.join().unwrap()).into()
            }),
        };
        let world = Self { nodes, home, clients, _log };
        world.wait_for_nodes();
        world
    }

    /// A node is ready when it sees itself; a client may come when the others see it too.
    fn wait_for_nodes(&self) {
        if self.nodes.len() > 1 {
            self.run(async {
                while !self.gate_knows_a_game_server().await {
                    sleep(Duration::from_millis(10)).await;
                }
            });
        }
    }

    async fn gate_knows_a_game_server(&self) -> bool {
        let Ok(signed_in) = guest(&self.http().to_string(), "first").await else { return false };
        let mut client = self.connect().await;
        client.sign_in(&signed_in.token).await.is_ok()
            && client.receive().await.is_ok()
            && client.request(&echo_of(1)).await.is_ok()
    }

    /// Stops the game as an operator does: its gate says goodbye before its players go.
    pub(crate) fn stop(self) -> Runtime {
        let Self { nodes, home: _, clients, _log } = self;
        nodes.into_iter().for_each(Running::stop);
        clients
    }

    /// Stops the game and starts it again on the same data.
    pub(crate) fn restart(self) -> Self {
        let Self { nodes, home, clients: _, _log } = self;
        nodes.into_iter().for_each(Running::stop);
        Self::at(home, &game, &[])
    }

    /// The folder of one process.
    pub(crate) fn data(&self) -> String {
        match &self.home {
            Home::Folder(dir) => dir.path().to_str().unwrap().to_owned(),
            Home::Cluster { .. } => panic!("a cluster has no folder"),
        }
    }

    /// Where clients connect.
    pub(crate) fn gate(&self) -> SocketAddr {
        self.nodes.iter().find_map(Running::gate_tcp).unwrap()
    }

    /// Where WebSockets connect.
    pub(crate) fn ws(&self) -> SocketAddr {
        self.nodes.iter().find_map(Running::gate_ws).unwrap()
    }

    /// Where clients connect over TLS, when the settings say so.
    pub(crate) fn tls(&self) -> SocketAddr {
        self.nodes.iter().find_map(Running::gate_tcp_tls).unwrap()
    }

    /// Where WebSockets connect over TLS, when the settings say so.
    pub(crate) fn wss(&self) -> SocketAddr {
        self.nodes.iter().find_map(Running::gate_ws_tls).unwrap()
    }

    /// Where clients connect over QUIC.
    pub(crate) fn quic(&self) -> SocketAddr {
        self.nodes.iter().find_map(Running::gate_quic).unwrap()
    }

    /// What the gate shows to whoever connects over TLS or QUIC.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        self.nodes.iter().find_map(Running::gate_certificate).unwrap()
    }

    /// Where clients of a codec connect, and where they send datagrams.
    pub(crate) fn codec(&self, name: &str) -> (SocketAddr, SocketAddr) {
        let tcp = self.nodes.iter().find_map(|node| node.codec_tcp(name)).unwrap();
        (tcp, self.nodes.iter().find_map(|node| node.codec_udp(name)).unwrap())
    }

    /// Where people sign in.
    pub(crate) fn http(&self) -> SocketAddr {
        self.nodes.iter().find_map(Running::http).unwrap()
    }

    /// Where operators look, at each node.
    pub(crate) fn admin(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Running::admin).collect()
    }

    /// Runs a client's part.
    pub(crate) fn run<F: Future>(&self, client: F) -> F::Output {
        self.clients.block_on(client)
    }

    /// A connection that has not signed in.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(&self.gate().to_string()).await.unwrap()
    }

    /// The token of a guest; the same device is the same player.
    pub(crate) async fn token(&self, device: &str) -> String {
        secret(guest(&self.http().to_string(), device).await.unwrap().token)
    }

    /// A signed-in guest of its own, its greeting push read off.
    pub(crate) async fn player(&self) -> Client {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let device = format!("device-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.player_on(&device).await
    }

    pub(crate) async fn player_on(&self, device: &str) -> Client {
        let mut client = self.connect().await;
        client.sign_in(&self.token(device).await).await.unwrap();
        let greeting = client.receive().await.unwrap();
        assert_eq!(greeting.api, "msg.GetItems.Res");
        client
    }

    /// What a meter shows on all nodes together, from the pages that operators read.
    pub(crate) async fn meter(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for admin in self.admin() {
            let page = get(&format!("http://{admin}/metrics")).await.1;
            let line = page.lines().find(|l| l.starts_with(&format!("{name} ")));
            sum += line.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0);
        }
        sum
    }

    /// Waits until a meter shows this: what is counted may be seen before its count.
    pub(crate) async fn counts(&self, name: &str, wanted: f64) {
        until(name, async || self.meter(name).await >= wanted).await;
        assert_eq!(self.meter(name).await, wanted, "{name}");
    }
}

/// Waits for what comes true by itself.
pub(crate) async fn until(what: &str, mut came: impl AsyncFnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(15);
    while !came().await {
        assert!(Instant::now() < patience, "{what}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn serve(name: &str, database: &str, roles: &str, game: Game<'_>, settings: &[&str]) -> Running {
    let services = bastide_testkit::shared();
    let (etcd, redis) = (services.etcd.url(), services.redis.url());
    let name = format!("cluster.name={name}");
    let cluster = ["--etcd", &etcd, "--redis", &redis, "--store", database, "--set", &name];
    let link = ["--link", "127.0.0.1:0", "--set", "link.plaintext=true"];
    start(&[&["serve", "--roles", roles], &cluster[..], &link[..]].concat(), game, settings)
}

fn start(args: &[&str], game: Game<'_>, settings: &[&str]) -> Running {
    let mut args = args.to_vec();
    // Two shards on any machine, so that messages do cross threads.
    args.extend(["--set", "node.shards=2"]);
    for free in ["--http", "--gate-tcp", "--gate-ws", "--admin"] {
        args.extend([free, "127.0.0.1:0"]);
    }
    // A node that serves has QUIC if it has a certificate, and these have none.
    if args[0] != "serve" {
        args.extend(["--gate-quic", "127.0.0.1:0"]);
    }
    for setting in settings {
        args.extend(["--set", setting]);
    }
    game().start(&args).unwrap()
}

/// Status and body of the answer to a JSON object.
pub(crate) async fn post(url: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(url).header("content-type", "application/json");
    let response = request.body(body.to_string()).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

/// Status and body of a page.
pub(crate) async fn get(url: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The code and api of `msg.Error.Res`.
pub(crate) fn error(frame: &Push) -> (i32, String) {
    assert_eq!(frame.api, "msg.Error.Res");
    let error = msg::error::Res::decode(frame.payload.as_slice()).unwrap();
    (error.code, error.api)
}

/// The code with which a request was refused.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Code {
    match result {
        Err(ClientError::Refused(refusal)) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// The code with which a session was ended.
pub(crate) fn kick<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Code {
    match result {
        Err(ClientError::Kicked(refusal)) => refusal.code,
        other => panic!("not kicked: {other:?}"),
    }
}

/// The count that an answer or a push tells.
pub(crate) fn told(items: &msg::get_items::Res) -> i64 {
    items.items[0].num
}

pub(crate) fn echo_of(val: i64) -> msg::echo::Req {
    msg::echo::Req { val: Some(val), ct: None }
}

pub(crate) fn slow_of(ms: i32) -> msg::get_rank::Req {
    msg::get_rank::Req { r#type: Some(ms) }
}

pub(crate) fn panicking() -> msg::set_event::Req {
    msg::set_event::Req { event: def::Event { oper: 1, ..def::Event::default() } }
}
