//! Owns a gate's end of a link: the sessions that have their player at the other end, and the
//! calls that wait for an answer.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use rustc_hash::FxHashMap;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    Attached, Batch, ConnectionId, Entry, NotAttached, Seating, Secret, Seeking, SessionEnd,
    SessionId,
    envelope::{Envelope, Garbage, pieces},
    line::{Line, Side, Unsent},
};
use crate::{
    directory::Role,
    limits::LINK_CALLS_MAX,
    proto::link as proto,
    wire::{Code, Refusal},
};

/// The end that connected: it asks, and is told.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) line: Arc<Line>,
    /// Who is at the other end.
    pub(super) node: String,
    /// Std mutex: held to look one session up and hand it its frames, never across an await.
    sessions: Mutex<FxHashMap<u64, Seated>>,
    /// Std mutex: held to add or to take one call. At most [`LINK_CALLS_MAX`].
    calls: Mutex<FxHashMap<u64, oneshot::Sender<Reply>>>,
    next_call: AtomicU64,
}

/// A session that has its player at the other end, or is about to.
#[derive(Debug)]
struct Seated {
    end: Arc<dyn SessionEnd>,
    attached: bool,
}

#[derive(Debug)]
enum Reply {
    Attached(proto::Attached),
    Answer(proto::Answer),
}

impl Dialed {
    pub(super) fn new(line: Arc<Line>, node: String) -> Self {
        let (sessions, calls) = (Mutex::default(), Mutex::default());
        Self { line, node, sessions, calls, next_call: AtomicU64::new(1) }
    }

    /// Asks the other end to bring a session to its player.
    pub(super) async fn attach(
        &self,
        seeking: &Seeking,
        deadline: Instant,
    ) -> Result<Attached, NotAttached> {
        let Seeking { connection, account, end, entry, datagram_bytes_max } = seeking.clone();
        // What the player says at once must find the session.
        self.sessions().insert(connection.0, Seated { end, attached: false });
        let given_up = GivenUp { dialed: self, connection: Some(connection) };
        let asked = self.call(deadline, |call| {
            Envelope::Attach(proto::Attach {
                call,
                connection: connection.0,
                account,
                deadline_ms: remaining_ms(deadline),
                datagram_bytes_max: u32::try_from(datagram_bytes_max).unwrap_or(u32::MAX),
                entry: Some(said(entry)),
            })
        });
        let Reply::Attached(answer) = asked.await? else {
            return Err(Refusal::from(Code::INTERNAL).into());
        };
        if answer.code == Code::OK.0 {
            let attached = attached(&answer).ok_or_else(|| {
                tracing::error!(target: "link", node = self.node, "an answer to a sign-in cannot be decoded");
                Refusal::from(Code::INTERNAL)
            })?;
            given_up.no();
            return Ok(attached);
        }
        Err(match answer.elsewhere.is_empty() {
            true => Code(answer.code).because(answer.message).into(),
            false => NotAttached::Elsewhere(answer.elsewhere),
        })
    }

    /// Asks a role of the other end.
    pub(super) async fn ask(
        &self,
        role: Role,
        api: &str,
        payload: Vec<u8>,
        deadline: Instant,
    ) -> Result<Vec<u8>, Refusal> {
        let asked = self.call(deadline, |call| {
            Envelope::Ask(proto::Ask {
                call,
                role: role.name().to_owned(),
                api: api.to_owned(),
                payload,
                deadline_ms: remaining_ms(deadline),
            })
        });
        let Reply::Answer(answer) = asked.await? else { return Err(Code::INTERNAL.into()) };
        if answer.code == Code::OK.0 {
            return Ok(answer.payload);
        }
        Err(Code(answer.code).because(answer.message))
    }

