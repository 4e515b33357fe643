//! Owns codes that are sent to phones: what they look like, how often one is sent, how often one
//! may be guessed, and that each taker takes one once. They live in the cache.
//! Leaves how they travel to `sender`, and what a taken one opens to `phones`.

mod addressee;
mod phone;
mod sender;

use std::{fmt, time::Duration};

use rand::{Rng as _, TryRngCore as _, rngs::OsRng};
use ring::hmac;
use tokio::{runtime::Handle, time::timeout};

pub(super) use self::addressee::Addressee;
pub use self::sender::{CodeSendError, CodeSender};
pub(crate) use self::{
    phone::{Phone, is_country_code},
    sender::{Sender, SenderError},
};

use super::{center::Inner, refused::Refused, throttle::network};
use crate::{
    clock::Clock,
    limits::{
        CODE_GUESSES_MAX, CODE_GUESSES_PER_IP_MAX, CODE_SEND_DEADLINE, CODE_TTL, CODES_PER_IP_MAX,
        CODES_PER_PHONE_EVERY,
    },
    store::Cache,
    wire::{Code, Refusal},
};

/// The codes that are on their way.
pub(super) struct Codes {
    cache: Cache,
    clock: Clock,
    /// Kept in the store: a million codes are tried in a second by whoever reads the cache, so a
    /// salt would hide nothing.
    key: hmac::Key,
    sender: Sender,
    /// The sending goes on here when the client that asked for it is gone.
    handle: Handle,
}

/// Who takes a code. The clients of the platform show the same one there and at the login server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    Account,
    Platform,
    LoginServer,
    /// That of a studio.
    Validator,
}

/// 128 bits that tell one code from the next.
const ISSUE_BYTES: usize = 16;

// === impl Codes ===

impl Codes {
    /// `key` is 32 bytes that only the account centers know.
    pub(super) fn new(cache: Cache, clock: Clock, key: &[u8], sender: Sender) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        Self { cache, clock, key, sender, handle: Handle::current() }
    }

    /// What is kept of a code.
    fn tag(&self, issue: &[u8], phone: &str, code: &str) -> hmac::Tag {
        hmac::sign(&self.key, &said(issue, phone, code))
    }

    /// Hands a code over, within the deadline. Says whether it was.
    async fn deliver(&self, phone: String, code: String) -> bool {
        let sender = self.sender.clone();
        let sent = self
            .handle
            .spawn(async move { timeout(CODE_SEND_DEADLINE, sender.send(&phone, &code)).await });
        match sent.await {
            Ok(Ok(Ok(()))) => return true,
            Ok(Ok(Err(why))) => tracing::warn!(target: "account", "a code was not sent: {why}"),
            Ok(Err(_)) => {
                let limit = CODE_SEND_DEADLINE.as_secs();
                tracing::warn!(target: "account", limit, "a code was not sent: it took too long");
            }
            // The panic hook has logged where and why.
            Err(_) => {
                tracing::error!(target: "account", "a code was not sent: the sender panicked")
            }
        }
        false
    }
}

impl Inner {
    /// Sends a code to a phone, be it somebody's or not.
    ///
    /// # Errors
    /// 208 when one was sent a minute ago, or ten to anybody from this IP within an hour; 101 when
    /// nothing sends codes here, or it was not sent.
    pub(super) async fn send_code(&self, phone: &Phone, ip: Option<&str>) -> Result<(), Refused> {
        self.send_code_to(&Addressee::from(phone), ip).await
    }

