//! Owns the WebSocket protocol's own frames: takes them apart where they lie, and heads ours.
//! Knows no socket; what a payload means is for `socket` and `json`. Headers are read and written
//! by tungstenite. No extension is agreed on, compression least of all: nothing unfolds.

use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{CloseCode, Control, Data, OpCode},
};

use crate::limits::WS_MESSAGE_BYTES_MAX;

/// The longest header: two bytes, eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;

/// The longest payload of a ping, pong or close.
const CONTROL_BYTES_MAX: u64 = 125;

/// Takes the frames of one client apart; keeps no payload but that of a control frame.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The beginning of a header whose rest has not arrived.
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: u8,
    frame: Under,
    /// Bytes of the frame's payload that are still to come.
    left: u32,
    mask: [u8; 4],
    /// The message under way, and its bytes so far, those announced among them.
    message: Option<Kind>,
    message_bytes: u32,
    /// The payload so far of a control frame.
    control: Vec<u8>,
}

/// What is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Under {
    /// Nothing, or part of a header.
    #[default]
    Header,
    Data {
        last: bool,
    },
    Ping,
    Pong,
    Close,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Binary,
}

/// What the bytes at hand begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Nothing whole; all of them were taken.
    More,
    /// The last `bytes` of those taken are unmasked bytes of a message; with `last` it is whole.
    Data {
        kind: Kind,
        bytes: usize,
        last: bool,
    },
    Ping(Vec<u8>),
    Pong,
    /// The client says goodbye; what it gave as the reason is given back.
    Close(Option<u16>),
}

/// Why the client's bytes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("not the WebSocket protocol")]
    Protocol,
    #[error("a message larger than allowed")]
    TooLarge,
    #[error("text that is not UTF-8")]
    NotUtf8,
    #[error("a kind of message that this connection does not speak")]
    Unsupported,
    #[error("too many messages that say nothing")]
    Noise,
}

impl Violation {
    pub(super) fn code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::Protocol,
            Self::TooLarge => CloseCode::Size,
            Self::NotUtf8 => CloseCode::Invalid,
            Self::Unsupported => CloseCode::Unsupported,
            Self::Noise => CloseCode::Policy,
        }
    }
}

impl Decoder {
    /// Takes from the front of `bytes`: how many, and what they are. The mask of what is taken is
    /// off. Call again with the rest.
    ///
    /// # Errors
    /// [`Violation`]: the connection cannot go on. A size is judged before its payload comes.
    pub(super) fn take(&mut self, bytes: &mut [u8]) -> Result<(usize, Piece), Violation> {
        let mut taken = 0;
        if self.frame == Under::Header {
            let Some(used) = self.header(bytes)? else { return Ok((bytes.len(), Piece::More)) };
            taken = used;
        }
        let here = (self.left as usize).min(bytes.len() - taken);
        let payload = &mut bytes[taken..taken + here];
        unmask(payload, &mut self.mask);
        self.left -= here as u32;
        taken += here;
        let whole = self.left == 0;
        if let Under::Data { last } = self.frame {
            let kind = self.message.unwrap_or(Kind::Binary);
            if here == 0 && !whole {
                return Ok((taken, Piece::More));
            }
            if whole {
                self.frame = Under::Header;
            }
            let last = last && whole;
            if last {
                self.message = None;
            }
            return Ok((taken, Piece::Data { kind, bytes: here, last }));
        }
        self.control.extend_from_slice(payload);
        Ok((taken, if whole { self.end_control()? } else { Piece::More }))
    }

    /// Reads a header; how many bytes of it were in `bytes`, `None` when it is not whole.
    fn header(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let before = usize::from(self.head_bytes);
        let (header, length, used) = if before == 0
            && let Some(whole) = parse(bytes)?
        {
            whole
        } else {
            let here = bytes.len().min(HEAD_BYTES_MAX - before);
            self.head[before..before + here].copy_from_slice(&bytes[..here]);
            match parse(&self.head[..before + here])? {
                Some((header, length, used)) => (header, length, used - before),
                None => {
                    self.head_bytes += here as u8;
                    return Ok(None);
                }
            }
        };
        self.head_bytes = 0;
        self.begin(&header, length)?;
        Ok(Some(used))
    }

