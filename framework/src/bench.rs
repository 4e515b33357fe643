//! Owns what this repository's benchmarks need to see of the inside. Not for studios.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    App, Ctx, Player,
    account::{Subject, TokenIssuer, TokenVerifier, new_signing_key},
    chance::Chance,
    clock::Clock,
    directory::Claim,
    entity::{EntityId, Table, World},
    link::Mark,
    store::Store,
    tasks::Tasks,
    wire::{Cut, FRAME_BYTES_MAX, cut},
};

/// Runs handlers on a state, without a mailbox or a session around them.
#[derive(Debug)]
pub struct Dispatcher<P> {
    table: Table<P>,
    state: P,
    ctx: Ctx,
}

impl<P: Player> Dispatcher<P> {
    /// A dispatcher with the handlers of a game.
    pub fn new(game: App<P>, state: P) -> Self {
        let world = World {
            clock: Clock::system(),
            store: Store::memory(),
            in_transit: None,
            chance: Chance::from_os(),
            tasks: Tasks::default(),
        };
        let id = EntityId { kind: "player", key: "1".into() };
        Self { table: game.into_table(), state, ctx: Ctx::alone(id, Claim { epoch: 1 }, world) }
    }

    /// Looks up, decodes, handles and encodes each frame; says how many were answered.
    pub fn dispatch(&mut self, frames: &[u8]) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut rest, mut answered) = (frames, 0);
        while let Ok(Cut::Frame(frame)) = cut(rest, FRAME_BYTES_MAX) {
            let call = self.table.call(
                frame.api,
                &mut self.state,
                Mark::Request,
                frame.payload,
                &self.ctx,
            );
            if let Some(call) = call
                && pin!(call).as_mut().poll(&mut cx) == Poll::Ready(Ok(()))
            {
                answered += 1;
            }
            rest = &rest[frame.bytes.len()..];
        }
        self.ctx.flush();
        answered
    }
}

/// What a gate does to know whose an access token is.
#[derive(Debug)]
pub struct TokenCheck {
    verifier: TokenVerifier,
    token: String,
    now_ms: i64,
}

impl TokenCheck {
    /// With a key and a token of its own.
    ///
    /// # Panics
    /// When the system has no source of randomness.
    #[expect(clippy::new_without_default, reason = "nothing about it is a default")]
    pub fn new() -> Self {
        let ttl = Duration::from_secs(7200);
        let issuer = TokenIssuer::new(&new_signing_key(), "bench", ttl).expect("a fresh key");
        let now_ms = Clock::system().now_ms();
        let openid = "0123456789abcdef0123456789abcdef";
        let subject = Subject { account_id: 10_001, openid, ..Subject::default() };
        let token = issuer.issue(&subject, now_ms).0;
        Self { verifier: TokenVerifier::new(&[issuer.jwk()], "bench"), token, now_ms }
    }

    /// Checks it; whether it is good.
    pub fn check(&self) -> bool {
        self.verifier.verify(&self.token, self.now_ms).is_ok()
    }
}
