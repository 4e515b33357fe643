//! Owns what counts of instructions may be: the figures that were accepted, and when a new one is
//! too far above its own.

use std::collections::BTreeMap;

/// Instructions a message of each step.
pub type Accepted = BTreeMap<String, f64>;

/// How far above the accepted figure a step may be, as a part of it: below it, another compiler
/// flag or a field's new place is nobody's fault.
const ABOVE_MAX: f64 = 0.10;

/// What became of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// It is where it was.
    Good,
    /// It got so much better that the old figure would hide the next loss.
    Better,
    /// It costs more than it may: so much.
    Worse(f64),
    /// Nobody has accepted a figure for it yet.
    New,
}

/// Judges each step that was counted. A step that was accepted and is not counted any more is
/// `None`: it must not go unnoticed either.
pub fn compare(counted: &Accepted, accepted: &Accepted) -> BTreeMap<String, Option<Verdict>> {
    let judge = |step: &String, figure: f64| match accepted.get(step) {
        None => Verdict::New,
        Some(was) if figure > was * (1.0 + ABOVE_MAX) => Verdict::Worse(was * (1.0 + ABOVE_MAX)),
        Some(was) if figure < was * (1.0 - ABOVE_MAX) => Verdict::Better,
        Some(_) => Verdict::Good,
    };
    let gone = accepted.keys().map(|step| (step.clone(), None));
    let judged = counted.iter().map(|(step, &f)| (step.clone(), Some(judge(step, f))));
    gone.chain(judged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(of: &[(&str, f64)]) -> Accepted {
        of.iter().map(|(step, figure)| ((*step).to_owned(), *figure)).collect()
    }

    fn judged(counted: f64) -> Option<Verdict> {
        let (counted, accepted) = (figures(&[("cut", counted)]), figures(&[("cut", 100.0)]));
        compare(&counted, &accepted)["cut"]
    }

    #[test]
    fn a_step_may_cost_a_tenth_more_than_was_accepted_and_no_more() {
        assert_eq!(judged(100.0), Some(Verdict::Good));
        assert_eq!(judged(110.0), Some(Verdict::Good));
        assert!(matches!(judged(110.1), Some(Verdict::Worse(allowed)) if allowed < 110.01));
    }

    #[test]
    fn a_step_that_got_much_better_is_said_to_be() {
        assert_eq!(judged(90.1), Some(Verdict::Good));
        assert_eq!(judged(89.9), Some(Verdict::Better));
    }

    #[test]
    fn a_step_that_is_new_or_gone_is_noticed() {
        let verdicts = compare(&figures(&[("new", 1.0)]), &figures(&[("old", 1.0)]));
        assert_eq!(verdicts["new"], Some(Verdict::New));
        assert_eq!(verdicts["old"], None);
    }
}
