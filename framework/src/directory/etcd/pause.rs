//! Owns how long a loop waits before it asks etcd again, and what the log hears of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::Rng as _;

use super::EtcdError;
use crate::{
    limits::{ETCD_PAUSE_MAX, ETCD_PAUSE_MIN},
    outage::Outage,
};

/// etcd, as the loops together see it: it is back only when each of them says so, since etcd
/// may do one thing and refuse another, and the log must not waver with it.
#[derive(Debug)]
pub(super) struct Health {
    outage: Outage,
    /// How many loops are without etcd.
    without: AtomicUsize,
}

impl Health {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { outage: Outage::new("discovery.etcd"), without: AtomicUsize::new(0) })
    }
}

/// One loop's patience with etcd.
#[derive(Debug)]
pub(super) struct Patience {
    health: Arc<Health>,
    failing: bool,
    pause: Duration,
    pause_max: Duration,
}

impl Patience {
    /// Pauses between tries are never longer than `pause_max`.
    pub(super) fn new(health: &Arc<Health>, pause_max: Duration) -> Self {
        let pause_max = pause_max.min(ETCD_PAUSE_MAX);
        let pause = ETCD_PAUSE_MIN.min(pause_max);
        Self { health: health.clone(), failing: false, pause, pause_max }
    }

    /// etcd did what this loop needs.
    pub(super) fn fine(&mut self) {
        self.pause = ETCD_PAUSE_MIN.min(self.pause_max);
        if self.failing {
            self.failing = false;
            if self.health.without.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.health.outage.back();
            }
        }
    }

    /// It did not. How long to wait before the next try.
    pub(super) fn failed(&mut self, why: &EtcdError) -> Duration {
        if !self.failing {
            self.failing = true;
            self.health.without.fetch_add(1, Ordering::AcqRel);
        }
        self.health.outage.away(why);
        self.pause()
    }

    /// How long to wait before the next try, when nothing is wrong with etcd.
    pub(super) fn pause(&mut self) -> Duration {
        let longest = self.pause;
        self.pause = (longest * 2).min(self.pause_max);
        // Half of it is chance, so that a thousand nodes do not come back at the same instant.
        longest.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        let Self { health, failing, pause: _, pause_max: _ } = self;
        if *failing {
            health.without.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_an_answer() {
        let mut patience = Patience::new(&Health::new(), Duration::from_secs(1));
        for longest in [100, 200, 400, 800, 1000, 1000] {
            let pause = patience.failed(&EtcdError::TimedOut).as_millis();
            assert!((longest / 2..=longest).contains(&pause), "{pause} of {longest}");
        }
        patience.fine();
        assert!(patience.pause() <= Duration::from_millis(100));
    }

    #[test]
    fn etcd_is_back_only_when_every_loop_has_it_again() {
        let health = Health::new();
        let mut one = Patience::new(&health, ETCD_PAUSE_MAX);
        let mut two = Patience::new(&health, ETCD_PAUSE_MAX);
        let mut three = Patience::new(&health, ETCD_PAUSE_MAX);
        let away = |patience: &mut Patience| _ = patience.failed(&EtcdError::TimedOut);
        let known = |health: &Health| !health.outage.away(&"asked by the test");
        away(&mut one);
        away(&mut two);
        away(&mut two);
        one.fine();
        three.fine();
        assert!(known(&health), "one loop still lacks it");
        two.fine();
        assert!(!known(&health), "it was told as back, so this is news");
        away(&mut three);
        drop(three);
        assert_eq!(health.without.load(Ordering::Relaxed), 0, "who ended lacks nothing");
    }
}
