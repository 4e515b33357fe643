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
use super::{Gate, Serving, Transport, admission::Seat};
use crate::limits::WS_HANDSHAKE_DEADLINE;

/// Brings one WebSocket client in; `None`: it is gone.
pub(super) async fn enter<C>(
    gate: Arc<Gate>,
    mut stream: C,
    transport: Transport,
    mut peer: SocketAddr,
    seat: Seat,
) -> Option<Serving>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    let (opening, seat) = open(&gate, &mut stream, &mut peer, seat).await?;
    let socket = WebSocket::new(stream, transport, gate.clone(), peer, opening);
    Some(gate.serve(socket, peer, seat))
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
