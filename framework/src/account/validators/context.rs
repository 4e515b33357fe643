//! Owns what a validator is given beside the proof: the time, its settings, what was used
//! before, and whom the account center itself knows.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use ring::digest;

use super::{
    super::{
        center::AccountCenter,
        codes::{Addressee, Taker},
        rules,
        tokens::random_id,
    },
    Fields, Identity,
    fields::same,
};
use crate::{
    limits::SIGNATURE_AGE_MAX,
    wire::{Code, Refusal},
};

/// What a [`Validator`](super::Validator) is given beside the proof.
pub struct ValidatorCtx {
    center: AccountCenter,
    name: &'static str,
    ip: Option<String>,
    /// Whether this refusal needs no counting any more, or never did.
    counted: AtomicBool,
}

impl ValidatorCtx {
    pub(super) fn new(center: AccountCenter, name: &'static str, ip: Option<String>) -> Self {
        Self { center, name, ip, counted: AtomicBool::new(false) }
    }

    /// The name that the validator is registered under.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where the request comes from.
    pub fn ip(&self) -> Option<&str> {
        self.ip.as_deref()
    }

    /// Seconds since 1970, by the cluster's clock.
    pub fn now(&self) -> i64 {
        self.center.0.clock.now_ms().div_euclid(1000)
    }

    /// Whether this is a town on a developer's machine.
    pub fn dev(&self) -> bool {
        self.center.0.proofs.dev()
    }

