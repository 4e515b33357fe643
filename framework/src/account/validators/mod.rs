//! Owns who signs people in: the trait that a studio implements, the ones that are built in, and
//! the table of all by name and by page.
//! Leaves what becomes of somebody who is known to `login`, and what each asks for to its file.

mod admin;
mod context;
mod fields;
mod login;
mod official;
mod three_sixty;
mod tx;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_util::future::BoxFuture;

pub use context::ValidatorCtx;
pub use fields::Fields;
pub(super) use login::{Claim, Known, called};
pub(crate) use login::{ProofSettings, Proofs, SettingsError};

use super::{http, rules};
use crate::{store::Account, wire::Refusal};

/// Who may sign in by a proof of its own kind, such as a signature that a platform made;
/// registered with [`App::validator`](crate::App::validator) under the name that begins an
/// `openid`: `wx.111` is judged by the validator `wx`. Those that are built in are written with
/// this trait and nothing else.
///
/// ```
/// use bastide::{Fields, Identity, Proof, Refusal, Validator, ValidatorCtx};
///
/// struct Wx;
///
/// impl Validator for Wx {
///     async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
///         let auth = proof.auth()?;
///         auth.only(&["nonce", "sign", "t", "userId"])?;
///         ctx.verify(auth)?;
///         ctx.once(&auth.text("nonce")?).await?;
///         Ok(Identity::new(auth.text("userId")?))
///     }
/// }
/// # struct Hero;
/// # impl bastide::Player for Hero {
/// #     fn load(_: &bastide::Account, _: Option<&[u8]>, _: i64) -> Result<Self, bastide::LoadError> { Ok(Hero) }
/// #     fn save(&self) -> Vec<u8> { Vec::new() }
/// # }
/// let game = bastide::App::new("town").validator("wx", Wx).player::<Hero>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a validator",
    note = "implement `bastide::Validator` for it: `check` says who somebody is, or refuses"
)]
pub trait Validator: Send + Sync + 'static {
    /// Who somebody is, when the proof is good. Asked again for the same person it must say the
    /// same id: the first time, an account is made for it.
    ///
    /// # Errors
    /// [`ValidatorCtx::refused`] for a proof that is not good: it counts like a wrong password,
    /// and whoever fails five times in five minutes has to wait (208). [`Code::PARAMETER`] for
    /// what is missing or malformed, with its name. A panic refuses with [`Code::INTERNAL`]; who
    /// is not known within 5 s is refused with [`Code::DEADLINE`].
    ///
    /// [`Code::PARAMETER`]: crate::Code::PARAMETER
    /// [`Code::INTERNAL`]: crate::Code::INTERNAL
    /// [`Code::DEADLINE`]: crate::Code::DEADLINE
    fn check(
        &self,
        proof: &Proof,
        ctx: &ValidatorCtx,
    ) -> impl Future<Output = Result<Identity, Refusal>> + Send;

    /// Paths at which [`Validator::sign`] is asked for a signature, such as `/auth/new.html`.
    fn pages(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// The signature that a page shows. What was asked holds the parameters of the query; its
    /// `id` has lost a prefix that is this validator's name.
    ///
    /// # Errors
    /// As [`Validator::check`]; the page then has the status of the code, and the message.
    fn sign(
        &self,
        asked: &Fields,
        ctx: &ValidatorCtx,
    ) -> impl Future<Output = Result<Fields, Refusal>> + Send {
        let _ = (asked, ctx);
        async { Err(crate::wire::Code::PARAMETER.because("nothing is signed here")) }
    }

    /// The `data` of the answer to a client that calls `<name>.<call>` by func, with the texts that
    /// it sent.
    ///
    /// # Errors
    /// As [`Validator::check`].
    fn call(
        &self,
        call: &str,
        asked: &Fields,
        ctx: &ValidatorCtx,
    ) -> impl Future<Output = Result<String, Refusal>> + Send {
        let _ = (call, asked, ctx);
        async { Err(crate::wire::Code::UNKNOWN_API.because("there is no such func")) }
    }
}

/// What somebody shows to be let in.
#[derive(Clone)]
#[non_exhaustive]
pub struct Proof {
    /// Who it says it is: what stands behind the validator's name in `openid`.
    pub id: String,
    /// A key that the platform gave it.
    pub openkey: Option<String>,
    /// The signature that the platform made for it.
    pub auth: Option<Fields>,
    /// What the platform calls the place that it comes from.
    pub pf: Option<String>,
    /// A token of an earlier sign-in.
    pub token: Option<String>,
    /// The app that it wants to be signed in for.
    pub app: Option<String>,
}

impl Proof {
    /// The signature.
    ///
    /// # Errors
    /// 210 when there is none.
    pub fn auth(&self) -> Result<&Fields, Refusal> {
        self.auth.as_ref().ok_or_else(|| rules::missing("auth"))
    }

    /// The platform's key.
    ///
    /// # Errors
    /// 210 when there is none.
    pub fn openkey(&self) -> Result<&str, Refusal> {
        self.openkey.as_deref().ok_or_else(|| rules::missing("openkey"))
    }

    /// The place that it comes from.
    ///
    /// # Errors
    /// 210 when it is not said.
    pub fn pf(&self) -> Result<&str, Refusal> {
        self.pf.as_deref().ok_or_else(|| rules::missing("pf"))
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, openkey: _, auth: _, pf, token: _, app } = self;
        f.debug_struct("Proof")
            .field("id", id)
            .field("pf", pf)
            .field("app", app)
            .finish_non_exhaustive()
    }
}

