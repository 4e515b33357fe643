//! Owns the cache that the nodes of a cluster share, in Redis. Its time is that of Redis.

use std::sync::LazyLock;

use ::redis::cmd;

use super::{CacheError, Found, Range, Swap};
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

/// A second try finds what the first one left, and does it again.
static SWAP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local now = redis.call('GET', KEYS[1])
         local function is(there, value)
             if there == '0' then return not now end
             return now == value
         end
         if not is(ARGV[1], ARGV[2]) and not is(ARGV[3], ARGV[4]) then return 0 end
         if ARGV[3] == '0' then
             redis.call('DEL', KEYS[1])
         else
             redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
         end
         for i = 2, #KEYS do
             local member, at = ARGV[2 * i + 2], ARGV[2 * i + 3]
             if at == '' then
                 redis.call('ZREM', KEYS[i], member)
             else
                 redis.call('ZADD', KEYS[i], at, member)
                 redis.call('PEXPIRE', KEYS[i], ARGV[5])
             end
         end
         return 1",
    )
});

/// The values are in the slot of the set, like all of a cluster.
static RANGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local members = redis.call(ARGV[1], KEYS[1], ARGV[2], ARGV[3])
         if #members == 0 then return {{}, {}} end
         local keys = {}
         for i, member in ipairs(members) do keys[i] = ARGV[4] .. member end
         return {members, redis.call('MGET', unpack(keys))}",
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

    pub(super) async fn swap(&self, swap: Swap) -> Result<bool, CacheError> {
        let Swap { key, expected, new, ttl_ms, ranks } = swap;
        let mut keys = vec![self.value_key(&key)];
        let mut args = Vec::with_capacity(5 + 2 * ranks.len());
        for value in [expected, new] {
            args.push(if value.is_some() { b"1".to_vec() } else { b"0".to_vec() });
            args.push(value.unwrap_or_default());
        }
        args.push(milliseconds(ttl_ms));
        for rank in ranks {
            keys.push(self.set_key(&rank.set));
            args.push(rank.member.into_bytes());
            args.push(rank.at.map(|at| at.to_string().into_bytes()).unwrap_or_default());
        }
        self.0.script(&SWAP, keys, args).await
    }

    pub(super) async fn range(&self, range: &Range<'_>) -> Result<Vec<Found>, CacheError> {
        let Some(last) = (range.offset + range.count).checked_sub(1) else { return Ok(Vec::new()) };
        let order = if range.greatest_first { "ZREVRANGE" } else { "ZRANGE" };
        let args = [
            order.to_owned(),
            range.offset.to_string(),
            last.to_string(),
            self.value_key(range.prefix),
        ];
        let args = args.map(String::into_bytes).to_vec();
        let (members, values): (Vec<String>, Vec<Option<Vec<u8>>>) =
            self.0.script(&RANGE, vec![self.set_key(range.set)], args).await?;
        let found = members.into_iter().zip(values);
        Ok(found.map(|(member, value)| Found { member, value }).collect())
    }

    // Counts and values have keys of their own: Redis would take a value of digits for a count.
    fn count_key(&self, key: &str) -> String {
        self.0.key(&format!("count:{key}"))
    }

    fn value_key(&self, key: &str) -> String {
        self.0.key(&format!("value:{key}"))
    }

    fn set_key(&self, set: &str) -> String {
        self.0.key(&format!("set:{set}"))
    }
}

/// Redis refuses an expiry that is not positive.
fn milliseconds(ttl_ms: i64) -> Vec<u8> {
    ttl_ms.max(1).to_string().into_bytes()
}
