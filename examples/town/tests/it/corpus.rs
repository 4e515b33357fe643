//! What strangers may send: the messages of every kind of client, whole, cut, bent and mixed, by
//! every door. The town says no, and goes on.

use std::{fs, time::Duration};

use bastide::{
    client::{Client, guest},
    msg, wire,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use crate::town::Town;

/// Messages made of the corpus.
const CASES: u64 = 600;

/// Connections at a time.
const AT_ONCE: u64 = 24;

/// How long one is listened to.
const LISTENED: Duration = Duration::from_millis(40);

/// A small generator, the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }
}

fn frame<M: bastide::Named>(message: &M) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_message(&mut out, message).unwrap();
    out
}

fn envelope(id: u8, data: &[u8]) -> Vec<u8> {
    let client = b"6f1c9a52-0000-4000-8000-5f6b7a8c9d0e";
    let head = [&[0x0a, 36][..], client, &[0x10, 1, 0x18, id, 0x22, data.len() as u8]].concat();
    let length = u32::try_from(head.len() + data.len()).unwrap().to_le_bytes();
    [&length[..], &head, data].concat()
}

fn command(command: u16, flag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 2).unwrap().to_le_bytes();
    [&length[..3], &[flag], &command.to_le_bytes(), body].concat()
}

/// Messages of every wire that a gate knows, good ones first.
fn corpus(token: &str) -> Vec<Vec<u8>> {
    let login = msg::login::Req { token: token.to_owned(), ..Default::default() };
    let text =
        |field: u8, text: &str| [&[field << 3 | 2, text.len() as u8], text.as_bytes()].concat();
    vec![
        frame(&login),
        frame(&msg::ping::Req { ct: 7, received: 0 }),
        frame(&msg::echo::Req { val: Some(7), ct: None }),
        frame(&msg::join_room::Req { ticket: vec![7; 16], name: "x".to_owned() }),
        frame(&msg::resume::Req { resume_token: vec![7; 32], received: 1 }),
        envelope(2, &text(1, "nonsense")),
        envelope(4, &[8, 7]),
        envelope(8, &text(1, "a room")),
        envelope(16, &[8, 7, 16, 1]),
        envelope(200, b"?"),
        command(1, 0, &[text(1, "anna"), text(2, "room.token")].concat()),
        command(1, 1, b"\x78\x9c\x03\x00\x00\x00\x00\x01"),
        command(16, 0, b"\x08\x07"),
        command(6, 0, &[8, 90, 16, 100]),
        command(33, 0, &[&[8, 7][..], &text(2, "room.token")].concat()),
        command(21, 0, &[]),
        b"GET /ws HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        vec![0; 8],
        vec![0xff; 8],
    ]
}

/// One or a few of them, bent.
fn bent(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + dice.below(4) {
        bytes.extend(&corpus[dice.below(corpus.len())]);
    }
    for _ in 0..dice.below(5) {
        let at = dice.below(bytes.len());
        match dice.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, dice.next() as u8),
            2 if !bytes.is_empty() => bytes[at] = dice.next() as u8,
            _ if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            _ => {}
        }
    }
    bytes
}

/// A client's frame of the WebSocket protocol.
fn masked(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0x82, 0x80 | 126][..], &length, &[0; 4], payload].concat()
}

async fn send(addr: &str, websocket: bool, bytes: &[u8], mut dice: Dice) {
    let Ok(mut stream) = TcpStream::connect(addr).await else { return };
    if websocket {
        let open = "GET /ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(open.as_bytes()).await.unwrap();
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(1 + dice.below(200)));
        let piece = if websocket { masked(piece) } else { piece.to_vec() };
        // It may have said no already.
        if stream.write_all(&piece).await.is_err() {
            return;
        }
        rest = behind;
    }
    let mut answer = Vec::new();
    let _closed = timeout(LISTENED, stream.read_to_end(&mut answer)).await;
}

#[tokio::test]
async fn whatever_is_made_of_what_clients_say_the_town_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let signed_in = guest(&town.http(), "good").await.unwrap();
    let mut good = Client::connect(&town.gate()).await.unwrap();
    good.sign_in(&signed_in.token).await.unwrap();

    let other = guest(&town.http(), "other").await.unwrap().token;
    let corpus = corpus(&other);
    let at = |pointer: &str| town.addresses.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let doors = [
        (at("/gate_tcp"), false),
        (at("/codecs/jigger/tcp"), false),
        (at("/codecs/mope/tcp"), false),
        (at("/gate_ws"), true),
    ];
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.connect(at("/codecs/mope/udp")).await.unwrap();
    let mut under_way = JoinSet::new();
    for case in 0..CASES {
        let mut dice = Dice(case << 32);
        let bytes = bent(&corpus, &mut dice);
        let datagram = &bytes[..bytes.len().min(1000)];
        // A door that is closed would be told here.
        udp.send(datagram).await.unwrap();
        let (addr, websocket) = doors[dice.below(doors.len())].clone();
        under_way.spawn(async move { send(&addr, websocket, &bytes, dice).await });
        if case >= AT_ONCE {
            under_way.join_next().await.unwrap().unwrap();
        }
        if case % 100 == 0 {
            let answer = good.request(&msg::echo::Req { val: Some(7), ct: None }).await.unwrap();
            assert_eq!(answer.val, Some(7));
        }
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap();
    }
    let answer = good.request(&msg::echo::Req { val: Some(8), ct: None }).await.unwrap();
    assert_eq!(answer.val, Some(8));
    let log = fs::read_to_string(town.log()).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    town.stop().await;
}
