//! Owns every bound that is not configuration: its unit, its reason, what happens beyond it.
//! The table in docs/ARCHITECTURE.md lists them; a test holds the two together.

mod codecs;
mod http;
mod order;

use std::time::Duration;

pub(crate) use self::{codecs::*, http::*};
use crate::wire::FRAME_BYTES_MAX;

/// Largest frame of a client that has not signed in, in bytes: a token and little else.
/// Beyond: 1008 and close, before the body arrives.
pub(crate) const FRAME_BYTES_BEFORE_SIGN_IN_MAX: usize = 4096;

/// Bytes that wait for a client that has not signed in: what may be said to all frames of one
/// read, for anybody can be such a client, thousands of times. Beyond: closed, 2008.
pub(crate) const OUTBOX_BYTES_BEFORE_SIGN_IN_MAX: usize = 256 * 1024;

/// Bytes that one read takes, into a buffer that a whole shard shares. Beyond: the next read.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Reads of one connection in a row. Beyond: the others of its shard have their turn.
pub(crate) const READS_PER_WAKE_MAX: usize = 8;

/// Envelopes that a link hands on in a row: what players at rest are asked is done at once, some
/// 0.5 ms for so many. Beyond: the others of its shard have their turn.
pub(crate) const ENVELOPES_PER_WAKE_MAX: usize = 512;

/// Buffers that a thread has at hand, of batches and of what is written to clients: as many as one read of a link brings at a depth of
/// 32. Beyond: freed.
pub(crate) const SPARE_BUFFERS_MAX: usize = 64;

/// Bytes that each of them has at most. Beyond: freed.
pub(crate) const SPARE_BYTES_MAX: usize = 16 * 1024;

/// Batches that wait for one entity: a wake of its session each. More than the burst of 200
/// frames that a gate lets through by default, also if each comes in a packet of its own.
/// Beyond: refused, 1002.
pub(crate) const MAILBOX_BATCHES_MAX: usize = 256;

/// Bytes of the batches that wait for one entity: sixteen of the largest frames. Beyond: refused,
/// 1002.
pub(crate) const MAILBOX_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of such refusals that wait behind them, some 80 each. Beyond: the connection is closed
/// (1002); its session may go on over another.
pub(crate) const MAILBOX_REFUSED_BYTES_MAX: usize = 1024 * 1024;

/// Mail that an entity takes in a row. Beyond: the others of its shard have their turn.
pub(crate) const MAIL_PER_TURN_MAX: usize = 32;

/// Bytes that a room has said to one member and its player has not heard yet: the player may be at
/// a handler that waits. Beyond: the seat is lost, 2008.
pub(crate) const ROOM_INBOX_BYTES_MAX: usize = 256 * 1024;

/// How long a player looks for a room that was lost out of sight, beyond the lease of the node
/// that had it: as long as it may take to come back elsewhere where many do, and all are busy.
/// Beyond: 3007.
pub(crate) const ROOM_SEARCH_GRACE: Duration = Duration::from_secs(20);

/// Pause between two looks for such a room. Beyond: the next look.
pub(crate) const ROOM_SEARCH_RETRY: Duration = Duration::from_millis(250);

/// How often a player that waits to be matched says so. The room center forgets who does not.
pub(crate) const WISH_TOLD: Duration = Duration::from_secs(3);

/// How long a player waits to be matched. Beyond: it is told 1003, and may ask again.
pub(crate) const WISH_MAX: Duration = Duration::from_secs(600);

/// How often a sign-in tries to reach a player that is stopping just then. Beyond: 1002.
pub(crate) const ATTACH_TRIES_MAX: usize = 3;

/// Looks for a session on its way to another node. Beyond: 2004.
pub(crate) const LOOKS_FOR_CARRIED: usize = 4;

/// How long a sign-in waits for a node that goes away or has just gone, within its deadline.
/// Beyond: 1001 or 2007, and the client tries again.
pub(crate) const ATTACH_PATIENCE: Duration = Duration::from_secs(6);

/// Pause between two looks: the first, doubled up to the second.
pub(crate) const ATTACH_RETRY: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(500));

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

