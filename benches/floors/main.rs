//! What the machine gives: raw echoes of the benchmarks' frames under the load of `path`, each
//! beside the first of them, in turn in one run.
//!
//! `cargo bench -p bastide-benches --bench floors -- [--connections 100,1000] [--depth 1,32]
//! [--paced RATE] [--seconds S] [--rounds R]`
//!
//! `mio` is one thread on one epoll, without a runtime; `tokio` a task a connection on two threads;
//! `two hops` a gate and an echo, two processes of one thread each, with one link between them.
//! The last two are the floors of `path`. Read the ratios: absolute figures are those of this
//! machine in this minute.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

mod epoll;

use std::{env, process::ExitCode};

use bastide_benches::{HEADING, PAYLOAD_BYTES, Plan, ROLE, Servers, floor, machine, row};

/// Name, and the roles of its processes.
const FLOORS: [(&str, &[&str]); 3] =
    [("mio", &["mio"]), ("tokio", &["tokio"]), ("two hops", &["echo", "gate"])];

fn main() -> ExitCode {
    match env::var(ROLE).as_deref() {
        Ok("mio") => epoll::main(),
        Ok("tokio") => floor::one_hop(),
        Ok("gate") => floor::gate(),
        Ok("echo") => floor::echo_behind_gate(),
        _ => match plan() {
            Ok(plan) => measure(&plan),
            Err(usage) => {
                println!("{usage}");
                ExitCode::from(2)
            }
        },
    }
}

fn plan() -> Result<Plan, String> {
    let mut plan = Plan::default();
    let mut args = env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} wants a value"))?;
        if !plan.take(&arg, &value)? {
            return Err(format!("{arg}: {} are known", Plan::ARGS));
        }
    }
    Ok(plan)
}

fn measure(plan: &Plan) -> ExitCode {
    println!("{}", machine());
    println!(
        "{} rounds of {:?} each, interleaved; medians; payload {PAYLOAD_BYTES} bytes; x floor: x mio",
        plan.rounds, plan.span
    );
    println!("{:>5} {:>8}  {:8}{HEADING}", "conns", "depth", "server");
    for &connections in &plan.connections {
        for demand in plan.demands() {
            let start = async |floor: &(&str, &[&str])| Servers::raw(floor.1).await;
            let figures = plan.interleave(&FLOORS, start, connections, demand);
            for ((name, _), of) in FLOORS.iter().zip(&figures) {
                println!("{connections:>5} {demand:>8}  {name:8}{}", row(of, &figures[0]));
            }
        }
    }
    ExitCode::SUCCESS
}
