//! Owns what ends a sign-in before its tokens run out: logout, and an operator who kicks or bans.
//! Leaves where the session is, and the marks for who is just signing in, to `sessions`.

use super::center::AccountCenter;
use crate::{
    limits::BANS_TOLD_MAX,
    msg,
    proto::admin as proto,
    sessions::{Ban, End, Outcome, REVOKED},
    store::{Account, CacheError, Change, Note, StoreError, What},
    wire::{Code, Refusal},
};

impl AccountCenter {
    /// Ends the sign-in that a token or a refresh token belongs to: its tokens are no good any
    /// more, and the session that was begun with one of them is over. Another sign-in of the account is not touched.
    pub(crate) async fn sign_out(
        self,
        req: msg::sign_out::Req,
    ) -> Result<msg::sign_out::Res, Refusal> {
        let inner = &*self.0;
        let shown = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (account, sid) = match (shown(req.token), shown(req.refresh_token)) {
            // The access token beside it may have run out.
            (_, Some(refresh_token)) => {
                let sign_in = inner.sign_in_of(&refresh_token).await?;
                (sign_in.account_id, sign_in.sid)
            }
            (Some(token), None) => {
                let claims = inner.keys.verify_any(&token, inner.clock.now_ms());
                let claims = claims.map_err(|e| Code::from(e).because(e.to_string()))?;
                (claims.sub.parse().map_err(|_| Code::TOKEN_INVALID)?, claims.sid)
            }
            (None, None) => {
                return Err(Code::PARAMETER.because(
                    "parameter `token` is missing (or `refresh_token`, or the header \
                     `Authorization: Bearer …`)",
                ));
            }
        };
        match inner.end_sign_in(account, &sid, REVOKED).await? {
            Outcome::Ended | Outcome::None => {
                let note = Note::new(What::SignedOut, "token");
                inner.store.note_later(account, inner.clock.now_ms(), note);
                tracing::info!(target: "account", account, "signed out");
                Ok(msg::sign_out::Res { code: Code::OK.0 })
            }
            Outcome::Unknown => Err(Code::DEADLINE
                .because("the token is no good any more; whether its session is over is unknown")),
        }
    }

    /// Ends the session of an account, which may sign in again.
    pub(crate) async fn kick(self, req: proto::kick::Req) -> Result<proto::kick::Res, Refusal> {
        let session = self.remove(req.account, Code::REMOVED, &req.reason).await;
        if session != proto::Session::None {
            let note = Note::new(What::Kicked, OPERATOR).saying(&req.reason);
            self.0.store.note_later(req.account, self.0.clock.now_ms(), note);
        }
        Ok(proto::kick::Res { session: session.into() })
    }

    /// Ends the session of an account, and lets nobody sign in to it until then.
    pub(crate) async fn ban(self, req: proto::ban::Req) -> Result<proto::ban::Res, Refusal> {
        let proto::ban::Req { account, until_ms, reason } = req;
        if until_ms <= self.0.clock.now_ms() {
            return Err(Code::PARAMETER.because("the ban would be over already"));
        }
        let ban = Ban { until_ms, reason };
        let note = Note::new(What::Banned, OPERATOR).saying(&ban.to_string());
        let change = Change { account, at_ms: self.0.clock.now_ms(), note };
        let banned = self.0.store.set_ban(change, until_ms, ban.reason.clone()).await;
        if !banned.map_err(|e| self.0.away(e))? {
            return Err(Code::NO_SUCH_ACCOUNT.because("no such account"));
        }
        self.0.sessions.marks().ban(account, &ban).await.map_err(|e| self.0.away(e))?;
        let session = self.remove(account, Code::BANNED, &ban.to_string()).await;
        Ok(proto::ban::Res { session: session.into() })
    }

    /// Ends a ban.
    pub(crate) async fn unban(self, req: proto::unban::Req) -> Result<proto::unban::Res, Refusal> {
        let proto::unban::Req { account } = req;
        let away = |e: StoreError| self.0.away(e);
        let before = self.0.store.account_by_id(account).await.map_err(away)?;
        let before = before.ok_or_else(|| Code::NO_SUCH_ACCOUNT.because("no such account"))?;
        let note = Note::new(What::Unbanned, OPERATOR);
        let change = Change { account, at_ms: self.0.clock.now_ms(), note };
        self.0.store.set_ban(change, 0, String::new()).await.map_err(away)?;
        self.0.sessions.marks().unban(account).await.map_err(|e| self.0.away(e))?;
        let was_banned = ban_of(&before).is_some_and(|ban| ban.until_ms > self.0.clock.now_ms());
        Ok(proto::unban::Res { was_banned })
    }

    async fn remove(&self, account: i64, code: Code, reason: &str) -> proto::Session {
        let reason = match (code, reason) {
            (Code::REMOVED, "") => code.text().to_owned(),
            (Code::REMOVED, why) => format!("{}: {why}", code.text()),
            (_, why) => why.to_owned(),
        };
        match self.0.sessions.end(account, &End { sid: None, code, reason }).await {
            Outcome::Ended => proto::Session::Ended,
            Outcome::None => proto::Session::None,
            Outcome::Unknown => proto::Session::Unknown,
        }
    }

