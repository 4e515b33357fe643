//! A codec of a studio's own: lines of text. By every door, beside clients of frames, on both sets.

use std::{net::SocketAddr, time::Duration};

use bastide::{
    App, Codec, CodecCtx, CodecKind, Malformed, Named as _, def, msg, prost::Message as _,
    wire::Frame,
};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use crate::world::{Counter, LATEST, World, add_of, echo_of, game};

const PATIENCE: Duration = Duration::from_secs(10);

/// `login TOKEN`, `echo N`, `add N`, `latest`, `count`, `hum`, `sing`; a line each.
#[derive(Default)]
struct Lines {
    word: String,
}

impl Codec for Lines {
    fn read(&mut self, bytes: &[u8], ctx: &mut CodecCtx) -> Result<usize, Malformed> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let line = &bytes[..end.unwrap_or(bytes.len())];
        if !line.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err(Malformed::new("not a line of text"));
        }
        let Some(line) = ctx.body(bytes, 0, line.len() + 1)? else { return Ok(0) };
        let text = std::str::from_utf8(line).expect("ASCII").trim_end();
        let number = |text: &str| text.parse().map_err(|_| Malformed::new("not a number"));
        match text.split_once(' ').unwrap_or((text, "")) {
            ("login", token) => {
                self.word = token.chars().rev().take(32).collect();
                ctx.say(&msg::login::Req { token: token.to_owned(), ..Default::default() })?;
            }
            ("echo", n) => ctx.say(&echo_of(number(n)?))?,
            ("add", n) => ctx.say(&add_of(number(n)?))?,
            ("latest", _) => {
                let pushes = msg::gift_items::Req { dst_id: 0, item_idx: LATEST, item_num: 1 };
                ctx.say(&pushes)?;
            }
            ("count", _) => ctx.say(&msg::get_items::Req { idx: None })?,
            ("hum", _) => {}
            // Answered here, and by much.
            ("sing", _) => ctx.client().extend_from_slice(&[b'a'; 1000]),
            _ => return Err(Malformed::new("no such word")),
        }
        Ok(line.len())
    }

    fn write(&mut self, frame: &Frame<'_>, ctx: &mut CodecCtx) {
        let payload = frame.payload;
        let line = match frame.api.as_str() {
            msg::login::Res::NAME => match msg::login::Res::decode(payload) {
                Ok(msg::login::Res { code: 0, user: Some(def::User { id, .. }), .. }) => {
                    ctx.expect(self.word.clone().into_bytes());
                    // The game is asked something that the client did not ask for.
                    ctx.say(&echo_of(-1)).expect("small");
                    format!("welcome {id}")
                }
                Ok(refused) => format!("refused {}", refused.code),
                Err(e) => e.to_string(),
            },
            msg::echo::Res::NAME => {
                let echo = msg::echo::Res::decode(payload).expect("its own");
                format!("echo {}", echo.val())
            }
            msg::error::Res::NAME => {
                let error = msg::error::Res::decode(payload).expect("its own");
                format!("error {} {}", error.code, error.api)
            }
            msg::get_items::Res::NAME => {
                let items = msg::get_items::Res::decode(payload).expect("its own");
                format!("items {}", items.items[0].num)
            }
            msg::get_mails::Res::NAME => return ctx.client_loosely(b"latest\n".to_vec()),
            _ => return,
        };
        ctx.client().extend_from_slice(line.as_bytes());
        ctx.client().push(b'\n');
    }

    fn claims(datagram: &[u8]) -> Option<Vec<u8>> {
        datagram.strip_prefix(b"bind ").map(<[u8]>::to_vec)
    }
}

fn with_lines() -> App<Counter> {
    game().codec(CodecKind::<Lines>::new("lines"))
}

/// With a door of its own.
const ON: [&str; 2] = ["codecs.lines.tcp=127.0.0.1:0", "codecs.lines.udp=127.0.0.1:0"];

fn world(more: &[&str]) -> World {
    World::playing(&with_lines, &[&ON, more].concat())
}

/// A client of lines.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(addr).await.unwrap()))
    }

    async fn signed_in(world: &World, addr: SocketAddr, device: &str) -> Self {
        Self::with_token(addr, &world.token(device).await).await
    }

    async fn with_token(addr: SocketAddr, token: &str) -> Self {
        let mut client = Self::connect(addr).await;
        client.say(&format!("login {token}")).await;
        assert!(client.line().await.starts_with("welcome "));
        // What was pushed at the sign-in, and what the codec asked.
        assert_eq!(client.line().await, "items 0");
        assert_eq!(client.line().await, "echo -1");
        client
    }

    async fn say(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, line: &str) -> String {
        self.say(line).await;
        self.line().await
    }

    /// Empty: closed.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("in time").unwrap();
        line.trim_end().to_owned()
    }
}

