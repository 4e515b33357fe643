//! Owns what a connection asks of whatever carries its bytes: TCP, TLS, WebSocket or QUIC.

use std::{
    fmt,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, tcp::OwnedWriteHalf},
};
use tokio_rustls::server::TlsStream;

use crate::wire::{Code, Refusal};

/// Frames both ways, in order: a stream of bytes, whatever lies below. Where what lies below
/// speaks a codec, reading fails with the [`FrameError`](crate::wire::FrameError) of what can be no
/// frame.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static {
    /// What lies below.
    fn transport(&self) -> Transport;

    /// What writes to the client without a word to this carrier, where that may be.
    fn take_writer(&mut self) -> Option<OwnedWriteHalf> {
        None
    }

    /// Whether the client gave a sign of life beside its bytes since this was asked last, such as
    /// the ping of a WebSocket.
    fn heard(&mut self) -> bool {
        false
    }

    /// Why a frame is refused that only stands for what its client said: in another codec, where it
    /// had no meaning. Asked once for each frame, in their order.
    fn refuses(&mut self, payload: &[u8]) -> Option<Refusal> {
        let _ = payload;
        None
    }

    /// The client has signed in: its frames may be larger.
    fn signed_in(&mut self) {}

    /// Says beside the bytes why the connection ends, where there is a place for that.
    fn closes_with(&mut self, code: Code) {
        let _ = code;
    }

    /// The largest frame that may be sent beside the stream, where it may be lost or overtaken;
    /// `None`: there is nothing beside the stream.
    fn datagram_bytes_max(&self) -> Option<usize> {
        None
    }

    /// Sends one whole frame beside the stream; it may be lost.
    fn send_datagram(&mut self, frame: &[u8]) {
        let _ = frame;
    }

    /// The next frame that came beside the stream.
    fn poll_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let _ = cx;
        Poll::Pending
    }
}

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// A TCP stream.
    Tcp,
    /// TLS over TCP.
    TcpTls,
    /// A WebSocket.
    Ws,
    /// A WebSocket over TLS.
    WsTls,
    /// A QUIC stream, with datagrams beside it.
    Quic,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::TcpTls => "tcp+tls",
            Self::Ws => "ws",
            Self::WsTls => "wss",
            Self::Quic => "quic",
        })
    }
}

/// In a box, for it is large and is moved about.
impl Carrier for Box<TlsStream<TcpStream>> {
    fn transport(&self) -> Transport {
        Transport::TcpTls
    }
}

#[cfg(test)]
impl Carrier for tokio::io::DuplexStream {
    fn transport(&self) -> Transport {
        Transport::Tcp
    }
}
