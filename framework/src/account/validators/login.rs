//! Owns how a proof becomes somebody who is signed in: whose validator is asked, how often one
//! may fail, which account it is, made at the first time.

use std::{collections::BTreeMap, fmt, future::poll_fn, sync::Arc, task::Poll};

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::super::{
    center::{AccountCenter, Inner},
    entry::{Entry, Signed},
    refused::Refused,
    rules,
    throttle::Trier,
    tokens::{Claims, random_id},
};
use super::{
    ADMIN, AnyValidator, Fields, Identity, OFFICIAL, Proof, ValidatorCtx, Validators, Who,
    fields::shown,
};
use crate::{
    config::{Secret, ValidatorSettings},
    limits::PROOF_DEADLINE,
    store::{Account, CreateError, Store, StoreError},
    telemetry::{Panic, catch},
    wire::{Code, Refusal},
};

/// What differs between the validators of account centers.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProofSettings {
    pub(crate) validators: Validators,
    /// What the configuration says of each.
    pub(crate) settings: ValidatorSettings,
    /// Whether what is not set has a default that everybody knows.
    pub(crate) dev: bool,
    /// With which administrators sign.
    pub(crate) admin_secret: Option<Secret>,
}

/// The configuration speaks of a validator that this game does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("validators.{0}: there is no validator of this name; there are: {1}")]
pub(crate) struct SettingsError(String, String);

/// Every validator with what it knows by configuration.
pub(crate) struct Proofs {
    validators: Validators,
    settings: BTreeMap<String, BTreeMap<String, Secret>>,
    dev: bool,
}

/// What a client shows at its sign-in, as it was sent.
#[derive(Clone, Default)]
pub(in crate::account) struct Claim {
    /// `auth.id`: a validator's name, and who it says it is.
    pub(in crate::account) openid: String,
    pub(in crate::account) openkey: Option<String>,
    pub(in crate::account) auth: Option<Fields>,
    pub(in crate::account) pf: Option<String>,
    pub(in crate::account) token: Option<String>,
    pub(in crate::account) app: Option<String>,
    pub(in crate::account) ip: Option<String>,
}

/// Somebody whose proof was good.
pub(in crate::account) struct Known {
    pub(in crate::account) signed: Signed,
    /// What it is called.
    pub(in crate::account) name: String,
    /// The gate to go to; an administrator goes to none.
    pub(in crate::account) addr: Option<String>,
}

/// The row of `secrets` with which `official` signs: every cluster has its own.
const OFFICIAL_SECRET: &str = "validators.official";

/// Longer nicknames are cut.
const NICKNAME_CHARS_MAX: usize = 32;

impl Proofs {
    /// With the defaults for what is not set.
    pub(in crate::account) async fn prepare(
        settings: ProofSettings,
        store: &Store,
    ) -> Result<Result<Self, SettingsError>, StoreError> {
        let ProofSettings {
            validators,
            settings: ValidatorSettings(mut settings),
            dev,
            admin_secret,
        } = settings;
        if let Some(odd) = settings.keys().find(|name| !validators.has(name)) {
            let known: Vec<_> = validators.by_name.keys().copied().collect();
            return Ok(Err(SettingsError(odd.clone(), known.join(", "))));
        }
        for name in validators.by_name.keys() {
            let of = settings.entry((*name).to_owned()).or_default();
            let mut default = |key: &str, value: String| {
                of.entry(key.to_owned()).or_insert(Secret(value));
            };
            match *name {
                OFFICIAL => {
                    let made = || random_id().into_bytes();
                    let own = store.secret(OFFICIAL_SECRET, made).await?;
                    default("secret", own.iter().map(|byte| format!("{byte:02x}")).collect());
                }
                ADMIN => {
                    if let Some(secret) = &admin_secret {
                        default("secret", secret.0.clone());
                    }
                    if dev {
                        default("page", "open".to_owned());
                    }
                }
                _ if dev => {
                    default("secret", dev_secret(name));
                    default("page", "open".to_owned());
                }
                _ => {}
            }
        }
        Ok(Ok(Self { validators, settings, dev }))
    }

    pub(super) fn setting(&self, name: &str, key: &str) -> Option<&str> {
        self.settings.get(name)?.get(key).map(|value| value.0.as_str())
    }

