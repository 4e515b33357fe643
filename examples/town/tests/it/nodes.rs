//! Owns the fixture of a cluster: the town's program as several processes, configured by the file
//! that an operator writes. Leaves who plays there to `players`.

use std::{
    fmt::Display,
    fs::{self, DirEntry, File},
    path::PathBuf,
    process::{Child, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bastide_testkit::{
    Etcd, Postgres, Redis, assert_none_is_logged, cluster_name, logged, secret, shared,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::town::{command, run};

/// How long anything may take that must happen, on a machine that builds something else beside.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The operators' secret.
const SECRET: &str = "a-secret-of-the-operators-of-a-test";

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until it holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "waited in vain until {what}");
        sleep(LOOK_EVERY).await;
    }
}

/// Where the account centers of a cluster are, as its players are told.
#[derive(Clone, Default)]
pub(crate) struct AccountCenters(Arc<Mutex<Vec<String>>>);

impl AccountCenters {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of them; another the next time.
    pub(crate) fn one(&self) -> String {
        let mut centers = self.lock();
        centers.rotate_left(1);
        centers[0].clone()
    }
}

/// A cluster: its file, and a folder for what its nodes write.
pub(crate) struct Cluster {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) name: String,
    pub(crate) accounts: AccountCenters,
    /// The url of its database.
    pub(crate) database: String,
    started: Mutex<usize>,
}

impl Cluster {
    /// A cluster on the servers that all tests share.
    pub(crate) fn shared() -> Self {
        let services = shared();
        Self::on(&services.etcd, &services.redis, &services.postgres)
    }

    /// A cluster on servers that a test may harm.
    pub(crate) fn on(etcd: &Etcd, redis: &Redis, postgres: &Postgres) -> Self {
        let (folder, name) = (tempfile::tempdir().unwrap(), cluster_name());
        let database = postgres.database();
        let toml = format!(
            "[cluster]\nname = \"{name}\"\n[discovery]\netcd = [\"{}\"]\n\
             [cache]\nredis = \"{}\"\n[store]\nurl = \"{database}\"\n\
             [link]\nplaintext = true\nlisten = \"127.0.0.1:0\"\n\
             [gate]\ntcp = \"127.0.0.1:0\"\nws = \"127.0.0.1:0\"\nrate_frames_per_s = 0\n[account]\nlisten = [\"127.0.0.1:0\"]\n\
             [admin]\nlisten = \"127.0.0.1:0\"\nsecret = \"{SECRET}\"\n",
            etcd.url(),
            redis.url()
        );
        fs::write(folder.path().join("cluster.toml"), toml).unwrap();
        fs::write(folder.path().join("admin.secret"), secret(SECRET)).unwrap();
        let accounts = AccountCenters::default();
        Self { folder, name, accounts, database, started: Mutex::new(0) }
    }

    /// Starts nodes with these roles side by side; returns when all are ready.
    pub(crate) async fn nodes<const N: usize>(&self, roles: [&str; N]) -> [Node; N] {
        self.nodes_with(roles.map(|roles| (roles, Vec::new()))).await
    }

    /// The same, each with arguments of its own.
    pub(crate) async fn nodes_with<const N: usize>(
        &self,
        each: [(&str, Vec<String>); N],
    ) -> [Node; N] {
        let mut nodes = each.map(|(roles, args)| self.spawn(roles, &args));
        for node in &mut nodes {
            node.said_ready().await;
            self.accounts.lock().extend(node.http());
        }
        nodes
    }

    pub(crate) async fn node(&self, roles: &str) -> Node {
        let [node] = self.nodes([roles]).await;
        node
    }

    fn spawn(&self, roles: &str, args: &[String]) -> Node {
        let number = {
            let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
            *started += 1;
            *started
        };
        let path = |what: &str| self.folder.path().join(format!("{number}.{what}"));
        let announce = path("json");
        let usual = ["serve", "--roles", roles, "--config", "cluster.toml", "--announce"];
        let mut program = command(self.folder.path(), &usual);
        program.arg(&announce).args(args).env_remove("RUST_LOG");
        program.stdout(File::create(path("out")).unwrap());
        program.stderr(File::create(path("log")).unwrap()).stdin(Stdio::null());
        Node {
            process: program.spawn().unwrap(),
            said: path("out"),
            log: path("log"),
            announce,
            addresses: Value::Null,
            id: String::new(),
            accounts: self.accounts.clone(),
        }
    }

