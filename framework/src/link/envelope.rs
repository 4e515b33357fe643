//! Owns what two nodes say to each other over a link: `len: u32 LE | kind: u8 | body`, where `len`
//! counts what comes after itself. Batches travel as they are, everything else as protobuf.

use super::{Batch, ConnectionId, Frames};
use crate::{limits::ENVELOPE_BYTES_MAX, proto::link as proto};

const LEN_BYTES: usize = 4;
const CONNECTION_BYTES: usize = 8;
const DEADLINE_BYTES: usize = 4;

/// One thing said over a link. A gate says what stands above [`Envelope::Attached`], a game
/// server what stands below.
#[derive(Debug)]
pub(super) enum Envelope<'a> {
    /// Who is there; the first envelope, both ways.
    Hello(proto::Hello),
    /// Nothing to say, but alive.
    Alive,
    Attach(proto::Attach),
    /// What a session had to say in one wake, and how many ms the gate waits for the answers.
    Requests(ConnectionId, u32, Frames<'a>),
    /// The connection is gone, or asks for nothing more here.
    Detach(ConnectionId),
    /// Whether the connection takes in less than it is told.
    Blocked(ConnectionId, bool),
    Ask(proto::Ask),
    Attached(proto::Attached),
    /// What an entity has for a session.
    Deliver(ConnectionId, Frames<'a>),
    Kick(proto::Kick),
    /// The player goes to another node; it is saved and free.
    Leaving(ConnectionId),
    /// Requests that were not begun when the player left.
    GiveBack(ConnectionId, Frames<'a>),
    /// Nothing more comes for this session.
    Detached(ConnectionId),
    Answer(proto::Answer),
}

/// Bytes that are no envelope: the peer is not one of ours, or is broken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Garbage(pub(super) &'static str);

impl<'a> Envelope<'a> {
    /// Appends it.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; LEN_BYTES]);
        out.push(self.kind());
        match self {
            Self::Hello(m) => encode(m, out),
            Self::Alive => {}
            Self::Attach(m) => encode(m, out),
            Self::Requests(connection, deadline_ms, frames) => {
                out.extend_from_slice(&connection.0.to_le_bytes());
                out.extend_from_slice(&deadline_ms.to_le_bytes());
                out.extend_from_slice(frames.0);
            }
            Self::Deliver(connection, frames) | Self::GiveBack(connection, frames) => {
                out.extend_from_slice(&connection.0.to_le_bytes());
                out.extend_from_slice(frames.0);
            }
            Self::Detach(connection) | Self::Leaving(connection) | Self::Detached(connection) => {
                out.extend_from_slice(&connection.0.to_le_bytes());
            }
            Self::Blocked(connection, blocked) => {
                out.extend_from_slice(&connection.0.to_le_bytes());
                out.push(u8::from(*blocked));
            }
            Self::Ask(m) => encode(m, out),
            Self::Attached(m) => encode(m, out),
            Self::Kick(m) => encode(m, out),
            Self::Answer(m) => encode(m, out),
        }
        let len = u32::try_from(out.len() - at - LEN_BYTES).expect("far below the limit");
        out[at..at + LEN_BYTES].copy_from_slice(&len.to_le_bytes());
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => 1,
            Self::Alive => 2,
            Self::Attach(_) => 3,
            Self::Requests(..) => 4,
            Self::Detach(_) => 5,
            Self::Ask(_) => 6,
            Self::Attached(_) => 7,
            Self::Deliver(..) => 8,
            Self::Kick(_) => 9,
            Self::Leaving(_) => 10,
            Self::GiveBack(..) => 11,
            Self::Detached(_) => 12,
            Self::Answer(_) => 13,
            Self::Blocked(..) => 14,
        }
    }

    /// The first envelope in `bytes` and how many bytes it takes; `None` while it is not whole.
    ///
    /// # Errors
    /// [`Garbage`], as soon as the offending field is there.
    #[inline]
    pub(super) fn cut(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, Garbage> {
        let Some((len, rest)) = bytes.split_first_chunk::<LEN_BYTES>() else { return Ok(None) };
        let len = u32::from_le_bytes(*len) as usize;
        if len == 0 || len > ENVELOPE_BYTES_MAX {
            return Err(Garbage("an envelope of an impossible length"));
        }
        let Some(envelope) = rest.get(..len) else { return Ok(None) };
        Ok(Some((Self::parse(envelope[0], &envelope[1..])?, LEN_BYTES + len)))
    }

    fn parse(kind: u8, body: &'a [u8]) -> Result<Self, Garbage> {
        Ok(match kind {
            1 => Self::Hello(decode(body)?),
            2 => Self::Alive,
            3 => Self::Attach(decode(body)?),
            4 => {
                let (connection, rest) = connection(body)?;
                let (deadline, frames) = rest.split_first_chunk::<DEADLINE_BYTES>().ok_or(SHORT)?;
                Self::Requests(connection, u32::from_le_bytes(*deadline), Frames(frames))
            }
            5 => Self::Detach(alone(body)?),
            6 => Self::Ask(decode(body)?),
            7 => Self::Attached(decode(body)?),
            8 => connection(body)
                .map(|(connection, frames)| Self::Deliver(connection, Frames(frames)))?,
            9 => Self::Kick(decode(body)?),
            10 => Self::Leaving(alone(body)?),
            11 => connection(body)
                .map(|(connection, frames)| Self::GiveBack(connection, Frames(frames)))?,
            12 => Self::Detached(alone(body)?),
            13 => Self::Answer(decode(body)?),
            14 => match connection(body)? {
                (connection, [blocked]) => Self::Blocked(connection, *blocked != 0),
                _ => return Err(SHORT),
            },
            _ => return Err(Garbage("an envelope of an unknown kind")),
        })
    }
}

const SHORT: Garbage = Garbage("an envelope that is too short");

fn connection(body: &[u8]) -> Result<(ConnectionId, &[u8]), Garbage> {
    let (connection, rest) = body.split_first_chunk::<CONNECTION_BYTES>().ok_or(SHORT)?;
    Ok((ConnectionId(u64::from_le_bytes(*connection)), rest))
}

fn alone(body: &[u8]) -> Result<ConnectionId, Garbage> {
    match connection(body)? {
        (connection, []) => Ok(connection),
        _ => Err(Garbage("an envelope that is too long")),
    }
}

fn encode(message: &impl prost::Message, out: &mut Vec<u8>) {
    message.encode(out).expect("a Vec grows");
}

fn decode<M: prost::Message + Default>(body: &[u8]) -> Result<M, Garbage> {
    M::decode(body).map_err(|_| Garbage("an envelope that cannot be decoded"))
}

/// Calls for each piece of a batch that fits into an envelope: nearly always the whole.
#[inline]
pub(super) fn pieces(batch: &Batch, mut call: impl FnMut(Frames<'_>)) {
    const PIECE_BYTES_MAX: usize = ENVELOPE_BYTES_MAX - 64;
    let mut rest = batch.frames();
    while !rest.0.is_empty() {
        let piece;
        (piece, rest) = rest.split(PIECE_BYTES_MAX);
        call(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(bytes: &[u8]) -> Vec<String> {
        let (mut rest, mut seen) = (bytes, Vec::new());
        while let Ok(Some((envelope, len))) = Envelope::cut(rest) {
            seen.push(format!("{envelope:?}"));
            rest = &rest[len..];
        }
        seen
    }

    #[test]
    fn every_kind_comes_out_as_it_went_in() {
        let (connection, frames) = (ConnectionId(7), Frames(b"frames"));
        let all = [
            Envelope::Hello(proto::Hello { protocol: 1, ..Default::default() }),
            Envelope::Alive,
            Envelope::Attach(proto::Attach { call: 9, ..Default::default() }),
            Envelope::Requests(connection, 5000, frames),
            Envelope::Detach(connection),
            Envelope::Blocked(connection, true),
            Envelope::Ask(proto::Ask { api: "a.Req".into(), ..Default::default() }),
            Envelope::Attached(proto::Attached { code: 1001, ..Default::default() }),
            Envelope::Deliver(connection, frames),
            Envelope::Kick(proto::Kick { reason: "r".into(), ..Default::default() }),
            Envelope::Leaving(connection),
            Envelope::GiveBack(connection, frames),
            Envelope::Detached(connection),
            Envelope::Answer(proto::Answer { payload: vec![1], ..Default::default() }),
        ];
        let mut bytes = Vec::new();
        for envelope in &all {
            envelope.put(&mut bytes);
        }
        assert_eq!(shown(&bytes), all.iter().map(|e| format!("{e:?}")).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_envelope_is_told_at_its_first_bytes() {
        let http = Envelope::cut(b"GET / HTTP/1.1\r\n").map(drop);
        assert_eq!(http, Err(Garbage("an envelope of an impossible length")));
        assert!(Envelope::cut(&[0, 0, 0, 0]).is_err());
        assert!(Envelope::cut(&[1, 0, 0, 0, 99]).is_err());
        assert!(Envelope::cut(&[3, 0, 0, 0, 5, 1, 2]).is_err());
        assert!(Envelope::cut(&[3, 0, 0]).is_ok_and(|e| e.is_none()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _whatever = Envelope::cut(&bytes).map(drop);
        }
    }
}
