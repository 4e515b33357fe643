//! Owns the way between a gate and the entities of a session, in both directions, with one
//! delivery contract: in order per session and entity, bounded, never waiting for a client.
//!
//! When both ends are in one process the link is the entity's mailbox one way and the session's
//! outbox the other way; otherwise what would lie there travels as envelopes over one connection
//! of a gate's shard to the node. Sessions are the gate's, state is the entity's: neither is
//! known here.

mod accepted;
mod batch;
mod dialed;
mod envelope;
mod line;
mod links;
mod mailbox;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
mod tls;

use std::{fmt, sync::Arc};

use tokio::{sync::oneshot, time::Instant};

pub(crate) use self::{
    accepted::{Hosts, Served},
    batch::{Batch, Frames, MARK_BYTES, Mark, error_message},
    links::{Links, Me},
    mailbox::{Mailbox, Resting, SendError},
    tls::{Tls, TlsError},
};

use self::{dialed::Dialed, envelope::Envelope, envelope::pieces, line::Line};
use crate::{
    tasks::Tasks,
    wire::{Code, Refusal},
};

/// Names a session in the whole cluster; drawn at random.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(pub(crate) u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session_{}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names one connection of a session in the whole cluster. A session has one at a time and may
/// have many in its life; drawn at random, so that the late end of an old one meets no newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// What arrives in an entity's mailbox.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A connection begins to speak to this entity.
    Attach(Attach),
    /// What a session had to say in one wake.
    Requests(Requests),
    /// The connection is gone.
    Detach(ConnectionId),
    /// The connection takes in less than it is told, or all of it again.
    Blocked(ConnectionId, bool),
    /// Somebody ends the session, and hears whether there was such a one.
    End(End, oneshot::Sender<bool>),
    /// Somebody has a frame for the session's client.
    Push(Vec<u8>),
    /// Save and stop: the node is going away.
    Stop,
}

/// Requests of one session that were read in one wake.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) connection: ConnectionId,
    /// When the gate stops waiting for the answers.
    pub(crate) deadline: Instant,
    pub(crate) batch: Batch,
}

/// A connection introduces itself to its player.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) arrival: Arrival,
    pub(crate) reply: oneshot::Sender<Result<Attached, Refusal>>,
}

/// A connection at its player's door.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) connection: ConnectionId,
    pub(crate) account: i64,
    pub(crate) port: SessionPort,
    pub(crate) entry: Entry,
    /// The largest frame that may travel beside the stream; 0: none.
    pub(crate) datagram_bytes_max: usize,
}

/// 128 random bits that a client shows to go on with its session; never shown otherwise.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) u128);

impl Secret {
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_le_bytes(bytes.try_into().ok()?)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// With what right a connection speaks for an account.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// A new session; `sid` is the sign-in that the token belongs to.
    SignIn { openid: String, sid: String },
    /// A session goes on over this connection, which knows its secret and has received so many
    /// frames of it.
    Resume { session: SessionId, secret: Secret, received: u64 },
    /// The player was with another node; the connection stays.
    Moved { session: SessionId },
    /// A player takes a seat in a room, for its session.
    Seat(Box<Seating>),
}

/// The seat that a player takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seating {
    pub(crate) kind: String,
    pub(crate) room_id: String,
    /// What it wants to be called.
    pub(crate) name: String,
    /// It has a ticket; else it comes back to the seat that it has.
    pub(crate) joins: bool,
}

/// What an attached connection gets to know. In a room there are no sessions.
#[derive(Debug)]
pub(crate) struct Attached {
    /// Its player, when the session is new.
    pub(crate) user: Option<crate::def::User>,
    pub(crate) session: SessionId,
    /// What the client shows to go on over another connection.
    pub(crate) secret: Secret,
    /// Frames of the client that were taken.
    pub(crate) received: u64,
    pub(crate) sid: String,
    /// What a room has for who takes a seat.
    pub(crate) state: Vec<u8>,
}

/// The end of a session, decided by somebody else than its client.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// Of this sign-in only; `None`: whichever is there.
    pub(crate) sid: Option<String>,
    pub(crate) code: Code,
    pub(crate) reason: String,
}

impl End {
    /// Whether a session of this sign-in is meant.
    pub(crate) fn is_of(&self, sid: &str) -> bool {
        self.sid.as_ref().is_none_or(|meant| meant == sid)
    }
}

/// Who signed in, as the account center vouched for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account's number, also the key of its player.
    pub id: i64,
    /// The name by which other services know the account.
    pub openid: String,
}

/// A connection on its way to its player.
#[derive(Clone, Debug)]
pub(crate) struct Seeking {
    pub(crate) connection: ConnectionId,
    pub(crate) account: i64,
    pub(crate) end: Arc<dyn SessionEnd>,
    pub(crate) entry: Entry,
    pub(crate) datagram_bytes_max: usize,
}

/// Why a connection was not brought to its player.
#[derive(Debug)]
pub(crate) enum NotAttached {
    /// For the client.
    Refused(Refusal),
    /// This node runs the player.
    Elsewhere(String),
}

