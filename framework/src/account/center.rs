//! Owns the account center itself, and signing in by a name and its password.
//! Leaves the way from a proof to a token to `entry`, accounts to be to `newcomers`, how a request
//! arrives to `http`, what a name looks like to `rules`, what a hash costs to `passwords`, how
//! often one may fail to `throttle`.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rand::{TryRngCore as _, rngs::OsRng};

use super::{
    codes::{Codes, Sender},
    entry::Entry,
    keys::Keys,
    passwords::{Passwords, Turn},
    refused::Refused,
    rules,
    throttle::{Throttle, Trier},
    tokens::KeyError,
    validators::{ProofSettings, Proofs, SettingsError},
};
use crate::{
    clock::Clock,
    directory::{Front, Jwk},
    msg,
    secret::Known,
    sessions::Sessions,
    store::{Account, Cache, Note, PasswordHash, Store, StoreError, What},
    wire::{Code, Refusal},
};

/// What hides in the cache which code was sent.
const CODES_KEY: &str = "codes.key.1";

/// Whose notes are those about names that nobody has.
const NOBODY: i64 = 0;

/// While the store or the cache is away the log says so once, then each minute.
const AWAY_LOG_MS: i64 = 60_000;

/// Where people are sent to play: of the live gates, the least loaded; `None` while there is none.
#[derive(Clone)]
pub(crate) struct Gates {
    /// `ip:port`, for frames.
    pub(crate) addr: Finder,
    /// A URL, for WebSockets.
    pub(crate) url: Finder,
}

type Finder = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Where somebody, known by a text, is always sent while it lives.
pub(crate) type Fronts = Arc<dyn Fn(&str) -> Option<Front> + Send + Sync>;

/// What differs between account centers.
#[derive(Clone)]
pub(crate) struct AccountSettings {
    /// The cluster's name: a token of one is refused by all others.
    pub(crate) cluster: String,
    /// How long an access token lives; 2 h by the contract.
    pub(crate) token_ttl: Duration,
    /// The country of a phone that is written without one.
    pub(crate) country_code: String,
    /// Accounts that are made for one address in an hour; 0: no limit.
    pub(crate) accounts_per_ip_hour: u64,
    /// How long a note about an account is kept.
    pub(crate) audit_keep: Duration,
    /// The way that codes take to phones.
    pub(crate) sender: Sender,
    /// How long a refresh token lives.
    pub(crate) refresh_ttl: Duration,
    /// How long a key signs.
    pub(crate) key_ttl: Duration,
    /// What other servers of the studio show; `None`: they are not let in.
    pub(crate) internal: Option<Known>,
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
    pub(super) keys: Keys,
    pub(super) refresh_ttl: Duration,
    pub(super) internal: Option<Known>,
    pub(super) sessions: Sessions,
    pub(super) codes: Codes,
    pub(super) country_code: String,
    pub(super) audit_keep: Duration,
    pub(super) accounts_per_ip_hour: u64,
    pub(super) proofs: Proofs,
    away_logged_ms: AtomicI64,
}