    /// The same, to whoever asks again while a code is on its way.
    pub(super) async fn send_code_again(
        &self,
        to: &Addressee,
        ip: Option<&str>,
    ) -> Result<(), Refused> {
        let (Codes { cache, clock, .. }, now_ms) = (&self.codes, self.codes.clock.now_ms());
        let sent = cache.count(&sent_to(&to.key), now_ms).await.map_err(|e| self.away(e))?;
        let kept = cache.get(&code_key(&to.key), clock.now_ms()).await;
        let kept = kept.map_err(|e| self.away(e))?;
        let issue = kept.as_deref().and_then(|kept| kept.get(..ISSUE_BYTES));
        if sent > 0
            && let Some(issue) = issue
        {
            let taken = taken_key(&to.key, issue, Taker::Validator);
            if cache.get(&taken, now_ms).await.map_err(|e| self.away(e))?.is_none() {
                return Ok(());
            }
        }
        self.send_code_to(to, ip).await
    }

    /// What was sent there last; kept in `dev` alone.
    pub(super) async fn code_sent(&self, to: &Addressee) -> Result<String, Refusal> {
        let Codes { cache, clock, .. } = &self.codes;
        let shown = cache.get(&shown_key(&to.key), clock.now_ms()).await;
        let shown = shown.map_err(|e| self.away(e))?.and_then(|code| String::from_utf8(code).ok());
        shown.ok_or_else(|| Code::CODE_EXPIRED.into())
    }

    async fn send_code_to(&self, to: &Addressee, ip: Option<&str>) -> Result<(), Refused> {
        let Codes { cache, clock, sender, .. } = &self.codes;
        if !sender.is_some() {
            return Err(Code::NOT_READY
                .because("this server sends no codes: its operator can set account.code_sender")
                .into());
        }
        let (phone, now_ms) = (&to.key, clock.now_ms());
        self.count_sending(phone, ip).await?;

        let mut issue = [0; ISSUE_BYTES];
        OsRng.try_fill_bytes(&mut issue).expect("the system has a source of randomness");
        let code = format!("{:06}", OsRng.unwrap_err().random_range(0..1_000_000));
        let kept = [&issue[..], self.codes.tag(&issue, phone, &code).as_ref()].concat();
        // Before it is sent, for the client may be faster than we.
        let put = cache.put(&code_key(phone), kept, ms(CODE_TTL), now_ms).await;
        put.map_err(|e| self.away(e))?;
        if self.proofs.dev() {
            let shown = code.clone().into_bytes();
            let put = cache.put(&shown_key(phone), shown, ms(CODE_TTL), now_ms).await;
            put.map_err(|e| self.away(e))?;
        }
        if self.codes.deliver(to.address.clone(), code).await {
            return Ok(());
        }
        cache.take(&code_key(phone), clock.now_ms()).await.map_err(|e| self.away(e))?;
        Err(Code::NOT_READY.because("the code could not be sent: try again in a minute").into())
    }

    /// Takes a code: right, and new to this taker.
    ///
    /// # Errors
    /// 206 when there is none, or it was taken here before; 207 when it is wrong; 208 after
    /// [`CODE_GUESSES_MAX`] of these within as long as a code lives, whatever it is.
    pub(super) async fn take_code(
        &self,
        phone: &Phone,
        code: &str,
        taker: Taker,
        ip: Option<&str>,
    ) -> Result<(), Refused> {
        self.take_code_at(&Addressee::from(phone), code, taker, ip).await
    }

    /// The same for mail as well.
    pub(super) async fn take_code_at(
        &self,
        to: &Addressee,
        code: &str,
        taker: Taker,
        ip: Option<&str>,
    ) -> Result<(), Refused> {
        self.take_guess(&to.key, &to.key, code, taker, ip).await
    }

    /// The same for the code of a phone that an account has; `None`: it has none, and every code is
    /// wrong, as often as anywhere. Guesses count for the account and not for the phone: who knows
    /// no more than a number must not use up those of the phone's owner, nor learn whose it is.
    pub(super) async fn take_code_of(
        &self,
        account: i64,
        phone: Option<&str>,
        code: &str,
        taker: Taker,
        ip: Option<&str>,
    ) -> Result<(), Refused> {
        let whose = format!("{OF_ACCOUNT}{account}");
        self.take_guess(&whose, phone.unwrap_or(&whose), code, taker, ip).await
    }

