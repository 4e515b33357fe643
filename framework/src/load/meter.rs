//! Owns what is counted: latencies, messages, pushes and errors of one second, in memory that does
//! not grow with them; and how what several count becomes one.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio::time::Instant;

/// What is told apart, in nanoseconds: below, nothing travels; beyond, it counts as this.
const LATENCY_NS: (u64, u64) = (1_000, 120_000_000_000);

/// Digits of a latency that are kept: a thousandth is told apart.
const DIGITS: u8 = 3;

/// Kinds of errors that are told apart: a server has some thirty codes. Beyond: counted as others.
const ERRORS_MAX: usize = 64;
const OTHER_ERRORS: &str = "other errors";

/// Latencies, as many as there are, in a table of one size.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    pub(crate) fn new() -> Self {
        let (low, high) = LATENCY_NS;
        Self(Histogram::new_with_bounds(low, high, DIGITS).expect("bounds that do"))
    }

    pub(crate) fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this part of all were not above.
    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    fn clear(&mut self) {
        self.0.reset();
    }
}

/// Written as pairs, a latency in nanoseconds and how many had it: anybody can read that, and it
/// is as long as there are different ones.
impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())),
        )
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latency = Self::new();
        for (ns, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            // Added up by others, they must not overflow here.
            let fits = latency.count().checked_add(count).is_some();
            if !fits || latency.0.record_n(ns, count).is_err() {
                return Err(de::Error::custom(format!("[{ns}, {count}] is no latency in ns")));
            }
        }
        Ok(latency)
    }
}

/// What happened in one second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// From the beginning of the measurement; what came after its end is in the second after it.
    pub(crate) second: u64,
    /// Requests and inputs that were sent.
    pub(crate) sent: u64,
    /// Of these inputs, which get no answer.
    pub(crate) inputs: u64,
    /// Answers that came, refusals not among them.
    pub(crate) answered: u64,
    pub(crate) pushes: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    /// From when a request was due until its answer was there.
    pub(crate) latency: Latency,
    /// From asking the account center until the gate has said yes.
    pub(crate) sign_in: Latency,
}

impl Slice {
    pub(crate) fn new(second: u64) -> Self {
        Self {
            second,
            sent: 0,
            inputs: 0,
            answered: 0,
            pushes: 0,
            errors: BTreeMap::new(),
            latency: Latency::new(),
            sign_in: Latency::new(),
        }
    }

    /// Takes in what another has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { second: _, sent, inputs, answered, pushes, errors, latency, sign_in } = other;
        self.sent += sent;
        self.inputs += inputs;
        self.answered += answered;
        self.pushes += pushes;
        for (what, count) in errors {
            self.error(what, *count);
        }
        self.latency.add(latency);
        self.sign_in.add(sign_in);
    }

    pub(crate) fn error(&mut self, what: &str, count: u64) {
        if count == 0 {
            return;
        }
        if let Some(known) = self.errors.get_mut(what) {
            *known += count;
            return;
        }
        let what = if self.errors.len() < ERRORS_MAX { what } else { OTHER_ERRORS };
        *self.errors.entry(what.to_owned()).or_default() += count;
    }

    /// What is done by now: what was answered, and what gets no answer.
    pub(crate) fn done(&self) -> u64 {
        self.answered + self.inputs
    }
}

