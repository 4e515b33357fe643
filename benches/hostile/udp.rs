//! Owns QUIC handshakes that stop half-way: true first packets of clients that are never heard of
//! again, and packets that only look like some.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{ClientConfig, Endpoint, crypto::rustls::QuicClientConfig};
use tokio::{net::UdpSocket, time::sleep};
use tokio_rustls::rustls::{self, RootCertStore, crypto::ring::default_provider, version::TLS13};

use crate::hostile::Ground;

/// First packets that are made before it begins; each is sent again and again from other ports.
const INITIALS: usize = 500;

/// Between two packets of one client.
const PAUSE: Duration = Duration::from_millis(20);

/// What clients send first to a server that does not answer.
pub(crate) async fn initials() -> Vec<Vec<u8>> {
    let deaf = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let server = deaf.local_addr().expect("bound");
    let mut crypto = rustls::ClientConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[&TLS13])
        .expect("settings")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    crypto.alpn_protocols = vec![b"bastide".to_vec()];
    let crypto = QuicClientConfig::try_from(crypto).expect("settings");
    let config = ClientConfig::new(Arc::new(crypto));
    let here: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let client = Endpoint::client(here).expect("a socket");
    let (mut initials, mut packet) = (Vec::new(), vec![0; 2048]);
    while initials.len() < INITIALS {
        let connecting = client.connect_with(config.clone(), server, "localhost").expect("begun");
        let length = deaf.recv(&mut packet).await.expect("a packet");
        drop(connecting);
        // Those that say goodbye are short.
        if length >= 1200 {
            initials.push(packet[..length].to_vec());
        }
    }
    initials
}

impl Ground {
    /// One client: a port of its own, fifty packets a second.
    pub(crate) async fn quic(&self, nth: usize) -> io::Result<()> {
        let here = format!("127.0.0.{}:0", 2 + nth % 8);
        let socket = UdpSocket::bind(here).await?;
        socket.connect(&self.quic).await?;
        let mut garbage = [0x5a; 1200];
        for packet in 0..50 {
            let initial = &self.initials[(nth * 50 + packet) % self.initials.len()];
            socket.send(initial).await?;
            // A first packet by its header: version 1, ids of 8 bytes.
            garbage[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
            garbage[6] = u8::try_from(packet).unwrap_or_default();
            socket.send(&garbage).await?;
            sleep(PAUSE).await;
        }
        Ok(())
    }
}
