//! Owns what is said over one connection: which requests are under way, which answer is whose,
//! what is a push, what an error. Knows no sockets: bytes come and go in buffers.

use std::{collections::VecDeque, rc::Rc};

use prost::Message as _;
use tokio::time::Instant;

use super::{
    meter::Meter,
    plan::Line,
    script::{Next, Script},
};
use crate::{
    Named as _, msg,
    wire::{self, Code, Cut, FRAME_BYTES_MAX},
};

/// Bytes that wait to be sent, at which no more messages are written: what sockets hold. Beyond:
/// messages are sent later, and count from when they were due.
const OUT_BYTES_MAX: usize = 256 * 1024;

/// Why a connection is over, as it is counted.
pub(super) type Loss = String;

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    /// `None`: a ping that keeps the connection, which nobody measures.
    step: Option<usize>,
    due: Instant,
}

/// One connection's.
#[derive(Debug)]
pub(super) struct Dialogue {
    lines: Rc<[Line]>,
    /// `None` until it begins.
    script: Option<Script>,
    /// Nothing more is asked: it is about to hang up.
    leaves: bool,
    under_way: VecDeque<UnderWay>,
    /// What is to be sent.
    pub(super) out: Vec<u8>,
    /// A frame that has not come whole.
    part: Vec<u8>,
    said: Instant,
}

impl Dialogue {
    pub(super) fn new(lines: Rc<[Line]>, now: Instant) -> Self {
        let (under_way, out, part) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { lines, script: None, leaves: false, under_way, out, part, said: now }
    }

    /// Does from now on what the script says.
    pub(super) fn begin(&mut self, script: Script) {
        self.script = Some(script);
    }

    /// Nothing is due any more from then on.
    pub(super) fn stop(&mut self, at: Instant) {
        if let Some(script) = &mut self.script {
            script.stop(at);
        }
    }

    /// Asks for nothing more, so that nothing is under way when it hangs up.
    pub(super) fn leave(&mut self) {
        self.leaves = true;
    }

    pub(super) fn leaves(&self) -> bool {
        self.leaves
    }

    /// Goes on over a new connection. What was under way over the old one gets no answer.
    pub(super) fn renew(&mut self, now: Instant, meter: &mut Meter) {
        self.forget(meter);
        self.out.clear();
        self.part.clear();
        (self.leaves, self.said) = (false, now);
    }

    /// Writes what is due, and says when there is more, if the clock says it.
    pub(super) fn write(&mut self, now: Instant, meter: &mut Meter) -> Option<Instant> {
        let script = self.script.as_mut().filter(|_| !self.leaves)?;
        while self.out.len() < OUT_BYTES_MAX {
            match script.next(now, self.under_way.len()) {
                Next::Send { step, due } => {
                    let Line { frame, api: _, answer } = &self.lines[step];
                    self.out.extend_from_slice(frame);
                    self.said = now;
                    if answer.is_some() {
                        self.under_way.push_back(UnderWay { step: Some(step), due });
                    }
                    meter.sent(due, answer.is_none());
                }
                Next::At(at) => return Some(at),
                Next::Answer | Next::Over => return None,
            }
        }
        None
    }

    /// Says that somebody is there, if nothing has been said since then.
    pub(super) fn ping(&mut self, now: Instant, since: Instant) {
        if self.said < since {
            let ping = msg::ping::Req { ct: 0, received: 0 };
            wire::put_message(&mut self.out, &ping).expect("a ping is small");
            self.under_way.push_back(UnderWay { step: None, due: now });
            self.said = now;
        }
    }

    /// Takes in what has come.
    ///
    /// # Errors
    /// Why the connection is of no use any more.
    pub(super) fn read(
        &mut self,
        came: &[u8],
        now: Instant,
        meter: &mut Meter,
    ) -> Result<(), Loss> {
        // A frame in two parts is rare: all others are read where they are.
        if self.part.is_empty() {
            let used = self.frames(came, now, meter)?;
            self.part.extend_from_slice(&came[used..]);
            return Ok(());
        }
        let mut part = std::mem::take(&mut self.part);
        part.extend_from_slice(came);
        let used = self.frames(&part, now, meter)?;
        part.drain(..used);
        self.part = part;
        Ok(())
    }