/// Why an account center could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The signing keys could not be read or kept.
    #[error("the keys that sign tokens could not be read: {0}")]
    Store(#[from] StoreError),
    /// Someone changed a key in the database.
    #[error(
        "the row {seq} of table `signing_keys` is damaged ({source}): \
         delete it and start again; whose token it signed signs in anew"
    )]
    Key { seq: i64, source: KeyError },
    /// The operating system refuses the threads that hash.
    #[error(
        "the threads that hash passwords: {0}; free some resources of this machine, or raise its limits"
    )]
    Threads(#[source] std::io::Error),
    /// `[validators]` names one that this game does not have.
    #[error(transparent)]
    Validators(#[from] SettingsError),
}

impl AccountCenter {
    /// Makes the signing key on the very first start.
    pub(crate) async fn start(
        store: Store,
        cache: Cache,
        sessions: Sessions,
        gates: Gates,
        clock: Clock,
        settings: AccountSettings,
    ) -> Result<Self, StartError> {
        let keys = Keys::open(store.clone(), clock.clone(), &settings).await?;
        let AccountSettings {
            cluster: _,
            token_ttl: _,
            key_ttl: _,
            refresh_ttl,
            internal,
            country_code,
            accounts_per_ip_hour,
            audit_keep,
            sender,
            proofs,
            fronts,
        } = settings;
        let key = store.secret(CODES_KEY, || new_codes_key().to_vec()).await?;
        let proofs = Proofs::prepare(proofs, &store).await??;
        let center = Self(Arc::new(Inner {
            store,
            gates,
            fronts,
            throttle: Throttle::new(cache.clone(), clock.clone()),
            codes: Codes::new(cache.clone(), clock.clone(), &key, sender),
            cache,
            clock,
            passwords: Passwords::new().map_err(StartError::Threads)?,
            keys,
            refresh_ttl,
            internal,
            sessions,
            country_code,
            audit_keep,
            accounts_per_ip_hour,
            proofs,
            away_logged_ms: AtomicI64::new(i64::MIN),
        }));
        center.tell_bans().await?;
        center.0.tell_all_ended().await?;
        Ok(center)
    }

    /// Signs in by name and password, or as the guest of a device.
    pub(crate) async fn auth(self, req: msg::auth::Req) -> Result<msg::auth::Res, Refusal> {
        Ok(self.sign_in(req).await?)
    }

    /// As [`AccountCenter::auth`], and says when to come back.
    pub(super) async fn sign_in(self, req: msg::auth::Req) -> Result<msg::auth::Res, Refused> {
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
                (self.gate()?, self.0.guest(&device_id, ip).await?, "guest")
            }
            (Some(_), None, _) => return Err(rules::missing("password").into()),
            (None, Some(_), _) => return Err(rules::missing("username").into()),
            (None, None, None) => {
                return Err(Code::PARAMETER
                    .because("parameter `username` is missing (or `device_id`, for a guest)")
                    .into());
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
        Ok(self.sign_up(req).await?)
    }

    /// As [`AccountCenter::registry`], and says when to come back.
    pub(super) async fn sign_up(
        self,
        req: msg::registry::Req,
    ) -> Result<msg::registry::Res, Refused> {
        let username = rules::username(req.username)?;
        let password = rules::password(req.password)?;
        let addr = self.gate()?;
        let ip = req.client_ip.as_deref();
        let account = self.0.register(username, password, None, ip).await?;
        let signed = self.0.admit(account, Entry { way: "registry", app_id: None, ip }).await?;
        let msg::auth::Res { code, token, addr, account_id, openid, refresh_token, expires_in } =
            signed.answer(addr);
        Ok(msg::registry::Res { code, token, addr, account_id, openid, refresh_token, expires_in })
    }

    /// The public keys that tokens of this center are checked with, oldest first.
    pub(crate) fn jwks(&self) -> Vec<Jwk> {
        self.0.keys.jwks()
    }

    /// Whether what signing in needs is there.
    ///
    /// # Errors
    /// 101 when the store or the cache is away.
    pub(super) async fn healthy(&self) -> Result<(), Refusal> {
        self.0.store.ping().await.map_err(|e| self.0.away(e))?;
        self.0.sessions.marks().reached().await.map_err(|e| self.0.away(e))
    }

    /// A live gate to send somebody to.
    pub(super) fn gate(&self) -> Result<String, Refusal> {
        (self.0.gates.addr)().ok_or_else(|| Code::NOT_READY.into())
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
            keys,
            refresh_ttl: _,
            internal: _,
            sessions: _,
            codes,
            country_code: _,
            audit_keep: _,
            accounts_per_ip_hour: _,
            proofs,
            away_logged_ms: _,
        } = &*self.0;
        f.debug_struct("AccountCenter")
            .field("store", store)
            .field("throttle", throttle)
            .field("passwords", passwords)
            .field("keys", keys)
            .field("codes", codes)
            .field("proofs", proofs)
            .finish_non_exhaustive()
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
    ) -> Result<Account, Refused> {
        let trier = Trier::new(username, ip);
        self.throttle(&trier).await?;
        let found = if rules::is_username(username) {
            self.store.account_by_username(username).await.map_err(|e| self.away(e))?
        } else {
            None
        };
        self.by_hash(found, password, &trier, ip).await
    }

    /// The same for who names the account by its number.
    pub(super) async fn by_id_and_password(
        &self,
        account: i64,
        password: String,
        ip: Option<&str>,
    ) -> Result<Account, Refused> {
        let found = self.store.account_by_id(account).await.map_err(|e| self.away(e))?;
        // One password, one count of failures, whatever the account was named by.
        let trier = match found.as_ref().and_then(|account| account.username.as_deref()) {
            Some(username) => Trier::new(username, ip),
            None => Trier::of_account(account, ip),
        };
        self.throttle(&trier).await?;
        self.by_hash(found, password, &trier, ip).await
    }

    async fn by_hash(
        &self,
        found: Option<Account>,
        password: String,
        trier: &Trier,
        ip: Option<&str>,
    ) -> Result<Account, Refused> {
        let hash = found.as_ref().and_then(|account| account.password_hash.clone());
        // Nobody could register an empty password, so the long one is as wrong.
        let tried =
            if password.len() > rules::PASSWORD_TRIED_BYTES_MAX { String::new() } else { password };

        let turn = self.passwords.turn().await?;
        // Again: whoever was before us in the line has been counted by now, so a hundred guesses
        // sent at once are worth no more than a hundred sent one by one.
        self.throttle(trier).await?;
        let (right, turn) = turn.verify(tried.clone(), hash.clone()).await?;
        if right && let (Some(account), Some(hash)) = (&found, hash) {
            let account = account.clone();
            if hash.is_weaker() {
                return Ok(self.rehash(account, tried, hash, turn).await?);
            }
            return Ok(account);
        }
        self.throttle.failed(trier).await.map_err(|e| self.away(e))?;
        drop(turn);
        // Also of nobody: what is written must not tell by the time it takes.
        let account = found.map_or(NOBODY, |account| account.id);
        let note = Note::new(What::Refused, "password").from(ip).saying("wrong password");
        self.store.note_later(account, self.clock.now_ms(), note);
        Err(Code::WRONG_CREDENTIALS.into())
    }

    /// A password from before the parameters were raised gets a hash of today. What cannot be kept
    /// is made anew at the next sign-in.
    async fn rehash(
        &self,
        mut account: Account,
        password: String,
        before: PasswordHash,
        turn: Turn,
    ) -> Result<Account, Refusal> {
        let anew = turn.hash(password.clone()).await?;
        match self.store.rehash(account.id, before, anew.clone()).await {
            Ok(true) => {
                tracing::info!(target: "account", account = account.id, "password hashed anew");
                account.password_hash = Some(anew);
                Ok(account)
            }
            // Somebody else changed the hash: by the same sign-in, or to another password.
            Ok(false) => {
                let again = self.store.account_by_id(account.id).await.map_err(|e| self.away(e))?;
                let again = again.ok_or(Code::WRONG_CREDENTIALS)?;
                let turn = self.passwords.turn().await?;
                let (right, _) = turn.verify(password, again.password_hash.clone()).await?;
                if right { Ok(again) } else { Err(Code::WRONG_CREDENTIALS.into()) }
            }
            Err(e) => {
                tracing::debug!(target: "account", account = account.id, "not hashed anew: {e}");
                Ok(account)
            }
        }
    }

    /// Where a client that speaks over a WebSocket goes.
    pub(super) fn gateway_url(&self) -> Result<String, Refusal> {
        (self.gates.url)().ok_or_else(|| Code::NOT_READY.because("no gate takes WebSockets"))
    }

    /// Refuses who has failed too often, and says until when.
    pub(super) async fn throttle(&self, trier: &Trier) -> Result<(), Refused> {
        match self.throttle.blocks(trier).await {
            Ok(None) => Ok(()),
            Ok(Some(left)) => Err(Refused::too_many_tries(left)),
            Err(error) => Err(self.away(error).into()),
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

/// 256 bits from the system.
fn new_codes_key() -> [u8; 32] {
    let mut key = [0; 32];
    OsRng.try_fill_bytes(&mut key).expect("the system has a source of randomness");
    key
}

#[cfg(test)]
mod tests {
    use super::{
        super::{tokens::TokenVerifier, world::World},
        *,
    };

    #[tokio::test]
    async fn whoever_registers_is_signed_in_and_can_sign_in_again() {
        let w = World::new().await;
        let new = w.registry("Anna", "secret1").await.unwrap();
        let again = w.auth("aNNA", "secret1").await.unwrap();
        assert_eq!((new.account_id, again.account_id), (Some(10_001), Some(10_001)));
        assert_eq!((again.code, again.expires_in), (0, Some(7200)));
        assert!(again.refresh_token.is_some() && again.refresh_token != new.refresh_token);
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
            tokio::runtime::Handle::current().spawn(guess)
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
        w.store.set_account_status(id, crate::store::AccountStatus::Locked).await.unwrap();
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
