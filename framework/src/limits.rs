//! Owns every bound that is not configuration: its unit, its reason, what happens beyond it.
//! The table in docs/ARCHITECTURE.md lists them; a test holds the two together.

use std::time::Duration;

use crate::wire::FRAME_BYTES_MAX;

/// Largest frame of a client that has not signed in, in bytes: a token and little else.
/// Beyond: 1008 and close, before the body arrives.
pub(crate) const FRAME_BYTES_BEFORE_SIGN_IN_MAX: usize = 4096;

/// Bytes that one read takes, into a buffer that a whole shard shares. Beyond: the next read.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Reads of one connection in a row. Beyond: the others of its shard have their turn.
pub(crate) const READS_PER_WAKE_MAX: usize = 8;

/// Bytes of write buffer that an idle connection keeps. Beyond: freed once it is written.
pub(crate) const WRITE_BYTES_KEPT_MAX: usize = 4096;

/// Batches that wait for one entity: a wake of its session each. More than the burst of 200
/// frames that a gate lets through by default, also if each comes in a packet of its own.
/// Beyond: refused, 1002.
pub(crate) const MAILBOX_BATCHES_MAX: usize = 256;

/// How often a sign-in tries to reach a player that is stopping just then. Beyond: 1002.
pub(crate) const ATTACH_TRIES_MAX: usize = 3;

/// Token check, placing and loading of a player, together: longer than a handler of the player's
/// older session may take, and than the store. Beyond: 1003.
pub(crate) const SIGN_IN_DEADLINE: Duration = Duration::from_secs(8);

/// Largest record of a user in the answer to a sign-in, in bytes: what a frame holds, less the
/// answer around it. Beyond: the sign-in is refused, 2003.
pub(crate) const USER_BYTES_MAX: usize = FRAME_BYTES_MAX - 1024;

/// How long after the entity should have answered the gate answers 1003 itself.
pub(crate) const GATE_DEADLINE_GRACE: Duration = Duration::from_secs(1);

/// How long a closing connection may take its last frame. Beyond: closed without it.
pub(crate) const CLOSE_LINGER: Duration = Duration::from_secs(1);

/// Bytes that are read off a closing connection, so that its last frame is not thrown away by
/// the client's system. Beyond: closed.
pub(crate) const CLOSE_DRAIN_BYTES_MAX: usize = 256 * 1024;

/// How long a question to a role may take. Beyond: 1003.
pub(crate) const ROLE_ASK_DEADLINE: Duration = Duration::from_secs(5);

/// Questions to one role, waiting and under way. Beyond: refused, 1002.
pub(crate) const ROLE_ASKS_MAX: usize = 1024;

/// Connections that the operating system keeps until they are accepted. Beyond: it refuses them.
pub(crate) const ACCEPT_QUEUE_MAX: i32 = 1024;

/// Largest body of an HTTP request, in bytes. Beyond: 413.
pub(crate) const HTTP_BODY_BYTES_MAX: usize = 64 * 1024;

/// How long one statement of the store may take. Beyond: the store counts as away, 101.
pub(crate) const STORE_DEADLINE: Duration = Duration::from_secs(3);

/// Passwords that wait to be hashed, at 19 MiB and some 15 ms each. Beyond: 1002.
pub(crate) const PASSWORDS_WAITING_MAX: usize = 256;

/// Entries of the in-process cache. Beyond: the entry that expires soonest goes.
pub(crate) const CACHE_ENTRIES_MAX: usize = 100_000;

/// How long one command to Redis may take, with finding a broken connection and making a new one.
/// Beyond: the cache counts as away, 101.
pub(crate) const CACHE_DEADLINE: Duration = Duration::from_secs(2);

const _: () = assert!(FRAME_BYTES_BEFORE_SIGN_IN_MAX <= FRAME_BYTES_MAX);
const _: () = assert!(READ_BYTES >= FRAME_BYTES_BEFORE_SIGN_IN_MAX);
// Who waits for the store waits longer than the store itself, and so hears why.
const _: () = assert!(STORE_DEADLINE.as_secs() < ROLE_ASK_DEADLINE.as_secs());
const _: () = assert!(STORE_DEADLINE.as_secs() < SIGN_IN_DEADLINE.as_secs());
const _: () = assert!(CACHE_DEADLINE.as_secs() < ROLE_ASK_DEADLINE.as_secs());
