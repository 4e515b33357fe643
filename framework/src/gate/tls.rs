//! Owns TLS towards clients: one setting for streams and one for QUIC, both with the certificate
//! that is in use at the time of the handshake.

use std::{fmt, io, sync::Arc};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig, SupportedProtocolVersion,
        crypto::ring::{Ticketer, default_provider},
        server::NoServerSessionStorage,
        version::{TLS12, TLS13},
    },
    server::TlsStream,
};

use super::Certificates;
use crate::limits::{HANDSHAKE_DEADLINE, TLS_WRITE_BYTES_MAX};

/// How clients are shown who this is.
#[derive(Clone)]
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    /// For QUIC.
    pub(super) quic: Arc<ServerConfig>,
}

impl Tls {
    pub(super) fn new(certificates: &Arc<Certificates>) -> Result<Self, rustls::Error> {
        let streams = settings(certificates, &[&TLS13, &TLS12])?;
        let quic = settings(certificates, &[&TLS13])?;
        Ok(Self { acceptor: Arc::new(streams).into(), quic: Arc::new(quic) })
    }

    /// The handshake of one client, within its deadline.
    ///
    /// # Errors
    /// The client speaks something else, refuses the certificate, is late, or gone.
    pub(super) async fn shake(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let shaken = self
            .acceptor
            .accept_with(socket, |tls| tls.set_buffer_limit(Some(TLS_WRITE_BYTES_MAX)));
        timeout(HANDSHAKE_DEADLINE, shaken).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

fn settings(
    certificates: &Arc<Certificates>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ServerConfig, rustls::Error> {
    let mut settings = ServerConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(certificates.clone());
    // Clients that come back carry their session themselves, sealed: here nothing is kept of it.
    settings.ticketer = Ticketer::new()?;
    settings.session_storage = Arc::new(NoServerSessionStorage {});
    settings.send_tls13_tickets = 1;
    Ok(settings)
}
