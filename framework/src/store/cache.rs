//! Owns what is kept for minutes and may be lost: counters of failures, single-use values.
//! Leaves what must survive a restart to the store.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::limits::CACHE_ENTRIES_MAX;

/// Values that expire. A clone is a handle to the same cache. When it is full, what expires
/// soonest makes room, and `bastide_cache_evicted_total` counts it: no new entry is refused.
#[derive(Clone)]
pub(crate) struct Cache(Backend);

#[derive(Clone)]
enum Backend {
    /// Std mutex: held for a look-up, never across an await.
    Memory(Arc<Mutex<Entries>>),
}

/// Why the cache did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CacheError {
    /// The service of the cache is away. Refuse what depends on it. (The one in memory never is.)
    #[error("the cache did not answer: {0}; see whether its service is up")]
    #[expect(dead_code, reason = "a cache in memory is never away; one behind a network is")]
    Unavailable(String),
}

struct Entries {
    by_key: HashMap<Arc<str>, Entry>,
    /// The same keys, soonest to expire first.
    by_expiry: BTreeSet<(i64, Arc<str>)>,
    max: usize,
}

struct Entry {
    value: Value,
    expires_ms: i64,
}

enum Value {
    Count(u64),
    Bytes(Vec<u8>),
}

impl Cache {
    /// A cache in this process.
    pub(crate) fn memory() -> Self {
        Self::memory_of(CACHE_ENTRIES_MAX)
    }

    fn memory_of(max: usize) -> Self {
        let entries = Entries { by_key: HashMap::new(), by_expiry: BTreeSet::new(), max };
        Self(Backend::Memory(Arc::new(Mutex::new(entries))))
    }

    /// Adds one to a count and returns it. The window opens with the first and does not move:
    /// the count ends `ttl_ms` after it.
    pub(crate) async fn incr(
        &self,
        key: &str,
        ttl_ms: i64,
        now_ms: i64,
    ) -> Result<u64, CacheError> {
        let mut entries = self.entries(now_ms);
        if let Some(Entry { value: Value::Count(count), .. }) = entries.by_key.get_mut(key) {
            *count = count.saturating_add(1);
            return Ok(*count);
        }
        entries.put(key, Value::Count(1), now_ms.saturating_add(ttl_ms));
        Ok(1)
    }

    /// What `incr` has counted; zero when its window is over.
    pub(crate) async fn count(&self, key: &str, now_ms: i64) -> Result<u64, CacheError> {
        Ok(match self.entries(now_ms).by_key.get(key) {
            Some(Entry { value: Value::Count(count), .. }) => *count,
            _ => 0,
        })
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "single-use codes will ask"))]
    pub(crate) async fn get(&self, key: &str, now_ms: i64) -> Result<Option<Vec<u8>>, CacheError> {
        Ok(match self.entries(now_ms).by_key.get(key) {
            Some(Entry { value: Value::Bytes(bytes), .. }) => Some(bytes.clone()),
            _ => None,
        })
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "single-use codes will ask"))]
    pub(crate) async fn put(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_ms: i64,
        now_ms: i64,
    ) -> Result<(), CacheError> {
        self.entries(now_ms).put(key, Value::Bytes(value), now_ms.saturating_add(ttl_ms));
        Ok(())
    }

    /// Reads and deletes: of many that take at once, one gets it.
    #[cfg_attr(not(test), expect(dead_code, reason = "single-use codes will ask"))]
    pub(crate) async fn take(&self, key: &str, now_ms: i64) -> Result<Option<Vec<u8>>, CacheError> {
        Ok(match self.entries(now_ms).remove(key) {
            Some(Value::Bytes(bytes)) => Some(bytes),
            _ => None,
        })
    }

    /// The entries that have not expired.
    fn entries(&self, now_ms: i64) -> MutexGuard<'_, Entries> {
        let Backend::Memory(entries) = &self.0;
        let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.expire(now_ms);
        entries
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache(memory)")
    }
}

impl Entries {
    fn put(&mut self, key: &str, value: Value, expires_ms: i64) {
        self.remove(key);
        if self.by_key.len() >= self.max {
            self.by_expiry.pop_first().map(|(_, soonest)| self.by_key.remove(&soonest));
            metrics::counter!("bastide_cache_evicted_total").increment(1);
        }
        let key: Arc<str> = key.into();
        self.by_expiry.insert((expires_ms, Arc::clone(&key)));
        self.by_key.insert(key, Entry { value, expires_ms });
    }

    fn remove(&mut self, key: &str) -> Option<Value> {
        let (key, entry) = self.by_key.remove_entry(key)?;
        self.by_expiry.remove(&(entry.expires_ms, key));
        Some(entry.value)
    }

    /// Each entry is dropped once, so the work of a call is paid by the calls that put them.
    fn expire(&mut self, now_ms: i64) {
        while self.by_expiry.first().is_some_and(|(expires_ms, _)| *expires_ms <= now_ms) {
            self.by_expiry.pop_first().map(|(_, key)| self.by_key.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_count_ends_with_its_window_however_often_it_grew() {
        let cache = Cache::memory();
        assert_eq!(cache.incr("k", 100, 0).await, Ok(1));
        assert_eq!(cache.incr("k", 100, 99).await, Ok(2));
        assert_eq!(cache.count("k", 99).await, Ok(2));
        assert_eq!(cache.count("k", 100).await, Ok(0));
        assert_eq!(cache.incr("k", 100, 100).await, Ok(1));
        assert_eq!(cache.count("other", 100).await, Ok(0));
    }

    #[tokio::test]
    async fn a_value_is_read_until_it_expires_and_taken_once() {
        let cache = Cache::memory();
        cache.put("k", b"v".to_vec(), 100, 0).await.unwrap();
        assert_eq!(cache.get("k", 99).await, Ok(Some(b"v".to_vec())));
        assert_eq!(cache.get("k", 100).await, Ok(None));
        cache.put("k", b"a".to_vec(), 100, 0).await.unwrap();
        cache.put("k", b"b".to_vec(), 200, 0).await.unwrap();
        assert_eq!(cache.take("k", 150).await, Ok(Some(b"b".to_vec())), "the later put counts");
        assert_eq!(cache.take("k", 150).await, Ok(None));
    }

    #[tokio::test]
    async fn a_full_cache_drops_what_is_expired_then_what_expires_soonest() {
        let cache = Cache::memory_of(3);
        for (key, ttl) in [("a", 10), ("b", 50), ("c", 40)] {
            cache.put(key, vec![], ttl, 0).await.unwrap();
        }
        cache.put("d", vec![], 100, 20).await.unwrap();
        assert!(
            cache.get("b", 20).await.unwrap().is_some()
                && cache.get("c", 20).await.unwrap().is_some()
        );
        cache.put("e", vec![], 100, 20).await.unwrap();
        assert_eq!(cache.get("c", 20).await, Ok(None), "the soonest to expire made room");
        assert!(cache.get("b", 20).await.unwrap().is_some());
        cache.put("b", vec![1], 100, 20).await.unwrap();
        assert!(cache.get("d", 20).await.unwrap().is_some(), "replacing needs no room");
        let Backend::Memory(entries) = &cache.0;
        let entries = entries.lock().unwrap();
        assert_eq!((entries.by_key.len(), entries.by_expiry.len()), (3, 3));
    }
}
