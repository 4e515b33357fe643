//! Owns the way of a client from a listener to where it is served: a seat, the word of a load
//! balancer whose it is, TLS. What lies on the stream is served by others.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    AnyCodec, CertificateError, Certificates, Gate, Serving, Transport,
    admission::{Admission, Seat},
    codec::{Coded, Hub},
    proxy::{self, HeaderError},
    tcp::Tcp,
    tls::Tls,
    ws,
};
use crate::{
    acceptor::Acceptor,
    config::listener_key,
    limits::{HANDSHAKES_MAX, HANDSHAKES_PER_IP_MAX, PROXY_HEADER_DEADLINE},
    shards::Shards,
};

/// What the listeners of a gate share.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(super) gate: Arc<Gate>,
    pub(super) shards: Arc<Shards>,
    /// `None` where nothing is encrypted.
    pub(super) tls: Option<Tls>,
    /// Who has not come so far as to speak: handshakes and PROXY headers under way.
    pub(super) arriving: Admission,
    /// Where datagrams of codecs' clients come in.
    hubs: Vec<Arc<Hub>>,
}

/// What a listener is for.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) transport: Transport,
    /// Only clients of this codec come in there.
    pub(crate) codec: Option<Arc<dyn AnyCodec>>,
}

/// Why nobody can come in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntranceError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// What a connection has when its task begins.
enum Place {
    /// It is a client's, and may stay.
    Client(Seat),
    /// It is a load balancer's, which must say first whose it is.
    Proxy(Seat),
}

impl Entrance {
    pub(crate) fn new(
        gate: Arc<Gate>,
        shards: Arc<Shards>,
        certificates: Option<&Arc<Certificates>>,
        datagrams: Vec<(Arc<dyn AnyCodec>, UdpSocket)>,
    ) -> Result<Arc<Self>, EntranceError> {
        let tls = certificates.map(Tls::new).transpose();
        let tls = tls.map_err(|e| CertificateError::Refused(e.to_string()))?;
        let arriving = Admission::new(HANDSHAKES_MAX, HANDSHAKES_PER_IP_MAX);
        let mut hubs = Vec::new();
        for (codec, socket) in datagrams {
            let hub = Hub::open(codec, socket, gate.meters.datagrams_dropped.clone())?;
            let left = gate.leaving.clone();
            gate.tasks.spawn(hub.clone().run(async move { left.cancelled().await }));
            hubs.push(hub);
        }
        Ok(Arc::new(Self { gate, shards, tls, arriving, hubs }))
    }

    /// Takes connections from a listener until the gate goes away; each goes to the next shard.
    pub(crate) async fn accept(self: Arc<Self>, listener: TcpListener, door: Door) {
        let mut acceptor = Acceptor::new(listener, listener_key(door.transport).0);
        loop {
            let (socket, peer) = tokio::select! {
                biased; // stop before more work; accepting cannot starve it
                () = self.gate.left() => return,
                accepted = acceptor.next() => accepted,
            };
            self.take(socket, peer, door.clone());
        }
    }

    fn take(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr, door: Door) {
        let place = match self.gate.believes(peer.ip()) {
            false => self.gate.admit(peer.ip()).map(Place::Client),
            true => self.arrival(peer).map(Place::Proxy),
        };
        let Some(place) = place else { return };
        // Frames are batched here already; waiting for more would only add the peer's delayed ack.
        let socket = socket.set_nodelay(true).and_then(|()| socket.into_std());
        let entrance = self.clone();
        self.spawn(async move {
            match socket.and_then(TcpStream::from_std) {
                Ok(socket) => entrance.enter(socket, peer, door, place).await,
                Err(e) => {
                    tracing::debug!(target: "gate", %peer, "the connection was gone at once: {e}");
                    None
                }
            }
        });
    }

    /// Brings a client in and serves it, on the next shard. The way in has a place of its own,
    /// which is free once the client is served.
    pub(super) fn spawn(&self, entering: impl Future<Output = Option<Serving>> + Send + 'static) {
        let entering = Box::pin(entering);
        let connection = async move {
            let serving = entering.await;
            if let Some(serving) = serving {
                serving.await;
            }
        };
        self.gate.tasks.spawn_on(connection, self.shards.next());
    }

    /// A place among those who have not come so far as to speak; counted when there is none.
    pub(super) fn arrival(&self, peer: SocketAddr) -> Option<Seat> {
        let seat = self.arriving.seat(peer.ip());
        if seat.is_none() {
            self.gate.meters.refused_connections.increment(1);
        }
        seat
    }

