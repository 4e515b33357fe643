//! Clients of the ball game mope, as they are: over HTTP, TCP and UDP, against the town's program.

use std::time::Duration;

use bastide::{Code, client::Client, msg, wire};
use bastide_testkit::secret;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::town::Town;

const PATIENCE: Duration = Duration::from_secs(10);

const LOGIN: u16 = 1;
const TOP: u16 = 2;
const ADD_PLAYER: u16 = 3;
const MOVE: u16 = 6;
const END_ROOM: u16 = 11;
const HEART_BEAT: u16 = 16;
const CLOSE: u16 = 21;
const ERROR: u16 = 25;
const SCENE_TCP: u16 = 31;
const SCENE_UDP: u16 = 32;
const BIND_SESSION: u16 = 33;

/// A message's fields: numbers, and bytes.
#[derive(Debug, Default)]
struct Fields(Vec<(u64, u64, Vec<u8>)>);

impl Fields {
    fn read(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = number(&mut bytes);
            let (value, rest) = match tag & 7 {
                0 => (number(&mut bytes), Vec::new()),
                5 => (0, bytes.split_off(..4).unwrap().to_vec()),
                2 => {
                    let length = usize::try_from(number(&mut bytes)).unwrap();
                    (0, bytes.split_off(..length).unwrap().to_vec())
                }
                other => panic!("wire type {other}"),
            };
            fields.push((tag >> 3, value, rest));
        }
        Self(fields)
    }

    fn number(&self, field: u64) -> Option<u64> {
        self.0.iter().find(|(known, ..)| *known == field).map(|(_, value, _)| *value)
    }

    fn all(&self, field: u64) -> Vec<&[u8]> {
        let these = self.0.iter().filter(|(known, ..)| *known == field);
        these.map(|(.., bytes)| bytes.as_slice()).collect()
    }

    fn text(&self, field: u64) -> String {
        String::from_utf8(self.all(field)[0].to_vec()).unwrap()
    }
}

fn number(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = *bytes.split_off_first().unwrap();
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn put_number(out: &mut Vec<u8>, field: u64, mut value: u64) {
    out.push(u8::try_from(field << 3).unwrap());
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_text(out: &mut Vec<u8>, field: u64, text: &str) {
    let mut length = Vec::new();
    put_number(&mut length, 0, text.len() as u64);
    out.push(u8::try_from(field << 3 | 2).unwrap());
    out.extend(&length[1..]);
    out.extend(text.as_bytes());
}

fn message(command: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 2).unwrap().to_le_bytes();
    [&length[..3], &[0], &command.to_le_bytes(), body].concat()
}

fn login(key: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, 1, "guest with a long name");
    put_text(&mut body, 2, key);
    message(LOGIN, &body)
}

/// Somebody who has signed in over HTTP.
struct Guest {
    id: u64,
    cookie: String,
}

impl Guest {
    async fn sign_in(town: &Town, device: &str) -> Self {
        let path = format!(
            "/msg?c=1&a=&p=&ver=1.2.0&dev={device}&device=android&r=1&m=0\
             &sign=7e343d61e73ecd3c600521ae9588c460"
        );
        let (head, body) = get(town, &path, "").await;
        let is_cookie = |line: &&str| line.to_ascii_lowercase().starts_with("set-cookie: ");
        let cookie = head.lines().find(is_cookie).unwrap();
        let (_, rest) = cookie.split_once('=').unwrap();
        let (cookie, _) = rest.split_once(';').unwrap();
        let answer = http_message(1, &body);
        Self { id: answer.number(2).unwrap(), cookie: secret(cookie.to_owned()) }
    }

    /// The address of a room, and the key to it.
    async fn room(&self, town: &Town) -> (String, String) {
        let path =
            "/msg?c=3&ver=1.2.0&ticketnum=0&scene=1002&sign=26696f326e09d96ffe04e60b3c104157";
        let (_, body) = get(town, path, &format!("cookie: session={}\r\n", self.cookie)).await;
        let answer = http_message(3, &body);
        assert_eq!((answer.number(1), answer.number(9)), (Some(0), Some(1002)));
        (answer.text(2), secret(answer.text(3)))
    }

    async fn plays(town: &Town, device: &str) -> (Self, Player) {
        let guest = Self::sign_in(town, device).await;
        let (addr, key) = guest.room(town).await;
        let player = Player::enters(&addr, &key).await;
        (guest, player)
    }
}

async fn get(town: &Town, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(town.http()).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: town\r\n{headers}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let at = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..at].to_vec()).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    (head, answer.split_off(at + 4))
}

/// One message, not compressed, whose length is right to the byte.
fn http_message(command: u16, body: &[u8]) -> Fields {
    let length = usize::from(body[0]) | usize::from(body[1]) << 8 | usize::from(body[2]) << 16;
    assert_eq!((length + 4, body[3]), (body.len(), 0));
    assert_eq!(u16::from_le_bytes([body[4], body[5]]), command);
    Fields::read(&body[6..])
}

/// A connection to a room.
struct Player {
    stream: TcpStream,
    addr: String,
    key: String,
    ball: u64,
}

