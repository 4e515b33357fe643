//! Owns the reading of the certificates towards etcd.

use std::{fs, path::Path};

use etcd_client::{Certificate, Identity, TlsOptions};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{EtcdError, EtcdSettings};

/// What the connection needs of TLS; `None` where every address is `http://`.
pub(super) fn options(
    settings: &EtcdSettings,
    secure: bool,
) -> Result<Option<TlsOptions>, EtcdError> {
    let EtcdSettings { endpoints, ca, cert, key, .. } = settings;
    if !secure {
        return if ca.is_some() || cert.is_some() || key.is_some() {
            Err(EtcdError::Settings(
                "`discovery.ca`, `discovery.cert` and `discovery.key` need https: write the \
                 addresses in `discovery.etcd` as https://host:2379, or leave the files away",
            ))
        } else {
            Ok(None)
        };
    }
    if let Some(endpoint) = endpoints.iter().find(|e| !e.starts_with("https://")) {
        let why = "others in the list are https://, and all must be".to_owned();
        return Err(EtcdError::Endpoint { endpoint: endpoint.clone(), why });
    }
    let Some(ca) = ca else {
        return Err(EtcdError::Settings(
            "`discovery.etcd` has an https address, so `discovery.ca` must name the file with the \
             certificate of whoever signed etcd's",
        ));
    };
    let mut options =
        TlsOptions::new().ca_certificate(Certificate::from_pem(certificates("discovery.ca", ca)?));
    match (cert, key) {
        (Some(cert), Some(key)) => {
            let own = certificates("discovery.cert", cert)?;
            options = options.identity(Identity::from_pem(own, private_key(key)?));
        }
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            return Err(EtcdError::Settings(
                "`discovery.cert` and `discovery.key` need each other: set both or neither",
            ));
        }
    }
    Ok(Some(options))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<u8>, EtcdError> {
    let wrong = |why: String| EtcdError::File { key, path: path.to_owned(), why };
    let pem = fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(wrong("it holds no certificate in PEM".to_owned())),
        Ok(_) => Ok(pem),
        Err(e) => Err(wrong(e.to_string())),
    }
}

fn private_key(path: &Path) -> Result<Vec<u8>, EtcdError> {
    let key = "discovery.key";
    let wrong = |why: String| EtcdError::File { key, path: path.to_owned(), why };
    let pem = fs::read(path).map_err(|e| wrong(e.to_string()))?;
    // Why it cannot be read is not repeated: the reason might quote the key.
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| wrong("it holds no private key in PEM".to_owned()))?;
    Ok(pem)
}
