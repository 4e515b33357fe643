//! Sessions that outlive servers: gates are killed and drained, game servers drained and killed,
//! under players who number everything that they ask and hear.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use bastide::client::{Address, Loss, WhenLost};
use bastide_testkit::shared;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    nodes::{Cluster, Node, until},
    steady::{Seen, Steady},
};

/// Players under load. One bit of a `u64` each.
const PLAYERS: usize = 40;

/// Ports of gates: below those that a system hands out by itself, for a gate that was killed must
/// find its own again.
const PORTS_FROM: u16 = 21_000;

/// How long the soak lasts.
const SOAK: Duration = Duration::from_secs(20);

/// A cluster whose gates have addresses that last.
struct Town {
    cluster: Cluster,
    account: Node,
    gates: Vec<Gate>,
    games: Vec<Node>,
}

struct Gate {
    node: Node,
    port: u16,
}

impl Town {
    async fn start() -> Self {
        let cluster = Cluster::shared();
        let ports = [(); 3].map(|()| free_port());
        let [one, two, three] = ports.map(|port| ("gate", at(port)));
        let others = ["account", "game", "game"].map(|roles| (roles, Vec::new()));
        let [account, game, game_too] = others;
        let [account, game, game_too, one, two, three] =
            cluster.nodes_with([account, game, game_too, one, two, three]).await;
        let gates = [one, two, three].into_iter().zip(ports);
        let gates = gates.map(|(node, port)| Gate { node, port }).collect();
        Self { cluster, account, gates, games: vec![game, game_too] }
    }

    async fn players(&self, when_lost: WhenLost) -> Steady {
        let gate = |gate: &Gate| Address::parse(&format!("127.0.0.1:{}", gate.port)).unwrap();
        let gates: Vec<_> = self.gates.iter().map(gate).collect();
        Steady::begin(&self.cluster.accounts.one(), &gates, when_lost, PLAYERS).await
    }

    /// The players that a game server runs, one bit each.
    fn whose(&self, game: &Node, players: &Steady) -> u64 {
        let owned = |account: &i64| self.cluster.owner(&shared().redis, *account) == game.id;
        let numbered = players.accounts.iter().enumerate();
        numbered.filter(|(_, account)| owned(account)).fold(0, |bits, (n, _)| bits | 1 << n)
    }
}

impl Gate {
    /// It dies, and is there again.
    async fn kill(&mut self, cluster: &Cluster) {
        self.node.kill();
        sleep(Duration::from_millis(300)).await;
        [self.node] = cluster.nodes_with([("gate", at(self.port))]).await;
    }

    /// Its operator's signal: everybody there is told 2007.
    async fn drain(&mut self, cluster: &Cluster) {
        assert_eq!(self.node.leave().await.code(), Some(0));
        [self.node] = cluster.nodes_with([("gate", at(self.port))]).await;
    }
}

/// One comes, then the one that is there longest goes.
async fn replace_one(games: &mut Vec<Node>, cluster: &Cluster) {
    games.push(cluster.node("game").await);
    assert_eq!(games.remove(0).drain().await.code(), Some(0));
}

fn at(port: u16) -> Vec<String> {
    vec!["--gate-tcp".to_owned(), format!("127.0.0.1:{port}")]
}

fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        // Other test programs have another place to begin.
        let begin = u16::try_from(std::process::id() % 500).unwrap() * 20;
        let port = PORTS_FROM + (begin + next) % 10_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Nobody lost anything; what it cost is told.
