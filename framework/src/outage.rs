//! Owns what is said of a service that is away: once, then each minute, and once when it is back.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How often an outage that lasts is told again.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// One service, as those who need it see it.
#[derive(Debug)]
pub(crate) struct Outage {
    service: &'static str,
    /// Std mutex: held to compare two times. `None`: it answers.
    away: Mutex<Option<Away>>,
}

#[derive(Debug)]
struct Away {
    since: Instant,
    told: Instant,
}

impl Outage {
    /// A service of which nothing bad is known. Its name is the configuration key that leads to
    /// it, such as `cache.redis`.
    pub(crate) fn new(service: &'static str) -> Self {
        Self { service, away: Mutex::default() }
    }

    /// It did not answer. Says whether that is news.
    pub(crate) fn away(&self, why: &dyn fmt::Display) -> bool {
        let now = Instant::now();
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let first = away.is_none();
        let Away { since, told } = away.get_or_insert(Away { since: now, told: now });
        if !first && now - *told < TOLD_AGAIN {
            return false;
        }
        *told = now;
        let seconds = (now - *since).as_secs();
        tracing::warn!(
            target: "node", service = self.service, seconds,
            "away, and tried again: {why}; what needs it is refused, games go on"
        );
        true
    }

    /// It answered. Says whether that is news.
    pub(crate) fn back(&self) -> bool {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Away { since, told: _ }) = &away {
            let seconds = since.elapsed().as_secs();
            tracing::info!(target: "node", service = self.service, seconds, "back");
        }
        away.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_then_each_minute_and_its_end_once() {
        let outage = Outage::new("cache.redis");
        assert!(!outage.back());
        assert!(outage.away(&"refused"));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!outage.away(&"refused"));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(outage.away(&"refused"));
        assert!(!outage.away(&"refused"));
        assert!(outage.back());
        assert!(!outage.back());
        assert!(outage.away(&"refused"), "a new outage is news");
    }
}
