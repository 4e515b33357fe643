//! Owns the credential that a login server hands out: good for a day at any gate, one for each
//! account and app. Leaves who somebody is to `center`, and the rows to `refresh`.

use std::time::Duration;

use super::{
    center::{AccountCenter, Inner},
    entry::Entry,
    platform::shown_name,
    refresh::Ends,
    refused::Refused,
    rules,
    tokens::{Subject, random_id},
};
use crate::{
    store::Account,
    wire::{Code, Refusal},
};

/// How long a credential is good.
pub(super) const CREDENTIAL_TTL: Duration = Duration::from_secs(24 * 3600);

/// What somebody is let into a game with.
pub(super) struct Admitted {
    pub(super) session_id: String,
    pub(super) gateway_url: String,
    pub(super) username: String,
    pub(super) openid: String,
}

impl AccountCenter {
    /// With a token of the platform that is the newest of its app.
    pub(super) async fn enter_by_token(
        &self,
        token: &str,
        app_id: &str,
        ip: Option<&str>,
    ) -> Result<Admitted, Refused> {
        let inner = &*self.0;
        let gateway_url = inner.gateway_url()?;
        let checked = inner.check_token(token, app_id).await?;
        let (account, claims) = checked.map_err(|reason| {
            Code::TOKEN_INVALID.because(format!("Platform token validation failed: {reason}"))
        })?;
        let entry = Entry { way: "platform-token", app_id: Some(app_id), ip };
        let (session_id, openid) = inner.credential_of(&account, entry, Some(&claims.sid)).await?;
        Ok(Admitted { session_id, gateway_url, username: shown_name(&account), openid })
    }

    /// With name and password.
    pub(super) async fn enter_by_password(
        &self,
        username: &str,
        password: String,
        ip: Option<&str>,
    ) -> Result<Admitted, Refused> {
        let gateway_url = self.0.gateway_url()?;
        let account = self.0.by_password(username, password, ip).await?;
        self.enter(account, Entry { way: "password", app_id: None, ip }, gateway_url).await
    }

    /// As the guest of a device.
    pub(super) async fn enter_as_guest(
        &self,
        device_id: String,
        ip: Option<&str>,
    ) -> Result<Admitted, Refused> {
        let gateway_url = self.0.gateway_url()?;
        let account = self.0.guest(&rules::device_id(device_id)?, ip).await?;
        self.enter(account, Entry { way: "guest", app_id: None, ip }, gateway_url).await
    }

    /// With a name that is new, or that its owner has just registered at the platform.
    pub(super) async fn enter_by_registry(
        &self,
        username: String,
        password: String,
        email: Option<String>,
        ip: Option<&str>,
    ) -> Result<Admitted, Refused> {
        let inner = &*self.0;
        let username = rules::username(username)?;
        let password = rules::password(password)?;
        let email = email.map(rules::email).transpose()?;
        let gateway_url = inner.gateway_url()?;
        let registered = inner.register(username.clone(), password.clone(), email, ip).await;
        let account = match registered {
            Err(refused) if refused.refusal.code == Code::NAME_TAKEN => {
                let owner = inner.by_password(&username, password, ip).await;
                owner.map_err(|refused| match refused.refusal.code {
                    Code::WRONG_CREDENTIALS => Code::NAME_TAKEN.into(),
                    _ => refused,
                })?
            }
            registered => registered?,
        };
        self.enter(account, Entry { way: "registry", app_id: None, ip }, gateway_url).await
    }

    async fn enter(
        &self,
        account: Account,
        entry: Entry<'_>,
        gateway_url: String,
    ) -> Result<Admitted, Refused> {
        let (session_id, openid) = self.0.credential_of(&account, entry, None).await?;
        Ok(Admitted { session_id, gateway_url, username: shown_name(&account), openid })
    }
}

impl Inner {
    /// What the account's game client shows at a gate for a day. The one before it, of the same
    /// app, is no good any more; a session that was begun with that goes on until this one is
    /// shown.
    pub(super) async fn credential(
        &self,
        account: Account,
        entry: Entry<'_>,
    ) -> Result<String, Refusal> {
        self.credential_of(&account, entry, None).await.map(|(session_id, _)| session_id)
    }

    /// The credential and the openid in it; it ends with the sign-in that it is drawn from.
    async fn credential_of(
        &self,
        account: &Account,
        entry: Entry<'_>,
        parent: Option<&str>,
    ) -> Result<(String, String), Refusal> {
        let now_ms = self.clock.now_ms();
        entry.app_id.map(rules::app_id).transpose()?;
        self.lets_in(account, entry, now_ms)?;
        let sid = random_id();
        let ttl_ms = i64::try_from(CREDENTIAL_TTL.as_millis()).unwrap_or(i64::MAX);
        let ends = Ends::At { until_ms: now_ms.saturating_add(ttl_ms), parent };
        let (begun, _) = self.begin(account, entry, None, &sid, ends).await?;
        let subject = Subject {
            account_id: account.id,
            openid: &begun.openid,
            app: entry.app_id,
            role: None,
            sid: Some(&sid),
            ttl: Some(CREDENTIAL_TTL),
        };
        let (session_id, _) = self.keys.issue(&subject, now_ms);
        let way = entry.way;
        tracing::info!(target: "account", account = account.id, sid, way, "credential given");
        Ok((session_id, begun.openid))
    }
}