fn is_whole(what: &str, mut seen: Seen) {
    assert!(seen.lost.is_empty() && seen.unsure == 0, "{seen:?}");
    let (times, resent) = (seen.resumed.len(), seen.resent);
    assert!(times + seen.came_back > 0, "nobody was ever away");
    seen.resumed.sort();
    let part = |part: f64| {
        let at = (times.saturating_sub(1) as f64 * part) as usize;
        seen.resumed.get(at).copied().unwrap_or_default()
    };
    tell(&format!(
        "{what}: {} answers, {} cards, all once; {} draws refused",
        seen.answered, seen.drawn, seen.refused
    ));
    tell(&format!(
        "{what}: resumed {times} times, {resent} frames sent again; from the break p50 {:?}, \
         p99 {:?}, max {:?}; {} more came back from elsewhere",
        part(0.5),
        part(0.99),
        part(1.0),
        seen.came_back
    ));
}

#[tokio::test]
async fn gates_are_killed_one_after_the_other_and_every_session_goes_on_whole() {
    let mut town = Town::start().await;
    let mut players = town.players(WhenLost::End).await;
    for round in 0..6 {
        town.gates[round % 3].kill(&town.cluster).await;
        sleep(Duration::from_millis(500)).await;
    }
    players.go_on().await;
    is_whole("kill -9 of gates", players.end().await);
}

#[tokio::test]
async fn gates_are_drained_one_after_the_other_and_every_session_goes_on_whole() {
    let mut town = Town::start().await;
    let mut players = town.players(WhenLost::End).await;
    for number in [0, 1, 2, 0] {
        town.gates[number].drain(&town.cluster).await;
        players.go_on().await;
    }
    is_whole("drain of gates", players.end().await);
}

/// Who is away just then has no connection that could be told where its player went.
#[tokio::test]
async fn game_servers_are_drained_and_sessions_go_on_also_those_that_are_away_just_then() {
    let mut town = Town::start().await;
    let mut players = town.players(WhenLost::End).await;
    for _ in 0..2 {
        let leaving = town.whose(&town.games[0], &players);
        assert!(leaving.count_ones() > 4, "they are spread: {leaving:b}");
        // Three of those that move.
        let rest = (0..3).fold(leaving, |rest, _| rest & (rest - 1));
        players.send_away(leaving & !rest);
        sleep(Duration::from_millis(300)).await;
        replace_one(&mut town.games, &town.cluster).await;
        players.go_on().await;
    }
    is_whole("drain of game servers", players.end().await);
}

/// Each node hears of the others a moment late; to those that have not heard yet, a game server
/// that is there looks like one that is gone.
#[tokio::test]
async fn sessions_with_a_game_server_that_others_have_not_heard_of_go_on_when_they_have() {
    let town = Town::start().await;
    let mut players = town.players(WhenLost::End).await;
    let etcd = &shared().etcd;
    let hidden = town.cluster.node_key(&town.games[0].id);
    let taken = etcd.take(&hidden);
    players.cut(u64::MAX);
    sleep(Duration::from_secs(1)).await;
    etcd.put_back(&taken);
    players.go_on().await;
    is_whole("a game server nobody had heard of", players.end().await);
}

/// Whoever was with it is told that the session is over; what was answered is in the bag.
#[tokio::test]
async fn sessions_of_a_killed_game_server_end_honestly_and_the_others_notice_nothing() {
    let mut town = Town::start().await;
    let mut players = town.players(WhenLost::SignInAnew).await;
    let leaving = town.whose(&town.games[0], &players).count_ones() as usize;
    assert!(leaving > 0 && leaving < PLAYERS, "they are spread: {leaving}");
    town.games.remove(0).kill();
    let killed = Instant::now();
    players.go_on().await;
    tell(&format!("from kill -9 of a game server to answers for all: {:?}", killed.elapsed()));
    let seen = players.end().await;
    assert_eq!(seen.lost.len(), leaving, "{:?}", seen.lost);
    let honest = |loss: &Loss| matches!(loss, Loss::ResumeRefused(_) | Loss::WindowOver { .. });
    assert!(seen.lost.iter().all(honest), "{:?}", seen.lost);
    tell(&format!("{leaving} of {PLAYERS} sessions lost, {} draws unsure", seen.unsure));
}

