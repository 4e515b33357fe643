//! What somebody may change at an own account, and what nobody may at another's.

use std::{sync::Arc, time::Duration};

use argon2::{Argon2, Params, PasswordHasher as _};
use tokio::runtime::Handle;

use super::{
    super::{tokens::Subject, world::World},
    *,
};
use crate::{msg, store::PasswordHash};

const PHONE: &str = "+8613812345678";

async fn bind_name(
    w: &World,
    of: &msg::auth::Res,
    token: Option<&str>,
    name: &str,
) -> Result<(), Code> {
    let (account, name) = (of.account_id.unwrap(), name.to_owned());
    let bound = w.center.bind_name(account, token, name, "secret1".to_owned(), None).await;
    bound.map_err(|refusal| refusal.code)
}

async fn reset(w: &World, account: i64, code: &str) -> Result<(), (Code, String)> {
    let new = "secret2".to_owned();
    let reset = w.center.reset_password(account, new, code, Some("10.0.0.1")).await;
    reset.map_err(|r| (r.refusal.code, r.refusal.message.into_owned()))
}

/// An account with a phone.
async fn with_phone(w: &World, name: &str, phone: &str) -> i64 {
    let account = w.registry(name, "secret1").await.unwrap().account_id.unwrap();
    w.send(phone).await.unwrap();
    w.bind_phone(account, "secret1", phone, &w.phones.code(phone)).await.unwrap();
    w.clock.set(w.clock.now_ms() + 60_000);
    account
}

#[tokio::test]
async fn a_guest_that_gets_a_name_stays_the_player_it_is() {
    let w = World::new().await;
    let guest = w.guest("phone").await.unwrap();
    bind_name(&w, &guest, guest.token.as_deref(), "Anna").await.unwrap();
    let named = w.auth("anna", "secret1").await.unwrap();
    assert_eq!((named.account_id, &named.openid), (guest.account_id, &guest.openid));
    assert_eq!(w.guest("phone").await.unwrap().account_id, guest.account_id, "the device too");
    let again = bind_name(&w, &guest, guest.token.as_deref(), "Bert").await;
    assert_eq!(again, Err(Code::NO_SUCH_ACCOUNT), "it has a name");
    let other = w.guest("other").await.unwrap();
    let token = other.token.as_deref();
    assert_eq!(bind_name(&w, &other, token, "ＡＮＮＡ").await, Err(Code::NAME_TAKEN));
    let notes = w.store.last_notes(guest.account_id.unwrap(), 9).await.unwrap();
    assert!(notes.iter().any(|note| note.what == "name_bound"));
}

#[tokio::test]
async fn a_name_is_bound_only_with_a_good_token_of_that_account() {
    let w = World::new().await;
    let (guest, other) = (w.guest("phone").await.unwrap(), w.guest("other").await.unwrap());
    let invalid = Err(Code::TOKEN_INVALID);
    for token in [None, Some(""), Some("nonsense"), other.token.as_deref()] {
        assert_eq!(bind_name(&w, &guest, token, "anna").await, invalid);
    }
    let id = guest.account_id.unwrap();
    let admin = Subject { account_id: id, openid: "x", role: Some("admin"), ..Subject::default() };
    let admin = w.center.0.keys.issue(&admin, 1_000_000).0;
    assert_eq!(bind_name(&w, &guest, Some(&admin), "anna").await, invalid);
    let revoked = w.guest("phone").await.unwrap().token;
    let sign_out = msg::sign_out::Req { token: revoked.clone(), refresh_token: None };
    w.center.clone().sign_out(sign_out).await.unwrap();
    assert_eq!(bind_name(&w, &guest, revoked.as_deref(), "anna").await, invalid);
    w.clock.set(1_000_000 + 7_200_000);
    let late = bind_name(&w, &guest, guest.token.as_deref(), "anna").await;
    assert_eq!(late, Err(Code::TOKEN_EXPIRED));
    assert_eq!(w.store.account_by_username("anna").await, Ok(None));
}

#[tokio::test]
async fn a_phone_is_bound_with_password_and_code_and_belongs_to_one_account() {
    let w = World::new().await;
    let anna = with_phone(&w, "anna", PHONE).await;
    w.send(PHONE).await.unwrap();
    let bert = w.registry("bert", "secret1").await.unwrap().account_id.unwrap();
    let code = w.phones.code(PHONE);
    let bound = |account, code: &str| {
        let code = code.to_owned();
        let w = &w;
        async move { w.bind_phone(account, "secret1", PHONE, &code).await }
    };
    assert_eq!(bound(anna, &code).await, Err(Code::NO_SUCH_ACCOUNT), "it has a phone");
    // Whoever has no code learns nothing of whose the phone is.
    assert_eq!(bound(bert, "no code").await, Err(Code::CODE_WRONG));
    assert_eq!(bound(bert, &code).await, Err(Code::PHONE_INVALID));
    assert_eq!(bound(bert, &code).await, Err(Code::CODE_EXPIRED), "it was taken");
    let row = w.store.account_by_id(anna).await.unwrap().unwrap();
    assert_eq!(row.phone.as_deref(), Some(PHONE));
}

