//! Owns who waits for a match of one kind, and who is brought together. Time comes in; nothing
//! goes out.
//!
//! Who came first decides: whoever has waited longest gets those whose ratings are nearest to its
//! own, within a window that grows while it waits. A party counts as one who brings several, of
//! their mean rating, and waits since its last came.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    limits::{MATCH_LOOKED_AT_MAX, MATCH_SILENCE_MAX, MATCH_WINDOW, MATCH_WINDOW_ENDS},
    proto::link::Asking,
    room::book::ms,
};

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wish {
    pub(super) who: Asking,
    /// Drawn by who asks; the same each time.
    pub(super) number: u64,
    pub(super) rating: i32,
    /// Its party, and how many that are; `None`: alone.
    pub(super) party: Option<(String, usize)>,
    pub(super) options: BTreeMap<String, String>,
}

/// How many play one match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// As soon as there are so many.
    pub(super) min: usize,
    pub(super) max: usize,
}

/// Those who wait, each account once.
#[derive(Debug, Default)]
pub(super) struct Queue(HashMap<i64, Waiting>);

#[derive(Debug)]
struct Waiting {
    wish: Wish,
    since_ms: i64,
    renewed_ms: i64,
}

/// Who enters together.
struct Unit {
    since_ms: i64,
    rating: i64,
    accounts: Vec<i64>,
}

/// Whom a party is of: only with who says the same.
type PartyKey<'a> = (&'a BTreeMap<String, String>, &'a str, usize);

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this wish is known already.
    pub(super) fn waits(&self, account: i64, number: u64) -> bool {
        self.0.get(&account).is_some_and(|waiting| waiting.wish.number == number)
    }

    /// Somebody waits, or says that it still does. A new wish takes the place of an older one.
    pub(super) fn seek(&mut self, wish: Wish, now_ms: i64) {
        let known = self.waits(wish.who.account, wish.number);
        let since_ms =
            self.0.get(&wish.who.account).filter(|_| known).map_or(now_ms, |w| w.since_ms);
        self.0.insert(wish.who.account, Waiting { wish, since_ms, renewed_ms: now_ms });
    }

    /// Somebody waits no longer.
    pub(super) fn cancel(&mut self, account: i64, number: u64) {
        if self.waits(account, number) {
            self.0.remove(&account);
        }
    }

    /// Takes out those who play together from now on.
    pub(super) fn matches(&mut self, size: Size, now_ms: i64) -> Vec<Vec<Wish>> {
        self.0.retain(|_, w| now_ms.saturating_sub(w.renewed_ms) < ms(MATCH_SILENCE_MAX));
        let mut found = Vec::new();
        for units in self.units(size).into_values() {
            found.extend(together(units, size, now_ms));
        }
        let taken = |accounts: Vec<i64>| {
            accounts.iter().filter_map(|a| Some(self.0.remove(a)?.wish)).collect::<Vec<_>>()
        };
        found.into_iter().map(taken).collect()
    }

    /// By options, those who may enter: alone, or as a party that is complete.
    fn units(&self, size: Size) -> HashMap<&BTreeMap<String, String>, Vec<Unit>> {
        let mut units: HashMap<_, Vec<Unit>> = HashMap::new();
        let mut parties: HashMap<PartyKey<'_>, Vec<&Waiting>> = HashMap::new();
        for waiting in self.0.values() {
            let Wish { party, options, .. } = &waiting.wish;
            match party {
                None => units.entry(options).or_default().push(Unit::of(&[waiting])),
                Some((name, members)) if *members <= size.max => {
                    parties.entry((options, name.as_str(), *members)).or_default().push(waiting);
                }
                Some(_) => {}
            }
        }
        for ((options, _, members), mut all) in parties {
            all.sort_by_key(|w| (w.since_ms, w.wish.who.account));
            let complete = all.chunks_exact(members.max(1)).map(Unit::of);
            units.entry(options).or_default().extend(complete);
        }
        units
    }
}

impl Unit {
    fn of(all: &[&Waiting]) -> Self {
        let ratings: i64 = all.iter().map(|w| i64::from(w.wish.rating)).sum();
        Self {
            since_ms: all.iter().map(|w| w.since_ms).max().unwrap_or_default(),
            rating: ratings / i64::try_from(all.len()).unwrap_or(1).max(1),
            accounts: all.iter().map(|w| w.wish.who.account).collect(),
        }
    }
}

/// How far from its own the ratings may be for who has waited so long; `None`: as far as it gets.
pub(super) fn window(waited_ms: i64) -> Option<i64> {
    let grown = MATCH_WINDOW.0 + waited_ms.max(0).saturating_mul(MATCH_WINDOW.1) / 1000;
    (waited_ms < ms(MATCH_WINDOW_ENDS)).then_some(grown)
}

/// The accounts of each match among those who want the same.
fn together(mut units: Vec<Unit>, size: Size, now_ms: i64) -> Vec<Vec<i64>> {
    units.sort_by_key(|unit| (unit.since_ms, unit.accounts.first().copied()));
    let mut by_rating: BTreeSet<(i64, usize)> =
        units.iter().enumerate().map(|(at, unit)| (unit.rating, at)).collect();
    let mut found = Vec::new();
    for (first, unit) in units.iter().enumerate() {
        if !by_rating.remove(&(unit.rating, first)) {
            continue;
        }
        // Who finds nobody is not there for those who came later: their windows are smaller.
        let window = window(now_ms.saturating_sub(unit.since_ms));
        let Some(chosen) = fill(first, &units, &by_rating, window, size) else { continue };
        for at in &chosen {
            by_rating.remove(&(units[*at].rating, *at));
        }
        let accounts = chosen.iter().flat_map(|at| units[*at].accounts.iter().copied());
        found.push(accounts.collect());
    }
    found
}

/// The nearest who make a match with `first`. Parties make it a question of which sums there are:
/// `sums[n]` is how the first that were looked at make `n`.
fn fill(
    first: usize,
    units: &[Unit],
    others: &BTreeSet<(i64, usize)>,
    window: Option<i64>,
    size: Size,
) -> Option<Vec<usize>> {
    let unit = &units[first];
    let mut sums: Vec<Option<Vec<usize>>> = vec![None; size.max + 1];
    *sums.get_mut(unit.accounts.len())? = Some(vec![first]);
    let done = |sums: &[Option<Vec<usize>>]| sums.iter().skip(size.min).find_map(Clone::clone);
    if let Some(done) = done(&sums) {
        return Some(done);
    }
    let reach = |of: i64| window.is_none_or(|window| (of - unit.rating).abs() <= window);
    let mut above = others.range((unit.rating, 0)..).peekable();
    let mut below = others.range(..(unit.rating, 0)).rev().peekable();
    for _ in 0..MATCH_LOOKED_AT_MAX {
        let next = match (above.peek(), below.peek()) {
            (Some((a, _)), Some((b, _))) if a - unit.rating <= unit.rating - b => above.next(),
            (Some(_), None) => above.next(),
            (_, Some(_)) => below.next(),
            (None, None) => None,
        };
        let &(rating, at) = next?;
        if !reach(rating) {
            // The nearest of those that are left.
            return None;
        }
        let more = units[at].accounts.len();
        for sum in (more..=size.max).rev() {
            if sums[sum].is_none()
                && let Some(before) = &sums[sum - more]
            {
                sums[sum] = Some(before.iter().copied().chain([at]).collect());
            }
        }
        if let Some(done) = done(&sums) {
            return Some(done);
        }
    }
    None
}