/// All at once: a gate may die while the player of its client moves, or while that client is away.
#[tokio::test]
async fn whatever_happens_for_a_while_to_gates_game_servers_and_connections_nothing_is_lost() {
    let mut town = Town::start().await;
    let mut players = town.players(WhenLost::End).await;
    let seed = RandomState::new().build_hasher().finish();
    tell(&format!("soak with seed {seed}"));
    let over = Instant::now() + SOAK;
    let Town { cluster, account, gates, games } = &mut town;
    let on_gates = async {
        let mut chance = Chance(seed);
        while Instant::now() < over {
            let gate = &mut gates[chance.below(3) as usize];
            match chance.below(3) {
                0 => gate.drain(cluster).await,
                _ => gate.kill(cluster).await,
            }
            sleep(Duration::from_millis(chance.below(500))).await;
        }
    };
    let on_games = async {
        let mut chance = Chance(seed.rotate_left(32));
        while Instant::now() < over {
            replace_one(games, cluster).await;
            sleep(Duration::from_millis(chance.below(500))).await;
        }
    };
    let on_clients = async {
        let mut chance = Chance(!seed);
        while Instant::now() < over {
            match chance.below(3) {
                0 => players.send_away(1 << chance.below(PLAYERS as u64)),
                _ => players.cut(chance.below(1 << PLAYERS)),
            }
            sleep(Duration::from_millis(chance.below(800))).await;
        }
    };
    tokio::join!(on_gates, on_games, on_clients);
    players.go_on().await;
    until("the account center is well", async || account.ready().await).await;
    is_whole("soak", players.end().await);
}

/// The same numbers for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 24) % bound
    }
}

// === The command ===

/// What a gate says passes so slowly that a play lasts long enough to be disturbed.
async fn pass_slowly(listener: TcpListener, gate: u16) {
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            let Ok(mut gate) = TcpStream::connect(("127.0.0.1", gate)).await else { return };
            let ((mut from_client, mut to_client), (mut from_gate, mut to_gate)) =
                (client.split(), gate.split());
            let down = async {
                let mut bytes = vec![0; 4096];
                while let Ok(read @ 1..) = from_gate.read(&mut bytes).await {
                    sleep(Duration::from_millis(300)).await;
                    if to_client.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = down => {}
                _ = tokio::io::copy(&mut from_client, &mut to_gate) => {}
            }
        });
    }
}

#[tokio::test]
async fn play_goes_on_when_its_gate_is_killed_and_says_that_it_resumed() {
    let cluster = Cluster::shared();
    let ports = [(); 2].map(|()| free_port());
    let (mut slow, mut gates) = (JoinSet::new(), Vec::new());
    for port in ports {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let advertised = listener.local_addr().unwrap().to_string();
        slow.spawn(pass_slowly(listener, port));
        let args = [at(port), vec!["--gate-advertise".to_owned(), advertised.clone()]].concat();
        gates.push((advertised, args));
    }
    let others = ("account,game,rooms", Vec::new());
    let each = [others, ("gate", gates[0].1.clone()), ("gate", gates[1].1.clone())];
    let [_all, mut one, mut other] = cluster.nodes_with(each).await;
    let (said, mut play) = cluster.playing();
    let said = || std::fs::read_to_string(&said).unwrap();
    until("it plays", async || said().contains("echo: 7 came back")).await;
    let at_one = said().contains(&format!("at the gate {},", gates[0].0));
    if at_one {
        one.kill()
    } else {
        other.kill()
    }
    until("it ends", async || play.try_wait().unwrap().is_some()).await;
    assert!(play.wait().unwrap().success(), "{}", said());
    assert_eq!(said().matches("resumed after").count(), 1, "{}", said());
}

#[expect(clippy::print_stderr, reason = "a measured time, for whoever runs the test")]
fn tell(what: &str) {
    eprintln!("measured: {what}");
}