    fn begin(&mut self, header: &FrameHeader, length: u64) -> Result<(), Violation> {
        let Some(mask) = header.mask else { return Err(Violation::Protocol) };
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::Protocol);
        }
        self.mask = mask;
        self.frame = match header.opcode {
            OpCode::Data(data) => {
                self.begin_data(data, length)?;
                Under::Data { last: header.is_final }
            }
            OpCode::Control(control) => {
                if length > CONTROL_BYTES_MAX || !header.is_final {
                    return Err(Violation::Protocol);
                }
                match control {
                    Control::Ping => Under::Ping,
                    Control::Pong => Under::Pong,
                    Control::Close => Under::Close,
                    Control::Reserved(_) => return Err(Violation::Protocol),
                }
            }
        };
        self.left = u32::try_from(length).map_err(|_| Violation::TooLarge)?;
        Ok(())
    }

    fn begin_data(&mut self, data: Data, length: u64) -> Result<(), Violation> {
        match (data, self.message) {
            (Data::Continue, Some(_)) => {}
            (Data::Text, None) => self.message = Some(Kind::Text),
            (Data::Binary, None) => self.message = Some(Kind::Binary),
            (Data::Continue, None)
            | (Data::Text | Data::Binary, Some(_))
            | (Data::Reserved(_), _) => {
                return Err(Violation::Protocol);
            }
        }
        if data != Data::Continue {
            self.message_bytes = 0;
        }
        let bytes = length.saturating_add(u64::from(self.message_bytes));
        if bytes > WS_MESSAGE_BYTES_MAX as u64 {
            return Err(Violation::TooLarge);
        }
        self.message_bytes = bytes as u32;
        Ok(())
    }

    fn end_control(&mut self) -> Result<Piece, Violation> {
        let payload = std::mem::take(&mut self.control);
        let frame = std::mem::take(&mut self.frame);
        Ok(match frame {
            Under::Ping => Piece::Ping(payload),
            Under::Close => Piece::Close(closing(&payload)?),
            Under::Pong | Under::Header | Under::Data { .. } => Piece::Pong,
        })
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, Violation> {
    let mut cursor = Cursor::new(bytes);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::Protocol)?;
    Ok(parsed.map(|(header, length)| (header, length, cursor.position() as usize)))
}

/// What a close frame says.
fn closing(payload: &[u8]) -> Result<Option<u16>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::Protocol),
        [a, b, reason @ ..] => {
            let code = u16::from_be_bytes([*a, *b]);
            if !CloseCode::from(code).is_allowed() {
                return Err(Violation::Protocol);
            }
            std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
            Ok(Some(code))
        }
    }
}

/// Takes the mask off, and turns it to where the next byte needs it.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let [a, b, c, d] = *mask;
    let eight = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ eight).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    mask.rotate_left(rest.len() % 4);
}

/// The header of a whole message of ours, and how many bytes of it count.
pub(super) fn header(opcode: OpCode, bytes: usize) -> ([u8; HEAD_BYTES_MAX], usize) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let mut head = [0; HEAD_BYTES_MAX];
    let mut rest = &mut head[..];
    header.format(bytes as u64, &mut rest).expect("no header is longer");
    let left = rest.len();
    (head, HEAD_BYTES_MAX - left)
}

pub(super) fn put_header(out: &mut Vec<u8>, opcode: OpCode, bytes: usize) {
    let (head, head_bytes) = header(opcode, bytes);
    out.extend_from_slice(&head[..head_bytes]);
}

/// A binary message as a client would send it; its mask changes nothing.
pub(super) fn as_message(payload: &[u8]) -> Vec<u8> {
    let opcode = OpCode::Data(Data::Binary);
    let header = FrameHeader { opcode, mask: Some([0; 4]), ..FrameHeader::default() };
    let mut out = Vec::new();
    header.format(payload.len() as u64, &mut out).expect("a Vec grows as needed");
    out.extend_from_slice(payload);
    out
}

