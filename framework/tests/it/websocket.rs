//! WebSocket clients of a running game: frames, texts, tokens, and a session that goes on over
//! another kind of connection.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bastide::{
    Named,
    client::{Client, Push},
    msg,
    wire::{Cut, FRAME_BYTES_MAX, cut, put_message},
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::{
    transports::{BALANCER, from, trusting},
    world::{World, echo_of, told, until},
};

const NO_TOKEN: &str = "Connected successfully. Please login or provide token.";
const SIGNED_IN: &str = "Connected and authenticated successfully";
const ECHO: &str = r#"{"api":"msg.Echo.Req","body":{"val":7}}"#;
const COUNT: msg::get_items::Req = msg::get_items::Req { idx: None };

/// What the gate says next.
#[derive(Debug, PartialEq)]
enum Heard {
    Text(Value),
    Frame(Push),
    /// With the code of the close, if it has one.
    Closed(Option<u16>),
}

/// A client of another library.
struct Ws<S = TcpStream> {
    socket: WebSocketStream<S>,
    /// Frames of a message that holds several.
    frames: VecDeque<Push>,
}

impl Ws {
    async fn open(world: &World, target: &str) -> Self {
        let stream = TcpStream::connect(world.ws()).await.unwrap();
        Self::over(stream, target, &[]).await.unwrap()
    }

