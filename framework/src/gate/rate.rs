//! Owns the frame budget of one connection: a token bucket in two numbers, no map, no timer.

use tokio::time::Instant;

/// Frames that a connection may send: `rate` a second, `burst` at once; refused beyond that,
/// closed beyond ten times that.
#[derive(Debug)]
pub(crate) struct Budget {
    allowed: Bucket,
    tolerated: Bucket,
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow,
    /// Answer 1007; the connection lives on.
    Refuse,
    /// Far above the rate: close.
    Close,
}

/// How many times the rate a client may send before it is cut off instead of refused.
const TOLERANCE: u32 = 10;

impl Budget {
    /// `frames_per_s` of 0 allows everything: for benchmarks.
    pub(crate) fn new(frames_per_s: u32, burst: u32, now: Instant) -> Self {
        let tolerated = frames_per_s.saturating_mul(TOLERANCE);
        Self {
            allowed: Bucket::new(frames_per_s, burst, now),
            tolerated: Bucket::new(tolerated, burst.saturating_mul(TOLERANCE), now),
        }
    }

    /// Judges one frame that arrived at `now`.
    #[inline]
    pub(crate) fn judge(&mut self, now: Instant) -> Verdict {
        if self.allowed.frames_per_s == 0.0 {
            Verdict::Allow
        } else if !self.tolerated.take(now) {
            Verdict::Close
        } else if self.allowed.take(now) {
            Verdict::Allow
        } else {
            Verdict::Refuse
        }
    }
}

#[derive(Debug)]
struct Bucket {
    frames_per_s: f64,
    burst: f64,
    left: f64,
    filled: Instant,
}

impl Bucket {
    fn new(frames_per_s: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { frames_per_s: f64::from(frames_per_s), burst, left: burst, filled: now }
    }

    #[inline]
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled);
        if !passed.is_zero() {
            self.left = (self.left + passed.as_secs_f64() * self.frames_per_s).min(self.burst);
            self.filled = now;
        }
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn verdicts(budget: &mut Budget, frames: usize, now: Instant) -> [usize; 3] {
        let mut count = [0; 3];
        for _ in 0..frames {
            count[budget.judge(now) as usize] += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_then_refused_and_ten_times_as_much_closes() {
        let now = Instant::now();
        let mut budget = Budget::new(100, 200, now);
        assert_eq!(verdicts(&mut budget, 2000, now), [200, 1800, 0]);
        assert_eq!(budget.judge(now), Verdict::Close);
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_refills_with_time_up_to_the_burst() {
        let now = Instant::now();
        let mut budget = Budget::new(100, 200, now);
        verdicts(&mut budget, 200, now);
        assert_eq!(verdicts(&mut budget, 150, now + Duration::from_secs(1)), [100, 50, 0]);
        assert_eq!(verdicts(&mut budget, 300, now + Duration::from_secs(60)), [200, 100, 0]);
    }

    #[tokio::test]
    async fn a_rate_of_zero_allows_everything() {
        let mut budget = Budget::new(0, 0, Instant::now());
        assert_eq!(verdicts(&mut budget, 5000, Instant::now()), [5000, 0, 0]);
    }
}
