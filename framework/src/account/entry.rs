//! Owns the one way to a token: whichever proof somebody gave, here it becomes a sign-in.
//! Leaves the proofs to those who ask, and what a sign-in is once it has begun to `refresh`.

use super::{
    center::Inner,
    ends::ban_of,
    refresh::Ends,
    rules,
    tokens::{Claims, Subject, random_id},
};
use crate::{
    msg,
    store::{Account, AccountStatus, Note, What},
    wire::{Code, Refusal},
};

/// How somebody signs in, for the token and for the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// Such as `password`, `guest`, `phone`, or a validator's name.
    pub(super) way: &'a str,
    pub(super) app_id: Option<&'a str>,
    pub(super) ip: Option<&'a str>,
}

impl Entry<'_> {
    /// What is noted of it.
    pub(super) fn note(&self, what: What) -> Note {
        Note::new(what, self.way).from(self.ip).for_app(self.app_id)
    }
}

/// Somebody who is signed in, and what he is given.
pub(super) struct Signed {
    pub(super) account: Account,
    /// What the app knows the account by.
    pub(super) openid: String,
    pub(super) token: String,
    pub(super) claims: Claims,
    pub(super) refresh_token: Option<String>,
    /// Seconds until the token is too old.
    pub(super) expires_in: i64,
}

impl Signed {
    /// The answer of the account routes, with the gate to go to.
    pub(super) fn answer(self, addr: String) -> msg::auth::Res {
        msg::auth::Res {
            code: Code::OK.0,
            token: Some(self.token),
            addr: Some(addr),
            account_id: Some(self.account.id),
            openid: Some(self.openid),
            refresh_token: self.refresh_token,
            expires_in: Some(self.expires_in),
        }
    }
}

/// Whether an account is open to whoever proved to own it.
pub(super) fn may_sign_in(account: &Account, now_ms: i64) -> Result<(), Refusal> {
    if account.status != AccountStatus::Open {
        return Err(Code::BANNED.into());
    }
    match ban_of(account) {
        Some(ban) if ban.until_ms > now_ms => Err(ban.refusal()),
        Some(_) | None => Ok(()),
    }
}

impl Inner {
    /// Lets an account in whose proof was good, unless it is closed or banned: with
    /// [`Inner::admit_as`] the one way to a token.
    pub(super) async fn admit(
        &self,
        account: Account,
        entry: Entry<'_>,
    ) -> Result<Signed, Refusal> {
        self.admit_as(account, entry, None).await
    }

    /// Lets an account in with a role that its token carries; `None`: a player.
    pub(super) async fn admit_as(
        &self,
        account: Account,
        entry: Entry<'_>,
        role: Option<&str>,
    ) -> Result<Signed, Refusal> {
        let now_ms = self.clock.now_ms();
        entry.app_id.map(rules::app_id).transpose()?;
        self.lets_in(&account, entry, now_ms)?;
        let sid = random_id();
        let (begun, refresh) = self.begin(&account, entry, role, &sid, Ends::Refreshed).await?;
        let Entry { way, app_id, ip: _ } = entry;
        let openid = begun.openid;
        let subject = Subject {
            account_id: account.id,
            openid: &openid,
            app: app_id,
            role,
            sid: Some(&sid),
            ttl: None,
        };
        let (token, claims) = self.keys.issue(&subject, now_ms);
        tracing::info!(target: "account", account = account.id, sid, way, "signed in");
        Ok(Signed {
            account,
            openid,
            token,
            claims,
            // Who has a role shows its proof again.
            refresh_token: refresh.filter(|_| role.is_none()).map(|token| token.to_text()),
            expires_in: self.keys.ttl_secs(),
        })
    }

    /// Whether an account may sign in; a refusal is noted.
    pub(super) fn lets_in(
        &self,
        account: &Account,
        entry: Entry<'_>,
        now_ms: i64,
    ) -> Result<(), Refusal> {
        may_sign_in(account, now_ms).inspect_err(|refusal| {
            let note = entry.note(What::Refused).saying(&refusal.message);
            self.store.note_later(account.id, now_ms, note);
        })
    }
}
