//! Other frameworks beside bastide: messages a second and CPU per message of the same echo, 64
//! bytes of payload there and back, each in the protocol that its users speak, in turn in one
//! run, with the floors of one hop and of two.
//!
//! `cargo bench -p bastide-benches --bench peers -- [--peers colyseus,pinus]
//! [--connections 100,1000] [--depth 1,32] [--seconds S] [--rounds R]`
//!
//! Peers come from npm, in the versions of the lock files beside this one, into `target/peers`.
//! README.md beside this file says what is fair about it and what not, and how to add a peer.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

mod load;
mod peer;

mod colyseus;
mod node;
mod ours;
mod pinus;

use std::{env, os::unix::process::CommandExt as _, process::ExitCode, time::Duration};

use bastide_benches::{PAYLOAD_BYTES, ROLE, floor, game, median};
use load::Figures;
use ours::Ours;
use peer::Peer;

/// Measured in every run, before those that `--peers` names.
static OURS: [&dyn Peer; 4] =
    [&Ours::FloorOneHop, &Ours::FloorTwoHops, &Ours::BastideOneHop, &Ours::BastideTwoHops];

/// Where bastide's are among them.
const BASTIDE_ONE_HOP: usize = 2;
const BASTIDE_TWO_HOPS: usize = 3;

/// Whom `--peers` may name; to add one, write its file and put it here.
static PEERS: [&dyn Peer; 3] =
    [&colyseus::Colyseus, &pinus::Pinus::Connector, &pinus::Pinus::Backend];

fn main() -> ExitCode {
    match env::var(ROLE).as_deref() {
        Ok("bastide") => game().main(),
        Ok("floor") => floor::one_hop(),
        Ok("floor-gate") => floor::gate(),
        Ok("floor-echo") => floor::echo_behind_gate(),
        Ok(role) => become_peer(role),
        Err(_) => match Plan::from_args().and_then(|plan| measure(&plan)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                println!("{why}");
                ExitCode::from(2)
            }
        },
    }
}

/// Becomes the program of a peer, so that it is the process whose CPU is read and that is ended.
fn become_peer(role: &str) -> ExitCode {
    let [announce, before] = [1, 2].map(|nth| env::args().nth(nth).unwrap_or_default());
    match PEERS.iter().find_map(|peer| peer.program(role, &announce, &before)) {
        None => println!("{ROLE}={role}: nobody has this role"),
        Some(mut program) => println!("{program:?} does not run: {}", program.exec()),
    }
    ExitCode::from(2)
}

/// What is measured.
struct Plan {
    peers: Vec<&'static dyn Peer>,
    connections: Vec<usize>,
    depths: Vec<usize>,
    span: Duration,
    rounds: usize,
}

impl Plan {
    fn from_args() -> Result<Self, String> {
        let mut plan = Self {
            peers: named("colyseus,pinus")?,
            connections: vec![100, 1000],
            depths: vec![1, 32],
            span: Duration::from_secs(3),
            rounds: 5,
        };
        let mut args = env::args().skip(1).filter(|a| a != "--bench");
        while let Some(arg) = args.next() {
            let value = args.next().ok_or(format!("{arg} wants a value"))?;
            let numbers = || {
                let numbers = value.split(',').map(|n| n.parse::<usize>().ok().filter(|n| *n > 0));
                numbers.collect::<Option<Vec<_>>>().ok_or(format!("{arg} wants numbers above 0"))
            };
            match arg.as_str() {
                "--peers" => plan.peers = named(&value)?,
                "--connections" => plan.connections = numbers()?,
                "--depth" => plan.depths = numbers()?,
                "--seconds" => plan.span = Duration::from_secs(numbers()?[0] as u64),
                "--rounds" => plan.rounds = numbers()?[0],
                _ => {
                    return Err(format!(
                        "{arg}: --peers, --connections, --depth, --seconds, --rounds are known"
                    ));
                }
            }
        }
        Ok(plan)
    }
}

/// Peers by their names, separated by commas.
fn named(names: &str) -> Result<Vec<&'static dyn Peer>, String> {
    let all = || PEERS.map(|peer| peer.name()).join(", ");
    let named = |name: &str| {
        let found = PEERS.into_iter().find(|peer| peer.name() == name);
        found.ok_or_else(|| format!("--peers {name}: {} are known", all()))
    };
    names.split(',').map(named).collect()
}

fn measure(plan: &Plan) -> Result<(), String> {
    let servers: Vec<_> = OURS.into_iter().chain(plan.peers.iter().copied()).collect();
    let mut told = Vec::new();
    for peer in &servers {
        let versions = peer.install().map_err(|why| format!("{}: {why}", peer.name()))?;
        if !told.contains(&versions) {
            println!("{versions}");
            told.push(versions);
        }
    }
    let Plan { rounds, span, .. } = plan;
    println!(
        "{rounds} rounds of {span:?} each, interleaved; medians; payload {PAYLOAD_BYTES} bytes\n\
         bastide / it: CPU per message of bastide over one hop and over two, by that of the row, \
         round by round"
    );
    println!(
        "{:>5} {:>5}  {:14} {:>10} {:>10} {:>8} {:>8} {:>6} {:>14} {:>6} {:>14}",
        "conns",
        "depth",
        "server",
        "messages/s",
        "CPU us/msg",
        "p50 ms",
        "p99 ms",
        "1 hop",
        "(lo..hi)",
        "2 hops",
        "(lo..hi)"
    );
    for &connections in &plan.connections {
        for &depth in &plan.depths {
            let mut figures = vec![Vec::new(); servers.len()];
            for _ in 0..plan.rounds {
                for (peer, figures) in servers.iter().zip(&mut figures) {
                    let cell = |why| {
                        format!("{}, {connections} connections, depth {depth}: {why}", peer.name())
                    };
                    figures.push(load::run(*peer, connections, depth, *span).map_err(cell)?);
                }
            }
            for (peer, of) in servers.iter().zip(&figures) {
                print!("{connections:>5} {depth:>5}  {:14}", peer.name());
                print_row(of, &figures[BASTIDE_ONE_HOP], &figures[BASTIDE_TWO_HOPS]);
            }
        }
    }
    Ok(())
}

fn print_row(of: &[Figures], one_hop: &[Figures], two_hops: &[Figures]) {
    print!(
        " {:>10.0} {:>10.2} {:>8.2} {:>8.2}",
        median(of, |f| f.messages_per_s),
        median(of, |f| f.cpu_us),
        median(of, |f| f.p50_ms),
        median(of, |f| f.p99_ms),
    );
    for bastide in [one_hop, two_hops] {
        let ratios: Vec<_> = bastide.iter().zip(of).map(|(b, it)| b.cpu_us / it.cpu_us).collect();
        let lo = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let hi = ratios.iter().copied().fold(0.0, f64::max);
        print!(" {:>6.3} {lo:>6.3}..{hi:<6.3}", median(&ratios, |ratio| *ratio));
    }
    println!();
}
