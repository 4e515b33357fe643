//! Owns when a room ticks: by a schedule from its beginning, so that nothing adds up, and what
//! becomes of ticks that come too late.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::Overrun;

const SECOND_NS: u128 = 1_000_000_000;

/// The beat of one room.
pub(super) struct Pace {
    per_s: u32,
    overrun: Overrun,
    start: Instant,
    /// The next tick's number, by the schedule.
    next: u64,
    timer: Pin<Box<Sleep>>,
}

/// A tick that is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    /// The time that it is for.
    pub(super) dt: Duration,
    /// The one behind it was due already.
    pub(super) late: bool,
    /// Ticks before it that never were.
    pub(super) left_out: u64,
}

impl Pace {
    /// A beat that begins within a span, by chance: rooms that were opened together do not all tick
    /// at once.
    pub(super) fn new(per_s: u32, overrun: Overrun, now: Instant, chance: u64) -> Option<Self> {
        if per_s == 0 {
            return None;
        }
        let span = span(per_s);
        let start = now + span * (chance % 1024) as u32 / 1024;
        let timer = Box::pin(sleep_until(start + span));
        Some(Self { per_s, overrun, start, next: 1, timer })
    }

    /// Ready when a tick is due.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().poll(cx)
    }

    /// The tick that is due begins.
    pub(super) fn begin(&mut self, now: Instant) -> Tick {
        let behind = self.behind(now);
        let (left_out, dt) = match self.overrun {
            Overrun::Skip => {
                let spans = u32::try_from(behind + 1).unwrap_or(u32::MAX);
                (behind, span(self.per_s).saturating_mul(spans))
            }
            Overrun::CatchUp => (behind.saturating_sub(u64::from(self.per_s)), span(self.per_s)),
        };
        self.set_next(self.next + left_out + 1);
        Tick { dt, late: behind > 0, left_out }
    }

    /// The ticks that are due are not to be.
    pub(super) fn pass(&mut self, now: Instant) {
        self.set_next(self.next + self.behind(now) + 1);
    }

    /// How many ticks are due beside the next one.
    pub(super) fn behind(&self, now: Instant) -> u64 {
        let gone = now.saturating_duration_since(self.start).as_nanos();
        let due = gone.saturating_mul(u128::from(self.per_s)) / SECOND_NS;
        u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(self.next)
    }

    fn set_next(&mut self, next: u64) {
        self.next = next;
        // Rounded up: when it is due, `behind` says so too.
        let ns = (u128::from(next) * SECOND_NS).div_ceil(u128::from(self.per_s));
        let since = Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
        self.timer.as_mut().reset(self.start + since);
    }
}

fn span(per_s: u32) -> Duration {
    Duration::from_secs(1) / per_s
}