/// Says goodbye.
pub(super) fn put_close(out: &mut Vec<u8>, code: Option<u16>) {
    put_header(out, OpCode::Control(Control::Close), if code.is_some() { 2 } else { 0 });
    out.extend(code.into_iter().flat_map(u16::to_be_bytes));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame of a client's; the first byte as it is on the wire.
    pub(in crate::gate::ws) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x11, 0x22, 0x33, 0x44];
        let mut out = vec![first];
        match payload.len() {
            n if n < 126 => out.push(0x80 | n as u8),
            n if n < 65_536 => {
                out.push(0x80 | 126);
                out.extend((n as u16).to_be_bytes());
            }
            n => {
                out.push(0x80 | 127);
                out.extend((n as u64).to_be_bytes());
            }
        }
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        out
    }

    /// Everything that the bytes say, whatever the pieces in which they come.
    fn say(bytes: &[u8], chunk: usize) -> Result<Vec<(String, Vec<u8>)>, Violation> {
        let (mut decoder, mut said, mut message) = (Decoder::default(), Vec::new(), Vec::new());
        for chunk in bytes.chunks(chunk) {
            let mut chunk = chunk.to_vec();
            let mut at = 0;
            while at < chunk.len() {
                let (taken, piece) = decoder.take(&mut chunk[at..])?;
                at += taken;
                match piece {
                    Piece::More => {}
                    Piece::Data { kind, bytes, last } => {
                        message.extend_from_slice(&chunk[at - bytes..at]);
                        if last {
                            said.push((format!("{kind:?}"), std::mem::take(&mut message)));
                        }
                    }
                    Piece::Ping(payload) => said.push(("Ping".to_owned(), payload)),
                    Piece::Pong => said.push(("Pong".to_owned(), Vec::new())),
                    Piece::Close(code) => said.push((format!("Close {code:?}"), Vec::new())),
                }
            }
        }
        Ok(said)
    }

    #[test]
    fn a_message_in_fragments_with_a_ping_between_is_one_message() {
        let bytes = [
            frame(0x01, b"he"),
            frame(0x89, b"p"),
            frame(0x00, b""),
            frame(0x80, b"llo"),
            frame(0x82, b""),
            frame(0x8a, b"?"),
            frame(0x88, &1000u16.to_be_bytes()),
        ]
        .concat();
        for chunk in 1..bytes.len() {
            let said = say(&bytes, chunk).expect("as it should be");
            let expected = [
                ("Ping".to_owned(), b"p".to_vec()),
                ("Text".to_owned(), b"hello".to_vec()),
                ("Binary".to_owned(), Vec::new()),
                ("Pong".to_owned(), Vec::new()),
                ("Close Some(1000)".to_owned(), Vec::new()),
            ];
            assert_eq!(said, expected, "{chunk}");
        }
    }

    #[test]
    fn each_breach_of_the_protocol_is_refused_by_its_name() {
        let mut unmasked = frame(0x82, b"");
        unmasked[1] = 0;
        let long_ping = frame(0x89, &[0; 126]);
        let close = |payload: &[u8]| frame(0x88, payload);
        for (bytes, expected) in [
            (unmasked, Violation::Protocol),
            (frame(0xc2, b""), Violation::Protocol),
            (frame(0xa2, b""), Violation::Protocol),
            (frame(0x92, b""), Violation::Protocol),
            (frame(0x83, b""), Violation::Protocol),
            (frame(0x8b, b""), Violation::Protocol),
            (frame(0x80, b""), Violation::Protocol),
            ([frame(0x02, b""), frame(0x82, b"")].concat(), Violation::Protocol),
            (frame(0x09, b""), Violation::Protocol),
            (long_ping, Violation::Protocol),
            (close(b"x"), Violation::Protocol),
            (close(&1005u16.to_be_bytes()), Violation::Protocol),
            (close(&999u16.to_be_bytes()), Violation::Protocol),
            (close(&[3, 232, 0xff]), Violation::NotUtf8),
            (frame(0x82, &vec![0; WS_MESSAGE_BYTES_MAX + 1]), Violation::TooLarge),
            (
                vec![0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0],
                Violation::TooLarge,
            ),
            (
                [frame(0x02, &vec![0; WS_MESSAGE_BYTES_MAX]), frame(0x80, b"x")].concat(),
                Violation::TooLarge,
            ),
        ] {
            assert_eq!(say(&bytes, 7), Err(expected), "{:?}", &bytes[..bytes.len().min(16)]);
        }
        assert!(say(&frame(0x82, &vec![0; WS_MESSAGE_BYTES_MAX]), 5000).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_a_control_frame(bytes in prop::collection::vec(any::<u8>(), 0..400), chunk in 1usize..64) {
            let mut decoder = Decoder::default();
            for chunk in bytes.chunks(chunk) {
                let (mut chunk, mut at) = (chunk.to_vec(), 0);
                while at < chunk.len() {
                    let Ok((taken, piece)) = decoder.take(&mut chunk[at..]) else { return Ok(()) };
                    if let Piece::Data { bytes, .. } = piece { prop_assert!(bytes <= taken) }
                    prop_assert!(taken > 0 && decoder.control.len() <= 125);
                    at += taken;
                }
            }
        }

        #[test]
        fn any_messages_in_any_chunks_arrive_as_they_were_sent(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8), chunk in 1usize..200) {
            let bytes: Vec<u8> = messages.iter().flat_map(|m| frame(0x82, m)).collect();
            let said = say(&bytes, chunk).expect("as it should be");
            let said: Vec<_> = said.into_iter().map(|(_, payload)| payload).collect();
            prop_assert_eq!(said, messages);
        }
    }
}
