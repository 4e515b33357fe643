//! What may be sent to a phone, and what may be guessed of it.

use std::sync::Arc;

use super::super::{
    Claim, Fields, Identity, Proof, ProofSettings, Validator, ValidatorCtx, Validators,
};
use super::{
    super::{
        tests::Log,
        world::{Way, World},
    },
    *,
};
use crate::config;

const PHONE: &str = "+8613812345678";

fn too_many(seconds: u64) -> Result<(), (Code, Option<u64>)> {
    Err((Code::TOO_MANY_TRIES, Some(seconds)))
}

fn wrong() -> Result<(), (Code, Option<u64>)> {
    Err((Code::CODE_WRONG, None))
}

fn expired() -> Result<(), (Code, Option<u64>)> {
    Err((Code::CODE_EXPIRED, None))
}

/// Six digits that are not these.
fn other_than(code: &str) -> String {
    let number: u32 = code.parse().unwrap();
    format!("{:06}", (number + 1) % 1_000_000)
}

#[tokio::test]
async fn a_code_is_taken_once_by_each_taker_within_five_minutes() {
    let w = World::new().await;
    w.send(PHONE).await.unwrap();
    let code = w.phones.code(PHONE);
    assert!(code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()), "{code}");
    for taker in [Taker::Platform, Taker::LoginServer] {
        assert_eq!(w.take(PHONE, &code, taker).await, Ok(()), "{taker:?}");
        assert_eq!(w.take(PHONE, &code, taker).await, expired(), "{taker:?} has taken it");
    }
    assert_eq!(w.take("+8613812345679", &code, Taker::Account).await, expired(), "another phone");
    w.clock.set(1_000_000 + 299_999);
    assert_eq!(w.take(PHONE, &code, Taker::Account).await, Ok(()));
    w.send(PHONE).await.unwrap();
    let (code, sent_ms) = (w.phones.code(PHONE), w.clock.now_ms());
    w.clock.set(sent_ms + 300_000);
    assert_eq!(w.take(PHONE, &code, Taker::Account).await, expired());
}

#[tokio::test]
async fn of_many_that_show_a_code_at_once_one_has_it() {
    let w = Arc::new(World::new().await);
    w.send(PHONE).await.unwrap();
    let code = w.phones.code(PHONE);
    let mut takes = Vec::new();
    for _ in 0..4 {
        let (w, code) = (Arc::clone(&w), code.clone());
        takes.push(
            Handle::current().spawn(async move { w.take(PHONE, &code, Taker::Platform).await }),
        );
    }
    let mut taken = 0;
    for take in takes {
        taken += usize::from(take.await.unwrap().is_ok());
    }
    assert_eq!(taken, 1);
}

#[tokio::test]
async fn a_newer_code_replaces_the_one_before() {
    let w = World::new().await;
    w.send(PHONE).await.unwrap();
    let old = w.phones.code(PHONE);
    w.clock.set(1_060_000);
    w.send(PHONE).await.unwrap();
    let new = w.phones.code(PHONE);
    if old != new {
        assert_eq!(w.take(PHONE, &old, Taker::Account).await, wrong());
    }
    assert_eq!(w.take(PHONE, &new, Taker::Account).await, Ok(()));
}

#[tokio::test]
async fn a_phone_gets_one_code_a_minute_and_is_told_the_rest_of_it() {
    let w = World::new().await;
    w.send(PHONE).await.unwrap();
    assert_eq!(w.send_from("+86 138 1234 5678", "10.0.0.2").await, too_many(60));
    w.clock.set(1_000_000 + 17_000);
    assert_eq!(w.send(PHONE).await, too_many(43));
    assert_eq!(w.phones.count(), 1);
    w.clock.set(1_000_000 + 60_000);
    w.send(PHONE).await.unwrap();
}

#[tokio::test]
async fn an_address_is_sent_ten_codes_an_hour_and_refusals_do_not_count() {
    let w = World::new().await;
    let phone = |n: usize| format!("+861381234560{n}");
    for n in 0..10 {
        // Of one IPv6 customer.
        w.send_from(&phone(n), &format!("2001:db8:1:2::{n}")).await.unwrap();
        let again = w.send_from(&phone(n), "2001:db8:1:2::").await;
        let told = again.unwrap_err().0;
        assert_eq!(told, Code::TOO_MANY_TRIES);
    }
    w.clock.set(1_000_000 + 600_000);
    assert_eq!(w.send_from(PHONE, "2001:db8:1:2::f").await, too_many(3000));
    w.send_from(PHONE, "2001:db8:1:3::f").await.unwrap();
    w.clock.set(1_000_000 + 3_600_000);
    w.send_from(PHONE, "2001:db8:1:2::f").await.unwrap();
}