    pub(in crate::account) fn dev(&self) -> bool {
        self.dev
    }

    pub(in crate::account) fn validators(&self) -> &Validators {
        &self.validators
    }

    /// Whose `openid` is: its validator, and who it is there.
    fn split(
        &self,
        openid: &str,
    ) -> Result<(&'static str, Arc<dyn AnyValidator>, String), Refusal> {
        let wrong = |why: String| Code::PARAMETER.because(format!("parameter `openid` {why}"));
        let Some((name, id)) = openid.split_once('.') else {
            return Err(wrong("is not of the form validator.id, such as official.001".to_owned()));
        };
        let (name, validator) = self
            .validators
            .named(name)
            .ok_or_else(|| wrong(format!("names no validator: there is no `{}`", shown(name))))?;
        if !is_subject(id) {
            return Err(wrong(
                "does not end with an id of 1 to 128 bytes of printable characters".to_owned(),
            ));
        }
        Ok((name, validator, id.to_owned()))
    }
}

/// What a validator says, if it says it in time.
async fn in_time<T>(asked: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    timeout(PROOF_DEADLINE, asked).await.map_err(|_| Code::DEADLINE)?
}

impl AccountCenter {
    /// Signs in whoever a validator knows; at the first time an account is made.
    pub(in crate::account) async fn login(&self, claim: Claim) -> Result<Known, Refused> {
        let Claim { openid, openkey, auth, pf, token, app, ip } = claim;
        let (name, validator, id) = self.0.proofs.split(&openid)?;
        let role = (name == ADMIN).then_some(ADMIN);
        let addr = if role.is_none() { Some(self.gate()?) } else { None };
        // Who signs a proof cannot be guessed: to count by id would only let others lock him out.
        let guessed = auth.is_none();
        let trier = Trier::of_identity(name, guessed.then_some(id.as_str()), ip.as_deref());
        self.0.throttle(&trier).await?;
        let ctx = ValidatorCtx::new(self.clone(), name, ip.clone());
        let proof = Proof { id, openkey, auth, pf, token, app: app.clone() };
        let checked = in_time(caught(|| validator.check(&proof, &ctx))).await;
        if let Err(refusal) = &checked
            && refusal.code == Code::WRONG_CREDENTIALS
            && !ctx.counted()
        {
            self.0.throttle.failed(&trier).await.map_err(|e| self.0.away(e))?;
        }
        let Identity { who, nickname } = checked?;
        let account = match who {
            Who::Account(account) => *account,
            Who::Subject(subject) if is_subject(&subject) => {
                self.0.by_identity(name, &subject).await?
            }
            Who::Subject(_) => {
                let odd = format!(
                    "the id that the validator `{name}` found is not 1 to 128 bytes of printable \
                     characters"
                );
                return Err(Code::PARAMETER.because(odd).into());
            }
        };
        let name_of = nickname.map(|name| {
            name.chars().filter(|c| !c.is_control()).take(NICKNAME_CHARS_MAX).collect()
        });
        let name_of = name_of.unwrap_or_else(|| called(&account));
        let entry = Entry { way: name, app_id: app.as_deref(), ip: ip.as_deref() };
        let signed = self.0.admit_as(account, entry, role).await?;
        Ok(Known { signed, name: name_of, addr })
    }

    /// The signature that a page shows.
    pub(in crate::account) async fn signature(
        &self,
        page: &str,
        asked: Fields,
        ip: Option<String>,
    ) -> Result<Fields, Refused> {
        let validators = &self.0.proofs.validators;
        let owner = validators.pages.get(page).and_then(|name| validators.named(name));
        let Some((name, validator)) = owner else {
            return Err(Code::PARAMETER.because("there is no such page").into());
        };
        let prefix = format!("{name}.");
        let asked = match asked.text("id") {
            Ok(id) if id.starts_with(&prefix) => asked.with("id", &id[prefix.len()..]),
            _ => asked,
        };
        // A page that asks for a secret is one where it is guessed.
        let trier = Trier::of_identity(name, None, ip.as_deref());
        self.0.throttle(&trier).await?;
        let ctx = ValidatorCtx::new(self.clone(), name, ip);
        let signed = in_time(caught(|| validator.sign(&asked, &ctx))).await;
        if let Err(refusal) = &signed
            && refusal.code == Code::WRONG_CREDENTIALS
        {
            self.0.throttle.failed(&trier).await.map_err(|e| self.0.away(e))?;
        }
        Ok(signed?)
    }