    /// Marks the bans of the store anew, for a cache that has lost them. A cache that is away has
    /// not.
    pub(super) async fn tell_bans(&self) -> Result<(), StoreError> {
        let now_ms = self.0.clock.now_ms();
        let marks = self.0.sessions.marks();
        for account in self.0.store.banned_accounts(now_ms, BANS_TOLD_MAX).await? {
            let Some(ban) = ban_of(&account) else { continue };
            let marked: Result<(), CacheError> = marks.ban(account.id, &ban).await;
            if let Err(e) = marked {
                tracing::debug!(target: "account", "bans are not marked: {e}");
                break;
            }
        }
        Ok(())
    }
}

/// How an operator's word is noted.
const OPERATOR: &str = "operator";

/// The ban that an account has, or had last.
pub(super) fn ban_of(account: &Account) -> Option<Ban> {
    let (until_ms, reason) = (account.banned_until_ms, account.banned_reason.clone());
    (until_ms > 0).then_some(Ban { until_ms, reason })
}

#[cfg(test)]
mod tests {
    use super::{super::world::World, *};

    async fn sign_out(w: &World, token: Option<String>) -> Result<i32, Code> {
        let req = msg::sign_out::Req { token, refresh_token: None };
        w.center.clone().sign_out(req).await.map(|res| res.code).map_err(|r| r.code)
    }

    #[tokio::test]
    async fn a_logout_revokes_the_sign_in_of_its_token_and_no_other() {
        let w = World::new().await;
        let (one, other) = (w.guest("phone").await.unwrap(), w.guest("phone").await.unwrap());
        assert_eq!(sign_out(&w, one.token.clone()).await, Ok(0));
        let claims = |token: &Option<String>| {
            w.center.0.keys.verify(token.as_deref().unwrap(), 1_000_000).unwrap()
        };
        let (marks, id) = (w.center.0.sessions.marks(), one.account_id.unwrap());
        let revoked = marks.check(id, &claims(&one.token).sid).await;
        assert_eq!(revoked.map_err(|r| r.code), Err(Code::TOKEN_INVALID));
        assert_eq!(marks.check(id, &claims(&other.token).sid).await, Ok(()));
    }

    #[tokio::test]
    async fn a_logout_without_a_token_of_ours_is_refused() {
        let w = World::new().await;
        assert_eq!(sign_out(&w, None).await, Err(Code::PARAMETER));
        assert_eq!(sign_out(&w, Some("nonsense".into())).await, Err(Code::TOKEN_INVALID));
        let req = msg::sign_out::Req { token: None, refresh_token: Some("unknown".into()) };
        let refused = w.center.clone().sign_out(req).await.unwrap_err();
        assert_eq!(refused.code, Code::TOKEN_INVALID);
    }

    #[tokio::test]
    async fn a_banned_account_is_told_until_when_and_is_let_in_after_it() {
        let w = World::new().await;
        let account = w.registry("anna", "secret1").await.unwrap().account_id.unwrap();
        let ban = |until_ms| proto::ban::Req { account, until_ms, reason: "cheating".into() };
        w.center.clone().ban(ban(2_000_000)).await.unwrap();
        let auth = |password: &str| msg::auth::Req {
            username: Some("anna".into()),
            password: Some(password.to_owned()),
            ..Default::default()
        };
        let refused = w.center.clone().auth(auth("secret1")).await.unwrap_err();
        assert_eq!(refused.code, Code::BANNED);
        assert_eq!(refused.message, "account banned until 1970-01-01T00:33:20Z: cheating");
        let wrong = w.center.clone().auth(auth("secret2")).await.unwrap_err();
        assert_eq!(wrong.code, Code::WRONG_CREDENTIALS, "a stranger learns nothing");
        let w = w.restart().await;
        assert_eq!(w.auth("anna", "secret1").await.err(), Some(Code::BANNED));
        let marks = w.center.0.sessions.marks();
        assert!(marks.check(account, "any").await.is_err(), "a restart tells the gates again");
        let unban = || w.center.clone().unban(proto::unban::Req { account });
        assert!(unban().await.unwrap().was_banned);
        assert!(!unban().await.unwrap().was_banned);
        assert_eq!(marks.check(account, "any").await, Ok(()));
        w.auth("anna", "secret1").await.unwrap();
        w.center.clone().ban(ban(2_000_000)).await.unwrap();
        w.clock.set(2_000_000);
        w.auth("anna", "secret1").await.unwrap();
        let over = w.center.clone().ban(ban(2_000_000)).await.unwrap_err();
        assert_eq!(over.code, Code::PARAMETER);
        let nobody = proto::ban::Req { account: 1, until_ms: i64::MAX, reason: String::new() };
        let nobody = w.center.clone().ban(nobody).await.unwrap_err();
        assert_eq!(nobody.code, Code::NO_SUCH_ACCOUNT);
    }
}
