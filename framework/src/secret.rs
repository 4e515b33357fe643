//! Owns secrets that two sides know: where one comes from, and whether somebody knows it.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rand::{TryRngCore as _, rngs::OsRng};
use ring::{hmac, rand::SystemRandom};

use crate::config::{ADMIN_SECRET_BYTES_MIN, Secret};

/// A secret, as what is needed to recognise it: two tags are compared in constant time, whatever
/// the lengths.
#[derive(Clone)]
pub(crate) struct Known {
    key: hmac::Key,
    tag: hmac::Tag,
}

/// The file of the secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// It can be neither read nor made.
    #[error("{key}: {}: {source}; choose a folder that you may write with --data", .path.display())]
    File { key: &'static str, path: PathBuf, source: io::Error },
    /// Somebody has written something else into it.
    #[error(
        "{key}: {} holds less than {ADMIN_SECRET_BYTES_MIN} characters: delete it, and the \
         next start makes another", .path.display()
    )]
    Short { key: &'static str, path: PathBuf },
}

/// The secret of a key of the configuration; in `dev` that of its file, which is made when it is
/// not there.
pub(crate) fn of(
    key: &'static str,
    said: &Option<Secret>,
    file: &Option<PathBuf>,
) -> Result<Option<Known>, SecretError> {
    Ok(text(key, said, file)?.map(|secret| Known::new(&secret.0)))
}

/// As [`of`], for whoever needs the secret itself.
pub(crate) fn text(
    key: &'static str,
    said: &Option<Secret>,
    file: &Option<PathBuf>,
) -> Result<Option<Secret>, SecretError> {
    match (said, file) {
        (Some(secret), _) => Ok(Some(secret.clone())),
        (None, Some(path)) => Ok(Some(Secret(from_file(key, path)?))),
        (None, None) => Ok(None),
    }
}

impl Known {
    pub(crate) fn new(secret: &str) -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.expect("the system has a source of randomness");
        let tag = hmac::sign(&key, secret.as_bytes());
        Self { key, tag }
    }

    /// Whether somebody showed it.
    pub(crate) fn is(&self, shown: &str) -> bool {
        hmac::verify(&self.key, shown.as_bytes(), self.tag.as_ref()).is_ok()
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known(…)")
    }
}

/// The secret in the file, made when it is not there. Nobody but its owner may read it.
fn from_file(key: &'static str, path: &Path) -> Result<String, SecretError> {
    let failed = |source| SecretError::File { key, path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let secret = random();
            file.write_all(format!("{secret}\n").as_bytes()).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            return Ok(secret);
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(failed(e)),
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let secret = fs::read_to_string(path).map_err(failed)?.trim().to_owned();
    if secret.len() < ADMIN_SECRET_BYTES_MIN {
        return Err(SecretError::Short { key, path: path.to_owned() });
    }
    Ok(secret)
}

/// 256 bits from the system, in hex.
fn random() -> String {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes).expect("the system has a source of randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/admin.secret");
        let secret = from_file("admin.secret", &path).unwrap();
        assert_eq!(secret.len(), 64);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(from_file("admin.secret", &path).unwrap(), secret);
        assert_eq!(mode(&path), 0o600, "as it should have been");
        fs::write(&path, "short").unwrap();
        let said = from_file("admin.secret", &path).unwrap_err().to_string();
        assert!(said.contains("admin.secret") && said.contains("delete it"), "{said}");
    }
}
