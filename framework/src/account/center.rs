//! Owns signing in: by name, as a guest, for the first time; and what an answer holds.
//! Leaves how a request arrives to `http`, what a name looks like to `rules`, what a hash costs to
//! `passwords`, how often one may fail to `throttle`.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    ends::ban_of,
    passwords::Passwords,
    rules,
    throttle::{Throttle, Trier},
    tokens::{self, Claims, KeyError, Subject, TokenIssuer, TokenVerifier},
    validators::{ProofSettings, Proofs, SettingsError},
};
use crate::{
    clock::Clock,
    directory::{Front, Jwk},
    msg,
    sessions::Sessions,
    store::{Account, AccountStatus, Cache, CreateError, NewAccount, Store, StoreError},
    wire::{Code, Refusal},
};

const SIGNING_KEY: &str = "token.signing.1";

/// While the store or the cache is away the log says so once, then each minute.
const AWAY_LOG_MS: i64 = 60_000;

/// The address of a live gate, the least loaded; `None` while there is none.
pub(crate) type Gates = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The gate to which somebody, known by a text, is always sent while it lives.
pub(crate) type Fronts = Arc<dyn Fn(&str) -> Option<Front> + Send + Sync>;

/// What differs between account centers.
#[derive(Clone)]
pub(crate) struct AccountSettings {
    /// The cluster's name: a token of one is refused by all others.
    pub(crate) cluster: String,
    /// How long an access token lives; 2 h by the contract.
    pub(crate) token_ttl: Duration,
    /// Who signs people in by proofs of other kinds.
    pub(crate) proofs: ProofSettings,
    /// Where a load balancer sends people.
    pub(crate) fronts: Fronts,
}

/// Signs people in. A clone is a handle to the same center.
#[derive(Clone)]
pub(crate) struct AccountCenter(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) cache: Cache,
    gates: Gates,
    pub(super) fronts: Fronts,
    pub(super) clock: Clock,
    pub(super) throttle: Throttle,
    pub(super) passwords: Passwords,
    pub(super) issuer: TokenIssuer,
    pub(super) verifier: TokenVerifier,
    pub(super) token_ttl: Duration,
    pub(super) sessions: Sessions,
    pub(super) proofs: Proofs,
    away_logged_ms: AtomicI64,
}

