//! Owns the processes under measurement: a benchmark's own program, started again as a server.
//! Each is a process of its own, so that its CPU can be told from the load's.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use crate::{Guest, cpu, memory};

/// Says which server a child process is to be; without it the program measures.
pub const ROLE: &str = "BENCH_ROLE";

/// How long a server may take until it is there.
const START_TRIES: usize = 800;
const START_RETRY: Duration = Duration::from_millis(25);

/// Processes that are one server to a client.
#[derive(Debug)]
pub struct Servers {
    processes: Vec<Child>,
    /// What each process says of where it listens.
    pub addresses: Vec<serde_json::Value>,
    /// Where clients connect.
    pub gate: String,
    /// Where they sign in first, if so.
    pub http: Option<String>,
    _folder: tempfile::TempDir,
}

/// How bastide is spread over processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// All in one, with a SQLite file.
    One,
    /// Nodes with these roles, with an etcd, a Redis and a PostgreSQL.
    Cluster(&'static [&'static str]),
}

/// What bastide is told beside its addresses.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where QUIC listens; empty: nowhere.
    pub quic: &'static str,
    /// As `--set` takes them.
    pub settings: Vec<String>,
}

impl Default for Setup {
    /// For throughput: no limit of the rate nor of an address, and one shard, whose CPU is easy to
    /// read.
    fn default() -> Self {
        let settings = [
            "gate.rate_frames_per_s=0",
            "node.shards=1",
            "gate.connections_per_ip_max=100000",
            "account.accounts_per_ip_hour=1000000",
        ];
        Self { quic: "", settings: settings.map(str::to_owned).into() }
    }
}

/// Memory of one process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Memory {
    /// Resident, shared pages in full.
    pub rss: f64,
    /// Resident, pages shared with others in part.
    pub pss: f64,
}

impl Servers {
    /// Starts a server that is not bastide's: one process for each role, each told where the one
    /// before it listens. A client's is the last.
    ///
    /// # Panics
    /// When one does not start.
    pub async fn raw(roles: &[&str]) -> Self {
        let mut servers = Self::none();
        for role in roles {
            let announce = servers.announce();
            let mut command = Command::new(env::current_exe().expect("this program"));
            command.env(ROLE, role).arg(&announce).arg(&servers.gate);
            let addresses = servers.spawn(command, &announce).await;
            servers.gate = text(&addresses["gate_tcp"]).expect("a gate");
        }
        servers
    }

    /// Starts the game as `program` has it, which must begin its `main` as the benchmarks do.
    ///
    /// # Panics
    /// When a node, or a service it needs, does not start.
    pub async fn bastide(program: &Path, nodes: Nodes) -> Self {
        Self::bastide_with(program, nodes, &Setup::default()).await
    }

    /// As [`Servers::bastide`].
    ///
    /// # Panics
    /// When a node, or a service it needs, does not start.
    pub async fn bastide_with(program: &Path, nodes: Nodes, setup: &Setup) -> Self {
        let mut servers = Self::none();
        let (each, common) = match nodes {
            Nodes::One => {
                let data = servers._folder.path().to_str().expect("a plain path").to_owned();
                (vec![vec!["dev"]], vec!["--data".to_owned(), data])
            }
            Nodes::Cluster(each) => {
                (each.iter().map(|roles| vec!["serve", "--roles", roles]).collect(), cluster())
            }
        };
        for args in each {
            let announce = servers.announce();
            let mut command = Command::new(program);
            command.env(ROLE, "bastide").args(args).args(&common).arg("--announce").arg(&announce);
            for door in ["--http", "--gate-tcp", "--gate-ws", "--admin"] {
                command.args([door, "127.0.0.1:0"]);
            }
            command.args(["--gate-quic", setup.quic]);
            command.args(setup.settings.iter().flat_map(|setting| ["--set", setting]));
            let addresses = servers.spawn(command, &announce).await;
            if let Some(gate) = text(&addresses["gate_tcp"]) {
                servers.gate = gate;
            }
            if let Some(http) = text(&addresses["http"][0]) {
                servers.http = Some(http);
            }
            servers.addresses.push(addresses);
        }
        servers.wait_for_a_sign_in().await;
        servers
    }

    fn none() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the servers");
        let (processes, addresses) = (Vec::new(), Vec::new());
        Self { processes, addresses, gate: String::new(), http: None, _folder: folder }
    }

    fn announce(&self) -> PathBuf {
        self._folder.path().join(format!("announce-{}.json", self.processes.len()))
    }

    async fn spawn(&mut self, mut command: Command, announce: &Path) -> serde_json::Value {
        command.stdout(Stdio::null()).env("RUST_LOG", "warn");
        self.processes.push(command.spawn().expect("the server starts"));
        for _ in 0..START_TRIES {
            let announced = fs::read(announce).ok();
            if let Some(addresses) = announced.and_then(|t| serde_json::from_slice(&t).ok()) {
                return addresses;
            }
            sleep(START_RETRY).await;
        }
        panic!("a server did not announce itself");
    }

    /// A node is ready when it sees itself; a client may come when the others see it too.
    async fn wait_for_a_sign_in(&self) {
        let mut guest = self.guest().await;
        let mut why = String::new();
        for _ in 0..START_TRIES {
            match guest.try_sign_in("first").await {
                Ok(_) => return,
                Err(e) => why = e,
            }
            sleep(START_RETRY).await;
        }
        panic!("nobody can sign in: {why}");
    }

    /// A client.
    ///
    /// # Panics
    /// When nobody signs in here.
    pub async fn guest(&self) -> Guest {
        Guest::new(self.http.as_ref().expect("bastide's"), &self.gate).await
    }

    /// Memory of the process that was started as the `nth`.
    ///
    /// # Panics
    /// Elsewhere than on Linux.
    pub fn memory(&self, nth: usize) -> Memory {
        memory(self.processes[nth].id())
    }

    /// The meters of the process that was started as the `nth`, as its operator reads them.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn meters(&self, nth: usize) -> Vec<(String, f64)> {
        let admin = text(&self.addresses[nth]["admin"]).expect("every node has one");
        let mut socket = TcpStream::connect(admin).await.expect("operators are let in");
        let request = b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n";
        socket.write_all(request).await.expect("asked");
        let mut page = String::new();
        socket.read_to_string(&mut page).await.expect("answered");
        let meter = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse::<f64>().ok()?))
        };
        page.lines().filter_map(meter).collect()
    }

    /// CPU that every thread of every process has used so far.
    ///
    /// # Panics
    /// Elsewhere than on Linux.
    pub fn cpu(&self) -> Duration {
        self.processes.iter().map(|process| cpu(process.id())).sum()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            process.kill().expect("the server ends");
            process.wait().expect("the server ends");
        }
    }
}

/// What every node of one new cluster is told.
fn cluster() -> Vec<String> {
    let services = bastide_testkit::shared();
    let name = bastide_testkit::cluster_name();
    let told = [
        ["--etcd", &services.etcd.url()],
        ["--redis", &services.redis.url()],
        ["--store", &services.postgres.database()],
        ["--link", "127.0.0.1:0"],
        ["--set", &format!("cluster.name={name}")],
        ["--set", "link.plaintext=true"],
    ];
    told.as_flattened().iter().map(|&s| s.to_owned()).collect()
}

fn text(value: &serde_json::Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The middle one of some figures.
///
/// # Panics
/// When there are none.
pub fn median<F>(figures: &[F], of: impl Fn(&F) -> f64) -> f64 {
    let mut values: Vec<_> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
