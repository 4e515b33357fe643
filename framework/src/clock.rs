//! Owns the wall clock: the only place that reads it, so that a test can set it.

use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(test)]
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

/// Tells the time of day, in milliseconds since 1970.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    #[cfg(test)]
    Set(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub(crate) fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `ms` until [`Clock::set`]; all clones share it.
    #[cfg(test)]
    pub(crate) fn fixed(ms: i64) -> Self {
        Self(Source::Set(Arc::new(AtomicI64::new(ms))))
    }

    /// Sets a fixed clock; the machine's clock stays as it is.
    #[cfg(test)]
    pub(crate) fn set(&self, ms: i64) {
        if let Source::Set(now) = &self.0 {
            now.store(ms, Ordering::Relaxed);
        }
    }

    /// Milliseconds since 1970-01-01 00:00 UTC.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the wall clock"
    )]
    pub(crate) fn now_ms(&self) -> i64 {
        match &self.0 {
            #[cfg(test)]
            Source::Set(now) => now.load(Ordering::Relaxed),
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}
