//! The whole path beside the least that a server can do: messages a second and CPU per message
//! of bastide (gate, session, mailbox, entity, protobuf both ways) and of a raw tokio echo of the
//! same frames, in turn in one run. Over one hop: one process each. Over two: a gate and a game
//! server beside a gate and an echo on one thread each, whose link batches and flushes late.
//!
//! `cargo bench --bench path -- [--connections 100,1000] [--depth 1,32] [--hops 1,2]
//! [--seconds S] [--rounds R] [--beside PROGRAM]`
//!
//! `--beside` names another build of this benchmark, whose bastide is measured too.
//!
//! Read the ratios: absolute figures are those of this machine in this minute. The floor of two
//! hops is two processes, and so is bastide there; both their CPU counts, not the load's, nor
//! that of etcd, Redis and PostgreSQL.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

mod floor;
mod load;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bastide_benches::{Nodes, PAYLOAD_BYTES, ROLE, Servers, game, median};
use load::Figures;

fn main() -> ExitCode {
    match env::var(ROLE).as_deref() {
        Ok("bastide") => game().main(),
        Ok("floor") => floor::one_hop(),
        Ok("floor-gate") => floor::gate(),
        Ok("floor-echo") => floor::echo_behind_gate(),
        _ => match Plan::from_args() {
            Ok(plan) => measure(&plan),
            Err(usage) => {
                println!("{usage}");
                ExitCode::from(2)
            }
        },
    }
}

/// What is measured.
#[derive(Clone, Debug)]
struct Plan {
    connections: Vec<usize>,
    depths: Vec<usize>,
    hops: Vec<usize>,
    span: Duration,
    rounds: usize,
    beside: Option<PathBuf>,
}

impl Plan {
    fn from_args() -> Result<Self, String> {
        let mut plan = Self {
            connections: vec![100, 1000],
            depths: vec![1, 32],
            hops: vec![1, 2],
            span: Duration::from_secs(3),
            rounds: 3,
            beside: None,
        };
        let mut args = env::args().skip(1).filter(|a| a != "--bench");
        while let Some(arg) = args.next() {
            let value = args.next().ok_or(format!("{arg} wants a value"))?;
            let numbers = || {
                let numbers = value.split(',').map(|n| n.parse::<usize>().ok().filter(|n| *n > 0));
                numbers.collect::<Option<Vec<_>>>().ok_or(format!("{arg} wants numbers above 0"))
            };
            match arg.as_str() {
                "--connections" => plan.connections = numbers()?,
                "--depth" => plan.depths = numbers()?,
                "--hops" => plan.hops = numbers()?,
                "--seconds" => plan.span = Duration::from_secs(numbers()?[0] as u64),
                "--rounds" => plan.rounds = numbers()?[0],
                "--beside" => plan.beside = Some(value.into()),
                _ => {
                    return Err(format!(
                        "{arg}: --connections, --depth, --hops, --seconds, --rounds, --beside are known"
                    ));
                }
            }
        }
        match plan.hops.iter().all(|hops| *hops <= 2) {
            true => Ok(plan),
            false => Err("--hops is 1, 2 or 1,2".to_owned()),
        }
    }

    /// Who is measured over so many hops; the first is the floor.
    fn servers(&self, hops: usize) -> Vec<Server> {
        let this = env::current_exe().expect("this program");
        let (floor, nodes): (&[_], _) = match hops {
            1 => (&["floor"], Nodes::One),
            _ => (&["floor-echo", "floor-gate"], Nodes::Cluster(&["account,gate", "game"])),
        };
        let mut servers = vec![Server::Floor(floor), Server::Bastide("bastide", this, nodes)];
        servers.extend(self.beside.clone().map(|old| Server::Bastide("beside", old, nodes)));
        servers
    }
}

/// One that is measured.
#[derive(Clone, Debug)]
enum Server {
    Floor(&'static [&'static str]),
    Bastide(&'static str, PathBuf, Nodes),
}

impl Server {
    fn name(&self) -> &'static str {
        match self {
            Self::Floor(_) => "floor",
            Self::Bastide(name, ..) => name,
        }
    }

    async fn start(&self) -> Servers {
        match self {
            Self::Floor(roles) => Servers::raw(roles).await,
            Self::Bastide(_, program, nodes) => Servers::bastide(Path::new(program), *nodes).await,
        }
    }
}

fn measure(plan: &Plan) -> ExitCode {
    let Plan { rounds, span, .. } = plan;
    println!(
        "{rounds} rounds of {span:?} each, interleaved; medians; payload {PAYLOAD_BYTES} bytes"
    );
    println!(
        "{:>4} {:>5} {:>5}  {:8} {:>11} {:>10} {:>7} {:>13} {:>7} {:>7}",
        "hops",
        "conns",
        "depth",
        "server",
        "messages/s",
        "CPU us/msg",
        "x floor",
        "(lo..hi)",
        "p50 ms",
        "p99 ms"
    );
    for &hops in &plan.hops {
        let servers = plan.servers(hops);
        for &connections in &plan.connections {
            for &depth in &plan.depths {
                let mut figures = vec![Vec::new(); servers.len()];
                for _ in 0..plan.rounds {
                    for (server, figures) in servers.iter().zip(&mut figures) {
                        figures.push(load::run(
                            async || server.start().await,
                            connections,
                            depth,
                            *span,
                        ));
                    }
                }
                for (server, of) in servers.iter().zip(&figures) {
                    print!("{hops:>4} {connections:>5} {depth:>5}  {:8}", server.name());
                    print_row(of, &figures[0]);
                }
            }
        }
    }
    ExitCode::SUCCESS
}

/// The ratio is taken round by round, each against the floor of its own minute.
fn print_row(of: &[Figures], floor: &[Figures]) {
    let ratios: Vec<_> = of.iter().zip(floor).map(|(f, floor)| f.cpu_us / floor.cpu_us).collect();
    let (lo, hi) =
        (ratios.iter().copied().reduce(f64::min), ratios.iter().copied().reduce(f64::max));
    println!(
        " {:>11.0} {:>10.2} {:>7.2} {:>5.2}..{:<6.2} {:>7.2} {:>7.2}",
        median(of, |f| f.messages_per_s),
        median(of, |f| f.cpu_us),
        median(&ratios, |ratio| *ratio),
        lo.unwrap_or_default(),
        hi.unwrap_or_default(),
        median(of, |f| f.p50_ms),
        median(of, |f| f.p99_ms),
    );
}
