//! Owns sign-in and resume: from a token to a session that is bound to its player, after it when it
//! moves to another node, and back to nobody.

use std::future::ready;

use tokio::time::{Instant, error::Elapsed, timeout};

use super::{Arrival, Carrier, close::Close, connection::Connection};
use crate::{
    Named as _,
    account::TokenError,
    limits::{GATE_DEADLINE_GRACE, SIGN_IN_DEADLINE},
    link::{
        Attached, Batch, ConnectionId, EntityPort, Entry, Secret, Seeking, SessionEnd as _,
        SessionId, error_message,
    },
    msg,
    sessions::End,
    tasks::Tasks,
    wire::{Code, Refusal},
};

/// A signed-in client.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) account: i64,
    /// This connection, among all that the session had.
    pub(super) connection: ConnectionId,
    /// Where its player lives.
    pub(super) player: EntityPort,
}

/// Why a connection has no session.
#[derive(Debug)]
enum NotBound {
    Refused(Refusal),
    /// It had one, and gave it up.
    GivenUp(Refusal),
}

impl From<Refusal> for NotBound {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<C: Carrier> Connection<C> {
    /// Checks the token, finds the player and answers. A refused client may try again.
    pub(super) async fn sign_in(&mut self, request: msg::login::Req) {
        self.outbox.hold();
        let bound = timeout(SIGN_IN_DEADLINE, self.bind_token(&request)).await;
        let mut answer = msg::login::Res {
            server_time_ms: Some(self.gate.clock.now_ms()),
            ..msg::login::Res::default()
        };
        match self.bound(bound) {
            Ok((session, attached)) => {
                self.gate.meters.sign_ins.increment(1);
                tracing::debug!(target: "gate", peer = %self.peer, account = session.account, "signed in");
                let window = self.gate.settings.resume_window.as_secs();
                answer.resume_token = Some(ResumeToken::of(&session, attached.secret).to_bytes());
                answer.resume_window_s = Some(u32::try_from(window).unwrap_or(u32::MAX));
                answer.user = attached.user;
                answer.session_id = Some(session.id.to_string());
                self.signed_in(session);
            }
            Err(refusal) => {
                self.gate.meters.sign_ins_refused.increment(1);
                tracing::debug!(target: "gate", peer = %self.peer, "sign-in refused: {refusal}");
                answer.code = refusal.code.0;
                self.failed().await;
                return self.outbox.refuse(&answer);
            }
        }
        self.outbox.open(&answer);
    }

    /// Signs in with a ticket for a room, whose owner has signed in elsewhere before; the player
    /// then joins with one of its own.
    pub(super) async fn join(&mut self, request: msg::join_room::Req) {
        self.outbox.hold();
        let bound = timeout(SIGN_IN_DEADLINE, self.bind_ticket(&request.ticket)).await;
        let (session, ticket) = match self.bound(bound) {
            Ok(bound) => bound,
            Err(refusal) => {
                self.gate.meters.sign_ins_refused.increment(1);
                tracing::debug!(target: "gate", peer = %self.peer, "not let in with a ticket: {refusal}");
                self.failed().await;
                let api = msg::join_room::Req::NAME;
                return self.outbox.refuse(&error_message(api, refusal.code, &refusal.message));
            }
        };
        self.gate.meters.sign_ins.increment(1);
        tracing::debug!(target: "gate", peer = %self.peer, account = session.account, "signed in with a ticket");
        self.signed_in(session);
        self.outbox.release();
        self.ask(&msg::join_room::Req { ticket, ..request });
    }

    /// Goes on with a session that had another connection, perhaps at another gate.
    pub(super) async fn resume(&mut self, request: msg::resume::Req) {
        self.outbox.hold();
        let bound = timeout(SIGN_IN_DEADLINE, self.bind_session(&request)).await;
        let mut answer = msg::resume::Res::default();
        match self.bound(bound) {
            Ok((session, attached)) => {
                self.gate.meters.resumes.increment(1);
                tracing::debug!(target: "gate", peer = %self.peer, account = session.account, "resumed");
                answer.received = attached.received;
                answer.resume_token = ResumeToken::of(&session, attached.secret).to_bytes();
                self.signed_in(session);
            }
            Err(refusal) => {
                self.gate.meters.resumes_refused.increment(1);
                tracing::debug!(target: "gate", peer = %self.peer, "resume refused: {refusal}");
                answer.code = refusal.code.0;
                self.failed().await;
                return self.outbox.refuse(&answer);
            }
        }
        self.outbox.open(&answer);
    }