    fn frames(&mut self, bytes: &[u8], now: Instant, meter: &mut Meter) -> Result<usize, Loss> {
        let mut used = 0;
        loop {
            match wire::cut(&bytes[used..], FRAME_BYTES_MAX) {
                Ok(Cut::Frame(frame)) => {
                    used += frame.bytes.len();
                    self.frame(frame.api.as_str(), frame.payload, now, meter)?;
                }
                Ok(Cut::Partial { .. }) => return Ok(used),
                Err(e) => return Err(format!("no frame: {e}")),
            }
        }
    }

    fn frame(
        &mut self,
        api: &str,
        payload: &[u8],
        now: Instant,
        meter: &mut Meter,
    ) -> Result<(), Loss> {
        if let Some(at) = self.position(|line| line.answer.as_deref() == Some(api), api) {
            if let Some(due) = self.over(at, now) {
                meter.answered(due, now);
            }
        } else if api == msg::error::Res::NAME {
            let error = msg::error::Res::decode(payload).unwrap_or_default();
            if let Some(at) = self.position(|line| line.api == error.api, "") {
                self.over(at, now);
            }
            meter.refused(&code(error.code));
        } else if api == msg::kick::Res::NAME {
            let kick = msg::kick::Res::decode(payload).unwrap_or_default();
            return Err(format!("kicked: {}", code(kick.code)));
        } else {
            meter.pushed(now);
        }
        Ok(())
    }

    /// The oldest request under way that this answers. Answers come in the order of requests, but
    /// for those that a gate gives itself.
    fn position(&self, is_it: impl Fn(&Line) -> bool, answer: &str) -> Option<usize> {
        self.under_way.iter().position(|request| match request.step {
            Some(step) => is_it(&self.lines[step]),
            None => answer == msg::ping::Res::NAME,
        })
    }

    /// A request is answered; when it was due, if it is one that counts.
    fn over(&mut self, at: usize, now: Instant) -> Option<Instant> {
        let UnderWay { step, due } = self.under_way.remove(at)?;
        if let Some(script) = &mut self.script {
            script.answered(step?, now);
        }
        Some(due)
    }

    /// Whether all that was asked is answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.under_way.is_empty() && self.out.is_empty()
    }

    /// Counts what never was answered, and what never was sent though it was due.
    pub(super) fn end(&mut self, meter: &mut Meter) {
        self.forget(meter);
        self.out.clear();
        meter.errors("due, but not sent", self.script.take().map_or(0, |script| script.unsent()));
    }

    fn forget(&mut self, meter: &mut Meter) {
        let waits = self.under_way.drain(..).filter(|request| request.step.is_some()).count();
        meter.errors("no answer", waits as u64);
    }
}

