//! Whether more of something costs more of each: CPU a message, memory and latency by connections
//! and by game servers; memory and CPU by rooms; memory by players that do nothing.
//!
//! `cargo bench -p bastide-benches --bench growth -- [--rate 10000] [--seconds S]`
//!
//! The first two tables are an open loop of `--rate` echoes a second over all connections, on a gate
//! and game servers of their own with an etcd, a Redis and a PostgreSQL. Memory is RSS, less what
//! the processes had with 50 players. Rooms and players are those of one process; the rooms are
//! empty, and tick twenty times a second, or not at all.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::{
    env,
    path::Path,
    process::{self, Command, ExitCode},
    time::Duration,
};

use bastide::{__bench::Idlers, Room, RoomCtx, RoomKind};
use bastide_benches::{
    Demand, Nodes, ROLE, Servers, Setup, cpu, game, machine, memory, numbers, play,
};
use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};

/// Where the gate's process is among those started; game servers follow.
const GATE: usize = 0;

/// Players that are there before memory is counted.
const FEW: usize = 50;

fn main() -> ExitCode {
    let things = || env::args().nth(1).and_then(|n| n.parse().ok()).expect("how many");
    match env::var(ROLE).as_deref() {
        Ok("bastide") => return game().main(),
        Ok("rooms") => rooms(things(), 0),
        Ok("ticking rooms") => rooms(things(), 20),
        Ok("players") => players(things()),
        _ => match plan() {
            Ok((rate, span)) => measure(rate, span),
            Err(usage) => {
                println!("{usage}");
                return ExitCode::from(2);
            }
        },
    }
    ExitCode::SUCCESS
}

fn plan() -> Result<(usize, Duration), String> {
    let (mut rate, mut span) = (10_000, Duration::from_secs(5));
    let mut args = env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--rate" => rate = numbers(&arg, &value)?[0],
            "--seconds" => span = Duration::from_secs(numbers(&arg, &value)?[0] as u64),
            _ => return Err(format!("{arg}: --rate, --seconds are known")),
        }
    }
    Ok((rate, span))
}

fn measure(rate: usize, span: Duration) {
    println!("{}", machine());
    println!("\n{rate} echoes a second, {span:?}");
    println!(
        "{:>11} {:>5} {:>11} {:>7} {:>7} {:>15} {:>15}",
        "connections", "games", "CPU us/msg", "p50 ms", "p99 ms", "gate KiB/conn", "games KiB/conn"
    );
    for connections in [100, 1000, 10_000] {
        echoes(connections, nodes(1), rate, span);
    }
    for games in [2, 4] {
        echoes(1000, nodes(games), rate, span);
    }
    println!("\n{:>14} {:>7} {:>10} {:>13}", "", "", "bytes each", "CPU us/s each");
    for role in ["rooms", "ticking rooms", "players"] {
        let most = if role == "players" { 100_000 } else { 10_000 };
        for things in [most / 100, most / 10, most] {
            let mut command = Command::new(env::current_exe().expect("this program"));
            let ran = command.env(ROLE, role).arg(things.to_string()).output().expect("it starts");
            let said = String::from_utf8_lossy(&ran.stdout);
            assert!(ran.status.success(), "{role}: {}", String::from_utf8_lossy(&ran.stderr));
            println!("{role:>14} {things:>7} {}", said.trim_end());
        }
    }
}

/// A gate, and so many game servers.
fn nodes(games: usize) -> &'static [&'static str] {
    static NODES: [&str; 5] = ["account,gate", "game", "game", "game", "game"];
    &NODES[..=games]
}

fn echoes(connections: usize, nodes: &'static [&'static str], rate: usize, span: Duration) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let this = env::current_exe().expect("this program");
        let nodes_of = Nodes::Cluster(nodes);
        let servers = Servers::bastide_with(Path::new(&this), nodes_of, &Setup::default()).await;
        let few = Demand::Paced(rate);
        play(&servers, FEW, few, Duration::from_secs(1)).await;
        let memory = |at: usize| servers.memory(at).rss;
        let games = || (GATE + 1..nodes.len()).map(memory).sum::<f64>();
        let before = (memory(GATE), games());
        let figures = play(&servers, connections, Demand::Paced(rate), span).await;
        let kib = |bytes: f64| bytes / 1024.0 / connections as f64;
        println!(
            "{connections:>11} {:>5} {:>11.2} {:>7.2} {:>7.2} {:>15.2} {:>15.2}",
            nodes.len() - 1,
            figures.cpu_us,
            figures.p50_ms,
            figures.p99_ms,
            kib(memory(GATE) - before.0),
            kib(games() - before.1),
        );
    });
}

// === In one process ===

/// A room in which nothing happens.
struct Hall;

impl Room for Hall {
    fn open(_: &mut RoomCtx) -> bastide::Result<Self> {
        Ok(Self)
    }
}

fn rooms(rooms: usize, ticks_per_s: u32) {
    alone(rooms, async move |rooms| {
        let kind = RoomKind::<Hall>::new("hall").capacity(8);
        let kind = if ticks_per_s > 0 { kind.ticks(ticks_per_s) } else { kind };
        let host = Idlers::beside(game(), kind);
        let before = memory(process::id()).rss;
        for id in 0..rooms {
            host.open("hall", id).await.expect("opened");
        }
        (host, before)
    });
}

fn players(players: usize) {
    /// Of those who come at once; the others find them resting.
    const GROUP: usize = 5000;
    alone(players, async |players| {
        let host = Idlers::new(game());
        let before = memory(process::id()).rss;
        for account in 0..players {
            host.sign_in(account as i64).await.expect("signed in");
            if account % GROUP == GROUP - 1 {
                sleep(Duration::from_millis(2500)).await;
            }
        }
        sleep(Duration::from_millis(2500)).await;
        (host, before)
    });
}

/// Prints what each takes when all are there and nothing happens.
fn alone(things: usize, fill: impl AsyncFnOnce(usize) -> (Idlers, f64)) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (_host, before) = fill(things).await;
        let bytes = (memory(process::id()).rss - before) / things as f64;
        let (used, began) = (cpu(process::id()), Instant::now());
        sleep(Duration::from_secs(3)).await;
        let used = (cpu(process::id()) - used).as_secs_f64() / began.elapsed().as_secs_f64();
        println!("{bytes:>10.0} {:>13.2}", used * 1e6 / things as f64);
    });
}