impl Player {
    /// Logs in, and hears all that belongs to it.
    async fn enters(addr: &str, key: &str) -> Self {
        let mut player = Self::connects(addr, key).await;
        let (command, top) = player.next().await;
        assert!(command == TOP && top.number(3).is_some(), "{command} {top:?}");
        let (command, result) = player.next().await;
        assert_eq!((command, result.number(1)), (LOGIN, Some(1)), "{result:?}");
        assert_eq!(result.text(3), "guest with a l", "as the room cuts it");
        assert!(result.all(9).is_empty(), "food comes later");
        player.ball = result.number(8).unwrap();
        let first = Fields::read(result.all(10)[0]);
        assert_eq!(first.number(1), Some(player.ball), "the own ball is the first");
        assert_eq!(player.next().await.0, ADD_PLAYER);
        player
    }

    async fn connects(addr: &str, key: &str) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(&login(key)).await.unwrap();
        Self { stream, addr: addr.to_owned(), key: key.to_owned(), ball: 0 }
    }

    async fn next(&mut self) -> (u16, Fields) {
        let (command, body) = self.next_raw().await.expect("a message");
        (command, Fields::read(&body))
    }

    /// `None`: the connection is closed.
    async fn next_raw(&mut self) -> Option<(u16, Vec<u8>)> {
        let read = async {
            let mut head = [0; 6];
            self.stream.read_exact(&mut head).await.ok()?;
            assert_eq!(head[3], 0, "nothing here is so large that it is compressed");
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
            let mut body = vec![0; usize::try_from(length).unwrap() - 2];
            self.stream.read_exact(&mut body).await.unwrap();
            Some((u16::from_le_bytes([head[4], head[5]]), body))
        };
        timeout(PATIENCE, read).await.expect("in time")
    }

    /// The next of one kind.
    async fn next_of(&mut self, wanted: u16) -> Vec<u8> {
        loop {
            let (command, body) = self.next_raw().await.expect("not closed");
            if command == wanted {
                return body;
            }
        }
    }

    /// Everything up to the end of the connection.
    async fn rest(&mut self) -> Vec<(u16, Vec<u8>)> {
        let mut rest = Vec::new();
        while let Some(message) = self.next_raw().await {
            rest.push(message);
        }
        rest
    }

    async fn says(&mut self, command: u16, body: &[u8]) {
        self.stream.write_all(&message(command, body)).await.unwrap();
    }

    /// Where the own ball is, of those that moved.
    fn place(&self, scene: &[u8]) -> Option<(u64, u64)> {
        let scene = Fields::read(scene);
        let moves: Vec<_> = scene.all(1).into_iter().map(Fields::read).collect();
        let own = moves.iter().find(|moved| moved.number(1) == Some(self.ball))?;
        Some((own.number(2)?, own.number(3)?))
    }
}

/// The code of an error message.
fn code(error: &[u8]) -> Option<u64> {
    Fields::read(error).number(1)
}

#[tokio::test]
async fn a_client_of_mope_signs_in_gets_a_room_and_plays_over_tcp_and_udp() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let (guest, mut player) = Guest::plays(&town, "d-1").await;
    assert_eq!(
        Guest::sign_in(&town, "d-1").await.id,
        guest.id,
        "the same device is the same guest"
    );

    // It moves, first as told by the stream.
    let food = Fields::read(&player.next_of(SCENE_TCP).await);
    assert!(!food.all(2).is_empty(), "there is food");
    let before = player.next_of(SCENE_UDP).await;
    let mut east = Vec::new();
    put_number(&mut east, 1, 0);
    put_number(&mut east, 2, 100);
    player.says(MOVE, &east).await;
    let before = player.place(&before).unwrap();
    let moved = async {
        loop {
            let scene = player.next_of(SCENE_UDP).await;
            if player.place(&scene).is_some_and(|place| place.0 > before.0 + 20) {
                return;
            }
        }
    };
    timeout(PATIENCE, moved).await.expect("the ball goes east");

    // Then by datagrams, to whoever knows the key.
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.connect(&player.addr).await.unwrap();
    let bind = |key: &str| {
        let mut body = Vec::new();
        put_number(&mut body, 1, guest.id);
        put_text(&mut body, 2, key);
        message(BIND_SESSION, &body)
    };
    udp.send(&bind(&"x".repeat(player.key.len()))).await.unwrap();
    udp.send(b"nonsense").await.unwrap();
    let mut datagram = [0; 2048];
    let none = timeout(Duration::from_millis(200), udp.recv(&mut datagram)).await;
    assert!(none.is_err(), "who does not know the key hears nothing");
    udp.send(&bind(&player.key)).await.unwrap();
    let bytes = timeout(PATIENCE, udp.recv(&mut datagram)).await.expect("a datagram").unwrap();
    assert!(bytes <= 548);
    assert_eq!(u16::from_le_bytes([datagram[4], datagram[5]]), SCENE_UDP);

    // A heart beat comes back as it was; who leaves is told so.
    player.says(HEART_BEAT, b"\x08\x07").await;
    assert_eq!(player.next_of(HEART_BEAT).await, b"\x08\x07");
    player.says(CLOSE, &[]).await;
    assert_eq!(player.rest().await.last(), Some(&(CLOSE, Vec::new())));
    town.stop().await;
}

