//! Owns the cache of a process that has none to share: the entries, and what goes when it is full.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Found, Range, Rank, Swap};

/// Values of this process alone. A clone is a handle to the same.
#[derive(Clone)]
pub(super) struct MemoryCache {
    /// Std mutex: held for a look-up, never across an await.
    entries: Arc<Mutex<Entries>>,
}

struct Entries {
    by_key: HashMap<Arc<str>, Entry>,
    /// Those that make room for others, soonest to expire first.
    by_expiry: BTreeSet<(i64, Arc<str>)>,
    /// The rest, which is kept until it expires.
    kept: BTreeSet<(i64, Arc<str>)>,
    /// Of each of the two.
    max: usize,
}

struct Entry {
    value: Value,
    expires_ms: i64,
    kept: bool,
}

enum Value {
    Count(u64),
    Bytes(Vec<u8>),
    Ranks(Ranks),
}

/// The members of a set, and the same by rank: equal ones by name, as in Redis.
#[derive(Default)]
struct Ranks {
    at: HashMap<Arc<str>, i64>,
    in_order: BTreeSet<(i64, Arc<str>)>,
}

impl MemoryCache {
    pub(super) fn new(max: usize) -> Self {
        let (by_key, by_expiry, kept) = Default::default();
        Self { entries: Arc::new(Mutex::new(Entries { by_key, by_expiry, kept, max })) }
    }

    pub(super) fn incr(&self, key: &str, ttl_ms: i64, now_ms: i64) -> u64 {
        let mut entries = self.entries(now_ms);
        if let Some(Entry { value: Value::Count(count), .. }) = entries.by_key.get_mut(key) {
            *count = count.saturating_add(1);
            return *count;
        }
        entries.put(key, Value::Count(1), now_ms.saturating_add(ttl_ms));
        1
    }

    pub(super) fn count(&self, key: &str, now_ms: i64) -> u64 {
        match self.entries(now_ms).by_key.get(key) {
            Some(Entry { value: Value::Count(count), .. }) => *count,
            _ => 0,
        }
    }

    pub(super) fn window_ms(&self, key: &str, now_ms: i64) -> Option<i64> {
        match self.entries(now_ms).by_key.get(key) {
            Some(Entry { value: Value::Count(_), expires_ms, .. }) => Some(expires_ms - now_ms),
            _ => None,
        }
    }

    pub(super) fn get(&self, key: &str, now_ms: i64) -> Option<Vec<u8>> {
        self.entries(now_ms).bytes(key).cloned()
    }

    pub(super) fn put(&self, key: &str, value: Vec<u8>, ttl_ms: i64, now_ms: i64) {
        self.entries(now_ms).put(key, Value::Bytes(value), now_ms.saturating_add(ttl_ms));
    }

    pub(super) fn put_if_absent(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_ms: i64,
        now_ms: i64,
    ) -> bool {
        let mut entries = self.entries(now_ms);
        if entries.by_key.contains_key(key) {
            return entries.bytes(key) == Some(&value);
        }
        entries.put(key, Value::Bytes(value), now_ms.saturating_add(ttl_ms));
        true
    }

