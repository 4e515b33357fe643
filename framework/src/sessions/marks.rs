//! Owns the marks by which a gate knows who may not be signed in: of sign-ins that were revoked,
//! and of accounts that are banned. They lie in the cache, where all nodes see them at once.
//!
//! A mark is written before the session is ended, and looked at after a connection has its
//! session: whichever of the two comes first, the session does not stay.

use std::time::{Duration, UNIX_EPOCH};

use crate::{
    clock::Clock,
    store::{Cache, CacheError},
    wire::{Code, Refusal},
};

/// Who may not sign in, or go on. A clone is a handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    cache: Cache,
    clock: Clock,
}

/// A ban, as people are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    pub(crate) until_ms: i64,
    pub(crate) reason: String,
}

impl Marks {
    pub(crate) fn new(cache: Cache, clock: Clock) -> Self {
        Self { cache, clock }
    }

    /// Whether this sign-in of this account is still good, in one round trip.
    ///
    /// # Errors
    /// 2001 when it was revoked, 209 while the account is banned, 101 when the cache is away.
    pub(crate) async fn check(&self, account: i64, sid: &str) -> Result<(), Refusal> {
        let (keys, now_ms) = ([revoked_key(sid), banned_key(account)], self.clock.now_ms());
        let marks = self.cache.get_many(&keys, now_ms).await;
        let marks = marks.map_err(|_| Code::NOT_READY.because("the cache is away"))?;
        if let Some(Some(_revoked)) = marks.first() {
            return Err(Code::TOKEN_INVALID.because(REVOKED));
        }
        match marks.get(1).and_then(|mark| Ban::from_bytes(mark.as_deref()?)) {
            Some(ban) if ban.until_ms > now_ms => Err(ban.refusal()),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether marks can be read and written.
    pub(crate) async fn reached(&self) -> Result<(), CacheError> {
        self.cache.get(&revoked_key("nobody"), self.clock.now_ms()).await.map(drop)
    }

    /// From now on no token of this sign-in is good; `ttl` is how long one could be.
    pub(crate) async fn revoke(&self, sid: &str, ttl: Duration) -> Result<(), CacheError> {
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        self.cache.put(&revoked_key(sid), Vec::new(), ttl_ms, self.clock.now_ms()).await
    }

    /// From now on no token of this account is good, until the ban ends.
    pub(crate) async fn ban(&self, account: i64, ban: &Ban) -> Result<(), CacheError> {
        let now_ms = self.clock.now_ms();
        let ttl_ms = ban.until_ms.saturating_sub(now_ms);
        self.cache.put(&banned_key(account), ban.to_bytes(), ttl_ms, now_ms).await
    }

    pub(crate) async fn unban(&self, account: i64) -> Result<(), CacheError> {
        self.cache.take(&banned_key(account), self.clock.now_ms()).await.map(drop)
    }
}

/// What a client of a revoked sign-in is told.
pub(crate) const REVOKED: &str = "signed out: sign in again";

impl Ban {
    /// What whoever wants to sign in is told.
    pub(crate) fn refusal(&self) -> Refusal {
        Code::BANNED.because(self.to_string())
    }

    fn to_bytes(&self) -> Vec<u8> {
        [&self.until_ms.to_le_bytes()[..], self.reason.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (until_ms, reason) = bytes.split_first_chunk()?;
        let reason = String::from_utf8_lossy(reason).into_owned();
        Some(Self { until_ms: i64::from_le_bytes(*until_ms), reason })
    }
}

impl std::fmt::Display for Ban {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let until = Duration::from_millis(u64::try_from(self.until_ms).unwrap_or(0));
        let until = humantime::format_rfc3339_seconds(UNIX_EPOCH + until.min(YEAR_9999));
        write!(f, "account banned until {until}")?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// What lies beyond cannot be written as a date.
const YEAR_9999: Duration = Duration::from_secs(253_370_764_800);

fn revoked_key(sid: &str) -> String {
    format!("revoked:{sid}")
}

fn banned_key(account: i64) -> String {
    format!("banned:{account}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> (Marks, Clock) {
        let clock = Clock::fixed(1_000);
        (Marks::new(Cache::memory(), clock.clone()), clock)
    }

    #[tokio::test]
    async fn a_revoked_sign_in_is_no_good_and_the_others_of_its_account_are() {
        let (marks, clock) = marks();
        marks.revoke("old", Duration::from_secs(2)).await.unwrap();
        assert_eq!(marks.check(7, "old").await.map_err(|r| r.code), Err(Code::TOKEN_INVALID));
        assert_eq!(marks.check(7, "new").await, Ok(()));
        clock.set(3_000);
        assert_eq!(marks.check(7, "old").await, Ok(()), "by then its tokens have run out");
    }

    #[tokio::test]
    async fn a_ban_says_until_when_and_ends_by_itself_or_is_taken_back() {
        let (marks, clock) = marks();
        let ban = Ban { until_ms: 5_000, reason: "cheating".to_owned() };
        marks.ban(7, &ban).await.unwrap();
        let refusal = marks.check(7, "any").await.unwrap_err();
        assert_eq!(refusal.code, Code::BANNED);
        assert_eq!(refusal.message, "account banned until 1970-01-01T00:00:05Z: cheating");
        assert_eq!(marks.check(8, "any").await, Ok(()));
        clock.set(5_000);
        assert_eq!(marks.check(7, "any").await, Ok(()));
        let longer = Ban { until_ms: i64::MAX, reason: String::new() };
        marks.ban(7, &longer).await.unwrap();
        assert!(marks.check(7, "any").await.unwrap_err().message.contains("9999-"));
        marks.unban(7).await.unwrap();
        assert_eq!(marks.check(7, "any").await, Ok(()));
    }
}