    async fn take_guess(
        &self,
        whose: &str,
        phone: &str,
        code: &str,
        taker: Taker,
        ip: Option<&str>,
    ) -> Result<(), Refused> {
        let guess = self.claim_guess(whose, phone, ip).await?;
        let taken = self.take_guessed(phone, code, taker, &guess).await;
        let Codes { cache, clock, .. } = &self.codes;
        let (now_ms, (_, window)) = (clock.now_ms(), CODE_GUESSES_PER_IP_MAX);
        // Whoever has the right code does not guess, however often it comes. Where no code is out
        // there is nothing to guess, and the phone's owner must not be locked out of the next one;
        // but at an account all are counted, for a count must not tell that it has a phone.
        let at_nothing = guess.kept.is_none() && !whose.starts_with(OF_ACCOUNT);
        if at_nothing || taken.is_ok() {
            cache.take(&guess.key, now_ms).await.map_err(|e| self.away(e))?;
        }
        if !taken.as_ref().is_ok_and(|first| *first)
            && let Some(ip) = ip
        {
            let counted = cache.incr(&guesses_of(ip), ms(window), now_ms).await;
            counted.map_err(|e| self.away(e))?;
        }
        match taken? {
            true => Ok(()),
            false => Err(Code::CODE_EXPIRED.because("the code was used already").into()),
        }
    }

    /// Whether the right code is new to this taker.
    async fn take_guessed(
        &self,
        phone: &str,
        code: &str,
        taker: Taker,
        guess: &Guess,
    ) -> Result<bool, Refused> {
        let Codes { cache, clock, key, .. } = &self.codes;
        let kept = guess.kept.as_deref().and_then(|kept| kept.split_at_checked(ISSUE_BYTES));
        let Some((issue, tag)) = kept else {
            return Err(Code::CODE_EXPIRED.into());
        };
        if hmac::verify(key, &said(issue, phone, code), tag).is_err() {
            return Err(Code::CODE_WRONG.into());
        }
        let (taken, now_ms) = (taken_key(phone, issue, taker), clock.now_ms());
        let first = cache.put_if_absent(&taken, fresh(now_ms), ms(CODE_TTL), now_ms).await;
        Ok(first.map_err(|e| self.away(e))?)
    }

    /// One a minute and phone, ten an hour and IP. A refused one does not count for the IP.
    async fn count_sending(&self, phone: &str, ip: Option<&str>) -> Result<(), Refused> {
        let Codes { cache, clock, .. } = &self.codes;
        let now_ms = clock.now_ms();
        let (per_ip, hour) = CODES_PER_IP_MAX;
        let of_phone = sent_to(phone);
        let of_ip = ip.map(|ip| format!("account.code.sent.ip.{}", network(ip)));
        if let Some(of_ip) = &of_ip
            && cache.count(of_ip, now_ms).await.map_err(|e| self.away(e))? >= per_ip
        {
            return Err(self.too_many(of_ip, TOO_MANY_FROM_HERE).await);
        }
        let minute = ms(CODES_PER_PHONE_EVERY);
        if cache.incr(&of_phone, minute, now_ms).await.map_err(|e| self.away(e))? > 1 {
            return Err(self.too_many(&of_phone, "one code a minute: wait a little").await);
        }
        if let Some(of_ip) = &of_ip
            && cache.incr(of_ip, ms(hour), now_ms).await.map_err(|e| self.away(e))? > per_ip
        {
            return Err(self.too_many(of_ip, TOO_MANY_FROM_HERE).await);
        }
        Ok(())
    }

    async fn too_many(&self, key: &str, message: &'static str) -> Refused {
        let Codes { cache, clock, .. } = &self.codes;
        // A refusal that cannot say until when is one all the same.
        let left = cache.window_ms(key, clock.now_ms()).await.unwrap_or_default();
        let retry_after = left.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        Refused { refusal: Code::TOO_MANY_TRIES.because(message), retry_after }
    }

