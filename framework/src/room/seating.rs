//! Owns how members come to a room, what they say to it, and how they leave.

use prost::Message as _;
use tokio::time::Instant;

use super::{Room, core::Input, life::Life};
use crate::{
    limits::MEMBER_NAME_CHARS_MAX,
    link::{
        Attach, Attached, Batch, ConnectionId, Entry, Mail, Mark, Requests, Seating, Secret,
        SessionId, SessionPort,
    },
    msg,
    wire::{Code, Frame, Refusal},
};

impl<R: Room> Life<R> {
    pub(super) fn attach(&mut self, Attach { arrival, reply }: Attach, now: Instant) {
        if reply.is_closed() {
            // The player has given up meanwhile.
            return;
        }
        let connection = arrival.connection;
        let attached = match arrival.entry {
            Entry::Seat(seating) => {
                self.sit(connection, arrival.account, arrival.port, &seating, now)
            }
            Entry::SignIn { .. } | Entry::Resume { .. } | Entry::Moved { .. } => {
                Err(Code::RESUME_REFUSED.into())
            }
        };
        if reply.send(attached).is_err() {
            self.gone(connection, now);
        }
    }

    /// A player takes a seat, or the one that it has.
    fn sit(
        &mut self,
        connection: ConnectionId,
        account: i64,
        port: SessionPort,
        seating: &Seating,
        now: Instant,
    ) -> Result<Attached, Refusal> {
        if !self.host.lease().holds(now) {
            // Another node may run this room by now.
            return Err(Code::NOT_CONNECTED.into());
        }
        let Seating { kind, room_id, name, joins } = seating;
        if (kind.as_str(), room_id.as_str()) != (self.id.kind, &self.id.key) {
            return Err(Code::ROOM_NOT_FOUND.into());
        }
        let had = self.core.seat_of(account);
        if had.is_none() && *joins {
            // Its words wait until it can hear them.
            let now_ms = self.host.world().clock.now_ms();
            let name = &called(name);
            let joined = self.core.apply(now_ms, Input::Join { account, name });
            joined.inspect_err(|_| self.seats.spread(self.core.said()))?;
            self.keeper.touch();
        }
        let seat = self.core.seat_of(account).ok_or(Code::NOT_IN_ROOM)?;
        self.seats.come(seat, connection, port);
        self.seats.spread(self.core.said());
        if had.is_some() {
            self.apply(Input::Back(seat))?;
        }
        let state = self.core.state(seat);
        if state.is_err() && had.is_none() {
            self.seats.leave(seat);
            // It has only just come.
            let _left = self.apply(Input::Leave(seat));
        }
        Ok(Attached {
            user: None,
            session: SessionId(0),
            secret: Secret(0),
            received: 0,
            sid: String::new(),
            state: state?,
        })
    }

    /// The way to a member is gone.
    pub(super) fn gone(&mut self, connection: ConnectionId, now: Instant) {
        self.seats.gone(connection, now + self.host.sessions().resume_window);
    }

    pub(super) fn requests(&mut self, requests: &Requests, now: Instant) {
        let Requests { connection, deadline, batch } = requests;
        if self.seats.of(*connection).is_none() {
            self.meters.0.stale_requests.increment(1);
            return;
        }
        if !self.host.lease().holds(now) {
            // Another node may run this room by now.
            return self.refuse_all(*connection, batch);
        }
        for (mark, frame) in batch.frames() {
            // It may lose its seat by what it says.
            let Some(seat) = self.seats.of(*connection) else { return };
            match mark {
                Mark::Request | Mark::Plain | Mark::Loose | Mark::Logout if now >= *deadline => {
                    // Work that is too late is not begun.
                    self.refuse(*connection, mark, frame, &Code::DEADLINE.into());
                }
                Mark::Request | Mark::Plain | Mark::Loose => {
                    let (api, payload) = (frame.api.as_str(), frame.payload);
                    if let Err(refusal) = self.apply(Input::Message { seat, mark, api, payload }) {
                        self.refuse(*connection, mark, frame, &refusal);
                    }
                }
                Mark::Refused | Mark::RefusedPlain | Mark::Fault => {
                    self.say(*connection, |answer| answer.push(mark.answered(), frame.bytes));
                }
                Mark::Logout => self.leave(*connection, frame),
                // Nobody says that to a room.
                Mark::Answer | Mark::Ping => {}
            }
        }
    }

    /// A member leaves for good, whatever room the message names: there is one to leave here.
    fn leave(&mut self, connection: ConnectionId, frame: Frame<'_>) {
        let Some(seat) = self.seats.of(connection) else { return };
        if let Err(e) = msg::leave_room::Req::decode(frame.payload) {
            let refusal = Code::UNDECODABLE.because(e.to_string());
            return self.refuse(connection, Mark::Logout, frame, &refusal);
        }
        self.say(connection, |answer| {
            let left = msg::leave_room::Res { code: Code::OK.0 };
            answer.push_message(Mark::Answer, &left).expect("it is small");
        });
        self.seats.leave(seat);
        // It had a seat a moment ago.
        let _left = self.apply(Input::Leave(seat));
    }

    /// Tells a member something of the connection's own.
    fn say(&mut self, connection: ConnectionId, what: impl FnOnce(&mut Batch)) {
        if let Some(seat) = self.seats.of(connection) {
            let mut frames = Batch::default();
            what(&mut frames);
            self.seats.say(seat, frames.frames());
        }
    }

    fn refuse(
        &mut self,
        connection: ConnectionId,
        mark: Mark,
        frame: Frame<'_>,
        refusal: &Refusal,
    ) {
        self.say(connection, |answer| {
            let api = frame.api.as_str();
            answer.push_error(mark.answered(), api, refusal.code, &refusal.message);
        });
    }

    fn refuse_all(&mut self, connection: ConnectionId, batch: &Batch) {
        let (refused, _) = batch.refused(Code::NOT_CONNECTED);
        self.say(connection, |answer| {
            let answers = refused.frames().filter(|(mark, _)| *mark != Mark::Ping);
            answers.for_each(|(mark, frame)| answer.push(mark.answered(), frame.bytes));
        });
    }

    /// Takes no more mail, and answers what was not taken.
    pub(super) fn refuse_mail(&mut self) {
        for mail in self.mailbox.close() {
            match mail {
                Mail::Requests(Requests { connection, batch, .. }) => {
                    self.refuse_all(connection, &batch);
                }
                // An attach is answered by the drop of its reply: the caller tries again.
                Mail::Attach(_)
                | Mail::Detach(_)
                | Mail::Blocked(..)
                | Mail::End(..)
                | Mail::Push(_)
                | Mail::Stop => {}
            }
        }
        self.seats.send();
    }
}

/// What a member is called: some letters, none that are not to be seen.
fn called(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MEMBER_NAME_CHARS_MAX).collect()
}
