//! Owns the frame: `size: u16 LE | api_len: u16 LE | api | payload`, where `size` counts
//! everything after itself (origin: the seed's `docs/proto.md`, contract `wire` section 1).
//! Cuts frames out of a buffer without copying; appends frames to a buffer. Knows no sockets.

use bytes::BufMut;

use super::name::{ApiName, NAME_BYTES_MAX, NameError, check_bytes};
use crate::Named;

/// Largest frame that the format can carry, in bytes, its size field included.
pub const FRAME_BYTES_MAX: usize = 2 + u16::MAX as usize;

/// Bytes before the api name: the two length fields.
pub const HEADER_BYTES: usize = 4;

/// Smallest value of the size field: an api of one byte and no payload.
const SIZE_MIN: usize = 3;

/// One frame, borrowed from the buffer that it was cut from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub api: ApiName<'a>,
    /// The protobuf bytes; a gate never looks inside.
    pub payload: &'a [u8],
    /// The whole frame as it stood in the buffer, header included.
    pub bytes: &'a [u8],
}

/// What stands at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut<'a> {
    /// A whole frame; the next one begins `frame.bytes.len()` further on.
    Frame(Frame<'a>),
    /// Not all of it is there: the frame ends `bytes` bytes after the front, as far as is known.
    Partial {
        /// Bytes that the buffer must hold before it is worth cutting again.
        bytes: usize,
    },
}

/// Why the front of a buffer is not a frame. The connection cannot go on: where the next
/// frame begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is larger than allowed; told before its body arrives.
    #[error("frame of {bytes} bytes; {bytes_max} are allowed")]
    TooLarge {
        /// What the header announces, size field included.
        bytes: usize,
        /// What is allowed now.
        bytes_max: usize,
    },
    /// The size field leaves no room for a name.
    #[error("size field is {0}; the smallest frame has 3")]
    Size(usize),
    /// The name's length does not fit into the frame.
    #[error("api length {api_len} does not fit a size field of {size}")]
    ApiLength {
        /// The api length field.
        api_len: usize,
        /// The size field.
        size: usize,
    },
    /// The name is not an api name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What a client said in another codec is none of its messages.
    #[error("not a message: {0}")]
    Codec(&'static str),
}

/// Looks at the front of `buffer`. Every field is judged as soon as its bytes are there.
///
/// # Errors
/// [`FrameError`] when the bytes can never become a frame of at most `bytes_max` bytes.
#[inline]
pub fn cut(buffer: &[u8], bytes_max: usize) -> Result<Cut<'_>, FrameError> {
    let &[s0, s1, ref after_size @ ..] = buffer else {
        return Ok(Cut::Partial { bytes: HEADER_BYTES });
    };
    // Widened before any arithmetic: 65535 + 2 does not fit in 16 bits.
    let size = usize::from(u16::from_le_bytes([s0, s1]));
    if size < SIZE_MIN {
        return Err(FrameError::Size(size));
    }
    let bytes = 2 + size;
    if bytes > bytes_max {
        return Err(FrameError::TooLarge { bytes, bytes_max });
    }
    let &[a0, a1, ref body @ ..] = after_size else {
        return Ok(Cut::Partial { bytes });
    };
    let api_len = usize::from(u16::from_le_bytes([a0, a1]));
    if api_len == 0 || api_len > size - 2 || api_len > NAME_BYTES_MAX {
        return Err(FrameError::ApiLength { api_len, size });
    }
    match buffer.get(..bytes) {
        Some(frame) => {
            let (api, payload) = frame[HEADER_BYTES..].split_at(api_len);
            Ok(Cut::Frame(Frame { api: ApiName::parse(api)?, payload, bytes: frame }))
        }
        None => {
            check_bytes(&body[..body.len().min(api_len)])?;
            Ok(Cut::Partial { bytes })
        }
    }
}

/// Appends a frame with a ready payload.
///
/// # Errors
/// [`FrameError::TooLarge`] when name and payload do not fit into one frame; `out` is unchanged.
pub fn put(out: &mut Vec<u8>, api: &str, payload: &[u8]) -> Result<(), FrameError> {
    put_header(out, api, payload.len())?;
    out.extend_from_slice(payload);
    Ok(())
}

/// Appends a frame with the message encoded in place, without a buffer between.
///
/// # Errors
/// [`FrameError::TooLarge`] when the message does not fit into one frame; `out` is unchanged.
#[inline]
pub fn put_message<M: Named>(out: &mut Vec<u8>, message: &M) -> Result<(), FrameError> {
    put_named(out, M::NAME, message)
}

/// As [`put_message`], under a name of its own.
#[inline]
pub(crate) fn put_named(
    out: &mut Vec<u8>,
    api: &str,
    message: &impl prost::Message,
) -> Result<(), FrameError> {
    put_header(out, api, message.encoded_len())?;
    message.encode(out).expect("a Vec grows as needed");
    Ok(())
}