/// How long the TLS or QUIC handshake of a client may take: a slow phone on a bad network needs
/// two or three seconds. Beyond: closed.
pub(crate) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Handshakes and PROXY headers of a gate under way: some 10 KiB each, and a fifth of a
/// millisecond of a core. Beyond: closed.
pub(crate) const HANDSHAKES_MAX: usize = 4096;

/// Of these, from one address, or one IPv6 network of 64 bits: half-open ones from one place
/// leave room for the others. At a tenth of a second each, 5000 a second. Beyond: closed.
pub(crate) const HANDSHAKES_PER_IP_MAX: usize = 512;

/// Handshakes under way at which a QUIC client must first show that it is where it says it is,
/// for one round trip more. Beyond: asked to.
pub(crate) const QUIC_HANDSHAKES_UNPROVEN_MAX: usize = 64;

/// Bytes that TLS keeps for a client that does not read: one record. Beyond: the outbox waits.
pub(crate) const TLS_WRITE_BYTES_MAX: usize = 16 * 1024;

/// How long a load balancer may take to say whose connection it brings; it says so in its first
/// packet. Beyond: closed.
pub(crate) const PROXY_HEADER_DEADLINE: Duration = Duration::from_secs(5);

/// Largest PROXY header, in bytes: addresses, and what else a load balancer tells of TLS.
/// Beyond: closed.
pub(crate) const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// Bytes of a QUIC client's stream that wait to be read. Beyond: the client waits.
pub(crate) const QUIC_READ_BYTES_MAX: u32 = 64 * 1024;

/// Bytes sent to a QUIC client that it has not confirmed: over a tenth of a second of way, more
/// than a megabyte a second. Beyond: the outbox waits.
pub(crate) const QUIC_WRITE_BYTES_MAX: u64 = 128 * 1024;

/// Bytes of datagrams of one QUIC client that wait, each way. Beyond: the oldest are dropped.
pub(crate) const QUIC_DATAGRAM_BYTES_MAX: usize = 32 * 1024;

/// QUIC clients that wait to be looked at, which takes microseconds. Beyond: the system's refusal.
pub(crate) const QUIC_ARRIVALS_MAX: usize = 1024;

/// Bytes that are kept of such a client until then: its first packets. Beyond: dropped, and sent
/// again by the client.
pub(crate) const QUIC_ARRIVAL_BYTES_MAX: u64 = 8 * 1024;

/// Largest first word of a QUIC client in its handshake, in bytes: as much as TLS has in one record,
/// and some ten times what clients say. Beyond: closed.
pub(crate) const QUIC_HELLO_BYTES_MAX: usize = 16 * 1024;

/// Bytes of one client over TCP that the operating system keeps each way; Linux takes twice as
/// much. Beyond: the client waits, or the outbox.
pub(crate) const CLIENT_SOCKET_BYTES: usize = 128 * 1024;

/// Bytes of packets of all QUIC clients that the operating system keeps until they are read; it
/// may grant less. Beyond: packets are dropped, and sent again.
pub(crate) const QUIC_SOCKET_BYTES: usize = 4 * 1024 * 1024;

/// How often the files of the gate's certificate are looked at. A new pair is taken once it has
/// been the same twice, so that a half written one is not.
pub(crate) const CERTIFICATE_LOOKED_AT: Duration = Duration::from_secs(1);

/// How long a question to a role may take. Beyond: 1003.
pub(crate) const ROLE_ASK_DEADLINE: Duration = Duration::from_secs(5);

/// Questions to one role, waiting and under way. Beyond: refused, 1002.
pub(crate) const ROLE_ASKS_MAX: usize = 1024;

/// How long a player that does nothing keeps the actor that runs it, some 6 KiB. Then: it lies with
/// its mailbox, and its next message has another made.
pub(crate) const REST_AFTER: Duration = Duration::from_secs(1);

/// Bytes of what was said to a client that are kept for a resume whatever else a node keeps.
/// Beyond: from the room that all sessions of a node share (`session.replay_bytes_total_max`).
pub(crate) const REPLAY_BYTES_FREE: usize = 16 * 1024;