#[tokio::test]
async fn whoever_comes_a_second_time_takes_the_place_of_the_first_who_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let (guest, mut first) = Guest::plays(&town, "d-1").await;
    let (addr, key) = (first.addr.clone(), first.key.clone());
    let mut second = Player::enters(&addr, &key).await;
    let rest = first.rest().await;
    let (command, error) = rest.last().unwrap();
    assert_eq!((*command, code(error)), (ERROR, Some(21)));
    // And with another key.
    let (addr, key) = guest.room(&town).await;
    let mut third = Player::enters(&addr, &key).await;
    let rest = second.rest().await;
    let (command, error) = rest.last().unwrap();
    assert_eq!((*command, code(error)), (ERROR, Some(21)));
    third.next_of(SCENE_UDP).await;
    town.stop().await;
}

#[tokio::test]
async fn the_end_of_a_match_is_told_with_the_places_and_the_client_may_play_again() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let guest = Guest::sign_in(&town, "d-1").await;
    // A match that is over soon, as another client of the same account has it.
    let mut short = Client::connect(&town.gate()).await.unwrap();
    short.sign_in(&guest.cookie).await.unwrap();
    let options = [("seconds".to_owned(), "2".to_owned())].into();
    let kind = "arena".to_owned();
    let enter = msg::enter_room::Req { kind, options, ..Default::default() };
    let room = short.request(&enter).await.unwrap().room_id;
    let (addr, _) = guest.room(&town).await;
    let mut player = Player::enters(&addr, &format!("{room}.{}", guest.cookie)).await;
    let end = Fields::read(&player.next_of(END_ROOM).await);
    assert!(!end.all(1).is_empty(), "{end:?}");
    let (addr, key) = guest.room(&town).await;
    Player::enters(&addr, &key).await;
    town.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_login_is_told_in_the_clients_own_errors() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let guest = Guest::sign_in(&town, "d-1").await;
    let (addr, _) = guest.room(&town).await;
    for (key, expected) in [
        ("nonsense".to_owned(), 17),
        ("room.nonsense".to_owned(), 17),
        (format!("nosuchroom.{}", guest.cookie), 3),
    ] {
        let mut player = Player::connects(&addr, &key).await;
        assert_eq!(code(&player.next_of(ERROR).await), Some(expected), "{expected}");
    }
    let mut stream = TcpStream::connect(&addr).await.unwrap();
    // Whoever does not begin with a login is not heard; one that cannot be read is.
    stream.write_all(&message(HEART_BEAT, b"?")).await.unwrap();
    stream.write_all(&message(LOGIN, b"\xff")).await.unwrap();
    let mut player = Player { stream, addr: addr.clone(), key: String::new(), ball: 0 };
    assert_eq!(
        player.next_raw().await.map(|(command, body)| (command, code(&body))),
        Some((ERROR, Some(8)))
    );

    // What is too large is refused before it has come.
    let mut stream = TcpStream::connect(&addr).await.unwrap();
    stream.write_all(&[0xff, 0xff, 0xff, 0, 1, 0]).await.unwrap();
    let mut player = Player { stream, addr, key: String::new(), ball: 0 };
    let rest = player.rest().await;
    assert_eq!(
        rest.iter().map(|(command, body)| (*command, code(body))).collect::<Vec<_>>(),
        [(ERROR, Some(8))]
    );
    town.stop().await;
}

#[tokio::test]
async fn clients_of_both_kinds_come_in_by_one_port_and_nonsense_is_told_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let guest = Guest::sign_in(&town, "d-1").await;
    let (_, key) = guest.room(&town).await;
    let mut player = Player::enters(&town.gate(), &key).await;
    let other = Guest::sign_in(&town, "d-2").await;
    let mut frames = Client::connect(&town.gate()).await.unwrap();
    frames.sign_in(&other.cookie).await.unwrap();
    let echo = frames.request(&msg::echo::Req { val: Some(7), ct: None }).await.unwrap();
    assert_eq!(echo.val, Some(7));
    player.next_of(SCENE_UDP).await;

    let nameless = [&[9, 0, 0, 0][..], b"payload"].concat();
    let login_cut_short = login("a.b").split_off(1);
    for first in [&[2, 0][..], &nameless, &[4, 0, 0, 0], &[9, 0, 200, 0], &login_cut_short] {
        let mut stream = TcpStream::connect(town.gate()).await.unwrap();
        stream.write_all(first).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("closed").unwrap();
        let Ok(wire::Cut::Frame(frame)) = wire::cut(&answer, wire::FRAME_BYTES_MAX) else {
            panic!("{first:?}: {answer:?}")
        };
        assert_eq!(frame.api.as_str(), "msg.Error.Res");
        assert_eq!(
            Fields::read(frame.payload).number(1),
            u64::try_from(Code::PROTOCOL.0).ok(),
            "{first:?}"
        );
    }
    town.stop().await;
}
