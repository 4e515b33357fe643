//! Owns the connections to other nodes: makes them when they are needed, takes in those of others,
//! and lets neither a stranger nor a node of another cluster speak.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Attached, EntityPort, NotAttached, RemotePlayer, Seeking, Served, Tls,
    accepted::Accepted,
    dialed::Dialed,
    envelope::{Envelope, Garbage},
    line::{Ended, Line},
};
use crate::{
    acceptor::Acceptor,
    chance::Chance,
    directory::{NodeInfo, Role},
    limits::{LINK_HELLO_DEADLINE, LINK_RETRY, LINK_STRANGERS_MAX},
    proto::link as proto,
    shards,
    tasks::Tasks,
    telemetry::LinkMeters,
    wire::{Code, Refusal},
};

/// What both ends must speak.
const PROTOCOL: u32 = 1;

/// Every link of one node. A clone is a handle to the same ones.
#[derive(Clone)]
pub(crate) struct Links(Arc<Inner>);

struct Inner {
    me: Me,
    tls: Option<Tls>,
    shards: Vec<Handle>,
    tasks: Tasks,
    chance: Chance,
    meters: LinkMeters,
    /// One connection from each shard to each node. Std mutex: held to find a slot.
    slots: Mutex<HashMap<(String, usize), Arc<Slot>>>,
    /// Every line, to close them. Std mutex: held at connect and at the end only.
    lines: Mutex<Vec<Weak<Line>>>,
    strangers: Arc<Semaphore>,
    leaving: CancellationToken,
}

/// Who this node says it is.
#[derive(Clone, Debug)]
pub(crate) struct Me {
    pub(crate) cluster: String,
    pub(crate) node: String,
}

/// One shard's way to one node. Async mutex: whoever needs it while it is dialed waits for that.
type Slot = tokio::sync::Mutex<Way>;

#[derive(Debug, Default)]
struct Way {
    up: Option<Arc<Dialed>>,
    /// After a failure: not before then, and the pause after the next one.
    again: Option<(Instant, Duration)>,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
enum NoLink {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no hello within {} s", LINK_HELLO_DEADLINE.as_secs())]
    Slow,
    #[error(transparent)]
    Garbage(#[from] Garbage),
    #[error("it speaks protocol {0}, this node {PROTOCOL}: run the same release on both")]
    Protocol(u32),
    #[error("it belongs to the cluster `{0}`: see cluster.name and link.advertise of both")]
    Cluster(String),
    #[error("`{0}` lives there now")]
    Other(String),
}

impl Links {
    pub(crate) fn new(
        me: Me,
        tls: Option<Tls>,
        shards: Vec<Handle>,
        tasks: Tasks,
        chance: Chance,
        meters: LinkMeters,
    ) -> Self {
        Self(Arc::new(Inner {
            me,
            tls,
            shards,
            tasks,
            chance,
            meters,
            slots: Mutex::default(),
            lines: Mutex::default(),
            strangers: Arc::new(Semaphore::new(LINK_STRANGERS_MAX)),
            leaving: CancellationToken::new(),
        }))
    }

    // === To others ===

    /// The caller's shard's link to a node, made when there is none.
    ///
    /// # Errors
    /// 1001 when the node cannot be reached; at once while a failure is not long ago.
    async fn to(&self, node: &NodeInfo) -> Result<Arc<Dialed>, Refusal> {
        let shard = shards::here();
        let slot = {
            let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry((node.id.clone(), shard)).or_default().clone()
        };
        let mut way = slot.lock().await;
        if let Some(up) = way.up.as_ref().filter(|up| up.line.is_open()) {
            return Ok(up.clone());
        }
        let away = || Code::NOT_CONNECTED.because("the other node cannot be reached");
        if way.again.is_some_and(|(not_before, _)| Instant::now() < not_before) {
            return Err(away());
        }
        let pause = way.again.map_or(LINK_RETRY.0, |(_, pause)| pause);
        match self.dial(node, shard).await {
            Ok(dialed) => {
                *way = Way { up: Some(dialed.clone()), again: None };
                Ok(dialed)
            }
            Err(e) => {
                self.0.meters.dials_failed.increment(1);
                if pause == LINK_RETRY.0 {
                    let addr = node.addr.as_deref().unwrap_or("nowhere");
                    tracing::warn!(target: "link", node = node.id, addr, "not reached: {e}");
                }
                // Half of it by chance, so that nodes do not knock together.
                let half = pause / 2;
                let jitter = self.0.chance.next_u64() % (half.as_millis() as u64 + 1);
                let not_before = Instant::now() + half + Duration::from_millis(jitter);
                *way = Way { up: None, again: Some((not_before, (pause * 2).min(LINK_RETRY.1))) };
                Err(away())
            }
        }
    }

