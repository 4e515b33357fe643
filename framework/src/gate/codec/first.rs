//! Owns whose a connection is where clients of several kinds come in by one door: its first bytes
//! tell. The rule, in this order:
//!
//! 1. Four bytes that can begin a frame do: `size` is 3 or more and within what may be sent before
//!    sign-in, `api_len` is 1 to 128 and fits. No codec takes a client of frames away.
//! 2. Else the codecs are asked, in the order of their registration: the first that knows the
//!    bytes as its own has the connection.
//! 3. Else, once no codec is unsure, or when a second has passed since the first byte: it is taken
//!    for a client of frames, and told what is wrong with them.

use std::sync::Arc;

use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Begins,
    kind::{AnyCodec, Codecs},
};
use crate::{
    limits::{CODEC_FIRST_BYTES_PATIENCE, CODEC_FIRST_BYTES_PAUSE, FRAME_BYTES_BEFORE_SIGN_IN_MAX},
    wire::{HEADER_BYTES, cut},
};

/// Whose a connection is.
#[derive(Clone, Debug)]
pub(in crate::gate) enum Told {
    /// A client of frames.
    Frames,
    /// A client of this codec.
    Codec(Arc<dyn AnyCodec>),
    /// More bytes will tell.
    NotYet,
}

impl Codecs {
    /// Whose a connection is that begins with these bytes.
    pub(in crate::gate) fn told(&self, bytes: &[u8]) -> Told {
        let head = &bytes[..bytes.len().min(HEADER_BYTES)];
        if cut(head, FRAME_BYTES_BEFORE_SIGN_IN_MAX).is_ok() {
            return if head.len() < HEADER_BYTES { Told::NotYet } else { Told::Frames };
        }
        let mut unsure = false;
        for codec in self.iter() {
            match codec.begins(bytes) {
                Begins::Mine => return Told::Codec(codec.clone()),
                Begins::NotMine => {}
                Begins::Unsure => unsure = true,
            }
        }
        let whole = bytes.len() >= FRAME_BYTES_BEFORE_SIGN_IN_MAX;
        if unsure && !whole { Told::NotYet } else { Told::Frames }
    }

    /// Looks at what a client sends first, without taking it; until `late`, when its time to sign
    /// in is over. `None`: it is one of frames, or it is too late, or it is gone, which whoever
    /// serves it will see.
    pub(in crate::gate) async fn peek(
        &self,
        socket: &TcpStream,
        late: Instant,
    ) -> Option<Arc<dyn AnyCodec>> {
        let mut bytes = vec![0; FRAME_BYTES_BEFORE_SIGN_IN_MAX];
        let (mut seen, mut until) = (0, late);
        loop {
            let arrived = match timeout_at(until, socket.peek(&mut bytes)).await {
                Ok(Ok(arrived)) if arrived > seen => arrived,
                // The same again: the socket tells that there are bytes, not that there are more.
                Ok(Ok(arrived)) if arrived > 0 && Instant::now() < until => {
                    sleep(CODEC_FIRST_BYTES_PAUSE).await;
                    continue;
                }
                _ => return None,
            };
            if seen == 0 {
                until = late.min(Instant::now() + CODEC_FIRST_BYTES_PATIENCE);
            }
            seen = arrived;
            match self.told(&bytes[..seen]) {
                Told::Frames => return None,
                Told::Codec(codec) => return Some(codec),
                Told::NotYet => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        gate::{Codec, CodecCtx, CodecKind, Malformed},
        wire::{Frame, put},
    };

    /// Would have everything.
    #[derive(Default)]
    struct Greedy;

    impl Codec for Greedy {
        fn read(&mut self, bytes: &[u8], _: &mut CodecCtx) -> Result<usize, Malformed> {
            Ok(bytes.len())
        }

        fn write(&mut self, _: &Frame<'_>, _: &mut CodecCtx) {}
    }

    /// Begins with `hi`.
    #[derive(Default)]
    struct Polite;

    impl Codec for Polite {
        fn read(&mut self, bytes: &[u8], _: &mut CodecCtx) -> Result<usize, Malformed> {
            match bytes {
                b"" | b"h" => Ok(0),
                [b'h', b'i', ..] => Ok(2),
                _ => Err(Malformed::new("not polite")),
            }
        }

        fn write(&mut self, _: &Frame<'_>, _: &mut CodecCtx) {}
    }

    fn codecs(greedy: bool) -> Codecs {
        let mut codecs = Codecs::default();
        codecs.add(Arc::new(CodecKind::<Polite>::new("polite")));
        if greedy {
            codecs.add(Arc::new(CodecKind::<Greedy>::new("greedy")));
        }
        codecs
    }

    /// The codec's name, `frames`, or nothing yet.
    fn told(codecs: &Codecs, bytes: &[u8]) -> &'static str {
        match codecs.told(bytes) {
            Told::Frames => "frames",
            Told::Codec(codec) => codec.name(),
            Told::NotYet => "",
        }
    }

    #[test]
    fn the_first_that_knows_the_bytes_has_the_connection() {
        let all = codecs(true);
        // `hi` begins a frame of 26,984 bytes, which a stranger may not send.
        assert_eq!(told(&all, b"hi"), "polite");
        assert_eq!(told(&all, b"ho"), "greedy");
        let polite = codecs(false);
        assert_eq!(
            (told(&polite, b"h"), told(&polite, b"hi"), told(&polite, b"ho")),
            ("", "polite", "frames")
        );
        // Bytes that no frame begins with, to the limits of its head.
        for head in
            [[2, 0, 1, 0], [9, 0, 0, 0], [9, 0, 8, 0], [0xff, 0, 129, 0], [0xff, 0x0f, 1, 0]]
        {
            assert_eq!(told(&all, &head), "greedy", "{head:?}");
            assert_eq!(told(&polite, &head), "frames", "{head:?}");
        }
        for head in [[3, 0, 1, 0], [9, 0, 7, 0], [0xff, 0, 128, 0], [0xfe, 0x0f, 1, 0]] {
            assert_eq!(told(&all, &head), "frames", "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn no_codec_takes_a_client_of_frames_away(name in "[A-Za-z0-9_.]{1,128}", payload in prop::collection::vec(any::<u8>(), 0..300), behind in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = Vec::new();
            put(&mut bytes, &name, &payload).expect("small");
            bytes.extend(behind);
            let codecs = codecs(true);
            for taken in HEADER_BYTES..=bytes.len() {
                prop_assert_eq!(told(&codecs, &bytes[..taken]), "frames");
            }
        }

        #[test]
        fn what_was_told_once_stays_so_whatever_comes_behind(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            for codecs in [codecs(true), codecs(false)] {
                let all: Vec<_> = (HEADER_BYTES..=bytes.len()).map(|taken| told(&codecs, &bytes[..taken])).collect();
                let first = all.iter().find(|told| !told.is_empty());
                prop_assert!(all.iter().skip_while(|told| told.is_empty()).all(|told| Some(told) == first));
            }
        }
    }
}
