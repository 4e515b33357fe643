//! The account center over HTTP, as its clients see it.

use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::dev::ServerHandle;
use serde_json::{Value, json};

use super::{
    super::world::{INTERNAL, World},
    answers::CODE,
    route::{Call, Methods, Refused},
    *,
};
use crate::{limits::HTTP_BODY_BYTES_MAX, tasks::Tasks};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const MEMBERS: [&str; 7] =
    ["code", "token", "addr", "account_id", "openid", "refresh_token", "expires_in"];

/// A real server on a free port.
pub(super) struct Edge {
    pub(super) url: String,
    pub(super) client: reqwest::Client,
    handle: ServerHandle,
    pub(super) world: World,
    pub(super) sockets: Sockets,
}

impl Edge {
    pub(super) async fn new() -> Self {
        Self::with(config::Account::default()).await
    }

    /// One that believes whoever is on this machine what he says of his clients' addresses.
    pub(super) async fn balanced(requests_per_ip_s: u32) -> Self {
        let proxies = serde_json::from_str("\"127.0.0.1\"").unwrap();
        Self::with(config::Account { requests_per_ip_s, proxies, ..Default::default() }).await
    }

    async fn with(settings: config::Account) -> Self {
        let world = World::new().await;
        let tasks = Tasks::default();
        let front = Front::new(world.center.clone(), &settings);
        let sockets = Sockets::new(front.clone(), &tasks);
        let served = sockets.clone();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = move |cfg: &mut web::ServiceConfig| {
            cfg.route("/panics", web::get().to(panics));
            cfg.route("/fails", web::get().to(fails));
            let slow = Route::new(Methods::Post, "/slow", "Takes a while.", CODE, slow);
            cfg.service(slow.resource(front.clone()));
            configure(cfg, &front, &served);
        };
        let server = serve_with(vec![listener], routes).unwrap();
        let handle = server.handle();
        tasks.spawn(server);
        Self { url, client: reqwest::Client::new(), handle, world, sockets }
    }

    pub(super) async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
    }

    /// Posts to an account route, which answers 200 with all members whatever happened.
    pub(super) async fn post(&self, path: &str, content_type: &str, body: &str) -> Value {
        let request = self.client.post(format!("{}{path}", self.url));
        let request = request.header("content-type", content_type).body(body.to_owned());
        let (status, answer) = self.send(request).await;
        assert_eq!(status, 200, "{answer}");
        for member in MEMBERS {
            assert!(answer.get(member).is_some(), "{member} is absent: {answer}");
        }
        assert_eq!(answer.get("message").is_some(), answer["code"] != 0, "{answer}");
        answer
    }

    /// Posts JSON.
    async fn json(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.url));
        self.send(request.header("content-type", JSON).body(body.to_string())).await
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(self.client.get(format!("{}{path}", self.url))).await
    }
}

async fn panics() -> HttpResponse {
    panic!("a bug");
}

async fn fails() -> HttpResponse {
    problem(StatusCode::SERVICE_UNAVAILABLE, "away")
}

static SLOW_DONE: AtomicBool = AtomicBool::new(false);

async fn slow(_: Call) -> Result<Value, Refused> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    SLOW_DONE.store(true, Ordering::Relaxed);
    Ok(json!({ "code": 0 }))
}