/// Counts the second that is.
#[derive(Debug)]
pub(super) struct Meter {
    slice: Slice,
    /// What was due earlier does not count; `None`: nothing does yet.
    begins: Option<Instant>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { slice: Slice::new(0), begins: None }
    }

    /// What is due from then on counts.
    pub(super) fn begin(&mut self, at: Instant) {
        self.begins = Some(at);
    }

    fn counts(&self, due: Instant) -> bool {
        self.begins.is_some_and(|begins| due >= begins)
    }

    /// Something was sent that was due then.
    pub(super) fn sent(&mut self, due: Instant, is_input: bool) {
        if self.counts(due) {
            self.slice.sent += 1;
            self.slice.inputs += u64::from(is_input);
        }
    }

    /// The answer is here to what was due then.
    pub(super) fn answered(&mut self, due: Instant, now: Instant) {
        if self.counts(due) {
            self.slice.answered += 1;
            self.slice.latency.record(now - due);
        }
    }

    /// A refusal is here to what was due then. It counts from the first message on: nobody is to
    /// overlook it.
    pub(super) fn refused(&mut self, what: &str) {
        self.slice.error(what, 1);
    }

    pub(super) fn errors(&mut self, what: &str, count: u64) {
        self.slice.error(what, count);
    }

    pub(super) fn pushed(&mut self, now: Instant) {
        self.slice.pushes += u64::from(self.counts(now));
    }

    pub(super) fn signed_in(&mut self, took: Duration) {
        self.slice.sign_in.record(took);
    }

    /// What was counted since the last time, and begins with this second.
    pub(super) fn cut(&mut self, next: u64) -> Slice {
        let cut = self.slice.clone();
        self.slice.latency.clear();
        self.slice.sign_in.clear();
        let Slice { second, sent, inputs, answered, pushes, errors, latency: _, sign_in: _ } =
            &mut self.slice;
        (*sent, *inputs, *answered, *pushes, *second) = (0, 0, 0, 0, next);
        errors.clear();
        cut
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slice(latencies: &[u64], errors: &[u8]) -> Slice {
        let mut slice = Slice::new(3);
        for ns in latencies {
            slice.latency.record(Duration::from_nanos(*ns));
            slice.answered += 1;
        }
        for error in errors {
            slice.error(&error.to_string(), 1);
        }
        slice
    }

    proptest! {
        #[test]
        fn merging_is_counting_together_also_after_a_way_as_json(a in prop::collection::vec(0u64..200_000_000_000, 0..50), b in prop::collection::vec(0u64..10_000_000, 0..50), errors in prop::collection::vec(0u8..4, 0..20)) {
            let mut together = slice(&[], &[]);
            for part in [slice(&a, &errors), slice(&b, &[])] {
                let text = serde_json::to_string(&part).expect("json");
                together.add(&serde_json::from_str(&text).expect("its own"));
            }
            let all: Vec<u64> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(&together, &slice(&all, &errors));
            let sum: u64 = together.errors.values().sum();
            prop_assert_eq!(sum, errors.len() as u64);
        }

        #[test]
        fn no_text_in_the_place_of_latencies_makes_it_panic(pairs in prop::collection::vec(any::<(u64, u64)>(), 0..5)) {
            let text = serde_json::to_string(&pairs).expect("json");
            drop(serde_json::from_str::<Latency>(&text));
        }
    }

    #[test]
    fn errors_beyond_the_bound_are_counted_together() {
        let mut slice = Slice::new(0);
        for n in 0..1000 {
            slice.error(&n.to_string(), 2);
        }
        assert_eq!(slice.errors.len(), ERRORS_MAX + 1);
        assert_eq!(slice.errors.values().sum::<u64>(), 2000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_due_before_the_beginning_is_not_measured_but_its_errors_are_told() {
        let now = Instant::now();
        let mut meter = Meter::new();
        meter.begin(now + Duration::from_secs(1));
        meter.sent(now, false);
        meter.answered(now, now + Duration::from_secs(2));
        meter.refused("1002");
        let cut = meter.cut(1);
        assert_eq!((cut.sent, cut.answered, cut.errors["1002"]), (0, 0, 1));
        meter.answered(now + Duration::from_secs(1), now + Duration::from_secs(3));
        let cut = meter.cut(2);
        assert_eq!((cut.second, cut.answered, cut.errors.len()), (1, 1, 0));
        assert_eq!(cut.latency.max().as_millis() / 10, 200, "of three digits");
    }
}
