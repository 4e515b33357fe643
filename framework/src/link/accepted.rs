//! Owns a game server's end of a link: the mailboxes of the players that sessions at the other end
//! speak to, and what the other end asks of this node's roles.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use rustc_hash::FxHashMap;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{
    Account, Attached, Batch, Mail, Mailbox, NotAttached, RemoteSession, Requests, SendError,
    SessionId, SessionPort,
    envelope::{Envelope, Garbage, pieces},
    line::{Line, Side},
};
use crate::{
    ask::Asker,
    directory::Role,
    limits::LINK_CALLS_MAX,
    proto::link as proto,
    tasks::Tasks,
    telemetry::LinkMeters,
    wire::{Code, Refusal},
};

/// A game server, as a link knows it.
pub(crate) trait Hosts: fmt::Debug + Send + Sync {
    /// Brings a session to its player.
    fn attach(
        &self,
        session: SessionId,
        account: Account,
        port: SessionPort,
        moved: bool,
    ) -> BoxFuture<'static, Result<(Mailbox, Attached), NotAttached>>;
}

/// Who answers what other nodes ask.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// The game server, when this node is one.
    pub(crate) host: Option<Arc<dyn Hosts>>,
    pub(crate) asker: Asker,
    pub(crate) tasks: Tasks,
}

/// The end that was connected to: it is asked, and tells.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) line: Arc<Line>,
    /// Who is at the other end.
    pub(super) node: String,
    served: Served,
    /// Std mutex: held to look one mailbox up and put mail into it, never across an await.
    /// `None`: on its way to its player.
    sessions: Mutex<FxHashMap<u64, Option<Mailbox>>>,
    /// Sign-ins and questions under way.
    places: Arc<Semaphore>,
    meters: LinkMeters,
}