    /// A client of texts that is signed in, its greeting and its first push read off.
    async fn texter(world: &World, device: &str) -> Self {
        let mut client = Self::open(world, &format!("/?token={}", world.token(device).await)).await;
        assert_eq!(client.text().await["body"]["message"], SIGNED_IN);
        assert_eq!(client.text().await["api"], "msg.GetItems.Res");
        client
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Ws<S> {
    async fn over(
        stream: S,
        target: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let mut request = format!("ws://localhost{target}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = client_async(request, stream).await?;
        Ok(Self { socket, frames: VecDeque::new() })
    }

    async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    async fn send<M: Named>(&mut self, message: &M) {
        self.socket.send(Message::binary(frame(message))).await.unwrap();
    }

    async fn heard(&mut self) -> Heard {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Heard::Frame(frame);
            }
            let next = timeout(Duration::from_secs(10), self.socket.next()).await;
            match next.expect("the gate says something") {
                Some(Ok(Message::Text(text))) => {
                    return Heard::Text(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Binary(bytes))) => self.frames.extend(frames(&bytes)),
                Some(Ok(Message::Close(close))) => {
                    return Heard::Closed(close.map(|close| close.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Closed(None),
            }
        }
    }

    async fn text(&mut self) -> Value {
        match self.heard().await {
            Heard::Text(text) => text,
            other => panic!("no text: {other:?}"),
        }
    }

    async fn frame(&mut self) -> Push {
        match self.heard().await {
            Heard::Frame(frame) => frame,
            other => panic!("no frame: {other:?}"),
        }
    }

    async fn answer<M: Named>(&mut self) -> M {
        decoded(&self.frame().await)
    }

    async fn ask(&mut self, text: &str) -> Value {
        self.say(text).await;
        self.text().await
    }

    /// Asks for something, and it comes back.
    async fn echoes(&mut self) {
        let answer = self.ask(ECHO).await;
        assert_eq!((&answer["code"], &answer["api"]), (&json!(200), &json!("msg.Echo.Res")));
        assert_eq!((&answer["body"]["val"], &answer["err_msg"]), (&json!("7"), &json!("")));
    }
}

pub(crate) fn frame<M: Named>(message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_message(&mut bytes, message).unwrap();
    bytes
}

/// The frames of bytes that hold whole ones.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Push> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let Ok(Cut::Frame(frame)) = cut(bytes, FRAME_BYTES_MAX) else {
            panic!("a part: {bytes:?}")
        };
        frames.push(Push { api: frame.api.to_string(), payload: frame.payload.to_vec() });
        bytes = &bytes[frame.bytes.len()..];
    }
    frames
}

pub(crate) fn decoded<M: Named>(frame: &Push) -> M {
    assert_eq!(frame.api, M::NAME);
    M::decode(frame.payload.as_slice()).unwrap()
}

async fn login(world: &World, device: &str) -> msg::login::Req {
    msg::login::Req { token: world.token(device).await, ..Default::default() }
}

// === Frames ===

#[test]
fn a_client_of_frames_signs_in_asks_and_is_pushed() {
    let world = World::new();
    world.run(async {
        let mut client = Ws::open(&world, "/ws").await;
        client.send(&login(&world, "a").await).await;
        let welcome = client.answer::<msg::login::Res>().await;
        assert!(welcome.code == 0 && welcome.resume_token.is_some(), "{welcome:?}");
        assert_eq!(client.frame().await.api, "msg.GetItems.Res");

        // Two frames and a half in one message, the rest in another.
        let bytes = [frame(&echo_of(1)), frame(&echo_of(2)), frame(&echo_of(3))].concat();
        let (most, rest) = bytes.split_at(bytes.len() - 5);
        for part in [most, rest] {
            client.socket.send(Message::binary(part.to_vec())).await.unwrap();
        }
        for val in 1..=3 {
            assert_eq!(client.answer::<msg::echo::Res>().await.val, Some(val));
        }
        client.send(&msg::gift_items::Req { item_num: 3, ..Default::default() }).await;
        for _ in 0..3 {
            assert_eq!(client.frame().await.api, "msg.GetItems.Res");
        }
        assert_eq!(client.answer::<msg::gift_items::Res>().await.code, 0);
    });
}

#[test]
fn a_client_that_chose_frames_hears_no_text() {
    let world = World::new();
    world.run(async {
        let token = world.token("a").await;
        let mut silent = Ws::open(&world, "/?codec=frame").await;
        let mut bearer = Ws::open(&world, &format!("/?codec=frame&token={token}")).await;
        assert_eq!(bearer.answer::<msg::login::Res>().await.code, 0);
        assert_eq!(bearer.frame().await.api, "msg.GetItems.Res");
        // Past the time in which others are greeted.
        sleep(Duration::from_millis(1500)).await;
        silent.send(&msg::ping::Req { ct: 5, received: 0 }).await;
        assert_eq!(silent.answer::<msg::ping::Res>().await.ct, 5);
    });
}

// === Texts ===

#[test]
fn a_token_in_the_url_or_the_header_is_greeted_and_the_messages_have_twins_in_json() {
    let world = World::new();
    world.run(async {
        let bearer = format!("Bearer {}", world.token("b").await);
        let stream = TcpStream::connect(world.ws()).await.unwrap();
        let by_header = Ws::over(stream, "/", &[("authorization", &bearer)]).await.unwrap();
        let url = format!("/ws?token={}&platform=web", world.token("a").await);
        for mut client in [Ws::open(&world, &url).await, by_header] {
            let greeting = client.text().await;
            assert_eq!(greeting["code"], 200);
            assert_eq!(greeting["body"]["message"], SIGNED_IN);
            assert!(greeting["body"]["session_id"].as_str().unwrap().starts_with("session_"));
            let push = client.text().await;
            assert_eq!((&push["code"], &push["api"]), (&json!(200), &json!("msg.GetItems.Res")));
            assert_eq!(push["body"]["items"][0]["idx"], 100);
            client.echoes().await;
            let ask = r#"{"api":"msg.GiftItems.Req","body":{"dstId":"0","itemIdx":0,"itemNum":2}}"#;
            client.say(ask).await;
            for _ in 0..2 {
                assert_eq!(client.text().await["api"], "msg.GetItems.Res");
            }
            assert_eq!(client.text().await["api"], "msg.GiftItems.Res");
            let unknown = client.ask(r#"{"api":"msg.Nobody.Req","body":{}}"#).await;
            assert_eq!(
                (&unknown["code"], &unknown["api"]),
                (&json!(1004), &json!("msg.Error.Res"))
            );
        }
    });
}

#[test]
fn after_a_refused_token_a_client_signs_in_by_name_or_by_token_on_the_same_connection() {
    let world = World::new();
    world.run(async {
        let registry = format!("http://{}/v1/account/registry", world.http());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let form = "application/x-www-form-urlencoded";
        bastide_testkit::secret("secret1");
        let body = "username=anna&password=secret1";
        let post = http.post(registry).header("content-type", form).body(body);
        assert_eq!(post.send().await.unwrap().status(), 200);

        let by_name = |password: &str| {
            let body = json!({ "username": "anna", "password": password });
            json!({ "cmd_id": 1001, "from_uid": 0, "device_id": "d", "platform": "web", "body": body })
                .to_string()
        };
        let mut client = Ws::open(&world, "/?token=none").await;
        let refused = client.text().await;
        assert_eq!(refused["code"], 401);
        assert_eq!(refused["err_msg"], "Token authentication failed. Please login.");
        assert_eq!(client.ask(ECHO).await["code"], 401, "not signed in");
        assert_eq!(client.ask(&by_name("wrong")).await["code"], 400);
        let welcome = client.ask(&by_name("secret1")).await;
        assert_eq!(welcome["code"], 200, "{welcome}");
        for key in ["message", "access_token", "refresh_token", "session_id"] {
            assert!(welcome["body"][key].is_string(), "{key}: {welcome}");
        }
        assert_eq!(client.text().await["api"], "msg.GetItems.Res");
        client.echoes().await;

        let mut client = Ws::open(&world, "/?token=none").await;
        assert_eq!(client.text().await["code"], 401);
        let token = welcome["body"]["access_token"].as_str().unwrap();
        let by_token = json!({ "api": "msg.Login.Req", "body": { "token": token } }).to_string();
        let welcome = client.ask(&by_token).await;
        assert_eq!((&welcome["api"], &welcome["body"]["code"]), (&json!("msg.Login.Res"), &json!(0)));
    });
}

#[test]
fn a_token_that_has_expired_is_told_so_and_the_connection_stays_open() {
    let world = World::with(&["account.token_ttl=1s"]);
    world.run(async {
        let token = world.token("a").await;
        sleep(Duration::from_millis(2100)).await;
        let mut client = Ws::open(&world, &format!("/?token={token}")).await;
        let refused = client.text().await;
        assert_eq!(refused["code"], 401);
        assert!(refused["err_msg"].as_str().unwrap().contains("token expired"), "{refused}");
        let ping = client.ask(r#"{"api":"msg.Ping.Req","body":{"ct":3}}"#).await;
        assert_eq!(ping["body"]["ct"], "3");
    });
}

#[test]
fn a_client_that_chose_nothing_is_greeted_when_it_is_silent_and_may_then_speak_either() {
    let world = World::new();
    world.run(async {
        let (mut texter, mut framer) = (Ws::open(&world, "/").await, Ws::open(&world, "/").await);
        for client in [&mut texter, &mut framer] {
            let greeting = client.text().await;
            assert_eq!(
                (&greeting["code"], &greeting["body"]["message"]),
                (&json!(200), &json!(NO_TOKEN))
            );
        }
        let login = login(&world, "a").await;
        framer.send(&login).await;
        assert_eq!(framer.answer::<msg::login::Res>().await.code, 0);
        let by_token = json!({ "api": "msg.Login.Req", "body": { "token": login.token } });
        assert_eq!(texter.ask(&by_token.to_string()).await["body"]["code"], 0);

        let mut first = Ws::open(&world, "/").await;
        first.say(r#"{"api":"msg.Ping.Req","body":{"ct":1}}"#).await;
        assert_eq!(first.text().await["body"]["message"], NO_TOKEN);
        assert_eq!(first.text().await["api"], "msg.Ping.Res");
    });
}

#[test]
fn a_newer_sign_in_ends_the_older_session_with_its_reason_in_text() {
    let world = World::new();
    world.run(async {
        let mut older = Ws::texter(&world, "twice").await;
        let mut newer = world.player_on("twice").await;
        let kick = older.text().await;
        assert_eq!((&kick["code"], &kick["api"]), (&json!(2005), &json!("msg.Kick.Res")));
        assert_eq!(kick["body"]["code"], 2005);
        assert_eq!(older.heard().await, Heard::Closed(Some(1008)));
        newer.request(&echo_of(1)).await.unwrap();
    });
}

#[test]
fn a_client_of_texts_that_does_not_read_is_closed_and_nobody_waits_for_it() {
    let world = World::with(&["gate.rate_frames_per_s=0", "gate.outbox_bytes_max=131072"]);
    world.run(async {
        let (mut deaf, mut beside) = (Ws::texter(&world, "deaf").await, world.player().await);
        let ask = r#"{"api":"msg.GiftItems.Req","body":{"dstId":"0","itemIdx":0,"itemNum":1000}}"#;
        until("the deaf one is kicked", async || {
            drop(deaf.socket.send(Message::text(ask)).await);
            beside.request(&echo_of(1)).await.unwrap();
            world.meter("gate_sessions_kicked_slow_total").await == 1.0
        })
        .await;
        let mut last = Value::Null;
        while let Heard::Text(text) = deaf.heard().await {
            last = text;
        }
        // When it reads at once, it may still hear why.
        if last["api"] == "msg.Kick.Res" {
            assert_eq!(last["code"], 2008);
        }
        beside.request(&echo_of(1)).await.unwrap();
    });
}

// === The ways in ===

#[test]
fn a_websocket_over_tls_is_the_same() {
    let world = World::alone(&["gate.ws_tls=127.0.0.1:0"]);
    world.run(async {
        let connector = TlsConnector::from(Arc::new(trusting(&world.certificate(), &[])));
        let dial = async || {
            let stream = TcpStream::connect(world.wss()).await.unwrap();
            connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
        };
        let target = format!("/?token={}", world.token("a").await);
        let mut texter = Ws::over(dial().await, &target, &[]).await.unwrap();
        assert_eq!(texter.text().await["body"]["message"], SIGNED_IN);
        assert_eq!(texter.text().await["api"], "msg.GetItems.Res");
        texter.echoes().await;
        let mut framer = Ws::over(dial().await, "/", &[]).await.unwrap();
        framer.send(&login(&world, "b").await).await;
        assert_eq!(framer.answer::<msg::login::Res>().await.code, 0);
        world.counts("gate_connections_ws_tls_total", 2.0).await;
        assert_eq!(world.meter("gate_connections_ws_total").await, 0.0);
    });
}

#[test]
fn behind_a_load_balancer_that_is_believed_the_clients_own_address_counts() {
    let proxies = format!("gate.proxies={BALANCER}");
    let world = World::with(&[&proxies, "gate.connections_per_ip_max=2"]);
    world.run(async {
        let open = async |here: &str, client: &str| {
            let stream = from(here, world.ws(), b"").await;
            Ws::over(stream, "/?codec=json", &[("x-forwarded-for", client)]).await.ok()
        };
        let mut kept = Vec::new();
        for client in ["192.0.2.1", "6.6.6.6, 192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            let mut opened = open(BALANCER, client).await.expect(client);
            assert_eq!(opened.text().await["body"]["message"], NO_TOKEN);
            kept.push(opened);
        }
        assert!(open(BALANCER, "192.0.2.1").await.is_none(), "192.0.2.1 has its two");
        world.counts("gate_connections_refused_total", 1.0).await;

        // Somebody else's word is not believed: its own address counts.
        for client in ["192.0.2.1", "192.0.2.4"] {
            kept.push(open("127.0.0.3", client).await.expect(client));
        }
        assert!(open("127.0.0.3", "192.0.2.5").await.is_none(), "127.0.0.3 has its two");
        kept.remove(0);
        until("a seat comes back", async || open(BALANCER, "192.0.2.1").await.is_some()).await;
    });
}

// === A session that goes on ===

/// A connection of one session, over this or that.
enum Line {
    Tcp(Client),
    Frames(Ws),
    Text(Ws),
}

impl Line {
    async fn count(&mut self) {
        match self {
            Self::Tcp(client) => client.send(&COUNT).await.unwrap(),
            Self::Frames(client) => client.send(&COUNT).await,
            Self::Text(client) => client.say(r#"{"api":"msg.GetItems.Req","body":{}}"#).await,
        }
    }

    async fn told(&mut self) -> i64 {
        match self {
            Self::Tcp(client) => told(&decoded(&client.receive().await.unwrap())),
            Self::Frames(client) => told(&client.answer().await),
            Self::Text(client) => {
                let text = client.text().await;
                assert_eq!(text["api"], "msg.GetItems.Res", "{text}");
                let num = &text["body"]["items"][0]["num"];
                num.as_str().and_then(|num| num.parse().ok()).unwrap_or_else(|| panic!("{text}"))
            }
        }
    }

    async fn resume(&mut self, request: msg::resume::Req) -> msg::resume::Res {
        match self {
            Self::Tcp(client) => client.request(&request).await.unwrap(),
            Self::Frames(client) => {
                client.send(&request).await;
                client.answer().await
            }
            Self::Text(client) => {
                let token = base64(&request.resume_token);
                let body =
                    json!({ "resumeToken": token, "received": request.received.to_string() });
                let ask = json!({ "api": "msg.Resume.Req", "body": body }).to_string();
                let answer = client.ask(&ask).await;
                assert_eq!(answer["api"], "msg.Resume.Res", "{answer}");
                let body = &answer["body"];
                msg::resume::Res {
                    code: body["code"].as_i64().unwrap().try_into().unwrap(),
                    received: body["received"].as_str().unwrap().parse().unwrap(),
                    resume_token: of_base64(body["resumeToken"].as_str().unwrap()),
                }
            }
        }
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let bits = |at: usize| (0..6).fold(0, |digit, bit| digit << 1 | bit_of(bytes, at * 6 + bit));
    let digits = (0..(bytes.len() * 8).div_ceil(6)).map(|at| char::from(DIGITS[bits(at)]));
    digits.chain(std::iter::repeat_n('=', (3 - bytes.len() % 3) % 3)).collect()
}

fn bit_of(bytes: &[u8], at: usize) -> usize {
    bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1))
}

fn of_base64(text: &str) -> Vec<u8> {
    let digit = |c| DIGITS.iter().position(|digit| *digit == c);
    let digits: Vec<u8> =
        text.bytes().map_while(digit).map(|digit| u8::try_from(digit << 2).unwrap()).collect();
    let bit = |at: usize| digits[at / 6] >> (7 - at % 6) & 1;
    (0..digits.len() * 6 / 8)
        .map(|byte| (0..8).fold(0, |value, n| value << 1 | bit(byte * 8 + n)))
        .collect()
}

/// Every request counts one up and is answered with the count, so whatever is lost or done twice
/// on the way from one kind of connection to the next shows in all that follows.
#[test]
fn a_session_goes_on_over_each_kind_of_connection_and_nothing_is_lost_or_doubled() {
    let world = World::new();
    world.run(async {
        let mut client = world.connect().await;
        let welcome = client.sign_in(&world.token("wanderer").await).await.unwrap();
        let mut line = Line::Tcp(client);
        assert_eq!(line.told().await, 0, "the greeting");
        let mut token = welcome.resume_token.unwrap();
        // Frames sent and heard since the sign-in; the first that was heard is the greeting.
        let (mut sent, mut heard): (u64, u64) = (0, 1);
        for hop in 0..7 {
            for _ in 0..4 {
                line.count().await;
                sent += 1;
            }
            // Some answers are heard on this connection; the others on the next.
            for _ in 0..hop % 4 {
                assert_eq!(line.told().await, i64::try_from(heard).unwrap());
                heard += 1;
            }
            drop(line);
            line = match hop % 3 {
                0 => Line::Frames(Ws::open(&world, "/").await),
                1 => {
                    let mut client = Ws::open(&world, "/?codec=json").await;
                    assert_eq!(client.text().await["body"]["message"], NO_TOKEN);
                    Line::Text(client)
                }
                _ => Line::Tcp(world.connect().await),
            };
            let request = msg::resume::Req { resume_token: token, received: heard };
            let answer = line.resume(request).await;
            assert_eq!(answer.code, 0, "hop {hop}");
            token = answer.resume_token;
            for _ in answer.received..sent {
                line.count().await;
            }
            while heard <= sent {
                assert_eq!(line.told().await, i64::try_from(heard).unwrap(), "hop {hop}");
                heard += 1;
            }
        }
        line.count().await;
        assert_eq!(line.told().await, i64::try_from(heard).unwrap());
    });
}

/// A text that no frame could be made of is a frame all the same to both counts, and so is its
/// refusal; what has no `api` is in neither.
#[test]
fn texts_that_are_refused_count_as_frames_do_and_the_session_goes_on_without_loss() {
    const REFUSED: [(&str, i64); 4] = [
        (r#"{"api":"msg.GetItems.Req","body":{"no_such_field":1}}"#, 1005),
        (r#"{"api":"msg.Nobody.Req"}"#, 1004),
        ("not JSON", 400),
        (r#"{"cmd_id":2001}"#, 400),
    ];
    let world = World::new();
    world.run(async {
        let mut client = Ws::open(&world, "/?codec=json").await;
        assert_eq!(client.text().await["body"]["message"], NO_TOKEN);
        let body = json!({ "token": world.token("clumsy").await });
        let login = json!({ "api": "msg.Login.Req", "body": body }).to_string();
        let welcome = client.ask(&login).await;
        let mut token = of_base64(welcome["body"]["resumeToken"].as_str().unwrap());
        let mut line = Line::Text(client);
        assert_eq!(line.told().await, 0, "the greeting");
        let (mut sent, mut heard): (u64, u64) = (0, 1);
        let mut count = 0;
        for hop in 0..3 {
            let Line::Text(client) = &mut line else { unreachable!("a text client") };
            for (text, code) in REFUSED {
                let refused = client.ask(text).await;
                assert_eq!(refused["code"], code, "{refused}");
                let counts = u64::from(refused.get("api").is_some());
                (sent, heard) = (sent + counts, heard + counts);
            }
            // Asked, and cut before it is answered, as far as the client knows.
            line.count().await;
            line.count().await;
            drop(line);
            let mut client = Ws::open(&world, "/?codec=json").await;
            assert_eq!(client.text().await["body"]["message"], NO_TOKEN);
            line = Line::Text(client);
            let request = msg::resume::Req { resume_token: token, received: heard };
            let answer = line.resume(request).await;
            assert_eq!(answer.code, 0, "hop {hop}");
            assert!((sent..=sent + 2).contains(&answer.received), "hop {hop}: {answer:?}");
            sent += 2;
            token = answer.resume_token;
            for _ in answer.received..sent {
                line.count().await;
            }
            for _ in 0..2 {
                count += 1;
                assert_eq!(line.told().await, count, "hop {hop}");
                heard += 1;
            }
        }
    });
}