    async fn call(
        &self,
        deadline: Instant,
        envelope: impl FnOnce(u64) -> Envelope<'static>,
    ) -> Result<Reply, Refusal> {
        let number = self.next_call.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        {
            let mut calls = self.calls();
            if calls.len() >= LINK_CALLS_MAX {
                return Err(Code::BUSY.into());
            }
            calls.insert(number, reply);
        }
        let _waiting = Waiting { dialed: self, number };
        self.line.post(&envelope(number)).map_err(|e| match e {
            Unsent::Full => Refusal::from(Code::BUSY),
            Unsent::Closed => Code::NOT_CONNECTED.into(),
        })?;
        let answer =
            timeout_at(deadline, answer).await.map_err(|_| Refusal::from(Code::DEADLINE))?;
        // Whether it was done before the link broke is not known.
        answer.map_err(|_| Code::DEADLINE.because("the link to the other node broke"))
    }

    /// Forwards what a session says.
    ///
    /// # Errors
    /// Why it never arrives.
    #[inline]
    pub(super) fn forward(
        &self,
        connection: ConnectionId,
        timeout_ms: u32,
        batch: &mut Batch,
    ) -> Result<(), Code> {
        let (mut sent, mut first) = (Ok(()), true);
        pieces(batch, |frames| {
            let envelope = Envelope::Requests(connection, timeout_ms, frames);
            // All of it or nothing: what is refused must not have been sent.
            match std::mem::take(&mut first) {
                true => sent = self.line.post(&envelope),
                false if sent.is_ok() => self.line.must_post(&envelope),
                false => {}
            }
        });
        match sent {
            Ok(()) => {
                batch.clear();
                Ok(())
            }
            Err(Unsent::Full) => Err(Code::BUSY),
            Err(Unsent::Closed) => Err(Code::NOT_CONNECTED),
        }
    }

    /// Tells the player that nothing more comes from this session.
    pub(super) fn detach(&self, connection: ConnectionId) {
        self.line.must_post(&Envelope::Detach(connection));
    }

    /// Tells the player whether the client takes in less than it is told.
    pub(super) fn blocked(&self, connection: ConnectionId, blocked: bool) {
        self.line.must_post(&Envelope::Blocked(connection, blocked));
    }

    /// Nothing that comes for this connection is wanted any more.
    pub(super) fn forget(&self, connection: ConnectionId) {
        self.sessions().remove(&connection.0);
    }

    /// The connection is gone, and with it every session that had its player there: what it had
    /// not saved is lost, and its clients must know.
    pub(super) fn closed(&self) {
        self.calls().clear();
        let sessions = std::mem::take(&mut *self.sessions());
        for Seated { end, attached } in sessions.into_values() {
            if attached {
                end.kick(Code::NOT_CONNECTED, "the player's game server is gone, sign in again");
            }
        }
    }

    pub(super) fn sessions_count(&self) -> usize {
        self.sessions().len()
    }

    fn reply(&self, call: u64, reply: Reply) {
        // Who has given up meanwhile is not in the table.
        if let Some(waiting) = self.calls().remove(&call)
            && waiting.send(reply).is_err()
        {
            tracing::trace!(target: "link", node = self.node, "nobody waited for a reply");
        }
    }