    pub(super) fn take(&self, key: &str, now_ms: i64) -> Option<Vec<u8>> {
        match self.entries(now_ms).remove(key) {
            Some(Value::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn swap(&self, swap: Swap, now_ms: i64) -> bool {
        let Swap { key, expected, new, ttl_ms, ranks } = swap;
        let mut entries = self.entries(now_ms);
        let now = entries.bytes(&key);
        if now != expected.as_ref() && now != new.as_ref() {
            return false;
        }
        if now.is_none() && new.is_some() && entries.kept.len() >= entries.max {
            metrics::counter!("bastide_cache_refused_total").increment(1);
            return false;
        }
        let expires_ms = now_ms.saturating_add(ttl_ms);
        match new {
            Some(new) => entries.keep(&key, Value::Bytes(new), expires_ms),
            None => drop(entries.remove(&key)),
        }
        for rank in ranks {
            entries.rank(rank, expires_ms);
        }
        true
    }

    pub(super) fn range(&self, range: &Range<'_>, now_ms: i64) -> Vec<Found> {
        let entries = self.entries(now_ms);
        let Some(Entry { value: Value::Ranks(ranks), .. }) = entries.by_key.get(range.set) else {
            return Vec::new();
        };
        let found = |(_, member): &(i64, Arc<str>)| {
            let value = entries.bytes(&format!("{}{member}", range.prefix)).cloned();
            Found { member: member.as_ref().to_owned(), value }
        };
        let (skip, take) = (range.offset, range.count);
        match range.greatest_first {
            true => ranks.in_order.iter().rev().skip(skip).take(take).map(found).collect(),
            false => ranks.in_order.iter().skip(skip).take(take).map(found).collect(),
        }
    }

    /// The entries that have not expired.
    fn entries(&self, now_ms: i64) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.expire(now_ms);
        entries
    }
}

impl Entries {
    fn put(&mut self, key: &str, value: Value, expires_ms: i64) {
        self.remove(key);
        if self.by_expiry.len() >= self.max {
            self.by_expiry.pop_first().map(|(_, soonest)| self.by_key.remove(&soonest));
            metrics::counter!("bastide_cache_evicted_total").increment(1);
        }
        let key: Arc<str> = key.into();
        self.by_expiry.insert((expires_ms, Arc::clone(&key)));
        self.by_key.insert(key, Entry { value, expires_ms, kept: false });
    }

    /// Puts what makes no room for others.
    fn keep(&mut self, key: &str, value: Value, expires_ms: i64) {
        self.remove(key);
        let key: Arc<str> = key.into();
        self.kept.insert((expires_ms, Arc::clone(&key)));
        self.by_key.insert(key, Entry { value, expires_ms, kept: true });
    }

    fn rank(&mut self, rank: Rank, expires_ms: i64) {
        let Rank { set, member, at } = rank;
        let mut ranks = match self.remove(&set) {
            Some(Value::Ranks(ranks)) => ranks,
            _ => Ranks::default(),
        };
        let member: Arc<str> = member.into();
        if let Some(before) = ranks.at.remove(&member) {
            ranks.in_order.remove(&(before, Arc::clone(&member)));
        }
        if let Some(at) = at {
            ranks.in_order.insert((at, Arc::clone(&member)));
            ranks.at.insert(member, at);
        }
        if !ranks.at.is_empty() {
            self.keep(&set, Value::Ranks(ranks), expires_ms);
        }
    }

    fn remove(&mut self, key: &str) -> Option<Value> {
        let (key, entry) = self.by_key.remove_entry(key)?;
        let of = if entry.kept { &mut self.kept } else { &mut self.by_expiry };
        of.remove(&(entry.expires_ms, key));
        Some(entry.value)
    }

    /// Each entry is dropped once, so the work of a call is paid by the calls that put them.
    fn expire(&mut self, now_ms: i64) {
        for of in [&mut self.by_expiry, &mut self.kept] {
            while of.first().is_some_and(|(expires_ms, _)| *expires_ms <= now_ms) {
                of.pop_first().map(|(_, key)| self.by_key.remove(&key));
            }
        }
    }

    fn bytes(&self, key: &str) -> Option<&Vec<u8>> {
        match self.by_key.get(key) {
            Some(Entry { value: Value::Bytes(bytes), .. }) => Some(bytes),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_and_a_value_end_to_the_millisecond() {
        let cache = MemoryCache::new(10);
        assert_eq!(cache.incr("k", 100, 0), 1);
        assert_eq!(cache.incr("k", 100, 99), 2);
        assert_eq!((cache.count("k", 99), cache.count("k", 100)), (2, 0));
        cache.put("v", b"v".to_vec(), 100, 100);
        assert_eq!(cache.get("v", 199), Some(b"v".to_vec()));
        assert_eq!(cache.get("v", 200), None);
    }

    #[test]
    fn a_full_cache_drops_what_is_expired_then_what_expires_soonest() {
        let cache = MemoryCache::new(3);
        for (key, ttl) in [("a", 10), ("b", 50), ("c", 40)] {
            cache.put(key, vec![], ttl, 0);
        }
        cache.put("d", vec![], 100, 20);
        assert!(cache.get("b", 20).is_some() && cache.get("c", 20).is_some());
        cache.put("e", vec![], 100, 20);
        assert_eq!(cache.get("c", 20), None, "the soonest to expire made room");
        assert!(cache.get("b", 20).is_some());
        cache.put("b", vec![1], 100, 20);
        assert!(cache.get("d", 20).is_some(), "replacing needs no room");
        let entries = cache.entries.lock().unwrap();
        assert_eq!((entries.by_key.len(), entries.by_expiry.len()), (3, 3));
    }
    #[test]
    fn what_is_swapped_in_makes_no_room_for_others_and_finds_none_when_it_is_full_itself() {
        let cache = MemoryCache::new(3);
        let swap = |key: &str, expected: Option<&[u8]>, new: Option<&[u8]>| {
            let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            let (expected, new) = (owned(expected), owned(new));
            cache.swap(Swap { key: key.into(), expected, new, ttl_ms: 10, ranks: vec![] }, 0)
        };
        assert!(swap("a", None, Some(b"a")) && swap("b", None, Some(b"b")));
        for other in ["c", "d", "e", "f"] {
            cache.put(other, vec![], 100, 0);
        }
        assert!(cache.get("a", 0).is_some() && cache.get("b", 0).is_some());
        assert!(swap("g", None, Some(b"g")));
        assert!(!swap("h", None, Some(b"h")), "it is full");
        assert!(swap("g", Some(b"g"), Some(b"G")), "changing needs no room");
        assert!(swap("g", Some(b"G"), None) && swap("h", None, Some(b"h")));
        assert_eq!(cache.get("h", 10), None, "it expires");
    }
}
