//! Owns tickets: what lets one account take one seat, once, within [`TICKET_TTL`].

use prost::Message as _;

use super::book::ms;
use crate::{
    Code, Refusal,
    chance::Chance,
    clock::Clock,
    limits::TICKET_TTL,
    proto::link::TicketRecord,
    store::{Cache, CacheError},
};

/// The tickets of the cluster. A clone is a handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct Tickets {
    cache: Cache,
    chance: Chance,
    clock: Clock,
}

impl Tickets {
    pub(crate) fn new(cache: Cache, chance: Chance, clock: Clock) -> Self {
        Self { cache, chance, clock }
    }

    /// A new ticket: 16 bytes from a CSPRNG.
    ///
    /// # Errors
    /// 101 when the cache is away.
    pub(crate) async fn issue(&self, stands_for: &TicketRecord) -> Result<Vec<u8>, Refusal> {
        let ticket = self.chance.next_u128().to_be_bytes();
        let (value, now_ms) = (stands_for.encode_to_vec(), self.clock.now_ms());
        self.cache.put(&key(&ticket), value, ms(TICKET_TTL), now_ms).await.map_err(away)?;
        Ok(ticket.to_vec())
    }

    /// Uses a ticket up; of several who show it, one has it. Shown by another account than
    /// `account`, where that is known, it stays as it is.
    ///
    /// # Errors
    /// 3003 when it is none, or not any more, or another's; 101 when the cache is away.
    pub(crate) async fn take(
        &self,
        ticket: &[u8],
        account: Option<i64>,
    ) -> Result<TicketRecord, Refusal> {
        let Ok(ticket) = <[u8; 16]>::try_from(ticket) else { return Err(invalid()) };
        let (key, now_ms) = (key(&ticket), self.clock.now_ms());
        if let Some(account) = account {
            // What it stands for never changes.
            let shown = self.cache.get(&key, now_ms).await.map_err(away)?;
            if decoded(shown)?.account != account {
                return Err(invalid());
            }
        }
        decoded(self.cache.take(&key, now_ms).await.map_err(away)?)
    }
}

fn key(ticket: &[u8; 16]) -> String {
    format!("ticket:{:032x}", u128::from_be_bytes(*ticket))
}

fn decoded(value: Option<Vec<u8>>) -> Result<TicketRecord, Refusal> {
    let record = value.and_then(|value| TicketRecord::decode(value.as_slice()).ok());
    record.ok_or_else(invalid)
}

fn invalid() -> Refusal {
    Code::TICKET_INVALID.into()
}

fn away(_: CacheError) -> Refusal {
    Code::NOT_READY.because("the cache is away")
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::runtime::Handle;

    use super::*;
    use crate::store::Redis;

    fn both() -> [(Tickets, Clock); 2] {
        let url = bastide_testkit::shared().redis.url();
        let redis = Redis::open(&url, &bastide_testkit::cluster_name(), Handle::current()).unwrap();
        [Cache::memory(), Cache::redis(redis)].map(|cache| {
            let clock = Clock::fixed(1_000);
            (Tickets::new(cache, Chance::from_os(), clock.clone()), clock)
        })
    }

    fn of(account: i64) -> TicketRecord {
        let (kind, room_id) = ("arena".to_owned(), "r1".to_owned());
        TicketRecord { account, kind, room_id, openid: "o".into(), sid: "s".into() }
    }

    #[tokio::test]
    async fn a_ticket_is_good_once_and_for_its_account_only() {
        let invalid = Err(Code::TICKET_INVALID);
        for (tickets, _) in both() {
            let take = async |ticket: &[u8], account| {
                tickets.take(ticket, account).await.map_err(|r| r.code)
            };
            let ticket = tickets.issue(&of(7)).await.unwrap();
            assert_eq!(ticket.len(), 16);
            assert_eq!(take(&ticket, Some(8)).await, invalid, "another's");
            assert_eq!(take(&ticket, Some(7)).await, Ok(of(7)));
            assert_eq!(take(&ticket, Some(7)).await, invalid, "used");
            let ticket = tickets.issue(&of(7)).await.unwrap();
            assert_eq!(take(&ticket, None).await, Ok(of(7)), "it says itself whose it is");
            for none in [&[0; 16][..], &[], &[1; 17]] {
                assert_eq!(take(none, None).await, invalid, "{none:?}");
            }
        }
    }

    #[tokio::test]
    async fn of_twenty_that_show_one_ticket_at_once_one_has_it() {
        for (tickets, _) in both() {
            let ticket = tickets.issue(&of(7)).await.unwrap();
            for account in [None, Some(7)] {
                let takes = join_all((0..20).map(|_| tickets.take(&ticket, account))).await;
                let had = takes.iter().filter(|taken| taken.is_ok()).count();
                assert_eq!(had, usize::from(account.is_none()), "the second twenty are too late");
            }
        }
    }

    #[tokio::test]
    async fn a_ticket_ends_to_the_millisecond() {
        let [(tickets, clock), _] = both();
        let (first, second) =
            (tickets.issue(&of(7)).await.unwrap(), tickets.issue(&of(7)).await.unwrap());
        clock.set(1_000 + ms(TICKET_TTL) - 1);
        assert!(tickets.take(&first, None).await.is_ok());
        clock.set(1_000 + ms(TICKET_TTL));
        let late = tickets.take(&second, None).await.map_err(|r| r.code);
        assert_eq!(late, Err(Code::TICKET_INVALID));
    }
}
