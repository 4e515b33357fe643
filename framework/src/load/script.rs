//! Owns which message of a connection is due when. Pure: it is told the time, and knows no sockets.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Requests of one connection that are under way at most where the clock says when they are due.
/// Beyond: they are sent later, and their latency counts from when they were due.
pub(super) const UNDER_WAY_MAX: usize = 1024;

/// When messages of a step are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Pace {
    /// As soon as fewer than so many are under way: a closed loop.
    Depth(usize),
    /// So long after the answer to the one before.
    Pause(Duration),
    /// One each so long, whatever has become of those before: an open loop.
    Every(Duration),
}

/// Some messages of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) times: u64,
    pub(super) pace: Pace,
    /// Whether it gets an answer.
    pub(super) is_request: bool,
}

/// What a connection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Sends a message of this step, which was due then.
    Send { step: usize, due: Instant },
    /// Nothing before then.
    At(Instant),
    /// Nothing before an answer comes.
    Answer,
    /// Nothing any more.
    Over,
}

/// The steps of one connection, played over and over until the end.
#[derive(Debug)]
pub(super) struct Script {
    turns: Vec<Turn>,
    step: usize,
    /// Messages of the step that are to come.
    left: u64,
    /// When the next message is due, or before which it is not.
    next: Instant,
    ends: Instant,
}

impl Script {
    /// `turns` is not empty, and each has messages.
    pub(super) fn new(turns: Vec<Turn>, begins: Instant, ends: Instant) -> Self {
        let left = turns[0].times;
        Self { turns, step: 0, left, next: begins, ends }
    }

    /// What to do now, with so many requests under way.
    pub(super) fn next(&mut self, now: Instant, under_way: usize) -> Next {
        let turn = self.turns[self.step];
        if self.next >= self.ends {
            return Next::Over;
        }
        if now < self.next {
            return Next::At(self.next);
        }
        let (under_way_max, due) = match turn.pace {
            Pace::Depth(depth) => (depth, now),
            Pace::Pause(_) => (1, now),
            Pace::Every(_) => (UNDER_WAY_MAX, self.next),
        };
        if due >= self.ends {
            return Next::Over;
        }
        if under_way >= under_way_max {
            return Next::Answer;
        }
        let step = self.step;
        match turn.pace {
            Pace::Pause(pause) if !turn.is_request => self.next = now + pause,
            Pace::Depth(_) | Pace::Pause(_) => {}
            Pace::Every(interval) => self.next += interval,
        }
        self.left -= 1;
        if self.left == 0 {
            self.turn(now);
        }
        Next::Send { step, due }
    }

    /// Nothing is due any more from then on.
    pub(super) fn stop(&mut self, at: Instant) {
        self.ends = self.ends.min(at);
    }

    /// An answer has come to a message of this step.
    pub(super) fn answered(&mut self, step: usize, now: Instant) {
        if let Pace::Pause(pause) = self.turns[step].pace {
            self.next = self.next.max(now + pause);
        }
    }

    /// Goes on to the next step.
    fn turn(&mut self, now: Instant) {
        let before = self.turns[self.step].pace;
        self.step = (self.step + 1) % self.turns.len();
        let after = self.turns[self.step];
        self.left = after.times;
        // What is due by the clock is due from here on, unless the clock has been running already.
        if !matches!(before, Pace::Every(_)) && matches!(after.pace, Pace::Every(_)) {
            self.next = self.next.max(now);
        }
    }

