//! Owns signing in by a code that was sent to a phone; the first time makes the account.
//! Leaves the code itself to `codes`.

use rand::{Rng as _, TryRngCore as _, rngs::OsRng};

use super::{
    center::{AccountCenter, Inner},
    codes::{Phone, Taker},
    entry::{Entry, Signed},
    refused::Refused,
};
use crate::{
    store::{Account, CreateError, NewAccount},
    wire::{Code, Refusal},
};

/// How often a name is drawn for a new account. While half of the 10,000 endings are free, one in
/// 30,000 first sign-ins finds none, and may try again. Beyond: 202.
const NAMES_DRAWN_MAX: usize = 16;

const WAY: &str = "phone";

/// Who has signed in at the login server.
pub(super) struct Session {
    /// What a gate takes where it takes a token.
    pub(super) id: String,
    pub(super) gateway_url: String,
}

impl AccountCenter {
    /// Sends a code to a phone.
    pub(super) async fn send_code(&self, phone: &Phone, ip: Option<&str>) -> Result<(), Refused> {
        self.0.send_code(phone, ip).await
    }

    /// A phone that is written whole, or without its country.
    pub(super) fn phone_at_home(&self, phone: &str) -> Result<Phone, Refusal> {
        Phone::parse_at_home(&self.0.country_code, phone)
    }

    /// Signs in at the platform by a code.
    pub(super) async fn by_phone(
        &self,
        phone: &Phone,
        code: &str,
        app_id: Option<&str>,
        ip: Option<&str>,
    ) -> Result<Signed, Refused> {
        self.0.take_code(phone, code, Taker::Platform, ip).await?;
        let account = self.0.account_of(phone).await?;
        Ok(self.0.admit(account, Entry { way: WAY, app_id, ip }).await?)
    }

    /// Signs in at the login server by a code, be it one that the platform has taken.
    pub(super) async fn session_by_phone(
        &self,
        phone: &Phone,
        code: &str,
        ip: Option<&str>,
    ) -> Result<Session, Refused> {
        // First: a code that leads nowhere is not used up.
        let gateway_url = self.0.gateway_url()?;
        self.0.take_code(phone, code, Taker::LoginServer, ip).await?;
        let account = self.0.account_of(phone).await?;
        let id = self.0.credential(account, Entry { way: WAY, app_id: None, ip }).await?;
        Ok(Session { id, gateway_url })
    }
}

impl Inner {
    /// The account of a phone, made when there is none; of two that race, one is made.
    async fn account_of(&self, phone: &Phone) -> Result<Account, Refusal> {
        let e164 = phone.e164();
        for drawn in 0..NAMES_DRAWN_MAX {
            let found = self.store.account_by_phone(&e164).await.map_err(|e| self.away(e))?;
            if let Some(account) = found {
                return Ok(account);
            }
            let username = match drawn {
                0 => phone.username(),
                _ => {
                    let ending = OsRng.unwrap_err().random_range(0..10_000);
                    format!("{}_{ending:04}", phone.username())
                }
            };
            let new = NewAccount::Phone { phone: e164.clone(), username };
            match self.store.create_account(new, self.clock.now_ms()).await {
                Ok(account) => {
                    tracing::info!(target: "account", account = account.id, "account created");
                    return Ok(account);
                }
                // The name is taken, or the phone has an account by now: the next look tells.
                Err(CreateError::Taken) => {}
                Err(CreateError::Store(error)) => return Err(self.away(error)),
            }
        }
        Err(Code::NOT_CREATED.into())
    }
}

#[cfg(test)]
mod tests;
