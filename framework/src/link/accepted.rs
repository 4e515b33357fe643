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
    Arrival, Attached, Batch, ConnectionId, Entry, Mail, Mailbox, NotAttached, RemoteSession,
    Requests, Seating, Secret, SessionId, SessionPort,
    envelope::{Envelope, Garbage},
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
        arrival: Arrival,
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
            let _told = mailbox.map(|m| m.detach(ConnectionId(session), &self.served.tasks));
        }
    }

    fn sessions(&self) -> MutexGuard<'_, FxHashMap<u64, Option<Mailbox>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // === What sessions say ===

    #[inline]
    fn requests(&self, connection: ConnectionId, timeout_ms: u32, batch: Batch) {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
        // Not under the lock: a player that rests does at once what is asked of it.
        let mailbox = self.sessions().get(&connection.0).cloned().flatten();
        let sent = match mailbox {
            Some(mailbox) => mailbox.requests(Requests { connection, deadline, batch }),
            None => Err(Code::NOT_CONNECTED),
        };
        if let Err(code) = sent {
            // What is lost was not counted: the client may go on over another connection. On this
            // one nothing behind it may be taken any more.
            let mailbox = self.sessions().remove(&connection.0).flatten();
            // A player that has stopped needs no telling.
            let _told = mailbox.map(|m| m.detach(connection, &self.served.tasks));
            self.meters.refused.increment(1);
            let (connection, reason) = (connection.0, code.text().to_owned());
            let kick = proto::Kick { connection, code: code.0, reason };
            self.line.must_post(&Envelope::Kick(kick));
        }
    }

    fn blocked(&self, connection: ConnectionId, blocked: bool) {
        let mailbox = self.sessions().get(&connection.0).cloned().flatten();
        // A player that has stopped needs no telling.
        let _told =
            mailbox.map(|m| m.must_send(Mail::Blocked(connection, blocked), &self.served.tasks));
    }

    fn detach(&self, connection: ConnectionId) {
        let mailbox = self.sessions().remove(&connection.0).flatten();
        // A player that has left says itself that nothing more comes.
        let told = mailbox.is_some_and(|m| m.detach(connection, &self.served.tasks));
        if !told {
            self.line.must_post(&Envelope::Detached(connection));
        }
    }

    // === What is asked ===

    fn attach(self: &Arc<Self>, ask: proto::Attach) {
        let (call, connection) = (ask.call, ConnectionId(ask.connection));
        let Some((host, place)) = self.served.host.clone().zip(self.place()) else {
            let code = if self.served.host.is_some() { Code::BUSY } else { Code::NOT_READY };
            return self.attached(call, connection, Err(Refusal::from(code).into()));
        };
        self.sessions().insert(connection.0, None);
        let accepted = self.clone();
        self.served.tasks.spawn(async move {
            let attached = accepted.bring(&*host, ask).await;
            if attached.is_err() {
                accepted.sessions().remove(&connection.0);
            }
            accepted.attached(call, connection, attached);
            if !accepted.line.is_open() {
                // The connection broke meanwhile.
                accepted.closed();
            }
            drop(place);
        });
    }

    async fn bring(&self, host: &dyn Hosts, ask: proto::Attach) -> Result<Attached, NotAttached> {
        let connection = ConnectionId(ask.connection);
        let line = self.line.clone();
        let arrival = Arrival {
            connection,
            account: ask.account,
            port: SessionPort::Remote(RemoteSession { line, connection }),
            entry: entry(ask.entry).ok_or(Refusal::from(Code::INTERNAL))?,
            datagram_bytes_max: ask.datagram_bytes_max as usize,
        };
        let patience = Duration::from_millis(ask.deadline_ms.into());
        let attached = timeout(patience, host.attach(arrival)).await;
        let (mailbox, attached) =
            attached.unwrap_or_else(|_| Err(Refusal::from(Code::DEADLINE).into()))?;
        if let Some(seat) = self.sessions().get_mut(&connection.0) {
            *seat = Some(mailbox);
            return Ok(attached);
        }
        // The gate has given up meanwhile.
        let _told: bool = mailbox.detach(connection, &self.served.tasks);
        Err(Refusal::from(Code::DEADLINE).into())
    }

    fn attached(
        &self,
        call: u64,
        connection: ConnectionId,
        attached: Result<Attached, NotAttached>,
    ) {
        let mut answer = proto::Attached { call, connection: connection.0, ..Default::default() };
        match attached {
            Ok(Attached { user, session, secret, received, sid, state }) => {
                answer.user = user.map(|u| prost::Message::encode_to_vec(&u)).unwrap_or_default();
                answer.session = session.0;
                answer.secret = secret.to_bytes().to_vec();
                answer.received = received;
                answer.sid = sid;
                answer.state = state;
            }
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
            Envelope::Requests(connection, timeout_ms, frames) => {
                self.requests(connection, timeout_ms, frames.into());
            }
            Envelope::Alive => {}
            Envelope::Attach(ask) => self.attach(ask),
            Envelope::Detach(connection) => self.detach(connection),
            Envelope::Blocked(connection, blocked) => self.blocked(connection, blocked),
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

fn entry(entry: Option<proto::attach::Entry>) -> Option<Entry> {
    Some(match entry? {
        proto::attach::Entry::SignIn(proto::SignIn { openid, sid }) => {
            Entry::SignIn { openid, sid }
        }
        proto::attach::Entry::Resume(proto::Resume { session, secret, received }) => {
            let secret = Secret::from_bytes(&secret)?;
            Entry::Resume { session: SessionId(session), secret, received }
        }
        proto::attach::Entry::Moved(proto::Moved { session }) => {
            Entry::Moved { session: SessionId(session) }
        }
        proto::attach::Entry::Seat(proto::Seating { kind, room_id, name, joins }) => {
            Entry::Seat(Box::new(Seating { kind, room_id, name, joins }))
        }
    })
}