    /// Within the deadline or not. Where a session was given up, or may come too late, the
    /// connection ends as well: what the player had said to it must not mix with that of another
    /// session.
    fn bound<T>(&mut self, bound: Result<Result<T, NotBound>, Elapsed>) -> Result<T, Refusal> {
        match bound {
            Ok(Ok(bound)) => Ok(bound),
            Ok(Err(NotBound::Refused(refusal))) => Err(refusal),
            Ok(Err(NotBound::GivenUp(refusal))) => {
                self.leave(Close::Refused);
                Err(refusal)
            }
            Err(_) => {
                self.leave(Close::Refused);
                Err(Code::DEADLINE.into())
            }
        }
    }

    async fn bind_token(&self, request: &msg::login::Req) -> Result<(Session, Attached), NotBound> {
        let now_ms = self.gate.clock.now_ms();
        let claims = self.gate.tokens().verify(&request.token, now_ms).map_err(|e| match e {
            TokenError::Expired => Refusal::from(Code::TOKEN_EXPIRED),
            TokenError::Invalid => Code::TOKEN_INVALID.into(),
        })?;
        let account = claims.sub.parse().map_err(|_| Refusal::from(Code::TOKEN_INVALID))?;
        let arrival = || Arrival {
            platform: request.platform.clone(),
            device_id: request.device_id.clone(),
            version: request.version.clone(),
            ..self.arrival(account, false)
        };
        self.gate.hooks.admit(arrival).await?;
        let entry = Entry::SignIn { openid: claims.openid, sid: claims.sid };
        self.bind(account, entry).await
    }

    /// The session, and another ticket in place of the one that was used up.
    async fn bind_ticket(&self, ticket: &[u8]) -> Result<(Session, Vec<u8>), NotBound> {
        if self.gate.draining() {
            // The ticket is good at another gate.
            return Err(Refusal::from(Code::DRAINING).into());
        }
        let record = self.gate.tickets.take(ticket, None).await?;
        let account = record.account;
        self.gate.hooks.admit(|| self.arrival(account, false)).await?;
        let (openid, sid) = (record.openid.clone(), record.sid.clone());
        let (session, _) = self.bind(account, Entry::SignIn { openid, sid }).await?;
        Ok((session, self.gate.tickets.issue(&record).await.map_err(NotBound::GivenUp)?))
    }

    async fn bind_session(
        &self,
        request: &msg::resume::Req,
    ) -> Result<(Session, Attached), NotBound> {
        let token = ResumeToken::from_bytes(&request.resume_token);
        let token = token.ok_or(Refusal::from(Code::RESUME_REFUSED))?;
        let ResumeToken { account, session, secret } = token;
        self.bind(account, Entry::Resume { session, secret, received: request.received }).await
    }

    async fn bind(&self, account: i64, entry: Entry) -> Result<(Session, Attached), NotBound> {
        if self.gate.draining() {
            return Err(Refusal::from(Code::DRAINING).into());
        }
        let seeking = Seeking {
            connection: ConnectionId(self.gate.chance.next_u64()),
            account,
            end: self.outbox.clone(),
            entry,
            datagram_bytes_max: self.carrier.datagram_bytes_max().unwrap_or(0),
        };
        // Before: who may not sign in displaces nobody.
        let good = async {
            match &seeking.entry {
                Entry::SignIn { sid, .. } => self.gate.marks.check(account, sid).await,
                Entry::Resume { .. } | Entry::Moved { .. } | Entry::Seat(_) => Ok(()),
            }
        };
        let (player, attached) = self.gate.players.attach(&seeking, good).await?;
        let (id, connection) = (attached.session, seeking.connection);
        let session = Session { id, account, connection, player };
        let mut given_up = GivenUp { session: Some(&session), tasks: &self.gate.tasks };
        // And after: what was revoked meanwhile found no session yet that it could end.
        if let Err(refusal) = self.gate.marks.check(account, &attached.sid).await {
            drop(given_up);
            if refusal.code != Code::NOT_READY {
                self.end_elsewhere(account, &attached.sid, refusal.clone());
            }
            return Err(NotBound::GivenUp(refusal));
        }
        if let Entry::Resume { .. } = seeking.entry {
            let admitted = self.gate.hooks.admit(|| self.arrival(account, true)).await;
            admitted.map_err(NotBound::GivenUp)?;
        }
        given_up.session = None;
        drop(given_up);
        Ok((session, attached))
    }

