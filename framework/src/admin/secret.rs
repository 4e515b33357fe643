//! Owns the operators' secret: where it comes from, and whether somebody knows it.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rand::{TryRngCore as _, rngs::OsRng};
use ring::{hmac, rand::SystemRandom};

use crate::{
    clock::Clock,
    config::{self, ADMIN_SECRET_BYTES_MIN},
    limits::ADMIN_FAILURES_MAX,
    store::Cache,
};

/// Lets in who knows the secret, and slows down who guesses.
pub(crate) struct Guard {
    /// `None`: nobody is let in.
    secret: Option<Known>,
    failures: Cache,
    clock: Clock,
}

/// A secret, as what is needed to recognise it: two tags are compared in constant time, whatever
/// the lengths.
struct Known {
    key: hmac::Key,
    tag: hmac::Tag,
}

/// Whether somebody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Welcome,
    /// No secret, or a wrong one.
    Wrong,
    /// Wrong too often from this address.
    TooOften,
    /// There is no secret that would let anybody in.
    Closed,
}

/// The file of the secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// It can be neither read nor made.
    #[error("admin.secret: {}: {source}; choose a folder that you may write with --data", .path.display())]
    File { path: PathBuf, source: io::Error },
    /// Somebody has written something else into it.
    #[error(
        "admin.secret: {} holds less than {ADMIN_SECRET_BYTES_MIN} characters: delete it, and the \
         next start makes another", .path.display()
    )]
    Short { path: PathBuf },
}

impl Guard {
    /// With the secret of the configuration; in `dev` with that of its file, which is made when
    /// it is not there.
    pub(crate) fn of(config: &config::Admin, clock: Clock) -> Result<Self, SecretError> {
        let secret = secret(config)?.map(|secret| Known::new(&secret.0));
        Ok(Self { secret, failures: Cache::memory(), clock })
    }

    /// Judges what somebody at this address showed.
    pub(crate) async fn judge(&self, ip: IpAddr, shown: Option<&str>) -> Verdict {
        let Some(secret) = &self.secret else { return Verdict::Closed };
        let (max, window) = ADMIN_FAILURES_MAX;
        let (key, now_ms) = (ip.to_canonical().to_string(), self.clock.now_ms());
        // A cache in memory is never away.
        if self.failures.count(&key, now_ms).await.is_ok_and(|failed| failed >= max) {
            return Verdict::TooOften;
        }
        if shown.is_some_and(|shown| secret.is(shown)) {
            return Verdict::Welcome;
        }
        let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        let _counted = self.failures.incr(&key, window_ms, now_ms).await;
        Verdict::Wrong
    }
}

impl Known {
    fn new(secret: &str) -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.expect("the system has a source of randomness");
        let tag = hmac::sign(&key, secret.as_bytes());
        Self { key, tag }
    }

    fn is(&self, shown: &str) -> bool {
        hmac::verify(&self.key, shown.as_bytes(), self.tag.as_ref()).is_ok()
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret, failures: _, clock: _ } = self;
        f.debug_struct("Guard").field("open", &secret.is_some()).finish_non_exhaustive()
    }
}

/// The secret of the configuration; in `dev` that of its file, which is made when it is not there.
pub(crate) fn secret(config: &config::Admin) -> Result<Option<config::Secret>, SecretError> {
    match (&config.secret, &config.secret_file) {
        (Some(secret), _) => Ok(Some(secret.clone())),
        (None, Some(path)) => Ok(Some(config::Secret(from_file(path)?))),
        (None, None) => Ok(None),
    }
}

/// The secret in the file, made when it is not there. Nobody but its owner may read it.
fn from_file(path: &Path) -> Result<String, SecretError> {
    let failed = |source| SecretError::File { path: path.to_owned(), source };
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
        return Err(SecretError::Short { path: path.to_owned() });
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
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn guard(secret: Option<&str>) -> (Guard, Clock) {
        let secret = secret.map(|s| config::Secret(s.to_owned()));
        let config = config::Admin { secret, ..config::Admin::default() };
        let clock = Clock::fixed(0);
        (Guard::of(&config, clock.clone()).unwrap(), clock)
    }

    #[tokio::test]
    async fn only_who_knows_the_secret_is_let_in_and_without_one_nobody_is() {
        let (open, _) = guard(Some("a-secret-of-24-characters"));
        assert_eq!(open.judge(HERE, Some("a-secret-of-24-characters")).await, Verdict::Welcome);
        for wrong in [None, Some(""), Some("a-secret-of-24-character"), Some("something else")] {
            assert_eq!(open.judge(HERE, wrong).await, Verdict::Wrong);
        }
        assert_eq!(guard(None).0.judge(HERE, Some("")).await, Verdict::Closed);
        assert!(!format!("{open:?}").contains("a-secret"));
    }

    #[tokio::test]
    async fn who_guesses_too_often_waits_and_others_do_not() {
        let (guard, clock) = guard(Some("a-secret-of-24-characters"));
        let right = Some("a-secret-of-24-characters");
        for _ in 0..ADMIN_FAILURES_MAX.0 {
            assert_eq!(guard.judge(HERE, Some("wrong")).await, Verdict::Wrong);
        }
        assert_eq!(guard.judge(HERE, right).await, Verdict::TooOften);
        assert_eq!(guard.judge([10, 0, 0, 1].into(), right).await, Verdict::Welcome);
        clock.set(60_000);
        assert_eq!(guard.judge(HERE, right).await, Verdict::Welcome);
    }

    #[test]
    fn the_file_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/admin.secret");
        let secret = from_file(&path).unwrap();
        assert_eq!(secret.len(), 64);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(from_file(&path).unwrap(), secret);
        assert_eq!(mode(&path), 0o600, "as it should have been");
        fs::write(&path, "short").unwrap();
        let said = from_file(&path).unwrap_err().to_string();
        assert!(said.contains("admin.secret") && said.contains("delete it"), "{said}");
    }
}