#[tokio::test]
async fn a_wrong_password_at_any_route_counts_with_those_at_sign_in() {
    let w = World::new().await;
    let anna = w.registry("anna", "secret1").await.unwrap().account_id.unwrap();
    let wrong = Err(Code::WRONG_CREDENTIALS);
    let bind = async |account| {
        let phone = Phone::parse(None, PHONE).unwrap();
        let bound = w.center.bind_phone(account, "wrong1".to_owned(), &phone, "1", None).await;
        bound.map_err(|refused| refused.refusal.code)
    };
    // An account that does not exist, and one without a password, are told the same.
    let guest = w.guest("phone").await.unwrap().account_id.unwrap();
    for account in [anna, 1, guest] {
        assert_eq!(bind(account).await, wrong);
        assert_eq!(bind(account).await, wrong);
        assert_eq!(w.change_password(account, "wrong1", "secret2").await, wrong);
        assert_eq!(w.change_password(account, "wrong1", "secret2").await, wrong);
    }
    let last = w.auth_from("anna", "wrong1", "10.0.0.9").await;
    assert_eq!(last.err(), Some(Code::WRONG_CREDENTIALS));
    assert_eq!(bind(1).await, wrong);
    for account in [anna, 1] {
        assert_eq!(bind(account).await, Err(Code::TOO_MANY_TRIES));
        let changed = w.change_password(account, "secret1", "secret2").await;
        assert_eq!(changed, Err(Code::TOO_MANY_TRIES));
    }
    assert_eq!(w.auth("anna", "secret1").await.err(), Some(Code::TOO_MANY_TRIES));
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_the_old_one() {
    let w = World::new().await;
    let anna = w.registry("anna", "secret1").await.unwrap().account_id.unwrap();
    assert_eq!(w.change_password(anna, "secret1", "short").await, Err(Code::PARAMETER));
    w.change_password(anna, "secret1", "secret2").await.unwrap();
    assert_eq!(w.auth("anna", "secret1").await.err(), Some(Code::WRONG_CREDENTIALS));
    w.auth("anna", "secret2").await.unwrap();
    let notes = w.store.last_notes(anna, 9).await.unwrap();
    assert!(notes.iter().any(|note| note.what == "password_changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_change_a_password_at_once_one_has_changed_it() {
    let w = Arc::new(World::new().await);
    let anna = w.registry("anna", "secret1").await.unwrap().account_id.unwrap();
    let mut changes = Vec::new();
    for n in 2..4 {
        let w = Arc::clone(&w);
        changes.push(Handle::current().spawn(async move {
            let new = format!("secret{n}");
            (w.change_password(anna, "secret1", &new).await, new)
        }));
    }
    let mut changed = Vec::new();
    for change in changes {
        match change.await.unwrap() {
            (Ok(()), new) => changed.push(new),
            (Err(code), _) => assert_eq!(code, Code::WRONG_CREDENTIALS),
        }
    }
    assert_eq!(changed.len(), 1);
    w.auth_from("anna", &changed[0], "10.0.0.2").await.unwrap();
}

#[tokio::test]
async fn a_password_is_reset_with_the_code_at_the_accounts_phone() {
    let w = World::new().await;
    let anna = with_phone(&w, "anna", PHONE).await;
    w.send(PHONE).await.unwrap();
    reset(&w, anna, &w.phones.code(PHONE)).await.unwrap();
    w.auth("anna", "secret2").await.unwrap();
    assert_eq!(w.auth("anna", "secret1").await.err(), Some(Code::WRONG_CREDENTIALS));
    let again = reset(&w, anna, &w.phones.code(PHONE)).await;
    assert_eq!(again.unwrap_err().0, Code::CODE_WRONG);
    let notes = w.store.last_notes(anna, 9).await.unwrap();
    assert!(notes.iter().any(|note| note.what == "password_reset"));
}

/// Were they told apart, anybody could list the accounts, and those that have a phone.
#[tokio::test]
async fn whether_an_account_exists_has_a_phone_or_was_sent_a_code_is_not_told_by_a_reset() {
    let w = World::new().await;
    let sent = with_phone(&w, "anna", PHONE).await;
    w.send(PHONE).await.unwrap();
    let unsent = with_phone(&w, "bert", "+8613812345679").await;
    // The code that bound the phone is over by now.
    w.clock.set(w.clock.now_ms() + 299_999 - 60_000);
    let without = w.guest("phone").await.unwrap().account_id.unwrap();
    let mut told = Vec::new();
    for account in [sent, unsent, without, 1, -1, i64::MAX] {
        let mut said = Vec::new();
        for _ in 0..6 {
            said.push(reset(&w, account, "no code").await.unwrap_err());
        }
        assert_eq!((said[4].0, said[5].0), (Code::CODE_WRONG, Code::TOO_MANY_TRIES));
        told.push(said);
    }
    assert!(told.iter().all(|said| *said == told[0]), "{told:#?}");
}

#[tokio::test]
async fn a_banned_account_changes_nothing() {
    let w = World::new().await;
    let anna = with_phone(&w, "anna", PHONE).await;
    let guest = w.guest("phone").await.unwrap();
    for account in [anna, guest.account_id.unwrap()] {
        let ban = crate::proto::admin::ban::Req { account, until_ms: 9_000_000, reason: "".into() };
        w.center.clone().ban(ban).await.unwrap();
    }
    let banned = Err(Code::BANNED);
    assert_eq!(w.change_password(anna, "secret1", "secret2").await, banned);
    assert_eq!(bind_name(&w, &guest, guest.token.as_deref(), "bert").await, banned);
    w.send(PHONE).await.unwrap();
    let refused = reset(&w, anna, &w.phones.code(PHONE)).await.unwrap_err();
    assert_eq!(refused.0, Code::BANNED);
}

#[tokio::test]
async fn a_hash_with_lower_parameters_is_made_anew_at_sign_in() {
    let w = World::new().await;
    let anna = w.registry("anna", "secret1").await.unwrap().account_id.unwrap();
    let kept = async || {
        let row = w.store.account_by_id(anna).await.unwrap().unwrap();
        row.password_hash.unwrap()
    };
    let weak = Argon2::new(
        argon2::Algorithm::Argon2id,
        argon2::Version::V0x13,
        Params::new(8 * 1024, 1, 1, None).unwrap(),
    );
    let weak = PasswordHash(weak.hash_password(b"secret1").unwrap().to_string());
    w.store.rehash(anna, kept().await, weak.clone()).await.unwrap();
    w.auth("anna", "secret2").await.unwrap_err();
    assert_eq!(kept().await, weak, "a wrong password changes nothing");
    w.auth("anna", "secret1").await.unwrap();
    let strong = kept().await;
    assert!(strong != weak && !strong.is_weaker());
    w.auth("anna", "secret1").await.unwrap();
    assert_eq!(kept().await, strong, "once is enough");
}

#[tokio::test]
async fn of_many_who_sign_in_while_their_hash_is_made_anew_all_are_let_in() {
    let w = World::new().await;
    let anna = w.registry("anna", "secret1").await.unwrap().account_id.unwrap();
    let weak = Argon2::new(
        argon2::Algorithm::Argon2id,
        argon2::Version::V0x13,
        Params::new(8 * 1024, 1, 1, None).unwrap(),
    );
    let weak = PasswordHash(weak.hash_password(b"secret1").unwrap().to_string());
    let kept = w.store.account_by_id(anna).await.unwrap().unwrap().password_hash.unwrap();
    assert_eq!(w.store.rehash(anna, kept, weak).await, Ok(true));
    let (a, b, c) = tokio::join!(
        w.auth("anna", "secret1"),
        w.auth("anna", "secret1"),
        w.auth("anna", "secret1")
    );
    a.and(b).and(c).unwrap();
}

#[tokio::test]
async fn guesses_at_an_account_number_lock_nobody_out_of_his_phone() {
    let w = World::new().await;
    let phone = "+8613812345678";
    let anna = with_phone(&w, "anna", phone).await;
    w.clock.set(1_000_000 + 60_000);
    w.send(phone).await.unwrap();
    for _ in 0..5 {
        assert_eq!(reset(&w, anna, "000000").await.unwrap_err().0, Code::CODE_WRONG);
    }
    assert_eq!(reset(&w, anna, "000000").await.unwrap_err().0, Code::TOO_MANY_TRIES);
    let phone_of = Phone::parse(None, phone).unwrap();
    let code = w.phones.code(phone);
    w.center.by_phone(&phone_of, &code, None, Some("10.0.0.2")).await.map(drop).unwrap();
}

#[tokio::test]
async fn an_address_makes_as_many_guests_an_hour_as_the_operator_says() {
    let w = World::with(|settings| settings.accounts_per_ip_hour = 2).await;
    let guest = async |device: &str, ip: &str| {
        let (device_id, client_ip) = (Some(device.to_owned()), Some(ip.to_owned()));
        let req = msg::auth::Req { device_id, client_ip, ..Default::default() };
        w.center.clone().auth(req).await.map(drop).map_err(|refusal| refusal.code)
    };
    for device in ["a", "b"] {
        assert_eq!(guest(device, "10.0.0.1").await, Ok(()));
    }
    assert_eq!(guest("c", "10.0.0.1").await, Err(Code::TOO_MANY_TRIES));
    let (device_id, client_ip) = (Some("c".to_owned()), Some("10.0.0.1".to_owned()));
    let req = msg::auth::Req { device_id, client_ip, ..Default::default() };
    let refused = w.center.clone().sign_in(req).await.map(drop).unwrap_err();
    assert_eq!(refused.retry_after, Some(Duration::from_secs(3600)));
    assert_eq!(guest("a", "10.0.0.1").await, Ok(()), "who exists is let in");
    assert_eq!(guest("c", "10.0.0.2").await, Ok(()));
    w.clock.set(1_000_000 + i64::try_from(Duration::from_secs(3600).as_millis()).unwrap());
    assert_eq!(guest("d", "10.0.0.1").await, Ok(()));
}