    /// Brings a session to its player at another node.
    ///
    /// # Errors
    /// As [`Links::to`]; the other node's own; 1003 when no answer came in time, or the link broke.
    pub(crate) async fn attach(
        &self,
        node: &NodeInfo,
        seeking: &Seeking,
        deadline: Instant,
    ) -> Result<(EntityPort, Attached), NotAttached> {
        let dialed = self.to(node).await?;
        let attached = dialed.attach(seeking, deadline).await?;
        Ok((EntityPort::Remote(RemotePlayer(dialed)), attached))
    }

    /// Sees whether a node can be asked something.
    ///
    /// # Errors
    /// As [`Links::to`].
    pub(crate) async fn reach(&self, node: &NodeInfo) -> Result<(), Refusal> {
        self.to(node).await.map(drop)
    }

    /// Asks a role of another node.
    ///
    /// # Errors
    /// As [`Links::to`]; the role's own; 1003 when no answer came in time, or the link broke.
    pub(crate) async fn ask(
        &self,
        node: &NodeInfo,
        role: Role,
        api: &str,
        payload: Vec<u8>,
        deadline: Instant,
    ) -> Result<Vec<u8>, Refusal> {
        self.to(node).await?.ask(role, api, payload, deadline).await
    }

    /// Forgets the ways to nodes that are no more, so that nothing is kept for them.
    pub(crate) fn keep_only(&self, nodes: &[Arc<NodeInfo>]) {
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|(node, _), slot| {
            nodes.iter().any(|n| n.id == *node)
                || slot
                    .try_lock()
                    .map_or(true, |way| way.up.as_ref().is_some_and(|up| up.line.is_open()))
        });
    }

    async fn dial(&self, node: &NodeInfo, shard: usize) -> Result<Arc<Dialed>, NoLink> {
        let nowhere = || io::Error::other("it announces no address");
        let addr = node.addr.clone().ok_or_else(nowhere)?;
        let (made, dialed) = oneshot::channel();
        let (links, id) = (self.clone(), node.id.clone());
        let task = async move {
            let stream = in_time(TcpStream::connect(addr)).await??;
            stream.set_nodelay(true)?;
            match &links.0.tls {
                None => links.be_dialed(stream, id, made).await,
                Some(tls) => {
                    let stream = in_time(tls.connect(stream)).await??;
                    links.be_dialed(stream, id, made).await
                }
            }
        };
        // The connection lives on the shard; a failure before it stands comes back here.
        let (failed, failure) = oneshot::channel();
        let run = async move {
            if let Err(e) = task.await
                && failed.send(e).is_err()
            {
                tracing::trace!(target: "link", "nobody waited for a link");
            }
        };
        self.0.tasks.spawn_on(run, &self.0.shards[shard.min(self.0.shards.len() - 1)]);
        let both = async {
            match dialed.await {
                Ok(dialed) => Ok(dialed),
                Err(_) => Err(failure.await.unwrap_or(NoLink::Slow)),
            }
        };
        in_time(both).await?
    }

    async fn be_dialed<C>(
        &self,
        mut carrier: C,
        node: String,
        made: oneshot::Sender<Arc<Dialed>>,
    ) -> Result<(), NoLink>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (hello, unread) = in_time(self.greet(&mut carrier)).await??;
        if hello.node != node {
            return Err(NoLink::Other(hello.node));
        }
        let dialed = Arc::new(Dialed::new(self.line(), node));
        if made.send(dialed.clone()).is_err() {
            return Ok(());
        }
        self.begun(&dialed.node);
        let ended = dialed.line.run(carrier, unread, &*dialed).await;
        let sessions = dialed.sessions_count();
        dialed.closed();
        self.ended(&dialed.node, &ended, sessions);
        Ok(())
    }

    // === From others ===

