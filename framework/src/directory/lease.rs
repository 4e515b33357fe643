//! Owns until when this node may run what it claims.
//!
//! Two witnesses renew it, discovery and the claims, each for a lease from the moment at which it
//! was asked. One is enough: so neither's outage stops a game. A claim is taken over only when
//! both have given this node up, so whoever lives by these times runs nothing that another has.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::limits::{ETCD_PROBE_DEADLINE, ETCD_PROBE_INTERVAL};

/// How much earlier than the witnesses this node gives itself up: what lies between asking for the
/// time and acting on it, on a busy machine.
const MARGIN: Duration = Duration::from_millis(500);

/// How long another node may go on with an older view of discovery: until it notices that its
/// connection is silent.
const SEEN_BY_ALL: Duration = ETCD_PROBE_INTERVAL.saturating_add(ETCD_PROBE_DEADLINE);

/// How often a node that starts looks whether it holds its lease.
const HELD_AGAIN: Duration = Duration::from_millis(5);

/// The right to run entities. A clone is the same right.
#[derive(Clone, Debug)]
pub(crate) struct Lease(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    ttl: Duration,
    /// In µs since `began`.
    until_us: AtomicU64,
    /// Std mutex: held to compare times.
    discovery: Mutex<Discovery>,
}

#[derive(Debug)]
struct Discovery {
    /// Until when discovery has shown this node without a gap.
    until: Instant,
    /// There was no gap since the claims last said that nobody took over.
    unbroken: bool,
    /// Until when the claims hold the node's lease.
    claims_until: Instant,
}

impl Lease {
    /// The right of a process that is alone: it never ends.
    pub(crate) fn for_ever() -> Self {
        Self::with(Duration::ZERO, u64::MAX)
    }

    /// A right that is not held before a witness has spoken.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self::with(ttl.saturating_sub(MARGIN), 0)
    }

    fn with(ttl: Duration, until_us: u64) -> Self {
        let began = Instant::now();
        let discovery =
            Mutex::new(Discovery { until: began, unbroken: false, claims_until: began });
        Self(Arc::new(Shared { began, ttl, until_us: until_us.into(), discovery }))
    }

    /// Whether entities may run at `now`.
    #[inline]
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.micros(now) < self.0.until_us.load(Ordering::Acquire)
    }

    /// Ready when it is held.
    pub(crate) async fn held(&self) {
        while !self.holds(Instant::now()) {
            sleep(HELD_AGAIN).await;
        }
    }

    /// Discovery answered what was asked at `sent`: it shows this node.
    pub(crate) fn proved_by_discovery(&self, sent: Instant) {
        let mut discovery = self.0.discovery.lock().unwrap_or_else(PoisonError::into_inner);
        if sent > discovery.until {
            // It was gone in between, and somebody may act on that as soon as the claims give the
            // node up too: unless they hold it until everybody has seen that it is there again.
            discovery.unbroken = discovery.claims_until > Instant::now() + SEEN_BY_ALL;
        }
        discovery.until = discovery.until.max(sent + self.0.ttl);
        if discovery.unbroken {
            self.extend(sent);
        }
    }

    /// The claims answered what was asked at `sent`: nobody took over from this node.
    pub(crate) fn proved_by_claims(&self, sent: Instant) {
        {
            let mut discovery = self.0.discovery.lock().unwrap_or_else(PoisonError::into_inner);
            discovery.unbroken = true;
            discovery.claims_until = discovery.claims_until.max(sent + self.0.ttl);
        }
        self.extend(sent);
    }

    /// Somebody took over: nothing may run here until the claims speak for this node again.
    pub(crate) fn lost(&self) {
        {
            let mut discovery = self.0.discovery.lock().unwrap_or_else(PoisonError::into_inner);
            discovery.unbroken = false;
            discovery.claims_until = self.0.began;
        }
        self.0.until_us.store(0, Ordering::Release);
    }

    fn extend(&self, sent: Instant) {
        self.0.until_us.fetch_max(self.micros(sent + self.0.ttl), Ordering::AcqRel);
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0.began).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    async fn pass(seconds: u64) -> Instant {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn one_process_alone_holds_it_for_ever_and_a_new_node_not_before_the_claims_spoke() {
        let now = Instant::now();
        assert!(Lease::for_ever().holds(now + TTL * 1000));
        let lease = Lease::new(TTL);
        lease.proved_by_discovery(now);
        assert!(!lease.holds(now));
        lease.proved_by_claims(now);
        assert!(lease.holds(now));
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_a_little_before_the_witness_that_spoke_last_gives_the_node_up() {
        let lease = Lease::new(TTL);
        let began = Instant::now();
        lease.proved_by_discovery(began);
        lease.proved_by_claims(began);
        let now = pass(5).await;
        lease.proved_by_discovery(began + Duration::from_secs(3));
        assert!(lease.holds(now + Duration::from_secs(7)));
        assert!(!lease.holds(began + Duration::from_secs(13)));
    }

    #[tokio::test(start_paused = true)]
    async fn either_witness_alone_keeps_it() {
        let lease = Lease::new(TTL);
        lease.proved_by_discovery(Instant::now());
        lease.proved_by_claims(Instant::now());
        for _ in 0..10 {
            let now = pass(3).await;
            assert!(lease.holds(now));
            lease.proved_by_discovery(now);
        }
        for _ in 0..10 {
            let now = pass(3).await;
            assert!(lease.holds(now));
            lease.proved_by_claims(now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_discovery_did_not_show_before_it_shows_in_time_while_the_claims_hold() {
        for (seconds, kept) in [(0, true), (1, true), (2, false), (9, false)] {
            let lease = Lease::new(TTL);
            lease.proved_by_claims(Instant::now());
            // The claims are away from now on.
            let shown = pass(seconds).await;
            lease.proved_by_discovery(shown);
            assert_eq!(lease.holds(shown + Duration::from_secs(9)), kept, "{seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_gap_discovery_alone_does_not_give_it_back() {
        let lease = Lease::new(TTL);
        lease.proved_by_claims(Instant::now());
        lease.proved_by_discovery(Instant::now());
        let now = pass(30).await;
        lease.proved_by_discovery(now);
        assert!(!lease.holds(now), "another node may have taken over");
        lease.proved_by_claims(now);
        assert!(lease.holds(now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_take_over_ends_it_at_once() {
        let lease = Lease::new(TTL);
        lease.proved_by_claims(Instant::now());
        lease.lost();
        assert!(!lease.holds(Instant::now()));
        lease.proved_by_discovery(Instant::now());
        assert!(!lease.holds(Instant::now()));
    }
}
