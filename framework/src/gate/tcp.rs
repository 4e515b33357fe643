//! Owns a client's TCP stream, which two may write to: its connection, and whoever brings frames
//! while nothing waits before them.

use std::{
    io,
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{Carrier, Transport};

/// A client's TCP stream.
#[derive(Debug)]
pub(super) struct Tcp {
    /// Of the whole stream: the connection writes to it as well.
    stream: OwnedReadHalf,
    /// Until somebody else has it.
    writer: Option<OwnedWriteHalf>,
}

impl Tcp {
    pub(super) fn new(stream: TcpStream) -> Self {
        let (stream, writer) = stream.into_split();
        Self { stream, writer: Some(writer) }
    }
}

impl Carrier for Tcp {
    fn transport(&self) -> Transport {
        Transport::Tcp
    }

    fn take_writer(&mut self) -> Option<OwnedWriteHalf> {
        self.writer.take()
    }
}

impl AsyncRead for Tcp {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream: &TcpStream = self.stream.as_ref();
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream: &TcpStream = self.stream.as_ref();
        Poll::Ready(SockRef::from(stream).shutdown(Shutdown::Write))
    }
}
