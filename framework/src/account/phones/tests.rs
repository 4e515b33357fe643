//! Who signs in by a phone, and as whom.

use std::sync::{Arc, atomic::Ordering};

use tokio::runtime::Handle;

use super::{
    super::world::{Told, World},
    *,
};
use crate::store::AccountStatus;

const PHONE: &str = "+8613812345678";

fn phone() -> Phone {
    Phone::parse(Some("+86"), "13812345678").unwrap()
}

async fn login(w: &World, code: &str) -> Result<Signed, Code> {
    let signed = w.center.by_phone(&phone(), code, Some("jigger_game"), Some("10.0.0.1")).await;
    signed.map_err(|refused| refused.refusal.code)
}

async fn login_server(w: &World, code: &str) -> Result<Session, Code> {
    let session = w.center.session_by_phone(&phone(), code, Some("10.0.0.1")).await;
    session.map_err(|refused| refused.refusal.code)
}

#[tokio::test]
async fn the_first_sign_in_makes_the_account_and_the_next_finds_it() -> Result<(), Told> {
    let w = World::new().await;
    w.send(PHONE).await?;
    let first = login(&w, &w.phones.code(PHONE)).await.unwrap();
    assert_eq!(first.account.username.as_deref(), Some("user_86_345678"));
    assert_eq!(first.claims.app.as_deref(), Some("jigger_game"));
    w.clock.set(1_060_000);
    w.send(PHONE).await?;
    let again = login(&w, &w.phones.code(PHONE)).await.unwrap();
    assert_eq!((again.account.id, again.openid), (first.account.id, first.openid));
    // Nobody signs in to it by a password that was never set.
    assert_eq!(w.auth("user_86_345678", "").await.err(), Some(Code::PARAMETER));
    assert_eq!(w.auth("user_86_345678", "x").await.err(), Some(Code::WRONG_CREDENTIALS));
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_taken_gets_an_ending() {
    let w = World::new().await;
    w.registry("USER_86_345678", "secret1").await.unwrap();
    w.send(PHONE).await.unwrap();
    let signed = login(&w, &w.phones.code(PHONE)).await.unwrap();
    let name = signed.account.username.unwrap();
    let ending = name.strip_prefix("user_86_345678_").unwrap();
    assert!(ending.len() == 4 && ending.bytes().all(|b| b.is_ascii_digit()), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_is_one_account_even_when_platform_and_login_server_ask_at_once() {
    let w = Arc::new(World::new().await);
    for round in 0..10 {
        let phone = Phone::parse(Some("+86"), &format!("1381234567{round}")).unwrap();
        let finds = (0..4).map(|_| {
            let (w, phone) = (Arc::clone(&w), phone.clone());
            Handle::current().spawn(async move { w.center.0.account_of(&phone).await.unwrap().id })
        });
        let mut ids = Vec::new();
        for find in finds.collect::<Vec<_>>() {
            ids.push(find.await.unwrap());
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
}

#[tokio::test]
async fn the_platform_and_the_login_server_take_the_same_code_once_each() {
    let w = World::new().await;
    w.send(PHONE).await.unwrap();
    let code = w.phones.code(PHONE);
    let signed = login(&w, &code).await.unwrap();
    let session = login_server(&w, &code).await.unwrap();
    assert_eq!(session.gateway_url, "ws://127.0.0.1:18080/ws");
    let claims = w.center.0.keys.verify(&session.id, 1_000_000 + 86_399_999).unwrap();
    assert_eq!(claims.sub, signed.account.id.to_string());
    assert!(w.center.0.keys.verify(&session.id, 1_000_000 + 86_400_000).is_err());
    assert_eq!(login(&w, &code).await.err(), Some(Code::CODE_EXPIRED));
    assert_eq!(login_server(&w, &code).await.err(), Some(Code::CODE_EXPIRED));
}

#[tokio::test]
async fn without_a_gate_for_websockets_the_code_is_not_used_up() {
    let w = World::new().await;
    w.send(PHONE).await.unwrap();
    let code = w.phones.code(PHONE);
    w.gate_lives.store(false, Ordering::Relaxed);
    assert_eq!(login_server(&w, &code).await.err(), Some(Code::NOT_READY));
    w.gate_lives.store(true, Ordering::Relaxed);
    assert!(login_server(&w, &code).await.is_ok());
}

#[tokio::test]
async fn a_locked_account_is_told_so_only_with_its_code() {
    let w = World::new().await;
    w.send(PHONE).await.unwrap();
    let code = w.phones.code(PHONE);
    let id = login(&w, &code).await.unwrap().account.id;
    w.store.set_account_status(id, AccountStatus::Locked).await.unwrap();
    assert_eq!(login_server(&w, "no code").await.err(), Some(Code::CODE_WRONG));
    assert_eq!(login_server(&w, &code).await.err(), Some(Code::BANNED));
}
