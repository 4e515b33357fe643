//! Owns what is kept for minutes and may be lost: counters of failures, single-use values; and
//! what is changed by many at once: values that are swapped, and their ranks in sets.
//! Leaves what must survive a restart to the store.

mod memory;
mod shared;

use std::fmt;

use memory::MemoryCache;
use shared::SharedCache;

use super::redis::Redis;
use crate::limits::CACHE_ENTRIES_MAX;

/// Values that expire. A clone is a handle to the same cache. A key is that of a count, of a
/// value or of a set, never of two of them.
#[derive(Clone)]
pub(crate) struct Cache(Backend);

#[derive(Clone)]
enum Backend {
    /// When it is full, what expires soonest makes room, and `bastide_cache_evicted_total`
    /// counts it: no new entry is refused. What is swapped in goes by itself alone; beyond as many
    /// again it is refused, and `bastide_cache_refused_total` counts it.
    Memory(MemoryCache),
    /// As that, and before and after each step another task has its turn, or the caller dies.
    #[cfg(test)]
    Steps(MemoryCache),
    /// Here `now_ms` does not count: time is that of Redis.
    Redis(SharedCache),
}

/// A change of one value, if it is what is expected there, and of its ranks in some sets: all of
/// it, or nothing.
#[derive(Clone, Debug)]
pub(crate) struct Swap {
    pub(crate) key: String,
    /// `None`: there is none.
    pub(crate) expected: Option<Vec<u8>>,
    /// `None`: it goes.
    pub(crate) new: Option<Vec<u8>>,
    /// Of the value, and of the sets: each expires so long after the last that came in.
    pub(crate) ttl_ms: i64,
    pub(crate) ranks: Vec<Rank>,
}

/// A member of a set, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Rank {
    pub(crate) set: String,
    pub(crate) member: String,
    /// `None`: it is no member.
    pub(crate) at: Option<i64>,
}

/// Members of a set in the order of their ranks, equal ones in that of their names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range<'a> {
    pub(crate) set: &'a str,
    /// What stands before a member in the key of its value.
    pub(crate) prefix: &'a str,
    pub(crate) greatest_first: bool,
    pub(crate) offset: usize,
    pub(crate) count: usize,
}

/// One of these, and its value, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) member: String,
    pub(crate) value: Option<Vec<u8>>,
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

    #[cfg(test)]
    pub(crate) fn in_steps() -> Self {
        Self(Backend::Steps(MemoryCache::new(CACHE_ENTRIES_MAX)))
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
        match self.at().await {
            At::Memory(memory) => Ok(memory.incr(key, ttl_ms, now_ms)),
            At::Redis(redis) => redis.incr(key, ttl_ms).await,
        }
    }

    /// What `incr` has counted; zero when its window is over.
    pub(crate) async fn count(&self, key: &str, now_ms: i64) -> Result<u64, CacheError> {
        match self.at().await {
            At::Memory(memory) => Ok(memory.count(key, now_ms)),
            At::Redis(redis) => redis.count(key).await,
        }
    }

    /// How long the window of a count still lasts, in ms; `None` when it is over.
    pub(crate) async fn window_ms(
        &self,
        key: &str,
        now_ms: i64,
    ) -> Result<Option<i64>, CacheError> {
        match self.at().await {
            At::Memory(memory) => Ok(memory.window_ms(key, now_ms)),
            At::Redis(redis) => redis.window_ms(key).await,
        }
    }

    pub(crate) async fn get(&self, key: &str, now_ms: i64) -> Result<Option<Vec<u8>>, CacheError> {
        match self.at().await {
            At::Memory(memory) => Ok(memory.get(key, now_ms)),
            At::Redis(redis) => redis.get(key).await,
        }
    }

    /// Several values in one round trip, in the order of their keys.
    pub(crate) async fn get_many(
        &self,
        keys: &[String],
        now_ms: i64,
    ) -> Result<Vec<Option<Vec<u8>>>, CacheError> {
        match self.at().await {
            At::Memory(memory) => Ok(keys.iter().map(|k| memory.get(k, now_ms)).collect()),
            At::Redis(redis) => redis.get_many(keys).await,
        }
    }

    pub(crate) async fn put(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_ms: i64,
        now_ms: i64,
    ) -> Result<(), CacheError> {
        match self.at().await {
            At::Memory(memory) => {
                memory.put(key, value, ttl_ms, now_ms);
                Ok(())
            }
            At::Redis(redis) => redis.put(key, value, ttl_ms).await,
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
        match self.at().await {
            At::Memory(memory) => Ok(memory.put_if_absent(key, value, ttl_ms, now_ms)),
            At::Redis(redis) => redis.put_if_absent(key, value, ttl_ms).await,
        }
    }

    /// Reads and deletes: of many that take at once, one gets it.
    pub(crate) async fn take(&self, key: &str, now_ms: i64) -> Result<Option<Vec<u8>>, CacheError> {
        match self.at().await {
            At::Memory(memory) => Ok(memory.take(key, now_ms)),
            At::Redis(redis) => redis.take(key).await,
        }
    }

    /// Whether it is done, or was: asked again with the same it says so again.
    pub(crate) async fn swap(&self, swap: Swap, now_ms: i64) -> Result<bool, CacheError> {
        match self.at().await {
            At::Memory(memory) => {
                let swapped = memory.swap(swap, now_ms);
                // Who dies here does not know.
                let _a_step = self.at().await;
                Ok(swapped)
            }
            At::Redis(redis) => redis.swap(swap).await,
        }
    }

    /// Some members of a set and their values, in one round trip.
    pub(crate) async fn range(
        &self,
        range: Range<'_>,
        now_ms: i64,
    ) -> Result<Vec<Found>, CacheError> {
        match self.at().await {
            At::Memory(memory) => Ok(memory.range(&range, now_ms)),
            At::Redis(redis) => redis.range(&range).await,
        }
    }

    async fn at(&self) -> At<'_> {
        match &self.0 {
            Backend::Memory(memory) => At::Memory(memory),
            #[cfg(test)]
            Backend::Steps(memory) => {
                tokio::task::yield_now().await;
                At::Memory(memory)
            }
            Backend::Redis(redis) => At::Redis(redis),
        }
    }
}

/// Where a step is done.
enum At<'a> {
    Memory(&'a MemoryCache),
    Redis(&'a SharedCache),
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Backend::Memory(_) => f.write_str("Cache(memory)"),
            #[cfg(test)]
            Backend::Steps(_) => f.write_str("Cache(memory, in steps)"),
            Backend::Redis(SharedCache(redis)) => f.debug_tuple("Cache").field(redis).finish(),
        }
    }
}

#[cfg(test)]
mod tests;