#[tokio::test]
async fn after_five_wrong_codes_the_right_one_is_refused_and_the_rest_is_told() {
    let w = World::new().await;
    w.send(PHONE).await.unwrap();
    let code = w.phones.code(PHONE);
    for n in 0..5 {
        w.clock.set(1_000_000 + n * 1000);
        assert_eq!(w.take(PHONE, &other_than(&code), Taker::Platform).await, wrong());
    }
    // The first of them counts until five minutes are over.
    assert_eq!(w.take(PHONE, &code, Taker::LoginServer).await, too_many(296));
    w.clock.set(1_000_000 + 300_000);
    w.send(PHONE).await.unwrap();
    let code = w.phones.code(PHONE);
    assert_eq!(w.take(PHONE, &other_than(&code), Taker::Platform).await, wrong());
    assert_eq!(w.take(PHONE, &code, Taker::Platform).await, too_many(1));
    w.clock.set(1_000_000 + 301_000);
    assert_eq!(w.take(PHONE, &code, Taker::Platform).await, Ok(()));
}

#[tokio::test]
async fn a_right_code_is_no_guess_nor_is_one_where_none_was_sent() {
    let w = World::new().await;
    w.send(PHONE).await.unwrap();
    let code = w.phones.code(PHONE);
    for _ in 0..4 {
        assert_eq!(w.take(PHONE, &other_than(&code), Taker::Account).await, wrong());
    }
    for taker in [Taker::Account, Taker::Platform] {
        assert_eq!(w.take(PHONE, &code, taker).await, Ok(()));
    }
    for odd in ["", "１２３４５６", "0", &"9".repeat(5000)] {
        let told = w.take(PHONE, odd, Taker::Account).await.unwrap_err().0;
        assert!([Code::CODE_WRONG, Code::TOO_MANY_TRIES].contains(&told), "{told:?}");
    }
    assert_eq!(w.take(PHONE, &code, Taker::LoginServer).await, too_many(300));
    // Neither a stranger's guesses at nothing nor a client that repeats itself locks anybody out.
    let other = "+8613812345679";
    for _ in 0..6 {
        assert_eq!(w.take(other, "123456", Taker::Platform).await, expired());
    }
    w.send(other).await.unwrap();
    let code = w.phones.code(other);
    assert_eq!(w.take(other, &code, Taker::Platform).await, Ok(()));
    for _ in 0..6 {
        assert_eq!(w.take(other, &code, Taker::Platform).await, expired());
    }
    assert_eq!(w.take(other, &code, Taker::LoginServer).await, Ok(()));
}

/// A regression would look like six or more: whoever counts after comparing lets all of them in.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_guesses_at_once_five_are_heard() {
    let w = Arc::new(World::new().await);
    w.send(PHONE).await.unwrap();
    let guess = other_than(&w.phones.code(PHONE));
    let mut guesses = Vec::new();
    for _ in 0..100 {
        let (w, guess) = (Arc::clone(&w), guess.clone());
        guesses.push(
            Handle::current().spawn(async move { w.take(PHONE, &guess, Taker::Platform).await }),
        );
    }
    let mut heard = 0;
    for guess in guesses {
        heard += usize::from(guess.await.unwrap() == wrong());
    }
    assert_eq!(heard, 5);
}

#[tokio::test]
async fn an_address_guesses_at_a_hundred_codes() {
    let w = World::new().await;
    for n in 0..20 {
        for _ in 0..5 {
            let phone = format!("+86138123456{n:02}");
            assert_eq!(w.take(&phone, "123456", Taker::Platform).await, expired());
        }
    }
    assert_eq!(w.take(PHONE, "123456", Taker::Platform).await, too_many(300));
    let elsewhere = Phone::parse(None, PHONE).unwrap();
    let told = w.center.0.take_code(&elsewhere, "1", Taker::Platform, Some("10.0.0.2")).await;
    assert_eq!(told.unwrap_err().refusal.code, Code::CODE_EXPIRED);
}

#[tokio::test]
async fn a_code_that_did_not_arrive_is_void_and_counts_as_sent() {
    for way in [Way::Fails, Way::Panics, Way::Hangs] {
        let w = World::new().await;
        *w.phones.way.lock().unwrap() = way;
        tokio::time::pause();
        assert_eq!(w.send(PHONE).await, Err((Code::NOT_READY, None)));
        tokio::time::resume();
        let code = w.phones.code(PHONE);
        assert_eq!(w.take(PHONE, &code, Taker::Platform).await, expired());
        *w.phones.way.lock().unwrap() = Way::Arrives;
        assert_eq!(w.send(PHONE).await, too_many(60));
    }
}

#[tokio::test]
async fn without_a_sender_nothing_is_sent_and_nothing_counts() {
    let w = World::with(|settings| settings.sender = Sender::none()).await;
    for _ in 0..2 {
        let phone = Phone::parse(None, PHONE).unwrap();
        let refused = w.center.send_code(&phone, Some("10.0.0.1")).await.unwrap_err();
        assert_eq!(refused.refusal.code, Code::NOT_READY);
        assert!(refused.refusal.message.contains("account.code_sender"), "{refused:?}");
    }
}

