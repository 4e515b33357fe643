//! Owns client connections: takes them in, cuts their frames, signs them in, forwards what they
//! say and writes what they are told. Never decodes a game's payload; knows no game rule.

mod admission;
mod carrier;
mod certificates;
mod close;
mod codec;
mod connection;
mod entrance;
mod frames;
mod hooks;
mod out;
mod outbox;
mod pages;
mod players;
mod proxy;
mod quic;
mod rate;
mod routes;
mod session;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod ws;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use rustc_hash::FxHashMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    admission::{Admission, Seat},
    connection::Connection,
};
use crate::{
    account::TokenVerifier,
    ask::Asker,
    chance::Chance,
    clock::Clock,
    config,
    directory::{Directory, Nodes},
    room::Tickets,
    schema::Schema,
    sessions::{Marks, Sessions},
    tasks::Tasks,
    telemetry::GateMeters,
};

pub(crate) use self::{
    carrier::Carrier,
    certificates::{CertificateError, Certificates},
    codec::{AnyCodec, Codecs},
    entrance::{Door, Entrance, EntranceError},
    hooks::Hooks,
    outbox::Outbox,
    pages::Pages,
    players::Players,
    routes::{Routes, Target},
};
pub use self::{
    carrier::Transport,
    codec::{Begins, Codec, CodecCtx, CodecKind, Malformed},
    hooks::{Arrival, CloseReason, Closed, GateHooks},
    pages::Page,
};

/// One gate: everything its connections share.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) settings: GateSettings,
    pub(crate) clock: Clock,
    pub(crate) meters: GateMeters,
    chance: Chance,
    /// Where the players are.
    players: Players,
    /// Who may not be signed in, and the end of sessions that are all the same.
    sessions: Sessions,
    marks: Marks,
    tickets: Tickets,
    hooks: Hooks,
    pages: Pages,
    /// What clients may speak beside frames and text.
    codecs: Codecs,
    /// Std lock: held to clone an `Arc`, by a connection that sees a new version.
    routes: RwLock<Arc<Routes>>,
    /// Grows with each new table, so that a wake need not take the lock to see that none came.
    routes_version: AtomicU64,
    /// Std lock: held to clone an `Arc`, at sign-in.
    tokens: RwLock<Arc<TokenVerifier>>,
    /// What clients of the texts need.
    text: TextSide,
    admission: Admission,
    /// Held by the one client whose next failed sign-in is looked at.
    failed_turn: tokio::sync::Mutex<()>,
    /// Every connection's outbox, to tell all of them that the gate is going away.
    /// Std mutex: held at connect, close and drain only.
    open: Mutex<FxHashMap<u64, Weak<Outbox>>>,
    /// How many connections are open; drain waits for 0.
    count: watch::Sender<usize>,
    next_connection: AtomicU64,
    /// Cancelled when the gate goes away: no more connections, no more sign-ins.
    leaving: CancellationToken,
    pub(crate) tasks: Tasks,
}

/// What an operator sets for a gate, and the deadlines of what it asks for.
#[derive(Clone, Debug)]
pub(crate) struct GateSettings {
    pub(crate) gate: config::Gate,
    pub(crate) cluster: String,
    pub(crate) request_timeout: Duration,
    pub(crate) resume_window: Duration,
    pub(crate) replay_bytes_max: usize,
}

/// What a gate needs for clients that speak text.
#[derive(Clone, Debug)]
pub(crate) struct TextSide {
    /// What the game's messages look like.
    pub(crate) schema: Arc<Schema>,
    /// The way to the account center, for a sign-in by name.
    pub(crate) asker: Asker,
}

/// What a gate stands on.
#[derive(Debug)]
pub(crate) struct Grounds {
    pub(crate) players: Players,
    pub(crate) text: TextSide,
    pub(crate) sessions: Sessions,
    pub(crate) tickets: Tickets,
    pub(crate) hooks: Hooks,
    pub(crate) pages: Pages,
    pub(crate) codecs: Codecs,
    pub(crate) clock: Clock,
    pub(crate) chance: Chance,
    pub(crate) meters: GateMeters,
    pub(crate) tasks: Tasks,
}

impl Gate {
    pub(crate) fn new(settings: GateSettings, grounds: Grounds) -> Arc<Self> {
        let Grounds {
            players,
            text,
            sessions,
            tickets,
            hooks,
            pages,
            codecs,
            clock,
            chance,
            meters,
            tasks,
        } = grounds;
        let admission =
            Admission::new(settings.gate.connections_max, settings.gate.connections_per_ip_max);
        Arc::new(Self {
            tokens: RwLock::new(Arc::new(TokenVerifier::new(&[], &settings.cluster))),
            settings,
            clock,
            meters,
            chance,
            players,
            text,
            marks: sessions.marks(),
            tickets,
            sessions,
            hooks,
            pages,
            codecs,
            routes: RwLock::new(Arc::new(Routes::new())),
            admission,
            failed_turn: tokio::sync::Mutex::default(),
            open: Mutex::default(),
            count: watch::Sender::new(0),
            next_connection: AtomicU64::new(1),
            leaving: CancellationToken::new(),
            routes_version: AtomicU64::new(0),
            tasks,
        })
    }