    /// A setting of `[validators.<name>]`.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.center.0.proofs.setting(self.name, key)
    }

    /// The setting `secret`. In `dev` it is `dev-secret-of-<name>` when nothing is set.
    ///
    /// # Errors
    /// 101 when it is not set: the validator is off.
    pub fn secret(&self) -> Result<&str, Refusal> {
        self.setting("secret").ok_or_else(|| self.off("secret"))
    }

    /// A refusal that says that this validator lacks a setting.
    pub fn off(&self, key: &str) -> Refusal {
        let name = self.name;
        // The administrator's secret is not a setting of a validator's.
        let key = match name {
            super::ADMIN => "admin.secret".to_owned(),
            _ => format!("validators.{name}.{key}"),
        };
        Code::NOT_READY.because(format!("validator `{name}` is off: {key} is not set"))
    }

    /// 128 bits by chance, in hex: for what is signed once.
    pub fn nonce(&self) -> String {
        random_id()
    }

    /// Signs with the secret.
    ///
    /// # Errors
    /// As [`ValidatorCtx::secret`].
    pub fn sign(&self, fields: Fields) -> Result<Fields, Refusal> {
        Ok(fields.signed(self.secret()?))
    }

    /// Whether the field `sign` is that of the secret, and the field `t`, in seconds, at most 300
    /// away from now.
    ///
    /// # Errors
    /// 210 when one of the two is missing, 201 when the signature is wrong or too old, and as
    /// [`ValidatorCtx::secret`].
    pub fn verify(&self, fields: &Fields) -> Result<(), Refusal> {
        let t = fields.number("t")?;
        if !fields.signed_with(self.secret()?)? {
            return Err(self.refused("the signature is wrong"));
        }
        if self.now().abs_diff(t) > SIGNATURE_AGE_MAX.as_secs() {
            return Err(self.refused("the signature is too old, or of a clock that is wrong"));
        }
        Ok(())
    }

    /// Whether a nonce is used for the first time in the whole cluster, for as long as a signature
    /// can be good. Ask when the signature was found good: what is refused uses up nothing.
    ///
    /// # Errors
    /// 201 when it was used before, 101 when that cannot be known.
    pub async fn once(&self, nonce: &str) -> Result<(), Refusal> {
        // A signature of a clock that goes before is good for twice the time, to its last second.
        self.once_for(nonce, SIGNATURE_AGE_MAX * 2 + Duration::from_secs(1)).await
    }

    /// As [`ValidatorCtx::once`], with a time of its own.
    ///
    /// # Errors
    /// As [`ValidatorCtx::once`].
    pub async fn once_for(&self, nonce: &str, ttl: Duration) -> Result<(), Refusal> {
        let inner = &self.center.0;
        let hash = digest::digest(&digest::SHA256, nonce.as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let key = format!("validator.once.{}.{hash}", self.name);
        // The cache says yes again to who brings the same value.
        let mine = random_id().into_bytes();
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let put = inner.cache.put_if_absent(&key, mine, ttl_ms, inner.clock.now_ms()).await;
        match put {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.refused("the nonce was used before: ask for a new signature")),
            Err(e) => Err(inner.away(e)),
        }
    }

    /// Whether two texts are equal, in a time that does not tell where they differ.
    pub fn same(&self, one: &str, other: &str) -> bool {
        same(one, other)
    }

    /// A refusal of a proof that is not good. The message goes to the client.
    pub fn refused(&self, why: &'static str) -> Refusal {
        Code::WRONG_CREDENTIALS.because(why)
    }

    /// A refusal since whoever could tell does not answer; it does not count as a wrong proof.
    pub fn unanswered(&self, why: &'static str) -> Refusal {
        self.counted.store(true, Ordering::Relaxed);
        Code::WRONG_CREDENTIALS.because(why)
    }

    /// The account of a name, when the password is its: slowed down, counted and timed as
    /// `/v1/account/auth` is.
    ///
    /// # Errors
    /// 201 when it is not, 208 after too many tries.
    pub async fn by_password(&self, username: &str, password: &str) -> Result<Identity, Refusal> {
        self.counted.store(true, Ordering::Relaxed);
        let password = password.to_owned();
        let account = self.center.0.by_password(username, password, self.ip()).await?;
        Ok(Identity::account(account))
    }

    /// The guest of a device, made when it is new.
    ///
    /// # Errors
    /// 210 when it cannot be the id of a device.
    pub async fn guest(&self, device_id: &str) -> Result<Identity, Refusal> {
        let device_id = rules::device_id(device_id.to_owned())?;
        Ok(Identity::account(self.center.0.guest(&device_id, self.ip.as_deref()).await?))
    }

    /// Sends a code of six digits to a phone or an address of mail, on the way that all codes take
    /// ([`CodeSender`](crate::CodeSender)). Who asks again within a minute has the one that is on its
    /// way; it is good for five minutes.
    ///
    /// # Errors
    /// 205 when it is neither, 208 when too many were sent for this IP, or one within a minute that was
    /// used; 101 when it could not be sent.
    pub async fn send_code(&self, to: &str) -> Result<(), Refusal> {
        let to = self.addressee(to)?;
        Ok(self.center.0.send_code_again(&to, self.ip()).await?)
    }

    /// Takes the code that was sent there: once. Returns the address in its normal form, which is
    /// one for all its spellings and so can be an [`Identity`]: mail in lower case, a phone in E.164.
    ///
    /// # Errors
    /// 205 when it is no address; 206 when there is none, or it was taken; 207 when it is wrong; 208 after five wrong ones in five
    /// minutes.
    pub async fn take_code(&self, to: &str, code: &str) -> Result<String, Refusal> {
        let to = self.addressee(to)?;
        self.center.0.take_code_at(&to, code, Taker::Validator, self.ip()).await?;
        Ok(to.address)
    }

    /// The code that was sent there last, for tests: in `dev` alone.
    ///
    /// # Errors
    /// 1004 elsewhere, 206 when there is none.
    pub async fn code_sent(&self, to: &str) -> Result<String, Refusal> {
        if !self.dev() {
            return Err(Code::UNKNOWN_API.because("there is no such func"));
        }
        let to = self.addressee(to)?;
        self.center.0.code_sent(&to).await
    }

    fn addressee(&self, to: &str) -> Result<Addressee, Refusal> {
        Addressee::parse(&self.center.0.country_code, to)
    }

    /// Whether a refusal must not be counted as a failed try.
    pub(super) fn counted(&self) -> bool {
        self.counted.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for ValidatorCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { center: _, name, ip, counted: _ } = self;
        f.debug_struct("ValidatorCtx").field("name", name).field("ip", ip).finish_non_exhaustive()
    }
}