    /// Messages that the clock has said are due before the end, and that were not sent.
    pub(super) fn unsent(&self) -> u64 {
        match self.turns[self.step].pace {
            Pace::Every(interval) => {
                let rest = self.ends.saturating_duration_since(self.next);
                u64::try_from(rest.as_nanos().div_ceil(interval.as_nanos().max(1)))
                    .unwrap_or(u64::MAX)
            }
            Pace::Depth(_) | Pace::Pause(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn turn(times: u64, pace: Pace) -> Turn {
        Turn { times, pace, is_request: true }
    }

    fn sends(script: &mut Script, now: Instant, under_way: &mut usize) -> Vec<(usize, Instant)> {
        let mut sent = Vec::new();
        while let Next::Send { step, due } = script.next(now, *under_way) {
            *under_way += 1;
            sent.push((step, due));
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_keeps_its_depth_until_the_end() {
        let now = Instant::now();
        let mut script = Script::new(vec![turn(2, Pace::Depth(3))], now + MS, now + 9 * MS);
        let mut under_way = 0;
        assert_eq!(script.next(now, 0), Next::At(now + MS), "not before the beginning");
        let sent = sends(&mut script, now + 2 * MS, &mut under_way);
        assert_eq!(sent, [(0, now + 2 * MS); 3]);
        assert_eq!(script.next(now + 3 * MS, 3), Next::Answer);
        assert_eq!(sends(&mut script, now + 4 * MS, &mut 1).len(), 2);
        assert_eq!(script.next(now + 9 * MS, 0), Next::Over);
    }

    /// A server that stands still for 50 ms: what was due meanwhile waits from when it was due.
    #[tokio::test(start_paused = true)]
    async fn in_an_open_loop_what_is_late_was_due_when_it_was_due() {
        let now = Instant::now();
        let every = Pace::Every(10 * MS);
        let mut script = Script::new(vec![turn(1, every)], now, now + 100 * MS);
        let mut under_way = 0;
        assert_eq!(sends(&mut script, now, &mut under_way), [(0, now)]);
        assert_eq!(script.next(now, 1), Next::At(now + 10 * MS));
        let late = sends(&mut script, now + 55 * MS, &mut under_way);
        let due: Vec<_> = (1..=5).map(|n| (0, now + n * 10 * MS)).collect();
        assert_eq!(late, due, "one each 10 ms, whatever became of those before");
        assert_eq!(script.next(now + 55 * MS, UNDER_WAY_MAX), Next::At(now + 60 * MS));
        assert_eq!(script.next(now + 60 * MS, UNDER_WAY_MAX), Next::Answer, "no room for more");
        assert_eq!(script.unsent(), 4, "at 60, 70, 80 and 90 ms");
        let late = sends(&mut script, now + 300 * MS, &mut under_way);
        assert_eq!(late.len(), 4, "all that were due before the end, also after it");
        assert_eq!((late[0].1, script.unsent()), (now + 60 * MS, 0));
        assert_eq!(script.next(now + 300 * MS, 0), Next::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_begins_with_the_answer_and_an_input_needs_none() {
        let now = Instant::now();
        let pause = Pace::Pause(20 * MS);
        let mut script = Script::new(vec![turn(9, pause)], now, now + 1000 * MS);
        assert_eq!(sends(&mut script, now, &mut 0).len(), 1);
        assert_eq!(script.next(now + 30 * MS, 1), Next::Answer);
        script.answered(0, now + 30 * MS);
        assert_eq!(script.next(now + 31 * MS, 0), Next::At(now + 50 * MS));

        let input = Turn { is_request: false, ..turn(9, pause) };
        let mut script = Script::new(vec![input], now, now + 1000 * MS);
        assert_eq!(script.next(now, 0), Next::Send { step: 0, due: now });
        assert_eq!(script.next(now, 0), Next::At(now + 20 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn steps_follow_each_other_and_begin_anew() {
        let now = Instant::now();
        let turns = vec![turn(2, Pace::Depth(8)), turn(1, Pace::Every(5 * MS))];
        let mut script = Script::new(turns, now, now + 1000 * MS);
        let mut under_way = 0;
        let sent = sends(&mut script, now + MS, &mut under_way);
        assert_eq!(sent.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 0, 1]);
        assert_eq!(sent[2].1, now + MS, "its clock begins when it is its turn");
        assert_eq!(script.next(now + MS, under_way), Next::At(now + 6 * MS));
        assert!(matches!(script.next(now + 6 * MS, 0), Next::Send { step: 0, .. }));
    }
}
