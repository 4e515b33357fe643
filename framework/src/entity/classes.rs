//! Owns message classes: what may become of a message while its client does not take it in. A
//! message is reliable unless a studio says otherwise.

use std::{any::Any, collections::VecDeque, fmt};

use rustc_hash::FxHashMap;

use crate::{
    Named,
    limits::LOOSE_BYTES_MAX,
    link::{Batch, Mark},
    telemetry::LooseCounters,
    wire::Frame,
};

/// The classes of a game's messages, by name. Who is not here is reliable.
#[derive(Default)]
pub(crate) struct Classes(FxHashMap<&'static str, Class>);

enum Class {
    /// Of each key the latest is enough; holds a `fn(&M) -> u64`, and the same for bytes.
    Latest(Box<dyn Any + Send + Sync>, fn(&(dyn Any + Send + Sync), &[u8]) -> u64),
    Droppable,
}

/// What may replace what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Loosely {
    Latest(u64),
    Droppable,
}

impl Classes {
    pub(crate) fn latest<M: Named>(&mut self, key: fn(&M) -> u64) {
        self.set(M::NAME, Class::Latest(Box::new(key), key_of::<M>));
    }

    pub(crate) fn droppable<M: Named>(&mut self) {
        self.set(M::NAME, Class::Droppable);
    }

    fn set(&mut self, name: &'static str, class: Class) {
        let before = self.0.insert(name, class);
        assert!(before.is_none(), "{name} has a class already: keep one");
    }

    /// Whether messages of this name may be lost.
    #[inline]
    pub(crate) fn is_loose(&self, name: &str) -> bool {
        !self.0.is_empty() && self.0.contains_key(name)
    }

    /// How loosely a message is kept; `None`: it is reliable.
    #[inline]
    pub(super) fn of<M: Named>(&self, message: &M) -> Option<Loosely> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.get(M::NAME)? {
            Class::Droppable => Loosely::Droppable,
            Class::Latest(key, _) => {
                let key = key.downcast_ref::<fn(&M) -> u64>();
                Loosely::Latest(key.expect("declared for this type under this name")(message))
            }
        })
    }
}

impl Classes {
    /// As [`Classes::of`], of a message that somebody else has encoded.
    pub(super) fn of_frame(&self, frame: &Frame<'_>) -> Option<(&'static str, Loosely)> {
        let (name, class) = self.0.get_key_value(frame.api.as_str())?;
        let loosely = match class {
            Class::Droppable => Loosely::Droppable,
            Class::Latest(key, of) => Loosely::Latest(of(&**key, frame.payload)),
        };
        Some((name, loosely))
    }
}

/// The key of an encoded message; of one that is none, that of nothing.
fn key_of<M: Named>(key: &(dyn Any + Send + Sync), payload: &[u8]) -> u64 {
    let key = key.downcast_ref::<fn(&M) -> u64>().expect("declared for this type");
    key(&M::decode(payload).unwrap_or_default())
}

/// Messages that wait until their client takes them in, or is back. Bounded in bytes.
pub(super) struct Loose {
    latest: FxHashMap<(&'static str, u64), Vec<u8>>,
    droppable: VecDeque<Vec<u8>>,
    bytes: usize,
    counters: LooseCounters,
}

impl Loose {
    pub(super) fn new(counters: LooseCounters) -> Self {
        Self { latest: FxHashMap::default(), droppable: VecDeque::new(), bytes: 0, counters }
    }

    /// Keeps a frame of the message `name`: in place of its predecessor, or while there is room.
    pub(super) fn keep(&mut self, name: &'static str, loosely: Loosely, frame: Vec<u8>) {
        self.bytes += frame.len();
        match loosely {
            Loosely::Droppable => self.droppable.push_back(frame),
            Loosely::Latest(key) => {
                if let Some(before) = self.latest.insert((name, key), frame) {
                    self.bytes -= before.len();
                    self.counters.replaced.increment(1);
                }
            }
        }
        while self.bytes > LOOSE_BYTES_MAX {
            let oldest = self.droppable.pop_front();
            // Of the latest none is older than another: any will do, and the next one comes soon.
            let dropped = oldest.or_else(|| {
                let any = self.latest.keys().next().copied()?;
                self.latest.remove(&any)
            });
            let Some(dropped) = dropped else { return };
            self.bytes -= dropped.len();
            self.counters.dropped.increment(1);
        }
    }

