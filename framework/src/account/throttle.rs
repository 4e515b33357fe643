//! Owns how many wrong passwords a name and an IP may try. Counts in the cache.
//! Leaves what a wrong password is to `center`.

use std::{net::IpAddr, time::Duration};

use super::rules;
use crate::{
    clock::Clock,
    store::{Cache, CacheError, username_key},
};

/// Five failures within five minutes: 1440 guesses a day and name, against six bytes at least.
const FAILURES_MAX: u64 = 5;
const WINDOW_MS: i64 = 5 * 60 * 1000;

/// Counts failures by name and by IP.
#[derive(Debug)]
pub(super) struct Throttle {
    cache: Cache,
    clock: Clock,
}

/// Who tries: the keys under which a failure is counted.
pub(super) struct Trier {
    keys: Vec<String>,
}

impl Throttle {
    pub(super) fn new(cache: Cache, clock: Clock) -> Self {
        Self { cache, clock }
    }

    /// How long the name or the IP, having failed too often, may not try again: until the later of
    /// their windows is over. `None`: it may.
    pub(super) async fn blocks(&self, trier: &Trier) -> Result<Option<Duration>, CacheError> {
        let now_ms = self.clock.now_ms();
        let mut blocked = None;
        for key in &trier.keys {
            if self.cache.count(key, now_ms).await? >= FAILURES_MAX {
                let left_ms = self.cache.window_ms(key, now_ms).await?.unwrap_or(0);
                let left = Duration::from_millis(left_ms.max(0).unsigned_abs());
                blocked = blocked.max(Some(left));
            }
        }
        Ok(blocked)
    }

    /// Counts a failure.
    pub(super) async fn failed(&self, trier: &Trier) -> Result<(), CacheError> {
        let now_ms = self.clock.now_ms();
        for key in &trier.keys {
            if self.cache.incr(key, WINDOW_MS, now_ms).await? == FAILURES_MAX {
                tracing::info!(target: "account", limit = FAILURES_MAX, "sign-in throttled");
            }
        }
        Ok(())
    }
}

impl Trier {
    /// Whom a validator is asked about.
    pub(super) fn of_identity(validator: &str, id: Option<&str>, ip: Option<&str>) -> Self {
        let id = id.map(|id| format!("account.failed.id.{validator}.{}", id.to_lowercase()));
        Self { keys: id.into_iter().chain(by_ip(ip)).collect() }
    }

    /// A name that could never be registered is counted by IP alone: it would fill the cache.
    pub(super) fn new(username: &str, ip: Option<&str>) -> Self {
        let name = rules::is_username(username)
            .then(|| format!("account.failed.name.{}", username_key(username)));
        Self { keys: name.into_iter().chain(by_ip(ip)).collect() }
    }

    /// For who names an account by its number, and there is none, or it has no name.
    pub(super) fn of_account(account: i64, ip: Option<&str>) -> Self {
        let number = format!("account.failed.id.{account}");
        Self { keys: [number].into_iter().chain(by_ip(ip)).collect() }
    }
}

fn by_ip(ip: Option<&str>) -> Option<String> {
    ip.map(|ip| format!("account.failed.ip.{}", network(ip)))
}

/// One IPv6 customer has 2^64 addresses, so their first half stands for all of them.
pub(super) fn network(ip: &str) -> String {
    match ip.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.to_string(),
        Ok(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn five_failures_block_a_name_in_any_case_and_an_ip_for_five_minutes() {
        let clock = Clock::fixed(0);
        let throttle = Throttle::new(Cache::memory(), clock.clone());
        let anna = Trier::new("Anna", Some("10.0.0.1"));
        for _ in 0..5 {
            assert_eq!(throttle.blocks(&anna).await, Ok(None));
            throttle.failed(&anna).await.unwrap();
        }
        clock.set(1000);
        for blocked in [
            Trier::new("aNNA", Some("10.0.0.2")),
            Trier::new("ａｎｎａ", Some("10.0.0.2")),
            Trier::new("bert", Some("::ffff:10.0.0.1")),
        ] {
            let left = Duration::from_millis(WINDOW_MS.unsigned_abs() - 1000);
            assert_eq!(throttle.blocks(&blocked).await, Ok(Some(left)));
        }
        assert_eq!(throttle.blocks(&Trier::new("bert", Some("10.0.0.2"))).await, Ok(None));
        clock.set(WINDOW_MS);
        assert_eq!(throttle.blocks(&anna).await, Ok(None));
    }

    #[tokio::test]
    async fn who_is_blocked_twice_waits_for_the_later_end() {
        let clock = Clock::fixed(0);
        let throttle = Throttle::new(Cache::memory(), clock.clone());
        for (at_ms, trier) in
            [(0, Trier::new("anna", None)), (2000, Trier::new("a b", Some("10.0.0.1")))]
        {
            clock.set(at_ms);
            for _ in 0..5 {
                throttle.failed(&trier).await.unwrap();
            }
        }
        clock.set(5000);
        let left = Duration::from_millis(WINDOW_MS.unsigned_abs() - 3000);
        let both = Trier::new("anna", Some("10.0.0.1"));
        assert_eq!(throttle.blocks(&both).await, Ok(Some(left)));
    }

    #[test]
    fn a_customer_of_ipv6_is_one_network() {
        assert_eq!(network("2001:db8:1:2:3::4"), network("2001:db8:1:2:ffff::1"));
        assert_ne!(network("2001:db8:1:2::"), network("2001:db8:1:3::"));
        assert_eq!(Trier::new("a b", Some("nonsense")).keys, ["account.failed.ip.unknown"]);
        assert!(Trier::new("a b", None).keys.is_empty());
    }
}
