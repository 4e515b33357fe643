//! Owns what a platform does that several apps share: registering with an address, one sign-in for
//! each app, and telling other servers whether a token is good.

use super::{
    center::{AccountCenter, Inner},
    entry::{Entry, Signed, may_sign_in},
    refused::Refused,
    rules,
    tokens::Claims,
};
use crate::{secret::Known, store::Account, wire::Refusal};

/// Why a token of the platform is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Not one of ours, too old, or another app's.
    Invalid,
    /// Its sign-in has ended: signed out, banned, or signed in anew.
    RevokedOrKicked,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Invalid => "invalid_token",
            Self::RevokedOrKicked => "revoked_or_kicked",
        })
    }
}

impl AccountCenter {
    /// Creates an account with a name and an address, and signs it in to an app.
    pub(super) async fn platform_register(
        &self,
        username: String,
        password: String,
        email: String,
        app_id: &str,
        ip: Option<&str>,
    ) -> Result<Signed, Refused> {
        let (username, password) = (rules::username(username)?, rules::password(password)?);
        let email = rules::email(email)?;
        rules::app_id(app_id)?;
        let account = self.0.register(username, password, Some(email), ip).await?;
        Ok(self.0.admit(account, Entry { way: "platform", app_id: Some(app_id), ip }).await?)
    }

    /// Signs in to an app; a sign-in to it from before is no good any more.
    pub(super) async fn platform_login(
        &self,
        username: &str,
        password: String,
        app_id: &str,
        ip: Option<&str>,
    ) -> Result<Signed, Refused> {
        rules::app_id(app_id)?;
        let account = self.0.by_password(username, password, ip).await?;
        Ok(self.0.admit(account, Entry { way: "platform", app_id: Some(app_id), ip }).await?)
    }

    /// Whether another server of the studio asks. `Err`: why not.
    pub(super) fn is_internal(&self, shown: Option<&str>) -> Result<(), NotInternal> {
        match (&self.0.internal, shown) {
            (_, None) => Err(NotInternal::Missing),
            (None, Some(_)) => Err(NotInternal::Closed),
            (Some(secret), Some(shown)) if Known::is(secret, shown) => Ok(()),
            (Some(_), Some(_)) => Err(NotInternal::Wrong),
        }
    }
}

/// Why somebody is not taken for another server of the studio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotInternal {
    Missing,
    Wrong,
    /// There is no secret that would let anybody in.
    Closed,
}

impl Inner {
    /// Whether a token is good for an app, and whose it is.
    ///
    /// # Errors
    /// 101 when the store is away.
    pub(super) async fn check_token(
        &self,
        token: &str,
        app_id: &str,
    ) -> Result<Result<(Account, Claims), Reason>, Refusal> {
        let Ok(claims) = self.keys.verify(token, self.clock.now_ms()) else {
            return Ok(Err(Reason::Invalid));
        };
        if claims.app.as_deref() != Some(app_id) {
            return Ok(Err(Reason::Invalid));
        }
        self.checked(claims).await
    }

    /// Whose token it is, whatever the app.
    pub(super) async fn verify_token(
        &self,
        token: &str,
    ) -> Result<Result<(Account, Claims), Reason>, Refusal> {
        match self.keys.verify(token, self.clock.now_ms()) {
            Ok(claims) => self.checked(claims).await,
            Err(_) => Ok(Err(Reason::Invalid)),
        }
    }

    /// The rows say it and not the marks, which a cache may lose.
    async fn checked(&self, claims: Claims) -> Result<Result<(Account, Claims), Reason>, Refusal> {
        let sign_in = self.store.sign_in(&claims.sid).await.map_err(|e| self.away(e))?;
        let Some(sign_in) = sign_in else { return Ok(Err(Reason::RevokedOrKicked)) };
        let account = self.store.account_by_id(sign_in.account_id).await;
        Ok(match account.map_err(|e| self.away(e))? {
            Some(account) if may_sign_in(&account, self.clock.now_ms()).is_ok() => {
                Ok((account, claims))
            }
            Some(_) | None => Err(Reason::RevokedOrKicked),
        })
    }
}

/// What an account is called: its name, or what stands for one.
pub(super) fn shown_name(account: &Account) -> String {
    match (&account.username, &account.device_id) {
        (Some(username), _) => username.clone(),
        (None, Some(device_id)) => format!("guest_{device_id}"),
        (None, None) => format!("user_{}", account.id),
    }
}