    async fn enter(
        self: Arc<Self>,
        mut socket: TcpStream,
        peer: SocketAddr,
        Door { transport, codec }: Door,
        place: Place,
    ) -> Option<Serving> {
        let (peer, seat) = match place {
            Place::Client(seat) => (peer, seat),
            Place::Proxy(arriving) => {
                let brought = self.brought(&mut socket, peer, transport).await;
                drop(arriving);
                let client = brought?;
                (client, self.gate.admit(client.ip())?)
            }
        };
        let gate = self.gate.clone();
        let served = &gate.meters.served;
        match transport {
            Transport::Tcp => {
                served.tcp.increment(1);
                let codec = match codec {
                    None if !gate.codecs.is_empty() => self.told_by(&socket, &seat).await,
                    codec => codec,
                };
                Some(match codec {
                    None => gate.clone().serve(Tcp::new(socket), peer, seat),
                    Some(codec) => {
                        let hub = self.hubs.iter().find(|hub| hub.codec().name() == codec.name());
                        let hub = hub.map(|hub| (hub.clone(), peer.ip()));
                        let coded = Coded::new(socket, transport, &*codec, &gate, hub);
                        gate.clone().serve(coded, peer, seat)
                    }
                })
            }
            Transport::Ws => {
                served.ws.increment(1);
                Box::pin(ws::enter(gate.clone(), socket, transport, peer, seat)).await
            }
            Transport::TcpTls | Transport::WsTls => {
                Box::pin(self.enter_tls(socket, peer, transport, seat)).await
            }
            Transport::Quic => unreachable!("QUIC does not come over TCP"),
        }
    }

    /// The codec that a client's first bytes are of; `None`: it is one of frames, or its time is
    /// over, or the gate goes away, which is for whoever serves it.
    async fn told_by(&self, socket: &TcpStream, seat: &Seat) -> Option<Arc<dyn AnyCodec>> {
        let late = seat.since + self.gate.settings.gate.sign_in_timeout;
        tokio::select! {
            biased; // who goes away waits for nobody
            () = self.gate.left() => None,
            codec = self.gate.codecs.peek(socket, late) => codec,
        }
    }

    /// The client that a load balancer brings. On a WebSocket listener it may say so in HTTP
    /// instead, which is for later; elsewhere a header must come.
    async fn brought(
        &self,
        socket: &mut TcpStream,
        proxy: SocketAddr,
        transport: Transport,
    ) -> Option<SocketAddr> {
        let said = async {
            let http = matches!(transport, Transport::Ws | Transport::WsTls);
            if http && !proxy::announced(socket).await? {
                return Ok(None);
            }
            proxy::read(socket).await
        };
        let said = tokio::select! {
            biased; // who goes away waits for nobody
            () = self.gate.left() => return None,
            said = timeout(PROXY_HEADER_DEADLINE, said) => said,
        };
        match said {
            Ok(Ok(client)) => Some(client.unwrap_or(proxy)),
            Ok(Err(HeaderError::Gone)) => None,
            Ok(Err(e)) => self.unintroduced(proxy, &e),
            Err(late) => self.unintroduced(proxy, &late),
        }
    }

    fn unintroduced(&self, proxy: SocketAddr, why: &dyn std::fmt::Display) -> Option<SocketAddr> {
        self.gate.meters.proxy_headers_refused.increment(1);
        tracing::debug!(target: "gate", %proxy, "a load balancer of gate.proxies: {why}");
        None
    }

    async fn enter_tls(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        transport: Transport,
        seat: Seat,
    ) -> Option<Serving> {
        let (tls, arriving) = (self.tls.as_ref()?, self.arrival(peer)?);
        let shaken = tokio::select! {
            biased; // who goes away waits for nobody
            () = self.gate.left() => return None,
            shaken = tls.shake(socket) => shaken,
        };
        drop(arriving);
        let stream = match shaken {
            Ok(stream) => Box::new(stream),
            Err(e) => {
                self.gate.meters.tls_handshakes_failed.increment(1);
                tracing::debug!(target: "gate", %peer, "the TLS handshake failed: {e}");
                return None;
            }
        };
        let gate = self.gate.clone();
        if transport == Transport::TcpTls {
            gate.meters.served.tcp_tls.increment(1);
            return Some(gate.serve(stream, peer, seat));
        }
        gate.meters.served.ws_tls.increment(1);
        Box::pin(ws::enter(gate, stream, transport, peer, seat)).await
    }
}
