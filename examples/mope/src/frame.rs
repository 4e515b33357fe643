//! Owns how a message lies on the wire: `length: u24 LE | flag: u8 | command: u16 LE | body`, where
//! `length` counts command and body, and a flag of 1 says that the body is compressed.

use std::{borrow::Cow, io::Read as _};

use bastide::{CodecCtx, Malformed};
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use prost::Message;

/// Bytes before the body.
pub(crate) const HEAD: usize = 6;

/// A body of so many bytes is compressed, if that makes it smaller.
const COMPRESSED_FROM: usize = 4096;

/// Largest body, once it is unpacked: what a client may send that has not signed in, and more than
/// any says. Beyond: no message.
const BODY_BYTES_MAX: usize = 4096;

/// What a message is; clients and room servers count in one.
pub(crate) mod command {
    pub(crate) const LOGIN: u16 = 1;
    pub(crate) const TOP: u16 = 2;
    pub(crate) const ADD_PLAYER: u16 = 3;
    pub(crate) const MOVE: u16 = 6;
    pub(crate) const RELIFE: u16 = 9;
    pub(crate) const DEATH: u16 = 10;
    pub(crate) const END_ROOM: u16 = 11;
    pub(crate) const PLAYER_ANIMAL: u16 = 14;
    pub(crate) const HEART_BEAT: u16 = 16;
    pub(crate) const CLOSE: u16 = 21;
    pub(crate) const ERROR: u16 = 25;
    pub(crate) const SCENE_TCP: u16 = 31;
    pub(crate) const SCENE_UDP: u16 = 32;
    pub(crate) const BIND_SESSION: u16 = 33;
}

/// One message, as it lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said<'a> {
    pub(crate) command: u16,
    packed: bool,
    body: &'a [u8],
    /// Bytes that it takes on the wire.
    pub(crate) taken: usize,
}

/// The first message of `bytes`; `None`: it has not all arrived.
pub(crate) fn read<'a>(bytes: &'a [u8], ctx: &CodecCtx) -> Result<Option<Said<'a>>, Malformed> {
    let &[a, b, c, flag, ref rest @ ..] = bytes else { return Ok(None) };
    let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    let body =
        length.checked_sub(2).ok_or(Malformed::new("the length has no room for a command"))?;
    if flag > 1 {
        return Err(Malformed::new("the flag is neither 0 nor 1"));
    }
    let whole = ctx.body(bytes, HEAD, body)?;
    let (&[d, e, ..], Some(body)) = (rest, whole) else { return Ok(None) };
    let command = u16::from_le_bytes([d, e]);
    Ok(Some(Said { command, packed: flag == 1, body, taken: HEAD + body.len() }))
}

impl Said<'_> {
    /// What it says, unpacked: only of who is looked at, for it is work.
    pub(crate) fn body(&self) -> Result<Cow<'_, [u8]>, Malformed> {
        if self.packed { unpacked(self.body).map(Cow::Owned) } else { Ok(Cow::Borrowed(self.body)) }
    }
}

fn unpacked(packed: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut body = Vec::new();
    let read = ZlibDecoder::new(packed).take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut body);
    match read {
        Ok(bytes) if bytes <= BODY_BYTES_MAX => Ok(body),
        Ok(_) => Err(Malformed::new("the body is too large once it is unpacked")),
        Err(_) => Err(Malformed::new("the body is not compressed with zlib")),
    }
}

/// Appends a message.
pub(crate) fn put(out: &mut Vec<u8>, command: u16, message: &impl Message) {
    put_body(out, command, &message.encode_to_vec());
}

/// The same for who does not unpack it.
pub(crate) fn put_plain(out: &mut Vec<u8>, command: u16, message: &impl Message) {
    put_as(out, 0, command, &message.encode_to_vec());
}

pub(crate) fn put_body(out: &mut Vec<u8>, command: u16, body: &[u8]) {
    let packed = (body.len() >= COMPRESSED_FROM).then(|| packed(body)).flatten();
    let (flag, body) = match &packed {
        Some(packed) => (1, packed.as_slice()),
        None => (0, body),
    };
    put_as(out, flag, command, body);
}

fn put_as(out: &mut Vec<u8>, flag: u8, command: u16, body: &[u8]) {
    // A body is at most what a frame of the game holds, 64 KiB.
    let length = u32::try_from(body.len() + 2).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&length[..3]);
    out.push(flag);
    out.extend_from_slice(&command.to_le_bytes());
    out.extend_from_slice(body);
}

/// `None`: it does not become smaller.
fn packed(body: &[u8]) -> Option<Vec<u8>> {
    use std::io::Write as _;
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(body).ok()?;
    packer.finish().ok().filter(|packed| packed.len() < body.len())
}