/// Bytes of it while the client has never told how much it received, but takes in what it is told:
/// the largest frame, and some. A thousand busy ones of 256 KiB each took a third more of a core
/// per message, for what is written in turn is in no cache. Beyond: the oldest goes, and a resume
/// that needs it is refused, 2004.
pub(crate) const REPLAY_BYTES_SILENT_MAX: usize = 68 * 1024;

/// The same while it does not take that in, or is away.
pub(crate) const REPLAY_BYTES_BEHIND_MAX: usize = 256 * 1024;

/// Bytes of it that stay allocated when the client has received everything. Beyond: freed.
pub(crate) const REPLAY_BYTES_KEPT: usize = 4 * 1024;

/// Bytes of it that go along when a player moves to another node: it travels through Redis.
/// Beyond: the oldest goes, and a resume that needs it is refused, 2004.
pub(crate) const REPLAY_BYTES_CARRIED_MAX: usize = 256 * 1024;

/// Bytes that a client has not taken in, of which its player is told: it keeps back what may be
/// replaced or dropped.
pub(crate) const BLOCKED_BYTES: usize = 32 * 1024;

/// Bytes of frames that wait to travel beside the stream, or that a player keeps back while its
/// client does not take them in. Beyond: the oldest is dropped, and counted.
pub(crate) const LOOSE_BYTES_MAX: usize = 64 * 1024;

/// Datagrams of one connection in a row. Beyond: the others of its shard have their turn.
pub(crate) const DATAGRAMS_PER_WAKE_MAX: usize = 64;

/// How long a client may take in nothing while three quarters of its outbox wait for it, and it is
/// not read. Beyond: kicked, 2008.
pub(crate) const STUCK_MAX: Duration = Duration::from_secs(5);

/// How often a connection may fail to sign in or to resume. Beyond: closed.
pub(crate) const SIGN_IN_TRIES_MAX: u32 = 10;

/// How long a client waits for each refusal of a sign-in or resume but the first: to look at a
/// signature takes a tenth of a millisecond of a core, which a flood would have whole.
pub(crate) const SIGN_IN_FAILED_PAUSE: Duration = Duration::from_millis(100);

/// Of all clients of a gate that failed more than once, one goes on in so much time: they get a
/// fiftieth of a core between them, and never all at once.
pub(crate) const SIGN_IN_FAILED_TURN: Duration = Duration::from_millis(5);

/// Connections that the operating system keeps until they are accepted. Beyond: it refuses them.
pub(crate) const ACCEPT_QUEUE_MAX: i32 = 1024;

/// How long one statement of the store may take. Beyond: the store counts as away, 101.
pub(crate) const STORE_DEADLINE: Duration = Duration::from_secs(3);

/// Connections to a PostgreSQL, of one node. Each is a process of the server, which has 100 for
/// all by default: six nodes fit. A statement takes about a millisecond, so 16 carry more than
/// ten thousand a second. Beyond: the statement waits, within [`STORE_DEADLINE`].
pub(crate) const STORE_CONNECTIONS_MAX: u32 = 16;

/// How long PostgreSQL itself lets a statement run: it gives up first, says why, and the
/// connection stays good. Beyond: 101.
pub(crate) const STORE_STATEMENT_DEADLINE: Duration = Duration::from_millis(2500);

/// How long a statement may wait for a row that another holds. Beyond: 101, with that reason.
pub(crate) const STORE_LOCK_DEADLINE: Duration = Duration::from_secs(2);

/// How long a connection of the pool may take to say that it is there: 500 times what it takes
/// in one data centre, and short enough that a new one can be made in the rest of
/// [`STORE_DEADLINE`]. Beyond: closed.
pub(crate) const STORE_CHECK_DEADLINE: Duration = Duration::from_millis(500);

/// How long a start may bring the tables up to date, or wait for another node that does. Beyond:
/// the store counts as away.
pub(crate) const STORE_MIGRATIONS_DEADLINE: Duration = Duration::from_secs(60);

/// Passwords that wait to be hashed, some 15 ms each. Beyond: 1002.
pub(crate) const PASSWORDS_WAITING_MAX: usize = 256;

/// How long one waits for its turn. Beyond: 1002, with nothing done, rather than 1003.
pub(crate) const PASSWORD_WAIT_MAX: Duration = Duration::from_secs(3);

