//! Owns the bounds of clients that speak a codec.

use std::time::Duration;

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
