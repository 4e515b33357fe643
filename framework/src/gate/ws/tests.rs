//! A gate that speaks WebSocket over a pipe, on a clock that only moves when everybody waits, and
//! a client that says exactly what it is told to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _, future::OptionFuture};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::tungstenite;

use super::frames::as_message;
use crate::{
    Account, Code, Ctx, LoadError, Named, Player, Refusal,
    account::{Subject, TokenIssuer, new_signing_key},
    ask::{Asker, Calls},
    chance::Chance,
    clock::Clock,
    config,
    directory::{Directory, NodeInfo, Role},
    entity::{Classes, Host, Kind, RoomSide, Table, World},
    gate::{Codecs, Gate, GateSettings, Grounds, Hooks, Pages, Players, TextSide, Transport},
    msg,
    schema::Schema,
    sessions::Sessions,
    store::{Cache, Store},
    tasks::Tasks,
    telemetry::Meters,
    wire::{Cut, cut, put_message},
};

struct Nobody;

impl Player for Nobody {
    fn load(_: &Account, _: Option<&[u8]>, _: i64) -> Result<Self, LoadError> {
        Ok(Self)
    }
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }
}

async fn echo(_: &mut Nobody, ask: msg::echo::Req, _: &Ctx) -> Result<msg::echo::Res, Code> {
    sleep(Duration::from_millis(ask.ct.unwrap_or_default().unsigned_abs())).await;
    Ok(msg::echo::Res { val: ask.val, ct: ask.ct })
}

/// The account center: one name, one password, and who asked last.
#[derive(Clone)]
pub(super) struct Center {
    token: String,
    pub(super) asked_from: Arc<Mutex<Option<String>>>,
}

impl Center {
    async fn auth(self, ask: msg::auth::Req) -> Result<msg::auth::Res, Refusal> {
        *self.asked_from.lock().unwrap() = ask.client_ip;
        match (ask.username.as_deref(), ask.password.as_deref()) {
            (Some("anna"), Some("secret")) => {
                Ok(msg::auth::Res { token: Some(self.token), ..Default::default() })
            }
            (Some("bert"), _) => Err(Code::TOO_MANY_TRIES.into()),
            _ => Err(Code::WRONG_CREDENTIALS.into()),
        }
    }
}

pub(super) struct Town {
    pub(super) gate: Arc<Gate>,
    pub(super) token: String,
    pub(super) center: Center,
}

impl Town {
    pub(super) fn new() -> Self {
        let (tasks, meters) = (Tasks::default(), Meters::new());
        let directory = Directory::alone("here", 1);
        let world = World {
            clock: Clock::fixed(0),
            store: Store::memory(),
            in_transit: None,
            chance: Chance::from_os(),
            tasks: tasks.clone(),
        };
        let mut table = Table::new();
        table.on(echo);
        let schema = Arc::new(Schema::new(table.schemas()));
        let kind = Arc::new(Kind::player(table, Classes::default()));
        let host = Host::new(
            kind,
            directory.clone(),
            world,
            config::Game::default(),
            config::Session::default(),
            meters.entity,
        );
        let ttl = Duration::from_secs(60);
        let tokens = TokenIssuer::new(&new_signing_key(), "test", ttl).expect("a fresh key");
        let token = tokens.issue(&Subject::player(7, "openid"), 0).0;
        let center = Center { token: token.clone(), asked_from: Arc::default() };
        let (asker, cache) = (Asker::default(), Cache::memory());
        asker.start(Role::Account, Calls::default().on(&center, Center::auth), &tasks);
        let settings = GateSettings {
            gate: config::Gate::default(),
            cluster: "test".to_owned(),
            request_timeout: Duration::from_secs(5),
            resume_window: Duration::from_secs(60),
            replay_bytes_max: 1 << 20,
        };
        let apis = host.apis();
        let players = Players { here: Some(host), links: None, directory: directory.clone() };
        let sessions = Sessions::new(directory.clone(), asker.clone(), cache, Clock::fixed(0));
        let grounds = Grounds {
            players,
            text: TextSide { schema, asker },
            sessions,
            tickets: RoomSide::alone().tickets,
            hooks: Hooks::default(),
            pages: Pages::default(),
            codecs: Codecs::default(),
            clock: Clock::fixed(0),
            chance: Chance::from_os(),
            meters: meters.gate,
            tasks,
        };
        let gate = Gate::new(settings, grounds);
        let (id, roles, keys) = ("here".to_owned(), [Role::Game].into(), vec![tokens.jwk()]);
        directory.register(NodeInfo { id, roles, apis, keys, ..NodeInfo::default() });
        gate.learn(&directory.nodes());
        Self { gate, token, center }
    }

