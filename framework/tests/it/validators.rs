//! What each validator's token opens, on one process and in a cluster.

use bastide::{App, Code, Fields, Identity, Proof, Refusal, Validator, ValidatorCtx};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::world::{Counter, World, code, echo_of, game, get};

const OPERATORS: &str = "a-secret-of-the-operators-of-this-test";
const PLATFORM: &str = "a-secret-shared-with-the-platform";

/// A studio's own, as in the document of those who know this flow.
struct New;

impl Validator for New {
    async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
        let auth = proof.auth()?;
        auth.only(&["sign", "t", "userId"])?;
        ctx.verify(auth)?;
        Ok(Identity::new(auth.text("userId")?))
    }

    fn pages(&self) -> Vec<&'static str> {
        vec!["/auth/new.html"]
    }

    async fn sign(&self, asked: &Fields, ctx: &ValidatorCtx) -> Result<Fields, Refusal> {
        ctx.sign(Fields::new().with("t", ctx.now()).with("userId", asked.text("id")?))
    }
}

fn with_new() -> App<Counter> {
    game().validator("new", New)
}

/// Outside `dev` nothing has a default, so that both sets are told the same.
fn world(endpoint: &str) -> World {
    World::playing(
        &with_new,
        &[
            &format!("admin.secret={OPERATORS}"),
            &format!("validators.360.secret={PLATFORM}"),
            "validators.360.page=open",
            &format!("validators.new.secret={PLATFORM}"),
            &format!("auth.tx.endpoint={endpoint}"),
        ],
    )
}

async fn post(url: &str, bearer: Option<&str>, body: &Value) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.post(url).header("content-type", "application/json");
    if let Some(bearer) = bearer {
        request = request.bearer_auth(bearer);
    }
    let response = request.body(body.to_string()).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

async fn login(world: &World, body: Value) -> Value {
    post(&format!("http://{}/v1/account/login", world.http()), None, &body).await.1
}

async fn func(world: &World, func: &str, info: Value) -> Value {
    let url = format!("http://{}/index.html", world.http());
    post(&url, None, &json!({ "func": func, "oemInfo": info })).await.1
}

async fn signature(world: &World, page: &str, id: &str) -> Value {
    let (status, text) = get(&format!("http://{}{page}?id={id}", world.http())).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// A platform that knows everybody whose key is `good`.
async fn platform() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/get_info", listener.local_addr().unwrap());
    (listener, url)
}

async fn serve(listener: TcpListener) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut asked = [0; 4096];
        let n = client.read(&mut asked).await.unwrap();
        let good = String::from_utf8_lossy(&asked[..n]).contains("openkey=good");
        let body = if good { r#"{"ret":0}"# } else { r#"{"ret":7}"# };
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 9\r\n\r\n";
        client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    }
}

async fn plays(world: &World, signed_in: &Value, account: &str, token: &str) -> i64 {
    let token = signed_in[token].as_str().unwrap_or_else(|| panic!("{signed_in}"));
    let mut client = world.connect().await;
    let session = client.sign_in(token).await.unwrap();
    assert_eq!(client.receive().await.unwrap().api, "msg.GetItems.Res");
    client.request(&echo_of(1)).await.unwrap();
    assert!(session.user.is_some());
    signed_in[account].as_i64().unwrap()
}

#[test]
fn the_token_of_every_validator_opens_a_session() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (listener, endpoint) = runtime.block_on(platform());
    runtime.spawn(serve(listener));
    let world = world(&endpoint);
    world.run(async {
        let guest = login(&world, json!({ "openid": "official.phone" })).await;
        let mut accounts = vec![plays(&world, &guest, "account_id", "token").await];
        for (page, openid) in
            [("/auth360.html", "360.7"), ("/auth/new.html", "new.7"), ("/auth.html", "official.7")]
        {
            let auth = signature(&world, page, openid).await;
            let one = login(&world, json!({ "openid": openid, "auth": auth })).await;
            let one = plays(&world, &one, "account_id", "token").await;
            let auth = signature(&world, page, openid).await;
            let again = func(&world, "1000", json!({ "openid": openid, "auth": auth })).await;
            assert_eq!(again["code"], 0, "{again}");
            assert_eq!(plays(&world, &again["data"], "id", "token").await, one);
            let token = &again["data"]["token"];
            assert_eq!(func(&world, "test.echo", json!({ "token": token })).await["code"], 0);
            accounts.push(one);
        }
        let tx = |key| json!({ "openid": "tx.7", "openkey": key, "pf": "qzone" });
        let known = login(&world, tx("good")).await;
        accounts.push(plays(&world, &known, "account_id", "token").await);
        assert_eq!(login(&world, tx("bad")).await["code"], 201);
        accounts.sort_unstable();
        accounts.dedup();
        assert_eq!(accounts.len(), 5, "{accounts:?}");
    });
}

