//! Owns sign-in: from a token to a session that is bound to its player, and back to nobody.

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::connection::Connection;
use crate::{
    account::TokenError,
    def,
    limits::SIGN_IN_DEADLINE,
    link::{Account, EntityPort, Mail, SendError, SessionId, SessionPort},
    msg,
    wire::{Code, Refusal},
};

/// A signed-in client.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) account: i64,
    /// Where its player lives.
    pub(super) player: EntityPort,
}

impl<C> Connection<C>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
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
                tracing::debug!(target: "gate", peer = %self.peer, account = session.account, "signed in");
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
        let port = SessionPort::Local(self.outbox.clone());
        let (player, attached) = self.gate.host.attach(session, account, port).await?;
        Ok((Session { id: session, account: id, player }, attached.user))
    }
}

impl<C> Connection<C> {
    /// Tells the player that its session is gone.
    pub(super) fn end_session(&mut self) {
        if let Some(Session { id, account: _, player }) = self.session.take() {
            self.gate.meters.sessions.decrement(1);
            // A full mailbox must not lose this: the player would never know that it is alone.
            if let Err(SendError::Full(mail)) = player.send(Mail::Detach(id)) {
                self.gate.tasks.spawn(async move { player.deliver(mail).await });
            }
        }
    }
}