    /// A newer one of the message `name` goes another way: what waits in its place is old.
    pub(super) fn overtaken(&mut self, name: &'static str, loosely: Loosely) {
        if let Loosely::Latest(key) = loosely
            && let Some(before) = self.latest.remove(&(name, key))
        {
            self.bytes -= before.len();
            self.counters.replaced.increment(1);
        }
    }

    /// Everything that waits, as what it is from now on: said.
    pub(super) fn release(&mut self, batch: &mut Batch) {
        let Self { latest, droppable, bytes, counters: _ } = self;
        for frame in droppable.drain(..).chain(latest.drain().map(|(_, frame)| frame)) {
            batch.push(Mark::Plain, &frame);
        }
        (*latest, *droppable, *bytes) = (FxHashMap::default(), VecDeque::new(), 0);
    }
}

impl fmt::Debug for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl fmt::Debug for Loose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loose").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use metrics::Counter;

    use super::*;
    use crate::msg;

    fn loose() -> Loose {
        Loose::new(LooseCounters { replaced: Counter::noop(), dropped: Counter::noop() })
    }

    fn frame(val: i64, bytes: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        let message = msg::kick::Res { code: 0, reason: format!("{val:0bytes$}") };
        crate::wire::put_message(&mut frame, &message).expect("fits");
        frame
    }

    fn released(loose: &mut Loose) -> Vec<i64> {
        let mut batch = Batch::default();
        loose.release(&mut batch);
        let value = |payload: &[u8]| {
            let kick: msg::kick::Res = prost::Message::decode(payload).expect("whole");
            kick.reason.parse().expect("a number")
        };
        batch.frames().map(|(_, frame)| value(frame.payload)).collect()
    }

    #[test]
    fn of_each_key_the_latest_is_kept() {
        let mut loose = loose();
        for val in 0..1000i64 {
            let key = val.unsigned_abs() % 3;
            loose.keep("a", Loosely::Latest(key), frame(val, 100));
        }
        let mut seen = released(&mut loose);
        seen.sort_unstable();
        assert_eq!(seen, [997, 998, 999]);
        assert_eq!((loose.bytes, released(&mut loose)), (0, vec![]));
    }

    #[test]
    fn what_waits_is_gone_when_a_newer_one_has_overtaken_it() {
        let mut loose = loose();
        loose.keep("a", Loosely::Latest(1), frame(1, 100));
        loose.keep("a", Loosely::Latest(2), frame(2, 100));
        loose.overtaken("a", Loosely::Latest(1));
        loose.overtaken("b", Loosely::Latest(2));
        loose.overtaken("a", Loosely::Droppable);
        assert_eq!((released(&mut loose), loose.bytes), (vec![2], 0));
    }

    #[test]
    fn what_may_be_dropped_is_dropped_oldest_first_and_before_what_is_latest() {
        let mut loose = loose();
        loose.keep("a", Loosely::Latest(1), frame(-1, 100));
        for val in 0..2000 {
            loose.keep("b", Loosely::Droppable, frame(val, 100));
        }
        assert!(loose.bytes <= LOOSE_BYTES_MAX);
        let seen = released(&mut loose);
        let (latest, droppable) = seen.split_last().expect("some");
        assert_eq!(*latest, -1);
        let first = droppable[0];
        assert!(first > 1000, "{first}");
        assert_eq!(droppable, (first..2000).collect::<Vec<_>>());
    }

    #[test]
    fn more_keys_than_there_is_room_for_are_bounded_too() {
        let mut loose = loose();
        for val in 0..2000i64 {
            loose.keep("a", Loosely::Latest(val.unsigned_abs()), frame(val, 100));
        }
        assert!(loose.bytes <= LOOSE_BYTES_MAX && loose.bytes > LOOSE_BYTES_MAX / 2);
    }
}
