//! Owns what a sign-in is between its proof and its end: its row, its refresh tokens, and that a
//! token which is shown twice ends it. Leaves who may sign in to `center`, keys to `keys`.

use futures_util::future::join_all;
use ring::digest;

use super::{
    center::{AccountCenter, Inner},
    entry::{Entry, may_sign_in},
    tokens::{Claims, Subject, random},
};
use crate::{
    limits::ENDED_TOLD_MAX,
    sessions::{End, Outcome},
    store::{Account, Begun, NewSignIn, NotBegun, RefreshHash, SignIn, StoreError, What},
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
        // Who shows a token of a sign-in that has ended learns no more than anybody.
        if sign_in.ended_ms > 0 {
            return Err(unknown());
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
        role: Option<&str>,
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
            role: role.unwrap_or_default().to_owned(),
            parent: parent.unwrap_or_default().to_owned(),
            token: token.as_ref().map(RefreshToken::hash),
            password_hash: account.password_hash.clone(),
            began_ms: now_ms,
            expires_ms,
            note: entry.note(What::SignedIn),
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
        found.map(|(sign_in, _)| sign_in).filter(|found| found.ended_ms == 0).ok_or_else(unknown)
    }

    /// Ends one sign-in and what belongs to it: its tokens at every gate, its refresh token, its
    /// session.
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
        let ended = self
            .store
            .end_sign_in(account, sid, self.clock.now_ms())
            .await
            .map_err(|e| self.away(e))?;
        self.revoke(&ended).await?;
        // A sign-in that had run out may have a session all the same.
        let mut sids = ended;
        if !sids.iter().any(|ended| ended == sid) {
            sids.push(sid.to_owned());
        }
        Ok(self.end_sessions(account, &sids, reason).await)
    }

    /// Tells every gate of sign-ins that the store has ended, and ends their session.
    pub(super) async fn tell_ended(
        &self,
        account: i64,
        sids: &[String],
        reason: &str,
    ) -> Result<Outcome, Refusal> {
        self.revoke(sids).await?;
        Ok(self.end_sessions(account, sids, reason).await)
    }

    /// Marks the sign-ins that ended and may still have tokens, for a cache that has lost them; a
    /// process without a Redis loses it with every restart.
    pub(super) async fn tell_all_ended(&self) -> Result<(), StoreError> {
        let ttl_ms = i64::try_from(self.keys.token_ttl_max().as_millis()).unwrap_or(i64::MAX);
        let after_ms = self.clock.now_ms().saturating_sub(ttl_ms);
        let sids = self.store.ended_sign_ins(after_ms, ENDED_TOLD_MAX).await?;
        // A cache that is away has lost nothing.
        drop(self.revoke(&sids).await);
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::{super::world::World, *};
    use crate::{
        limits::SIGN_INS_PER_ACCOUNT_MAX,
        msg,
        proto::admin as proto,
        store::{AccountStatus, Change, Note, PasswordHash},
    };

    const DAY_MS: i64 = 24 * 3600 * 1000;

    async fn refresh(w: &World, token: &str) -> Result<Refreshed, Code> {
        w.center.refresh(token).await.map_err(|refusal| refusal.code)
    }

    async fn guest(w: &World) -> (String, String) {
        let res = w.guest("phone").await.unwrap();
        (res.token.unwrap(), res.refresh_token.unwrap())
    }

    fn said(w: &World, token: &str) -> Claims {
        w.center.0.keys.verify(token, w.clock.now_ms()).unwrap()
    }

    fn change(what: What) -> Change {
        Change { account: 10_001, at_ms: 1, note: Note::new(what, "test") }
    }

    async fn is_good(w: &World, token: &str) -> bool {
        w.center.0.living(token).await.is_ok()
    }

    #[tokio::test]
    async fn a_refresh_gives_new_tokens_of_the_same_sign_in() {
        for w in World::both().await {
            let (token, refresh_token) = guest(&w).await;
            w.clock.set(1_000_000 + DAY_MS);
            let next = refresh(&w, &refresh_token).await.unwrap();
            w.clock.set(1_000_000);
            let (old, new) = (said(&w, &token), said(&w, &next.token));
            assert_eq!((&old.sub, &old.openid, &old.sid), (&new.sub, &new.openid, &new.sid));
            assert!(old.jti != new.jti && new.iat == 1000 + DAY_MS / 1000);
            assert_eq!((next.expires_in, next.refresh_token.len()), (7200, 96));
            w.clock.set(1_000_000 + 2 * DAY_MS);
            refresh(&w, &next.refresh_token).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_used_token_ends_every_token_of_its_sign_in_and_of_no_other() {
        for w in World::both().await {
            let ((other, mine), (token, first)) = (guest(&w).await, guest(&w).await);
            let next = refresh(&w, &first).await.unwrap();
            let newest = refresh(&w, &next.refresh_token).await.unwrap();
            assert!(is_good(&w, &token).await && is_good(&w, &newest.token).await);
            let refused = w.center.refresh(&first).await.err().unwrap();
            assert_eq!((refused.code, &*refused.message), (Code::TOKEN_INVALID, REUSED));
            for dead in [&first, &next.refresh_token, &newest.refresh_token] {
                assert_eq!(refresh(&w, dead).await.err(), Some(Code::TOKEN_INVALID));
            }
            assert!(!is_good(&w, &token).await && !is_good(&w, &newest.token).await);
            assert!(is_good(&w, &other).await);
            refresh(&w, &mine).await.unwrap();
        }
    }

    #[tokio::test]
    async fn of_two_that_show_one_token_at_once_one_refreshes_and_the_other_ends_the_sign_in() {
        for w in World::both().await {
            for _ in 0..20 {
                let (_, token) = guest(&w).await;
                let (a, b) = tokio::join!(refresh(&w, &token), refresh(&w, &token));
                let (won, lost) = match (a, b) {
                    (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
                    (a, b) => panic!("{:?} {:?}", a.err(), b.err()),
                };
                assert_eq!(lost, Code::TOKEN_INVALID);
                let after = refresh(&w, &won.refresh_token).await;
                assert_eq!(after.err(), Some(Code::TOKEN_INVALID));
                assert!(!is_good(&w, &won.token).await);
            }
        }
    }

    #[tokio::test]
    async fn a_token_that_is_too_old_is_told_so_and_after_a_day_is_unknown() {
        for w in World::both().await {
            let (_, token) = guest(&w).await;
            w.clock.set(1_000_000 + 30 * DAY_MS - 1);
            let next = refresh(&w, &token).await.unwrap().refresh_token;
            w.clock.set(1_000_000 + 60 * DAY_MS);
            assert_eq!(refresh(&w, &next).await.err(), Some(Code::TOKEN_EXPIRED));
            let sweep = async |before_ms| w.store.sweep_sign_ins(before_ms, 0).await;
            assert_eq!(sweep(1_000_000 + 59 * DAY_MS).await, Ok(false));
            assert_eq!(refresh(&w, &next).await.err(), Some(Code::TOKEN_EXPIRED));
            assert_eq!(sweep(1_000_000 + 60 * DAY_MS).await, Ok(false));
            assert_eq!(refresh(&w, &next).await.err(), Some(Code::TOKEN_INVALID));
        }
    }

    #[tokio::test]
    async fn what_is_no_token_of_ours_is_refused() {
        let w = World::new().await;
        let (_, token) = guest(&w).await;
        let upper = token.to_uppercase();
        let odd = ["", "x", &"0".repeat(96), &"ä".repeat(48), &token[1..], &token.repeat(2)];
        for unknown in odd {
            assert_eq!(refresh(&w, unknown).await.err(), Some(Code::TOKEN_INVALID), "{unknown}");
        }
        refresh(&w, &upper).await.expect("hex is hex");
    }

    #[tokio::test]
    async fn who_may_not_sign_in_does_not_refresh() {
        let w = World::new().await;
        let (_, token) = guest(&w).await;
        w.store.set_account_status(10_001, AccountStatus::Locked).await.unwrap();
        assert_eq!(refresh(&w, &token).await.err(), Some(Code::BANNED));
        w.store.set_account_status(10_001, AccountStatus::Open).await.unwrap();
        let token = refresh(&w, &token).await.expect("it was not used").refresh_token;
        w.store.set_ban(change(What::Banned), 2_000_000, String::new()).await.unwrap();
        assert_eq!(refresh(&w, &token).await.err(), Some(Code::BANNED));
        w.clock.set(2_000_000);
        let token = refresh(&w, &token).await.unwrap().refresh_token;
        let ban = proto::ban::Req { account: 10_001, until_ms: 3_000_000, reason: String::new() };
        w.center.clone().ban(ban).await.unwrap();
        w.clock.set(3_000_000);
        refresh(&w, &token).await.expect("the ban is over");
    }

    #[tokio::test]
    async fn what_a_ban_left_good_a_new_password_ends() {
        for w in World::both().await {
            let res = w.registry("anna", "secret1").await.unwrap();
            let (account, token) = (res.account_id.unwrap(), res.token.unwrap());
            let ban = proto::ban::Req { account, until_ms: 2_000_000, reason: String::new() };
            w.center.clone().ban(ban).await.unwrap();
            assert!(!is_good(&w, &token).await);
            w.center.clone().unban(proto::unban::Req { account }).await.unwrap();
            assert!(is_good(&w, &token).await);
            w.change_password(account, "secret1", "secret2").await.unwrap();
            assert!(!is_good(&w, &token).await);
        }
    }

    /// A process without a Redis forgets every mark.
    #[tokio::test]
    async fn a_restart_makes_no_ended_sign_in_good_again() {
        let w = World::new().await;
        let ((token, refresh_token), (other, _)) = (guest(&w).await, guest(&w).await);
        let req = msg::sign_out::Req { token: Some(token.clone()), refresh_token: None };
        w.center.clone().sign_out(req).await.unwrap();
        let w = w.restart().await;
        assert_eq!((is_good(&w, &token).await, is_good(&w, &other).await), (false, true));
        assert_eq!(refresh(&w, &refresh_token).await.err(), Some(Code::TOKEN_INVALID));
        let sweep = async || w.store.sweep_sign_ins(0, 1_000_000).await.unwrap();
        assert!(!sweep().await);
        assert_eq!(w.store.ended_sign_ins(0, 9).await, Ok(vec![]), "it was forgotten in the end");
    }

    #[tokio::test]
    async fn a_logout_with_a_token_that_ran_out_ends_what_its_refresh_token_belongs_to() {
        let w = World::new().await;
        let (token, refresh_token) = guest(&w).await;
        w.clock.set(1_000_000 + DAY_MS);
        let (token, shown) = (Some(token), Some(refresh_token.clone()));
        let req = msg::sign_out::Req { token, refresh_token: shown };
        w.center.clone().sign_out(req).await.unwrap();
        assert_eq!(refresh(&w, &refresh_token).await.err(), Some(Code::TOKEN_INVALID));
    }

    #[tokio::test]
    async fn an_account_has_so_many_sign_ins_and_the_oldest_makes_room() {
        for w in World::both().await {
            let mut given = Vec::new();
            for n in 0..=SIGN_INS_PER_ACCOUNT_MAX {
                w.clock.set(1_000_000 + n / 4);
                given.push(guest(&w).await);
            }
            let mut living = 0;
            for (token, refresh_token) in &given {
                let good = is_good(&w, token).await;
                assert_eq!(good, refresh(&w, refresh_token).await.is_ok());
                living += i64::from(good);
            }
            assert_eq!(living, SIGN_INS_PER_ACCOUNT_MAX);
            assert!(is_good(&w, &given[32].0).await && is_good(&w, &given[4].0).await);
        }
    }

    #[tokio::test]
    async fn a_new_password_ends_all_sign_ins_but_the_one_that_asks() {
        for w in World::both().await {
            let account = w.registry("anna", "secret1").await.unwrap().account_id.unwrap();
            let sign_in = async || {
                let res = w.auth("anna", "secret1").await.unwrap();
                (res.token.unwrap(), res.refresh_token.unwrap())
            };
            let (a, b, c) = (sign_in().await, sign_in().await, sign_in().await);
            let change = async |old: &str, new: &str, token: &str| {
                let (old, new) = (old.to_owned(), new.to_owned());
                let changed = w.center.change_password(account, old, new, Some(token), None);
                changed.await.map_err(|refused| refused.refusal.code)
            };
            assert_eq!(change("secret1", "secret2", &b.0).await, Ok(()));
            for (token, refresh_token) in [&a, &c] {
                assert!(!is_good(&w, token).await);
                assert_eq!(refresh(&w, refresh_token).await.err(), Some(Code::TOKEN_INVALID));
            }
            assert!(is_good(&w, &b.0).await);
            let next = refresh(&w, &b.1).await.unwrap();
            assert_eq!(change("secret2", "secret3", "").await, Ok(()));
            assert!(!is_good(&w, &next.token).await);
            assert_eq!(refresh(&w, &next.refresh_token).await.err(), Some(Code::TOKEN_INVALID));
        }
    }

    #[tokio::test]
    async fn a_logout_by_refresh_token_ends_the_sign_in() {
        let w = World::new().await;
        let (token, refresh_token) = guest(&w).await;
        let sign_out = async |token: &str| {
            let req = msg::sign_out::Req { token: None, refresh_token: Some(token.to_owned()) };
            w.center.clone().sign_out(req).await.map(|res| res.code).map_err(|r| r.code)
        };
        assert_eq!(sign_out(&refresh_token).await, Ok(0));
        assert!(!is_good(&w, &token).await);
        assert_eq!(refresh(&w, &refresh_token).await.err(), Some(Code::TOKEN_INVALID));
        assert_eq!(sign_out(&refresh_token).await, Err(Code::TOKEN_INVALID));
    }

    #[tokio::test]
    async fn a_sign_in_that_began_with_the_password_before_does_not_succeed() {
        for w in World::both().await {
            w.registry("anna", "secret1").await.unwrap();
            let before = w.store.account_by_username("anna").await.unwrap().unwrap();
            let other = PasswordHash("$argon2id$other".to_owned());
            let changed = w.store.change_password(
                change(What::PasswordChanged),
                before.password_hash.clone(),
                other,
                None,
            );
            assert!(changed.await.unwrap().is_some());
            let entry = Entry { way: "password", app_id: None, ip: None };
            let refused = w.center.0.admit(before, entry).await.err().unwrap();
            assert_eq!(refused.code, Code::WRONG_CREDENTIALS);
        }
    }

    #[tokio::test]
    async fn a_restart_keeps_refresh_tokens_used_and_unused() {
        let w = World::new().await;
        let (_, used) = guest(&w).await;
        let next = refresh(&w, &used).await.unwrap().refresh_token;
        let (_, other) = guest(&w).await;
        let w = w.restart().await;
        refresh(&w, &other).await.unwrap();
        assert_eq!(refresh(&w, &used).await.err(), Some(Code::TOKEN_INVALID));
        assert_eq!(refresh(&w, &next).await.err(), Some(Code::TOKEN_INVALID));
    }

    #[tokio::test]
    async fn without_the_store_nobody_refreshes() {
        let w = World::new().await;
        let (_, token) = guest(&w).await;
        w.store.close().await;
        assert_eq!(refresh(&w, &token).await.err(), Some(Code::NOT_READY));
    }
}
