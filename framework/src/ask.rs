//! Owns roles as actors: the account center and its like, found through the directory and asked
//! by message, in this process or over a link. Entities are not asked here: they have mailboxes
//! of their own.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures_util::future::BoxFuture;
use kameo::{
    Actor,
    actor::{ActorRef, PreparedActor},
    error::SendError,
    mailbox,
    message::{Context, Message},
    reply::DelegatedReply,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::{
    Request,
    directory::{Directory, NodeInfo, Role},
    limits::{ROLE_ASK_DEADLINE, ROLE_ASKS_MAX},
    link::Links,
    tasks::Tasks,
    wire::{Code, Refusal},
};

/// Asks the roles of the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asker {
    /// Std lock: held to clone an actor's reference.
    here: Arc<RwLock<HashMap<Role, ActorRef<RoleActor>>>>,
    /// The way to the roles of other nodes, when there are others.
    others: Option<(Directory, Links)>,
}

impl Asker {
    /// Asks roles of other nodes too.
    pub(crate) fn of_cluster(directory: Directory, links: Links) -> Self {
        Self { here: Arc::default(), others: Some((directory, links)) }
    }

    /// Asks whoever has this role: this node, else the least loaded that is up.
    ///
    /// # Errors
    /// The role's own refusal; 101 when nobody has the role, 1001 when who has it is not reached,
    /// 1002 when it has too much to do, 1003 when it did not answer within
    /// [`ROLE_ASK_DEADLINE`].
    pub(crate) async fn ask<Q: Request>(&self, role: Role, request: &Q) -> Result<Q::Res, Refusal> {
        let (api, payload) = (Q::NAME, request.encode_to_vec());
        let answer = match &self.others {
            Some((directory, links)) if !self.has(role) => {
                let node = reached(directory, links, role).await?;
                links.ask(&node, role, api, payload, Instant::now() + ROLE_ASK_DEADLINE).await?
            }
            _ => self.ask_here(role, api.to_owned(), payload, ROLE_ASK_DEADLINE).await?,
        };
        decoded::<Q>(&answer)
    }

    /// Asks a role of one node and no other.
    ///
    /// # Errors
    /// As [`Asker::ask`]; 1001 also when discovery does not have the node.
    pub(crate) async fn ask_at<Q: Request>(
        &self,
        node: &str,
        role: Role,
        request: &Q,
        patience: Duration,
    ) -> Result<Q::Res, Refusal> {
        let (api, payload) = (Q::NAME, request.encode_to_vec());
        let answer = match &self.others {
            Some((directory, links)) if node != directory.me() => {
                let node = directory.node(node).ok_or(Code::NOT_CONNECTED)?;
                let asked = links.ask(&node, role, api, payload, Instant::now() + patience);
                timeout(patience, asked).await.map_err(|_| Code::DEADLINE)??
            }
            _ => self.ask_here(role, api.to_owned(), payload, patience).await?,
        };
        decoded::<Q>(&answer)
    }

    /// Asks a role of this node, in bytes.
    pub(crate) async fn ask_here(
        &self,
        role: Role,
        api: String,
        payload: Vec<u8>,
        patience: Duration,
    ) -> Result<Vec<u8>, Refusal> {
        let actor = self.here.read().unwrap_or_else(PoisonError::into_inner).get(&role).cloned();
        let actor = actor.ok_or(Code::NOT_READY)?;
        let answer = timeout(patience, actor.ask(Call { api, payload })).await;
        answer.map_err(|_| Code::DEADLINE)?.map_err(|e| match e {
            SendError::HandlerError(refusal) => refusal,
            SendError::MailboxFull(_) => Code::BUSY.into(),
            SendError::Timeout(_) => Code::DEADLINE.into(),
            SendError::ActorNotRunning(_)
            | SendError::ActorStopped
            | SendError::ActorRestarting(_) => Code::NOT_READY.into(),
        })
    }

    fn has(&self, role: Role) -> bool {
        self.here.read().unwrap_or_else(PoisonError::into_inner).contains_key(&role)
    }

    /// Sets a role going on this node.
    pub(crate) fn start(&self, role: Role, calls: Calls, tasks: &Tasks) {
        let prepared = PreparedActor::new(mailbox::bounded(ROLE_ASKS_MAX));
        let actor = prepared.actor_ref().clone();
        tasks.spawn(async move {
            if let Err(panic) = prepared.run(RoleActor::new(calls)).await {
                tracing::error!(target: "ask", ?role, "a role failed to start: {panic}");
            }
        });
        self.here.write().unwrap_or_else(PoisonError::into_inner).insert(role, actor);
    }

