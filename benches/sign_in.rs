//! Guest sign-ins a second, and the servers' CPU for each: on the embedded set in one process, and
//! on account center, gate and game server in processes of their own, in turn in one run.
//!
//! `cargo bench --bench sign_in -- [--workers 1,32] [--seconds S] [--rounds R]`
//!
//! A sign-in is a token from the account center for a device that it knows, over a connection
//! that is kept, then a new connection to the gate, `msg.Login` and its answer. Its player is
//! still awake from the time before, as after a lost connection. The CPU of Redis, PostgreSQL and
//! etcd does not count. Read the ratios: absolute figures are those of this machine in this
//! minute.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::{env, process::ExitCode, time::Duration};

use bastide_benches::{Nodes, ROLE, Servers, game, median};
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep},
};

/// Before counting: every device is known, every player awake.
const WARM_UP: Duration = Duration::from_millis(800);

const SETS: [(&str, Nodes); 2] =
    [("embedded", Nodes::One), ("cluster", Nodes::Cluster(&["account", "gate", "game"]))];

fn main() -> ExitCode {
    if env::var(ROLE).is_ok() {
        return game().main();
    }
    match Plan::from_args() {
        Ok(plan) => measure(&plan),
        Err(usage) => {
            println!("{usage}");
            ExitCode::from(2)
        }
    }
}

#[derive(Clone, Debug)]
struct Plan {
    workers: Vec<usize>,
    span: Duration,
    rounds: usize,
}

impl Plan {
    fn from_args() -> Result<Self, String> {
        let mut plan = Self { workers: vec![1, 32], span: Duration::from_secs(3), rounds: 3 };
        let mut args = env::args().skip(1).filter(|a| a != "--bench");
        while let Some(arg) = args.next() {
            let numbers = args.next().and_then(|v| {
                v.split(',').map(|n| n.parse::<usize>().ok().filter(|n| *n > 0)).collect()
            });
            let numbers: Vec<_> = numbers.ok_or(format!("{arg} wants numbers above 0"))?;
            match arg.as_str() {
                "--workers" => plan.workers = numbers,
                "--seconds" => plan.span = Duration::from_secs(numbers[0] as u64),
                "--rounds" => plan.rounds = numbers[0],
                _ => return Err(format!("{arg}: --workers, --seconds, --rounds are known")),
            }
        }
        Ok(plan)
    }
}

/// One set, measured once.
#[derive(Clone, Copy, Debug)]
struct Figures {
    sign_ins_per_s: f64,
    cpu_ms: f64,
    latency_ms: f64,
}

fn measure(plan: &Plan) -> ExitCode {
    println!("{} rounds of {:?} each, interleaved; medians", plan.rounds, plan.span);
    println!(
        "{:>7}  {:9} {:>11} {:>14} {:>10} {:>12}",
        "workers", "set", "sign-ins/s", "CPU us/sign-in", "x embedded", "mean ms"
    );
    for &workers in &plan.workers {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..plan.rounds {
            for ((_, nodes), figures) in SETS.iter().zip(&mut figures) {
                figures.push(run(*nodes, workers, plan.span));
            }
        }
        for ((name, _), of) in SETS.iter().zip(&figures) {
            let cpu_ms = median(of, |f| f.cpu_ms);
            println!(
                "{workers:>7}  {name:9} {:>11.0} {:>14.0} {:>10.2} {:>12.2}",
                median(of, |f| f.sign_ins_per_s),
                cpu_ms * 1e3,
                cpu_ms / median(&figures[0], |f| f.cpu_ms),
                median(of, |f| f.latency_ms),
            );
        }
    }
    ExitCode::SUCCESS
}

fn run(nodes: Nodes, workers: usize, span: Duration) -> Figures {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let program = env::current_exe().expect("this program");
        let servers = Servers::bastide(&program, nodes).await;
        let from = Instant::now() + WARM_UP;
        let mut signing_in = JoinSet::new();
        for n in 0..workers {
            signing_in.spawn(worker(servers.guest().await, n, from, from + span));
        }
        sleep(WARM_UP).await;
        let cpu = servers.cpu();
        sleep(span).await;
        let cpu = servers.cpu() - cpu;
        let mut count = 0;
        while let Some(done) = signing_in.join_next().await {
            count += done.expect("signed in");
        }
        Figures {
            sign_ins_per_s: f64::from(count) / span.as_secs_f64(),
            cpu_ms: cpu.as_secs_f64() * 1e3 / f64::from(count),
            latency_ms: span.as_secs_f64() * 1e3 * workers as f64 / f64::from(count),
        }
    })
}

/// Signs in again and again; how often between two times.
async fn worker(
    mut guest: bastide_benches::Guest,
    number: usize,
    from: Instant,
    until: Instant,
) -> u32 {
    let device = format!("bench-{number}");
    let mut count = 0;
    loop {
        let socket = guest.sign_in(&device).await;
        // Reset rather than closed, or the machine runs out of ports.
        socket.set_zero_linger().expect("a socket");
        let now = Instant::now();
        if now >= until {
            return count;
        }
        count += u32::from(now >= from);
    }
}