    /// Claims one of the few guesses, before the code is looked at: of a hundred guesses at once
    /// no more are heard than of a hundred one by one. Given back when it was none.
    async fn claim_guess(
        &self,
        whose: &str,
        phone: &str,
        ip: Option<&str>,
    ) -> Result<Guess, Refused> {
        let Codes { cache, clock, .. } = &self.codes;
        let (now_ms, window_ms) = (clock.now_ms(), ms(CODE_TTL));
        if let Some(of_ip) = ip.map(guesses_of)
            && cache.count(&of_ip, now_ms).await.map_err(|e| self.away(e))?
                >= CODE_GUESSES_PER_IP_MAX.0
        {
            return Err(self.too_many(&of_ip, TOO_MANY_GUESSES).await);
        }
        let guesses = (0..CODE_GUESSES_MAX).map(|n| format!("account.code.guess.{whose}.{n}"));
        let keys = guesses.chain([code_key(phone)]).collect::<Vec<_>>();
        let mut found = cache.get_many(&keys, now_ms).await.map_err(|e| self.away(e))?;
        // The last, as it was asked for.
        let kept = found.pop().flatten();
        let mine = fresh(now_ms);
        let free = keys.into_iter().zip(&found).filter(|(_, claimed)| claimed.is_none());
        for (key, _) in free {
            let put = cache.put_if_absent(&key, mine.clone(), window_ms, now_ms).await;
            if put.map_err(|e| self.away(e))? {
                return Ok(Guess { key, kept });
            }
        }
        // The first of them to run out makes room.
        let began = found.iter().flatten().filter_map(|bytes| bytes.first_chunk().copied());
        let oldest = began.map(i64::from_le_bytes).min().unwrap_or(now_ms);
        let left = u64::try_from(oldest.saturating_add(window_ms).saturating_sub(now_ms));
        let refusal = Code::TOO_MANY_TRIES.because(TOO_MANY_GUESSES);
        Err(Refused { refusal, retry_after: left.ok().map(Duration::from_millis) })
    }
}

/// One of the few guesses, claimed.
struct Guess {
    /// Where it is claimed.
    key: String,
    /// What is kept of the code, if there is one.
    kept: Option<Vec<u8>>,
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cache, clock: _, key: _, sender, handle: _ } = self;
        f.debug_struct("Codes")
            .field("cache", cache)
            .field("sender", sender)
            .finish_non_exhaustive()
    }
}

/// Before the number of an account that guesses are about; a phone begins with `+`.
const OF_ACCOUNT: &str = "of.";

const TOO_MANY_GUESSES: &str = "too many wrong codes: come back later";
const TOO_MANY_FROM_HERE: &str = "too many codes were sent from this address: come back later";

/// What the tag of a code stands for. A phone holds no NUL, so no two are said alike.
fn said(issue: &[u8], phone: &str, code: &str) -> Vec<u8> {
    [issue, phone.as_bytes(), b"\0", code.as_bytes()].concat()
}

fn code_key(phone: &str) -> String {
    format!("account.code.{phone}")
}

/// Under what it is counted that one was sent.
fn sent_to(phone: &str) -> String {
    format!("account.code.sent.phone.{phone}")
}

fn shown_key(phone: &str) -> String {
    format!("account.code.shown.{phone}")
}

fn taken_key(phone: &str, issue: &[u8], taker: Taker) -> String {
    let issue: String = issue.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("account.code.taken.{phone}.{issue}.{taker:?}")
}

fn guesses_of(ip: &str) -> String {
    format!("account.code.guesses.ip.{}", network(ip))
}

/// When it was, and chance: no two are equal.
fn fresh(now_ms: i64) -> Vec<u8> {
    let mut chance = [0; 8];
    OsRng.try_fill_bytes(&mut chance).expect("the system has a source of randomness");
    [now_ms.to_le_bytes(), chance].concat()
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