    /// A pipe to the gate.
    fn dial(&self) -> DuplexStream {
        let (near, served) = self.dial_through(256 * 1024);
        self.gate.tasks.spawn(served);
        near
    }

    /// A pipe of so many bytes, and the gate's side of it.
    pub(super) fn dial_through(
        &self,
        bytes: usize,
    ) -> (DuplexStream, impl Future<Output = ()> + Send + 'static) {
        let (near, far) = tokio::io::duplex(bytes);
        let peer = SocketAddr::from(([192, 0, 2, 1], 1));
        let seat = self.gate.admit(peer.ip()).expect("a seat");
        let entering = super::enter(self.gate.clone(), far, Transport::Ws, peer, seat);
        (near, async { OptionFuture::from(entering.await).await.unwrap_or_default() })
    }

    /// What the gate answers to this request.
    async fn asked(&self, request: &str) -> (String, Client) {
        let mut client = Client { stream: self.dial() };
        client.stream.write_all(request.as_bytes()).await.expect("open");
        (client.head().await, client)
    }

    async fn open_with(&self, target: &str, headers: &str) -> (String, Client) {
        let (head, client) = self.asked(&request(target, headers)).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        (head, client)
    }

    pub(super) async fn open(&self, target: &str) -> Client {
        self.open_with(target, "").await.1
    }

    /// A client of the texts that is signed in.
    pub(super) async fn texter(&self) -> Client {
        let mut client = self.open(&format!("/?token={}", self.token)).await;
        assert_eq!(client.json().await["code"], 200);
        client
    }

    /// A client of frames that is signed in.
    pub(super) async fn framer(&self) -> Client {
        let mut client = self.open("/").await;
        client.frame(&self.login()).await;
        assert_eq!(client.answer::<msg::login::Res>().await.code, 0);
        client
    }

    pub(super) fn login(&self) -> msg::login::Req {
        msg::login::Req { token: self.token.clone(), ..Default::default() }
    }
}

