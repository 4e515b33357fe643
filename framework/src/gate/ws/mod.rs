//! Owns WebSocket clients: how they begin ([`handshake`]), the WebSocket as a [`Carrier`] of
//! frames ([`socket`]), and the text codec on top of it ([`json`]). The connection behind it sees
//! frames and nothing else.

mod frames;
mod handshake;
mod json;
mod login;
mod socket;
#[cfg(test)]
mod tests;
mod texts;
#[cfg(test)]
mod trouble;

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use self::{handshake::Opening, socket::WebSocket};
use super::{Gate, Transport, admission::Seat};
use crate::limits::WS_HANDSHAKE_DEADLINE;

/// Serves one WebSocket client until it is gone.
pub(super) async fn serve<C>(
    gate: Arc<Gate>,
    mut stream: C,
    transport: Transport,
    mut peer: SocketAddr,
    seat: Seat,
) where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // In a box of its own: what a handshake needs is not kept for as long as the connection.
    let opened = Box::pin(open(&gate, &mut stream, &mut peer, seat)).await;
    if let Some((opening, seat)) = opened {
        let socket = WebSocket::new(stream, transport, gate.clone(), peer, opening);
        gate.serve(socket, peer, seat).await;
    }
}

/// The handshake, within its time. Behind a proxy that is believed, the client's own address takes
/// the place of the proxy's, for its seat too.
async fn open<C>(
    gate: &Gate,
    stream: &mut C,
    peer: &mut SocketAddr,
    seat: Seat,
) -> Option<(Opening, Seat)>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (said, mut seat) = (*peer, Some(seat));
    let reseat = |ip| {
        seat = seat.take().and_then(|seat| seat.of(ip));
        if seat.is_none() {
            gate.meters.refused_connections.increment(1);
        }
        seat.is_some()
    };
    let accepted = handshake::accept(stream, &gate.pages, |ip| gate.believes(ip), peer, reseat);
    let accepted = tokio::select! {
        biased; // who goes away waits for nobody
        () = gate.left() => return None,
        accepted = timeout(WS_HANDSHAKE_DEADLINE, accepted) => accepted,
    };
    match accepted {
        Ok(Ok(opening)) => Some((opening?, seat?)),
        Ok(Err(e)) => {
            tracing::debug!(target: "gate", peer = %said, "the handshake failed: {e}");
            None
        }
        Err(_) => {
            tracing::debug!(target: "gate", peer = %said, "the handshake took too long");
            None
        }
    }
}