    /// What a validator answers to a call of its own.
    pub(in crate::account) async fn ask_validator(
        &self,
        name: &str,
        call: &str,
        asked: Fields,
        ip: Option<String>,
    ) -> Result<String, Refusal> {
        let owner = self.0.proofs.validators.named(name);
        let Some((name, validator)) = owner else {
            return Err(Code::UNKNOWN_API.because("there is no such func"));
        };
        let ctx = ValidatorCtx::new(self.clone(), name, ip);
        in_time(caught(|| validator.call(call, &asked, &ctx))).await
    }

    /// Whether nobody has signed in as this one yet, for all that strangers may know: who has a name
    /// here, whose device is known and who the administrators are is nobody's business.
    pub(in crate::account) async fn is_new(&self, openid: &str) -> Result<bool, Refusal> {
        let (name, _, id) = match self.0.proofs.split(openid) {
            Ok(split) => split,
            // Who is no validator's is new everywhere.
            Err(refusal) if refusal.code == Code::PARAMETER => return Ok(true),
            Err(refusal) => return Err(refusal),
        };
        if matches!(name, OFFICIAL | ADMIN) {
            return Ok(true);
        }
        let found = self.0.store.account_by_identity(name, &id).await;
        Ok(found.map_err(|e| self.0.away(e))?.is_none())
    }

    /// Whose token this is, when it is a player's and still good.
    pub(in crate::account) async fn by_token(
        &self,
        token: &str,
    ) -> Result<(Claims, Account), Refusal> {
        let inner = &self.0;
        let (id, claims) = inner.living(token).await?;
        let account = inner.store.account_by_id(id).await.map_err(|e| inner.away(e))?;
        Ok((claims, account.ok_or(Code::TOKEN_INVALID)?))
    }
}

impl Inner {
    /// The account of whom a validator knows, made when there is none; of two that race, one is
    /// made.
    async fn by_identity(&self, validator: &str, subject: &str) -> Result<Account, Refusal> {
        let find = || self.store.account_by_identity(validator, subject);
        if let Some(account) = find().await.map_err(|e| self.away(e))? {
            return Ok(account);
        }
        match self.store.create_identity(validator, subject, self.clock.now_ms()).await {
            Ok(account) => {
                tracing::info!(target: "account", account = account.id, validator, "account created");
                Ok(account)
            }
            Err(CreateError::Taken) => {
                find().await.map_err(|e| self.away(e))?.ok_or_else(|| Code::NOT_CREATED.into())
            }
            Err(CreateError::Store(error)) => Err(self.away(error)),
        }
    }
}

/// What an account is called that said nothing itself.
pub(in crate::account) fn called(account: &Account) -> String {
    account.username.clone().unwrap_or_else(|| format!("guest-{}", account.id))
}

/// What a validator may know somebody by.
fn is_subject(id: &str) -> bool {
    !id.is_empty() && rules::device_id(id.to_owned()).is_ok()
}

/// Asks a validator; a panic of its is an internal error.
async fn caught<'a, T>(
    ask: impl FnOnce() -> BoxFuture<'a, Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let asked = async {
        let mut asked = catch(ask)?;
        poll_fn(|cx| match catch(|| asked.as_mut().poll(cx)) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        })
        .await
    };
    match asked.await {
        // A refusal without a reason would look like a success.
        Ok(Err(refusal)) if refusal.code == Code::OK => Err(Code::INTERNAL.into()),
        Ok(answer) => answer,
        Err(Panic(text)) => {
            tracing::error!(target: "account", "a validator panicked: {text}");
            Err(Code::INTERNAL.into())
        }
    }
}

/// What everybody knows; refused outside `dev`.
fn dev_secret(name: &str) -> String {
    format!("{}{name}", crate::config::DEV_SECRET)
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { validators, settings: _, dev: _ } = self;
        f.debug_struct("Proofs").field("validators", validators).finish_non_exhaustive()
    }
}