pub(super) fn request(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

pub(super) struct Client {
    pub(super) stream: DuplexStream,
}

pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;

impl Client {
    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8(head).expect("text")
    }

    /// A frame of the protocol's, with its first byte as it is on the wire.
    pub(super) async fn say(&mut self, first: u8, payload: &[u8]) {
        let mut bytes = as_message(payload);
        bytes[0] = first;
        self.bytes(&bytes).await;
    }

    pub(super) async fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("open");
    }

    pub(super) async fn text(&mut self, text: &str) {
        self.say(TEXT, text.as_bytes()).await;
    }

    pub(super) async fn frame<M: Named>(&mut self, message: &M) {
        self.say(BINARY, &frame(message)).await;
    }

    /// The next message, whatever it is; `None` when the gate has closed.
    pub(super) async fn heard(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await.ok()?;
        let length = match self.stream.read_u8().await.ok()? {
            126 => u64::from(self.stream.read_u16().await.ok()?),
            127 => self.stream.read_u64().await.ok()?,
            n => u64::from(n),
        };
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((first, payload))
    }

    pub(super) async fn json(&mut self) -> Value {
        let (first, payload) = self.heard().await.expect("open");
        assert_eq!(first, TEXT, "{}", String::from_utf8_lossy(&payload));
        serde_json::from_slice(&payload).expect("JSON")
    }

    pub(super) async fn answer<M: Named>(&mut self) -> M {
        let (first, payload) = self.heard().await.expect("open");
        assert_eq!(first, BINARY, "{}", String::from_utf8_lossy(&payload));
        let Ok(Cut::Frame(frame)) = cut(&payload, 70_000) else { panic!("a frame") };
        assert_eq!((frame.api.as_str(), frame.bytes.len()), (M::NAME, payload.len()));
        M::decode(frame.payload).expect(M::NAME)
    }

    /// Asks in JSON and hears the answer.
    pub(super) async fn ask(&mut self, text: &str) -> Value {
        self.text(text).await;
        self.json().await
    }

    pub(super) async fn says_nothing_for(&mut self, millis: u64) {
        let heard = timeout(Duration::from_millis(millis), self.heard()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    /// The code that the gate closes with, and nothing before or after it.
    pub(super) async fn closed_with(&mut self) -> u16 {
        let (first, payload) = self.heard().await.expect("a close");
        assert_eq!(first, CLOSE, "{}", String::from_utf8_lossy(&payload));
        let code = u16::from_be_bytes([payload[0], payload[1]]);
        assert_eq!(self.heard().await, None);
        code
    }
}

pub(super) fn frame<M: Named>(message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_message(&mut bytes, message).expect("small");
    bytes
}

pub(super) fn echo_of(val: i64) -> msg::echo::Req {
    msg::echo::Req { val: Some(val), ct: None }
}

const NO_TOKEN: &str = "Connected successfully. Please login or provide token.";
const SIGNED_IN: &str = "Connected and authenticated successfully";
pub(super) const LOGIN: &str = r#"{"cmd_id":1001,"from_uid":"anna","device_id":"d","platform":"web","body":{"username":"anna","password":"secret"}}"#;
pub(super) const ECHO: &str = r#"{"api":"msg.Echo.Req","body":{"val":7}}"#;

// === The beginning ===

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_for_a_websocket_is_told_so_in_http() {
    let town = Town::new();
    let long = format!("X: {}\r\n", "x".repeat(9000));
    for (request, status) in [
        (request("/chat", ""), "404"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "426"),
        (request("/", "").replace("13", "8"), "400"),
        (request("/", "").replace("GET", "POST"), "400"),
        (request("/", "").replace("Sec-WebSocket-Key", "X-Key"), "400"),
        (request("/", &long), "431"),
        ("\x16\x03\x01\r\n\r\n".to_owned(), "400"),
    ] {
        let (head, mut client) = town.asked(&request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let mut body = String::new();
        client.stream.read_to_string(&mut body).await.expect("closed behind it");
        assert!(!body.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stops_half_way_is_closed_after_ten_seconds() {
    let town = Town::new();
    let mut stream = town.dial();
    let began = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nHost: x\r\n" {
        stream.write_all(&[*byte]).await.expect("open");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(stream.read(&mut [0]).await.expect("closed"), 0);
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_client_of_another_library_signs_in_asks_and_says_goodbye() {
    let town = Town::new();
    let (mut client, response) =
        tokio_tungstenite::client_async("ws://gate/ws", town.dial()).await.expect("a websocket");
    assert_eq!(response.headers().get("sec-websocket-extensions"), None);
    let both = [frame(&town.login()), frame(&echo_of(7))].concat();
    client.send(tungstenite::Message::binary(both)).await.expect("open");
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let message = client.next().await.expect("open").expect("a message").into_data();
        let mut rest = &message[..];
        while let Ok(Cut::Frame(frame)) = cut(rest, 70_000) {
            heard.push(frame.api.as_str().to_owned());
            rest = &rest[frame.bytes.len()..];
        }
    }
    assert_eq!(heard, ["msg.Login.Res", "msg.Echo.Res"]);
    client.close(None).await.expect("open");
    let goodbye = client.next().await.expect("a goodbye").expect("a message");
    assert!(goodbye.is_close());
    assert!(client.next().await.is_none_or(|end| end.is_err()));
}

// === Who is greeted, and when ===

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_greeted_within_a_second_and_may_then_speak_either() {
    let town = Town::new();
    let (mut silent, began) = (town.open("/").await, Instant::now());
    let greeting = silent.json().await;
    assert!(began.elapsed() <= Duration::from_secs(1));
    assert_eq!((&greeting["code"], &greeting["err_msg"]), (&json!(200), &json!("")));
    assert_eq!(greeting["body"]["message"], NO_TOKEN);
    assert!(greeting["body"]["session_id"].as_str().expect("text").starts_with("session_"));
    silent.frame(&msg::ping::Req { ct: 5, received: 0 }).await;
    assert_eq!(silent.answer::<msg::ping::Res>().await.ct, 5);

    let mut slow = town.open("/ws").await;
    assert_eq!(slow.json().await["body"]["message"], NO_TOKEN);
    assert_eq!(slow.ask(LOGIN).await["body"]["message"], "Login successful");
    slow.says_nothing_for(5000).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_speaks_frames_first_hears_no_text() {
    let town = Town::new();
    let mut client = town.framer().await;
    client.says_nothing_for(5000).await;
    client.frame(&echo_of(7)).await;
    assert_eq!(client.answer::<msg::echo::Res>().await.val, Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_speaks_text_first_is_greeted_once_and_then_answered() {
    let town = Town::new();
    let mut client = town.open("/").await;
    client.text(LOGIN).await;
    assert_eq!(client.json().await["body"]["message"], NO_TOKEN);
    assert_eq!(client.json().await["body"]["message"], "Login successful");
    client.says_nothing_for(5000).await;
}

#[tokio::test(start_paused = true)]
async fn who_chooses_json_is_greeted_at_once() {
    let town = Town::new();
    let (head, _) = town.open_with("/?codec=frame", "Sec-WebSocket-Protocol: json\r\n").await;
    assert!(!head.contains("sec-websocket-protocol"), "the URL wins: {head}");
    for (target, headers) in [
        ("/?codec=json", ""),
        ("/", "Sec-WebSocket-Protocol: chat, json\r\n"),
        ("/ws?x=1&codec=json", ""),
    ] {
        let began = Instant::now();
        let (head, mut client) = town.open_with(target, headers).await;
        assert_eq!(head.contains("sec-websocket-protocol: json"), !headers.is_empty(), "{head}");
        assert_eq!(client.json().await["body"]["message"], NO_TOKEN);
        assert_eq!(began.elapsed(), Duration::ZERO);
        client.says_nothing_for(5000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_chooses_frames_hears_no_text_and_may_bring_a_token_all_the_same() {
    let town = Town::new();
    let mut client = town.open("/?codec=frame").await;
    client.says_nothing_for(5000).await;
    client.frame(&town.login()).await;
    assert_eq!(client.answer::<msg::login::Res>().await.code, 0);

    let mut client = town.open(&format!("/?codec=frame&token={}", town.token)).await;
    assert_eq!(client.answer::<msg::login::Res>().await.code, 0);
    client.frame(&echo_of(7)).await;
    assert_eq!(client.answer::<msg::echo::Res>().await.val, Some(7));
    client.text(ECHO).await;
    assert_eq!(client.closed_with().await, 1003);
}

#[tokio::test(start_paused = true)]
async fn a_token_signs_in_by_url_or_by_header_and_the_header_wins() {
    let town = Town::new();
    let escaped = town.token.replace('.', "%2E");
    let bearer = format!("Authorization: Bearer {}\r\n", town.token);
    for (target, headers) in [
        (format!("/?token={}", town.token), ""),
        (format!("/?token={escaped}&device_id=web001&platform=web"), ""),
        ("/".to_owned(), bearer.as_str()),
        ("/?token=nonsense".to_owned(), &bearer),
    ] {
        let (_, mut client) = town.open_with(&target, headers).await;
        let greeting = client.json().await;
        assert_eq!(greeting["code"], 200, "{greeting}");
        assert_eq!(greeting["body"]["message"], SIGNED_IN);
        assert!(greeting["body"]["session_id"].as_str().expect("text").starts_with("session_"));
        let answer = client.ask(ECHO).await;
        let expected =
            json!({"code": 200, "api": "msg.Echo.Res", "body": {"val": "7"}, "err_msg": ""});
        assert_eq!(answer, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_refused_token_the_client_signs_in_on_the_same_connection() {
    let town = Town::new();
    let long = "x".repeat(5000);
    for token in ["nonsense", &long] {
        let mut client = town.open(&format!("/?token={token}")).await;
        let refused = json!({
            "code": 401, "body": null, "err_msg": "Token authentication failed. Please login."
        });
        assert_eq!(client.json().await, refused);
        assert_eq!(client.ask(LOGIN).await["code"], 200);
        assert_eq!(client.ask(ECHO).await["body"]["val"], "7");
    }
    town.gate.clock.set(61_000);
    let mut client = town.open(&format!("/?token={}", town.token)).await;
    let expired = client.json().await;
    assert_eq!((&expired["code"], &expired["body"]), (&json!(401), &Value::Null));
    assert!(expired["err_msg"].as_str().expect("text").contains("token expired"), "{expired}");
}

// === Text ===

#[tokio::test(start_paused = true)]
async fn a_text_login_gives_tokens_and_a_session_and_asks_with_the_clients_address() {
    let town = Town::new();
    let mut client = town.open("/?codec=json").await;
    client.json().await;
    let answer = client.ask(LOGIN).await;
    let body = &answer["body"];
    assert_eq!((&answer["code"], &answer["err_msg"]), (&json!(200), &json!("")));
    assert_eq!((&body["access_token"], &body["refresh_token"]), (&json!(town.token), &Value::Null));
    assert!(body["session_id"].as_str().expect("text").starts_with("session_"), "{body}");
    assert_eq!(town.center.asked_from.lock().unwrap().as_deref(), Some("192.0.2.1"));
    let again = client.ask(LOGIN).await;
    assert_eq!(again["err_msg"], "Login failed: already signed in");
}

#[tokio::test(start_paused = true)]
async fn a_text_login_that_fails_says_why_and_the_next_one_may_succeed() {
    let town = Town::new();
    let mut client = town.open("/?codec=json").await;
    client.json().await;
    for (text, code, told) in [
        (LOGIN.replace("secret", "wrong"), 400, "Login failed: Invalid username or password"),
        (LOGIN.replace("anna", "bert"), 429, "Login failed: too many tries, come back later"),
        (LOGIN.replace("password", "pass"), 400, "Login failed: `body.password` is missing"),
        (r#"{"cmd_id":1001}"#.to_owned(), 400, "Login failed: `body.username` is missing"),
    ] {
        let expected = json!({"code": code, "body": null, "err_msg": told});
        assert_eq!(client.ask(&text).await, expected);
    }
    assert_eq!(client.ask(LOGIN).await["code"], 200);
}

#[tokio::test(start_paused = true)]
async fn before_sign_in_a_text_is_told_to_log_in_first_and_the_messages_for_it_go_through() {
    let town = Town::new();
    let mut client = town.open("/?codec=json").await;
    client.json().await;
    for text in [ECHO, r#"{"api":"no.Such.Req"}"#, r#"{"cmd_id":2001}"#] {
        let told = client.ask(text).await;
        assert_eq!(told["code"], 401, "{told}");
        assert_eq!(told["body"]["code"], 1006);
        assert_eq!(told["err_msg"], "Authentication required. Please login first.");
    }
    let pong = client.ask(r#"{"api":"msg.Ping.Req","body":{"ct":5}}"#).await;
    assert_eq!((&pong["api"], &pong["body"]["ct"]), (&json!("msg.Ping.Res"), &json!("5")));
    let resumed = client.ask(r#"{"api":"msg.Resume.Req","body":{"resumeToken":"AAAA"}}"#).await;
    assert_eq!(
        (&resumed["api"], &resumed["body"]["code"]),
        (&json!("msg.Resume.Res"), &json!(2004))
    );
    let login = json!({"api": "msg.Login.Req", "body": {"token": town.token}});
    let signed_in = client.ask(&login.to_string()).await;
    assert_eq!(
        (&signed_in["api"], &signed_in["body"]["code"]),
        (&json!("msg.Login.Res"), &json!(0))
    );
    assert_eq!(client.ask(ECHO).await["body"]["val"], "7");
}

#[tokio::test(start_paused = true)]
async fn answers_keep_the_order_of_the_texts_also_those_to_malformed_ones() {
    let town = Town::new();
    let mut client = town.texter().await;
    client.text(r#"{"api":"msg.Echo.Req","body":{"val":1,"ct":300}}"#).await;
    client.text("not JSON").await;
    client.text(r#"{"api":"no.Such.Req"}"#).await;
    client.text(r#"{"api":"msg.Ping.Req"}"#).await;
    client.text(r#"{"api":"msg.Echo.Req","body":{"val":"x"}}"#).await;
    client.text(r#"{"api":"msg.SetEvent.Req","body":{"event":{"oper":1}}}"#).await;
    client.text(ECHO).await;
    let mut told = Vec::new();
    for _ in 0..7 {
        let text = client.json().await;
        told.push((
            text["code"].as_i64().expect("a code"),
            text["api"].as_str().map(str::to_owned),
        ));
    }
    let error = Some("msg.Error.Res".to_owned());
    let expected = [
        (200, Some("msg.Echo.Res".to_owned())),
        (400, None),
        (1004, error.clone()),
        (200, Some("msg.Ping.Res".to_owned())),
        (1005, error.clone()),
        (1004, error),
        (200, Some("msg.Echo.Res".to_owned())),
    ];
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn a_newer_session_ends_the_older_one_with_its_reason_in_text() {
    let town = Town::new();
    let mut older = town.texter().await;
    let _newer = town.framer().await;
    let kick = older.json().await;
    assert_eq!((&kick["code"], &kick["api"]), (&json!(2005), &json!("msg.Kick.Res")));
    assert_eq!(kick["err_msg"], kick["body"]["reason"]);
    assert_eq!(older.closed_with().await, 1008);
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_goes_away_says_so_to_each_in_its_own_way() {
    let town = Town::new();
    let mut framer = town.framer().await;
    let drained = town.gate.drain(Duration::from_secs(5));
    let ((), left) = tokio::join!(
        async {
            assert_eq!(framer.answer::<msg::kick::Res>().await.code, 2007);
            assert_eq!(framer.closed_with().await, 1001);
        },
        drained
    );
    assert_eq!(left, 0);
}
