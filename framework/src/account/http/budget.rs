//! Owns how many requests one address may send to one route. Each account center counts for itself
//! and in memory: this bounds what one address costs it, and is no rule of signing in.
//! Leaves wrong passwords to `throttle`.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::super::throttle::network;

/// Long enough for everybody behind one address to come at once and be let in.
const WINDOW_MS: i64 = 10_000;

/// Addresses, times the routes they ask, counted in one window: some 8 MB. Beyond: not counted,
/// for to refuse who has asked once would be worse.
const COUNTS_MAX: usize = 65_536;

/// Counts requests by address and route.
#[derive(Debug)]
pub(super) struct Budgets {
    /// What one address may ask of one route in one window; `None`: anything.
    per_window: Option<u64>,
    /// Std mutex: held for a look-up, never across an await.
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    ends_ms: i64,
    counts: HashMap<(String, &'static str), u64>,
}

impl Budgets {
    /// `per_ip_s` requests a second, counted over ten; 0: as many as they like.
    pub(super) fn new(per_ip_s: u32) -> Self {
        let per_window = u64::from(per_ip_s) * WINDOW_MS.unsigned_abs() / 1000;
        Self { per_window: (per_ip_s > 0).then_some(per_window), window: Mutex::default() }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// The time until the window is over, when it was one too many.
    pub(super) fn spend(
        &self,
        ip: IpAddr,
        path: &'static str,
        now_ms: i64,
    ) -> Result<(), Duration> {
        let Some(per_window) = self.per_window else { return Ok(()) };
        // A load balancer there that nobody named in `account.proxies` would be one address for
        // all players; and who has this machine needs no flood.
        if ip.to_canonical().is_loopback() {
            return Ok(());
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        // The second half is for a clock that was set back.
        if now_ms >= window.ends_ms || window.ends_ms - now_ms > WINDOW_MS {
            *window = Window { ends_ms: now_ms + WINDOW_MS, counts: HashMap::new() };
        }
        let (key, full) = ((network(&ip.to_string()), path), window.counts.len() >= COUNTS_MAX);
        if full && !window.counts.contains_key(&key) {
            return Ok(());
        }
        let count = window.counts.entry(key).or_default();
        *count += 1;
        match *count <= per_window {
            true => Ok(()),
            false => Err(Duration::from_millis((window.ends_ms - now_ms).unsigned_abs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5));

    #[test]
    fn an_address_that_has_spent_its_window_waits_for_its_end_and_no_other_does() {
        let budgets = Budgets::new(2);
        for now_ms in 1000..1020 {
            assert_eq!(budgets.spend(HERE, "/a", now_ms), Ok(()));
        }
        assert_eq!(budgets.spend(HERE, "/a", 4000), Err(Duration::from_millis(7000)));
        assert_eq!(budgets.spend(HERE, "/b", 4000), Ok(()), "another route");
        assert_eq!(budgets.spend([203, 0, 113, 6].into(), "/a", 4000), Ok(()));
        assert_eq!(budgets.spend(HERE, "/a", 10_999), Err(Duration::from_millis(1)));
        assert_eq!(budgets.spend(HERE, "/a", 11_000), Ok(()));
    }

    #[test]
    fn a_customer_of_ipv6_is_one_address_and_this_machine_is_none() {
        let budgets = Budgets::new(1);
        let ip = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
        let refused = (0..11).filter(|n| budgets.spend(ip(*n), "/a", 0).is_err()).count();
        assert_eq!(refused, 1);
        for here in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let here = here.parse().unwrap();
            assert!((0..20).all(|_| budgets.spend(here, "/a", 0).is_ok()), "{here}");
        }
        let off = Budgets::new(0);
        assert!((0..100_000).all(|_| off.spend(HERE, "/a", 0).is_ok()));
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nobody_out() {
        let budgets = Budgets::new(1);
        while budgets.spend(HERE, "/a", 1_000_000).is_ok() {}
        assert_eq!(budgets.spend(HERE, "/a", 0), Ok(()));
    }

    #[test]
    fn more_addresses_than_are_counted_are_let_in() {
        let budgets = Budgets::new(1);
        for n in 0..=u32::try_from(COUNTS_MAX).unwrap() {
            assert_eq!(budgets.spend(IpAddr::V4((n + (1 << 24)).into()), "/a", 0), Ok(()));
        }
        assert_eq!(budgets.window.lock().unwrap().counts.len(), COUNTS_MAX);
    }
}
