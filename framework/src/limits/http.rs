//! Owns the bounds of the account center's HTTP and of the sockets on its ports.

use std::time::Duration;

/// Largest body of an HTTP request, and of a message of Socket.IO, in bytes. Beyond: 413; a socket
/// is closed.
pub(crate) const HTTP_BODY_BYTES_MAX: usize = 64 * 1024;

/// Requests under way at the account center's HTTP, those included whose clients have gone. Beyond:
/// 1002.
pub(crate) const HTTP_REQUESTS_MAX: usize = 4096;

/// Sockets of Socket.IO at one account center, each with a connection and some 20 KiB: half of
/// what one worker accepts, so that there is always room for requests. Beyond: 503.
pub(crate) const SOCKETS_MAX: usize = 2048;

/// Of these, from one address, or one IPv6 network of 64 bits; this machine's own are not counted.
/// Beyond: 429.
pub(crate) const SOCKETS_PER_IP_MAX: usize = 256;

/// Calls of one socket that are under way: more than a page asks at once. Beyond: refused, 1002.
pub(crate) const SOCKET_CALLS_MAX: usize = 16;

/// Messages that wait for a client that does not read, an answer each. Beyond: closed.
pub(crate) const SOCKET_MESSAGES_MAX: usize = 64;

/// How long a client may take to join, and to turn its polling into a WebSocket. Beyond: closed.
pub(crate) const SOCKET_OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// How often a socket is pinged, or has to ping, and how much later that is too late: as clients
/// of both generations expect it; and, together, how long a WebSocket's client may take in nothing.
/// Beyond: closed.
pub(crate) const SOCKET_PING: (Duration, Duration) =
    (Duration::from_secs(25), Duration::from_secs(20));

/// How long a node that stops waits for its sockets, which are told and leave at once. Beyond: those
/// whose clients do not read end with the server.
pub(crate) const SOCKET_CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Bytes of a WebSocket that wait between its connection and Socket.IO, each way. Beyond: the
/// client waits, or its messages.
pub(crate) const SOCKET_PIPE_BYTES: usize = 8 * 1024;
