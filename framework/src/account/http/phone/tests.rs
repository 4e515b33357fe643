//! The phone's routes, and those of an own account, as clients see them.

use serde_json::{Value, json};

use super::super::tests::Edge;

const PHONE: &str = "+8613812345678";

/// Status, body, and `Retry-After`.
async fn post(edge: &Edge, path: &str, body: &Value) -> (u16, Value, Option<u64>) {
    let request = edge.client.post(format!("{}{path}", edge.url));
    let request = request.header("content-type", "application/json").body(body.to_string());
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let retry_after = headers.get("retry-after").map(|v| v.to_str().unwrap().parse().unwrap());
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap(), retry_after)
}

fn phone() -> Value {
    let (app_id, device_id) = ("jigger_game", "d1");
    json!({
        "country_code": "+86", "phone": "13812345678", "app_id": app_id, "device_id": device_id,
    })
}

fn with(mut body: Value, name: &str, value: &str) -> Value {
    body[name] = value.into();
    body
}

fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn the_platform_sends_a_code_and_signs_in_with_it_and_then_the_login_server_does() {
    let edge = Edge::new().await;
    let body = phone();
    let (status, sent, _) = post(&edge, "/auth/phone/send-code", &body).await;
    assert_eq!((status, &sent["expires_in"], members(&sent).len()), (200, &300.into(), 2));
    assert!(sent["message"].is_string());
    let code = edge.world.phones.code(PHONE);
    let body = with(with(body, "device_id", "d2"), "code", &code);
    let (status, signed, _) = post(&edge, "/auth/phone/login", &body).await;
    assert_eq!(status, 200, "{signed}");
    assert_eq!(members(&signed), ["jti", "message", "openid", "token", "user"]);
    assert!(signed["token"].as_str().unwrap().starts_with("eyJ"));
    assert!(signed["openid"].is_string() && signed["jti"].is_string());
    let user = json!({
        "id": 10_001, "username": "user_86_345678", "phone": "13812345678", "country_code": "+86",
    });
    assert_eq!(signed["user"], user);
    let body = with(with(phone(), "device_id", "d3"), "code", &code);
    let (status, session, _) = post(&edge, "/phone/login", &body).await;
    assert_eq!((status, &session["success"]), (200, &true.into()), "{session}");
    assert_eq!(session["gateway_url"], "ws://127.0.0.1:18080/ws");
    assert!(session["session_id"].as_str().unwrap().starts_with("eyJ"));
    assert_eq!(members(&session).len(), 3);
    // Each has taken it.
    let (status, again, _) = post(&edge, "/auth/phone/login", &body).await;
    assert!(status == 401 && again["error"].is_string(), "{again}");
    let (status, again, _) = post(&edge, "/phone/login", &body).await;
    assert_eq!((status, &again["success"]), (200, &false.into()));
    assert!(!again["error"].as_str().unwrap().is_empty() && members(&again).len() == 2);
}

#[tokio::test]
async fn too_many_codes_and_too_many_wrong_ones_say_when_to_come_back() {
    let edge = Edge::new().await;
    let send = "/auth/phone/send-code";
    assert_eq!(post(&edge, send, &phone()).await.0, 200);
    edge.world.clock.set(1_000_000 + 500);
    let (status, refused, after) = post(&edge, send, &phone()).await;
    assert_eq!((status, after), (429, Some(60)), "rounded up: {refused}");
    assert!(refused["error"].is_string());
    let (status, refused, after) =
        post(&edge, "/v1/verification", &json!({ "phone": "13812345678" })).await;
    assert_eq!((status, &refused["code"], after), (200, &208.into(), Some(60)), "the same phone");
    let wrong = with(phone(), "code", "no code");
    for _ in 0..5 {
        assert_eq!(post(&edge, "/auth/phone/login", &wrong).await.0, 401);
    }
    let right = with(phone(), "code", &edge.world.phones.code(PHONE));
    let (status, _, after) = post(&edge, "/auth/phone/login", &right).await;
    assert_eq!((status, after), (429, Some(300)));
    let (status, refused, after) = post(&edge, "/phone/login", &right).await;
    assert_eq!((status, &refused["success"], after), (200, &false.into(), Some(300)));
}

