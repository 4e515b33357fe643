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
