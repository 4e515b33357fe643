//! Owns mutual TLS between nodes: each shows a certificate of the cluster's own authority.

use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client, rustls,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::CryptoProvider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
    server,
};

use crate::config;

/// The name that every node's certificate is made out to: what makes a node one of ours is the
/// authority that signed it, and addresses change.
const NAME: &str = "bastide-node";

/// How nodes know each other.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

/// What is wrong with the files of `[link]`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("{key} = {}: {why}; name a PEM file that this user may read", .path.display())]
    File { key: &'static str, path: PathBuf, why: String },
    /// The files do not go together.
    #[error(
        "link.cert, link.key, link.ca: {0}; the certificate must be made out to the name \
         {NAME}, be signed by link.ca, and belong to link.key"
    )]
    Refused(String),
}

impl Tls {
    /// Reads what `[link]` names; `None` when it names nothing.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn load(link: &config::Link) -> Result<Option<Self>, TlsError> {
        let (Some(cert), Some(key), Some(ca)) = (&link.cert, &link.key, &link.ca) else {
            return Ok(None);
        };
        let chain = certificates("link.cert", cert)?;
        let roots = certificates("link.ca", ca)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|e| file("link.key", key, &e))?;
        Self::new(chain, key, roots).map(Some)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, TlsError> {
        let refused = |e: &dyn std::fmt::Display| TlsError::Refused(e.to_string());
        let provider: Arc<CryptoProvider> = rustls::crypto::ring::default_provider().into();
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|e| refused(&e))?;
        }
        let roots = Arc::new(roots);
        let versions = &[&rustls::version::TLS13];
        let peers = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|e| refused(&e))?
            .with_client_cert_verifier(peers.build().map_err(|e| refused(&e))?)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|e| refused(&e))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|e| refused(&e))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|e| refused(&e))?;
        let (acceptor, connector) = (Arc::new(server).into(), Arc::new(client).into());
        Ok(Self { acceptor, connector })
    }

    /// Whether two nodes with these files would know each other.
    ///
    /// # Errors
    /// [`TlsError::Refused`] with what a peer would say.
    pub(crate) async fn check(&self) -> Result<(), TlsError> {
        let met = async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let one = TcpStream::connect(listener.local_addr()?).await?;
            let (other, _) = listener.accept().await?;
            // The client ends its handshake before the server has judged it.
            let (mut one, mut other) = tokio::try_join!(self.connect(one), self.accept(other))?;
            other.write_all(b"!").await?;
            other.flush().await?;
            one.read_u8().await
        };
        met.await.map(drop).map_err(|e| TlsError::Refused(e.to_string()))
    }

    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<server::TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }

    pub(super) async fn connect(
        &self,
        stream: TcpStream,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        self.connector.connect(ServerName::try_from(NAME).expect("a DNS name"), stream).await
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(|e| file(key, path, &e))?;
    if certificates.is_empty() {
        return Err(file(key, path, &"there is no certificate in it"));
    }
    Ok(certificates)
}

fn file(key: &'static str, path: &Path, why: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { key, path: path.to_owned(), why: why.to_string() }
}