/// How far the time of a signature may be from ours, either way: clocks of platforms go wrong by
/// minutes. Beyond: refused, 201.
pub(crate) const SIGNATURE_AGE_MAX: Duration = Duration::from_secs(300);

/// How long a platform may take to say whether a key is good. Beyond: refused, 201.
pub(crate) const PLATFORM_DEADLINE: Duration = Duration::from_secs(3);

/// Questions to it that are under way, each with a connection. Beyond: refused, 1002.
pub(crate) const PLATFORM_ASKS_MAX: usize = 256;

/// Bytes of its answer: a hundred times what it has to say. Beyond: refused, 201.
pub(crate) const PLATFORM_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Entries of the in-process cache, and once more as many records of rooms, which make room for
/// nothing. Beyond: the entry that expires soonest goes; a record is refused, 1002.
pub(crate) const CACHE_ENTRIES_MAX: usize = 100_000;

/// Claims that one script in Redis touches, at some microseconds each: it serves nobody else
/// meanwhile. Beyond: another script.
pub(crate) const CLAIMS_PER_SCRIPT_MAX: usize = 500;

/// How much longer than a lease the owners have to say again what they own, after Redis lost its
/// data: time to be told, and to ask twice. Beyond: what nobody claimed is free.
pub(crate) const SETTLING_GRACE: Duration = Duration::from_secs(2);

/// How long Redis knows that an incarnation is dead: no process hangs that long and then goes on.
/// Beyond: its epochs are stale all the same, and the store refuses them.
pub(crate) const DEAD_INCARNATION_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a node that is not heard of still counts as running what it claims: its registration
/// in etcd, and its lease in Redis. Renewed at a third. Beyond: others may take over.
pub(crate) const NODE_LEASE: Duration = Duration::from_secs(10);

/// How often a node says how much it has to do.
pub(crate) const LOAD_TOLD: Duration = Duration::from_secs(2);

/// Bytes of one envelope between nodes: a wake of one session, or of one entity. A larger batch
/// travels in several. Beyond: the peer is not one of ours, and is cut off.
pub(crate) const ENVELOPE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that wait for one peer node: what a gate of 10,000 sessions says in a second at the
/// default rate. Beyond: requests are refused (1002); when it is an answer that finds no place,
/// the link is cut.
pub(crate) const LINK_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of write buffer that a quiet link keeps. Beyond: freed once it is written.
pub(crate) const LINK_BYTES_KEPT_MAX: usize = 1024 * 1024;

/// Bytes that one read of a link takes. Beyond: the next read.
pub(crate) const LINK_READ_BYTES: usize = 256 * 1024;

/// After this long without anything else a node tells its peer that it is alive.
pub(crate) const LINK_ALIVE: Duration = Duration::from_secs(2);

/// Nothing heard for so long: the peer is frozen or cut off; the link is given up, and with it
/// its sessions. Less than the lease, so that nobody waits for who may not answer any more.
pub(crate) const LINK_SILENCE_MAX: Duration = Duration::from_secs(8);

/// Connecting, TLS and hello together. Beyond: closed; a peer counts as unreachable.
pub(crate) const LINK_HELLO_DEADLINE: Duration = Duration::from_secs(3);

/// Connections to the link's port that have not said hello. Beyond: closed at accept.
pub(crate) const LINK_STRANGERS_MAX: usize = 64;

/// Pause after a peer could not be reached: doubled from the first to the second, with jitter.
/// Meanwhile whoever needs it is told so at once.
pub(crate) const LINK_RETRY: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(5));

/// Sign-ins and questions under way over one link. Beyond: refused, 1002.
pub(crate) const LINK_CALLS_MAX: usize = 4096;

/// How long a player that has moved away passes on what still comes for it. Beyond: it is gone.
pub(crate) const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

/// How long one question to etcd may take. Beyond: it counts as away, and is asked again.
pub(crate) const ETCD_DEADLINE: Duration = Duration::from_secs(3);

/// How often an idle connection to etcd is tried; its server cuts who asks within 5 s. Beyond:
/// the next try.
pub(crate) const ETCD_PROBE_INTERVAL: Duration = Duration::from_secs(6);

