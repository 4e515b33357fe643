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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use quinn::{ClientConfig, Endpoint, crypto::rustls::QuicClientConfig};
    use tokio::io::AsyncReadExt as _;
    use tokio_rustls::rustls::{self, RootCertStore, crypto::ring::default_provider};

    use super::{
        super::{hello::AnyProtocol, settings},
        *,
    };
    use crate::{
        config,
        gate::{Certificates, tls::Tls},
        limits::QUIC_DATAGRAM_BYTES_MAX,
    };

    /// A client's endpoint and connection, and the server's.
    async fn connected() -> (Endpoint, Connection, Connection) {
        let here = ([127, 0, 0, 1], 0).into();
        let certificates = Certificates::of_a_developer();
        let tls = Tls::new(&certificates).expect("settings");
        let crypto = AnyProtocol::new(tls.quic).expect("settings");
        let server = settings(crypto, &config::Gate::default()).expect("settings");
        let server = Endpoint::server(server, here).expect("a socket");

        let mut roots = RootCertStore::empty();
        roots.add(certificates.shown().into()).expect("a certificate");
        let mut crypto = rustls::ClientConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("settings")
            .with_root_certificates(roots)
            .with_no_client_auth();
        crypto.alpn_protocols = vec![b"bastide".to_vec()];
        let crypto = QuicClientConfig::try_from(crypto).expect("settings");
        let client = Endpoint::client(here).expect("a socket");
        let addr = server.local_addr().expect("bound");
        let config = ClientConfig::new(Arc::new(crypto));
        let near = client.connect_with(config, addr, "localhost").expect("begun");
        let far = async { server.accept().await.expect("somebody came").await };
        let (near, far) = tokio::try_join!(near, far).expect("connected");
        (client, near, far)
    }

    async fn carrier(near: &Connection, far: Connection) -> (QuicCarrier, SendStream, RecvStream) {
        let (mut send, receive) = near.open_bi().await.expect("a stream");
        send.write_all(b"!").await.expect("sent");
        let (answer, ask) = far.accept_bi().await.expect("a stream");
        (QuicCarrier::new(far, answer, ask, Reason::default()), send, receive)
    }

    #[tokio::test]
    async fn a_datagram_goes_each_way_beside_the_stream() {
        let (_endpoint, near, far) = connected().await;
        let (mut carrier, _send, _receive) = carrier(&near, far).await;
        assert!(carrier.datagram_bytes_max().is_some_and(|n| n > 1000));
        for frame in [&b"one"[..], b"two"] {
            near.send_datagram(Bytes::from_static(frame)).expect("sent");
            assert_eq!(poll_fn(|cx| carrier.poll_datagram(cx)).await, frame);
            carrier.send_datagram(frame);
            assert_eq!(near.read_datagram().await.expect("received"), frame);
        }
        assert_eq!(carrier.read_u8().await.expect("the stream is as it was"), b'!');
        near.close(0_u32.into(), b"");
        assert!(carrier.read_u8().await.is_err(), "the stream tells the end");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(carrier.poll_datagram(&mut cx).is_pending());
    }

    /// A client that floods costs no more than its buffer, and the newest are what it keeps.
    #[tokio::test]
    async fn of_too_many_datagrams_the_oldest_are_lost() {
        let (_endpoint, near, far) = connected().await;
        let (mut carrier, mut send, _receive) = carrier(&near, far).await;
        let (sent, room) = (4 * QUIC_DATAGRAM_BYTES_MAX / 1000, near.datagram_send_buffer_space());
        for n in 0..sent {
            let bytes = [&n.to_be_bytes()[..], &[0; 992]].concat();
            near.send_datagram_wait(bytes.into()).await.expect("sent");
        }
        // What is written once all of them are on their way arrives behind them.
        while near.datagram_send_buffer_space() < room {
            tokio::task::yield_now().await;
        }
        send.write_all(b"!").await.expect("sent");
        for _ in 0..2 {
            carrier.read_u8().await.expect("behind them");
        }
        let first = poll_fn(|cx| carrier.poll_datagram(cx)).await;
        let first = usize::from_be_bytes(first[..8].try_into().expect("eight"));
        let kept = QUIC_DATAGRAM_BYTES_MAX / 1000;
        assert!(first >= sent - kept - 1, "{first} of {sent}");
    }
}
