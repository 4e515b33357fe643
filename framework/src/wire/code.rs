//! Owns result codes and refusals: what a client is told when a request did not succeed.

use std::{borrow::Cow, fmt};

/// A result code of `msg.Error.Res` and of the `code` member of answers.
///
/// The named ones are those of the contract (`def.ResCode`); a studio's own start at
/// [`Code::STUDIO`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub i32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// What the code means, for people, in English.
            pub fn text(self) -> &'static str {
                match self.0 {
                    $($value => $text,)*
                    _ => "refused",
                }
            }

            /// Every code of the contract with its name in `def.ResCode`.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self($value), stringify!($name)),)*];
        }
    };
}

codes! {
    /// Success.
    OK = 0, "ok";
    /// A bug or a panic on the server.
    INTERNAL = 1, "internal error";
    /// No gate or game server is known, or a service it needs is away.
    NOT_READY = 101, "not ready: no gate or game server known";
    /// Wrong user or password; which of the two is not told.
    WRONG_CREDENTIALS = 201, "wrong user or password";
    /// The account could not be created.
    NOT_CREATED = 202, "account not created";
    /// The user name is taken.
    NAME_TAKEN = 203, "name taken";
    /// No such account, or it already has one bound.
    NO_SUCH_ACCOUNT = 204, "no such account, or it already has one bound";
    /// The phone number is malformed or bound to another account.
    PHONE_INVALID = 205, "phone invalid or taken";
    /// The verification code is too old.
    CODE_EXPIRED = 206, "code expired";
    /// The verification code is wrong.
    CODE_WRONG = 207, "code wrong";
    /// Too many failures; come back later.
    TOO_MANY_TRIES = 208, "too many tries, come back later";
    /// The account is banned; the message says until when.
    BANNED = 209, "account banned";
    /// A parameter is missing or malformed; the message names it.
    PARAMETER = 210, "parameter missing or malformed";
    /// The game server cannot be reached.
    NOT_CONNECTED = 1001, "game server not connected";
    /// Overloaded; try again.
    BUSY = 1002, "busy, try again";
    /// The deadline passed; whether it was done is unknown.
    DEADLINE = 1003, "deadline passed, the outcome is unknown";
    /// No handler has this name.
    UNKNOWN_API = 1004, "unknown api";
    /// The payload is not what the name promises.
    UNDECODABLE = 1005, "payload not decodable";
    /// Sign in first.
    NOT_SIGNED_IN = 1006, "not signed in";
    /// More frames a second than allowed.
    RATE_LIMITED = 1007, "rate limited";
    /// The frame is larger than allowed; the gate closes.
    FRAME_TOO_LARGE = 1008, "frame too large";
    /// Not a frame; the gate closes.
    PROTOCOL = 1009, "protocol error";
    /// The token is not ours, or not a token.
    TOKEN_INVALID = 2001, "token invalid";
    /// The token was ours, and is too old.
    TOKEN_EXPIRED = 2002, "token expired";
    /// The player's record could not be made or read.
    USER_NOT_CREATED = 2003, "user record not created";
    /// The session cannot go on; sign in again.
    RESUME_REFUSED = 2004, "resume refused, sign in again";
    /// The same account signed in on another connection.
    SIGNED_IN_ELSEWHERE = 2005, "signed in elsewhere";
    /// An administrator ended the session.
    REMOVED = 2006, "removed by an administrator";
    /// This gate is going away; resume at another.
    DRAINING = 2007, "server is draining, resume at another gate";
    /// The client did not read what was sent to it.
    TOO_SLOW = 2008, "client too slow, resume";
    /// There is no such room.
    ROOM_NOT_FOUND = 3001, "room not found";
    /// The room has no seat left.
    ROOM_FULL = 3002, "room full";
    /// The ticket is invalid, used or expired.
    TICKET_INVALID = 3003, "ticket invalid, used or expired";
    /// No server can take a room.
    NO_ROOM_SERVER = 3004, "no room server available";
    /// The player sits in a room already.
    ALREADY_IN_ROOM = 3005, "already in a room";
    /// The player is not in that room.
    NOT_IN_ROOM = 3006, "not in that room";
    /// The room was closed.
    ROOM_CLOSED = 3007, "room closed";
}

impl Code {
    /// The first code of a studio: all below are the contract's.
    pub const STUDIO: Self = Self(10_000);

    /// Refuses with this code and a message for people; no secret belongs in it.
    pub fn because(self, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code: self, message: message.into() }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.text())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why a request was not done: becomes `msg.Error.Res{code, api, message}` at the client.
///
/// A handler returns a [`Code`] where its standard text says enough, and
/// [`Code::because`] where it does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct Refusal {
    /// What the client's program acts on.
    pub code: Code,
    /// What a person reads.
    pub message: Cow<'static, str>,
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self { code, message: Cow::Borrowed(code.text()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::def::ResCode;

    #[test]
    fn every_code_is_the_one_of_the_same_name_in_the_proto() {
        for (code, name) in Code::ALL {
            let proto = ResCode::from_str_name(name)
                .unwrap_or_else(|| panic!("{name} is not in def.ResCode"));
            assert_eq!(proto as i32, code.0, "{name}");
        }
    }
}