    fn with_end(&self, connection: ConnectionId, tell: impl FnOnce(&dyn SessionEnd)) {
        // A session that is gone misses nothing.
        if let Some(Seated { end, .. }) = self.sessions().get(&connection.0) {
            tell(&**end);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, FxHashMap<u64, Seated>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, FxHashMap<u64, oneshot::Sender<Reply>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Side for Dialed {
    #[inline]
    fn take(&self, envelope: Envelope<'_>) -> Result<(), Garbage> {
        match envelope {
            Envelope::Deliver(session, frames) => self.with_end(session, |end| end.deliver(frames)),
            Envelope::Alive => {}
            Envelope::Attached(answer) => {
                if let Some(seated) = self.sessions().get_mut(&answer.connection) {
                    seated.attached = answer.code == Code::OK.0;
                }
                self.reply(answer.call, Reply::Attached(answer));
            }
            Envelope::Answer(answer) => self.reply(answer.call, Reply::Answer(answer)),
            Envelope::Kick(proto::Kick { connection, code, reason }) => {
                self.with_end(ConnectionId(connection), |end| end.kick(Code(code), &reason));
            }
            Envelope::Leaving(session) => self.with_end(session, |end| end.leaving()),
            Envelope::GiveBack(session, frames) => {
                self.with_end(session, |end| end.give_back(frames));
            }
            Envelope::Detached(session) => {
                if let Some(seated) = self.sessions().get_mut(&session.0) {
                    // It is on its way to another node: that this connection ends, perhaps in the
                    // same read, does not concern it any more.
                    seated.attached = false;
                    seated.end.detached();
                }
            }
            Envelope::Hello(_)
            | Envelope::Attach(_)
            | Envelope::Requests(..)
            | Envelope::Detach(_)
            | Envelope::Blocked(..)
            | Envelope::Ask(_) => return Err(Garbage("an envelope that a gate is never sent")),
        }
        Ok(())
    }
}

/// Milliseconds that are left, as the other end is told: clocks differ, spans do not.
fn remaining_ms(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now());
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
}

/// A call under way; taken off the table when it is dropped.
struct Waiting<'a> {
    dialed: &'a Dialed,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.dialed.calls().remove(&self.number);
    }
}

/// A sign-in under way. When its caller stops waiting, or it is refused, the other end hears that
/// the session is over: it may have been attached in the same moment.
struct GivenUp<'a> {
    dialed: &'a Dialed,
    connection: Option<ConnectionId>,
}

impl GivenUp<'_> {
    fn no(mut self) {
        self.connection = None;
    }
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection {
            self.dialed.forget(connection);
            self.dialed.detach(connection);
        }
    }
}

fn said(entry: Entry) -> proto::attach::Entry {
    match entry {
        Entry::SignIn { openid, sid } => {
            proto::attach::Entry::SignIn(proto::SignIn { openid, sid })
        }
        Entry::Resume { session, secret, received } => {
            let secret = secret.to_bytes().to_vec();
            proto::attach::Entry::Resume(proto::Resume { session: session.0, secret, received })
        }
        Entry::Moved { session } => {
            proto::attach::Entry::Moved(proto::Moved { session: session.0 })
        }
        Entry::Seat(seating) => {
            let Seating { kind, room_id, name, joins } = *seating;
            proto::attach::Entry::Seat(proto::Seating { kind, room_id, name, joins })
        }
    }
}

fn attached(answer: &proto::Attached) -> Option<Attached> {
    let user = match answer.user.as_slice() {
        [] => None,
        user => Some(prost::Message::decode(user).ok()?),
    };
    Some(Attached {
        user,
        session: SessionId(answer.session),
        secret: Secret::from_bytes(&answer.secret)?,
        received: answer.received,
        sid: answer.sid.clone(),
        state: answer.state.clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::{link::Frames, telemetry::Meters};

    /// A session that hears only whether it was ended.
    #[derive(Debug, Default)]
    struct Ear(AtomicBool);

    impl SessionEnd for Ear {
        fn deliver(&self, _: Frames<'_>) {}
        fn kick(&self, _: Code, _: &str) {
            self.0.store(true, Ordering::Relaxed);
        }
        fn leaving(&self) {}
        fn give_back(&self, _: Frames<'_>) {}
        fn detached(&self) {}
    }

    /// What a node that drains says last and the end of its link may be read at once.
    #[test]
    fn a_session_whose_player_has_left_outlives_the_link_and_any_other_does_not() {
        let line = Arc::new(Line::new(Meters::new().link));
        let dialed = Dialed::new(line, "other".to_owned());
        let ears = [Arc::new(Ear::default()), Arc::new(Ear::default())];
        for (session, end) in (1..).zip(&ears) {
            dialed.sessions().insert(session, Seated { end: end.clone(), attached: true });
            dialed.take(Envelope::Leaving(ConnectionId(session))).expect("taken");
        }
        dialed.take(Envelope::Detached(ConnectionId(1))).expect("taken");
        dialed.closed();
        assert_eq!(ears.map(|ear| ear.0.load(Ordering::Relaxed)), [false, true]);
    }
}