/// Who somebody is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Identity {
    who: Who,
    /// What it is called, in the answer to its sign-in.
    pub nickname: Option<String>,
}

#[derive(Clone, Debug)]
enum Who {
    /// What the validator knows it by, among all that it knows.
    Subject(String),
    /// Somebody whom the account center knew before.
    Account(Box<Account>),
}

impl Identity {
    /// The one whom this validator knows by `id`: 1 to 128 bytes of printable characters.
    pub fn new(id: impl Into<String>) -> Self {
        Self { who: Who::Subject(id.into()), nickname: None }
    }

    /// Says what it is called.
    #[must_use]
    pub fn nickname(mut self, nickname: impl Into<String>) -> Self {
        self.nickname = Some(nickname.into());
        self
    }

    fn account(account: Account) -> Self {
        Self { who: Who::Account(Box::new(account)), nickname: None }
    }
}

/// Every validator of a game. A clone holds the same.
#[derive(Clone)]
pub(crate) struct Validators {
    by_name: BTreeMap<&'static str, Arc<dyn AnyValidator>>,
    /// Whose a page is.
    pages: BTreeMap<&'static str, &'static str>,
}

/// A validator whose type does not matter.
trait AnyValidator: Send + Sync {
    fn check<'a>(
        &'a self,
        proof: &'a Proof,
        ctx: &'a ValidatorCtx,
    ) -> BoxFuture<'a, Result<Identity, Refusal>>;

    fn sign<'a>(
        &'a self,
        asked: &'a Fields,
        ctx: &'a ValidatorCtx,
    ) -> BoxFuture<'a, Result<Fields, Refusal>>;

    fn call<'a>(
        &'a self,
        call: &'a str,
        asked: &'a Fields,
        ctx: &'a ValidatorCtx,
    ) -> BoxFuture<'a, Result<String, Refusal>>;
}

impl<V: Validator> AnyValidator for V {
    fn check<'a>(
        &'a self,
        proof: &'a Proof,
        ctx: &'a ValidatorCtx,
    ) -> BoxFuture<'a, Result<Identity, Refusal>> {
        Box::pin(Validator::check(self, proof, ctx))
    }

    fn sign<'a>(
        &'a self,
        asked: &'a Fields,
        ctx: &'a ValidatorCtx,
    ) -> BoxFuture<'a, Result<Fields, Refusal>> {
        Box::pin(Validator::sign(self, asked, ctx))
    }

    fn call<'a>(
        &'a self,
        call: &'a str,
        asked: &'a Fields,
        ctx: &'a ValidatorCtx,
    ) -> BoxFuture<'a, Result<String, Refusal>> {
        Box::pin(Validator::call(self, call, asked, ctx))
    }
}

impl Default for Validators {
    /// Those that are built in.
    fn default() -> Self {
        let mut all = Self { by_name: BTreeMap::new(), pages: BTreeMap::new() };
        all.add(OFFICIAL, official::Official);
        all.add("360", three_sixty::ThreeSixty);
        all.add("tx", tx::Tx::default());
        all.add(ADMIN, admin::Administrator);
        all
    }
}

/// Whom the account center itself knows.
pub(super) const OFFICIAL: &str = "official";

/// Whoever it lets in is an administrator, and nobody else is.
pub(super) const ADMIN: &str = "admin";

impl Validators {
    /// Adds one.
    ///
    /// # Panics
    /// When its name is taken, is empty or has a character that is not a letter, a digit, `-` or
    /// `_`; when a page of its is taken, or is no path.
    pub(crate) fn add(&mut self, name: &'static str, validator: impl Validator) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        assert!(
            !name.is_empty() && name.len() <= 32 && name.chars().all(plain),
            "`{name}` cannot be the name of a validator: choose 1 to 32 letters, digits, '-' and \
             '_', for it stands before the dot of an openid"
        );
        assert!(
            !self.by_name.contains_key(name),
            "there is a validator `{name}` already: choose another name"
        );
        for page in validator.pages() {
            let simple = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            assert!(
                page.starts_with('/') && page.len() > 1 && page.chars().all(simple),
                "`{page}` of the validator `{name}` is no path of a page: write one such as \
                 /auth/new.html"
            );
            let taken = http::paths().contains(&page) || self.pages.insert(page, name).is_some();
            assert!(
                !taken,
                "the page `{page}` of the validator `{name}` is taken: choose another path"
            );
        }
        self.by_name.insert(name, Arc::new(validator));
    }

    fn named(&self, name: &str) -> Option<(&'static str, Arc<dyn AnyValidator>)> {
        self.by_name.get_key_value(name).map(|(name, validator)| (*name, validator.clone()))
    }

    /// Whether there is one of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Every page, and whose it is.
    pub(super) fn pages(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.pages.iter().map(|(page, name)| (*page, *name))
    }

    /// The page of a path, which may lack its first `/`.
    pub(super) fn page(&self, path: &str) -> Option<&'static str> {
        let path = path.trim_start_matches('/');
        self.pages.keys().copied().find(|page| &page[1..] == path)
    }
}

impl fmt::Debug for Validators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}