/// How long etcd may take to answer such a try: with the interval, a frozen etcd is noticed
/// after 8 s. Beyond: the connection is cut and made anew.
pub(crate) const ETCD_PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// The first pause before etcd is asked again; each one after it is twice as long. Beyond: longer.
pub(crate) const ETCD_PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest such pause, so that a town is whole soon after etcd is. Beyond: no longer.
pub(crate) const ETCD_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Largest answer of etcd, in bytes: all nodes at some 10 KB each, so some thousands. Beyond:
/// etcd counts as away, and the nodes known before stay.
pub(crate) const ETCD_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a node that stops may take to say so in etcd. Beyond: its lease runs out.
pub(crate) const DEREGISTER_DEADLINE: Duration = Duration::from_secs(1);
/// How long one command to Redis may take, with finding a broken connection and making a new one.
/// Beyond: the cache counts as away, 101.
pub(crate) const CACHE_DEADLINE: Duration = Duration::from_secs(2);

/// How long ending a session is tried while its player moves or its node is not reached. Beyond:
/// whoever asked hears that the outcome is unknown.
pub(crate) const END_PATIENCE: Duration = Duration::from_secs(3);

/// The first pause between two tries to end a session, and the longest: a move takes some
/// milliseconds. Beyond: no longer.
pub(crate) const END_RETRY: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_millis(200));

/// How long a studio may think about letting a client in: half of a sign-in. Beyond: refused, 1003.
pub(crate) const ADMIT_DEADLINE: Duration = Duration::from_secs(5);

/// How long a ban lasts at most, a hundred years: a date that can be written. Beyond: refused, 210.
pub(crate) const BAN_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Bytes of the reason that an operator gives: a line for a player. Beyond: refused, 210.
pub(crate) const REASON_BYTES_MAX: usize = 200;

/// Sign-ins that have ended whose marks an account center makes anew when it starts, the newest.
/// Beyond: their tokens are good again until they run out, if the cache was lost.
pub(crate) const ENDED_TOLD_MAX: i64 = 10_000;

/// How long a validator may think about a proof, or a page about its signature. Beyond: 1003.
pub(crate) const PROOF_DEADLINE: Duration = Duration::from_secs(5);

/// Bans that an account center tells the gates anew when it starts; they matter for tokens that
/// were signed before. Beyond: those that end first are not told.
pub(crate) const BANS_TOLD_MAX: i64 = 10_000;

/// How long a code that was sent to a phone is good, and for how long a wrong guess counts.
/// Beyond: 206.
pub(crate) const CODE_TTL: Duration = Duration::from_secs(5 * 60);

/// How long until a phone is sent the next code. Beyond: refused, 208.
pub(crate) const CODES_PER_PHONE_EVERY: Duration = Duration::from_secs(60);

/// Codes that are sent for one address, and in which time. Beyond: refused, 208.
pub(crate) const CODES_PER_IP_MAX: (u64, Duration) = (10, Duration::from_secs(60 * 60));

/// Wrong codes of one phone within [`CODE_TTL`]: 1440 guesses a day, of a million. Beyond:
/// refused, 208.
pub(crate) const CODE_GUESSES_MAX: usize = 5;

/// Codes of one address that were not right, and in which time: each is remembered for
/// [`CODE_TTL`]. Beyond: refused, 208.
pub(crate) const CODE_GUESSES_PER_IP_MAX: (u64, Duration) = (100, CODE_TTL);

/// How long the sending of a code may take. Beyond: the code is void, 101.
pub(crate) const CODE_SEND_DEADLINE: Duration = Duration::from_secs(3);

/// Notes about one account that a sweep leaves, the newest. Beyond: deleted.
pub(crate) const NOTES_PER_ACCOUNT_MAX: i64 = 200;

/// Notes about an account that an operator is shown. Beyond: not shown.
pub(crate) const NOTES_SHOWN_MAX: i64 = 50;

/// Rows that one statement of a sweep touches, some milliseconds: nobody else writes to a SQLite
/// file meanwhile. Beyond: another statement.
pub(crate) const SWEPT_AT_ONCE_MAX: i64 = 1000;

