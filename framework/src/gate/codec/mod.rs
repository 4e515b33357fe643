//! Owns what a studio writes for clients that speak another wire than frames: a codec turns what
//! such a client says into frames, and frames into what it understands. Leaves which connection is
//! whose to `first`, buffers to `translator`, sockets to `stream`, datagrams to `udp`.

mod first;
mod kind;
mod stream;
mod translator;
mod udp;

use std::fmt;

use crate::{
    Named,
    limits::FRAME_BYTES_BEFORE_SIGN_IN_MAX,
    wire::{Frame, FrameError, put, put_message},
};

pub use self::kind::CodecKind;
pub(crate) use self::kind::{AnyCodec, Codecs};
pub(super) use self::{first::Told, stream::Coded, translator::Translator, udp::Hub};

/// What one client's connection speaks, when it is not frames.
///
/// A codec is made for each connection and sees both ways of it: it may answer the client itself,
/// ask the game more than the client asked, and keep what it needs in between. The gate treats its
/// connection as any other: rates, limits, sign-in, deadlines and the end are the same.
///
/// Two methods are required. Neither may wait; what they are given is all there is.
pub trait Codec: Default + Send + Sync + 'static {
    /// Takes the first message of `bytes`, which a client sent. Says how many bytes it took; 0: it
    /// has not all arrived, and is shown again with more.
    ///
    /// [`CodecCtx::body`] says so, and refuses what is too large before it has arrived.
    ///
    /// # Errors
    /// When these bytes are no message and never become one: what was asked before is answered,
    /// the client told (1009, or 1008 when it is too large), and the connection closed.
    fn read(&mut self, bytes: &[u8], ctx: &mut CodecCtx) -> Result<usize, Malformed>;

    /// Tells the client what a frame says: an answer, in the order of what was asked, or a push.
    /// What means nothing to such a client is left out.
    fn write(&mut self, frame: &Frame<'_>, ctx: &mut CodecCtx);

    /// Whether a connection that begins with these bytes is of this codec, where clients of
    /// several kinds come in by one door. What begins as a frame is never asked about.
    ///
    /// Unless told otherwise: when [`Codec::read`] takes a message of them.
    fn begins(bytes: &[u8]) -> Begins {
        match Self::default().read(bytes, &mut CodecCtx::new(FRAME_BYTES_BEFORE_SIGN_IN_MAX)) {
            Ok(0) => Begins::Unsure,
            Ok(_) => Begins::Mine,
            Err(_) => Begins::NotMine,
        }
    }

    /// Takes a datagram of the client's, whole: an input, such as where it goes. What it asks and
    /// what it is answered is dropped, for it may come twice, or not at all.
    ///
    /// Unless told otherwise, as [`Codec::read`]: where that keeps what it awaits, a datagram must
    /// not.
    ///
    /// # Errors
    /// When it is none; it is dropped.
    fn read_datagram(&mut self, bytes: &[u8], ctx: &mut CodecCtx) -> Result<usize, Malformed> {
        self.read(bytes, ctx)
    }

    /// The word with which a datagram asks for its connection, when that is what it says: the
    /// sender's address then belongs to the connection that expects it ([`CodecCtx::expect`]).
    fn claims(datagram: &[u8]) -> Option<Vec<u8>> {
        let _ = datagram;
        None
    }
}

/// Whose a connection is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// This codec's.
    Mine,
    /// Not this codec's.
    NotMine,
    /// More bytes will tell.
    Unsure,
}

/// Why bytes are no message of a codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(FrameError);

impl Malformed {
    /// What is wrong with them, for the client's programmer.
    pub const fn new(why: &'static str) -> Self {
        Self(FrameError::Codec(why))
    }
}

impl From<FrameError> for Malformed {
    fn from(error: FrameError) -> Self {
        Self(error)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Malformed {}

/// A codec's two ways: towards the game, and towards its client.
pub struct CodecCtx {
    /// Frames for the gate.
    frames: Vec<u8>,
    /// Bytes for the client.
    out: Vec<u8>,
    /// Datagrams for the client; what cannot go so goes with `out`.
    loose: Vec<Vec<u8>>,
    /// Words that datagrams may come with.
    expected: Option<Vec<u8>>,
    bytes_max: usize,
    lives: bool,
}

impl CodecCtx {
    /// For a client that may send messages of so many bytes. The gate makes one for each
    /// connection; tests of a codec make their own.
    pub const fn new(bytes_max: usize) -> Self {
        Self {
            frames: Vec::new(),
            out: Vec::new(),
            loose: Vec::new(),
            expected: None,
            bytes_max,
            lives: false,
        }
    }

    /// The frames that were said to the game and that the gate has not taken yet.
    pub fn said(&self) -> &[u8] {
        &self.frames
    }

    /// Says a message to the game, as if a client of frames had sent it.
    ///
    /// # Errors
    /// When it does not fit a frame.
    pub fn say<M: Named>(&mut self, message: &M) -> Result<(), Malformed> {
        Ok(put_message(&mut self.frames, message)?)
    }

    /// The same with a payload that is encoded already; the name is one of messages.
    ///
    /// # Errors
    /// When it does not fit a frame.
    pub fn say_encoded(&mut self, api: &str, payload: &[u8]) -> Result<(), Malformed> {
        Ok(put(&mut self.frames, api, payload)?)
    }

    /// What is written to the client next: whole messages are appended.
    pub fn client(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Sends the client a message that may be lost or overtaken: as a datagram, where the client
    /// has asked for them and it fits into 548 bytes, else with [`CodecCtx::client`].
    pub fn client_loosely(&mut self, message: Vec<u8>) {
        self.loose.push(message);
    }

    /// A sign of life, as a ping is one: for clients that say nothing while they are told what
    /// happens. One that is gone shows by what it does not take in.
    pub const fn lives(&mut self) {
        self.lives = true;
    }

    /// Lets the client ask for datagrams with this word, which nobody else may know. A word before
    /// it is no good any more.
    pub fn expect(&mut self, word: Vec<u8>) {
        self.expected = Some(word);
    }

    /// The body of a message, once all of it has arrived: `bytes` begin with a head of `head`
    /// bytes, which says that `body` bytes follow.
    ///
    /// # Errors
    /// When the message is larger than its client may send: 4 KiB before it has signed in,
    /// `gate.frame_bytes_max` after.
    pub fn body<'a>(
        &self,
        bytes: &'a [u8],
        head: usize,
        body: usize,
    ) -> Result<Option<&'a [u8]>, Malformed> {
        let whole = head.saturating_add(body);
        if whole > self.bytes_max {
            return Err(FrameError::TooLarge { bytes: whole, bytes_max: self.bytes_max }.into());
        }
        Ok(bytes.get(head..whole))
    }
}

impl CodecCtx {
    /// Bytes for the client that are not taken.
    fn told(&self) -> usize {
        self.out.len() + self.loose.iter().map(Vec::len).sum::<usize>()
    }
}

impl fmt::Debug for CodecCtx {
    /// Without what is said: it may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodecCtx").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}

impl fmt::Debug for Translator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Translator").finish_non_exhaustive()
    }
}
