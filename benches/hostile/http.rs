//! Owns what is begun over HTTP, WebSockets and TLS and never finished.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt as _,
    time::{sleep, timeout},
};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::ring::default_provider,
    version::{TLS12, TLS13},
};

use crate::{
    hostile::Ground,
    kinds::{connect, read_off},
};

/// Between two bytes of a client that is slow.
const BYTE_PAUSE: Duration = Duration::from_secs(1);

/// How long somebody who has stopped half-way stays.
const STAYS: Duration = Duration::from_secs(60);

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

impl Ground {
    /// The account center is asked a byte a second: the head of a request, or its body.
    pub(crate) async fn slow_http(&self, nth: usize) -> io::Result<()> {
        let mut socket = connect(&self.http).await?;
        let head = "POST /v1/account/auth HTTP/1.1\r\nHost: bench\r\nContent-Length: 1000\r\n\
            Content-Type: application/x-www-form-urlencoded\r\n";
        if nth.is_multiple_of(2) {
            socket.write_all(head.as_bytes()).await?;
            socket.write_all(b"\r\n").await?;
        }
        drip(&mut socket, head.as_bytes()).await
    }

    /// A WebSocket's handshake that stops, one a byte a second, and one with garbage behind it.
    pub(crate) async fn half_ws(&self, nth: usize) -> io::Result<()> {
        let mut socket = connect(&self.ws).await?;
        match nth % 3 {
            0 => socket.write_all(UPGRADE.as_bytes()).await?,
            1 => return drip(&mut socket, UPGRADE.as_bytes()).await,
            _ => {
                socket.write_all(UPGRADE.as_bytes()).await?;
                socket.write_all(b"\r\n").await?;
                socket.write_all(&[0xff; 4096]).await?;
            }
        }
        let _stayed = timeout(STAYS, read_off(&mut socket)).await;
        Ok(())
    }

    /// A TLS handshake that stops within the hello, and one that goes away behind it.
    pub(crate) async fn half_tls(&self, nth: usize) -> io::Result<()> {
        let mut socket = connect(&self.tls).await?;
        let hello = hello();
        if nth.is_multiple_of(2) {
            socket.write_all(&hello[..hello.len() / 2]).await?;
            let _stayed = timeout(STAYS, read_off(&mut socket)).await;
        } else {
            socket.write_all(&hello).await?;
            sleep(Duration::from_millis(20)).await;
            socket.set_zero_linger()?;
        }
        Ok(())
    }
}

async fn drip(socket: &mut tokio::net::TcpStream, bytes: &[u8]) -> io::Result<()> {
    for byte in bytes {
        socket.write_all(&[*byte]).await?;
        sleep(BYTE_PAUSE).await;
    }
    Ok(())
}

/// What a client of TLS says first.
fn hello() -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("settings")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("written to memory");
    hello
}