#[inline]
fn put_header(out: &mut Vec<u8>, api: &str, payload_bytes: usize) -> Result<(), FrameError> {
    debug_assert!(ApiName::parse(api.as_bytes()).is_ok(), "{api} is not an api name");
    let bytes = HEADER_BYTES + api.len() + payload_bytes;
    let (Ok(size), Ok(api_len)) = (u16::try_from(bytes - 2), u16::try_from(api.len())) else {
        return Err(FrameError::TooLarge { bytes, bytes_max: FRAME_BYTES_MAX });
    };
    out.reserve(bytes);
    out.put_u16_le(size);
    out.put_u16_le(api_len);
    out.extend_from_slice(api.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg;
    use proptest::prelude::*;

    /// The example of the contract: `msg.Echo.Req{val:7}`.
    const ECHO: [u8; 18] = [
        0x10, 0x00, 0x0c, 0x00, 0x6d, 0x73, 0x67, 0x2e, 0x45, 0x63, 0x68, 0x6f, 0x2e, 0x52, 0x65,
        0x71, 0x08, 0x07,
    ];

    fn whole(buffer: &[u8]) -> Frame<'_> {
        match cut(buffer, FRAME_BYTES_MAX).expect("a frame") {
            Cut::Frame(frame) => frame,
            Cut::Partial { bytes } => panic!("partial, wants {bytes}"),
        }
    }

    #[test]
    fn the_example_of_the_contract_is_cut_and_written_byte_for_byte() {
        let frame = whole(&ECHO);
        assert_eq!((frame.api.as_str(), frame.payload), ("msg.Echo.Req", &[8, 7][..]));

        let mut out = Vec::new();
        put_message(&mut out, &msg::echo::Req { val: Some(7), ct: None }).expect("fits");
        assert_eq!(out, ECHO);
    }

    #[test]
    fn a_bad_field_is_refused_as_soon_as_its_bytes_are_there() {
        let max = FRAME_BYTES_MAX;
        assert_eq!(cut(&[2, 0], max), Err(FrameError::Size(2)));
        assert_eq!(cut(&[9, 0, 0, 0], max), Err(FrameError::ApiLength { api_len: 0, size: 9 }));
        assert_eq!(cut(&[9, 0, 8, 0], max), Err(FrameError::ApiLength { api_len: 8, size: 9 }));
        assert_eq!(
            cut(&[0xff, 0, 129, 0], max),
            Err(FrameError::ApiLength { api_len: 129, size: 255 })
        );
        assert_eq!(
            cut(&[9, 0, 7, 0, b'a', b' '], max),
            Err(FrameError::Name(NameError::Byte(b' ')))
        );
        assert_eq!(cut(&[9, 0, 7, 0, b'a'], max), Ok(Cut::Partial { bytes: 11 }));
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_by_its_first_two_bytes() {
        let announced = 4095u16.to_le_bytes();
        assert_eq!(
            cut(&announced, 4096),
            Err(FrameError::TooLarge { bytes: 4097, bytes_max: 4096 })
        );
        assert!(matches!(cut(&4094u16.to_le_bytes(), 4096), Ok(Cut::Partial { bytes: 4096 })));
    }

    #[test]
    fn the_largest_frame_of_the_format_goes_through() {
        let payload = vec![7; usize::from(u16::MAX) - 2 - 5];
        let mut out = Vec::new();
        put(&mut out, "a.Req", &payload).expect("fits exactly");
        assert_eq!(out.len(), FRAME_BYTES_MAX);
        assert_eq!(whole(&out).payload, payload);

        let too_large = vec![7; payload.len() + 1];
        assert!(matches!(put(&mut out, "a.Req", &too_large), Err(FrameError::TooLarge { .. })));
        assert_eq!(out.len(), FRAME_BYTES_MAX, "a refused frame leaves nothing behind");
    }

    fn frames() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
        let one = ("[A-Za-z0-9_.]{1,128}", prop::collection::vec(any::<u8>(), 0..300));
        prop::collection::vec(one, 0..12)
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(frames in frames(), chunks in prop::collection::vec(1usize..64, 1..40)) {
            let mut stream = Vec::new();
            for (api, payload) in &frames {
                put(&mut stream, api, payload).expect("fits");
            }
            let (mut buffer, mut seen, mut rest) = (Vec::new(), Vec::new(), &stream[..]);
            for chunk in chunks.iter().cycle() {
                let (now, later) = rest.split_at((*chunk).min(rest.len()));
                buffer.extend_from_slice(now);
                rest = later;
                while let Cut::Frame(frame) = cut(&buffer, FRAME_BYTES_MAX).expect("valid") {
                    seen.push((frame.api.as_str().to_owned(), frame.payload.to_vec()));
                    let used = frame.bytes.len();
                    buffer.drain(..used);
                }
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn any_bytes_are_a_frame_a_part_or_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), max in 5usize..70_000) {
            match cut(&bytes, max) {
                Ok(Cut::Frame(frame)) => {
                    prop_assert!(frame.bytes.len() <= max);
                    prop_assert_eq!(frame.bytes, &bytes[..frame.bytes.len()]);
                }
                Ok(Cut::Partial { bytes: wanted }) => prop_assert!(wanted > bytes.len()),
                Err(_) => {}
            }
        }

        #[test]
        fn a_verdict_on_a_part_holds_for_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
            let part = &bytes[..at.min(bytes.len())];
            if cut(part, 4096).is_err() {
                prop_assert!(cut(&bytes, 4096).is_err());
            }
        }
    }
}
