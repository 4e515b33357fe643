//! Owns pinus as a peer: pomelo's packages over TCP, requests with an id and a route, JSON in
//! them. The handler is in the connector, or in a backend server behind it.

use std::{process::Command, sync::Arc};

use bastide_benches::PAYLOAD_BYTES;
use tokio::net::TcpStream;

use crate::{
    node::Package,
    peer::{At, Front, Later, Peer, Taken, connect, read, send, unexpected},
};

const ECHO_JS: &str = include_str!("pinus/echo.js");

const PACKAGE: Package = Package {
    folder: "pinus",
    tell: &["pinus", "pinus-rpc", "pinus-protocol"],
    files: &[
        ("package.json", include_str!("pinus/package.json")),
        ("package-lock.json", include_str!("pinus/package-lock.json")),
        ("server.js", include_str!("pinus/server.js")),
        ("config/log4js.json", include_str!("pinus/config/log4js.json")),
        ("config/master.json", include_str!("pinus/config/master.json")),
        ("config/servers.json", include_str!("pinus/config/servers.json")),
        ("app/servers/connector/handler/echo.js", ECHO_JS),
        ("app/servers/backend/handler/echo.js", ECHO_JS),
    ],
};

// Types of packages: protocol.js in pinus-protocol.
const HANDSHAKE: u8 = 1;
const HANDSHAKE_ACK: u8 = 2;
const DATA: u8 = 4;

// Flags of messages: the type, shifted by one.
const REQUEST: u8 = 0;
const RESPONSE: u8 = 2 << 1;

/// `{"data":"…"}` of 64 bytes; the answer is the same.
const ECHO: [u8; PAYLOAD_BYTES] = {
    let mut body = [b'x'; PAYLOAD_BYTES];
    body.split_at_mut(9).0.copy_from_slice(br#"{"data":""#);
    body.split_at_mut(PAYLOAD_BYTES - 2).1.copy_from_slice(br#""}"#);
    body
};

pub(crate) enum Pinus {
    Connector,
    Backend,
}

impl Peer for Pinus {
    fn name(&self) -> &'static str {
        match self {
            Self::Connector => "pinus",
            Self::Backend => "pinus-backend",
        }
    }

    fn install(&self) -> Result<String, String> {
        PACKAGE.install()
    }

    fn roles(&self) -> &'static [&'static str] {
        match self {
            Self::Connector => &["pinus-master", "pinus-connector"],
            Self::Backend => &["pinus-master", "pinus-backend", "pinus-connector"],
        }
    }

    fn program(&self, role: &str, announce: &str, master: &str) -> Option<Command> {
        let role = role.strip_prefix("pinus-")?;
        let mut command = PACKAGE.node("server.js");
        command.args([role, announce, master]);
        Some(command)
    }

    fn join(&'static self, at: Arc<At>, _: usize) -> Later<TcpStream> {
        Box::pin(async move {
            let mut socket = connect(&at).await?;
            let mut hello = Vec::new();
            put(&mut hello, HANDSHAKE, &[br#"{"sys":{"type":"bench","version":"1"}}"#]);
            send(&mut socket, &hello).await?;
            let mut unread = Vec::new();
            let (kind, body, bytes) = loop {
                read(&mut socket, &mut unread).await?;
                if let Some(package) = cut(&unread) {
                    break package;
                }
            };
            let answer = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
            // A heartbeat that both sides answer at once has no end: this server wants none.
            let fine = answer["code"] == 200 && answer["sys"]["heartbeat"].is_null();
            if kind != HANDSHAKE || bytes < unread.len() || !fine {
                return Err(unexpected(&unread));
            }
            let mut ack = Vec::new();
            put(&mut ack, HANDSHAKE_ACK, &[]);
            send(&mut socket, &ack).await?;
            Ok(socket)
        })
    }

    fn request(&self, nth: usize, out: &mut Vec<u8>) {
        let route: &[u8] = match self {
            Self::Connector => b"connector.echo.echo",
            Self::Backend => b"backend.echo.echo",
        };
        // Seven bits a byte, the lowest first, and always two bytes; 0 would be no id.
        let id = [0x80 | (nth % 128) as u8, 1 + (nth / 128 % 127) as u8];
        put(out, DATA, &[&[REQUEST], &id, &[route.len() as u8], route, &ECHO]);
    }

    fn answers(&self, unread: &[u8], _: &mut Vec<u8>) -> Result<Taken, String> {
        let mut taken = Taken::default();
        while let Some((kind, message, bytes)) = cut(&unread[taken.bytes..]) {
            match (kind, message) {
                (DATA, [RESPONSE, 0x80..=0xff, 1..0x80, body @ ..]) if *body == ECHO => {
                    taken.answers += 1;
                }
                _ => return Err(unexpected(&unread[taken.bytes..][..bytes])),
            }
            taken.bytes += bytes;
        }
        Ok(taken)
    }
}

/// Appends a package: its type, the bytes of its body in three, the body in parts.
fn put(out: &mut Vec<u8>, kind: u8, body: &[&[u8]]) {
    let size = body.iter().map(|part| part.len()).sum::<usize>();
    out.extend([kind, (size >> 16) as u8, (size >> 8) as u8, size as u8]);
    out.extend(body.iter().copied().flatten());
}

/// The first package, if it is whole: its type, its body and its bytes.
fn cut(unread: &[u8]) -> Option<Front<'_>> {
    let [kind, high, middle, low, rest @ ..] = unread else { return None };
    let size = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
    Some((*kind, rest.get(..size)?, 4 + size))
}
