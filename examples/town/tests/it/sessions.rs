//! Sessions that outlive servers: gates are killed and drained, game servers drained and killed,
//! under players who number everything that they ask and hear.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use bastide::client::{Address, Loss, WhenLost};
use bastide_testkit::shared;
use tokio::time::{Instant, sleep};

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

    async fn kill_gate(&mut self, number: usize) {
        self.gates[number].node.kill();
        sleep(Duration::from_millis(300)).await;
        self.start_gate(number).await;
    }

    /// Its operator's signal: everybody there is told 2007.
    async fn drain_gate(&mut self, number: usize) {
        let Gate { node, port } = self.gates.remove(number);
        assert_eq!(node.drain().await.code(), Some(0));
        let [node] = self.cluster.nodes_with([("gate", at(port))]).await;
        self.gates.insert(number, Gate { node, port });
    }

    async fn start_gate(&mut self, number: usize) {
        let port = self.gates[number].port;
        [self.gates[number].node] = self.cluster.nodes_with([("gate", at(port))]).await;
    }

    /// One comes, then the one that is there longest goes.
    async fn replace_game_server(&mut self) {
        self.games.push(self.cluster.node("game").await);
        assert_eq!(self.games.remove(0).drain().await.code(), Some(0));
    }

    /// The players that a game server runs, one bit each.
    fn whose(&self, game: &Node, players: &Steady) -> u64 {
        let owned = |account: &i64| self.cluster.owner(&shared().redis, *account) == game.id;
        let numbered = players.accounts.iter().enumerate();
        numbered.filter(|(_, account)| owned(account)).fold(0, |bits, (n, _)| bits | 1 << n)
    }
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
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Nobody lost anything; what it cost is told.
fn is_whole(what: &str, mut seen: Seen) {
    assert!(seen.lost.is_empty() && seen.unsure == 0, "{seen:?}");
    assert!(!seen.resumed.is_empty(), "nobody was ever away");
    seen.resumed.sort();
    let part = |part: f64| seen.resumed[((seen.resumed.len() - 1) as f64 * part) as usize];
    tell(&format!(
        "{what}: {} answers, {} cards; resumed {} times, {} frames sent again, p50 {:?}, \
         p99 {:?}, max {:?}",
        seen.answered,
        seen.drawn,
        seen.resumed.len(),
        seen.resent,
        part(0.5),
        part(0.99),
        part(1.0)
    ));
}

#[tokio::test]
async fn gates_are_killed_one_after_the_other_and_every_session_goes_on_whole() {
    let mut town = Town::start().await;
    let mut players = town.players(WhenLost::End).await;
    for round in 0..6 {
        town.kill_gate(round % 3).await;
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
        town.drain_gate(number).await;
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
        town.replace_game_server().await;
        players.go_on().await;
    }
    is_whole("drain of game servers", players.end().await);
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

#[tokio::test]
async fn whatever_happens_for_a_while_to_gates_game_servers_and_connections_nothing_is_lost() {
    let mut town = Town::start().await;
    let mut players = town.players(WhenLost::End).await;
    let seed = RandomState::new().build_hasher().finish();
    tell(&format!("soak with seed {seed}"));
    let mut random = seed;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 24) % below
    };
    let began = Instant::now();
    while began.elapsed() < SOAK {
        let gate = usize::try_from(next(3)).unwrap();
        match next(5) {
            0 => town.kill_gate(gate).await,
            1 => town.drain_gate(gate).await,
            2 => town.replace_game_server().await,
            3 => players.send_away(1 << next(40)),
            _ => players.cut(next(1 << 40)),
        }
        sleep(Duration::from_millis(200)).await;
    }
    players.go_on().await;
    until("the account center is well", async || town.account.ready().await).await;
    is_whole("soak", players.end().await);
}

#[expect(clippy::print_stderr, reason = "a measured time, for whoever runs the test")]
fn tell(what: &str) {
    eprintln!("measured: {what}");
}
