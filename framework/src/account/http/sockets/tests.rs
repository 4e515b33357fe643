//! Socket.IO as its clients speak it, byte by byte; the clients themselves are in the town's tests.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_tungstenite::{WebSocketStream, client_async};
use tungstenite::Message;

use super::super::tests::Edge;
use crate::limits::{HTTP_BODY_BYTES_MAX, SOCKETS_PER_IP_MAX};

/// A socket over WebSockets alone.
struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Of a client of the older protocol (3) or the newer one (4), that has joined.
    async fn open(edge: &Edge, generation: u8) -> Self {
        let mut socket = Self::dial(edge, &format!("EIO={generation}&transport=websocket")).await;
        let open = socket.next().await;
        let open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
        assert_eq!((&open["pingInterval"], &open["pingTimeout"]), (&25_000.into(), &20_000.into()));
        if generation == 4 {
            socket.say("40").await;
        }
        let joined = socket.next().await;
        assert!(joined.starts_with("40"), "{joined}");
        socket
    }

    async fn dial(edge: &Edge, query: &str) -> Self {
        let address = edge.url.strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/socket.io/?{query}");
        Self(client_async(url, stream).await.unwrap().0)
    }

    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next that is no ping.
    async fn next(&mut self) -> String {
        self.heard().await.expect("the socket is open")
    }

    /// The same; `None`: it is closed.
    async fn heard(&mut self) -> Option<String> {
        loop {
            let next = timeout(Duration::from_secs(10), self.0.next()).await.expect("in time");
            match next {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => {}
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(other)) => panic!("{other}"),
            }
        }
    }

    async fn call(&mut self, asked: &Value) -> Value {
        self.say(&format!("427{}", json!(["req", asked]))).await;
        let answer = self.next().await;
        answered(&answer)
    }
}

fn answered(packet: &str) -> Value {
    let answer = packet.strip_prefix("437").unwrap_or_else(|| panic!("{packet}"));
    serde_json::from_str::<Value>(answer).unwrap()[0].clone()
}

async fn closed(edge: &Edge) {
    for _ in 0..1000 {
        if edge.sockets.desk.seats.count() == (0, 0) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?} sockets and sign-ins are kept", edge.sockets.desk.seats.count());
}

fn login(device: &str) -> Value {
    json!({ "control": "login", "func": "UserLogin", "oemInfo": { "openid": device } })
}

#[tokio::test]
async fn both_generations_call_as_over_http_and_are_answered_the_same() {
    let edge = Edge::new().await;
    for generation in [3, 4] {
        let mut socket = Socket::open(&edge, generation).await;
        let asked = json!({ "func": "lb.getServerInfo", "oemInfo": { "openid": "official.7" } });
        let request = edge.client.post(format!("{}/index.html", edge.url));
        let request = request.header("content-type", "application/json").body(asked.to_string());
        let (_, posted) = edge.send(request).await;
        assert_eq!(socket.call(&asked).await, posted);
        let known = socket.call(&login(&format!("device-{generation}"))).await;
        assert_eq!(known["code"], 0, "{known}");
        let echo = json!({ "func": "test.echo", "oemInfo": { "token": known["data"]["token"] } });
        assert_eq!(socket.call(&echo).await, json!({ "code": 0 }));
        let odd = json!({ "func": "test.echo", "oemInfo": { "token": "nonsense" } });
        assert_eq!(socket.call(&odd).await["code"], 9006);
        assert_eq!(socket.call(&json!([1])).await["code"], 9001);
        assert_eq!(socket.call(&json!({ "func": "nothing" })).await["code"], 9000);
    }
    closed(&edge).await;
}

