//! Owns what limits must hold against each other.

use super::*;

const _: () = assert!(ENTER_DEADLINE.as_secs() < ROLE_ASK_DEADLINE.as_secs());
const _: () = assert!(ROOM_OPEN_DEADLINE.as_secs() < ENTER_DEADLINE.as_secs());
// A room that is asked for again is still being opened.
const _: () = assert!(ENTER_DEADLINE.as_secs() < ROOM_OPENING_MAX.as_secs());
// Whoever waits for a match says so twice before it is forgotten.
const _: () = assert!(WISH_TOLD.as_secs() * 2 < MATCH_SILENCE_MAX.as_secs());
const _: () = assert!(ROOMS_SWEPT.as_secs() < ROOM_RECORD_TTL.as_secs() / 4);
const _: () = assert!(FRAME_BYTES_BEFORE_SIGN_IN_MAX <= FRAME_BYTES_MAX);
// Whoever checks a token knows each key before it signs.
const _: () = assert!(KEYS_READ.as_millis() * 2 < KEY_LEAD.as_millis());
const _: () = assert!(HANDSHAKES_PER_IP_MAX * 2 <= HANDSHAKES_MAX);
const _: () = assert!(QUIC_HANDSHAKES_UNPROVEN_MAX < HANDSHAKES_PER_IP_MAX);
const _: () = assert!(PROXY_HEADER_DEADLINE.as_secs() <= HANDSHAKE_DEADLINE.as_secs());
// Whoever asks the account center to end a session hears what came of it.
const _: () = assert!(END_PATIENCE.as_secs() < ROLE_ASK_DEADLINE.as_secs());
const _: () = assert!(ADMIT_DEADLINE.as_secs() < SIGN_IN_DEADLINE.as_secs());
// Whoever waits for a code hears that it was not sent.
const _: () = assert!(CODE_SEND_DEADLINE.as_secs() < ROLE_ASK_DEADLINE.as_secs());
const _: () = assert!(READ_BYTES >= FRAME_BYTES_BEFORE_SIGN_IN_MAX);
const _: () = assert!(CODEC_WORD_BYTES_MAX < CODEC_DATAGRAM_BYTES_MAX);
const _: () = assert!(WS_MESSAGE_BYTES_MAX > FRAME_BYTES_MAX);
// Who waits for the store waits longer than the store itself, and so hears why.
const _: () = assert!(STORE_DEADLINE.as_secs() < ROLE_ASK_DEADLINE.as_secs());
const _: () = assert!(CACHE_DEADLINE.as_secs() < ROLE_ASK_DEADLINE.as_secs());
const _: () = assert!(PLATFORM_DEADLINE.as_secs() < ROLE_ASK_DEADLINE.as_secs());
// A renewal that is under way when Redis comes back still finds it settling.
const _: () = assert!(CACHE_DEADLINE.as_secs() <= SETTLING_GRACE.as_secs());
const _: () = assert!(LINK_SILENCE_MAX.as_secs() < NODE_LEASE.as_secs());
const _: () = assert!(ATTACH_PATIENCE.as_secs() + 1 < SIGN_IN_DEADLINE.as_secs());
const _: () = assert!(STORE_DEADLINE.as_secs() < SIGN_IN_DEADLINE.as_secs());
// A node that waits for etcd is told of a frozen one by the deadline, not by the cut connection.
const _: () = assert!(ETCD_DEADLINE.as_secs() < ETCD_PROBE_INTERVAL.as_secs());
const _: () = assert!(ETCD_PROBE_INTERVAL.as_secs() > 5);
const _: () = assert!(ETCD_PAUSE_MIN.as_millis() < ETCD_PAUSE_MAX.as_millis());
// The server gives up before the caller does, and on a lock before it does on the statement.
const _: () = assert!(STORE_LOCK_DEADLINE.as_millis() < STORE_STATEMENT_DEADLINE.as_millis());
const _: () = assert!(STORE_STATEMENT_DEADLINE.as_millis() < STORE_DEADLINE.as_millis());
// A connection that is gone is noticed with time left to make another.
const _: () = assert!(STORE_CHECK_DEADLINE.as_millis() * 2 < STORE_DEADLINE.as_millis());
