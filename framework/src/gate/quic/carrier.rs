//! Owns a QUIC connection as what carries frames: one stream, and datagrams beside it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::ReusableBoxFuture;

use crate::{
    gate::{Carrier, Transport},
    wire::Code,
};

/// The client's stream and the connection around it. Who made it closes the connection.
pub(super) struct QuicCarrier {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    /// The next datagram; there once somebody asked for one.
    datagram: Option<ReusableBoxFuture<'static, Result<Bytes, ConnectionError>>>,
    why: Reason,
}

/// What the connection is closed with: 0 until somebody knows better.
#[derive(Clone, Debug, Default)]
pub(super) struct Reason(Arc<AtomicI32>);

impl Reason {
    pub(super) fn code(&self) -> Code {
        Code(self.0.load(Ordering::Relaxed))
    }
}

impl QuicCarrier {
    pub(super) fn new(
        connection: Connection,
        send: SendStream,
        receive: RecvStream,
        why: Reason,
    ) -> Self {
        Self { connection, send, receive, datagram: None, why }
    }
}

impl Carrier for QuicCarrier {
    fn transport(&self) -> Transport {
        Transport::Quic
    }

    fn closes_with(&mut self, code: Code) {
        self.why.0.store(code.0, Ordering::Relaxed);
    }

    fn datagram_bytes_max(&self) -> Option<usize> {
        self.connection.max_datagram_size()
    }

    fn send_datagram(&mut self, frame: &[u8]) {
        if let Err(e) = self.connection.send_datagram(Bytes::copy_from_slice(frame)) {
            tracing::debug!(target: "gate", "a datagram was not sent: {e}");
        }
    }

    fn poll_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let connection = &self.connection;
        let next = self.datagram.get_or_insert_with(|| ReusableBoxFuture::new(next(connection)));
        match next.poll(cx) {
            Poll::Ready(Ok(frame)) => {
                next.set(self::next(connection));
                Poll::Ready(frame)
            }
            // The stream tells that the connection is gone. Asked again, this one says so again.
            Poll::Ready(Err(_)) => {
                next.set(self::next(connection));
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

fn next(
    connection: &Connection,
) -> impl Future<Output = Result<Bytes, ConnectionError>> + Send + 'static {
    let connection = connection.clone();
    async move { connection.read_datagram().await }
}

impl AsyncRead for QuicCarrier {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buffer)
    }
}

impl AsyncWrite for QuicCarrier {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}