#[tokio::test]
async fn each_parameter_that_is_missing_or_malformed_is_named() {
    let edge = Edge::new().await;
    let full = json!({
        "country_code": "+86", "phone": "13812345678", "code": "123456", "account_id": 10_001,
        "username": "anna", "password": "secret1", "new_password": "secret2",
        "app_id": "jigger_game", "device_id": "d1",
    });
    for (path, needed) in [
        ("/auth/phone/send-code", &["country_code", "phone", "app_id", "device_id"][..]),
        ("/auth/phone/login", &["country_code", "phone", "code", "app_id", "device_id"]),
        ("/phone/login", &["country_code", "phone", "code", "device_id"]),
        ("/v1/verification", &["phone"]),
        ("/v1/account/bind/account", &["account_id", "username", "password"]),
        ("/v1/account/bind/phone", &["account_id", "password", "phone", "code"]),
        ("/v1/account/password/change", &["account_id", "password", "new_password"]),
        ("/v1/account/password/reset", &["account_id", "new_password", "code"]),
    ] {
        for name in needed {
            for odd in [Value::Null, "".into(), json!([1]), json!({})] {
                let mut body = full.clone();
                body[name] = odd.clone();
                let (status, refused, _) = post(&edge, path, &body).await;
                let said = refused.get("error").or(refused.get("message")).unwrap();
                assert!(said.as_str().unwrap().contains(&format!("`{name}`")), "{path} {refused}");
                match path {
                    _ if path.starts_with("/auth") => assert_eq!(status, 400, "{path} {name}"),
                    "/phone/login" => assert_eq!(refused["success"], false),
                    _ => assert_eq!((status, &refused["code"]), (200, &210.into()), "{path}"),
                }
            }
        }
    }
    for (path, name, odd, code) in [
        ("/v1/verification", "phone", "12", 205),
        ("/v1/verification", "phone", "+12", 205),
        ("/v1/account/bind/phone", "phone", "12", 205),
        ("/v1/account/bind/phone", "account_id", "anna", 210),
        ("/v1/account/bind/account", "account_id", "1.5", 210),
        ("/v1/account/bind/account", "username", "a b", 210),
        ("/v1/account/bind/account", "password", "short", 210),
        ("/v1/account/password/change", "new_password", "short", 210),
        ("/v1/account/password/reset", "new_password", "short", 210),
        ("/v1/account/password/reset", "account_id", "99999999999999999999", 210),
    ] {
        let (_, refused, _) = post(&edge, path, &with(full.clone(), name, odd)).await;
        assert_eq!(refused["code"], code, "{path} {refused}");
        let said = refused["message"].as_str().unwrap();
        assert!(said.contains(&format!("`{name}`")), "{path} {refused}");
    }
    for (name, odd) in [("country_code", "86"), ("country_code", "+12345"), ("phone", "1234567")] {
        let body = with(full.clone(), name, odd);
        let (status, refused, _) = post(&edge, "/auth/phone/send-code", &body).await;
        assert_eq!(status, 400);
        assert!(refused["error"].as_str().unwrap().contains(&format!("`{name}`")), "{refused}");
    }
}

#[tokio::test]
async fn an_own_account_is_changed_over_http() {
    let edge = Edge::new().await;
    let guest = edge.world.guest("d1").await.unwrap();
    let (id, token) = (guest.account_id.unwrap(), guest.token.unwrap());
    let name = json!({ "account_id": id, "username": "anna", "password": "secret1" });
    let done = json!({ "code": 0 });
    let bind = "/v1/account/bind/account";
    assert_eq!(post(&edge, bind, &name).await.1["code"], 2001);
    assert_eq!(post(&edge, bind, &with(name, "token", &token)).await.1, done);
    assert_eq!(post(&edge, "/v1/verification", &json!({ "phone": "13812345678" })).await.1, done);
    let code = edge.world.phones.code(PHONE);
    let body = json!({ "account_id": id, "password": "secret1", "phone": PHONE, "code": code });
    assert_eq!(post(&edge, "/v1/account/bind/phone", &body).await.1, done);
    let body = json!({ "account_id": id, "password": "secret1", "new_password": "secret2" });
    assert_eq!(post(&edge, "/v1/account/password/change", &body).await.1, done);
    edge.world.auth("anna", "secret2").await.unwrap();
    edge.world.clock.set(1_060_000);
    assert_eq!(post(&edge, "/v1/verification", &json!({ "phone": PHONE })).await.1, done);
    let code = edge.world.phones.code(PHONE);
    let body = json!({ "account_id": id, "new_password": "secret3", "code": code });
    assert_eq!(post(&edge, "/v1/account/password/reset", &body).await.1, done);
    edge.world.auth("anna", "secret3").await.unwrap();
}

#[tokio::test]
async fn a_code_that_cannot_be_sent_is_a_503_that_says_why_and_has_a_request_id() {
    let edge = Edge::new().await;
    *edge.world.phones.way.lock().unwrap() = super::super::super::world::Way::Fails;
    let (status, refused, _) = post(&edge, "/auth/phone/send-code", &phone()).await;
    assert_eq!(status, 503);
    assert!(refused["error"].as_str().unwrap().contains("the code could not be sent"), "{refused}");
    assert_eq!(refused["request_id"].as_str().unwrap().len(), 16);
    edge.world.clock.set(1_060_000);
    let (status, refused, _) = post(&edge, "/v1/verification", &json!({ "phone": PHONE })).await;
    assert_eq!((status, &refused["code"]), (200, &101.into()));
}
