//! Owns what a session tells its program: pushes, what became of its connection, and why it or a
//! request came to nothing.

use std::{sync::Arc, time::Duration};

use super::{ClientError, Push};
use crate::wire::{Code, FrameError, Refusal};

/// What happened at a session that nobody waited for.
#[derive(Clone, Debug)]
pub enum Event {
    /// A frame that came unasked. One that has the name of the oldest answer still due cannot be
    /// told from it, and is taken for it.
    Push(Push),
    /// A message that gets no answer was refused.
    Refused {
        /// What was refused, by name.
        api: String,
        /// Why.
        refusal: Refusal,
    },
    /// The connection broke, and the session goes on over a new one; nothing was lost.
    Resumed(Resumed),
    /// The session could not go on, and a new one began.
    SignedInAnew(SignedInAnew),
}

/// How a session came to its new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// From noticing the break to `msg.Resume.Res`.
    pub took: Duration,
    /// Tries that it took, the last one included.
    pub tries: u32,
    /// Frames that the server had not received, and that are sent again.
    pub resent: usize,
    /// Why the old connection was given up.
    pub broke: String,
}

/// How a session came to be followed by another.
#[derive(Clone, Debug)]
pub struct SignedInAnew {
    /// From noticing the break to `msg.Login.Res`.
    pub took: Duration,
    /// Why the old session could not go on.
    pub lost: Loss,
    /// Requests of the old one that have no answer; their tickets fail with the same loss.
    pub unanswered: usize,
}

/// Why a session is over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Loss {
    /// The server does not go on with it: it was away too long, or too much was missed. Sign in
    /// again.
    #[error("the session cannot be resumed: {0}")]
    ResumeRefused(Refusal),
    /// No gate went on with it within the resume window. Sign in again when the server is back.
    #[error("no gate resumed the session within {} s; the last said: {why}", window.as_secs_f32())]
    WindowOver {
        /// The window that the server told at sign-in.
        window: Duration,
        /// What the last try came to.
        why: String,
    },
    /// The gate offered no resume at sign-in, and the connection broke. Sign in again.
    #[error("the connection broke, and the gate offers no resume: {0}")]
    NotResumable(String),
    /// The server ended it on purpose, such as by a sign-in elsewhere (2005) or an administrator
    /// (2006). Ask the player before signing in again.
    #[error("kicked: {0}")]
    Kicked(Refusal),
    /// The gate could not take a frame of this client: one larger than `gate.frame_bytes_max`
    /// (1008), or bytes damaged on the way (1009). Send smaller messages.
    #[error("the gate does not take what was sent: {0}")]
    Unreadable(Refusal),
    /// The server counts frames that were never sent, or misses some that it had. A bug; sign in
    /// again.
    #[error("the server has {received} frames, and that is not between {confirmed} and {sent}")]
    Miscounted {
        /// What the server says that it received.
        received: u64,
        /// What it had said before.
        confirmed: u64,
        /// What was sent.
        sent: u64,
    },
    /// The session was lost, and signing in anew did not work either.
    #[error("signing in anew failed: {0}")]
    SignIn(Arc<ClientError>),
    /// This client logged out.
    #[error("logged out")]
    LoggedOut,
}

/// Why a session did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The first sign-in did not work; there is no session. The cause says which side to look at.
    #[error(transparent)]
    SignIn(#[from] ClientError),
    /// The server refused the request, with a code. The session lives on.
    #[error("{0}")]
    Refused(Refusal),
    /// The answer is not what its name says. Client and server have different `.proto` files.
    #[error("the gate sent an undecodable {0}")]
    Payload(String),
    /// The message does not fit into a frame; nothing was sent.
    #[error(transparent)]
    TooLarge(#[from] FrameError),
    /// Nothing was sent: this message belongs to the session itself. Use
    /// [`Session::ping`](super::Session::ping) or [`Session::logout`](super::Session::logout).
    #[error("{0} is said by the session itself")]
    Reserved(&'static str),
    /// No answer came in time on a connection that stood, or the server did not say in time that
    /// it has what was sent before. Nothing is lost: the answer may be waited for once more.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Late(Duration),
    /// The ticket's answer was handed out before, or its message gets none. A bug of the caller;
    /// [`Session::input`](super::Session::input) sends what gets no answer.
    #[error("no answer is due")]
    NoAnswer,
    /// The session is over. Whether a request without an answer was done is unknown.
    #[error("{0}")]
    Lost(Loss),
}

/// What a code means for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The way to the player is in trouble: the same may work in a moment.
    Again,
    /// This session cannot go on, another may begin.
    Lost,
    /// Somebody decided so: nothing is tried any more.
    Final,
}

impl Fate {
    /// What a gate's code means, whether in `msg.Kick.Res`, `msg.Resume.Res` or `msg.Login.Res`.
    pub(super) fn of(code: Code) -> Self {
        match code {
            Code::INTERNAL
            | Code::NOT_READY
            | Code::NOT_CONNECTED
            | Code::BUSY
            | Code::DEADLINE
            | Code::RATE_LIMITED
            | Code::DRAINING
            | Code::TOO_SLOW => Self::Again,
            Code::OK
            | Code::BANNED
            | Code::TOKEN_INVALID
            | Code::TOKEN_EXPIRED
            | Code::SIGNED_IN_ELSEWHERE
            | Code::REMOVED => Self::Final,
            studio if studio >= Code::STUDIO => Self::Final,
            _ => Self::Lost,
        }
    }
}

impl Loss {
    /// Whether a new session may follow without asking the player.
    pub(super) fn fate(&self) -> Fate {
        match self {
            Self::Kicked(refusal) | Self::ResumeRefused(refusal) => Fate::of(refusal.code),
            Self::SignIn(_) | Self::LoggedOut => Fate::Final,
            Self::WindowOver { .. }
            | Self::NotResumable(_)
            | Self::Unreadable(_)
            | Self::Miscounted { .. } => Fate::Lost,
        }
    }
}
