//! Owns what a sign-in is between its proof and its end: its row, its refresh tokens, and that a
//! token which is shown twice ends it. Leaves who may sign in to `center`, keys to `keys`.

use futures_util::future::join_all;
use ring::digest;

use super::{
    center::{AccountCenter, Entry, Inner, may_sign_in},
    tokens::{Claims, Subject, random},
};
use crate::{
    sessions::{End, Outcome},
    store::{Account, Begun, NewSignIn, NotBegun, RefreshHash, SignIn},
    wire::{Code, Refusal},
};

/// What a client of a sign-in that was the oldest of too many is told.
const TOO_MANY: &str = "signed in on too many devices: sign in again";

/// What whoever shows a used refresh token is told, and with it the client that it was used by.
const REUSED: &str = "a refresh token was used twice, so its sign-in is ended: sign in again";

const UNKNOWN: &str =
    "the refresh token is not one of ours, or its sign-in has ended: sign in again";

/// What a client gets a new access token for, once. The family says which sign-in, and is as
/// secret as the rest: who shows the right one with another secret once had a token of it.
pub(super) struct RefreshToken {
    family: [u8; FAMILY],
    secret: [u8; SECRET],
}

const FAMILY: usize = 16;
const SECRET: usize = 32;

/// What a refresh gives.
pub(super) struct Refreshed {
    pub(super) token: String,
    pub(super) refresh_token: String,
    /// Seconds until the token is too old.
    pub(super) expires_in: i64,
}

impl AccountCenter {
    /// A new access token and a new refresh token for one that was not used yet. Shown again, it
    /// ends its sign-in: one of the two who had it has stolen it.
    pub(super) async fn refresh(&self, refresh_token: &str) -> Result<Refreshed, Refusal> {
        let inner = &*self.0;
        let unknown = || Code::TOKEN_INVALID.because(UNKNOWN);
        let old = RefreshToken::parse(refresh_token).ok_or_else(unknown)?;
        let found = inner.store.sign_in_of(old.hash()).await.map_err(|e| inner.away(e))?;
        let (sign_in, living) = found.ok_or_else(unknown)?;
        let now_ms = inner.clock.now_ms();
        if sign_in.expires_ms <= now_ms {
            return Err(Code::TOKEN_EXPIRED.because("the refresh token is too old: sign in again"));
        }
        if !living {
            return Err(inner.reused(&sign_in).await);
        }
        let account = inner.store.account_by_id(sign_in.account_id).await;
        let account = account.map_err(|e| inner.away(e))?.ok_or_else(unknown)?;
        may_sign_in(&account, now_ms)?;
        let next = RefreshToken { family: old.family, secret: random() };
        let (secret, until_ms) = (next.hash().secret, inner.refresh_until(now_ms));
        let rotated = inner.store.rotate_refresh_token(old.hash(), secret, until_ms, now_ms).await;
        if !rotated.map_err(|e| inner.away(e))? {
            // Somebody else was faster with the same token.
            return Err(inner.reused(&sign_in).await);
        }
        let SignIn { sid, account_id, openid, app_id, role, .. } = &sign_in;
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (app, role) = (said(app_id), said(role));
        let subject = Subject {
            account_id: *account_id,
            openid,
            app: app.as_deref(),
            role: role.as_deref(),
            sid: Some(sid),
            ttl: None,
        };
        let (token, _) = inner.keys.issue(&subject, now_ms);
        tracing::debug!(target: "account", account = account_id, sid, "refreshed");
        Ok(Refreshed { token, refresh_token: next.to_text(), expires_in: inner.keys.ttl_secs() })
    }
}

impl Inner {
    /// Writes a sign-in down, with a refresh token unless it is a credential; who had to make room
    /// for it is revoked.
    pub(super) async fn begin(
        &self,
        account: &Account,
        entry: Entry<'_>,
        sid: &str,
        ends: Ends<'_>,
    ) -> Result<(Begun, Option<RefreshToken>), Refusal> {
        let now_ms = self.clock.now_ms();
        let (token, parent, expires_ms) = match ends {
            Ends::Refreshed => (Some(RefreshToken::new()), None, self.refresh_until(now_ms)),
            Ends::At { until_ms, parent } => (None, parent, until_ms),
        };
        let new = NewSignIn {
            sid: sid.to_owned(),
            account_id: account.id,
            openid: account.openid.clone(),
            app_id: entry.app_id.unwrap_or_default().to_owned(),
            role: String::new(),
            parent: parent.unwrap_or_default().to_owned(),
            token: token.as_ref().map(RefreshToken::hash),
            password_hash: account.password_hash.clone(),
            began_ms: now_ms,
            expires_ms,
        };
        let begun = self.store.begin_sign_in(new).await.map_err(|error| match error {
            NotBegun::Changed => Code::WRONG_CREDENTIALS.into(),
            NotBegun::ParentEnded => Code::TOKEN_INVALID.because(error.to_string()),
            NotBegun::TooManyApps => {
                Code::PARAMETER.because(format!("parameter `app_id`: {error}"))
            }
            NotBegun::Store(error) => self.away(error),
        })?;
        self.revoke(&begun.displaced).await?;
        if !begun.trimmed.is_empty() {
            self.revoke(&begun.trimmed).await?;
            self.end_sessions(account.id, &begun.trimmed, TOO_MANY).await;
        }
        Ok((begun, token))
    }