    /// Ends a session that this connection has just given up. Its client waits for an answer, and
    /// not for that.
    fn end_elsewhere(&self, account: i64, sid: &str, refusal: Refusal) {
        let (sessions, sid) = (self.gate.sessions.clone(), sid.to_owned());
        let Refusal { code, message } = refusal;
        let end = End { sid: Some(sid), code, reason: message.into_owned() };
        self.gate.tasks.spawn(async move { sessions.end(account, &end).await });
    }

    fn arrival(&self, account: i64, resumes: bool) -> Arrival {
        Arrival {
            address: self.peer,
            transport: self.carrier.transport(),
            account,
            resumes,
            platform: None,
            device_id: None,
            version: None,
        }
    }

    /// The player's node goes away: finds the player where it is now, and says again what it had
    /// not begun. The client notices nothing but the time it takes.
    pub(super) async fn follow_player(&mut self) {
        let Some(session) = self.session.clone() else { return self.outbox.stay() };
        let found = timeout(SIGN_IN_DEADLINE, self.find_again(&session)).await;
        let (player, mut returned) = match found.unwrap_or_else(|_| Err(Code::DEADLINE.into())) {
            Ok(found) => found,
            Err(refusal) => {
                tracing::debug!(target: "gate", peer = %self.peer, "the player is not found again: {refusal}");
                return match refusal.code {
                    Code::SIGNED_IN_ELSEWHERE => self.outbox.kick(refusal.code, &refusal.message),
                    _ => {
                        self.outbox.kick(Code::NOT_CONNECTED, "the player's game server went away")
                    }
                };
            }
        };
        self.gate.meters.moves.increment(1);
        // It does not know how its client keeps up.
        self.blocked = false;
        self.session = Some(Session { player, ..session });
        let deadline = self.outbox.oldest_deadline().map(|deadline| deadline - GATE_DEADLINE_GRACE);
        let now = Instant::now();
        let deadline = deadline.unwrap_or(now + self.gate.settings.request_timeout);
        self.forward_batch(&mut returned, now, deadline);
    }

    async fn find_again(&self, session: &Session) -> Result<(EntityPort, Batch), Refusal> {
        let Session { id, account, connection, player } = session;
        player.detach(*connection, &self.gate.tasks);
        let returned = self.outbox.moved().await?;
        player.forget(*connection);
        let seeking = Seeking {
            connection: *connection,
            account: *account,
            end: self.outbox.clone(),
            entry: Entry::Moved { session: *id },
            datagram_bytes_max: self.carrier.datagram_bytes_max().unwrap_or(0),
        };
        Ok((self.gate.players.attach(&seeking, ready(Ok(()))).await?.0, returned))
    }
}

impl<C> Connection<C> {
    /// Tells the player that this connection is gone.
    pub(super) fn end_session(&mut self) {
        if let Some(Session { connection, player, .. }) = self.session.take() {
            self.gate.meters.sessions.decrement(1);
            player.detach(connection, &self.gate.tasks);
            player.forget(connection);
        }
    }
}

/// A session that nobody has yet: unless somebody takes it, its player hears that this connection
/// is gone.
struct GivenUp<'a> {
    session: Option<&'a Session>,
    tasks: &'a Tasks,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if let Some(Session { connection, player, .. }) = self.session {
            player.detach(*connection, self.tasks);
            player.forget(*connection);
        }
    }
}

/// What a client shows to go on with its session: `account: i64 LE | session: u64 LE |
/// secret: Secret LE`. Only the secret is one; the rest says where to look.
#[derive(Debug, PartialEq, Eq)]
struct ResumeToken {
    account: i64,
    session: SessionId,
    secret: Secret,
}

impl ResumeToken {
    fn of(session: &Session, secret: Secret) -> Self {
        Self { account: session.account, session: session.id, secret }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let Self { account, session, secret } = self;
        [&account.to_le_bytes()[..], &session.0.to_le_bytes(), &secret.to_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (account, rest) = bytes.split_first_chunk()?;
        let (session, secret) = rest.split_first_chunk()?;
        Some(Self {
            account: i64::from_le_bytes(*account),
            session: SessionId(u64::from_le_bytes(*session)),
            secret: Secret::from_bytes(secret)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_resume_token_is_what_it_was_and_nothing_else_is_one(
            account: i64, session: u64, secret: u128, bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let token = ResumeToken { account, session: SessionId(session), secret: Secret(secret) };
            prop_assert_eq!(ResumeToken::from_bytes(&token.to_bytes()), Some(token));
            prop_assert_eq!(ResumeToken::from_bytes(&bytes).is_some(), bytes.len() == 32);
        }
    }
}