    /// Takes in links from other nodes until the node goes away.
    pub(crate) async fn accept(self, listener: TcpListener, served: Served) {
        let (mut shard, mut acceptor) = (0, Acceptor::new(listener, "link.listen"));
        loop {
            let (stream, peer) = tokio::select! {
                biased; // stop before more work
                () = self.0.leaving.cancelled() => return,
                accepted = acceptor.next() => accepted,
            };
            let Ok(place) = self.0.strangers.clone().try_acquire_owned() else {
                self.0.meters.strangers_refused.increment(1);
                continue;
            };
            shard = (shard + 1) % self.0.shards.len();
            let (links, served) = (self.clone(), served.clone());
            let stream = stream.set_nodelay(true).and_then(|()| stream.into_std());
            let task = async move {
                if let Err(e) = links.welcome(stream, place, served).await {
                    links.0.meters.strangers.increment(1);
                    tracing::warn!(target: "link", %peer, "not a node of this cluster: {e}");
                }
            };
            self.0.tasks.spawn_on(task, &self.0.shards[shard]);
        }
    }

    async fn welcome(
        &self,
        stream: io::Result<std::net::TcpStream>,
        place: OwnedSemaphorePermit,
        served: Served,
    ) -> Result<(), NoLink> {
        let stream = stream.and_then(TcpStream::from_std)?;
        match &self.0.tls {
            None => self.be_accepted(stream, place, served).await,
            Some(tls) => {
                let stream = in_time(tls.accept(stream)).await??;
                self.be_accepted(stream, place, served).await
            }
        }
    }

    async fn be_accepted<C>(
        &self,
        mut carrier: C,
        place: OwnedSemaphorePermit,
        served: Served,
    ) -> Result<(), NoLink>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (hello, unread) = in_time(self.greet(&mut carrier)).await??;
        drop(place);
        let accepted = Accepted::new(self.line(), hello.node, served, self.0.meters.clone());
        self.begun(&accepted.node);
        let ended = accepted.line.run(carrier, unread, &accepted).await;
        let sessions = accepted.sessions_count();
        accepted.closed();
        self.ended(&accepted.node, &ended, sessions);
        Ok(())
    }

    // === Both ===

    /// Says who is here and hears who is there.
    async fn greet<C>(&self, carrier: &mut C) -> Result<(proto::Hello, Vec<u8>), NoLink>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send,
    {
        const HELLO_BYTES_MAX: usize = 4096;
        let Me { cluster, node } = self.0.me.clone();
        let mut hello = Vec::new();
        let mine = proto::Hello { protocol: PROTOCOL, cluster, node };
        Envelope::Hello(mine).put(&mut hello);
        carrier.write_all(&hello).await?;
        carrier.flush().await?;

        let mut unread = Vec::with_capacity(HELLO_BYTES_MAX);
        let (hello, used) = loop {
            match Envelope::cut(&unread)? {
                Some((Envelope::Hello(hello), used)) => break (hello, used),
                None if unread.len() < HELLO_BYTES_MAX => {}
                _ => return Err(Garbage("something else than hello").into()),
            }
            if carrier.read_buf(&mut unread).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        };
        unread.drain(..used);
        if hello.protocol != PROTOCOL {
            return Err(NoLink::Protocol(hello.protocol));
        }
        if hello.cluster != self.0.me.cluster {
            return Err(NoLink::Cluster(hello.cluster));
        }
        Ok((hello, unread))
    }

    fn line(&self) -> Arc<Line> {
        let line = Arc::new(Line::new(self.0.meters.clone()));
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|line| line.strong_count() > 0);
        lines.push(Arc::downgrade(&line));
        if self.0.leaving.is_cancelled() {
            line.close();
        }
        line
    }

    fn begun(&self, node: &str) {
        tracing::info!(target: "link", node, "link up");
        self.0.meters.up.increment(1.0);
    }

    fn ended(&self, node: &str, ended: &Ended, sessions: usize) {
        self.0.meters.up.decrement(1.0);
        match ended {
            Ended::Closed | Ended::ByPeer => {
                tracing::info!(target: "link", node, sessions, "link down: {ended}");
            }
            Ended::Garbage(_) => {
                self.0.meters.garbage.increment(1);
                tracing::error!(target: "link", node, sessions, "link cut: {ended}");
            }
            Ended::Broken(_) | Ended::Silent | Ended::Overflown => {
                tracing::warn!(target: "link", node, sessions, "link cut: {ended}");
            }
        }
    }

    /// Takes no more links, and ends those that are when everything posted is written.
    pub(crate) fn close(&self) {
        self.0.leaving.cancel();
        for line in self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(line) = line.upgrade() {
                line.close();
            }
        }
    }
}

async fn in_time<F: Future>(step: F) -> Result<F::Output, NoLink> {
    timeout(LINK_HELLO_DEADLINE, step).await.map_err(|_| NoLink::Slow)
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("me", &self.0.me).finish_non_exhaustive()
    }
}
