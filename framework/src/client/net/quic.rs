//! Owns a QUIC connection to a gate: one stream for frames, and datagrams beside it.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::lookup_host,
};

use super::{Net, nowhere, untrusted};
use crate::client::dial::{Address, Carrier};

/// The stream, and the connection around it; with the last of them the connection is closed.
pub(super) struct Quic {
    send: SendStream,
    receive: RecvStream,
    connection: Connection,
    /// The next datagram, once somebody asked for one.
    datagram: Option<Next>,
}

type Next = Pin<Box<dyn Future<Output = Result<Bytes, ConnectionError>> + Send>>;

/// Connects and opens the one stream that a gate grants. Each connection has a socket of its own,
/// as each player has.
pub(super) async fn open(net: &Net, address: &Address) -> io::Result<Quic> {
    let settings = ClientConfig::new(net.trust.quic()?);
    let mut last = nowhere(address);
    for to in lookup_host(&address.host).await? {
        match connect(net, address, to, settings.clone()).await {
            Ok(connection) => {
                let (send, receive) = connection.open_bi().await?;
                return Ok(Quic { send, receive, connection, datagram: None });
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

async fn connect(
    net: &Net,
    address: &Address,
    to: SocketAddr,
    settings: ClientConfig,
) -> io::Result<Connection> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let endpoint = Endpoint::client((net.from.unwrap_or(any), 0).into())?;
    let connecting = endpoint
        .connect_with(settings, to, address.name())
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    connecting.await.map_err(|e| untrusted(address, e))
}

impl Carrier for Quic {
    fn poll_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let connection = &self.connection;
        let next = self.datagram.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.read_datagram().await })
        });
        let came = ready!(next.as_mut().poll(cx));
        self.datagram = None;
        match came {
            Ok(frame) => Poll::Ready(frame.into()),
            // The stream tells that the connection is gone.
            Err(_) => Poll::Pending,
        }
    }
}

impl AsyncRead for Quic {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buffer)
    }
}

impl AsyncWrite for Quic {
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