/// Why an account center could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The signing key could not be read or kept.
    #[error("the key that signs tokens could not be read: {0}")]
    Store(#[from] StoreError),
    /// Someone changed the key in the database.
    #[error(
        "the row `{SIGNING_KEY}` of table `secrets` is damaged ({0}): \
         delete it and start again; everybody signs in anew"
    )]
    Key(#[from] KeyError),
    /// `[validators]` names one that this game does not have.
    #[error(transparent)]
    Validators(#[from] SettingsError),
}

impl AccountCenter {
    /// Makes the signing key on the very first start. Passwords are hashed on the blocking
    /// threads of the runtime this is awaited on.
    pub(crate) async fn start(
        store: Store,
        cache: Cache,
        sessions: Sessions,
        gates: Gates,
        clock: Clock,
        settings: AccountSettings,
    ) -> Result<Self, StartError> {
        let key = store.secret(SIGNING_KEY, tokens::new_signing_key).await?;
        let issuer = TokenIssuer::new(&key, &settings.cluster, settings.token_ttl)?;
        let verifier = TokenVerifier::new(&[issuer.jwk()], &settings.cluster);
        let proofs = Proofs::prepare(settings.proofs, &store).await??;
        let center = Self(Arc::new(Inner {
            store,
            gates,
            fronts: settings.fronts,
            throttle: Throttle::new(cache.clone(), clock.clone()),
            cache,
            clock,
            passwords: Passwords::new(Handle::current()),
            issuer,
            verifier,
            token_ttl: settings.token_ttl,
            sessions,
            proofs,
            away_logged_ms: AtomicI64::new(i64::MIN),
        }));
        center.tell_bans().await?;
        Ok(center)
    }

    /// Signs in by name and password, or as the guest of a device.
    pub(crate) async fn auth(self, req: msg::auth::Req) -> Result<msg::auth::Res, Refusal> {
        let username = req.username.filter(|name| !name.is_empty());
        let password = req.password.filter(|password| !password.is_empty());
        let device_id = req.device_id.filter(|device_id| !device_id.is_empty());
        let ip = req.client_ip.as_deref();
        let (addr, account, way) = match (username, password, device_id) {
            (Some(username), Some(password), _) => {
                (self.gate()?, self.0.by_password(&username, password, ip).await?, "password")
            }
            (None, None, Some(device_id)) => {
                let device_id = rules::device_id(device_id)?;
                (self.gate()?, self.0.guest(&device_id).await?, "guest")
            }
            (Some(_), None, _) => return Err(rules::missing("password")),
            (None, Some(_), _) => return Err(rules::missing("username")),
            (None, None, None) => {
                return Err(Code::PARAMETER
                    .because("parameter `username` is missing (or `device_id`, for a guest)"));
            }
        };
        let entry = Entry { way, app_id: None, ip };
        Ok(self.0.admit(account, entry).await?.answer(addr))
    }

    /// Creates an account with a name, and signs it in.
    pub(crate) async fn registry(
        self,
        req: msg::registry::Req,
    ) -> Result<msg::registry::Res, Refusal> {
        let username = rules::username(req.username)?;
        let password = rules::password(req.password)?;
        let addr = self.gate()?;
        let account = self.0.register(username, password).await?;
        let ip = req.client_ip.as_deref();
        let signed = self.0.admit(account, Entry { way: "registry", app_id: None, ip }).await?;
        let msg::auth::Res { code, token, addr, account_id, openid, refresh_token, expires_in } =
            signed.answer(addr);
        Ok(msg::registry::Res { code, token, addr, account_id, openid, refresh_token, expires_in })
    }

    /// The public keys that tokens of this center are checked with.
    pub(crate) fn jwks(&self) -> Vec<Jwk> {
        vec![self.0.issuer.jwk()]
    }

    /// A live gate to send somebody to.
    pub(super) fn gate(&self) -> Result<String, Refusal> {
        (self.0.gates)().ok_or_else(|| Code::NOT_READY.into())
    }
}

impl fmt::Debug for AccountCenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            store,
            cache: _,
            gates: _,
            fronts: _,
            clock: _,
            throttle,
            passwords,
            issuer,
            verifier: _,
            token_ttl: _,
            sessions: _,
            proofs,
            away_logged_ms: _,
        } = &*self.0;
        f.debug_struct("AccountCenter")
            .field("store", store)
            .field("throttle", throttle)
            .field("passwords", passwords)
            .field("issuer", issuer)
            .field("proofs", proofs)
            .finish_non_exhaustive()
    }
}

