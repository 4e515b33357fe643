//! Owns what is kept for minutes and may be lost: counters of failures, single-use values.
//! Leaves what must survive a restart to the store.

mod memory;
mod shared;

use std::fmt;

use memory::MemoryCache;
use shared::SharedCache;

use super::redis::Redis;
use crate::limits::CACHE_ENTRIES_MAX;

/// Values that expire. A clone is a handle to the same cache. A key is that of a count or that
/// of a value, never both.
#[derive(Clone)]
pub(crate) struct Cache(Backend);

#[derive(Clone)]
enum Backend {
    /// When it is full, what expires soonest makes room, and `bastide_cache_evicted_total`
    /// counts it: no new entry is refused.
    Memory(MemoryCache),
    /// Here `now_ms` does not count: time is that of Redis.
    Redis(SharedCache),
}

/// Why the cache did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CacheError {
    /// The service of the cache is away. Refuse what depends on it; whether it was done is
    /// unknown. (The one in memory never is away.)
    #[error(
        "the Redis of `cache.redis` is of no use: {0}; see whether it is up, and the right one"
    )]
    Unavailable(String),
}

impl Cache {
    /// A cache in this process.
    pub(crate) fn memory() -> Self {
        Self(Backend::Memory(MemoryCache::new(CACHE_ENTRIES_MAX)))
    }

    /// A cache that all nodes of a cluster share.
    pub(crate) fn redis(redis: Redis) -> Self {
        Self(Backend::Redis(SharedCache(redis)))
    }

    /// Adds one to a count and returns it. The window opens with the first and does not move:
    /// the count ends `ttl_ms` after it.
    pub(crate) async fn incr(
        &self,
        key: &str,
        ttl_ms: i64,
        now_ms: i64,
    ) -> Result<u64, CacheError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.incr(key, ttl_ms, now_ms)),
            Backend::Redis(redis) => redis.incr(key, ttl_ms).await,
        }
    }

    /// What `incr` has counted; zero when its window is over.
    pub(crate) async fn count(&self, key: &str, now_ms: i64) -> Result<u64, CacheError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.count(key, now_ms)),
            Backend::Redis(redis) => redis.count(key).await,
        }
    }

    pub(crate) async fn get(&self, key: &str, now_ms: i64) -> Result<Option<Vec<u8>>, CacheError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.get(key, now_ms)),
            Backend::Redis(redis) => redis.get(key).await,
        }
    }

    /// Several values in one round trip, in the order of their keys.
    pub(crate) async fn get_many(
        &self,
        keys: &[String],
        now_ms: i64,
    ) -> Result<Vec<Option<Vec<u8>>>, CacheError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(keys.iter().map(|k| memory.get(k, now_ms)).collect()),
            Backend::Redis(redis) => redis.get_many(keys).await,
        }
    }

    pub(crate) async fn put(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_ms: i64,
        now_ms: i64,
    ) -> Result<(), CacheError> {
        match &self.0 {
            Backend::Memory(memory) => {
                memory.put(key, value, ttl_ms, now_ms);
                Ok(())
            }
            Backend::Redis(redis) => redis.put(key, value, ttl_ms).await,
        }
    }

    /// Puts a value where there is none; whether it is there now. Asked again with the same
    /// value it says so again: of many that put different ones at once, one hears yes.
    pub(crate) async fn put_if_absent(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_ms: i64,
        now_ms: i64,
    ) -> Result<bool, CacheError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.put_if_absent(key, value, ttl_ms, now_ms)),
            Backend::Redis(redis) => redis.put_if_absent(key, value, ttl_ms).await,
        }
    }

    /// Reads and deletes: of many that take at once, one gets it.
    pub(crate) async fn take(&self, key: &str, now_ms: i64) -> Result<Option<Vec<u8>>, CacheError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.take(key, now_ms)),
            Backend::Redis(redis) => redis.take(key).await,
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Backend::Memory(_) => f.write_str("Cache(memory)"),
            Backend::Redis(SharedCache(redis)) => f.debug_tuple("Cache").field(redis).finish(),
        }
    }
}

#[cfg(test)]
mod tests;