/// How often notes are swept.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);

/// Wrong secrets of one address at the operators' pages, and in which time. Beyond: refused, 429.
pub(crate) const ADMIN_FAILURES_MAX: (u64, Duration) = (10, Duration::from_secs(60));

/// Sign-ins of one account that can be refreshed: more devices than people own. Beyond: the oldest
/// is ended.
pub(crate) const SIGN_INS_PER_ACCOUNT_MAX: i64 = 32;

/// Apps that one account is known to under an openid of its own. Beyond: refused, 210.
pub(crate) const APPS_PER_ACCOUNT_MAX: i64 = 32;

/// How long a new signing key is known to the gates before it signs: what they need to learn it,
/// and a beat of a lease, after which a node that had lost touch knows it too. Beyond: it signs.
pub(crate) const KEY_LEAD: Duration =
    Duration::from_millis(5_000 + NODE_LEASE.as_millis() as u64 / 3);

/// How often an account center looks whether there is a new signing key. Beyond: the next look.
pub(crate) const KEYS_READ: Duration = Duration::from_secs(2);

/// Signing keys at once, each published until its last token has run out. Beyond: no new one is
/// made, 1002.
pub(crate) const SIGNING_KEYS_MAX: usize = 8;

/// Ticks a second of a room: what a timer of the runtime tells apart. Beyond: the program does not
/// start.
pub(crate) const ROOM_TICKS_PER_S_MAX: u32 = 1000;

/// Seats of a room: a crowd that one core can still tell something ten times a second. Beyond: the
/// program does not start.
pub(crate) const ROOM_CAPACITY_MAX: u32 = 10_000;

/// Letters of what a member wants to be called. Beyond: cut.
pub(crate) const MEMBER_NAME_CHARS_MAX: usize = 14;

/// What lists tell of a room: entries, and bytes of a key and of a value. Beyond: left out, and
/// the log says so.
pub(crate) const ROOM_INFO_MAX: (usize, usize) = (16, 256);

/// What a room tells whoever takes a seat, in bytes: what a frame holds, less the answer around
/// it. Beyond: nobody can join, 1.
pub(crate) const ROOM_STATE_BYTES_MAX: usize = FRAME_BYTES_MAX - 1024;

/// How long a room stays that nobody is in: as long as a seat is kept for whoever has a ticket, and
/// its way. Beyond: closed.
pub(crate) const ROOM_LINGER: Duration = Duration::from_secs(RESERVATION_TTL.as_secs() + 2);

/// How often a room tells the room centers what has changed; and how long after it could not.
pub(crate) const ROOM_TOLD: (Duration, Duration) =
    (Duration::from_millis(25), Duration::from_secs(1));

/// How often a room that has no news tells the room centers that it is there: a cache that came back
/// empty knows nothing of it until then.
pub(crate) const ROOM_TOLD_AGAIN: Duration = Duration::from_secs(20);

/// How long single measures are kept, such as of ticks, if nobody reads the meters: some 5,000 of a
/// room. Beyond: added up.
pub(crate) const MEASURES_KEPT: Duration = Duration::from_secs(5);

/// Bytes of one recording: an hour of a lively match. Beyond: it ends there, and is counted.
pub(crate) const RECORDING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a ticket is good: to connect to another gate with it, and no longer. Beyond: 3003.
pub(crate) const TICKET_TTL: Duration = Duration::from_secs(30);

/// How long a room center may take to have a seat, with opening a room for it. Beyond: 1003; asked
/// again with the same request id, it goes on where it was.
pub(crate) const ENTER_DEADLINE: Duration = Duration::from_secs(4);

/// How long a seat is kept for whoever has a ticket: as long as that is good, whenever it was
/// issued. Beyond: it is free.
pub(crate) const RESERVATION_TTL: Duration =
    Duration::from_secs(TICKET_TTL.as_secs() + ENTER_DEADLINE.as_secs());

/// How long a request id stands for the room that it led to. Beyond: it is a new request.
pub(crate) const ENTER_KEPT: Duration = Duration::from_secs(60);

/// Bytes of a request id, a room's id, or a party's name: twice those of a UUID. Beyond: 210.
pub(crate) const ROOM_NAME_BYTES_MAX: usize = 64;

