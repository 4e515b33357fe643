//! Owns the bytes: `length: u32 LE | envelope`, where the length does not count itself; and what
//! tells a first envelope from anything else. Knows no meanings but which ids a client may say.

use bastide::{Begins, CodecCtx, Malformed};
use prost::{
    Message as _,
    encoding::{WireType, decode_key, decode_varint},
};

use crate::proto::{Message, MessageId};

/// Bytes before the envelope.
pub(crate) const HEAD_BYTES: usize = 4;

/// Longest clientId, in bytes: a UUID has 36, and each answer that is awaited keeps one. Beyond:
/// the connection ends (1009).
pub(crate) const CLIENT_ID_BYTES_MAX: usize = 128;

/// The largest first frame: what a gate takes of who has not signed in.
const FIRST_BYTES_MAX: usize = 4096;

/// The smallest first envelope: an id (2 bytes) and one more field (2 bytes or more).
const FIRST_BYTES_MIN: usize = 4;

/// The envelope at the front of `bytes`; `None` until it has all arrived. With how many bytes it
/// takes.
pub(crate) fn cut(bytes: &[u8], ctx: &CodecCtx) -> Result<Option<(Message, usize)>, Malformed> {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
    let Some(body) = ctx.body(bytes, HEAD_BYTES, length)? else { return Ok(None) };
    let envelope = Message::decode(body).map_err(|_| Malformed::new("not an envelope"))?;
    if envelope.client_id.len() > CLIENT_ID_BYTES_MAX {
        return Err(Malformed::new("a clientId of more than 128 bytes"));
    }
    Ok(Some((envelope, HEAD_BYTES + length)))
}

/// Appends an envelope for the client.
pub(crate) fn put(out: &mut Vec<u8>, envelope: &Message) {
    // What is said to a client comes from frames, each of 64 KiB at most.
    let length = u32::try_from(envelope.encoded_len()).unwrap_or_default();
    out.extend_from_slice(&length.to_le_bytes());
    // A Vec takes as much as there is.
    let _put: Result<(), prost::EncodeError> = envelope.encode(out);
}

/// Whether a connection that begins so is of these clients. Two other framings come in by the same
/// door: one whose length has 16 bits, which is never asked about while it is well formed, and one
/// of `u24 length | flag | u16 command`, whose body begins with 01 00, that is, with no field.
pub(crate) fn begins(bytes: &[u8]) -> Begins {
    if let Some(head) = bytes.first_chunk::<HEAD_BYTES>() {
        let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
        let first_tag = bytes.get(HEAD_BYTES);
        let is_tag = |tag: &u8| [0x0a, 0x10, 0x18, 0x22].contains(tag);
        if length < FIRST_BYTES_MIN || !first_tag.is_none_or(is_tag) {
            return Begins::NotMine;
        }
    }
    match cut(bytes, &CodecCtx::new(FIRST_BYTES_MAX)) {
        Ok(None) => Begins::Unsure,
        Ok(Some((envelope, taken))) if is_first(&envelope, &bytes[HEAD_BYTES..taken]) => {
            Begins::Mine
        }
        Ok(Some(_)) | Err(_) => Begins::NotMine,
    }
}

/// Whether clients ask with this id. With 0 they might, and none does: it is what an envelope
/// without an id has.
pub(crate) const fn is_request(id: MessageId) -> bool {
    use MessageId::{
        AuthRequest, CreateRoomRequest, DrawCardRequest, GameActionRequest, GetReadyRequest,
        GetRoomListRequest, GetUserInfoRequest, JoinRoomRequest, LeaveRoomRequest,
    };
    matches!(
        id,
        AuthRequest
            | GetUserInfoRequest
            | GetRoomListRequest
            | CreateRoomRequest
            | JoinRoomRequest
            | LeaveRoomRequest
            | DrawCardRequest
            | GetReadyRequest
            | GameActionRequest
    )
}

/// Whether an envelope is one that a client begins with, written as such clients write it: a
/// message that asks for something, and each field at most once.
fn is_first(envelope: &Message, body: &[u8]) -> bool {
    // An id that nobody knows is none that asks.
    is_request(envelope.id()) && has_only_its_fields(body).unwrap_or(false)
}