    /// Follows the directory: which messages somebody handles, and whose tokens are good.
    pub(crate) async fn follow(self: Arc<Self>, directory: Directory) {
        let mut nodes = directory.watch();
        loop {
            tokio::select! {
                biased; // stop before more work
                () = self.tasks.stopped() => return,
                changed = nodes.changed() => if changed.is_err() { return },
            }
            let nodes = nodes.borrow_and_update().clone();
            self.learn(&nodes);
        }
    }

    /// Takes over what the nodes announce.
    pub(crate) fn learn(&self, nodes: &Nodes) {
        let routes = Arc::new(self.routes().with_nodes(nodes));
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = routes;
        self.routes_version.fetch_add(1, Ordering::Release);
        self.pages.learn(nodes);
        let keys: Vec<_> = nodes.iter().flat_map(|n| n.keys.iter().cloned()).collect();
        if keys.is_empty() {
            // No account center is up: what the last one signed is still good.
            return;
        }
        let tokens = Arc::new(TokenVerifier::new(&keys, &self.settings.cluster));
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    /// Whether what this address says of others' addresses is believed: a load balancer of ours.
    pub(crate) fn believes(&self, proxy: IpAddr) -> bool {
        self.settings.gate.proxies.contain(proxy)
    }

    /// A seat for one more connection from this address; `None` when the gate is full for it.
    pub(crate) fn admit(&self, ip: IpAddr) -> Option<Seat> {
        let seat = self.admission.seat(ip);
        match &seat {
            Some(_) => self.meters.accepted.increment(1),
            None => self.meters.refused_connections.increment(1),
        }
        seat
    }

    /// Serves one client until it is gone; whatever carries bytes both ways will do.
    pub(crate) fn serve<C>(self: Arc<Self>, mut carrier: C, peer: SocketAddr, seat: Seat) -> Serving
    where
        C: Carrier,
    {
        let mut outbox =
            Outbox::new(self.settings.gate.outbox_bytes_max, self.settings.replay_bytes_max);
        if let Some(socket) = carrier.take_writer() {
            outbox.write_through(socket, self.meters.bytes_out.clone());
        }
        let outbox = Arc::new(outbox);
        let listed = Listed::new(self.clone(), &outbox);
        let mut connection = Connection::new(carrier, peer, seat.since, self, outbox);
        // A block and not a function, whose arguments would lie in the future twice.
        Box::pin(async move {
            connection.run().await;
            drop((connection, listed, seat));
        })
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        *self.count.borrow()
    }

    fn counted(&self, open: usize) {
        self.count.send_replace(open);
        self.meters.connections.set(open as f64);
    }

    pub(crate) fn draining(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Resolves when the gate goes away.
    async fn left(&self) {
        self.leaving.cancelled().await;
    }

    /// Lets requests finish, then closes every connection with 2007. How many were left when
    /// `patience` was over.
    pub(crate) async fn drain(&self, patience: Duration) -> usize {
        self.leaving.cancel();
        for outbox in self.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            if let Some(outbox) = outbox.upgrade() {
                outbox.drain();
            }
        }
        let mut count = self.count.subscribe();
        let left = match tokio::time::timeout(patience, count.wait_for(|n| *n == 0)).await {
            Ok(_) => 0,
            Err(_) => *self.count.borrow(),
        };
        if left > 0 {
            tracing::warn!(target: "gate", left, "connections are cut: they did not finish in time");
        }
        left
    }

    pub(crate) fn routes(&self) -> Arc<Routes> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn routes_version(&self) -> u64 {
        self.routes_version.load(Ordering::Acquire)
    }

    fn tokens(&self) -> Arc<TokenVerifier> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What serves one client until it is gone: as large as that needs, and no larger.
pub(crate) type Serving = BoxFuture<'static, ()>;

/// One connection's entry in the list of those that are open; taken off when it is dropped.
struct Listed {
    gate: Arc<Gate>,
    id: u64,
}

impl Listed {
    fn new(gate: Arc<Gate>, outbox: &Arc<Outbox>) -> Self {
        let id = gate.next_connection.fetch_add(1, Ordering::Relaxed);
        let mut open = gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(id, Arc::downgrade(outbox));
        gate.counted(open.len());
        if gate.draining() {
            outbox.drain();
        }
        drop(open);
        Self { gate, id }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.id);
        self.gate.counted(open.len());
    }
}