#[test]
fn a_nonce_is_good_once_whichever_route_takes_it() {
    let world = world("http://127.0.0.1:9/");
    world.run(async {
        let auth = signature(&world, "/auth360.html", "7").await;
        let info = json!({ "openid": "360.7", "auth": auth });
        assert_eq!(login(&world, info.clone()).await["code"], 0);
        assert_eq!(login(&world, info.clone()).await["code"], 201);
        assert_eq!(func(&world, "1000", info).await["code"], 9006);
    });
}

#[test]
fn the_token_of_an_administrator_gives_orders_and_opens_nothing_else() {
    let world = world("http://127.0.0.1:9/");
    world.run(async {
        // As an administrator's own tool signs: the framework has no page for it.
        let now = signature(&world, "/auth.html", "1").await["t"].as_i64().unwrap();
        let auth = Fields::new().with("id", "root").with("nonce", "once");
        let auth = auth.with("t", now);
        let sign = auth.signature(OPERATORS);
        let auth = json!({ "id": "root", "nonce": "once", "t": now, "sign": sign });
        let root = login(&world, json!({ "openid": "admin.root", "auth": auth })).await;
        assert_eq!((&root["code"], &root["addr"]), (&json!(0), &Value::Null), "{root}");
        let token = root["token"].as_str().unwrap();
        let refused = code(world.connect().await.sign_in(token).await);
        assert_eq!(refused, Code::TOKEN_INVALID);
        assert_eq!(func(&world, "test.echo", json!({ "token": token })).await["code"], 9006);
        let player = world.token("phone").await;
        for admin in world.admin() {
            let kick = format!("http://{admin}/admin/kick");
            let body = json!({ "account": 1 });
            assert_eq!(post(&kick, Some(token), &body).await.0, 200);
            assert_eq!(post(&kick, Some(OPERATORS), &body).await.0, 200);
            assert_eq!(post(&kick, Some(&player), &body).await.0, 401, "a player's");
            let forged = format!("{token}x");
            assert_eq!(post(&kick, Some(&forged), &body).await.0, 401);
        }
        let logout = format!("http://{}/v1/account/logout", world.http());
        assert_eq!(post(&logout, Some(token), &json!({})).await.1["code"], 0);
        for admin in world.admin() {
            let kick = format!("http://{admin}/admin/kick");
            assert_eq!(post(&kick, Some(token), &json!({ "account": 1 })).await.0, 401);
        }
    });
}

#[test]
fn somebody_is_always_sent_to_where_he_may_sign_in() {
    let world = world("http://127.0.0.1:9/");
    world.run(async {
        let info = json!({ "domain": "CoreOfWallet", "openid": "official.001" });
        let located = func(&world, "lb.getServerInfo", info.clone()).await;
        let (http, ws) = (world.http(), world.ws());
        let data = json!({
            "newbie": true, "ip": http.ip(), "port": http.port(), "url": format!("ws://{ws}/ws"),
        });
        assert_eq!(located, json!({ "code": 0, "data": data }));
        assert_eq!(func(&world, "config.getServerInfo", info).await, located);
    });
}

#[test]
fn a_section_for_a_validator_that_is_not_there_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let free = "127.0.0.1:0";
    let args = [
        "--data",
        data,
        "--http",
        free,
        "--gate-tcp",
        free,
        "--gate-ws",
        free,
        "--gate-quic",
        free,
        "--admin",
        free,
        "--set",
        "validators.weixin.secret=hunter2",
    ];
    let said = game().start(&args).map(drop).unwrap_err();
    assert!(said.contains("validators.weixin") && said.contains("official"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}
