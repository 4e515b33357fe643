//! Owns the end of sessions that somebody else than their client ends: finds the player wherever
//! it runs, also while it moves, and leaves marks for whoever is just signing in.
//! Leaves to the player what ends with a session, and to the account center who may end one.

mod marks;

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tokio::time::{Instant, sleep};

pub(crate) use self::marks::{Ban, Marks, REVOKED};
pub(crate) use crate::link::End;

use crate::{
    ask::{Asker, Calls},
    clock::Clock,
    directory::{Directory, Role},
    entity::{Ended, EntityId, Host, PLAYER, carried_key},
    limits::{END_PATIENCE, END_RETRY},
    proto::link::{Session, end_session},
    store::Cache,
    wire::{Code, Refusal},
};

/// The sessions of the cluster, wherever they are. A clone is a handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    directory: Directory,
    asker: Asker,
    cache: Cache,
    clock: Clock,
}

/// What became of a session that was to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is over, and nobody goes on with it.
    Ended,
    /// There was none.
    None,
    /// The player was not reached within [`END_PATIENCE`].
    Unknown,
}

impl Sessions {
    pub(crate) fn new(directory: Directory, asker: Asker, cache: Cache, clock: Clock) -> Self {
        Self { directory, asker, cache, clock }
    }

    /// Who may not sign in, or go on.
    pub(crate) fn marks(&self) -> Marks {
        Marks::new(self.cache.clone(), self.clock.clone())
    }

    /// Ends the session of an account: a client that is connected hears `msg.Kick.Res` and is
    /// closed, one that is away can no longer resume. Tries again for [`END_PATIENCE`] while the
    /// player moves, or its node is not reached.
    ///
    /// A sign-in that is under way is not waited for: where it must not succeed either, the mark
    /// is written first.
    pub(crate) async fn end(&self, account: i64, end: &End) -> Outcome {
        let player = EntityId { kind: PLAYER, key: account.to_string().into() };
        let began = Instant::now();
        let mut search = Search { until: began + END_PATIENCE, began, not_here: None };
        let mut pause = END_RETRY.0;
        loop {
            match self.try_end(&player, account, end, &mut search).await {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => tracing::trace!(target: "sessions", account, "the player moves"),
                Err(e) => tracing::debug!(target: "sessions", account, "not ended yet: {e}"),
            }
            if Instant::now() + pause > search.until {
                tracing::warn!(
                    target: "sessions", account, limit = END_PATIENCE.as_secs(),
                    "a session may go on: the player's game server is not reached"
                );
                return Outcome::Unknown;
            }
            sleep(pause).await;
            pause = (pause * 2).min(END_RETRY.1);
        }
    }

    /// `None`: the player moves just now.
    async fn try_end(
        &self,
        player: &EntityId,
        account: i64,
        end: &End,
        search: &mut Search,
    ) -> Result<Option<Outcome>, Refusal> {
        let Some(node) = self.directory.locate(&player.to_string()).await? else {
            return self.end_carried(player, end, search).await;
        };
        let End { sid, code, reason } = end.clone();
        let request = end_session::Req { account, sid, code: code.0, reason };
        let left = search.until.saturating_duration_since(Instant::now()).max(LAST_TRY);
        let answer = self.asker.ask_at(&node, Role::Game, &request, left).await?;
        match answer.outcome() {
            end_session::Outcome::Ended => Ok(Some(Outcome::Ended)),
            end_session::Outcome::NoSession => Ok(Some(Outcome::None)),
            end_session::Outcome::Moving => Ok(None),
            // It may have left since it was located; if it is located there again, nothing runs.
            end_session::Outcome::NotHere if search.not_here.as_ref() == Some(&node) => {
                self.end_carried(player, end, search).await
            }
            end_session::Outcome::NotHere => {
                search.not_here = Some(node);
                Ok(None)
            }
        }
    }

    /// Nobody runs the player. Its session may lie in the cache, on its way to another node: of
    /// those who go on with it and those who end it, the one who takes it from there has it.
    async fn end_carried(
        &self,
        player: &EntityId,
        end: &End,
        search: &Search,
    ) -> Result<Option<Outcome>, Refusal> {
        let (key, now_ms) = (carried_key(player), self.clock.now_ms());
        let away = |_| Refusal::from(Code::NOT_READY);
        let Some(carried) = self.cache.get(&key, now_ms).await.map_err(away)? else {
            // Whoever took it has claimed the player before.
            let located = self.directory.locate(&player.to_string()).await?;
            let nobody = located.is_none() || located == search.not_here;
            return Ok(nobody.then_some(Outcome::None));
        };
        let session = Session::decode(carried.as_slice()).unwrap_or_default();
        if end.sid.as_ref().is_some_and(|sid| *sid != session.sid) {
            return Ok(Some(Outcome::None));
        }
        if search.began.elapsed() < MOVE_PATIENCE {
            // Its client, if it is connected, is to hear why: it is with its player in no time.
            return Ok(None);
        }
        let taken = self.cache.take(&key, now_ms).await.map_err(away)?;
        Ok(taken.map(|_| Outcome::Ended))
    }
}

/// What was found out on the way to a player.
#[derive(Debug)]
struct Search {
    began: Instant,
    until: Instant,
    /// The node that said last that nothing of the player runs there.
    not_here: Option<String>,
}

/// How long a session that lies in the cache is given to come to its player: a move takes some
/// milliseconds, and an operator expects a kick to be done within a second.
const MOVE_PATIENCE: Duration = Duration::from_millis(300);

/// What a question that begins at the end of the patience has all the same.
const LAST_TRY: Duration = Duration::from_millis(100);

/// What a game server is asked about the sessions of its players.
pub(crate) fn calls(host: &Arc<Host>, calls: Calls) -> Calls {
    calls.on(host, end_here)
}

async fn end_here(host: Arc<Host>, request: end_session::Req) -> Result<end_session::Res, Refusal> {
    let end_session::Req { account, sid, code, reason } = request;
    let ended = host.end_session(account, End { sid, code: Code(code), reason }).await;
    let outcome = match ended {
        Ended::Done => end_session::Outcome::Ended,
        Ended::NoSession => end_session::Outcome::NoSession,
        Ended::NotHere => end_session::Outcome::NotHere,
        Ended::Moving => end_session::Outcome::Moving,
    };
    Ok(end_session::Res { outcome: outcome.into() })
}
