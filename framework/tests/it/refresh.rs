//! Sign-ins that go on by refresh tokens, and keys that change: what a gate makes of it.

use std::time::Duration;

use bastide::{
    Code,
    client::{Client, ClientError},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::world::{World, code, echo_of, kick, until};

const SECRET: &str = "a-secret-of-the-operators-of-this-test";
const INTERNAL: &str = "a-secret-between-servers-of-this-test";

fn world() -> World {
    World::with(&[
        &format!("admin.secret={SECRET}"),
        &format!("account.internal_secret={INTERNAL}"),
    ])
}

/// Posts JSON with a header or without.
async fn post(url: String, header: Option<(&str, &str)>, body: Value) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.post(url).header("content-type", "application/json");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let response = request.body(body.to_string()).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
}

/// Posts to the account center.
async fn ask(world: &World, path: &str, body: Value) -> Value {
    post(format!("http://{}{path}", world.http()), None, body).await.1
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

async fn sign_in(world: &World, token: &Value) -> Result<Client, ClientError> {
    let mut client = world.connect().await;
    client.sign_in(text(token)).await?;
    client.receive().await?;
    Ok(client)
}

/// The next frame that is the end: what was said before it may come first.
async fn end(client: &mut Client) -> ClientError {
    loop {
        if let Err(end) = client.receive().await {
            return end;
        }
    }
}

/// Whose key signed it.
fn kid(token: &Value) -> String {
    // {"typ":"JWT","alg":"EdDSA","kid":"…"} in base64url: the same key, the same head.
    text(token).split('.').next().unwrap().to_owned()
}

#[test]
fn a_used_refresh_token_closes_the_sockets_of_its_sign_in_within_a_second() {
    let world = world();
    world.run(async {
        for n in 0..4 {
            let device = json!({ "device_id": format!("stolen-{n}") });
            let first = ask(&world, "/v1/account/auth", device.clone()).await;
            let shown = json!({ "refresh_token": first["refresh_token"] });
            let next = ask(&world, "/v1/token/refresh", shown.clone()).await;
            assert_eq!(next["code"], 0, "{next}");
            let mut client = sign_in(&world, &next["token"]).await.unwrap();
            client.request(&echo_of(1)).await.unwrap();
            let began = Instant::now();
            let reused = ask(&world, "/v1/token/refresh", shown).await;
            assert_eq!(reused["code"], 2001, "{reused}");
            assert_eq!(kick::<()>(Err(end(&mut client).await)), Code::TOKEN_INVALID);
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            for token in [&first["token"], &next["token"]] {
                assert_eq!(code(sign_in(&world, token).await), Code::TOKEN_INVALID);
            }
            let after = json!({ "refresh_token": next["refresh_token"] });
            assert_eq!(ask(&world, "/api/refresh-token", after).await["code"], 401);
            let again = ask(&world, "/v1/account/auth", device).await;
            sign_in(&world, &again["token"]).await.unwrap();
        }
    });
}

#[test]
fn a_refresh_and_the_reuse_of_another_sign_in_leave_a_socket_alone() {
    let world = world();
    world.run(async {
        let device = json!({ "device_id": "owner" });
        let old = ask(&world, "/v1/account/auth", device.clone()).await;
        let new = ask(&world, "/v1/account/auth", device).await;
        let mut client = sign_in(&world, &new["token"]).await.unwrap();
        let shown = json!({ "refresh_token": old["refresh_token"] });
        assert_eq!(ask(&world, "/v1/token/refresh", shown.clone()).await["code"], 0);
        assert_eq!(ask(&world, "/v1/token/refresh", shown).await["code"], 2001);
        let mine = json!({ "refresh_token": new["refresh_token"] });
        assert_eq!(ask(&world, "/v1/token/refresh", mine).await["code"], 0);
        client.request(&echo_of(1)).await.unwrap();
    });
}

#[test]
fn a_logout_by_refresh_token_closes_the_socket() {
    let world = world();
    world.run(async {
        let given = ask(&world, "/v1/account/auth", json!({ "device_id": "leaver" })).await;
        let mut client = sign_in(&world, &given["token"]).await.unwrap();
        let shown = json!({ "refresh_token": given["refresh_token"] });
        assert_eq!(ask(&world, "/v1/account/logout", shown).await, json!({ "code": 0 }));
        assert_eq!(kick::<()>(Err(end(&mut client).await)), Code::TOKEN_INVALID);
        assert_eq!(code(sign_in(&world, &given["token"]).await), Code::TOKEN_INVALID);
    });
}

#[test]
fn a_restart_keeps_refresh_tokens() {
    let world = world();
    let given = world.run(ask(&world, "/v1/account/auth", json!({ "device_id": "stayer" })));
    let world = world.restart();
    world.run(async {
        let shown = json!({ "refresh_token": given["refresh_token"] });
        let next = ask(&world, "/v1/token/refresh", shown).await;
        sign_in(&world, &next["token"]).await.unwrap();
    });
}

/// The gate knows the new key before it signs: no sign-in fails on the way.
#[test]
fn a_new_key_signs_once_the_gate_knows_it_and_the_old_ones_tokens_stay_good() {
    let world = world();
    world.run(async {
        let auth = async || ask(&world, "/v1/account/auth", json!({ "device_id": "keys" })).await;
        // Of its own: an account that signs in so often loses its oldest sign-ins.
        let old = ask(&world, "/v1/account/auth", json!({ "device_id": "veteran" })).await;
        let bearer = format!("Bearer {SECRET}");
        let order = format!("http://{}/admin/keys/rotate", world.admin()[0]);
        assert_eq!(post(order.clone(), None, json!({})).await.0, 401);
        let began = Instant::now();
        let (status, told) = post(order, Some(("authorization", &bearer)), json!({})).await;
        assert_eq!((status, &told["code"]), (200, &json!(0)), "{told}");
        until("the new key signs", async || {
            let token = auth().await["token"].clone();
            sign_in(&world, &token).await.expect("whatever key signed it");
            kid(&token) != kid(&old["token"])
        })
        .await;
        assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
        sign_in(&world, &old["token"]).await.expect("it has not run out");
        let url = format!("http://{}/.well-known/jwks.json", world.http());
        let keys: Value = serde_json::from_str(&super::world::get(&url).await.1).unwrap();
        assert_eq!(keys["keys"].as_array().unwrap().len(), 2, "{keys}");
        assert_eq!(keys["keys"][1]["kid"], told["kid"]);
    });
}

/// As a game client of the platform does it.
#[test]
fn a_credential_signs_in_at_the_gate_until_a_newer_one_does() {
    let world = world();
    world.run(async {
        let who = json!({
            "username": "anna", "password": "secret1", "email": "anna@example.org",
            "app_id": "jigger_game", "device_id": "d1",
        });
        let platform = ask(&world, "/auth/register", who.clone()).await;
        let first = ask(&world, "/register", who.clone()).await;
        assert_eq!(first["success"], true, "{first}");
        assert_eq!(text(&first["gateway_url"]), format!("ws://{}/ws", world.ws()));
        let mut old = sign_in(&world, &first["session_id"]).await.unwrap();
        let second = ask(&world, "/login", who).await;
        old.request(&echo_of(1)).await.expect("nobody has shown the newer one");
        assert_eq!(code(sign_in(&world, &first["session_id"]).await), Code::TOKEN_INVALID);
        old.request(&echo_of(2)).await.expect("who shows the old one throws nobody out");
        let mut new = sign_in(&world, &second["session_id"]).await.unwrap();
        assert_eq!(kick::<()>(Err(end(&mut old).await)), Code::SIGNED_IN_ELSEWHERE);

        let drawn = json!({ "token": platform["token"], "app_id": "jigger_game" });
        let drawn = ask(&world, "/login", drawn).await;
        let mut newest = sign_in(&world, &drawn["session_id"]).await.unwrap();
        assert_eq!(kick::<()>(Err(end(&mut new).await)), Code::SIGNED_IN_ELSEWHERE);
        let check = json!({ "token": platform["token"], "app_id": "jigger_game" });
        let url = format!("http://{}/auth/check-token", world.http());
        let (_, valid) = post(url, Some(("x-internal-auth", INTERNAL)), check).await;
        assert_eq!(valid["valid"], true, "{valid}");
        let bearer = format!("Bearer {}", text(&platform["token"]));
        let url = format!("http://{}/auth/logout", world.http());
        assert_eq!(post(url, Some(("authorization", &bearer)), json!({})).await.0, 200);
        assert_eq!(kick::<()>(Err(end(&mut newest).await)), Code::TOKEN_INVALID);
        assert_eq!(code(sign_in(&world, &drawn["session_id"]).await), Code::TOKEN_INVALID);
    });
}