/// A code with its meaning.
pub(super) fn code(code: i32) -> String {
    format!("{code} {}", Code(code).text())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        load::script::{Pace, Turn},
        wire::put_message,
    };

    const MS: Duration = Duration::from_millis(1);

    fn echo(pace: Pace, now: Instant) -> Dialogue {
        let mut frame = Vec::new();
        put_message(&mut frame, &msg::echo::Req { val: Some(7), ct: None }).expect("fits");
        let (api, answer) = ("msg.Echo.Req".to_owned(), Some("msg.Echo.Res".to_owned()));
        let turn = Turn { times: 1, pace, is_request: true };
        let script = Script::new(vec![turn], now, now + 1000 * MS);
        let mut dialogue = Dialogue::new([Line { frame, api, answer }].into(), now);
        dialogue.begin(script);
        dialogue
    }

    fn meter(begins: Instant) -> Meter {
        let mut meter = Meter::new();
        meter.begin(begins);
        meter
    }

    fn answers(count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..count {
            put_message(&mut bytes, &msg::echo::Res { val: Some(7), ct: None }).expect("fits");
        }
        bytes
    }

    fn refusal(code: i32, api: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let error = msg::error::Res { code, api: api.to_owned(), message: String::new() };
        put_message(&mut bytes, &error).expect("fits");
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn answers_refusals_pushes_and_a_kick_are_told_apart() {
        let now = Instant::now();
        let (mut meter, mut dialogue) = (meter(now), echo(Pace::Depth(3), now));
        assert_eq!(dialogue.write(now, &mut meter), None);
        let mut came = answers(1);
        came.extend(refusal(1002, "msg.Echo.Req"));
        put_message(&mut came, &msg::RoomClosed::default()).expect("fits");
        came.extend(refusal(1007, "arena.Steer"));
        dialogue.read(&came, now + 5 * MS, &mut meter).expect("goes on");
        assert_eq!(dialogue.under_way.len(), 1, "an input that is refused was not under way");
        dialogue.write(now + 5 * MS, &mut meter);
        let slice = meter.cut(1);
        assert_eq!((slice.sent, slice.answered, slice.pushes), (5, 1, 1));
        let errors: Vec<_> = slice.errors.keys().map(String::as_str).collect();
        assert_eq!(errors, ["1002 busy, try again", "1007 rate limited"]);
        assert_eq!(slice.latency.max().as_millis(), 5);

        let mut kick = Vec::new();
        let told = msg::kick::Res { code: 2005, reason: String::new() };
        put_message(&mut kick, &told).expect("fits");
        let loss = dialogue.read(&kick, now, &mut meter).expect_err("over");
        assert!(loss.starts_with("kicked: 2005"), "{loss}");
        dialogue.end(&mut meter);
        assert_eq!(meter.cut(2).errors["no answer"], 3);
    }

    /// 100 messages a second, of which the server answers none for 200 ms: no latency is left out.
    #[tokio::test(start_paused = true)]
    async fn latencies_of_an_open_loop_count_from_when_a_message_was_due() {
        let now = Instant::now();
        let (mut meter, mut dialogue) = (meter(now), echo(Pace::Every(10 * MS), now));
        assert_eq!(dialogue.write(now, &mut meter), Some(now + 10 * MS));
        // The generator itself is held up as well: at 200 ms it sends what was due since 10 ms.
        assert_eq!(dialogue.write(now + 200 * MS, &mut meter), Some(now + 210 * MS));
        dialogue.read(&answers(21), now + 200 * MS, &mut meter).expect("goes on");
        let slice = meter.cut(1);
        assert_eq!((slice.sent, slice.answered), (21, 21));
        assert_eq!(slice.latency.max().as_millis(), 200);
        assert_eq!(
            slice.latency.quantile(0.5).as_millis(),
            100,
            "not 0: half of them waited so long"
        );
        assert_eq!(dialogue.script.expect("begun").unsent(), 79);
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_pings_and_that_is_not_measured() {
        let now = Instant::now();
        let (mut meter, mut dialogue) = (meter(now), echo(Pace::Every(900 * MS), now));
        dialogue.write(now, &mut meter);
        dialogue.read(&answers(1), now, &mut meter).expect("goes on");
        dialogue.out.clear();
        dialogue.ping(now + 20 * MS, now);
        assert!(dialogue.out.is_empty(), "it has said something");
        dialogue.ping(now + 20 * MS, now + MS);
        assert!(!dialogue.out.is_empty() && !dialogue.is_quiet());
        let mut came = Vec::new();
        put_message(&mut came, &msg::ping::Res::default()).expect("fits");
        dialogue.read(&came, now + 30 * MS, &mut meter).expect("goes on");
        assert!(dialogue.under_way.is_empty());
        let slice = meter.cut(1);
        assert_eq!((slice.sent, slice.answered, slice.pushes), (1, 1, 0));
    }

    proptest! {
        #[test]
        fn in_whatever_pieces_answers_come_each_is_counted_once(count in 1usize..40, cuts in prop::collection::vec(1usize..50, 1..20)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
            runtime.block_on(async {
                let now = Instant::now();
                let (mut meter, mut dialogue) = (meter(now), echo(Pace::Depth(count), now));
                dialogue.write(now, &mut meter);
                let bytes = answers(count);
                let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
                while !rest.is_empty() {
                    let (piece, later) = rest.split_at(rest.len().min(*cuts.next().expect("a cycle")));
                    dialogue.read(piece, now, &mut meter).expect("goes on");
                    rest = later;
                }
                assert!(dialogue.under_way.is_empty() && dialogue.part.is_empty());
                assert_eq!(meter.cut(1).answered, count as u64);
            });
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
            runtime.block_on(async {
                let now = Instant::now();
                let (mut meter, mut dialogue) = (meter(now), echo(Pace::Depth(4), now));
                dialogue.write(now, &mut meter);
                drop(dialogue.read(&bytes, now, &mut meter));
                drop(dialogue.read(&bytes, now, &mut meter));
            });
        }
    }
}