    /// Runs `check` on its file, with these arguments behind it.
    pub(crate) fn check(&self, args: &[&str]) -> (Option<i32>, String) {
        let all = [&["check", "--config", "cluster.toml"], args].concat();
        let output = run(self.folder.path(), &all);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    /// Runs `admin` at this node: the exit code, and what it said.
    pub(crate) async fn admin(&self, node: &Node, args: &[&str]) -> (Option<i32>, String) {
        self.admin_at(&node.admin(), args).await
    }

    /// The same at an address, as a task of its own.
    pub(crate) fn admin_at(
        &self,
        addr: &str,
        args: &[&str],
    ) -> impl Future<Output = (Option<i32>, String)> + Send + 'static {
        let secret = ["--secret-file", "admin.secret", "--addr", addr];
        let mut admin = command(self.folder.path(), &[&["admin"], args, &secret[..]].concat());
        async move {
            let output =
                tokio::task::spawn_blocking(move || admin.output().unwrap()).await.unwrap();
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            (output.status.code(), said)
        }
    }

    /// Runs `play` at one of its account centers.
    pub(crate) async fn play(&self) -> Result<(), String> {
        let mut play = command(self.folder.path(), &["play", "--addr", &self.accounts.one()]);
        let output = tokio::task::spawn_blocking(move || play.output().unwrap()).await.unwrap();
        match output.status.code() {
            Some(0) => Ok(()),
            _ => Err(String::from_utf8([output.stdout, output.stderr].concat()).unwrap()),
        }
    }

    /// Starts `play`; where its lines go, and its process.
    pub(crate) fn playing(&self) -> (PathBuf, Child) {
        let said = self.folder.path().join("play.out");
        let mut play = command(self.folder.path(), &["play", "--addr", &self.accounts.one()]);
        let process = play.stdout(File::create(&said).unwrap()).spawn().unwrap();
        (said, process)
    }

    /// Plays until it works: who is sent away in the middle begins anew.
    pub(crate) async fn play_again(&self) {
        until("play works", async || self.play().await.is_ok()).await;
    }

    // === What is kept of it ===

    /// Who runs a player, by the claim in Redis.
    pub(crate) fn owner(&self, redis: &Redis, account: i64) -> String {
        self.runner(redis, &format!("player/{account}"))
    }

    /// Who runs an entity, such as `player/7` or `chat/abc`.
    pub(crate) fn runner(&self, redis: &Redis, entity: &str) -> String {
        let claim = redis.ask(&format!("GET {}claim:{entity}", self.prefix()));
        let claim = claim.first().cloned().unwrap_or_default();
        let owner = claim.split_once(' ').map_or("", |(_, owner)| owner);
        owner.split_once(':').map_or("", |(node, _)| node).to_owned()
    }

    /// The keys in Redis that name a node, or that hold its name.
    pub(crate) fn keys_of(&self, redis: &Redis, node: &str) -> Vec<String> {
        let prefix = self.prefix();
        let keys = redis.ask(&format!("KEYS {prefix}*"));
        let named = keys.into_iter().filter(|key| {
            key.contains(node)
                || match key.strip_prefix(&prefix) {
                    Some("owners") => redis.ask(&format!("SMEMBERS {key}")),
                    Some(claim) if claim.starts_with("claim:") => redis.ask(&format!("GET {key}")),
                    _ => Vec::new(),
                }
                .iter()
                .any(|value| value.contains(node))
        });
        named.map(|key| key[prefix.len()..].to_owned()).collect()
    }

    /// Whether discovery knows a node.
    pub(crate) fn knows(&self, etcd: &Etcd, node: &str) -> bool {
        etcd.has(&self.node_key(node))
    }

    /// Where a node stands in discovery.
    pub(crate) fn node_key(&self, node: &str) -> String {
        format!("/bastide/{}/nodes/{node}", self.name)
    }

    /// What stands in the row of a player, or a room, such as `updated_ms`.
    pub(crate) fn stored(&self, postgres: &Postgres, key: impl Display, columns: &str) -> String {
        let query = format!("SELECT {columns} FROM records WHERE key = '{key}'");
        postgres.sql_in(&self.database, &query).trim().to_owned()
    }

    fn prefix(&self) -> String {
        format!("bastide:{{{}}}:", self.name)
    }
}

