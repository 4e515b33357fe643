//! Owns the tests of what clients do to a WebSocket that they should not, and of what they may do
//! and seldom do. The town and the client are those of `tests`.

use proptest::prelude::*;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::Instant,
};

use super::{
    frames::as_message,
    tests::{BINARY, CLOSE, Client, ECHO, LOGIN, PING, PONG, TEXT, Town, echo_of, frame, request},
};
use crate::{
    limits::WS_MESSAGE_BYTES_MAX,
    msg,
    wire::{Cut, cut},
};

#[tokio::test(start_paused = true)]
async fn a_message_may_hold_several_frames_and_a_frame_several_messages() {
    let town = Town::new();
    let mut client = town.open("/").await;
    let bytes = [frame(&town.login()), frame(&echo_of(1)), frame(&echo_of(2))].concat();
    for part in bytes.chunks(100) {
        client.say(0x02, &part[..50.min(part.len())]).await;
        client.say(PING, b"between").await;
        client.say(0x80, &part[50.min(part.len())..]).await;
    }
    let (mut frames, mut pongs) = (Vec::new(), 0);
    while frames.is_empty() || !frames.ends_with(&frame(&msg::echo::Res { val: Some(2), ct: None }))
    {
        match client.heard().await.expect("open") {
            (PONG, payload) => {
                assert_eq!(payload, b"between");
                pongs += 1;
            }
            (BINARY, payload) => frames.extend(payload),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pongs, bytes.chunks(100).count());
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_bad_input_ends_the_connection_with_its_code() {
    let town = Town::new();
    let announced = |bytes: usize| {
        let mut head = vec![BINARY, 0xff];
        head.extend((bytes as u64).to_be_bytes());
        head.extend([0; 4]);
        head
    };
    let first = |first: u8, payload: &[u8]| {
        let mut bytes = as_message(payload);
        bytes[0] = first;
        bytes
    };
    for (bytes, code) in [
        (vec![BINARY, 0x01, 7], 1002),
        (first(0xc2, b""), 1002),
        (first(0x83, b""), 1002),
        (first(0x80, b"x"), 1002),
        (first(PING, &[0; 126]), 1002),
        (first(0x09, b""), 1002),
        (announced(WS_MESSAGE_BYTES_MAX + 1), 1009),
        (announced(usize::MAX), 1009),
        (first(TEXT, &[b' '; 9000]), 1009),
        (first(TEXT, b"\xff"), 1007),
    ] {
        let mut client = town.open("/?codec=json").await;
        client.json().await;
        client.bytes(&bytes).await;
        client.bytes(&[0; 100]).await;
        assert_eq!(client.closed_with().await, code, "{:?}", &bytes[..bytes.len().min(16)]);
    }
    let mut client = town.framer().await;
    client.text(ECHO).await;
    assert_eq!(client.closed_with().await, 1003);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_frames_are_told_so_before_the_goodbye() {
    let town = Town::new();
    let mut client = town.framer().await;
    client.say(BINARY, &[1, 0, 0, 0]).await;
    assert_eq!(client.answer::<msg::error::Res>().await.code, 1009);
    client.closed_with().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_messages_that_say_nothing_is_cut_off() {
    let town = Town::new();
    for (first, payload) in [(PING, &b"p"[..]), (PONG, b""), (BINARY, b"")] {
        let mut client = town.framer().await;
        let mut one = as_message(payload);
        one[0] = first;
        let flood = one.repeat(10_000);
        let (mut from_gate, mut to_gate) = tokio::io::split(client.stream);
        let (_, heard) = tokio::join!(
            async {
                drop(to_gate.write_all(&flood).await);
                drop(to_gate.shutdown().await);
            },
            async {
                let mut heard = Vec::new();
                drop(from_gate.read_to_end(&mut heard).await);
                heard
            }
        );
        let close = [CLOSE, 2, 3, 240];
        assert!(
            heard.ends_with(&close),
            "{first:#x}: {:?}",
            &heard[heard.len().saturating_sub(8)..]
        );
        client = town.framer().await;
        client.says_nothing_for(10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_kicked_and_hears_it_when_it_reads_after_all() {
    let town = Town::new();
    let mut client = town.framer().await;
    let big = msg::error::Res { message: "x".repeat(60_000), ..Default::default() };
    let outbox = town.gate.open.lock().unwrap().values().next().and_then(|o| o.upgrade());
    let outbox = outbox.expect("an outbox");
    let mut batch = crate::link::Batch::default();
    batch.push(crate::link::Mark::Plain, &frame(&big));
    for _ in 0..40 {
        crate::link::SessionEnd::deliver(&*outbox, batch.frames());
        tokio::task::yield_now().await;
    }
    let mut last = String::new();
    let code = loop {
        match client.heard().await.expect("a goodbye") {
            (BINARY, payload) => {
                let mut rest = &payload[..];
                while let Ok(Cut::Frame(frame)) = cut(rest, 70_000) {
                    last = frame.api.as_str().to_owned();
                    rest = &rest[frame.bytes.len()..];
                }
                assert!(rest.is_empty(), "a message holds whole frames");
            }
            (CLOSE, payload) => break u16::from_be_bytes([payload[0], payload[1]]),
            other => panic!("{:#x}", other.0),
        }
    };
    assert_eq!((last.as_str(), code), ("msg.Kick.Res", 1008));
}

#[tokio::test(start_paused = true)]
async fn who_never_signs_in_by_text_is_closed_after_30_seconds_all_the_same() {
    let town = Town::new();
    let (mut client, began) = (town.open("/").await, Instant::now());
    client.json().await;
    while client.heard().await.is_some() {}
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stops_half_way_does_not_hold_up_a_gate_that_goes_away() {
    let town = Town::new();
    let (stream, served) = town.dial_through(1024);
    let mut client = Client { stream };
    let began = Instant::now();
    client.bytes(b"GET / HTTP/1.1\r\n").await;
    let gate = town.gate.clone();
    let ((), left) = tokio::join!(served, gate.drain(std::time::Duration::from_secs(20)));
    assert_eq!((left, client.heard().await), (0, None));
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
}

#[test]
fn an_idle_websocket_costs_little_memory() {
    type Stream = tokio::net::TcpStream;
    let socket = size_of::<super::WebSocket<Stream>>();
    assert!(socket <= 320, "{socket} bytes");
}

#[tokio::test(start_paused = true)]
async fn malformed_texts_count_in_the_rate_and_far_above_it_the_client_is_cut_off() {
    let town = Town::new();
    let mut client = town.texter().await;
    let mut codes = std::collections::BTreeMap::new();
    for _ in 0..4000 {
        let mut bytes = as_message(b"{");
        bytes[0] = TEXT;
        if client.stream.write_all(&bytes).await.is_err() {
            break;
        }
    }
    while let Some((first, payload)) = client.heard().await {
        let code = match first {
            TEXT => serde_json::from_slice::<Value>(&payload).expect("JSON")["code"].as_i64(),
            _ => Some(-1),
        };
        *codes.entry(code).or_insert(0) += 1;
    }
    assert!(codes[&Some(400)] <= 250 && codes[&Some(1007)] >= 1000, "{codes:?}");
    assert!(codes.values().sum::<i32>() < 3000, "{codes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_text_whose_message_is_larger_than_a_frame_is_refused_and_the_next_one_is_not() {
    let town = Town::new();
    let mut client = town.texter().await;
    let items = vec![r#"{"idx":-1}"#; 5200].join(",");
    let text = format!(r#"{{"api":"msg.GetItems.Res","body":{{"items":[{items}]}}}}"#);
    let refused = client.ask(&text).await;
    assert_eq!(
        (refused["code"].as_i64(), refused["api"].as_str()),
        (Some(1008), Some("msg.Error.Res"))
    );
    assert_eq!(refused["body"]["api"], "msg.GetItems.Res");
    assert_eq!(client.ask(ECHO).await["body"]["val"], "7");
}

/// Whether it counts is known once the sign-in or the resume before it is answered.
#[tokio::test(start_paused = true)]
async fn a_text_behind_a_sign_in_is_taken_within_the_session() {
    let town = Town::new();
    let mut client = town.open("/?codec=json").await;
    client.json().await;
    client.text(r#"{"api":"msg.Resume.Req","body":{"resumeToken":"AAAA"}}"#).await;
    client.text(r#"{"api":"msg.Ping.Req","body":{"ct":1}}"#).await;
    let login = format!(r#"{{"api":"msg.Login.Req","body":{{"token":"{}"}}}}"#, town.token);
    client.text(&login).await;
    client.text(r#"{"api":"msg.Echo.Req","body":{"wal":7}}"#).await;
    client.text(ECHO).await;
    let expected = [
        ("msg.Resume.Res", 200),
        ("msg.Ping.Res", 200),
        ("msg.Login.Res", 200),
        ("msg.Error.Res", 1005),
        ("msg.Echo.Res", 200),
    ];
    for (api, code) in expected {
        let told = client.json().await;
        assert_eq!(
            (told["api"].as_str(), told["code"].as_i64()),
            (Some(api), Some(code)),
            "{told}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn text_logins_that_fail_count_among_the_tries_and_wait_as_they_do() {
    let town = Town::new();
    let mut client = town.open("/?codec=json").await;
    client.json().await;
    let wrong = LOGIN.replace("secret", "wrong");
    for tries in 0..10 {
        let began = Instant::now();
        let refused = client.ask(&wrong).await;
        assert_eq!(refused["code"], 400, "{refused}");
        assert_eq!(refused["err_msg"], "Login failed: Invalid username or password");
        assert_eq!(began.elapsed().as_millis() >= 100, tries > 0, "{:?}", began.elapsed());
    }
    assert_eq!(client.closed_with().await, 1000);
}

/// A client of the texts that has sent so many pings at once.
async fn pinged(town: &Town, pings: usize) -> Client {
    let mut client = town.open("/?codec=json").await;
    client.json().await;
    for _ in 0..pings {
        assert_eq!(client.ask(r#"{"api":"msg.Ping.Req"}"#).await["code"], 200);
    }
    client
}

#[tokio::test(start_paused = true)]
async fn a_text_login_above_the_rate_is_refused_and_nobody_is_asked() {
    let town = Town::new();
    let mut client = pinged(&town, 200).await;
    let refused = client.ask(LOGIN).await;
    assert_eq!((refused["code"].as_i64(), refused.get("api")), (Some(429), None), "{refused}");
    assert_eq!(*town.center.asked_from.lock().unwrap(), None);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(client.ask(LOGIN).await["code"], 200);
}

#[tokio::test(start_paused = true)]
async fn a_failed_text_login_counts_among_the_tries_however_little_the_rate_leaves() {
    let town = Town::new();
    let mut client = pinged(&town, 199).await;
    let began = Instant::now();
    assert_eq!(client.ask(&LOGIN.replace("secret", "wrong")).await["code"], 400);
    assert_eq!(began.elapsed().as_millis() / 100, 1);
    assert_eq!(client.ask(LOGIN).await["code"], 200);
}

/// The pipe holds less than a header and a frame: every write is cut in the middle.
#[tokio::test(start_paused = true)]
async fn through_a_narrow_pipe_everything_arrives_whole_and_in_order() {
    let town = Town::new();
    for json in [false, true] {
        let (stream, served) = town.dial_through(50);
        town.gate.tasks.spawn(served);
        let mut client = Client { stream };
        let target = if json { "/?codec=json" } else { "/" };
        client.bytes(request(target, "").as_bytes()).await;
        client.head().await;
        if json {
            client.json().await;
            let login = format!(r#"{{"api":"msg.Login.Req","body":{{"token":"{}"}}}}"#, town.token);
            assert_eq!(client.ask(&login).await["body"]["code"], 0);
        } else {
            client.frame(&town.login()).await;
            assert_eq!(client.answer::<msg::login::Res>().await.code, 0);
        }
        for val in 0..50 {
            if json {
                let text = format!(r#"{{"api":"msg.Echo.Req","body":{{"val":{val}}}}}"#);
                assert_eq!(client.ask(&text).await["body"]["val"], val.to_string());
            } else {
                client.frame(&echo_of(val)).await;
                assert_eq!(client.answer::<msg::echo::Res>().await.val, Some(val));
            }
        }
    }
}

/// Whatever comes behind the handshake; the gate's side runs in this task, so that a panic of it
/// is one of the test's.
async fn send(target: &str, bytes: &[u8]) {
    let town = Town::new();
    let (stream, served) = town.dial_through(1024);
    let (mut from_gate, mut to_gate) = tokio::io::split(stream);
    let say = async {
        drop(to_gate.write_all(request(target, "").as_bytes()).await);
        drop(to_gate.write_all(bytes).await);
        drop(to_gate.shutdown().await);
    };
    let hear = async {
        let mut heard = Vec::new();
        drop(from_gate.read_to_end(&mut heard).await);
    };
    tokio::join!(served, say, hear);
    assert_eq!(town.gate.connections(), 0);
}

fn in_virtual_time(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().expect("a runtime").block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_client_sends_the_gate_lives(bytes in prop::collection::vec(any::<u8>(), 0..300), json in any::<bool>()) {
        in_virtual_time(send(if json { "/?codec=json" } else { "/" }, &bytes));
    }

    #[test]
    fn whatever_messages_a_client_sends_the_gate_lives(messages in prop::collection::vec((0u8..16, prop::collection::vec(any::<u8>(), 0..40)), 0..12)) {
        let mut bytes = Vec::new();
        for (opcode, payload) in &messages {
            let mut message = as_message(payload);
            message[0] = 0x80 | opcode;
            bytes.extend(message);
        }
        in_virtual_time(send("/", &bytes));
    }

    #[test]
    fn whatever_texts_a_client_sends_the_gate_lives(texts in prop::collection::vec("(\\PC{0,20}|\\{\"api\":\"msg\\.(Echo|Ping|Login|Resume|No)\\.Req\"(,\"body\":[{}\\[\\]0-9\":a-z]{0,20})?\\})", 0..12)) {
        let mut bytes = Vec::new();
        for text in &texts {
            let mut message = as_message(text.as_bytes());
            message[0] = TEXT;
            bytes.extend(message);
        }
        in_virtual_time(send("/?codec=json", &bytes));
    }
}
