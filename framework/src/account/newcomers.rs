//! Owns how accounts come to be: guests of devices, and names; and how many an address may make.
//! Leaves who may sign in to `center`, phones to `phones`, and proofs to `validators`.

use std::time::Duration;

use super::{center::Inner, refused::Refused, throttle::network};
use crate::{
    store::{Account, CreateError, NewAccount},
    wire::Code,
};

const HOUR_MS: i64 = 60 * 60 * 1000;

impl Inner {
    /// The account of a device, made when there is none; of two that race, one is made.
    pub(super) async fn guest(
        &self,
        device_id: &str,
        ip: Option<&str>,
    ) -> Result<Account, Refused> {
        let find = || self.store.account_by_device(device_id);
        if let Some(account) = find().await.map_err(|e| self.away(e))? {
            return Ok(account);
        }
        self.count_new(ip).await?;
        let new = NewAccount::Guest { device_id: device_id.to_owned() };
        match self.store.create_account(new, self.clock.now_ms()).await {
            Ok(account) => {
                tracing::info!(target: "account", account = account.id, "guest created");
                Ok(account)
            }
            Err(CreateError::Taken) => {
                find().await.map_err(|e| self.away(e))?.ok_or_else(|| Code::NOT_CREATED.into())
            }
            Err(CreateError::Store(error)) => Err(self.away(error).into()),
        }
    }

    /// Guests and names cost nothing to make, and a row each to keep.
    async fn count_new(&self, ip: Option<&str>) -> Result<(), Refused> {
        let max = self.accounts_per_ip_hour;
        let Some(ip) = ip.filter(|_| max > 0) else { return Ok(()) };
        let key = format!("account.new.ip.{}", network(ip));
        let made = self.cache.incr(&key, HOUR_MS, self.clock.now_ms()).await;
        match made.map_err(|e| self.away(e))? {
            made if made <= max => return Ok(()),
            made if made == max + 1 => {
                tracing::info!(target: "account", limit = max, "account.accounts_per_ip_hour reached");
            }
            _ => {}
        }
        let left = self.cache.window_ms(&key, self.clock.now_ms()).await.unwrap_or_default();
        let refusal = Code::TOO_MANY_TRIES
            .because("too many accounts were made from this address: come back later");
        let retry_after = left.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        Err(Refused { refusal, retry_after })
    }

    /// Creates an account with a name, and an address if one was given.
    pub(super) async fn register(
        &self,
        username: String,
        password: String,
        email: Option<String>,
        ip: Option<&str>,
    ) -> Result<Account, Refused> {
        // Before the hash: what is taken costs no 15 ms. The insert decides all the same.
        if self.store.account_by_username(&username).await.map_err(|e| self.away(e))?.is_some() {
            return Err(Code::NAME_TAKEN.into());
        }
        if let Some(email) = &email
            && self.store.account_by_email(email).await.map_err(|e| self.away(e))?.is_some()
        {
            return Err(Code::PARAMETER.because("parameter `email` is another account's").into());
        }
        self.count_new(ip).await?;
        let password_hash = self.passwords.turn().await?.hash(password).await?;
        let new = match email {
            Some(email) => NewAccount::Reachable { username, password_hash, email },
            None => NewAccount::Named { username, password_hash },
        };
        match self.store.create_account(new, self.clock.now_ms()).await {
            Ok(account) => {
                tracing::info!(target: "account", account = account.id, "account created");
                Ok(account)
            }
            Err(CreateError::Taken) => Err(Code::NAME_TAKEN.into()),
            Err(CreateError::Store(error)) => Err(self.away(error).into()),
        }
    }
}
