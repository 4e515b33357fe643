//! Owns an entity's side of sessions: who signs in, who goes on over which connection, how it
//! ends, and how it leaves for another node.

use std::sync::atomic::Ordering;

use prost::Message as _;
use tokio::time::Instant;

use super::{
    actor::Entity,
    session::{self, Said, Session},
};
use crate::{
    def,
    limits::{LEAVE_DEADLINE, REPLAY_BYTES_CARRIED_MAX, USER_BYTES_MAX},
    link::{
        Account, Arrival, Attach, Attached, ConnectionId, End, Entry, Requests, Secret, SessionId,
        SessionPort,
    },
    proto::link as proto,
    store::StoreError,
    telemetry::catch,
    wire::{Code, Refusal},
};

impl<S: Send + Sync + 'static> Entity<S> {
    pub(super) fn attach(&mut self, Attach { arrival, reply }: Attach) {
        let Arrival { connection, account: id, port, entry, datagram_bytes_max } = arrival;
        if reply.is_closed() {
            // The gate has given up meanwhile: nobody is displaced for it.
            return self.step_back(connection);
        }
        let way = (port, datagram_bytes_max);
        let attached = match entry {
            Entry::SignIn { openid, sid } => {
                self.sign_in(connection, way, Account { id, openid }, sid)
            }
            Entry::Resume { session, secret, received } => {
                self.resume(connection, way, session, secret, received)
            }
            Entry::Moved { session } => self.go_on(connection, way, session),
            // A player is no room.
            Entry::Seat(_) => Err(Code::ROOM_NOT_FOUND),
        };
        self.touch(Instant::now());
        let refused = attached.is_err();
        let told = reply.send(attached.map_err(Refusal::from)).is_ok();
        if refused {
            self.step_back(connection);
        } else if told {
            self.ctx.flush();
        } else {
            // The gate has given up meanwhile.
            self.detach(connection);
        }
    }

    /// The session that asked last wins: the account center vouched for both, and only one is
    /// here.
    fn sign_in(
        &mut self,
        connection: ConnectionId,
        way: (SessionPort, usize),
        account: Account,
        sid: String,
    ) -> Result<Attached, Code> {
        let user = self.user_for(connection, &account)?;
        let why = "the account signed in on another connection";
        self.end_session(Code::SIGNED_IN_ELSEWHERE, why);
        let chance = &self.ctx.writer().world().chance;
        let (id, secret) = (SessionId(chance.next_u64()), Secret(chance.next_u128()));
        let session = Session::new(id, account.openid.clone(), sid, secret);
        self.ctx.begin(account, Said::new(self.host.replay_room()));
        let attached = self.connected(connection, way, session, Some(user));
        self.hook("on_sign_in", self.kind.hooks.on_sign_in);
        Ok(attached)
    }

    /// The session goes on over another connection: what its client misses comes first.
    fn resume(
        &mut self,
        connection: ConnectionId,
        way: (SessionPort, usize),
        id: SessionId,
        secret: Secret,
        received: u64,
    ) -> Result<Attached, Code> {
        let known = self.session.as_ref().is_some_and(|s| s.is_known_by(id, secret));
        let said = self.ctx.said().filter(|_| known).ok_or(Code::RESUME_REFUSED)?;
        let mut missed = said.missed(received).ok_or(Code::RESUME_REFUSED)?;
        said.acknowledge(received);
        let mut session = self.take_over(connection)?;
        // Who came from another node with its connection was never told to be away.
        let was_away = self.connection.is_none() && session.follower.is_none();
        let was_moved = self.moved.take().is_some();
        if let Some(old) = self.ctx.disconnect() {
            old.kick(Code::OK, "");
        }
        session.renew(secret, Secret(self.ctx.writer().world().chance.next_u128()));
        way.0.deliver(&mut missed);
        let attached = self.connected(connection, way, session, None);
        if was_moved {
            self.hook("on_moved", self.kind.hooks.on_moved);
        }
        if was_away {
            self.hook("on_back", self.kind.hooks.on_back);
        }
        Ok(attached)
    }

    /// The player came from another node, and its session's connection with it: the very one that
    /// it had there. One that comes so late that the client has gone on over another brings back
    /// requests that the client has sent again by then.
    fn go_on(
        &mut self,
        connection: ConnectionId,
        way: (SessionPort, usize),
        id: SessionId,
    ) -> Result<Attached, Code> {
        match &self.session {
            Some(session) if session.id != id => return Err(Code::SIGNED_IN_ELSEWHERE),
            Some(session) if session.follower == Some(connection) => {}
            Some(_) | None => return Err(Code::RESUME_REFUSED),
        }
        // What a room said meanwhile, its connection has not brought to the client.
        let missed = self.moved.and_then(|sent| self.ctx.said()?.missed(sent));
        let mut missed = missed.ok_or(Code::RESUME_REFUSED)?;
        let session = self.take_over(connection)?;
        self.moved = None;
        way.0.deliver(&mut missed);
        let attached = self.connected(connection, way, session, None);
        self.hook("on_moved", self.kind.hooks.on_moved);
        Ok(attached)
    }

    /// The session, for a connection that goes on with it; none while a newer sign-in waits.
    fn take_over(&mut self, connection: ConnectionId) -> Result<Session, Code> {
        let (set, get) = (Ordering::AcqRel, Ordering::Acquire);
        let free = self.newest.compare_exchange(self.last, connection.0, set, get).is_ok();
        self.session.take_if(|_| free).ok_or(Code::RESUME_REFUSED)
    }

    fn connected(
        &mut self,
        connection: ConnectionId,
        way: (SessionPort, usize),
        mut session: Session,
        user: Option<def::User>,
    ) -> Attached {
        session.follower = None;
        let attached = Attached {
            user,
            session: session.id,
            secret: session.secret(),
            received: session.received,
            sid: session.sid.clone(),
            state: Vec::new(),
        };
        self.resumable.store(session.id.0, Ordering::Release);
        self.session = Some(session);
        let (port, datagram_bytes_max) = way;
        self.ctx.connect(port, datagram_bytes_max);
        self.connection = Some(connection);
        self.seats.set_away(false);
        (self.last, self.skipped) = (connection.0, false);
        (self.away_until, self.linger_until) = (None, None);
        attached
    }

    /// What a session that wants to sign in is told about its player.
    fn user_for(&self, connection: ConnectionId, account: &Account) -> Result<def::User, Code> {
        if self.newest.load(Ordering::Acquire) != connection.0 {
            return Err(Code::SIGNED_IN_ELSEWHERE);
        }
        let user = catch(|| (self.kind.user)(&self.state, account, self.ctx.now_ms()));
        let user = user.map_err(|panic| {
            self.tell_panic("user", &panic);
            Code::INTERNAL
        })?;
        let bytes = user.encoded_len();
        if bytes > USER_BYTES_MAX {
            let entity = self.ctx.entity();
            tracing::error!(target: "entity", %entity, bytes, "the user record is too large to sign in with");
            return Err(Code::USER_NOT_CREATED);
        }
        Ok(user)
    }

    /// A connection that did not come to be gives way to the one that was here last.
    ///
    /// Where that one was not listened to meanwhile, it ends: its client goes on over another and
    /// sends again what was not taken.
    fn step_back(&mut self, connection: ConnectionId) {
        let (set, get) = (Ordering::AcqRel, Ordering::Acquire);
        if self.newest.compare_exchange(connection.0, self.last, set, get).is_err() {
            return;
        }
        tracing::debug!(target: "entity", entity = %self.ctx.entity(), "a sign-in was given up");
        if self.skipped
            && let Some(connection) = self.connection
        {
            if let Some(port) = self.ctx.port() {
                port.kick(Code::BUSY, Code::BUSY.text());
            }
            self.detach(connection);
        }
    }

    /// The connection is gone; its session waits for another.
    pub(super) fn detach(&mut self, connection: ConnectionId) {
        if self.connection != Some(connection) {
            self.step_back(connection);
            return;
        }
        self.connection = None;
        self.ctx.disconnect();
        self.seats.set_away(true);
        self.hook("on_away", self.kind.hooks.on_away);
        self.ctx.flush();
        let now = Instant::now();
        self.away_until = Some(now + self.host.sessions().resume_window);
        self.save_due = Some(now);
        self.linger_until = Some(now + self.host.settings().linger);
        self.set_timer();
    }

    /// Somebody else than the client ends the session. Says whether it was there.
    pub(super) fn end(&mut self, end: &End) -> bool {
        let meant = self.session.as_ref().is_some_and(|session| end.is_of(&session.sid));
        if meant {
            self.end_session(end.code, &end.reason);
        }
        meant
    }

    /// Ends the session, if there is one: nobody goes on with it.
    pub(super) fn end_session(&mut self, code: Code, reason: &str) {
        if self.session.take().is_none() {
            return;
        }
        self.resumable.store(0, Ordering::Release);
        self.ctx.flush();
        if let Some(port) = self.ctx.disconnect() {
            port.kick(code, reason);
        }
        match code {
            // Whoever sits in a room sits there still: the newer session may take its seats over.
            Code::SIGNED_IN_ELSEWHERE => self.seats.part_all(),
            _ => self.seats.leave_all(),
        }
        self.hook("on_sign_out", self.kind.hooks.on_sign_out);
        self.ctx.writer().note_played();
        self.ctx.end();
        (self.connection, self.away_until, self.moved) = (None, None, None);
        let now = Instant::now();
        self.save_due = Some(now);
        self.linger_until = Some(now + self.host.settings().linger);
        self.set_timer();
    }

    // === Leaving for another node ===

    /// The node goes away: the state is saved and the player given up, so that its session goes
    /// on elsewhere. Says whether the entity stays to pass on what still comes; not when it could
    /// not leave: no session, nowhere to go, a store or a cache that is away.
    pub(super) async fn leave(&mut self) -> bool {
        if self.ctx.writer().fenced() || !self.host.lease().holds(Instant::now()) {
            return false;
        }
        let Some(packed) = self.pack() else { return false };
        self.host.stopping(self.ctx.entity());
        let Some(state) = self.state_bytes() else { return false };
        // Once more: a session is worth it, and a service may have been late a single time.
        let id = self.ctx.entity();
        let mut saved = self.ctx.writer().write(state.clone()).await;
        if let Err(StoreError::Unavailable(_)) = saved {
            saved = self.ctx.writer().write(state).await;
        }
        if let Err(e) = saved {
            tracing::debug!(target: "entity", entity = %id, "cannot leave: {e}");
            return false;
        }
        if !self.host.carry(id, &packed).await && !self.host.carry(id, &packed).await {
            return false;
        }
        self.host.release(self.ctx.entity(), self.ctx.writer().claim()).await;
        self.left = true;
        self.seats.let_go();
        match self.ctx.port() {
            Some(port) if port.can_follow() => port.leaving(),
            Some(port) => {
                port.kick(Code::DRAINING, Code::DRAINING.text());
                return false;
            }
            None => return false,
        }
        (self.save_due, self.saving, self.save_failed) = (None, None, false);
        self.away_until = None;
        self.linger_until = Some(Instant::now() + LEAVE_DEADLINE);
        self.set_timer();
        true
    }

    /// The session as it travels, when it can.
    fn pack(&mut self) -> Option<proto::Session> {
        self.host.carries().then_some(())?;
        // What waits for its client is said now, or it would never be.
        self.ctx.set_blocked(false);
        self.seats.give_up_wish(&self.ctx);
        self.ctx.flush();
        let (session, said) = (self.session.as_mut()?, self.ctx.said()?);
        session.follower = self.connection.or(session.follower);
        let packed = session::pack(session, said, REPLAY_BYTES_CARRIED_MAX);
        Some(proto::Session { seats: self.seats.pack(), ..packed })
    }

    pub(super) fn give_back(&self, requests: &Requests) {
        if self.connection == Some(requests.connection)
            && let Some(port) = self.ctx.port()
        {
            port.give_back(&requests.batch);
        }
    }

    pub(super) fn detached(&self, connection: ConnectionId) {
        if self.left
            && self.connection == Some(connection)
            && let Some(port) = self.ctx.port()
        {
            port.detached();
        }
    }
}
