//! Owns the cache that the nodes of a cluster share, in Redis. Its time is that of Redis.

use std::sync::LazyLock;

use ::redis::cmd;

use super::CacheError;
use crate::store::redis::{Redis, Script};

/// One script: were the expiry set by a second command, a count could be left without one.
static INCR: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local count = redis.call('INCR', KEYS[1])
         if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
         return count",
    )
});

static PUT_IF_ABSENT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
         return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0",
    )
});

#[derive(Clone)]
pub(super) struct SharedCache(pub(super) Redis);

impl SharedCache {
    pub(super) async fn incr(&self, key: &str, ttl_ms: i64) -> Result<u64, CacheError> {
        let keys = vec![self.count_key(key)];
        self.0.script(&INCR, keys, vec![milliseconds(ttl_ms)]).await
    }

    pub(super) async fn count(&self, key: &str) -> Result<u64, CacheError> {
        let count: Option<u64> = self.0.command(cmd("GET").arg(self.count_key(key)).take()).await?;
        Ok(count.unwrap_or(0))
    }

    pub(super) async fn window_ms(&self, key: &str) -> Result<Option<i64>, CacheError> {
        let left: i64 = self.0.command(cmd("PTTL").arg(self.count_key(key)).take()).await?;
        // -2: there is none.
        Ok((left > 0).then_some(left))
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, CacheError> {
        self.0.command(cmd("GET").arg(self.value_key(key)).take()).await
    }

    pub(super) async fn get_many(
        &self,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, CacheError> {
        let mut get = cmd("MGET");
        for key in keys {
            get.arg(self.value_key(key));
        }
        self.0.command(get).await
    }

    pub(super) async fn put(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_ms: i64,
    ) -> Result<(), CacheError> {
        let mut set = cmd("SET");
        set.arg(self.value_key(key)).arg(value).arg("PX").arg(milliseconds(ttl_ms));
        self.0.command(set).await
    }

    pub(super) async fn put_if_absent(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_ms: i64,
    ) -> Result<bool, CacheError> {
        let keys = vec![self.value_key(key)];
        self.0.script(&PUT_IF_ABSENT, keys, vec![value, milliseconds(ttl_ms)]).await
    }

    pub(super) async fn take(&self, key: &str) -> Result<Option<Vec<u8>>, CacheError> {
        self.0.command(cmd("GETDEL").arg(self.value_key(key)).take()).await
    }

    // Counts and values have keys of their own: Redis would take a value of digits for a count.
    fn count_key(&self, key: &str) -> String {
        self.0.key(&format!("count:{key}"))
    }

    fn value_key(&self, key: &str) -> String {
        self.0.key(&format!("value:{key}"))
    }
}

/// Redis refuses an expiry that is not positive.
fn milliseconds(ttl_ms: i64) -> Vec<u8> {
    ttl_ms.max(1).to_string().into_bytes()
}