#[test]
fn a_client_of_a_codec_comes_in_by_its_own_door_and_by_that_of_everybody() {
    let world = world(&[]);
    world.run(async {
        let (own, _) = world.codec("lines");
        for (addr, device) in [(own, "one"), (world.gate(), "two")] {
            let mut client = Client::signed_in(&world, addr, device).await;
            assert_eq!(client.ask("echo 7").await, "echo 7");
            client.say("echo 8\necho 9").await;
            assert_eq!(
                (client.line().await, client.line().await),
                ("echo 8".into(), "echo 9".into())
            );
        }
        // And somebody beside them who speaks frames, even a byte at a time.
        let mut frames = world.player().await;
        assert_eq!(frames.request(&echo_of(7)).await.unwrap().val, Some(7));
        let mut slow = TcpStream::connect(world.gate()).await.unwrap();
        slow.set_nodelay(true).unwrap();
        let mut ping = Vec::new();
        bastide::wire::put_message(&mut ping, &msg::ping::Req { ct: 7, received: 0 }).unwrap();
        for byte in ping {
            slow.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let mut answer = [0; 16];
        timeout(PATIENCE, slow.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer[4..], b"msg.Ping.Res");
    });
}

async fn websocket(world: &World) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(world.ws()).await.unwrap();
    let url = format!("ws://{}/ws", world.ws());
    tokio_tungstenite::client_async(url, stream).await.unwrap().0
}

#[test]
fn a_client_of_a_codec_comes_in_by_a_websocket() {
    let world = world(&[]);
    world.run(async {
        let mut socket = websocket(&world).await;
        let login = format!("login {}\n", world.token("one").await);
        // In two messages, the second with a part of the next line.
        let (one, two) = login.split_at(9);
        socket.send(Message::binary(one.as_bytes().to_vec())).await.unwrap();
        socket.send(Message::binary(format!("{two}ec").into_bytes())).await.unwrap();
        socket.send(Message::binary(b"ho 7\n".to_vec())).await.unwrap();
        let mut said = String::new();
        while !said.contains("echo 7\n") {
            let message = timeout(PATIENCE, socket.next()).await.expect("in time").unwrap();
            said.push_str(std::str::from_utf8(&message.unwrap().into_data()).unwrap());
        }
        assert!(said.starts_with("welcome "), "{said}");
        // A client of frames by the same door.
        let mut frames = websocket(&world).await;
        let mut ping = Vec::new();
        bastide::wire::put_message(&mut ping, &msg::ping::Req { ct: 7, received: 0 }).unwrap();
        let (one, two) = ping.split_at(3);
        frames.send(Message::binary(one.to_vec())).await.unwrap();
        frames.send(Message::binary(two.to_vec())).await.unwrap();
        let answer = timeout(PATIENCE, frames.next()).await.expect("in time").unwrap();
        assert_eq!(&answer.unwrap().into_data()[4..16], b"msg.Ping.Res");
    });
}

#[test]
fn what_is_no_message_of_a_codec_is_told_and_ends_the_connection_after_the_answers() {
    let world = world(&[]);
    world.run(async {
        let (own, _) = world.codec("lines");
        let mut client = Client::signed_in(&world, own, "one").await;
        client.say("echo 1\necho 2\nnonsense\necho 3").await;
        assert_eq!((client.line().await, client.line().await), ("echo 1".into(), "echo 2".into()));
        assert_eq!(
            (client.line().await, client.line().await),
            ("error 1009".into(), String::new())
        );

        let mut stranger = Client::connect(own).await;
        stranger.0.write_all(&[b'a'; 200_000]).await.unwrap();
        assert_eq!(
            (stranger.line().await, stranger.line().await),
            ("error 1008".into(), String::new())
        );

        // The limit of whoever has signed in is another.
        let mut client = Client::signed_in(&world, own, "two").await;
        client.0.write_all(&[b'0'; 5000]).await.unwrap();
        client.0.write_all(b" 7\n").await.unwrap();
        assert_eq!(client.line().await, "error 1009", "no such word, but not too large");

        assert_eq!(Client::connect(own).await.ask("login nonsense").await, "refused 2001");
        assert_eq!(Client::connect(own).await.ask("echo 7").await, "error 1006 msg.Echo.Req");
    });
}

