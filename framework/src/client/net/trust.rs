//! Owns whom a client believes to be a gate: the system's authorities, certificates that it is
//! told, or, for a developer, anyone.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use quinn::crypto::rustls::QuicClientConfig;
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{
        CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    version::{TLS12, TLS13},
};

/// What a client of QUIC asks for.
const QUIC_PROTOCOL: &[u8] = b"bastide";

/// Whom a client believes to be a gate. By default whoever the system trusts.
///
/// Clones share what was made of it, and the tickets with which a TLS session goes on: use one for
/// all sessions of a program.
#[derive(Clone, Default)]
pub struct Trust {
    whom: Whom,
    made: Arc<OnceLock<Made>>,
}

#[derive(Clone, Default)]
enum Whom {
    #[default]
    System,
    These(RootCertStore),
    Anyone,
}

/// What connections are made with; made once, when the first needs it.
struct Made {
    streams: Arc<ClientConfig>,
    quic: Arc<QuicClientConfig>,
}

/// Why a certificate cannot be trusted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TrustError {
    /// There is no certificate in it. Give the text that stands between the `BEGIN CERTIFICATE`
    /// and `END CERTIFICATE` lines, with them.
    #[error("there is no certificate in PEM")]
    Empty,
    /// It is no certificate.
    #[error("not a certificate: {0}")]
    Unreadable(String),
}

impl Trust {
    /// Whoever the system trusts, as for a browser. They are read at the first connection.
    pub fn system() -> Self {
        Self::default()
    }

    /// Gates whose certificate is one of these, or signed by one of these, and nobody else.
    ///
    /// # Errors
    /// [`TrustError`] when there is none, or one cannot be read.
    pub fn pem(pem: &[u8]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            add(&mut roots, certificate.map_err(|e| TrustError::Unreadable(e.to_string()))?)?;
        }
        if roots.is_empty() {
            return Err(TrustError::Empty);
        }
        Ok(Self { whom: Whom::These(roots), made: Arc::default() })
    }

    /// As [`Trust::pem`], of one certificate in DER.
    ///
    /// # Errors
    /// [`TrustError::Unreadable`].
    pub fn der(certificate: &[u8]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        add(&mut roots, certificate.to_vec().into())?;
        Ok(Self { whom: Whom::These(roots), made: Arc::default() })
    }

    /// Anyone at all: whoever is on the way may pass for the gate, and read the player's token.
    /// For a gate of one's own machine, whose certificate was made at its start.
    pub fn danger_anyone() -> Self {
        Self { whom: Whom::Anyone, made: Arc::default() }
    }

    pub(super) fn streams(&self) -> io::Result<Arc<ClientConfig>> {
        Ok(self.made()?.streams.clone())
    }

    pub(super) fn quic(&self) -> io::Result<Arc<QuicClientConfig>> {
        Ok(self.made()?.quic.clone())
    }

    fn made(&self) -> io::Result<&Made> {
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let whom = match &self.whom {
            Whom::System => Whom::These(authorities()?),
            other => other.clone(),
        };
        let streams = settings(&whom, &[&TLS13, &TLS12])?;
        let mut quic = settings(&whom, &[&TLS13])?;
        quic.alpn_protocols = vec![QUIC_PROTOCOL.to_vec()];
        let quic = QuicClientConfig::try_from(quic).map_err(io::Error::other)?;
        // Another one may have been quicker; theirs is as good.
        Ok(self.made.get_or_init(|| Made { streams: Arc::new(streams), quic: Arc::new(quic) }))
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.whom {
            Whom::System => "Trust(system)",
            Whom::These(_) => "Trust(certificates)",
            Whom::Anyone => "Trust(anyone)",
        })
    }
}

fn add(roots: &mut RootCertStore, certificate: CertificateDer<'_>) -> Result<(), TrustError> {
    roots.add(certificate.into_owned()).map_err(|e| TrustError::Unreadable(e.to_string()))
}

/// What the system trusts. One that cannot be read is left out: systems carry such.
fn authorities() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = "this system trusts nobody: it has no certificates; see Net::trust";
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    Ok(roots)
}

fn settings(
    whom: &Whom,
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<ClientConfig> {
    let provider = Arc::new(default_provider());
    let settings = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(io::Error::other)?;
    Ok(match whom {
        Whom::These(roots) => settings.with_root_certificates(roots.clone()),
        Whom::Anyone => {
            settings.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        }
        Whom::System => settings.with_root_certificates(RootCertStore::empty()),
    }
    .with_no_client_auth())
}

/// Believes every certificate; only that its key is there is seen to.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, tokio_rustls::rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