/// One process of a cluster.
pub(crate) struct Node {
    process: Child,
    said: PathBuf,
    log: PathBuf,
    announce: PathBuf,
    addresses: Value,
    /// What the others know it by.
    pub(crate) id: String,
    accounts: AccountCenters,
}

impl Node {
    async fn said_ready(&mut self) {
        let (said, log) = (self.said.clone(), self.log.clone());
        let read = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
        let until = Instant::now() + PATIENCE;
        while !read(&said).contains("ready in") {
            let ended = self.process.try_wait().unwrap();
            let fine = ended.is_none() && Instant::now() < until;
            assert!(fine, "{ended:?} {} {}", read(&said), read(&log));
            sleep(LOOK_EVERY).await;
        }
        self.addresses = serde_json::from_slice(&fs::read(&self.announce).unwrap()).unwrap();
        let said = read(&said);
        let line = said.lines().find(|line| line.trim_start().starts_with("node ")).unwrap();
        self.id = line.split_whitespace().nth(1).unwrap().to_owned();
    }

    fn http(&self) -> Option<String> {
        Some(self.addresses["http"].get(0)?.as_str().unwrap().to_owned())
    }

    /// Where its gate takes clients.
    pub(crate) fn gate(&self) -> String {
        self.addresses["gate_tcp"].as_str().unwrap().to_owned()
    }

    /// Where its gate takes WebSockets, and shows pages.
    pub(crate) fn gate_ws(&self) -> String {
        self.addresses["gate_ws"].as_str().unwrap().to_owned()
    }

    /// Where its operators' pages are.
    pub(crate) fn admin(&self) -> String {
        self.addresses["admin"].as_str().unwrap().to_owned()
    }

    pub(crate) fn link(&self) -> String {
        self.addresses["link"].as_str().unwrap().to_owned()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// How many lines of its log hold all of these.
    pub(crate) fn logged(&self, parts: &[&str]) -> usize {
        let log = self.log();
        log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    pub(crate) fn lives(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        let mut kill = std::process::Command::new("kill");
        assert!(kill.args([signal, &pid]).status().unwrap().success());
    }

    /// Stops all its threads where they are. Each runs on until the kernel has come to it, which
    /// on a busy machine takes milliseconds.
    pub(crate) async fn freeze(&self) {
        self.signal("-STOP");
        let tasks = format!("/proc/{}/task", self.process.id());
        let stopped = |task: DirEntry| {
            // One that cannot be read has ended.
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        };
        let all = async || fs::read_dir(&tasks).unwrap().all(|task| stopped(task.unwrap()));
        until("all its threads have stopped", all).await;
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Ends it as an operator does; its account center is told to nobody any more.
    pub(crate) async fn drain(mut self) -> ExitStatus {
        self.leave().await
    }

    /// The same, for whoever puts another one in its place.
    pub(crate) async fn leave(&mut self) -> ExitStatus {
        if let Some(http) = self.http() {
            self.accounts.lock().retain(|center| *center != http);
        }
        self.signal("-TERM");
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not end: {}", self.log());
            sleep(LOOK_EVERY).await;
        }
    }

    /// What its operators' page at this path answers: status and body.
    pub(crate) async fn page(&self, path: &str) -> std::io::Result<(u16, String)> {
        let admin = self.addresses["admin"].as_str().unwrap();
        let mut stream = TcpStream::connect(admin).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: town\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        let status = said.split_whitespace().nth(1).and_then(|s| s.parse().ok());
        Ok((status.unwrap_or_default(), said))
    }

    pub(crate) async fn ready(&self) -> bool {
        self.page("/readyz").await.is_ok_and(|(status, _)| status == 200)
    }

    /// What it counts under this name.
    pub(crate) async fn counted(&self, name: &str) -> u64 {
        let (_, page) = self.page("/metrics").await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A test that failed must not leave a node behind; the log is what says why.
        let failed = std::thread::panicking();
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        logged(&said);
        if failed {
            let lines: Vec<_> = said.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            #[expect(clippy::print_stderr, reason = "beside the failed test's own words")]
            {
                eprintln!("--- {} ended its log with\n{tail}", self.id);
            }
        } else {
            assert_none_is_logged();
        }
    }
}

/// Lines of a log that are shown when a test fails.
const LOG_LINES: usize = 25;
