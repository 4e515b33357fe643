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
mod tests;
mod tls;

use std::{fmt, sync::Arc};

use tokio::{sync::oneshot, time::Instant};

pub(crate) use self::{
    accepted::{Hosts, Served},
    batch::{Batch, Frames, UNTAGGED, error_message},
    links::{Links, Me},
    mailbox::{Mailbox, SendError},
    tls::{Tls, TlsError},
};

use self::{dialed::Dialed, envelope::Envelope, envelope::pieces, line::Line};
use crate::{
    tasks::Tasks,
    wire::{Code, Refusal},
};

/// Names a session in the whole cluster; drawn at random, so a stale one meets no new session.
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

/// What arrives in an entity's mailbox.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A session begins to speak to this entity.
    Attach(Attach),
    /// What a session had to say in one wake.
    Requests(Requests),
    /// The session's connection is gone.
    Detach(SessionId),
    /// Save and stop: the node is going away.
    Stop,
}

/// Requests of one session that were read in one wake.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) session: SessionId,
    /// When the gate stops waiting for the answers.
    pub(crate) deadline: Instant,
    pub(crate) batch: Batch,
}

/// A session introduces itself to its player.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) session: SessionId,
    pub(crate) account: Account,
    pub(crate) port: SessionPort,
    /// The session was with another node before, and goes on.
    pub(crate) moved: bool,
    pub(crate) reply: oneshot::Sender<Result<Attached, Refusal>>,
}

/// What an attached session gets to know about its player.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) user: crate::def::User,
}

/// Who signed in, as the account center vouched for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account's number, also the key of its player.
    pub id: i64,
    /// The name by which other services know the account.
    pub openid: String,
}

/// A session on its way to its player.
#[derive(Clone, Debug)]
pub(crate) struct Seeking {
    pub(crate) session: SessionId,
    pub(crate) account: Account,
    pub(crate) end: Arc<dyn SessionEnd>,
    /// Its player was with another node before.
    pub(crate) moved: bool,
}

/// Why a session was not brought to its player.
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
    /// the time, `deadline` when the gate stops waiting for the answers.
    ///
    /// # Errors
    /// The code with which to refuse each request in it; the batch is then as before.
    #[inline]
    pub(crate) fn forward(
        &self,
        session: SessionId,
        now: Instant,
        deadline: Instant,
        batch: &mut Batch,
    ) -> Result<(), Code> {
        let mailbox = match self {
            Self::Local(mailbox) => mailbox,
            Self::Remote(RemotePlayer(dialed)) => {
                let left = deadline.saturating_duration_since(now).as_millis();
                return dialed.forward(session, u32::try_from(left).unwrap_or(u32::MAX), batch);
            }
        };
        let requests = Requests { session, deadline, batch: std::mem::take(batch) };
        let (mail, code) = match mailbox.send(Mail::Requests(requests)) {
            Ok(()) => return Ok(()),
            Err(SendError::Full(mail)) => (mail, Code::BUSY),
            Err(SendError::Stopped(mail)) => (mail, Code::NOT_CONNECTED),
        };
        if let Mail::Requests(requests) = mail {
            *batch = requests.batch;
        }
        Err(code)
    }

    /// Tells the player that nothing more comes from this session.
    pub(crate) fn detach(&self, session: SessionId, tasks: &Tasks) {
        match self {
            Self::Local(mailbox) => {
                // A player that has stopped needs no telling.
                let _told: bool = mailbox.detach(session, tasks);
            }
            Self::Remote(RemotePlayer(dialed)) => dialed.detach(session),
        }
    }

    /// Nothing that still comes for this session is wanted.
    pub(crate) fn forget(&self, session: SessionId) {
        if let Self::Remote(RemotePlayer(dialed)) = self {
            dialed.forget(session);
        }
    }
}

/// What a session's end must do: take frames and be told things, from any thread, never waiting.
pub(crate) trait SessionEnd: fmt::Debug + Send + Sync {
    /// Takes what one wake has for the client.
    fn deliver(&self, frames: Frames<'_>);
    /// The session ends; the first reason given stands.
    fn kick(&self, code: Code, reason: &str);
    /// The player is saved and free, for its node goes away: the session is to find it again.
    fn leaving(&self);
    /// Requests that were not begun when the player left, in order.
    fn give_back(&self, frames: Frames<'_>);
    /// Nothing more is given back.
    fn detached(&self);
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
    session: SessionId,
}

impl SessionPort {
    /// Gives the session what one wake has for it, and empties the batch.
    #[inline]
    pub(crate) fn deliver(&self, batch: &mut Batch) {
        match self {
            Self::Local(end) => end.deliver(batch.frames()),
            Self::Remote(RemoteSession { line, session }) => {
                pieces(batch, |frames| line.must_post(&Envelope::Deliver(*session, frames)));
            }
        }
        batch.clear();
    }

    /// Ends the session: `msg.Kick.Res` is the last thing it hears.
    pub(crate) fn kick(&self, code: Code, reason: &str) {
        match self {
            Self::Local(end) => end.kick(code, reason),
            Self::Remote(RemoteSession { line, session }) => {
                let (session, code, reason) = (session.0, code.0, reason.to_owned());
                let kick = crate::proto::link::Kick { session, code, reason };
                line.must_post(&Envelope::Kick(kick));
            }
        }
    }

    /// Whether the session stays when this node goes away: its gate is in another.
    pub(crate) fn can_follow(&self) -> bool {
        matches!(self, Self::Remote(_))
    }

    /// Tells the session that its player goes to another node.
    pub(crate) fn leaving(&self) {
        match self {
            Self::Local(end) => end.leaving(),
            Self::Remote(RemoteSession { line, session }) => {
                line.must_post(&Envelope::Leaving(*session));
            }
        }
    }

    /// Gives requests back that were not begun.
    pub(crate) fn give_back(&self, batch: &Batch) {
        match self {
            Self::Local(end) => end.give_back(batch.frames()),
            Self::Remote(RemoteSession { line, session }) => {
                pieces(batch, |frames| line.must_post(&Envelope::GiveBack(*session, frames)));
            }
        }
    }

    /// Says that nothing more is given back.
    pub(crate) fn detached(&self) {
        match self {
            Self::Local(end) => end.detached(),
            Self::Remote(RemoteSession { line, session }) => {
                line.must_post(&Envelope::Detached(*session));
            }
        }
    }
}
