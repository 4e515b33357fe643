//! Owns the ways to a gate over a real network: TCP, TLS, WebSocket, QUIC. Leaves whom to believe
//! to `trust`.

mod quic;
mod trust;
mod websocket;

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::{TcpSocket, TcpStream, lookup_host},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub use self::trust::{Trust, TrustError};
use super::dial::{Address, Carrier, Dial, Dialing, Scheme};

/// Dials over the network, whatever the scheme of the address.
///
/// `tls://`, `wss://` and `quic://` go only to a gate whose certificate is trusted and names the
/// host that was dialled. By default the system decides what is trusted, as for a browser; for a
/// server of one's own, [`Trust::pem`] names its certificate.
///
/// ```
/// use std::sync::Arc;
/// use bastide::client::{Address, Net, Options, Trust};
///
/// # fn options(pem: &[u8]) -> Result<Options, Box<dyn std::error::Error>> {
/// let net = Net { trust: Trust::pem(pem)?, ..Net::default() };
/// Ok(Options {
///     gates: vec![Address::parse("quic://gate.example:3017")?],
///     dial: Arc::new(net),
///     ..Options::default()
/// })
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Net {
    /// Whom to believe to be a gate. By default whoever the system trusts.
    pub trust: Trust,
    /// The address of this machine to dial from. By default the system chooses; a load of more
    /// than some 28 thousand clients to one gate needs several.
    pub from: Option<IpAddr>,
}

impl Dial for Net {
    fn dial(&self, address: &Address) -> Dialing {
        let (net, address) = (self.clone(), address.clone());
        Box::pin(async move {
            Ok(match address.scheme {
                Scheme::Tcp => Box::new(net.tcp(&address).await?) as Box<dyn Carrier>,
                Scheme::Tls => Box::new(net.tls(&address).await?),
                Scheme::Ws => Box::new(websocket::open(net.tcp(&address).await?, &address).await?),
                Scheme::Wss => Box::new(websocket::open(net.tls(&address).await?, &address).await?),
                Scheme::Quic => Box::new(quic::open(&net, &address).await?),
            })
        })
    }
}

impl Net {
    async fn tcp(&self, address: &Address) -> io::Result<TcpStream> {
        let mut last = nowhere(address);
        for to in lookup_host(&address.host).await? {
            match self.tcp_to(to).await {
                Ok(stream) => {
                    // Frames are small, and each is waited for.
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    async fn tcp_to(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(from) = self.from {
            socket.bind((from, 0).into())?;
        }
        socket.connect(to).await
    }

    async fn tls(&self, address: &Address) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(self.trust.streams()?);
        let name = address.name().to_owned();
        let name = name.try_into().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let stream = self.tcp(address).await?;
        connector.connect(name, stream).await.map_err(|e| untrusted(address, e))
    }
}

/// The host has no address; what is said when none was even tried.
fn nowhere(address: &Address) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", address.host))
}

/// Says what a client may do about a certificate that it does not believe.
fn untrusted(address: &Address, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    let said = error.to_string();
    if !said.contains("invalid peer certificate") {
        return error;
    }
    let why = format!("{address} is not believed to be the gate: {said}; see Net::trust");
    io::Error::new(error.kind(), why)
}

impl Carrier for TcpStream {}

impl Carrier for DuplexStream {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Carrier for TlsStream<S> {}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn a_client_dials_from_the_address_that_it_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let from = IpAddr::from([127, 0, 0, 9]);
        let dialed = Net { from: Some(from), ..Net::default() }.dial(&address);
        let (dialed, accepted) = tokio::join!(dialed, listener.accept());
        assert_eq!(accepted.unwrap().1.ip(), from);
        drop(dialed.unwrap());
    }

    #[tokio::test]
    async fn a_certificate_that_cannot_be_read_and_a_gate_without_tls_are_told() {
        assert!(matches!(Trust::pem(b"nothing"), Err(TrustError::Empty)));
        assert!(matches!(Trust::der(b"nothing"), Err(TrustError::Unreadable(_))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tls://{}", listener.local_addr().unwrap());
        let net = Net { trust: Trust::danger_anyone(), from: None };
        let dialed = net.dial(&Address::parse(&address).unwrap());
        let plain = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            // A hello of TLS, and no answer to it.
            assert_eq!(socket.read_u8().await.unwrap(), 22);
        };
        let (dialed, ()) = tokio::join!(dialed, plain);
        assert!(dialed.is_err());
    }
}
