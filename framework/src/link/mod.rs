//! Owns the way between a gate and the entities of a session, in both directions, with one
//! delivery contract: in order per session and entity, bounded, never waiting for a client.
//!
//! When both ends are in one process the link is the entity's mailbox one way and the session's
//! outbox the other way. Sessions are the gate's, state is the entity's: neither is known here.

mod batch;

use std::{fmt, sync::Arc};

use kameo::actor::Recipient;
use tokio::{sync::oneshot, time::Instant};

pub(crate) use batch::{Batch, UNTAGGED, error_message};

use crate::wire::{Code, Refusal};

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

/// The gate's end: how a session reaches an entity.
#[derive(Clone, Debug)]
pub(crate) enum EntityPort {
    /// The entity's mailbox, in this process.
    Local(Recipient<Mail>),
}

/// Why an entity did not take its mail; the mail comes back.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Its mailbox is full: the entity is slower than its callers.
    Full(Mail),
    /// It has stopped.
    Stopped(Mail),
}

impl EntityPort {
    /// Hands mail over without waiting.
    ///
    /// # Errors
    /// [`SendError`] with the mail, when the mailbox is full or the entity has stopped.
    #[inline]
    pub(crate) fn send(&self, mail: Mail) -> Result<(), SendError> {
        use kameo::error::SendError as Kameo;
        let Self::Local(mailbox) = self;
        match mailbox.tell(mail).try_send() {
            Ok(()) => Ok(()),
            Err(Kameo::MailboxFull(mail)) => Err(SendError::Full(mail)),
            Err(e) => match e.msg() {
                Some(mail) => Err(SendError::Stopped(mail)),
                None => Ok(()),
            },
        }
    }

    /// Hands mail over, waiting for a place in the mailbox: for the few that must not be lost.
    /// Says whether the entity was there to take it.
    pub(crate) async fn deliver(&self, mail: Mail) -> bool {
        let Self::Local(mailbox) = self;
        mailbox.tell(mail).await.is_ok()
    }
}

/// What a session's end must do: take frames and be told to end, from any thread, never waiting.
pub(crate) trait SessionEnd: fmt::Debug + Send + Sync {
    /// Takes what one wake has for the client.
    fn deliver(&self, batch: &Batch);
    /// The session ends; the first reason given stands.
    fn kick(&self, code: Code, reason: &str);
}

/// The entity's end: how an entity reaches a session.
#[derive(Clone, Debug)]
pub(crate) enum SessionPort {
    /// The session's outbox, in this process.
    Local(Arc<dyn SessionEnd>),
}

impl SessionPort {
    /// Gives the session what one wake has for it, and empties the batch.
    #[inline]
    pub(crate) fn deliver(&self, batch: &mut Batch) {
        let Self::Local(end) = self;
        end.deliver(batch);
        batch.clear();
    }

    /// Ends the session: `msg.Kick.Res` is the last thing it hears.
    pub(crate) fn kick(&self, code: Code, reason: &str) {
        let Self::Local(end) = self;
        end.kick(code, reason);
    }
}