fn has_only_its_fields(mut body: &[u8]) -> Option<bool> {
    let mut seen = [false; 5];
    while !body.is_empty() {
        let (field, kind) = decode_key(&mut body).ok()?;
        let field = usize::try_from(field).ok()?;
        let seen = seen.get_mut(field)?;
        if std::mem::replace(seen, true) {
            return Some(false);
        }
        match (field, kind) {
            (1 | 4, WireType::LengthDelimited) => {
                let bytes = usize::try_from(decode_varint(&mut body).ok()?).ok()?;
                body = body.get(bytes..)?;
            }
            (2 | 3, WireType::Varint) => drop(decode_varint(&mut body).ok()?),
            _ => return Some(false),
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bastide::wire;
    use proptest::{collection::vec, prelude::*};

    fn framed(envelope: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, envelope);
        bytes
    }

    fn envelopes() -> impl Strategy<Value = Message> {
        (".{0,12}", any::<i32>(), 0..40_i32, vec(any::<u8>(), 0..60)).prop_map(
            |(client_id, msg_serial_no, id, data)| Message { client_id, msg_serial_no, id, data },
        )
    }

    /// As clients begin.
    fn first() -> Message {
        Message {
            client_id: "0a1b".to_owned(),
            msg_serial_no: 1,
            id: MessageId::AuthRequest.into(),
            data: vec![10, 1, b't'],
        }
    }

    #[test]
    fn a_first_envelope_is_known_by_its_last_byte_and_not_before() {
        let bytes = framed(&first());
        for end in 0..bytes.len() {
            assert_eq!(begins(&bytes[..end]), Begins::Unsure, "{end}");
        }
        assert_eq!(begins(&bytes), Begins::Mine);
        assert_eq!(begins(&[bytes.clone(), bytes].concat()), Begins::Mine);
    }

    #[test]
    fn what_asks_for_nothing_or_has_a_field_too_many_is_not_a_first_envelope() {
        for id in [0, 1, 3, 5, 14, 15, 22, 23, -2, i32::MAX] {
            assert_eq!(begins(&framed(&Message { id, ..first() })), Begins::NotMine, "{id}");
        }
        let body = first().encode_to_vec();
        for more in [&[0x28, 1][..], &[0x18, 2], &[0x0a, 1, b'x'], &[0x00], &[0x25, 1, 1, 1, 1]] {
            let body = [&body[..], more].concat();
            let bytes = [&(body.len() as u32).to_le_bytes()[..], &body].concat();
            assert_eq!(begins(&bytes), Begins::NotMine, "{more:?}");
        }
        let long = Message { client_id: "x".repeat(CLIENT_ID_BYTES_MAX + 1), ..first() };
        assert_eq!(begins(&framed(&long)), Begins::NotMine);
    }

    #[test]
    fn what_can_become_none_is_told_by_its_first_bytes() {
        for bytes in [
            &[0, 0, 0, 0][..],
            &[3, 0, 0, 0],
            &[0, 16, 0, 0],
            &[255, 255, 255, 255],
            &[20, 0, 0, 0, 0x01],
            &[20, 0, 0, 0, 0x08],
            b"GET ",
            &[22, 3, 1, 2],
        ] {
            assert_eq!(begins(bytes), Begins::NotMine, "{bytes:?}");
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_its_body_is_there() {
        let ctx = CodecCtx::new(100);
        let fits = [&96_u32.to_le_bytes()[..], &[0; 3]].concat();
        assert_eq!(cut(&fits, &ctx), Ok(None));
        assert!(cut(&97_u32.to_le_bytes(), &ctx).is_err());
        assert!(cut(&u32::MAX.to_le_bytes(), &ctx).is_err());
    }

    proptest! {
        #[test]
        fn an_envelope_is_read_as_it_was_written(
            envelope in envelopes(),
            behind in vec(any::<u8>(), 0..9),
        ) {
            let bytes = framed(&envelope);
            let ctx = CodecCtx::new(4096);
            for end in 0..bytes.len() {
                prop_assert_eq!(cut(&bytes[..end], &ctx), Ok(None));
            }
            let whole = bytes.len();
            let both = [bytes, behind].concat();
            prop_assert_eq!(cut(&both, &ctx), Ok(Some((envelope, whole))));
        }

        #[test]
        fn bytes_of_any_kind_are_judged_and_what_is_mine_can_be_read(
            bytes in vec(any::<u8>(), 0..80),
            length in 0..80_u32,
        ) {
            for bytes in [bytes.clone(), [&length.to_le_bytes()[..], &bytes].concat()] {
                let read = cut(&bytes, &CodecCtx::new(4096));
                match begins(&bytes) {
                    Begins::Mine => prop_assert!(matches!(read, Ok(Some(_)))),
                    Begins::Unsure => prop_assert_eq!(read, Ok(None)),
                    Begins::NotMine => {}
                }
            }
        }

        #[test]
        fn once_told_more_bytes_tell_the_same(bytes in vec(any::<u8>(), 0..60), cut_at in 0..60_usize) {
            let head = (bytes.len() as u32).to_le_bytes();
            let bytes = [&head[..], &bytes].concat();
            let before = begins(&bytes[..cut_at.min(bytes.len())]);
            if before != Begins::Unsure {
                prop_assert_eq!(begins(&bytes), before);
            }
        }

        #[test]
        fn a_named_frame_is_never_taken_for_an_envelope(
            name in "[A-Za-z0-9_.]{1,128}",
            payload in vec(any::<u8>(), 0..4000),
            end in any::<prop::sample::Index>(),
        ) {
            let mut frame = Vec::new();
            wire::put(&mut frame, &name, &payload).expect("it fits");
            prop_assert_ne!(begins(&frame), Begins::Mine);
            prop_assert_ne!(begins(&frame[..end.index(frame.len() + 1)]), Begins::Mine);
        }

        #[test]
        fn nor_is_a_named_frame_without_a_name_even_when_an_envelope_is_in_it(
            envelope in envelopes(),
            payload in vec(any::<u8>(), 0..60),
        ) {
            for payload in [payload, envelope.encode_to_vec(), framed(&envelope)] {
                // The size counts the two bytes of the name's length.
                let size = (payload.len() as u16 + 2).to_le_bytes();
                let frame = [&size[..], &[0, 0], &payload].concat();
                prop_assert_ne!(begins(&frame), Begins::Mine);
            }
        }

        #[test]
        fn nor_is_a_command_behind_a_length_of_24_bits(
            flag in 0..2_u8,
            payload in vec(any::<u8>(), 0..200),
            envelope in envelopes(),
        ) {
            for payload in [payload, envelope.encode_to_vec()] {
                let length = (payload.len() as u32 + 2).to_le_bytes();
                let frame = [&length[..3], &[flag, 1, 0], &payload].concat();
                prop_assert_eq!(begins(&frame), Begins::NotMine);
                prop_assert_eq!(begins(&frame[..5]), Begins::NotMine);
            }
        }
    }
}