impl From<Refusal> for NotAttached {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The gate's end: how a session reaches its player.
#[derive(Clone, Debug)]
pub(crate) enum EntityPort {
    /// The player's mailbox, in this process.
    Local(Mailbox),
    /// The link to the node that runs it.
    Remote(RemotePlayer),
}

/// A player at another node.
#[derive(Clone, Debug)]
pub(crate) struct RemotePlayer(Arc<Dialed>);

impl EntityPort {
    /// Forwards what a session said in one wake, without waiting, and empties the batch. `now` is
    /// the time, `deadline` when the gate stops waiting for the answers. A player that is slower
    /// than its session refuses what it does not take, in its turn.
    ///
    /// # Errors
    /// Why it never arrives: far too much waits there (1002), or nobody is there (1001). The batch
    /// is then lost for this connection, and not counted.
    #[inline]
    pub(crate) fn forward(
        &self,
        connection: ConnectionId,
        now: Instant,
        deadline: Instant,
        batch: &mut Batch,
    ) -> Result<(), Code> {
        let mailbox = match self {
            Self::Local(mailbox) => mailbox,
            Self::Remote(RemotePlayer(dialed)) => {
                let left = deadline.saturating_duration_since(now).as_millis();
                return dialed.forward(connection, u32::try_from(left).unwrap_or(u32::MAX), batch);
            }
        };
        mailbox.requests(Requests { connection, deadline, batch: std::mem::take(batch) })
    }

    /// Tells the player that nothing more comes from this connection.
    pub(crate) fn detach(&self, connection: ConnectionId, tasks: &Tasks) {
        match self {
            Self::Local(mailbox) => {
                // A player that has stopped needs no telling.
                let _told: bool = mailbox.detach(connection, tasks);
            }
            Self::Remote(RemotePlayer(dialed)) => dialed.detach(connection),
        }
    }

    /// Tells the player whether the client takes in less than it is told.
    pub(crate) fn blocked(&self, connection: ConnectionId, blocked: bool, tasks: &Tasks) {
        match self {
            Self::Local(mailbox) => {
                // A player that has stopped needs no telling.
                let _told: bool = mailbox.must_send(Mail::Blocked(connection, blocked), tasks);
            }
            Self::Remote(RemotePlayer(dialed)) => dialed.blocked(connection, blocked),
        }
    }

    /// Nothing that still comes for this connection is wanted.
    pub(crate) fn forget(&self, connection: ConnectionId) {
        if let Self::Remote(RemotePlayer(dialed)) = self {
            dialed.forget(connection);
        }
    }
}

/// What a session's end must do: take frames and be told things, from any thread, never waiting.
pub(crate) trait SessionEnd: fmt::Debug + Send + Sync {
    /// Takes what one wake has for the client.
    fn deliver(&self, frames: Frames<'_>);
    /// The connection ends; the first reason given stands. With [`Code::OK`] it ends without a
    /// word: its client left by itself, or goes on elsewhere.
    fn kick(&self, code: Code, reason: &str);
    /// The player is saved and free, for its node goes away: the session is to find it again.
    fn leaving(&self);
    /// Requests that were not begun when the player left, in order.
    fn give_back(&self, frames: Frames<'_>);
    /// Nothing more is given back.
    fn detached(&self);
    /// Whether it outlives the node of the player.
    fn can_follow(&self) -> bool {
        false
    }
}

/// The entity's end: how an entity reaches a session.
#[derive(Clone, Debug)]
pub(crate) enum SessionPort {
    /// The session's outbox, in this process.
    Local(Arc<dyn SessionEnd>),
    /// The link to the gate that has it.
    Remote(RemoteSession),
}

/// A session at another node.
#[derive(Clone, Debug)]
pub(crate) struct RemoteSession {
    line: Arc<Line>,
    connection: ConnectionId,
}

impl SessionPort {
    /// Gives the session what one wake has for it, and empties the batch.
    #[inline]
    pub(crate) fn deliver(&self, batch: &mut Batch) {
        match self {
            Self::Local(end) => end.deliver(batch.frames()),
            Self::Remote(RemoteSession { line, connection }) => {
                pieces(batch, |frames| line.must_post(&Envelope::Deliver(*connection, frames)));
            }
        }
        batch.clear();
    }

    /// Ends the connection: `msg.Kick.Res` is the last thing it hears; with [`Code::OK`], nothing.
    pub(crate) fn kick(&self, code: Code, reason: &str) {
        match self {
            Self::Local(end) => end.kick(code, reason),
            Self::Remote(RemoteSession { line, connection }) => {
                let (connection, code, reason) = (connection.0, code.0, reason.to_owned());
                let kick = crate::proto::link::Kick { connection, code, reason };
                line.must_post(&Envelope::Kick(kick));
            }
        }
    }

    /// Whether the session stays when this node goes away: its gate is in another.
    pub(crate) fn can_follow(&self) -> bool {
        match self {
            Self::Local(end) => end.can_follow(),
            Self::Remote(_) => true,
        }
    }

    /// Tells the session that its player goes to another node.
    pub(crate) fn leaving(&self) {
        match self {
            Self::Local(end) => end.leaving(),
            Self::Remote(RemoteSession { line, connection }) => {
                line.must_post(&Envelope::Leaving(*connection));
            }
        }
    }

    /// Gives requests back that were not begun.
    pub(crate) fn give_back(&self, batch: &Batch) {
        match self {
            Self::Local(end) => end.give_back(batch.frames()),
            Self::Remote(RemoteSession { line, connection }) => {
                pieces(batch, |frames| line.must_post(&Envelope::GiveBack(*connection, frames)));
            }
        }
    }

    /// Says that nothing more is given back.
    pub(crate) fn detached(&self) {
        match self {
            Self::Local(end) => end.detached(),
            Self::Remote(RemoteSession { line, connection }) => {
                line.must_post(&Envelope::Detached(*connection));
            }
        }
    }
}
