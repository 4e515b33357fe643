//! Owns sign-in: from a token to a session that is bound to its player, after it when it moves to
//! another node, and back to nobody.

use tokio::time::{Instant, timeout};

use super::{Carrier, connection::Connection};
use crate::{
    account::TokenError,
    def,
    limits::SIGN_IN_DEADLINE,
    link::{Account, Batch, EntityPort, Seeking, SessionEnd as _, SessionId},
    msg,
    wire::{Code, Refusal},
};

/// A signed-in client.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) account: Account,
    /// Where its player lives.
    pub(super) player: EntityPort,
}

impl<C> Connection<C>
where
    C: Carrier,
{
    /// Checks the token, finds the player and answers. A refused client may try again.
    pub(super) async fn sign_in(&mut self, request: msg::login::Req) {
        self.outbox.hold();
        let bound = timeout(SIGN_IN_DEADLINE, self.bind(&request)).await;
        let bound = bound.unwrap_or_else(|_| Err(Code::DEADLINE.into()));
        let mut answer = msg::login::Res {
            server_time_ms: Some(self.gate.clock.now_ms()),
            ..msg::login::Res::default()
        };
        match bound {
            Ok((session, user)) => {
                self.gate.meters.sign_ins.increment(1);
                self.gate.meters.sessions.increment(1);
                tracing::debug!(target: "gate", peer = %self.peer, account = session.account.id, "signed in");
                answer.user = Some(user);
                answer.session_id = Some(session.id.to_string());
                self.signed_in(session);
            }
            Err(refusal) => {
                self.gate.meters.sign_ins_refused.increment(1);
                tracing::debug!(target: "gate", peer = %self.peer, "sign-in refused: {refusal}");
                answer.code = refusal.code.0;
            }
        }
        self.outbox.open(&answer);
    }

    async fn bind(&self, request: &msg::login::Req) -> Result<(Session, def::User), Refusal> {
        if self.gate.draining() {
            return Err(Code::DRAINING.into());
        }
        let now_ms = self.gate.clock.now_ms();
        let claims = self.gate.tokens().verify(&request.token, now_ms).map_err(|e| match e {
            TokenError::Expired => Code::TOKEN_EXPIRED,
            TokenError::Invalid => Code::TOKEN_INVALID,
        })?;
        let id = claims.sub.parse().map_err(|_| Code::TOKEN_INVALID)?;
        let account = Account { id, openid: claims.openid };
        let session = SessionId(self.gate.chance.next_u64());
        let end = self.outbox.clone();
        let seeking = Seeking { session, account: account.clone(), end, moved: false };
        let (player, attached) = self.gate.players.attach(&seeking).await?;
        Ok((Session { id: session, account, player }, attached.user))
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
                return self.outbox.kick(Code::NOT_CONNECTED, "the player's game server went away");
            }
        };
        self.gate.meters.moves.increment(1);
        let (now, id) = (Instant::now(), session.id);
        self.session = Some(Session { player, ..session });
        self.forward_batch(id, &mut returned, now);
    }

    async fn find_again(&self, session: &Session) -> Result<(EntityPort, Batch), Refusal> {
        session.player.detach(session.id, &self.gate.tasks);
        let returned = self.outbox.moved().await?;
        session.player.forget(session.id);
        let Session { id, account, player: _ } = session;
        let (account, end) = (account.clone(), self.outbox.clone());
        let seeking = Seeking { session: *id, account, end, moved: true };
        Ok((self.gate.players.attach(&seeking).await?.0, returned))
    }
}

impl<C> Connection<C> {
    /// Tells the player that its session is gone.
    pub(super) fn end_session(&mut self) {
        if let Some(Session { id, account: _, player }) = self.session.take() {
            self.gate.meters.sessions.decrement(1);
            player.detach(id, &self.gate.tasks);
            player.forget(id);
        }
    }
}
