//! Owns colyseus as a peer: its matchmaking over HTTP, its WebSocket, its room messages with
//! msgpack in them. One hop, one thread of JavaScript.

use std::{process::Command, sync::Arc};

use bastide_benches::{Guest, PAYLOAD_BYTES};
use tokio::net::TcpStream;

use crate::{
    node::Package,
    peer::{At, Front, Later, Peer, Taken, connect, read, send, unexpected},
};

const PACKAGE: Package = Package {
    folder: "colyseus",
    tell: &["@colyseus/core", "@colyseus/ws-transport", "ws", "msgpackr"],
    files: &[
        ("package.json", include_str!("colyseus/package.json")),
        ("package-lock.json", include_str!("colyseus/package-lock.json")),
        ("server.mjs", include_str!("colyseus/server.mjs")),
    ],
};

// What begins a message of a room: Protocol.mjs in @colyseus/shared-types.
const JOIN_ROOM: u8 = 10;
const ROOM_DATA: u8 = 13;

/// `ROOM_DATA | "echo" | string of 62 bytes`: with msgpack's header of two the payload is 64
/// bytes, as bastide's is with protobuf's.
const ECHO: [u8; 6 + PAYLOAD_BYTES] = {
    let mut message = [b'x'; 6 + PAYLOAD_BYTES];
    let head = [ROOM_DATA, 0xa4, b'e', b'c', b'h', b'o', 0xd9, PAYLOAD_BYTES as u8 - 2];
    message.split_at_mut(head.len()).0.copy_from_slice(&head);
    message
};

// Opcodes of WebSocket frames (RFC 6455, 5.2).
const BINARY: u8 = 2;
const PING: u8 = 9;
const PONG: u8 = 10;

pub(crate) struct Colyseus;

impl Peer for Colyseus {
    fn name(&self) -> &'static str {
        "colyseus"
    }

    fn install(&self) -> Result<String, String> {
        PACKAGE.install()
    }

    fn roles(&self) -> &'static [&'static str] {
        &["colyseus"]
    }

    fn program(&self, role: &str, announce: &str, _: &str) -> Option<Command> {
        (role == "colyseus").then(|| {
            let mut command = PACKAGE.node("server.mjs");
            command.arg(announce);
            command
        })
    }

    fn join(&'static self, at: Arc<At>, _: usize) -> Later<TcpStream> {
        Box::pin(async move {
            let mut matchmaker = Guest::new(&at.gate, &at.gate).await;
            let seat = matchmaker.post("/matchmake/joinOrCreate/echo", "", "").await;
            let seat = seat.map_err(|why| format!("no seat in a room: {why}"))?;
            let part = |name: &str| {
                seat[name].as_str().ok_or_else(|| format!("a seat without {name}: {seat}"))
            };
            let (process, room) = (part("processId")?, part("roomId")?);
            let mut socket = connect(&at).await?;
            let upgrade = format!(
                "GET /{process}/{room}?sessionId={} HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\n\
                 connection: Upgrade\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                part("sessionId")?,
                at.gate,
            );
            send(&mut socket, upgrade.as_bytes()).await?;
            let mut unread = Vec::new();
            let head = loop {
                read(&mut socket, &mut unread).await?;
                if let Some(end) = unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                    break unread.drain(..end + 4).collect::<Vec<_>>();
                }
            };
            if !head.starts_with(b"HTTP/1.1 101 ") {
                return Err(unexpected(&head));
            }
            // The room says how its state is read; a client that has understood says so.
            let (mut reply, mut joined) = (Vec::new(), false);
            while !joined || !unread.is_empty() {
                let Some((opcode, message, bytes)) = cut(&unread)? else {
                    read(&mut socket, &mut unread).await?;
                    continue;
                };
                match (opcode, message) {
                    (BINARY, [JOIN_ROOM, ..]) if !joined => {
                        put(&mut reply, BINARY, &[JOIN_ROOM]);
                        joined = true;
                    }
                    (PING, _) => put(&mut reply, PONG, message),
                    _ => return Err(unexpected(&unread)),
                }
                unread.drain(..bytes);
            }
            send(&mut socket, &reply).await?;
            Ok(socket)
        })
    }

    fn request(&self, _: usize, out: &mut Vec<u8>) {
        put(out, BINARY, &ECHO);
    }

    fn answers(&self, unread: &[u8], reply: &mut Vec<u8>) -> Result<Taken, String> {
        let mut taken = Taken::default();
        while let Some((opcode, message, bytes)) = cut(&unread[taken.bytes..])? {
            match opcode {
                BINARY if message == ECHO => taken.answers += 1,
                // Every three seconds; two without a pong, and the connection is closed.
                PING => put(reply, PONG, message),
                _ => return Err(unexpected(&unread[taken.bytes..][..bytes])),
            }
            taken.bytes += bytes;
        }
        Ok(taken)
    }
}

/// Appends a frame as a client must: masked, with a key that is not zero, for ws would see.
fn put(out: &mut Vec<u8>, opcode: u8, message: &[u8]) {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let size = u8::try_from(message.len()).ok().filter(|size| *size < 126);
    out.extend([0x80 | opcode, 0x80 | size.expect("ours are short")]);
    out.extend(KEY);
    out.extend(message.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// The first frame, if it is whole: its opcode, its message and its bytes.
fn cut(unread: &[u8]) -> Result<Option<Front<'_>>, String> {
    let [head, size, rest @ ..] = unread else { return Ok(None) };
    let (from, size) = match (size, rest) {
        (0..126, _) => (2, usize::from(*size)),
        (126, [high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        (126, _) => return Ok(None),
        _ => return Err(unexpected(unread)),
    };
    // Whole messages only: this server never sends one in pieces.
    let Some(opcode) = head.checked_sub(0x80) else { return Err(unexpected(unread)) };
    Ok(unread.get(from..from + size).map(|message| (opcode, message, from + size)))
}
