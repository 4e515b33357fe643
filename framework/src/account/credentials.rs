//! Owns what the login server hands out: a credential that a gate takes where it takes a token.

use std::time::Duration;

use super::{
    center::{Entry, Inner},
    tokens::Subject,
};
use crate::{store::Account, wire::Refusal};

/// How long a credential is good.
const CREDENTIAL_TTL: Duration = Duration::from_secs(24 * 60 * 60);

impl Inner {
    /// Lets an account in whose proof was good, and makes a credential for it.
    pub(super) async fn credential(
        &self,
        account: Account,
        entry: Entry<'_>,
    ) -> Result<String, Refusal> {
        let now_ms = self.clock.now_ms();
        self.let_in(&account, &entry, now_ms).await?;
        let Account { id: account_id, openid, .. } = &account;
        let ttl = Some(CREDENTIAL_TTL);
        let subject = Subject {
            account_id: *account_id,
            openid,
            app: entry.app_id,
            ttl,
            ..Subject::default()
        };
        Ok(self.issuer.issue(&subject, now_ms).0)
    }
}