/// How somebody signs in, for the token and for the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// Such as `password`, `guest`, `phone`, or a validator's name.
    pub(super) way: &'a str,
    pub(super) app_id: Option<&'a str>,
    pub(super) ip: Option<&'a str>,
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
    /// Whoever is refused learns 201 and nothing else: the same steps are taken for a name that
    /// is unknown, has no password, or could never be registered.
    pub(super) async fn by_password(
        &self,
        username: &str,
        password: String,
        ip: Option<&str>,
    ) -> Result<Account, Refusal> {
        let trier = Trier::new(username, ip);
        self.throttle(&trier).await?;
        let found = if rules::is_username(username) {
            self.store.account_by_username(username).await.map_err(|e| self.away(e))?
        } else {
            None
        };
        let hash = found.as_ref().and_then(|account| account.password_hash.clone());
        // Nobody could register an empty password, so the long one is as wrong.
        let tried =
            if password.len() > rules::PASSWORD_TRIED_BYTES_MAX { String::new() } else { password };

        let turn = self.passwords.turn().await?;
        // Again: whoever was before us in the line has been counted by now, so a hundred guesses
        // sent at once are worth no more than a hundred sent one by one.
        self.throttle(&trier).await?;
        let (right, turn) = turn.verify(tried, hash).await?;
        if right && let Some(account) = found {
            return Ok(account);
        }
        self.throttle.failed(&trier).await.map_err(|e| self.away(e))?;
        drop(turn);
        Err(Code::WRONG_CREDENTIALS.into())
    }

    /// The account of a device, made when there is none; of two that race, one is made.
    pub(super) async fn guest(&self, device_id: &str) -> Result<Account, Refusal> {
        let find = || self.store.account_by_device(device_id);
        if let Some(account) = find().await.map_err(|e| self.away(e))? {
            return Ok(account);
        }
        let new = NewAccount::Guest { device_id: device_id.to_owned() };
        match self.store.create_account(new, self.clock.now_ms()).await {
            Ok(account) => {
                tracing::info!(target: "account", account = account.id, "guest created");
                Ok(account)
            }
            Err(CreateError::Taken) => {
                find().await.map_err(|e| self.away(e))?.ok_or_else(|| Code::NOT_CREATED.into())
            }
            Err(CreateError::Store(error)) => Err(self.away(error)),
        }
    }

    pub(super) async fn register(
        &self,
        username: String,
        password: String,
    ) -> Result<Account, Refusal> {
        // Before the hash: a name that is taken costs no 15 ms. The insert decides all the same.
        if self.store.account_by_username(&username).await.map_err(|e| self.away(e))?.is_some() {
            return Err(Code::NAME_TAKEN.into());
        }
        let password_hash = self.passwords.turn().await?.hash(password).await?;
        let new = NewAccount::Named { username, password_hash };
        match self.store.create_account(new, self.clock.now_ms()).await {
            Ok(account) => {
                tracing::info!(target: "account", account = account.id, "account created");
                Ok(account)
            }
            Err(CreateError::Taken) => Err(Code::NAME_TAKEN.into()),
            Err(CreateError::Store(error)) => Err(self.away(error)),
        }
    }

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
        may_sign_in(&account, now_ms)?;
        self.store.touch_sign_in(account.id, now_ms).await.map_err(|e| self.away(e))?;
        let Entry { way, app_id, ip: _ } = entry;
        let openid = account.openid.clone();
        let (account_id, app, openid_of) = (account.id, app_id, openid.as_str());
        let subject = Subject { account_id, openid: openid_of, app, role, ..Subject::default() };
        let (token, claims) = self.issuer.issue(&subject, now_ms);
        tracing::info!(target: "account", account = account.id, sid = claims.sid, way, "signed in");
        Ok(Signed {
            account,
            openid,
            token,
            claims,
            refresh_token: None,
            expires_in: self.issuer.ttl_secs(),
        })
    }

    pub(super) async fn throttle(&self, trier: &Trier) -> Result<(), Refusal> {
        match self.throttle.blocks(trier).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(Code::TOO_MANY_TRIES.into()),
            Err(error) => Err(self.away(error)),
        }
    }

    /// Nobody signs in without the store or the cache.
    pub(super) fn away(&self, error: impl fmt::Display) -> Refusal {
        let now_ms = self.clock.now_ms();
        let logged_ms = self.away_logged_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(logged_ms) >= AWAY_LOG_MS {
            self.away_logged_ms.store(now_ms, Ordering::Relaxed);
            tracing::warn!(target: "account", %error, "nobody can sign in");
        }
        Code::NOT_READY.into()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::world::World, *};

    #[tokio::test]
    async fn whoever_registers_is_signed_in_and_can_sign_in_again() {
        let w = World::new().await;
        let new = w.registry("Anna", "secret1").await.unwrap();
        let again = w.auth("aNNA", "secret1").await.unwrap();
        assert_eq!((new.account_id, again.account_id), (Some(10_001), Some(10_001)));
        assert_eq!((again.code, again.expires_in, &again.refresh_token), (0, Some(7200), &None));
        assert_eq!(again.addr.as_deref(), Some("127.0.0.1:3017"));
        assert_eq!(again.openid, new.openid);
        let verifier = TokenVerifier::new(&w.center.jwks(), "test");
        let claims = verifier.verify(again.token.as_deref().unwrap(), 1_000_000).unwrap();
        assert_eq!((claims.sub.as_str(), Some(claims.openid)), ("10001", again.openid));
        w.clock.set(5_000_000);
        w.auth("anna", "secret1").await.unwrap();
        let row = w.store.account_by_id(10_001).await.unwrap().unwrap();
        assert_eq!((row.created_ms, row.last_sign_in_ms), (1_000_000, 5_000_000));
    }

    #[tokio::test]
    async fn a_name_is_given_once_in_any_case() {
        let w = World::new().await;
        w.registry("anna", "secret1").await.unwrap();
        assert_eq!(w.registry("ANNA", "secret2").await.err(), Some(Code::NAME_TAKEN));
        let (a, b) = tokio::join!(w.registry("bert", "secret1"), w.registry("Bert", "secret1"));
        assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1);
        assert_eq!(a.and(b).err(), Some(Code::NAME_TAKEN));
    }

    #[tokio::test]
    async fn a_wrong_name_and_a_wrong_password_are_told_alike() {
        let w = World::new().await;
        w.registry("anna", "secret1").await.unwrap();
        let long = "a".repeat(5000);
        for (i, (name, password)) in [
            ("anna", "secret2"),
            ("nobody", "secret1"),
            ("a b", "x"),
            ("anna", &long),
            ("anna", " "),
        ]
        .into_iter()
        .enumerate()
        {
            let told = w.auth_from(name, password, &format!("10.0.1.{i}")).await;
            assert_eq!(told.err(), Some(Code::WRONG_CREDENTIALS), "{name}");
        }
    }

    #[tokio::test]
    async fn the_parameter_that_is_missing_is_named() {
        let w = World::new().await;
        let req = |username: &str, password: &str, device_id: &str| msg::auth::Req {
            username: Some(username.to_owned()),
            password: Some(password.to_owned()),
            device_id: Some(device_id.to_owned()),
            ..Default::default()
        };
        for (req, named) in [
            (msg::auth::Req::default(), "`username`"),
            (req("", "", ""), "`device_id`"),
            (req("anna", "", ""), "`password`"),
            (req("anna", "", "phone"), "`password`"),
            (req("", "secret1", "phone"), "`username`"),
            (req("", "", "a\nb"), "`device_id`"),
        ] {
            let refusal = w.center.clone().auth(req).await.unwrap_err();
            assert_eq!(refusal.code, Code::PARAMETER);
            assert!(refusal.message.contains(named), "{refusal}");
        }
        assert_eq!(w.registry("ab", "secret1").await.err(), Some(Code::PARAMETER));
        assert_eq!(w.registry("anna", "short").await.err(), Some(Code::PARAMETER));
    }

    #[tokio::test]
    async fn five_failures_close_the_door_even_to_the_right_password() {
        let w = World::new().await;
        w.registry("anna", "secret1").await.unwrap();
        w.registry("bert", "secret1").await.unwrap();
        for _ in 0..5 {
            assert_eq!(w.auth("anna", "wrong").await.err(), Some(Code::WRONG_CREDENTIALS));
        }
        let too_many = Some(Code::TOO_MANY_TRIES);
        assert_eq!(w.auth("anna", "secret1").await.err(), too_many);
        assert_eq!(w.auth_from("anna", "secret1", "10.0.0.2").await.err(), too_many, "by name");
        assert_eq!(w.auth("bert", "secret1").await.err(), too_many, "by IP");
        w.auth_from("bert", "secret1", "10.0.0.2").await.unwrap();
        w.clock.set(1_000_000 + 5 * 60 * 1000);
        w.auth("anna", "secret1").await.unwrap();
    }

    #[tokio::test]
    async fn guesses_sent_at_once_count_like_guesses_sent_one_by_one() {
        let w = Arc::new(World::new().await);
        w.registry("anna", "secret1").await.unwrap();
        let guesses = (0..20).map(|i| {
            let w = Arc::clone(&w);
            let guess = async move { w.auth_from("anna", "wrong", &format!("10.0.1.{i}")).await };
            Handle::current().spawn(guess)
        });
        let mut heard = 0;
        for guess in guesses.collect::<Vec<_>>() {
            heard += usize::from(guess.await.unwrap().err() == Some(Code::WRONG_CREDENTIALS));
        }
        let cores = std::thread::available_parallelism().unwrap().get();
        assert!(heard <= 5 + cores, "{heard} guesses were answered");
    }

    #[tokio::test]
    async fn a_device_is_one_guest_even_when_two_ask_at_once() {
        let w = World::new().await;
        for round in 0..20 {
            let device_id = format!("phone-{round}");
            let (a, b) = tokio::join!(w.guest(&device_id), w.guest(&device_id));
            let (a, b) = (a.unwrap(), b.unwrap());
            assert_eq!(a.account_id, b.account_id);
            assert_eq!(w.guest(&device_id).await.unwrap().openid, a.openid);
        }
    }

    #[tokio::test]
    async fn without_a_gate_nothing_is_created() {
        let w = World::new().await;
        w.gate_lives.store(false, Ordering::Relaxed);
        assert_eq!(w.guest("phone").await.err(), Some(Code::NOT_READY));
        assert_eq!(w.registry("anna", "secret1").await.err(), Some(Code::NOT_READY));
        assert_eq!(w.auth("anna", "secret1").await.err(), Some(Code::NOT_READY));
        assert_eq!(w.store.account_by_device("phone").await, Ok(None));
        assert_eq!(w.store.account_by_username("anna").await, Ok(None));
    }

    #[tokio::test]
    async fn without_the_store_nobody_signs_in() {
        let w = World::new().await;
        w.store.close().await;
        assert_eq!(w.guest("phone").await.err(), Some(Code::NOT_READY));
        assert_eq!(w.auth("anna", "secret1").await.err(), Some(Code::NOT_READY));
        assert_eq!(w.registry("anna", "secret1").await.err(), Some(Code::NOT_READY));
    }

    #[tokio::test]
    async fn a_locked_account_is_told_so_only_with_its_password() {
        let w = World::new().await;
        let id = w.registry("anna", "secret1").await.unwrap().account_id.unwrap();
        w.store.set_account_status(id, AccountStatus::Locked).await.unwrap();
        assert_eq!(w.auth("anna", "secret1").await.err(), Some(Code::BANNED));
        assert_eq!(w.auth("anna", "secret2").await.err(), Some(Code::WRONG_CREDENTIALS));
    }

    #[tokio::test]
    async fn a_restart_keeps_accounts_and_tokens() {
        let w = World::new().await;
        let before = w.registry("anna", "secret1").await.unwrap();
        let guest = w.guest("phone").await.unwrap();
        let w = w.restart().await;
        let verifier = TokenVerifier::new(&w.center.jwks(), "test");
        assert!(verifier.verify(before.token.as_deref().unwrap(), 1_000_000).is_ok());
        assert_eq!(w.auth("anna", "secret1").await.unwrap().openid, before.openid);
        assert_eq!(w.guest("phone").await.unwrap().account_id, guest.account_id);
        assert!(!format!("{:?}", w.center).contains("secret"));
    }
}