/// Options of a room, or values that a list is to have. Beyond: 210.
pub(crate) const ROOM_OPTIONS_MAX: usize = 16;

/// Bytes of all of them together: each record of a room holds them. Beyond: 210.
pub(crate) const ROOM_OPTIONS_BYTES_MAX: usize = 1024;

/// How long a record of a room stays without a word of anybody: rooms and the reapers of room
/// centers speak much sooner. Beyond: nobody finds the room.
pub(crate) const ROOM_RECORD_TTL: Duration = Duration::from_secs(60 * 60);

/// How often a record of a room is changed by others between a look and a change of it. Beyond:
/// 1002.
pub(crate) const ROOM_CHANGES_MAX: usize = 32;

/// Rooms that are looked at for one with space, the fullest first. Beyond: a new one is opened.
pub(crate) const ROOMS_LOOKED_AT_MAX: usize = 32;

/// Rooms of a list's page; also what one script in Redis reads. Beyond: the next page.
pub(crate) const ROOMS_PER_PAGE_MAX: usize = 100;

/// Bytes of what all rooms of a page tell of themselves: three quarters of a frame, the rest is for
/// the rooms. Beyond: left out, and smaller pages have it.
pub(crate) const ROOMS_INFO_BYTES_MAX: usize = FRAME_BYTES_MAX / 4 * 3;

/// Rooms that an operator is shown at once. Beyond: not shown, and said so.
pub(crate) const ROOMS_SHOWN_MAX: usize = 1000;

/// Rooms that one account has opened, and in which time: who plays opens one and stays. Beyond: it
/// enters only those that are there, 1007.
pub(crate) const ROOMS_OPENED_PER_ACCOUNT_MAX: (u64, Duration) = (20, Duration::from_secs(60));

/// How long a game server may take to open a room: reading what it saved, at most. Beyond: 1003.
pub(crate) const ROOM_OPEN_DEADLINE: Duration = Duration::from_secs(3);

/// Game servers that are asked to open a room. Beyond: the last one's refusal.
pub(crate) const ROOM_OPEN_NODES_MAX: usize = 3;

/// How long a room counts as being opened. Beyond: whoever opened it is gone, and it is removed, or
/// opened again by another.
pub(crate) const ROOM_OPENING_MAX: Duration = Duration::from_secs(15);

/// How often records of rooms are looked through for what is over.
pub(crate) const ROOMS_SWEPT: Duration = Duration::from_secs(5);

/// Pause between two tries to have a room back whose game server is lost.
pub(crate) const ROOM_REOPEN_RETRY: Duration = Duration::from_millis(200);

/// Rooms that one room center has opened again at once. Beyond: they wait for their turn.
pub(crate) const ROOMS_REOPENED_AT_ONCE_MAX: usize = 64;

/// How often those who wait for a match are looked through.
pub(crate) const MATCH_EVERY: Duration = Duration::from_millis(250);

/// How long somebody waits for a match without saying so again; players' nodes say so every few
/// seconds. Beyond: it waits no more.
pub(crate) const MATCH_SILENCE_MAX: Duration = Duration::from_secs(10);

/// How far ratings of a match may be from that of who has waited longest: at once, and so much more
/// with each second. Beyond: it waits on.
pub(crate) const MATCH_WINDOW: (i64, i64) = (50, 25);

/// After this long anybody will do.
pub(crate) const MATCH_WINDOW_ENDS: Duration = Duration::from_secs(30);

/// Parties, of whatever size, that are looked at for one who waits for a match, the nearest first.
/// Beyond: the next time.
pub(crate) const MATCH_LOOKED_AT_MAX: usize = 1024;

/// Players that wait for a match at one room center. Beyond: 1002.
pub(crate) const MATCH_WAITING_MAX: usize = 50_000;

/// How long a wish for a match stands for the room that it led to. Beyond: it is a new one.
pub(crate) const MATCH_KEPT: Duration = Duration::from_secs(60);

/// How long a player's node may take to tell it of its match. Beyond: told when it asks again.
pub(crate) const MATCH_TELL_DEADLINE: Duration = Duration::from_secs(2);