#[cfg(test)]
mod tests {
    use bastide::{Begins, Codec};
    use proptest::prelude::*;

    use super::*;
    use crate::{codec::Mope, proto::mope as proto};

    fn ctx() -> CodecCtx {
        CodecCtx::new(64 * 1024)
    }

    pub(crate) fn login(name: &str, key: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let login = proto::Login { name: name.to_owned(), key: key.to_owned() };
        put(&mut out, command::LOGIN, &login);
        out
    }

    #[test]
    fn a_message_lies_on_the_wire_as_its_clients_know_it() {
        let mut out = Vec::new();
        put_body(&mut out, command::HEART_BEAT, b"ab");
        assert_eq!(out, [4, 0, 0, 0, 16, 0, b'a', b'b']);
        let said = read(&out, &ctx()).expect("well-formed").expect("whole");
        assert_eq!((said.command, said.body, said.taken), (16, &b"ab"[..], 8));
    }

    #[test]
    fn what_is_no_message_is_refused_as_soon_as_it_shows() {
        let ctx = ctx();
        assert!(read(&[1, 0, 0, 0], &ctx).is_err(), "no room for a command");
        assert!(read(&[2, 0, 0, 2], &ctx).is_err(), "no such flag");
        assert!(read(&[0xff, 0xff, 0xff, 0], &ctx).is_err(), "too large");
        let not_packed = read(&[4, 0, 0, 1, 1, 0, 7, 7], &ctx).expect("a head").expect("whole");
        assert!(not_packed.body().is_err(), "not compressed");
        assert_eq!(read(&[4, 0, 0], &ctx), Ok(None));
        let bomb = packed(&vec![0; 10 * BODY_BYTES_MAX]).expect("smaller");
        let mut out = Vec::new();
        put_as(&mut out, 1, command::LOGIN, &bomb);
        let said = read(&out, &ctx).expect("a head").expect("whole");
        assert!(said.body().is_err(), "a bomb");
    }

    #[test]
    fn a_client_of_frames_is_never_taken_for_one_of_these() {
        for (name, payload) in [("msg.Login.Req", 400), ("a", 0), ("msg.Ping.Req", 2)] {
            let mut frame = Vec::new();
            bastide::wire::put(&mut frame, name, &vec![1; payload]).expect("fits");
            for bytes in 4..=frame.len() {
                assert_ne!(Mope::begins(&frame[..bytes]), Begins::Mine);
            }
        }
        // A frame without a name is two bytes short of such a message.
        let first = login("anna", "key");
        let mut nameless = first.clone();
        nameless.truncate(first.len() - 2);
        assert_eq!(Mope::begins(&nameless), Begins::Unsure);
        assert_eq!(Mope::begins(&first), Begins::Mine);
    }

    #[test]
    fn nor_is_a_client_of_numbered_envelopes() {
        // Its first field is a text or a number of a message.
        for tag in [0x0a, 0x10, 0x18, 0x22] {
            for rest in [0u8, 1, 36] {
                assert_eq!(Mope::begins(&[40, 0, 0, 0, tag, rest]), Begins::NotMine);
            }
        }
    }

    /// Of what a gate says, which may be larger than what it hears.
    fn inflated(packed: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        ZlibDecoder::new(packed).read_to_end(&mut body).expect("packed");
        body
    }

    proptest! {
        #[test]
        fn whatever_is_put_is_read(command: u16, body in prop::collection::vec(any::<u8>(), 0..9000)) {
            let mut out = Vec::new();
            put_body(&mut out, command, &body);
            let said = read(&out, &ctx()).expect("well-formed").expect("whole");
            prop_assert_eq!((said.command, said.taken), (command, out.len()));
            if said.packed {
                prop_assert_eq!(inflated(said.body), body);
            } else {
                prop_assert_eq!(said.body, &body);
            }
            prop_assert_eq!(read(&out[..out.len() - 1], &ctx()), Ok(None));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), flag in 0u8..3) {
            let _said = read(&bytes, &ctx());
            let _begins = Mope::begins(&bytes);
            let mut of_login = vec![u8::try_from(bytes.len() + 2).unwrap_or(9), 0, 0, flag, 1, 0];
            of_login.extend(bytes);
            let _begins = Mope::begins(&of_login);
        }

        #[test]
        fn a_login_is_known_whole_and_not_before(name in "\\PC{0,20}", key in "[a-z.]{0,40}") {
            let first = login(&name, &key);
            prop_assert_eq!(Mope::begins(&first), Begins::Mine);
            for bytes in 0..first.len() {
                prop_assert_eq!(Mope::begins(&first[..bytes]), Begins::Unsure);
            }
        }
    }
}