    /// What a token says whose sign-in has not ended.
    ///
    /// # Errors
    /// 2001, 2002, 209 while the account is banned, 101 when the cache is away.
    pub(super) async fn living(&self, token: &str) -> Result<(i64, Claims), Refusal> {
        let claims = self.keys.verify(token, self.clock.now_ms());
        let claims = claims.map_err(|e| Code::from(e).because(e.to_string()))?;
        let account = claims.sub.parse().map_err(|_| Code::TOKEN_INVALID)?;
        self.sessions.marks().check(account, &claims.sid).await?;
        Ok((account, claims))
    }

    /// The sign-in that a refresh token belongs to, used or not.
    pub(super) async fn sign_in_of(&self, refresh_token: &str) -> Result<SignIn, Refusal> {
        let unknown = || Code::TOKEN_INVALID.because(UNKNOWN);
        let token = RefreshToken::parse(refresh_token).ok_or_else(unknown)?;
        let found = self.store.sign_in_of(token.hash()).await.map_err(|e| self.away(e))?;
        found.map(|(sign_in, _)| sign_in).ok_or_else(unknown)
    }

    /// Ends one sign-in and what belongs to it: its row first, so that nobody refreshes, then its
    /// tokens at every gate, then its session.
    ///
    /// # Errors
    /// 101 when the store or the cache is away: ask again.
    pub(super) async fn end_sign_in(
        &self,
        account: i64,
        sid: &str,
        reason: &str,
    ) -> Result<Outcome, Refusal> {
        // The mark first: when the cache is away, the row stays, and whoever comes again ends it.
        self.revoke(&[sid.to_owned()]).await?;
        let ended = self.store.end_sign_in(account, sid).await.map_err(|e| self.away(e))?;
        self.revoke(&ended).await?;
        // A sign-in that had run out may have a session all the same.
        let mut sids = ended;
        if !sids.iter().any(|ended| ended == sid) {
            sids.push(sid.to_owned());
        }
        Ok(self.end_sessions(account, &sids, reason).await)
    }

    /// Ends every sign-in of an account but that of `except_sid`: refresh tokens, access tokens,
    /// credentials and the session.
    ///
    /// # Errors
    /// 101 when the store or the cache is away: some may have ended.
    pub(super) async fn end_sign_ins(
        &self,
        account: i64,
        except_sid: Option<&str>,
        reason: &str,
    ) -> Result<Outcome, Refusal> {
        let ended = self.store.end_sign_ins(account, except_sid).await;
        let ended = ended.map_err(|e| self.away(e))?;
        self.revoke(&ended).await?;
        Ok(self.end_sessions(account, &ended, reason).await)
    }

    async fn reused(&self, sign_in: &SignIn) -> Refusal {
        let SignIn { sid, account_id, .. } = sign_in;
        tracing::info!(target: "account", account = account_id, sid, "a refresh token was used twice: its sign-in is ended");
        match self.end_sign_in(*account_id, sid, REUSED).await {
            Ok(_) => Code::TOKEN_INVALID.because(REUSED),
            Err(refusal) => refusal,
        }
    }

    /// From now on no gate takes a token of these.
    async fn revoke(&self, sids: &[String]) -> Result<(), Refusal> {
        let (marks, ttl) = (self.sessions.marks(), self.keys.token_ttl_max());
        for sid in sids {
            marks.revoke(sid, ttl).await.map_err(|e| self.away(e))?;
        }
        Ok(())
    }

    /// Ends the session of an account if it was begun with one of these.
    async fn end_sessions(&self, account: i64, sids: &[String], reason: &str) -> Outcome {
        let end = |sid: &String| End {
            sid: Some(sid.clone()),
            code: Code::TOKEN_INVALID,
            reason: reason.to_owned(),
        };
        let ends: Vec<_> = sids.iter().map(end).collect();
        // At once: each may wait for a player that moves.
        let outcomes = join_all(ends.iter().map(|end| self.sessions.end(account, end))).await;
        match outcomes {
            all if all.contains(&Outcome::Unknown) => Outcome::Unknown,
            all if all.contains(&Outcome::Ended) => Outcome::Ended,
            _ => Outcome::None,
        }
    }

    fn refresh_until(&self, now_ms: i64) -> i64 {
        let ttl_ms = i64::try_from(self.refresh_ttl.as_millis()).unwrap_or(i64::MAX);
        now_ms.saturating_add(ttl_ms)
    }
}

/// How long a sign-in goes on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ends<'a> {
    /// As long as it is refreshed.
    Refreshed,
    /// Then, and with its parent.
    At { until_ms: i64, parent: Option<&'a str> },
}

impl RefreshToken {
    fn new() -> Self {
        Self { family: random(), secret: random() }
    }

    /// In hex; `None` when it cannot be one.
    fn parse(text: &str) -> Option<Self> {
        if text.len() != 2 * (FAMILY + SECRET) {
            return None;
        }
        let nibble = |c: u8| char::from(c).to_digit(16).and_then(|n| u8::try_from(n).ok());
        let bytes = text.as_bytes().chunks_exact(2);
        let bytes: Option<Vec<u8>> =
            bytes.map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect();
        let bytes = bytes?;
        let (family, secret) = bytes.split_first_chunk()?;
        Some(Self { family: *family, secret: secret.try_into().ok()? })
    }

    pub(super) fn to_text(&self) -> String {
        self.family.iter().chain(&self.secret).map(|byte| format!("{byte:02x}")).collect()
    }

    fn hash(&self) -> RefreshHash {
        let hash = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes).as_ref().to_vec();
        RefreshHash { family: hash(&self.family), secret: hash(&self.secret) }
    }
}
