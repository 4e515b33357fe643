//! Owns QUIC: its endpoints, who gets in over them, and the end of such a connection. What its
//! one stream and its datagrams carry is served as on any other carrier.

mod carrier;
mod hello;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, Incoming, RecvStream, SendStream, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use tokio::time::timeout;

use self::{
    carrier::{QuicCarrier, Reason},
    hello::AnyProtocol,
};
use super::{Entrance, Gate, Serving, admission::Seat};
use crate::{
    config,
    limits::{
        CLOSE_LINGER, HANDSHAKE_DEADLINE, QUIC_ARRIVAL_BYTES_MAX, QUIC_ARRIVALS_MAX,
        QUIC_DATAGRAM_BYTES_MAX, QUIC_HANDSHAKES_UNPROVEN_MAX, QUIC_READ_BYTES_MAX,
        QUIC_WRITE_BYTES_MAX,
    },
    wire::Code,
};

/// How much longer than the gate's own limits a silent connection lasts, so that the gate, which
/// says why, is the first to end it.
const SILENCE_GRACE: Duration = Duration::from_secs(1);

impl Entrance {
    /// Takes connections from a socket until the node stops; each goes to the next shard.
    ///
    /// # Errors
    /// When the operating system refuses the socket to the event queue.
    pub(crate) fn accept_quic(self: &Arc<Self>, socket: UdpSocket) -> io::Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let crypto = AnyProtocol::new(tls.quic.clone()).map_err(io::Error::other)?;
        let settings = settings(crypto, &self.gate.settings.gate)?;
        // The endpoint hands packets to its connections; on a shard, those of the same shard are
        // reached without another thread.
        let shard = self.shards.next();
        let endpoint = {
            let _inside = shard.enter();
            let runtime = Arc::new(TokioRuntime);
            Endpoint::new(EndpointConfig::default(), Some(settings), socket, runtime)?
        };
        self.gate.tasks.spawn_on(self.clone().run_quic(endpoint), shard);
        Ok(())
    }

    async fn run_quic(self: Arc<Self>, endpoint: Endpoint) {
        loop {
            let incoming = tokio::select! {
                biased; // stop before more work; accepting cannot starve it
                () = self.gate.left() => break,
                incoming = endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { return };
            self.take_quic(incoming);
        }
        // While clients are told goodbye, others are told at once that they must go elsewhere.
        loop {
            tokio::select! {
                biased; // stop before more work
                () = self.gate.tasks.stopped() => break,
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => self.refuse_quic(incoming),
                    None => return,
                },
            }
        }
        endpoint.close(reason(Code::DRAINING), b"");
        if timeout(CLOSE_LINGER, endpoint.wait_idle()).await.is_err() {
            tracing::debug!(target: "gate", "QUIC connections ended without a goodbye");
        }
    }

    fn take_quic(self: &Arc<Self>, incoming: Incoming) {
        let peer = incoming.remote_address();
        let proven = incoming.remote_address_validated();
        if !proven && self.arriving.taken() >= QUIC_HANDSHAKES_UNPROVEN_MAX {
            self.gate.meters.quic_retries.increment(1);
            if let Err(e) = incoming.retry() {
                tracing::debug!(target: "gate", %peer, "{e}");
            }
            return;
        }
        let Some(arriving) = self.arrival(peer) else {
            self.gate.meters.quic_refused.increment(1);
            // Nothing is sent: this may be a flood, and the address somebody else's.
            incoming.ignore();
            return;
        };
        let Some(seat) = self.gate.admit(peer.ip()) else {
            self.refuse_quic(incoming);
            return;
        };
        self.spawn(enter(self.gate.clone(), incoming, peer, arriving, seat));
    }

    fn refuse_quic(&self, incoming: Incoming) {
        self.gate.meters.quic_refused.increment(1);
        incoming.refuse();
    }
}

/// Brings one client in; `None`: it is gone.
async fn enter(
    gate: Arc<Gate>,
    incoming: Incoming,
    peer: SocketAddr,
    arriving: Seat,
    seat: Seat,
) -> Option<Serving> {
    // Accepted here, so that its driver runs on this shard.
    let shaken = async {
        match incoming.accept() {
            Ok(connecting) => connecting.await.map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        }
    };
    let shaken = tokio::select! {
        biased; // who goes away waits for nobody
        () = gate.left() => return None,
        shaken = timeout(HANDSHAKE_DEADLINE, shaken) => shaken,
    };
    drop(arriving);
    let connection = match shaken.unwrap_or_else(|late| Err(late.to_string())) {
        Ok(connection) => connection,
        Err(e) => {
            gate.meters.tls_handshakes_failed.increment(1);
            tracing::debug!(target: "gate", %peer, "the QUIC handshake failed: {e}");
            return None;
        }
    };
    gate.meters.served.quic.increment(1);
    let patience = gate.settings.gate.sign_in_timeout;
    let opened = tokio::select! {
        biased; // who goes away waits for nobody
        () = gate.left() => Err(Code::DRAINING),
        opened = timeout(patience, connection.accept_bi()) => match opened {
            Ok(Ok(streams)) => Ok(streams),
            Ok(Err(_)) => return None,
            Err(_) => Err(Code::NOT_SIGNED_IN),
        },
    };
    let (send, receive): (SendStream, RecvStream) = match opened {
        Ok(streams) => streams,
        Err(code) => {
            connection.close(reason(code), b"");
            return None;
        }
    };
    let (why, confirmed) = (Reason::default(), send.stopped());
    let carrier = QuicCarrier::new(connection.clone(), send, receive, why.clone());
    let serving = gate.serve(carrier, peer, seat);
    Some(Box::pin(async move {
        serving.await;
        // The stream is finished by now; to close before the client has confirmed its end would
        // throw away what is on its way.
        let _late = timeout(CLOSE_LINGER, confirmed).await;
        connection.close(reason(why.code()), b"");
    }))
}

/// A result code as QUIC closes with it.
fn reason(code: Code) -> VarInt {
    u32::try_from(code.0).unwrap_or_default().into()
}

fn settings(crypto: AnyProtocol, gate: &config::Gate) -> io::Result<ServerConfig> {
    let silence = gate.idle_timeout.max(gate.sign_in_timeout) + SILENCE_GRACE;
    let mut transport = TransportConfig::default();
    transport
        // One stream, the client's; a second one is never granted.
        .max_concurrent_bidi_streams(1_u32.into())
        .max_concurrent_uni_streams(0_u32.into())
        .stream_receive_window(QUIC_READ_BYTES_MAX.into())
        .receive_window(QUIC_READ_BYTES_MAX.into())
        .send_window(QUIC_WRITE_BYTES_MAX)
        .datagram_receive_buffer_size(Some(QUIC_DATAGRAM_BYTES_MAX))
        .datagram_send_buffer_size(QUIC_DATAGRAM_BYTES_MAX)
        .max_idle_timeout(Some(IdleTimeout::try_from(silence).map_err(io::Error::other)?));
    let mut settings = ServerConfig::with_crypto(Arc::new(crypto));
    settings
        .transport_config(Arc::new(transport))
        // A player who walks out of the house goes on over the other network.
        .migration(true)
        .max_incoming(QUIC_ARRIVALS_MAX)
        .incoming_buffer_size(QUIC_ARRIVAL_BYTES_MAX)
        .incoming_buffer_size_total(QUIC_ARRIVAL_BYTES_MAX * QUIC_ARRIVALS_MAX as u64);
    Ok(settings)
}
