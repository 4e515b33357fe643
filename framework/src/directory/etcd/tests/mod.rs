//! What the tests share: a real etcd, nodes that register there, followers that watch them.

mod election;
mod lease;
mod settings;
mod tls;
mod watch;

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bastide_testkit::cluster_name;
use etcd_client::Client;
use tokio::{
    runtime::Handle,
    sync::watch as channel,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{level_filters::LevelFilter, subscriber::DefaultGuard};
use tracing_subscriber::fmt::MakeWriter;

use super::{Etcd, EtcdSettings};
use crate::{
    directory::{NodeInfo, Nodes, Role},
    tasks::Tasks,
};

/// The lease where no test waits for its end.
const LONG: Duration = Duration::from_secs(10);
/// The lease where one does.
const SHORT: Duration = Duration::from_secs(2);

/// A cluster of its own in an etcd.
struct World {
    url: String,
    cluster: String,
    lease: Duration,
}

impl World {
    fn shared(lease: Duration) -> Self {
        Self::at(bastide_testkit::shared().etcd.url(), lease)
    }

    fn at(url: String, lease: Duration) -> Self {
        Self { url, cluster: cluster_name(), lease }
    }

    fn settings(&self) -> EtcdSettings {
        EtcdSettings {
            endpoints: vec![self.url.clone()],
            user: None,
            password: None,
            ca: None,
            cert: None,
            key: None,
            cluster: self.cluster.clone(),
            lease: self.lease,
        }
    }

    async fn etcd(&self) -> Etcd {
        Etcd::connect(self.settings(), Handle::current()).await.expect("settings are right")
    }

    async fn node(&self, id: &str) -> Node {
        Node::start(self.etcd().await, info(id))
    }

    async fn follower(&self) -> Follower {
        Follower::start(self.etcd().await)
    }

    /// etcd without any of our code before it.
    async fn raw(&self) -> Client {
        Client::connect([&self.url], None).await.expect("etcd is there")
    }

    fn key(&self, id: &str) -> String {
        format!("/bastide/{}/nodes/{id}", self.cluster)
    }
}

fn info(id: &str) -> NodeInfo {
    NodeInfo { id: id.into(), roles: BTreeSet::from([Role::Game]), ..NodeInfo::default() }
}

/// A node that registers. Dropped as it is, it dies without a word.
struct Node {
    info: channel::Sender<Option<NodeInfo>>,
    proved: Arc<Mutex<Vec<Instant>>>,
    tasks: Tasks,
    running: JoinSet<()>,
}

impl Node {
    fn start(etcd: Etcd, first: NodeInfo) -> Self {
        let info = channel::Sender::new(Some(first));
        let proved = Arc::new(Mutex::new(Vec::new()));
        let tasks = Tasks::default();
        let mut running = JoinSet::new();
        let seen = proved.clone();
        let note = move |sent| seen.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
        running.spawn(etcd.keep(info.subscribe(), note, tasks.clone()));
        Self { info, proved, tasks, running }
    }

    fn proofs(&self) -> Vec<Instant> {
        self.proved.lock().expect("no test panics there").clone()
    }

    /// Whether the lease was proved by a question sent after `instant`.
    fn proved_after(&self, instant: Instant) -> bool {
        self.proofs().last().is_some_and(|sent| *sent > instant)
    }
}

struct Follower {
    nodes: channel::Receiver<Nodes>,
    synced: channel::Receiver<bool>,
    _running: JoinSet<()>,
}

impl Follower {
    fn start(etcd: Etcd) -> Self {
        let nodes = Arc::new(channel::Sender::new(Nodes::default()));
        let synced = channel::Sender::new(false);
        let (watched, live) = (nodes.subscribe(), synced.subscribe());
        let mut running = JoinSet::new();
        running.spawn(etcd.follow(nodes, synced, Tasks::default()));
        Self { nodes: watched, synced: live, _running: running }
    }

    fn ids(&self) -> Vec<String> {
        self.nodes.borrow().iter().map(|n| n.id.clone()).collect()
    }

    async fn sees(&mut self, ids: &[&str]) {
        let seen = self.nodes.wait_for(|n| n.iter().map(|n| n.id.as_str()).eq(ids.iter().copied()));
        let seen = timeout(PATIENCE, seen).await.map(|seen| drop(seen.expect("it follows")));
        assert!(seen.is_ok(), "{:?} is seen rather than {ids:?}", self.ids());
    }

    async fn is_synced(&mut self, wanted: bool) {
        let seen = timeout(PATIENCE, self.synced.wait_for(|s| *s == wanted)).await;
        assert!(seen.is_ok(), "synced is never {wanted}");
    }
}

/// Far more than anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

async fn until(what: &str, mut there: impl AsyncFnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !there().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what} never happens");
}

/// What this thread's tasks log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// For a test with one thread: it hears no other.
    fn listen(&self) -> DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_writer(self.clone())
            .with_ansi(false);
        tracing::subscriber::set_default(subscriber.finish())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no test panics there")).into_owned()
    }

    /// The lines of ours that name a key of etcd.
    fn lines_with(&self, key: &str) -> usize {
        let end = format!("{key}\"");
        self.text().lines().filter(|l| l.contains(" directory: ") && l.contains(&end)).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics there").extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
