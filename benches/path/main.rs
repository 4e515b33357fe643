//! The whole path beside the least that a server can do: messages a second and CPU per message
//! of bastide (gate, session, mailbox, entity, protobuf both ways) and of a raw tokio echo of the
//! same frames, in turn in one run. Over one hop: one process each. Over two: a gate and a game
//! server beside a gate and an echo on one thread each, whose link batches and flushes late.
//!
//! `cargo bench --bench path -- [--connections 100,1000] [--depth 1,32] [--paced RATE] [--hops 1,2]
//! [--seconds S] [--rounds R] [--beside PROGRAM]`
//!
//! With `--depth` so many requests of each connection are always under way. With `--paced` so many
//! messages a second are sent over all connections together, whether those before them are answered
//! or not, and latency counts from when each was due. `--paced` alone measures nothing else.
//!
//! `--beside` names another build of this benchmark, whose bastide is measured too.
//!
//! Read the ratios: absolute figures are those of this machine in this minute. The floor of two
//! hops is two processes, and so is bastide there; both their CPU counts, not the load's, nor
//! that of etcd, Redis and PostgreSQL.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use bastide_benches::{
    HEADING, Nodes, PAYLOAD_BYTES, Plan, ROLE, Servers, floor, game, machine, numbers, row,
};

fn main() -> ExitCode {
    match env::var(ROLE).as_deref() {
        Ok("bastide") => game().main(),
        Ok("floor") => floor::one_hop(),
        Ok("floor-gate") => floor::gate(),
        Ok("floor-echo") => floor::echo_behind_gate(),
        _ => match Bench::from_args() {
            Ok(path) => path.measure(),
            Err(usage) => {
                println!("{usage}");
                ExitCode::from(2)
            }
        },
    }
}

/// What is measured, over which hops, beside what else.
#[derive(Clone, Debug)]
struct Bench {
    plan: Plan,
    hops: Vec<usize>,
    beside: Option<PathBuf>,
}

impl Bench {
    fn from_args() -> Result<Self, String> {
        let mut path = Self { plan: Plan::default(), hops: vec![1, 2], beside: None };
        let mut args = env::args().skip(1).filter(|a| a != "--bench");
        while let Some(arg) = args.next() {
            let value = args.next().ok_or(format!("{arg} wants a value"))?;
            match arg.as_str() {
                "--hops" => path.hops = numbers(&arg, &value)?,
                "--beside" => path.beside = Some(value.into()),
                _ if path.plan.take(&arg, &value)? => {}
                _ => return Err(format!("{arg}: {}, --hops, --beside are known", Plan::ARGS)),
            }
        }
        match path.hops.iter().all(|hops| *hops <= 2) {
            true => Ok(path),
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

    fn measure(&self) -> ExitCode {
        let plan = &self.plan;
        println!("{}", machine());
        println!(
            "{} rounds of {:?} each, interleaved; medians; payload {PAYLOAD_BYTES} bytes",
            plan.rounds, plan.span
        );
        println!("{:>4} {:>5} {:>8}  {:8}{HEADING}", "hops", "conns", "depth", "server");
        for &hops in &self.hops {
            let servers = self.servers(hops);
            for &connections in &plan.connections {
                for demand in plan.demands() {
                    let figures = plan.interleave(&servers, Server::start, connections, demand);
                    for (server, of) in servers.iter().zip(&figures) {
                        let row = row(of, &figures[0]);
                        println!(
                            "{hops:>4} {connections:>5} {demand:>8}  {:8}{row}",
                            server.name()
                        );
                    }
                }
            }
        }
        ExitCode::SUCCESS
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
