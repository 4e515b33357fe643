//! Owns the bounds of clients that come over a WebSocket, or speak a studio's own codec.

use std::time::Duration;

/// Largest request that opens a WebSocket, in bytes: a token of 4 KiB, and what browsers add.
/// Beyond: 431.
pub(crate) const WS_HEAD_BYTES_MAX: usize = 8 * 1024;

/// How long a client may take to open its WebSocket. Beyond: closed.
pub(crate) const WS_HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Largest message of a WebSocket, in bytes, either way: the largest frame, and a little more.
/// Beyond: 1009, before its bytes arrive; what a gate has to say goes out in several.
pub(crate) const WS_MESSAGE_BYTES_MAX: usize = 68 * 1024;

/// Largest text of a client that has not signed in, in bytes: a token and its dress. Beyond: 1009.
pub(crate) const WS_TEXT_BYTES_BEFORE_SIGN_IN_MAX: usize = 8 * 1024;

/// How long a client that may speak frames can stay silent before it is greeted in text: a client
/// of the texts that waits for it is greeted within a second. Beyond: greeted.
pub(crate) const WS_SILENCE_BEFORE_GREETING: Duration = Duration::from_millis(900);

/// Bytes that wait for a client that pings and does not read. Beyond: no pong, and no more is
/// read of it until it does.
pub(crate) const WS_PONG_BYTES_WAITING_MAX: usize = 4096;

/// Answers to a client's pings and malformed texts that are under way. Beyond: no more texts are
/// taken until some are answered.
pub(crate) const WS_ANSWERS_WAITING_MAX: usize = 256;

/// How long a client may take, from its first byte on, to show which codec it speaks: those that
/// have one send all of their first message at once. Beyond: taken for one of frames.
pub(crate) const CODEC_FIRST_BYTES_PATIENCE: Duration = Duration::from_secs(1);

/// Pause between two looks at such a client's first bytes while too few have arrived. Beyond: the
/// next look.
pub(crate) const CODEC_FIRST_BYTES_PAUSE: Duration = Duration::from_millis(10);

/// Bytes that a codec tells its client at once: what one write takes. Beyond: written before more
/// is told.
pub(crate) const CODEC_OUT_BYTES: usize = 64 * 1024;

/// Largest datagram of a codec's client, either way: what every network carries whole. Beyond: it
/// goes by the stream; one that comes is dropped.
pub(crate) const CODEC_DATAGRAM_BYTES_MAX: usize = 548;

/// Datagrams of one client that wait for its connection: some 3 s of one that moves 20 times a
/// second. Beyond: dropped.
pub(crate) const CODEC_DATAGRAMS_WAITING_MAX: usize = 64;

/// Longest word with which a codec's client asks for datagrams, in bytes: it fits one of them.
/// Beyond: the client has none.
pub(crate) const CODEC_WORD_BYTES_MAX: usize = 512;