#[tokio::test]
async fn what_was_begun_is_done_although_its_client_hangs_up() {
    let edge = Edge::new().await;
    let asked = edge.client.post(format!("{}/slow", edge.url)).timeout(Duration::from_millis(50));
    assert!(asked.send().await.is_err(), "it does not wait");
    for _ in 0..1000 {
        if SLOW_DONE.load(Ordering::Relaxed) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it was left half done");
}

#[tokio::test]
async fn a_form_registers_and_a_query_signs_in() {
    let edge = Edge::new().await;
    let new = edge.post("/v1/account/registry", FORM, "username=anna&password=secret1").await;
    assert_eq!((&new["code"], &new["account_id"]), (&Value::from(0), &Value::from(10_001)));
    assert_eq!((&new["addr"], &new["expires_in"]), (&"127.0.0.1:3017".into(), &7200.into()));
    assert!(new["refresh_token"].is_string(), "{new}");
    let (status, again) = edge.get("/v1/account/auth?username=anna&password=secret1").await;
    assert_eq!((status, &again["code"], &again["openid"]), (200, &0.into(), &new["openid"]));
    assert!(again["token"].as_str().unwrap().starts_with("eyJ"));
    let form = edge.post("/v1/account/auth", FORM, "username=anna&password=secret1").await;
    assert_eq!(form["openid"], new["openid"]);
}

#[tokio::test]
async fn json_signs_in_and_numbers_are_taken_for_text() {
    let edge = Edge::new().await;
    let body = r#"{"username":"12345","password":"678901"}"#;
    assert_eq!(edge.post("/v1/account/registry", JSON, body).await["code"], 0);
    let body = r#"{"username":12345,"password":678901,"device_id":null}"#;
    assert_eq!(edge.post("/v1/account/auth", JSON, body).await["code"], 0);
    let guest = edge.post("/v1/account/auth", JSON, r#"{"device_id":"phone-1"}"#).await;
    let again = edge.get("/v1/account/auth?device_id=phone-1").await.1;
    assert_eq!((&guest["code"], &guest["account_id"]), (&0.into(), &again["account_id"]));
}

#[tokio::test]
async fn a_refusal_has_all_members_null_and_a_message() {
    let edge = Edge::new().await;
    let register = "/v1/account/registry";
    edge.post(register, FORM, "username=anna&password=secret1").await;
    let taken = edge.post(register, FORM, "username=Anna&password=secret1").await;
    let told = serde_json::json!({
        "code": 203, "token": null, "addr": null, "account_id": null, "openid": null,
        "refresh_token": null, "expires_in": null, "message": "name taken",
    });
    assert_eq!(taken, told);
    for (content_type, body, named) in [
        (FORM, "username=anna", "`password`"),
        (FORM, "", "`username`"),
        (JSON, "{", "JSON"),
        (JSON, r#"{"username":[],"password":"x"}"#, "`username`"),
        ("text/plain", "username=anna&password=secret1", "content-type"),
    ] {
        let refused = edge.post(register, content_type, body).await;
        assert_eq!(refused["code"], 210);
        assert!(refused["message"].as_str().unwrap().contains(named), "{refused}");
    }
    let query = edge.get("/v1/account/auth?username=a&username=b").await;
    assert_eq!((query.0, &query.1["code"]), (200, &210.into()));
}

#[tokio::test]
async fn a_logout_takes_the_token_as_bearer_or_as_parameter() {
    let edge = Edge::new().await;
    let guest = edge.post("/v1/account/auth", FORM, "device_id=phone").await;
    let token = guest["token"].as_str().unwrap();
    let logout = || edge.client.post(format!("{}/v1/account/logout", edge.url));
    let done = serde_json::json!({ "code": 0 });
    assert_eq!(edge.send(logout().bearer_auth(token)).await, (200, done.clone()));
    let form = logout().header("content-type", FORM).body(format!("token={token}"));
    assert_eq!(edge.send(form).await, (200, done));
    for (body, code) in [("refresh_token=x", 2001), ("token=x", 2001), ("", 210)] {
        let form = logout().header("content-type", FORM).body(body);
        let (status, answer) = edge.send(form).await;
        assert_eq!((status, &answer["code"]), (200, &code.into()), "{answer}");
        assert!(answer["message"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn a_refresh_token_gives_the_next_pair_in_both_dialects() {
    let edge = Edge::new().await;
    let guest = edge.post("/v1/account/auth", FORM, "device_id=phone").await;
    let shown = |token: &Value| json!({ "refresh_token": token });
    let (status, next) = edge.json("/v1/token/refresh", shown(&guest["refresh_token"])).await;
    assert_eq!((status, &next["code"], &next["expires_in"]), (200, &json!(0), &json!(7200)));
    assert!(next["token"].is_string() && next["refresh_token"] != guest["refresh_token"]);
    assert_eq!(next.as_object().unwrap().len(), 4, "{next}");
    let (status, other) = edge.json("/api/refresh-token", shown(&next["refresh_token"])).await;
    assert_eq!((status, &other["code"], &other["err_msg"]), (200, &json!(200), &json!("")));
    assert!(other["body"]["access_token"].is_string(), "{other}");
    let newest = &other["body"]["refresh_token"];
    assert_eq!(other["body"].as_object().unwrap().len(), 2, "{other}");

    let (status, reused) = edge.json("/v1/token/refresh", shown(&guest["refresh_token"])).await;
    assert_eq!((status, &reused["code"]), (200, &json!(2001)));
    for member in ["token", "refresh_token", "expires_in"] {
        assert_eq!(reused.get(member), Some(&Value::Null), "{reused}");
    }
    assert!(reused["message"].as_str().unwrap().contains("used twice"), "{reused}");
    let (status, ended) = edge.json("/api/refresh-token", shown(newest)).await;
    assert_eq!((status, &ended["code"], &ended["body"]), (200, &json!(401), &Value::Null));
    assert!(ended["err_msg"].as_str().unwrap().contains("sign in"), "{ended}");

    for body in [json!({}), json!({ "refresh_token": "" }), json!({ "refresh_token": [1] })] {
        let (_, refused) = edge.json("/v1/token/refresh", body.clone()).await;
        assert_eq!(refused["code"], 210);
        assert!(refused["message"].as_str().unwrap().contains("`refresh_token`"), "{refused}");
        let (_, refused) = edge.json("/api/refresh-token", body).await;
        assert_eq!(refused["code"], 401);
        assert!(refused["err_msg"].as_str().unwrap().contains("`refresh_token`"), "{refused}");
    }
}

fn anna() -> Value {
    json!({
        "username": "anna", "password": "secret1", "email": "anna@example.org",
        "app_id": "jigger_game", "device_id": "d1",
    })
}

/// The names of a JSON object, sorted.
fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn the_platform_registers_and_signs_in_to_an_app() {
    let edge = Edge::new().await;
    let (status, new) = edge.json("/auth/register", anna()).await;
    assert_eq!(status, 200, "{new}");
    assert_eq!(members(&new), ["jti", "message", "openid", "token", "user"]);
    assert_eq!(new["user"], json!({ "username": "anna", "email": "anna@example.org" }));
    let (status, again) = edge.json("/auth/login", anna()).await;
    assert_eq!((status, members(&again)), (200, members(&new)));
    assert_eq!((&again["openid"], &again["user"]), (&new["openid"], &new["user"]));
    assert_ne!(again["jti"], new["jti"]);
    let mut other = anna();
    other["app_id"] = "other".into();
    let (_, other) = edge.json("/auth/login", other).await;
    assert_ne!(other["openid"], new["openid"], "an app has openids of its own");

    for (member, value, status, said) in [
        ("username", "bert", 400, "`email`"),
        ("email", "bert@example.org", 400, "name"),
        ("username", "b", 400, "`username`"),
        ("password", "short", 400, "`password`"),
        ("email", "nonsense", 400, "`email`"),
        ("app_id", "a/b", 400, "`app_id`"),
        ("username", "", 400, "`username`"),
        ("password", "", 400, "`password`"),
        ("email", "", 400, "`email`"),
        ("app_id", "", 400, "`app_id`"),
    ] {
        let mut wrong = anna();
        wrong[member] = value.into();
        let (told, answer) = edge.json("/auth/register", wrong).await;
        assert_eq!((told, members(&answer)), (status, vec!["error"]), "{member}={value}");
        assert!(answer["error"].as_str().unwrap().contains(said), "{member}={value}: {answer}");
    }
    for (member, value, status, said) in [
        ("password", "secret2", 401, "wrong"),
        ("username", "nobody", 401, "wrong"),
        ("username", "", 400, "`username`"),
        ("password", "", 400, "`password`"),
        ("app_id", "", 400, "`app_id`"),
        ("device_id", "a\nb", 400, "`device_id`"),
    ] {
        let mut wrong = anna();
        wrong[member] = value.into();
        let (told, answer) = edge.json("/auth/login", wrong).await;
        assert_eq!((told, members(&answer)), (status, vec!["error"]), "{member}={value}");
        assert!(answer["error"].as_str().unwrap().contains(said), "{member}={value}: {answer}");
    }
}

#[tokio::test]
async fn another_server_has_tokens_checked_if_it_knows_the_secret() {
    let edge = Edge::new().await;
    let (_, old) = edge.json("/auth/register", anna()).await;
    let check = async |token: &Value, app_id: &str, secret: Option<&str>| {
        let mut request = edge.client.post(format!("{}/auth/check-token", edge.url));
        if let Some(secret) = secret {
            request = request.header("X-Internal-Auth", secret);
        }
        let body = json!({ "token": token, "app_id": app_id }).to_string();
        edge.send(request.header("content-type", JSON).body(body)).await
    };
    assert_eq!(check(&old["token"], "jigger_game", None).await.0, 401);
    assert_eq!(check(&old["token"], "jigger_game", Some("wrong")).await.0, 403);
    let (status, good) = check(&old["token"], "jigger_game", Some(INTERNAL)).await;
    assert_eq!((status, &good["valid"]), (200, &json!(true)), "{good}");
    let names =
        ["app_id", "exp", "iat", "jti", "openid", "session_id", "user_id", "username", "valid"];
    assert_eq!(members(&good), names);
    assert_eq!((&good["openid"], &good["jti"]), (&old["openid"], &old["jti"]));
    assert_eq!((&good["user_id"], &good["username"]), (&json!(10_001), &json!("anna")));
    assert_eq!((&good["iat"], &good["exp"]), (&json!(1000), &json!(8200)));

    let invalid = (200, json!({ "valid": false, "reason": "invalid_token" }));
    assert_eq!(check(&json!("nonsense"), "jigger_game", Some(INTERNAL)).await, invalid);
    assert_eq!(check(&old["token"], "other", Some(INTERNAL)).await, invalid);
    let guest = edge.post("/v1/account/auth", FORM, "device_id=phone").await;
    assert_eq!(check(&guest["token"], "jigger_game", Some(INTERNAL)).await, invalid);
    let (_, new) = edge.json("/auth/login", anna()).await;
    let kicked = (200, json!({ "valid": false, "reason": "revoked_or_kicked" }));
    assert_eq!(check(&old["token"], "jigger_game", Some(INTERNAL)).await, kicked, "newest wins");
    assert_eq!(check(&new["token"], "jigger_game", Some(INTERNAL)).await.1["valid"], true);
    for (token, app_id, named) in [(&json!(null), "a", "`token`"), (&new["token"], "", "`app_id`")]
    {
        let (status, refused) = check(token, app_id, Some(INTERNAL)).await;
        assert_eq!(status, 400);
        assert!(refused["error"].as_str().unwrap().contains(named), "{refused}");
    }
    edge.world.clock.set(8_200_000);
    assert_eq!(check(&new["token"], "jigger_game", Some(INTERNAL)).await, invalid, "too old");
}

#[tokio::test]
async fn the_platform_verifies_a_bearer_and_signs_it_out() {
    let edge = Edge::new().await;
    let (_, new) = edge.json("/auth/register", anna()).await;
    let token = new["token"].as_str().unwrap();
    let ask = async |path: &str, token: Option<&str>| {
        let mut request = edge.client.post(format!("{}{path}", edge.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        edge.send(request).await
    };
    let (status, good) = ask("/auth/verify", Some(token)).await;
    let told = json!({
        "valid": true, "user_id": 10_001, "username": "anna", "openid": new["openid"],
        "app_id": "jigger_game",
    });
    assert_eq!((status, good), (200, told));
    for path in ["/auth/verify", "/auth/logout"] {
        for wrong in [None, Some("nonsense")] {
            let (status, refused) = ask(path, wrong).await;
            assert_eq!((status, members(&refused)), (401, vec!["error"]));
        }
    }
    let entered = json!({ "token": token, "app_id": "jigger_game" });
    let (_, entered) = edge.json("/login", entered).await;
    let session_id = entered["session_id"].as_str().unwrap();
    assert!(edge.world.center.0.living(session_id).await.is_ok());
    assert_eq!(ask("/auth/logout", Some(token)).await.0, 200);
    for path in ["/auth/verify", "/auth/logout"] {
        assert_eq!(ask(path, Some(token)).await.0, 401);
    }
    let ended = edge.world.center.0.living(session_id).await;
    assert_eq!(ended.unwrap_err().code, crate::wire::Code::TOKEN_INVALID, "what was drawn from it");
}

#[tokio::test]
async fn the_login_server_lets_in_by_name_by_token_and_as_a_guest() {
    let edge = Edge::new().await;
    let (_, platform) = edge.json("/auth/register", anna()).await;
    let names = ["expires_in", "gateway_url", "openid", "session_id", "success", "username"];
    let known = |answer: &(u16, Value), username: &str| {
        let (status, answer) = answer;
        assert_eq!((*status, &answer["success"]), (200, &json!(true)), "{answer}");
        assert_eq!(members(answer), names);
        assert_eq!(answer["gateway_url"], "ws://127.0.0.1:18080/ws");
        assert_eq!(
            (&answer["username"], &answer["expires_in"]),
            (&username.into(), &86_400.into())
        );
        answer["session_id"].as_str().unwrap().to_owned()
    };
    let registered = edge.json("/register", anna()).await;
    let first = known(&registered, "anna");
    let mut fresh = anna();
    fresh["username"] = "bert".into();
    fresh["email"] = "bert@example.org".into();
    known(&edge.json("/register", fresh.clone()).await, "bert");
    known(&edge.json("/login", fresh).await, "bert");
    let second = known(&edge.json("/login", anna()).await, "anna");
    let good = async |token: &str| edge.world.center.0.living(token).await.is_ok();
    assert!(!good(&first).await && good(&second).await, "the newest is the only one");
    let by_token = json!({ "token": platform["token"], "app_id": "jigger_game", "device_id": "x" });
    let by_token = edge.json("/login", by_token).await;
    let third = known(&by_token, "anna");
    assert_eq!(by_token.1["openid"], platform["openid"]);
    assert!(good(&second).await && good(&third).await, "of another app");
    let guest = json!({ "is_guest": true, "device_id": "phone" });
    let guest = edge.json("/login", guest).await;
    known(&guest, "guest_phone");
    let logged_in = json!({
        "username": "anna", "password": "secret1", "app_id": "jigger_game", "device_id": "x",
    });
    let (_, newer) = edge.json("/auth/login", logged_in).await;
    assert!(!good(&third).await, "it ends with the sign-in that it was drawn from");
    let by_token = json!({ "token": newer["token"], "app_id": "jigger_game", "device_id": "x" });
    let third = known(&edge.json("/login", by_token).await, "anna");
    edge.world.clock.set(1_000_000 + 24 * 3600 * 1000 - 1000);
    assert!(good(&third).await);
    edge.world.clock.set(1_000_000 + 24 * 3600 * 1000);
    assert!(!good(&third).await, "for a day");
}

#[tokio::test]
async fn the_login_server_says_what_is_wrong() {
    let edge = Edge::new().await;
    edge.json("/auth/register", anna()).await;
    let both = |name: &str, password: &str| json!({ "username": name, "password": password });
    for (path, body, said) in [
        ("/register", both("anna", "secret2"), "name taken"),
        ("/register", both("", "secret1"), "`username`"),
        ("/register", both("carl", ""), "`password`"),
        ("/register", both("c", "secret1"), "`username`"),
        ("/register", both("carl", "short"), "`password`"),
        (
            "/register",
            json!({ "username": "carl", "password": "secret1", "email": "x" }),
            "`email`",
        ),
        (
            "/register",
            json!({ "username": "carl", "password": "secret1", "email": "ANNA@example.org" }),
            "`email`",
        ),
        ("/login", both("anna", "secret2"), "wrong"),
        ("/login", both("nobody", "secret2"), "wrong"),
        ("/login", both("anna", ""), "`password`"),
        ("/login", json!({}), "`username`"),
        ("/login", json!({ "device_id": "phone" }), "`username`"),
        ("/login", json!({ "is_guest": true }), "`device_id`"),
        ("/login", json!({ "is_guest": "maybe" }), "`is_guest`"),
        ("/login", json!({ "is_guest": true, "device_id": "a\nb" }), "`device_id`"),
        ("/login", json!({ "token": "x" }), "`app_id`"),
        ("/login", json!({ "token": "x", "app_id": "y" }), "Platform token validation failed"),
        ("/login", json!({ "username": ["a"] }), "`username`"),
    ] {
        let (told, answer) = edge.json(path, body.clone()).await;
        assert_eq!((told, members(&answer)), (200, vec!["error", "success"]), "{path} {body}");
        assert_eq!(answer["success"], false);
        assert!(answer["error"].as_str().unwrap().contains(said), "{path} {body}: {answer}");
    }
}

#[tokio::test]
async fn health_is_503_without_the_store() {
    let edge = Edge::new().await;
    assert_eq!(edge.get("/health").await, (200, json!({ "status": "ok" })));
    edge.world.store.close().await;
    let (status, answer) = edge.get("/health").await;
    assert!(status == 503 && answer["request_id"].is_string(), "{status} {answer}");
}

#[tokio::test]
async fn the_peer_address_is_throttled() {
    let edge = Edge::new().await;
    for i in 0..5 {
        let wrong = format!("username=nobody{i}&password=wrong");
        assert_eq!(edge.post("/v1/account/auth", FORM, &wrong).await["code"], 201);
    }
    let other = edge.post("/v1/account/auth", FORM, "username=anna&password=secret1").await;
    assert_eq!(other["code"], 208);
}

#[tokio::test]
async fn an_address_that_asks_too_much_is_told_when_to_come_back_in_the_dialect_of_the_route() {
    let edge = Edge::balanced(1).await;
    let ask = async |path: &str, from: &str| {
        let request = edge.client.post(format!("{}{path}", edge.url));
        let response = request.header("x-forwarded-for", from).send().await.unwrap();
        let after = response.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        (status, after, response.text().await.unwrap())
    };
    for _ in 0..10 {
        assert_eq!(ask("/v1/account/logout", "203.0.113.5").await.1, None);
    }
    edge.world.clock.set(1_000_000 + 2_500);
    let (status, after, body) = ask("/v1/account/logout", "6.6.6.6, 203.0.113.5").await;
    assert_eq!((status, after.as_deref()), (200, Some("8")), "7.5 s, in whole seconds: {body}");
    assert!(body.contains("\"code\":208"), "{body}");
    let (_, after, body) = ask("/v1/account/registry", "203.0.113.5").await;
    assert!(after.is_none() && body.contains("\"code\":210"), "another route: {body}");
    assert_eq!(ask("/v1/account/logout", "203.0.113.6").await.1, None);

    let page = async || {
        let request = edge.client.get(format!("{}/health", edge.url));
        request.header("forwarded", "for=203.0.113.5").send().await.unwrap().status().as_u16()
    };
    for status in [[200; 10].as_slice(), &[429]].concat() {
        assert_eq!(page().await, status);
    }
    edge.world.clock.set(1_000_000 + 12_500);
    assert_eq!(page().await, 200);
}

#[tokio::test]
async fn who_is_not_a_load_balancer_is_not_believed_of_addresses() {
    let edge = Edge::new().await;
    for i in 0..6 {
        let wrong = format!("username=nobody{i}&password=wrong");
        let request = edge.client.post(format!("{}/v1/account/auth", edge.url));
        let request = request.header("content-type", FORM).body(wrong);
        let request = request.header("x-forwarded-for", format!("203.0.113.{i}"));
        let response = request.send().await.unwrap();
        let after = response.headers().get("retry-after").cloned();
        let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(answer["code"], if i < 5 { 201 } else { 208 });
        // The window is one of five minutes, and no time has passed since it opened.
        assert_eq!(after, (i == 5).then(|| "300".parse().unwrap()));
    }
}

#[tokio::test]
async fn the_description_is_served() {
    let edge = Edge::new().await;
    let (status, body) = edge.get("/openapi.json").await;
    assert_eq!(
        (status, body),
        (200, openapi::describe(&all_routes(edge.world.center.0.proofs.validators())))
    );
}

#[tokio::test]
async fn unknown_routes_wrong_methods_and_large_bodies_are_told_in_json() {
    let edge = Edge::new().await;
    let (status, body) = edge.get("/v1/account/nothing").await;
    assert!(status == 404 && body["error"].is_string(), "{status} {body}");
    for (path, allow) in [("/v1/account/registry", "POST"), ("/v1/account/auth", "GET, POST")] {
        let request = edge.client.delete(format!("{}{path}", edge.url));
        let response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &allow.parse().unwrap())
        );
        assert!(response.text().await.unwrap().contains("\"error\""));
    }
    assert_eq!(edge.get("/v1/account/registry").await.0, 405);
    for (bytes, told) in
        [(HTTP_BODY_BYTES_MAX, 200), (HTTP_BODY_BYTES_MAX + 1, 413), (900 * 1024, 413)]
    {
        let request = edge.client.post(format!("{}/v1/account/auth", edge.url));
        let request = request.header("content-type", FORM).body("a".repeat(bytes));
        let (status, body) = edge.send(request).await;
        assert_eq!(status, told, "{bytes}");
        assert_eq!(body["error"].is_string(), told == 413, "{body}");
    }
}

#[tokio::test]
async fn a_panic_is_a_500_with_a_request_id_and_the_server_lives() {
    let edge = Edge::new().await;
    let (status, body) = edge.get("/panics").await;
    assert_eq!((status, &body["error"]), (500, &"internal server error".into()));
    assert_eq!(body["request_id"].as_str().unwrap().len(), 16);
    let (status, body) = edge.get("/fails").await;
    assert!(status == 503 && body["request_id"].is_string(), "{status} {body}");
    assert_eq!(edge.get("/health").await, (200, serde_json::json!({ "status": "ok" })));
}

#[tokio::test]
async fn the_public_keys_are_shown_and_nothing_else() {
    let edge = Edge::new().await;
    let (status, body) = edge.get("/.well-known/jwks.json").await;
    let keys: Vec<crate::directory::Jwk> = serde_json::from_value(body["keys"].clone()).unwrap();
    assert_eq!((status, keys), (200, edge.world.center.jwks()));
    assert_eq!(body["keys"][0].as_object().unwrap().len(), 6, "{body}");
}

#[tokio::test]
async fn a_stopped_server_frees_its_port() {
    let edge = Edge::new().await;
    assert_eq!(edge.get("/health").await.0, 200);
    edge.handle.stop(true).await;
    let gone = edge.client.get(format!("{}/health", edge.url)).send().await;
    assert!(gone.is_err());
}
