//! Owns the processes of the hostile clients: started with a kind and the server's addresses,
//! ended with the span. What a kind does is told by `kinds`.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use bastide_benches::{Guest, ROLE, Servers};
use serde_json::Value;
use tokio::{runtime::Builder, task::JoinSet, time::sleep};

use crate::{kinds::Kind, udp};

/// How many connections are held, by how many processes: each may have 20,000 files.
pub(crate) const HELD: usize = 20_000;
const HOLDERS: usize = 2;

/// Hostile clients, as long as it lives.
pub(crate) struct Hostile(Vec<Child>);

impl Hostile {
    /// Returns when they have begun.
    pub(crate) fn start(servers: &Servers, kind: Kind, clients: usize) -> Self {
        let (processes, clients) = match kind {
            Kind::Hold => (HOLDERS, HELD / HOLDERS),
            _ => (1, clients),
        };
        let addresses = servers.addresses[0].to_string();
        let start = |nth: usize| {
            let program = env::current_exe().expect("this program");
            let mut command = Command::new("nice");
            command.args(["-n", "10"]).arg(program).env(ROLE, "hostile").stdout(Stdio::piped());
            command.arg(kind.name()).args([clients.to_string(), nth.to_string()]).arg(&addresses);
            let mut child = command.spawn().expect("nice is there, and this program");
            let mut line = String::new();
            let mut said = BufReader::new(child.stdout.take().expect("piped"));
            said.read_line(&mut line).expect("it says that it has begun");
            child
        };
        Self((0..processes).map(start).collect())
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        for process in &mut self.0 {
            process.kill().expect("it ends");
            process.wait().expect("it ends");
        }
    }
}

/// What the clients of one process share.
pub(crate) struct Ground {
    pub(crate) kind: Kind,
    /// Which of the processes this is.
    pub(crate) process: usize,
    pub(crate) gate: String,
    pub(crate) tls: String,
    pub(crate) ws: String,
    pub(crate) quic: String,
    pub(crate) http: String,
    /// Of accounts of their own, one each.
    pub(crate) tokens: Vec<String>,
    /// First packets of QUIC clients, each of another one.
    pub(crate) initials: Vec<Vec<u8>>,
}

/// The program as hostile clients: until it is killed.
pub(crate) fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let mut next = || args.next().expect("kind, clients, process, addresses");
    let kind = Kind::named(&next()).expect("a kind");
    let clients: usize = next().parse().expect("a number");
    let process: usize = next().parse().expect("a number");
    let addresses: Value = serde_json::from_str(&next()).expect("addresses");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let address = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut ground = Ground {
            kind,
            process,
            gate: address(&addresses["gate_tcp"]),
            tls: address(&addresses["gate_tcp_tls"]),
            ws: address(&addresses["gate_ws"]),
            quic: address(&addresses["gate_quic"]),
            http: address(&addresses["http"][0]),
            tokens: Vec::new(),
            initials: Vec::new(),
        };
        if kind.signs_in() {
            let mut guest = Guest::new(&ground.http, &ground.gate).await;
            for nth in 0..clients {
                let token = guest.token(&format!("hostile-{nth}")).await;
                ground.tokens.push(token.expect("a token"));
            }
        }
        if kind == Kind::Quic {
            ground.initials = udp::initials().await;
        }
        println!("begun");
        attack(Arc::new(ground), clients).await;
    });
    ExitCode::SUCCESS
}

async fn attack(ground: Arc<Ground>, clients: usize) {
    let mut tasks = JoinSet::new();
    for nth in 0..clients {
        let ground = ground.clone();
        tasks.spawn(async move {
            // Not all in the same moment.
            sleep(Duration::from_secs(1).mul_f64(nth as f64 / clients as f64)).await;
            loop {
                // However it ended, it comes again.
                let _end = ground.turn(nth).await;
                sleep(ground.kind.pause()).await;
            }
        });
    }
    tasks.join_all().await;
}
