//! Owns who may give orders: whoever knows the operators' secret, and does not guess too often.
//! Leaves where a secret comes from to `secret`.

use std::{fmt, net::IpAddr};

use crate::{
    clock::Clock,
    config,
    limits::ADMIN_FAILURES_MAX,
    secret::{self, Known, SecretError},
    store::Cache,
};

/// Lets in who knows the secret, and slows down who guesses.
pub(crate) struct Guard {
    /// `None`: nobody is let in.
    secret: Option<Known>,
    failures: Cache,
    clock: Clock,
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

impl Guard {
    /// With the secret of the configuration; in `dev` with that of its file, which is made when
    /// it is not there.
    pub(crate) fn of(config: &config::Admin, clock: Clock) -> Result<Self, SecretError> {
        let secret = secret::of("admin.secret", &config.secret, &config.secret_file)?;
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

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret, failures: _, clock: _ } = self;
        f.debug_struct("Guard").field("open", &secret.is_some()).finish_non_exhaustive()
    }
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
}