#[tokio::test]
async fn the_log_of_development_holds_the_code_in_the_line_that_scripts_wait_for() {
    let unsaid = config::Account::default();
    let log_sender = Sender::of(&unsaid, true, Sender::none()).unwrap();
    let w = World::with(|settings| settings.sender = log_sender).await;
    let log = Log::default();
    let listening = log.listen();
    w.send(PHONE).await.unwrap();
    drop(listening);
    let text = log.text();
    let line = text.lines().find(|line| line.contains("发送验证码")).unwrap();
    assert!(line.contains(" INFO account: 向手机号 +8613812345678 发送验证码: "), "{line}");
    let code = line.rsplit(' ').next().unwrap();
    assert_eq!(w.take(PHONE, code, Taker::Platform).await, Ok(()));
}

#[tokio::test]
async fn the_cache_does_not_hold_the_code() {
    let w = World::new().await;
    w.send(PHONE).await.unwrap();
    let Codes { cache, clock, .. } = &w.center.0.codes;
    let kept = cache.get(&code_key(PHONE), clock.now_ms()).await.unwrap().unwrap();
    let code = w.phones.code(PHONE);
    assert_eq!(kept.len(), ISSUE_BYTES + 32);
    assert!(!kept.windows(6).any(|bytes| bytes == code.as_bytes()));
    // Another key: another tag of the same code.
    let (issue, tag) = kept.split_at(ISSUE_BYTES);
    let stranger = Codes::new(Cache::memory(), clock.clone(), &[7; 32], Sender::none());
    assert_ne!(stranger.tag(issue, PHONE, &code).as_ref(), tag);
    assert!(!format!("{:?}", w.center.0.codes).contains(&code));
}

/// A validator that does with codes what it is called to.
struct Coder;

impl Validator for Coder {
    async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
        Ok(Identity::new(ctx.take_code(&proof.id, proof.openkey()?).await?))
    }

    async fn call(
        &self,
        call: &str,
        asked: &Fields,
        ctx: &ValidatorCtx,
    ) -> Result<String, Refusal> {
        let to = asked.text("address")?;
        match call {
            "send" => ctx.send_code(&to).await.map(|()| String::new()),
            "take" => ctx.take_code(&to, &asked.text("code")?).await,
            _ => ctx.code_sent(&to).await,
        }
    }
}

#[tokio::test]
async fn a_validator_sends_a_code_once_and_takes_it_once_and_shows_it_in_dev_alone() {
    for dev in [true, false] {
        let mut validators = Validators::default();
        validators.add("coder", Coder);
        let w = World::proving(ProofSettings { validators, dev, ..Default::default() }).await;
        let ask = async |call: &str, code: &str| {
            let asked = Fields::new().with("address", "Anna@example.org").with("code", code);
            let ip = Some("10.0.0.1".to_owned());
            let told = w.center.ask_validator("coder", call, asked, ip).await;
            told.map_err(|refusal| refusal.code)
        };
        assert_eq!(ask("take", "1").await, Err(Code::CODE_EXPIRED), "none was sent");
        for _ in 0..3 {
            assert_eq!(ask("send", "").await, Ok(String::new()));
        }
        assert_eq!(w.phones.count(), 1, "the one that is on its way");
        let code = w.phones.code("anna@example.org");
        let shown = if dev { Ok(code.clone()) } else { Err(Code::UNKNOWN_API) };
        assert_eq!(ask("shown", "").await, shown);
        let wrong = if code == "123456" { "654321" } else { "123456" };
        assert_eq!(ask("take", wrong).await, Err(Code::CODE_WRONG));
        let normal = "anna@example.org".to_owned();
        assert_eq!(ask("take", &code).await, Ok(normal), "one for all spellings");
        assert_eq!(ask("take", &code).await, Err(Code::CODE_EXPIRED), "it is used");
        assert_eq!(ask("send", "").await, Err(Code::TOO_MANY_TRIES), "one a minute");
    }
}

#[tokio::test]
async fn two_spellings_of_one_address_are_one_account() {
    let mut validators = Validators::default();
    validators.add("coder", Coder);
    let w = World::proving(ProofSettings { validators, ..Default::default() }).await;
    let account = async |address: &str, normal: &str| {
        // One code a minute.
        w.clock.set(w.clock.now_ms() + 61_000);
        let asked = Fields::new().with("address", address);
        w.center.ask_validator("coder", "send", asked, None).await.unwrap();
        let (openid, openkey) = (format!("coder.{address}"), Some(w.phones.code(normal)));
        let known = w.center.login(Claim { openid, openkey, ..Claim::default() }).await.unwrap();
        known.signed.account.id
    };
    let mail = account("Anna@Example.org", "anna@example.org").await;
    assert_eq!(account("anna@example.org", "anna@example.org").await, mail);
    let phone = account("13812345678", PHONE).await;
    assert_eq!(account("+86 138 1234 5678", PHONE).await, phone);
    assert_ne!(mail, phone);
}