#[test]
fn the_rate_holds_for_clients_of_a_codec_also_for_what_the_game_hears_nothing_of() {
    let world = world(&["gate.rate_frames_per_s=1", "gate.rate_burst_frames=10"]);
    world.run(async {
        let (own, _) = world.codec("lines");
        let mut client = Client::signed_in(&world, own, "one").await;
        client.say(&["echo 7"; 20].join("\n")).await;
        let mut lines = Vec::new();
        for _ in 0..20 {
            lines.push(client.line().await);
        }
        assert!(lines.iter().filter(|line| *line == "echo 7").count() <= 10, "{lines:?}");
        assert!(lines.contains(&"error 1007 msg.Echo.Req".to_owned()), "{lines:?}");
        let mut hums = Client::signed_in(&world, own, "two").await;
        hums.say(&["hum"; 200].join("\n")).await;
        assert_eq!((hums.line().await, hums.line().await), ("error 1009".into(), String::new()));
    });
}

#[test]
fn a_client_that_does_not_read_what_its_codec_answers_is_not_read_either() {
    let world = world(&["gate.rate_frames_per_s=0"]);
    world.run(async {
        let (own, _) = world.codec("lines");
        let mut client = Client::signed_in(&world, own, "one").await;
        let songs = b"sing\n".repeat(2_000_000);
        let sung = timeout(Duration::from_secs(1), client.0.write_all(&songs)).await;
        assert!(sung.is_err(), "10 MB were taken in, and 2 GB answered");
        let mut other = Client::signed_in(&world, own, "two").await;
        assert_eq!(other.ask("echo 7").await, "echo 7");
    });
}

#[test]
fn datagrams_go_both_ways_for_whoever_shows_the_word() {
    let world = world(&[]);
    world.run(async {
        let (own, udp) = world.codec("lines");
        let token = world.token("one").await;
        let mut client = Client::with_token(own, &token).await;
        // Before it asks for datagrams, what may be lost comes by the stream.
        assert_eq!(client.ask("latest").await, "latest");
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(udp).await.unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        stranger.connect(udp).await.unwrap();
        stranger.send(b"bind nobody's").await.unwrap();
        // The word from an address that its client is not connected from.
        let elsewhere = UdpSocket::bind("127.0.0.2:0").await.unwrap();
        elsewhere.connect(udp).await.unwrap();
        let word: String = token.chars().rev().take(32).collect();
        elsewhere.send(format!("bind {word}").as_bytes()).await.unwrap();
        stranger.send(b"add 100\n").await.unwrap();
        socket.send(format!("bind {word}").as_bytes()).await.unwrap();
        let mut datagram = [0; 600];
        let told = async {
            loop {
                client.say("latest").await;
                let next = timeout(Duration::from_millis(100), socket.recv(&mut datagram)).await;
                if let Ok(Ok(bytes)) = next {
                    return bytes;
                }
            }
        };
        let bytes = timeout(PATIENCE, told).await.expect("a datagram");
        assert_eq!(&datagram[..bytes], b"latest\n");
        assert!(elsewhere.try_recv(&mut datagram).is_err(), "nothing is sent elsewhere");
        // What it sends so is heard; a request belongs into the stream.
        socket.send(b"echo 7\n").await.unwrap();
        socket.send(&[b'a'; 549]).await.unwrap();
        let counted = async {
            loop {
                socket.send(b"add 1000\n").await.unwrap();
                client.say("count").await;
                loop {
                    let line = client.line().await;
                    assert!(!line.starts_with("echo"), "{line}");
                    if let Some(count) = line.strip_prefix("items ") {
                        if count.parse::<i64>().unwrap() >= 1000 {
                            return;
                        }
                        break;
                    }
                }
            }
        };
        timeout(PATIENCE, counted).await.expect("counted");
    });
}

#[test]
fn a_codec_that_is_off_is_not_there_and_one_that_is_unknown_is_told_so() {
    let world = World::playing(&with_lines, &["codecs.lines.on=false"]);
    world.run(async {
        let mut socket = TcpStream::connect(world.gate()).await.unwrap();
        socket.write_all(b"login nobody\n").await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("closed").unwrap();
        assert_eq!(&answer[4..17], b"msg.Error.Res");
    });
    let told =
        with_lines().start(&["--port-base", "41000", "--set", "codecs.words.on=true"]).unwrap_err();
    assert_eq!(
        told,
        "codecs.words: there is no such codec here; take the section away, or choose from lines"
    );
}
