//! Owns what somebody changes at an own account: its name, its phone, its password. Each asks for
//! a proof of its own, and is noted with the change.

use super::{
    center::{AccountCenter, Inner},
    codes::{Phone, Taker},
    entry::may_sign_in,
    refused::Refused,
    rules,
    tokens::Claims,
};
use crate::{
    sessions::Outcome,
    store::{Account, Change, CreateError, Note, What},
    wire::{Code, Refusal},
};

/// What the sessions that a new password ends are told.
const PASSWORD_CHANGED: &str = "the password was changed: sign in again";

impl AccountCenter {
    /// Gives an account that has no name its name and password; it stays the account it is.
    ///
    /// # Errors
    /// 2001 or 2002 unless `token` is one of that account, 203 when the name is another's, 204
    /// when the account has one.
    pub(super) async fn bind_name(
        &self,
        account: i64,
        token: Option<&str>,
        username: String,
        password: String,
        ip: Option<&str>,
    ) -> Result<(), Refusal> {
        let inner = &*self.0;
        let username = rules::username(username)?;
        let password = rules::password(password)?;
        inner.owner(account, token).await?;
        let away = |e| inner.away(e);
        let before = inner.store.account_by_id(account).await.map_err(away)?;
        let before = before.ok_or(Code::NO_SUCH_ACCOUNT)?;
        may_sign_in(&before, inner.clock.now_ms())?;
        // Before the hash, as at registration; the update decides all the same.
        if before.username.is_some() {
            return Err(Code::NO_SUCH_ACCOUNT.because("the account has a name already"));
        }
        if inner.store.account_by_username(&username).await.map_err(away)?.is_some() {
            return Err(name_taken());
        }
        let hash = inner.passwords.turn().await?.hash(password).await?;
        let change = inner.change(account, What::NameBound, "token", ip);
        match inner.store.bind_username(change, username, hash).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Code::NO_SUCH_ACCOUNT.because("the account has a name already")),
            Err(CreateError::Taken) => Err(name_taken()),
            Err(CreateError::Store(e)) => Err(inner.away(e)),
        }
    }

    /// Gives an account its phone, which must have told the code.
    ///
    /// # Errors
    /// 201 when the password is wrong, 204 when the account has a phone, 205 when the phone is
    /// another's, 206 to 208 for the code.
    pub(super) async fn bind_phone(
        &self,
        account: i64,
        password: String,
        phone: &Phone,
        code: &str,
        ip: Option<&str>,
    ) -> Result<(), Refused> {
        let inner = &*self.0;
        let before = inner.by_id_and_password(account, password, ip).await?;
        may_sign_in(&before, inner.clock.now_ms())?;
        let bound = || Code::NO_SUCH_ACCOUNT.because("the account has a phone already");
        if before.phone.is_some() {
            return Err(bound().into());
        }
        // Who has no code must not learn whether the phone is somebody's.
        inner.take_code(phone, code, Taker::Account, ip).await?;
        let change = inner.change(account, What::PhoneBound, "password", ip);
        match inner.store.bind_phone(change, phone.e164()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(bound().into()),
            Err(CreateError::Taken) => Err(Code::PHONE_INVALID
                .because("the phone belongs to another account; the two are not merged")
                .into()),
            Err(CreateError::Store(e)) => Err(inner.away(e).into()),
        }
    }

    /// Changes a password for who knows the old one, and ends every other sign-in.
    ///
    /// # Errors
    /// 201 when the password is wrong; 1003 when it is changed, and whether the other session is
    /// over is unknown.
    pub(super) async fn change_password(
        &self,
        account: i64,
        password: String,
        new_password: String,
        token: Option<&str>,
        ip: Option<&str>,
    ) -> Result<(), Refused> {
        let inner = &*self.0;
        let new_password = rules::password_named("new_password", new_password)?;
        let before = inner.by_id_and_password(account, password, ip).await?;
        may_sign_in(&before, inner.clock.now_ms())?;
        // Whoever shows a token that is good stays signed in with it; the password was proof enough.
        let kept = inner.owner(account, token).await.ok().map(|claims| claims.sid);
        let change = inner.change(account, What::PasswordChanged, "password", ip);
        Ok(inner.set_password(before, new_password, change, kept).await?)
    }

    /// Sets a password for who got the code at the account's phone, and ends every sign-in.
    ///
    /// # Errors
    /// 207 when the code is not good for that account, be there one or not; 208 after five.
    pub(super) async fn reset_password(
        &self,
        account: i64,
        new_password: String,
        code: &str,
        ip: Option<&str>,
    ) -> Result<(), Refused> {
        let inner = &*self.0;
        let new_password = rules::password_named("new_password", new_password)?;
        let found = inner.store.account_by_id(account).await.map_err(|e| inner.away(e))?;
        let phone = found.as_ref().and_then(|found| found.phone.clone());
        let taken = inner.take_code_of(account, phone.as_deref(), code, Taker::Account, ip).await;
        taken.map_err(|refused| match refused.refusal.code {
            // That a code was sent would tell that there is a phone.
            Code::CODE_EXPIRED => Code::CODE_WRONG.into(),
            _ => refused,
        })?;
        let before = found.ok_or(Code::CODE_WRONG)?;
        may_sign_in(&before, inner.clock.now_ms())?;
        let change = inner.change(account, What::PasswordReset, "phone", ip);
        Ok(inner.set_password(before, new_password, change, None).await?)
    }
}

/// Whether what had to end has ended.
fn settled(outcome: Outcome) -> Result<(), Refusal> {
    match outcome {
        Outcome::Ended | Outcome::None => Ok(()),
        Outcome::Unknown => {
            Err(Code::DEADLINE
                .because("it is done; whether the account's session is over is unknown"))
        }
    }
}

impl Inner {
    /// Whoever shows a token of this account that is good.
    async fn owner(&self, account: i64, token: Option<&str>) -> Result<Claims, Refusal> {
        let token = token.filter(|token| !token.is_empty()).ok_or_else(|| {
            Code::TOKEN_INVALID
                .because("parameter `token` is missing (or the header `Authorization: Bearer …`)")
        })?;
        let (owner, claims) = self.living(token).await?;
        if owner != account {
            return Err(Code::TOKEN_INVALID.because("the token is not one of `account_id`"));
        }
        Ok(claims)
    }

    async fn set_password(
        &self,
        before: Account,
        password: String,
        change: Change,
        except_sid: Option<String>,
    ) -> Result<(), Refusal> {
        let hash = self.passwords.turn().await?.hash(password).await?;
        let ended = self.store.change_password(change, before.password_hash, hash, except_sid);
        // `None`: somebody else was faster, and what was shown is not the password any more.
        let ended = ended.await.map_err(|e| self.away(e))?.ok_or(Code::WRONG_CREDENTIALS)?;
        settled(self.tell_ended(before.id, &ended, PASSWORD_CHANGED).await?)
    }

    fn change(&self, account: i64, what: What, way: &str, ip: Option<&str>) -> Change {
        Change { account, at_ms: self.clock.now_ms(), note: Note::new(what, way).from(ip) }
    }
}

fn name_taken() -> Refusal {
    Code::NAME_TAKEN.because("the name belongs to another account; the two are not merged")
}

#[cfg(test)]
mod tests;