    /// Stops every role of this node; who asks from now on is told 101.
    pub(crate) fn stop(&self) {
        self.here.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Who has a role and is reached: one that was killed stays in discovery to the end of its lease.
///
/// # Errors
/// 101 when nobody has the role, 1001 when none of them is reached.
async fn reached(
    directory: &Directory,
    links: &Links,
    role: Role,
) -> Result<Arc<NodeInfo>, Refusal> {
    let (mut tried, mut why) = (Vec::new(), Refusal::from(Code::NOT_READY));
    while let Some(node) = directory.with_role(role, &tried) {
        match links.reach(&node).await {
            Ok(()) => return Ok(node),
            Err(refusal) => why = refusal,
        }
        tried.push(node.id.clone());
    }
    Err(why)
}

fn decoded<Q: Request>(answer: &[u8]) -> Result<Q::Res, Refusal> {
    <Q::Res as prost::Message>::decode(answer).map_err(|e| {
        tracing::error!(target: "ask", api = Q::NAME, "the answer cannot be decoded: {e}");
        Code::INTERNAL.into()
    })
}

type AnyCall = Box<dyn Fn(&[u8]) -> BoxFuture<'static, Result<Vec<u8>, Refusal>> + Send + Sync>;

/// What a role can be asked.
#[derive(Default)]
pub(crate) struct Calls(HashMap<&'static str, AnyCall>);

impl Calls {
    /// Adds a function that answers `Q`. Calls run beside each other: `state` is a handle.
    pub(crate) fn on<S, Q, F, Fut>(mut self, state: &S, call: F) -> Self
    where
        S: Clone + Send + Sync + 'static,
        Q: Request,
        F: Fn(S, Q) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Q::Res, Refusal>> + Send + 'static,
    {
        let state = state.clone();
        let call: AnyCall = Box::new(move |payload| match Q::decode(payload) {
            Ok(request) => {
                let answer = call(state.clone(), request);
                Box::pin(async move { Ok(prost::Message::encode_to_vec(&answer.await?)) })
            }
            Err(e) => Box::pin(async move { Err(Code::UNDECODABLE.because(e.to_string())) }),
        });
        self.0.insert(Q::NAME, call);
        self
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Calls").field(&self.0.keys()).finish()
    }
}

/// One question to a role.
#[derive(Debug)]
pub(crate) struct Call {
    api: String,
    payload: Vec<u8>,
}

/// A role of this node. It only hands calls out, so that a slow one delays no other.
#[derive(Debug)]
pub(crate) struct RoleActor {
    calls: Calls,
    /// Calls under way; beyond it they are refused (1002).
    places: Arc<Semaphore>,
}

impl RoleActor {
    fn new(calls: Calls) -> Self {
        Self { calls, places: Arc::new(Semaphore::new(ROLE_ASKS_MAX)) }
    }
}

impl Actor for RoleActor {
    type Args = Self;
    type Error = std::convert::Infallible;

    async fn on_start(role: Self, _: ActorRef<Self>) -> Result<Self, Self::Error> {
        Ok(role)
    }
}

impl Message<Call> for RoleActor {
    type Reply = DelegatedReply<Result<Vec<u8>, Refusal>>;

    async fn handle(&mut self, call: Call, ctx: &mut Context<Self, Self::Reply>) -> Self::Reply {
        let Some(answer) = self.calls.0.get(call.api.as_str()) else {
            return ctx.reply(Err(Code::UNKNOWN_API.into()));
        };
        match self.places.clone().try_acquire_owned() {
            Ok(place) => {
                let answer = answer(&call.payload);
                ctx.spawn(async move {
                    let answer = answer.await;
                    drop(place);
                    answer
                })
            }
            Err(_) => ctx.reply(Err(Code::BUSY.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg;

    async fn double(factor: i64, request: msg::echo::Req) -> Result<msg::echo::Res, Refusal> {
        match request.val {
            Some(val) => Ok(msg::echo::Res { val: Some(val * factor), ct: None }),
            None => std::future::pending().await,
        }
    }

    fn asker() -> Asker {
        let asker = Asker::default();
        let calls = Calls::default().on(&2i64, double);
        asker.start(Role::Account, calls, &Tasks::default());
        asker
    }

    #[tokio::test]
    async fn a_role_answers_by_message() {
        let request = msg::echo::Req { val: Some(21), ct: None };
        let answer = asker().ask(Role::Account, &request).await.expect("answered");
        assert_eq!(answer.val, Some(42));
    }

    #[tokio::test]
    async fn nobody_with_the_role_is_not_ready_and_an_unknown_question_is_unknown() {
        let asker = asker();
        let nobody = asker.ask(Role::Game, &msg::echo::Req::default()).await;
        assert_eq!(nobody.map_err(|r| r.code), Err(Code::NOT_READY));
        let unknown = asker.ask(Role::Account, &msg::get_mails::Req::default()).await;
        assert_eq!(unknown.map_err(|r| r.code), Err(Code::UNKNOWN_API));
        asker.stop();
        let stopped = asker.ask(Role::Account, &msg::echo::Req::default()).await;
        assert_eq!(stopped.map_err(|r| r.code), Err(Code::NOT_READY));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_hangs_meets_its_deadline_and_delays_no_other() {
        let asker = asker();
        let hangs = msg::echo::Req::default();
        let fine = msg::echo::Req { val: Some(1), ct: None };
        let (hung, answered) =
            tokio::join!(asker.ask(Role::Account, &hangs), asker.ask(Role::Account, &fine));
        assert_eq!(hung.map_err(|r| r.code), Err(Code::DEADLINE));
        assert!(answered.is_ok());
    }
}