#[tokio::test]
async fn a_client_that_polls_turns_to_a_websocket_and_loses_nothing() {
    let edge = Edge::new().await;
    let url = format!("{}/socket.io/?EIO=4&transport=polling", edge.url);
    let get = async |url: &str| {
        let got = edge.client.get(url).header("origin", "http://elsewhere").send().await.unwrap();
        assert_eq!(got.status(), 200);
        assert_eq!(got.headers()["access-control-allow-origin"], "http://elsewhere");
        assert_eq!(got.headers()["access-control-allow-credentials"], "true");
        got.text().await.unwrap()
    };
    let open = get(&url).await;
    let open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
    let sid = open["sid"].as_str().unwrap();
    let polled = format!("{url}&sid={sid}");
    let post = async |body: &str| {
        let post = edge.client.post(&polled).header("content-type", "text/plain;charset=UTF-8");
        assert_eq!(post.body(body.to_owned()).send().await.unwrap().text().await.unwrap(), "ok");
    };
    post("40").await;
    // The first ping may come with it.
    let joined = get(&polled).await;
    assert!(joined.split('\u{1e}').any(|packet| packet.starts_with("40")), "{joined}");
    post("3").await;
    post(&format!("427{}", json!(["req", login("polls")]))).await;
    let mut answer = get(&polled).await;
    if answer == "2" {
        answer = get(&polled).await;
    }
    assert_eq!(answered(answer.trim_start_matches("2\u{1e}"))["code"], 0);

    let mut socket = Socket::dial(&edge, &format!("EIO=4&transport=websocket&sid={sid}")).await;
    socket.say("2probe").await;
    assert_eq!(socket.next().await, "3probe");
    socket.say("5").await;
    assert_eq!(socket.call(&login("polls")).await["code"], 0);
    assert_eq!(edge.sockets.desk.seats.count().0, 1, "it is one socket");
    drop(socket);
    closed(&edge).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_turns_to_a_websocket_leaves_nothing() {
    let edge = Edge::new().await;
    for said in [None, Some("2probe"), Some("nonsense")] {
        let url = format!("{}/socket.io/?EIO=4&transport=polling", edge.url);
        let open = edge.client.get(&url).send().await.unwrap().text().await.unwrap();
        let open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
        let sid = open["sid"].as_str().unwrap();
        // What it has joined and what answers the first ping: nothing else would close it.
        for body in ["40", "3"] {
            let post = edge.client.post(format!("{url}&sid={sid}")).body(body);
            assert_eq!(post.send().await.unwrap().text().await.unwrap(), "ok");
        }
        let query = format!("EIO=4&transport=websocket&sid={sid}");
        let mut socket = Socket::dial(&edge, &query).await;
        if let Some(said) = said {
            socket.say(said).await;
        }
        drop(socket);
        closed(&edge).await;
    }
}

#[tokio::test]
async fn the_older_protocol_polls_in_its_own_form() {
    let edge = Edge::new().await;
    let url = format!("{}/socket.io/?EIO=3&transport=polling&b64=1", edge.url);
    let text = async |url: &str| edge.client.get(url).send().await.unwrap().text().await.unwrap();
    let open = text(&url).await;
    let (length, packet) = open.split_once(':').unwrap();
    let (packet, rest) = packet.split_at(length.parse().unwrap());
    let open: Value = serde_json::from_str(packet.strip_prefix('0').unwrap()).unwrap();
    let polled = format!("{url}&sid={}", open["sid"].as_str().unwrap());
    let joined = if rest.is_empty() { text(&polled).await } else { rest.to_owned() };
    assert_eq!(joined, "2:40");
    let call = format!("427{}", json!(["req", login("polls-too")]));
    let body = format!("{}:{call}", call.len());
    let post = edge.client.post(&polled).header("content-type", "text/plain;charset=UTF-8");
    assert_eq!(post.body(body).send().await.unwrap().status(), 200);
    let answer = text(&polled).await;
    assert_eq!(answered(answer.split_once(':').unwrap().1)["code"], 0);
}

#[tokio::test]
async fn who_signs_in_on_another_socket_is_told_so_on_the_first_which_is_closed() {
    let edge = Edge::new().await;
    for generation in [3, 4] {
        let device = format!("twice-{generation}");
        let mut first = Socket::open(&edge, generation).await;
        let one = first.call(&login(&device)).await;
        assert_eq!(first.call(&login(&device)).await["code"], 0, "again on its own socket");
        let mut second = Socket::open(&edge, generation).await;
        assert_eq!(second.call(&login(&device)).await["data"]["id"], one["data"]["id"]);
        let told = first.next().await;
        let told: Value = serde_json::from_str(told.strip_prefix("42").unwrap()).unwrap();
        assert_eq!((&told[0], &told[1]["type"]), (&"notify".into(), &2005.into()));
        assert_eq!(told[1]["info"]["code"], 2005);
        assert_eq!(first.next().await, "41", "disconnected");
        assert_eq!(second.call(&login(&device)).await["code"], 0);
    }
    closed(&edge).await;
}

#[tokio::test]
async fn what_is_no_socket_is_answered_or_closed_and_leaves_nothing() {
    let edge = Edge::new().await;
    let long = "EIO=4&transport=polling&x=".to_owned() + &"y".repeat(9000);
    for query in [
        "",
        "EIO=4",
        "EIO=9&transport=polling",
        "EIO=4&transport=none",
        "transport=websocket",
        "EIO=4&transport=websocket",
        "EIO=4&transport=polling&sid=nobodysnobodysno",
        "EIO=4&transport=polling&sid=",
        "EIO=4&transport=polling&sid=%00",
        "%",
        &long,
    ] {
        let url = format!("{}/socket.io/?{query}", edge.url);
        for request in [edge.client.get(&url), edge.client.post(&url).body("4")] {
            let status = request.send().await.unwrap().status().as_u16();
            let opened = query == long && status == 200;
            assert!(opened || (400..500).contains(&status), "{query}: {status}");
        }
    }
    for said in [
        "",
        "9",
        "4",
        "40",
        "41",
        "42",
        "43[]",
        "44{}",
        "45",
        "427[\"req\"]",
        "42[",
        "46",
        "451-7[\"req\",{\"_placeholder\":true,\"num\":0}]",
        "6",
        "1",
        "40/other,",
        "42/no,[\"req\"]",
    ] {
        for generation in [3, 4] {
            let mut socket = Socket::open(&edge, generation).await;
            socket.say(said).await;
            // Whatever becomes of it, the others go on.
            let mut other = Socket::open(&edge, generation).await;
            assert_eq!(other.call(&login("goes-on")).await["code"], 0, "after {said}");
        }
    }
    let mut socket = Socket::open(&edge, 4).await;
    let large = format!("427[\"req\",\"{}\"]", "a".repeat(HTTP_BODY_BYTES_MAX));
    socket.say(&large).await;
    assert_eq!(socket.heard().await, None);
    let unmasked = Socket::open(&edge, 4).await;
    let mut stream = unmasked.0.into_inner();
    stream.write_all(&[0xff; 64]).await.unwrap();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    drop(stream);
    closed(&edge).await;
}

#[tokio::test]
async fn an_address_has_its_share_of_sockets_and_of_calls() {
    let edge = Edge::balanced(1).await;
    let url = format!("{}/socket.io/?EIO=4&transport=polling", edge.url);
    let from = async |ip: &str| {
        let asked = edge.client.get(&url).header("x-forwarded-for", ip);
        asked.send().await.unwrap().status().as_u16()
    };
    let seats = &edge.sockets.desk.seats;
    let held: Vec<_> = (0..SOCKETS_PER_IP_MAX)
        .map(|_| seats.take(Some([203, 0, 113, 9].into())).unwrap())
        .collect();
    assert_eq!((from("203.0.113.9").await, from("203.0.113.8").await), (429, 200));
    drop(held);
    // A request a second, counted over ten.
    let told = [from("203.0.113.7").await, from("203.0.113.7").await];
    assert_eq!(told, [200, 200]);
    for _ in 0..8 {
        from("203.0.113.7").await;
    }
    assert_eq!(from("203.0.113.7").await, 429);
}

#[tokio::test]
async fn a_center_that_stops_closes_its_sockets_and_lets_nobody_in() {
    let edge = Edge::new().await;
    let mut sockets = [Socket::open(&edge, 3).await, Socket::open(&edge, 4).await];
    sockets[0].call(&login("stays")).await;
    edge.sockets.close().await;
    for socket in &mut sockets {
        while socket.heard().await.is_some() {}
    }
    closed(&edge).await;
    let url = format!("{}/socket.io/?EIO=4&transport=polling", edge.url);
    let refused = edge.client.get(&url).send().await.unwrap();
    assert_eq!(refused.status(), 503, "{}", refused.text().await.unwrap());
}