impl Accepted {
    pub(super) fn new(
        line: Arc<Line>,
        node: String,
        served: Served,
        meters: LinkMeters,
    ) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(LINK_CALLS_MAX));
        let sessions = Mutex::default();
        Arc::new(Self { line, node, served, sessions, places, meters })
    }

    pub(super) fn sessions_count(&self) -> usize {
        self.sessions().len()
    }

    /// The connection is gone: so are the sessions that came over it.
    pub(super) fn closed(&self) {
        let sessions = std::mem::take(&mut *self.sessions());
        for (session, mailbox) in sessions {
            // A player that has stopped needs no telling.
            let _told = mailbox.map(|m| m.detach(SessionId(session), &self.served.tasks));
        }
    }

    fn sessions(&self) -> MutexGuard<'_, FxHashMap<u64, Option<Mailbox>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // === What sessions say ===

    #[inline]
    fn requests(&self, session: SessionId, timeout_ms: u32, batch: Batch) {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
        let mail = Mail::Requests(Requests { session, deadline, batch });
        let sent = match self.sessions().get(&session.0) {
            Some(Some(mailbox)) => mailbox.send(mail),
            Some(None) | None => Err(SendError::Stopped(mail)),
        };
        let (mail, code) = match sent {
            Ok(()) => return,
            Err(SendError::Full(mail)) => (mail, Code::BUSY),
            Err(SendError::Stopped(mail)) => (mail, Code::NOT_CONNECTED),
        };
        if let Mail::Requests(Requests { batch, .. }) = mail {
            let refusals = batch.refused(code, &self.meters.refused);
            pieces(&refusals, |frames| self.line.must_post(&Envelope::Deliver(session, frames)));
        }
    }

    fn detach(&self, session: SessionId) {
        let mailbox = self.sessions().remove(&session.0).flatten();
        // A player that has left says itself that nothing more comes.
        let told = mailbox.is_some_and(|m| m.detach(session, &self.served.tasks));
        if !told {
            self.line.must_post(&Envelope::Detached(session));
        }
    }

    // === What is asked ===

    fn attach(self: &Arc<Self>, ask: proto::Attach) {
        let (call, session) = (ask.call, ask.session);
        let Some((host, place)) = self.served.host.clone().zip(self.place()) else {
            let code = if self.served.host.is_some() { Code::BUSY } else { Code::NOT_READY };
            return self.attached(call, session, Err(Refusal::from(code).into()));
        };
        self.sessions().insert(session, None);
        let accepted = self.clone();
        self.served.tasks.spawn(async move {
            let proto::Attach { account: id, openid, moved, deadline_ms, .. } = ask;
            let account = Account { id, openid };
            let port = SessionPort::Remote(RemoteSession {
                line: accepted.line.clone(),
                session: SessionId(session),
            });
            let patience = Duration::from_millis(deadline_ms.into());
            let attached = host.attach(SessionId(session), account, port, moved);
            let attached = timeout(patience, attached).await;
            let attached = attached.unwrap_or_else(|_| Err(Refusal::from(Code::DEADLINE).into()));
            let attached = attached.and_then(|(mailbox, attached)| {
                let session = SessionId(session);
                match accepted.sessions().get_mut(&session.0) {
                    Some(seat) => {
                        *seat = Some(mailbox);
                        Ok(attached)
                    }
                    // The gate has given up meanwhile.
                    None => {
                        let _told: bool = mailbox.detach(session, &accepted.served.tasks);
                        Err(Refusal::from(Code::DEADLINE).into())
                    }
                }
            });
            if attached.is_err() {
                accepted.sessions().remove(&session);
            }
            accepted.attached(call, session, attached);
            if !accepted.line.is_open() {
                // The connection broke meanwhile.
                accepted.closed();
            }
            drop(place);
        });
    }

    fn attached(&self, call: u64, session: u64, attached: Result<Attached, NotAttached>) {
        let mut answer = proto::Attached { call, session, ..Default::default() };
        match attached {
            Ok(Attached { user }) => answer.user = prost::Message::encode_to_vec(&user),
            Err(NotAttached::Elsewhere(node)) => {
                answer.code = Code::NOT_CONNECTED.0;
                answer.elsewhere = node;
            }
            Err(NotAttached::Refused(refusal)) => {
                answer.code = refusal.code.0;
                answer.message = refusal.message.into_owned();
            }
        }
        self.line.must_post(&Envelope::Attached(answer));
    }

    fn ask(self: &Arc<Self>, ask: proto::Ask) {
        let Some(place) = self.place() else {
            return self.answer(ask.call, Err(Code::BUSY.into()));
        };
        let accepted = self.clone();
        self.served.tasks.spawn(async move {
            let proto::Ask { call, role, api, payload, deadline_ms } = ask;
            let patience = Duration::from_millis(deadline_ms.into());
            let answer = match Role::from_name(&role) {
                Some(role) => accepted.served.asker.ask_here(role, api, payload, patience).await,
                None => Err(Code::NOT_READY.into()),
            };
            accepted.answer(call, answer);
            drop(place);
        });
    }

    fn answer(&self, call: u64, answer: Result<Vec<u8>, Refusal>) {
        let answer = match answer {
            Ok(payload) => proto::Answer { call, payload, ..Default::default() },
            Err(Refusal { code, message }) => proto::Answer {
                call,
                code: code.0,
                message: message.into_owned(),
                ..Default::default()
            },
        };
        self.line.must_post(&Envelope::Answer(answer));
    }

    fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }
}

impl Side for Arc<Accepted> {
    #[inline]
    fn take(&self, envelope: Envelope<'_>) -> Result<(), Garbage> {
        match envelope {
            Envelope::Requests(session, timeout_ms, frames) => {
                self.requests(session, timeout_ms, frames.into());
            }
            Envelope::Alive => {}
            Envelope::Attach(ask) => self.attach(ask),
            Envelope::Detach(session) => self.detach(session),
            Envelope::Ask(ask) => self.ask(ask),
            Envelope::Hello(_)
            | Envelope::Attached(_)
            | Envelope::Deliver(..)
            | Envelope::Kick(_)
            | Envelope::Leaving(_)
            | Envelope::GiveBack(..)
            | Envelope::Detached(_)
            | Envelope::Answer(_) => {
                return Err(Garbage("an envelope that a game server is never sent"));
            }
        }
        Ok(())
    }
}
