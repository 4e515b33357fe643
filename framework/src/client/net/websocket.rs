//! Owns a WebSocket to a gate as what carries bytes: frames travel in binary messages.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Error, Message, protocol::WebSocketConfig},
};

use crate::{
    client::dial::{Address, Carrier, Scheme},
    limits::WS_MESSAGE_BYTES_MAX,
};

/// What a gate that speaks text to those who say nothing must be told.
const FRAMES_ONLY: &str = "codec=frame";

/// A WebSocket.
pub(super) struct Socket<S> {
    inner: WebSocketStream<S>,
    /// Of a message that came, what was not read yet.
    unread: Bytes,
}

/// Shakes hands over a connection that is there.
pub(super) async fn open<S>(stream: S, address: &Address) -> io::Result<Socket<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = WebSocketConfig::default()
        .max_message_size(Some(WS_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(WS_MESSAGE_BYTES_MAX));
    let shaken = client_async_with_config(url(address), stream, Some(limits)).await;
    let (inner, _) = shaken.map_err(failed)?;
    Ok(Socket { inner, unread: Bytes::new() })
}

fn url(address: &Address) -> String {
    let Address { scheme, host, path } = address;
    // The scheme decides nothing here: TLS, where there is any, is below.
    debug_assert!(matches!(scheme, Scheme::Ws | Scheme::Wss));
    let path = if path.is_empty() { "/" } else { path };
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("ws://{host}{path}{joint}{FRAMES_ONLY}")
}

fn failed(error: Error) -> io::Error {
    match error {
        Error::Io(e) => e,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::ConnectionAborted.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Carrier for Socket<S> {}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            let Some(message) = ready!(Pin::new(&mut self.inner).poll_next(cx)) else {
                return Poll::Ready(Ok(()));
            };
            match message.map_err(failed)? {
                Message::Binary(bytes) => self.unread = bytes,
                Message::Text(_) => {
                    let why = "the gate speaks text, and was asked for frames";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
                Message::Close(_) => return Poll::Ready(Ok(())),
                // Pings are answered below.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        let bytes = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..bytes]);
        self.unread.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.inner).poll_ready(cx)).map_err(failed)?;
        let bytes = &bytes[..bytes.len().min(WS_MESSAGE_BYTES_MAX)];
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.inner).start_send(message).map_err(failed)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx).map_err(failed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio_tungstenite::accept_async;

    use super::*;

    #[test]
    fn frames_are_asked_for_whatever_else_is_in_the_address() {
        for (address, asked) in [
            ("ws://a:1", "ws://a:1/?codec=frame"),
            ("wss://a:1/ws", "ws://a:1/ws?codec=frame"),
            ("ws://a:1/ws?x=2", "ws://a:1/ws?x=2&codec=frame"),
        ] {
            assert_eq!(url(&Address::parse(address).unwrap()), asked);
        }
    }

    /// A gate that sends messages of any size back, as it likes to cut them.
    #[tokio::test]
    async fn bytes_come_back_in_order_however_they_were_cut_into_messages() {
        let (near, far) = duplex(300);
        let address = Address::parse("ws://a:1").unwrap();
        let gate = async {
            let mut far = Socket { inner: accept_async(far).await.unwrap(), unread: Bytes::new() };
            let mut bytes = vec![0; 777];
            loop {
                match far.read(&mut bytes).await.unwrap() {
                    0 => return,
                    n => {
                        far.write_all(&bytes[..n]).await.unwrap();
                        far.flush().await.unwrap();
                    }
                }
            }
        };
        let client = async {
            let socket = open(near, &address).await.unwrap();
            let (mut from, mut to) = tokio::io::split(socket);
            let said: Vec<_> =
                (0..200_000_u32).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
            let say = async {
                to.write_all(&said).await.unwrap();
                to.flush().await.unwrap();
            };
            let mut heard = vec![0; said.len()];
            let (_, ()) = tokio::join!(from.read_exact(&mut heard), say);
            assert!(heard == said);
            to.shutdown().await.unwrap();
        };
        tokio::join!(gate, client);
    }
}
