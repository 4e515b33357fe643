//! Owns the certificate that clients are shown: read from its files and read again when they
//! change, or made at the start for a developer. Hands it to every handshake; never shows the key.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use ring::digest::{Digest, SHA256, digest};
use tokio_rustls::rustls::{
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    config::Config, directory::Role, limits::CERTIFICATE_LOOKED_AT, tasks::Tasks,
    telemetry::GateMeters,
};

/// The names of a developer's own machine, which a certificate that is made is for.
const MADE_FOR: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The certificate in use.
pub(crate) struct Certificates {
    /// `None`: made at the start, for good.
    files: Option<Files>,
    /// Std lock: held to clone or to replace an `Arc`.
    current: RwLock<Arc<CertifiedKey>>,
}

#[derive(Clone, Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// What the two files hold.
struct Pair {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// What is wrong with the gate's certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file cannot be read, or holds something else.
    #[error("{key} = {}: {why}; name a PEM file that this user may read", .path.display())]
    File { key: &'static str, path: PathBuf, why: String },
    /// The files do not go together.
    #[error(
        "gate.cert, gate.key: {0}; name a certificate, its intermediates behind it, and the key \
         that belongs to it"
    )]
    Refused(String),
}

impl Certificates {
    /// What the configuration names, or one made for a developer; `None` where nothing that is
    /// listened on wants one.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub(crate) fn load(config: &Config) -> Result<Option<Arc<Self>>, CertificateError> {
        if !config.has(Role::Gate) {
            return Ok(None);
        }
        let files = config.gate.certificate_files();
        let files = files.map(|(cert, key)| Files { cert: cert.into(), key: key.into() });
        let current = match &files {
            Some(files) => files.read()?.parse(files)?,
            None if config.gate.encrypted().is_none() => return Ok(None),
            None => made()?,
        };
        Ok(Some(Arc::new(Self { files, current: RwLock::new(Arc::new(current)) })))
    }

    /// One made for a developer.
    #[cfg(test)]
    pub(super) fn of_a_developer() -> Arc<Self> {
        let current = RwLock::new(Arc::new(made().expect("made")));
        Arc::new(Self { files: None, current })
    }

    /// Takes over what the files hold each time they change. A pair that is no good is told once,
    /// and the one before it stays; connections that are open are not touched.
    pub(crate) async fn follow(self: Arc<Self>, tasks: Tasks, meters: GateMeters) {
        let Some(files) = self.files.clone() else { return };
        // What is in use was read before now, and may be older: the first look reads it again.
        let (mut judged, mut seen) = (None, None);
        loop {
            tokio::select! {
                biased; // stop before more work
                () = tasks.stopped() => return,
                () = tokio::time::sleep(CERTIFICATE_LOOKED_AT) => {}
            }
            let looked = files.clone();
            // A folder of a network may take its time; nothing else waits for it.
            let Ok(read) = tokio::task::spawn_blocking(move || looked.read()).await else {
                continue;
            };
            let now = Some(fingerprint(&read));
            if now == seen && now != judged {
                judged.clone_from(&now);
                self.judge(&files, read, &meters);
            }
            seen = now;
        }
    }

    fn judge(&self, files: &Files, read: Result<Pair, CertificateError>, meters: &GateMeters) {
        match read.and_then(|pair| pair.parse(files)) {
            Ok(pair) if pair.cert == self.current().cert => {}
            Ok(pair) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
                meters.certificates_replaced.increment(1);
                tracing::info!(target: "gate", "the new certificate of gate.cert is in use");
            }
            Err(e) => {
                meters.certificates_refused.increment(1);
                tracing::warn!(target: "gate", "the certificate before stays in use: {e}");
            }
        }
    }

    /// The certificate itself, in DER: what a client that has no authority for it may trust.
    pub(crate) fn shown(&self) -> Vec<u8> {
        self.current().cert.first().map(|cert| cert.to_vec()).unwrap_or_default()
    }

    fn current(&self) -> Arc<CertifiedKey> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, current: _ } = self;
        f.debug_struct("Certificates").field("files", files).finish_non_exhaustive()
    }
}

impl Files {
    fn read(&self) -> Result<Pair, CertificateError> {
        let read = |key, path: &Path| fs::read(path).map_err(|e: io::Error| file(key, path, &e));
        Ok(Pair { cert: read("gate.cert", &self.cert)?, key: read("gate.key", &self.key)? })
    }
}

impl Pair {
    fn parse(&self, files: &Files) -> Result<CertifiedKey, CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.cert).collect();
        let chain = chain.map_err(|e| file("gate.cert", &files.cert, &e))?;
        if chain.is_empty() {
            return Err(file("gate.cert", &files.cert, &"there is no certificate in it"));
        }
        // The reason is left out: it may quote the file, and this one is secret.
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| file("gate.key", &files.key, &"there is no private key in it"))?;
        certified(chain, key)
    }
}

/// A certificate that is its own authority, good until somebody replaces this program.
fn made() -> Result<CertifiedKey, CertificateError> {
    let refused = |e: rcgen::Error| CertificateError::Refused(e.to_string());
    let made = rcgen::generate_simple_self_signed(MADE_FOR.map(str::to_owned)).map_err(refused)?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    certified(vec![made.cert.der().clone()], key)
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, CertificateError> {
    CertifiedKey::from_der(chain, key, &default_provider())
        .map_err(|e| CertificateError::Refused(e.to_string()))
}

/// Stands for what was read, or for why it was not.
fn fingerprint(read: &Result<Pair, CertificateError>) -> [Vec<u8>; 2] {
    let of = |bytes: &[u8]| Digest::as_ref(&digest(&SHA256, bytes)).to_vec();
    match read {
        Ok(Pair { cert, key }) => [of(cert), of(key)],
        Err(e) => [of(e.to_string().as_bytes()), Vec::new()],
    }
}

fn file(key: &'static str, path: &Path, why: &dyn fmt::Display) -> CertificateError {
    CertificateError::File { key, path: path.to_owned(), why: why.to_string() }
}
