//! Owns what a studio writes for its players: load, save, and what happens at sign-in.

use super::Ctx;
use crate::{def, link::Account};

/// The state of one signed-in player, kept by its entity between messages.
///
/// Two methods are required. They are pure: bastide reads and writes the bytes, under a claim
/// that lets exactly one node write them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a player",
    note = "implement `bastide::Player` for it: `load` and `save` (see examples/cards)"
)]
pub trait Player: Sized + Send + Sync + 'static {
    /// Makes the state from what was saved; `None` for a player who is here for the first time.
    ///
    /// # Errors
    /// When the bytes cannot be understood. The sign-in is then refused with 2003, and what is
    /// stored stays as it is.
    fn load(account: &Account, saved: Option<&[u8]>, now_ms: i64) -> Result<Self, LoadError>;

    /// The state as bytes. Called at most every `game.save_interval` while messages come in, when
    /// the player leaves, and when the node stops; equal bytes are not written again.
    fn save(&self) -> Vec<u8>;

    /// What the client is told about its player at sign-in.
    fn user(&self, account: &Account, now_ms: i64) -> def::User {
        def::User {
            id: account.id,
            account: account.id,
            name: Some(format!("guest-{}", account.id)),
            icon: Some(1),
            lvl: Some(1),
            vip: Some(1),
            motto: None,
            status: 1,
            create_time: now_ms,
            update_time: now_ms,
            items: Vec::new(),
        }
    }

    /// A session begins; pushes made here reach the client right after its sign-in answer.
    fn on_sign_in(&mut self, ctx: &Ctx) {
        let _ = ctx;
    }

    /// The player goes on at this node: the one that ran it went away, and its session stayed. The
    /// state comes from [`Player::save`]; the client knows what it knew.
    fn on_moved(&mut self, ctx: &Ctx) {
        let _ = ctx;
    }

    /// The session's connection is gone. It may come back within `session.resume_window`; what is
    /// pushed meanwhile waits for it.
    fn on_away(&mut self, ctx: &Ctx) {
        let _ = ctx;
    }

    /// The session goes on over another connection: the client has missed nothing.
    fn on_back(&mut self, ctx: &Ctx) {
        let _ = ctx;
    }

    /// The session is over; pushes made here reach nobody.
    fn on_sign_out(&mut self, ctx: &Ctx) {
        let _ = ctx;
    }
}

/// A saved state that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("the saved state cannot be read: {0}")]
pub struct LoadError(String);

impl LoadError {
    /// Says what is wrong with the bytes.
    pub fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl From<prost::DecodeError> for LoadError {
    fn from(e: prost::DecodeError) -> Self {
        Self::new(e)
    }
}
