//! What an idle signed-in session costs: memory of the gate and of the game server apart, over
//! each way into a gate, with the allocator's share and without.
//!
//! `cargo bench -p bastide-benches --bench idle -- [--ways tcp,tls,ws,quic] [--sessions 10000]
//! [--quic-sessions 1000] [--settle S]`
//!
//! Account center, gate and game server are processes of their own, on an etcd, a Redis and a
//! PostgreSQL; the clients are two more, for one may have 20,000 files only. Before counting, some
//! hundred sessions come and stay, so that what is made once is not counted. A way that the gate
//! does not serve is said to be none. The kernel's own memory (some 2.5 KiB a socket, more with
//! bytes in it) is not the process's and not counted.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

mod clients;

use std::{env, fs, path::Path, process::ExitCode, time::Duration};

use bastide_benches::{Memory, Nodes, ROLE, Servers, Setup, game};
use clients::{Clients, Way};
use tokio::{runtime::Builder, time::sleep};

/// Sessions that are there before counting.
const WARM_UP: usize = 300;

/// Where each role's process is among those started.
const ROLES: [&str; 3] = ["account", "gate", "game"];
const GATE: usize = 1;
const GAME: usize = 2;

fn main() -> ExitCode {
    match env::var(ROLE).as_deref() {
        Ok("bastide") => return game().main(),
        Ok("clients") => return clients::main(),
        _ => {}
    }
    match Plan::from_args() {
        Ok(plan) => {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(measure(&plan));
            ExitCode::SUCCESS
        }
        Err(usage) => {
            println!("{usage}");
            ExitCode::from(2)
        }
    }
}

struct Plan {
    ways: Vec<Way>,
    sessions: usize,
    quic_sessions: usize,
    settle: Duration,
}

impl Plan {
    fn from_args() -> Result<Self, String> {
        let mut plan = Self {
            ways: Way::ALL.to_vec(),
            sessions: 10_000,
            quic_sessions: 1000,
            settle: Duration::from_secs(5),
        };
        let mut args = env::args().skip(1).filter(|a| a != "--bench");
        while let Some(arg) = args.next() {
            let value = args.next().ok_or(format!("{arg} wants a value"))?;
            let number = || value.parse::<usize>().map_err(|_| format!("{arg} wants a number"));
            match arg.as_str() {
                "--ways" => {
                    let ways = value.split(',').map(Way::named).collect::<Option<_>>();
                    plan.ways = ways.ok_or(format!("{value}: tcp, tls, ws, quic are known"))?;
                }
                "--sessions" => plan.sessions = number()?,
                "--quic-sessions" => plan.quic_sessions = number()?,
                "--settle" => plan.settle = Duration::from_secs(number()? as u64),
                _ => {
                    let known = "--ways, --sessions, --quic-sessions, --settle";
                    return Err(format!("{arg}: {known} are known"));
                }
            }
        }
        Ok(plan)
    }
}

async fn measure(plan: &Plan) {
    println!("memory of one idle session, in KiB, {:?} after the last signed in", plan.settle);
    println!(
        "{:6} {:>8} {:>14} {:>14} {:>14} {:>14}",
        "way", "sessions", "gate RSS", "gate PSS", "game RSS", "game PSS"
    );
    for way in &plan.ways {
        let sessions = match way {
            Way::Quic => plan.quic_sessions,
            Way::Tcp | Way::Tls | Way::Ws => plan.sessions,
        };
        match cost(*way, sessions, plan.settle).await {
            Some([gate, game]) => {
                let kib = |bytes: f64| bytes / sessions as f64 / 1024.0;
                println!(
                    "{:6} {sessions:>8} {:>14.2} {:>14.2} {:>14.2} {:>14.2}",
                    way.name(),
                    kib(gate.rss),
                    kib(gate.pss),
                    kib(game.rss),
                    kib(game.pss),
                );
            }
            None => println!("{:6} {:>8} not served by this gate", way.name(), "-"),
        }
    }
}

/// What so many sessions take of the gate, and of the game server; new processes for each way.
async fn cost(way: Way, sessions: usize, settle: Duration) -> Option<[Memory; 2]> {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = certificate(folder.path());
    let settings = vec![
        "gate.tcp_tls=127.0.0.1:0".to_owned(),
        format!("gate.cert={cert}"),
        format!("gate.key={key}"),
        "gate.connections_per_ip_max=100000".to_owned(),
        "gate.idle_timeout=1h".to_owned(),
    ];
    let setup = Setup { quic: "127.0.0.1:0", settings };
    let program = env::current_exe().expect("this program");
    let servers = Servers::bastide_with(&program, Nodes::Cluster(&ROLES), &setup).await;
    let start = |first, count| Clients::start(&servers, way, first, count);
    let warm_up = start(0, WARM_UP);
    if !warm_up.served() {
        return None;
    }
    sleep(settle).await;
    let before = [servers.memory(GATE), servers.memory(GAME)];
    let half = sessions / 2;
    let clients = [start(WARM_UP, half), start(WARM_UP + half, sessions - half)];
    assert!(clients.iter().all(Clients::served), "those before them were served");
    sleep(settle).await;
    let after = [servers.memory(GATE), servers.memory(GAME)];
    let open = servers.meters(GATE).await;
    let open = open.iter().find(|(name, _)| name == "gate_sessions").map_or(0.0, |(_, n)| *n);
    assert!(open >= (sessions + WARM_UP) as f64, "only {open} are signed in");
    let grown =
        |n: usize| Memory { rss: after[n].rss - before[n].rss, pss: after[n].pss - before[n].pss };
    drop((warm_up, clients));
    Some([grown(0), grown(1)])
}

/// A certificate and its key, in files.
fn certificate(folder: &Path) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a pair");
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    fs::write(&cert, made.cert.pem()).expect("written");
    fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    (cert.display().to_string(), key.display().to_string())
}
