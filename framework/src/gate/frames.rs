//! Owns what becomes of a client's frames: which go to the player, which are refused, and which end
//! the connection.

use std::task::{Context, Poll};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Carrier,
    close::Close,
    connection::{Connection, Event, Reading},
    rate::Verdict,
    routes::Target,
    session::Session,
};
use crate::{
    Named as _, Request,
    limits::{
        DATAGRAMS_PER_WAKE_MAX, GATE_DEADLINE_GRACE, SIGN_IN_DEADLINE, SIGN_IN_FAILED_PAUSE,
        SIGN_IN_FAILED_TURN, SIGN_IN_TRIES_MAX,
    },
    link::{Batch, Mark, SessionEnd as _, error_message},
    msg,
    wire::{Code, Cut, Frame, FrameError, Refusal, cut},
};

impl<C: Carrier> Connection<C> {
    /// Decides what becomes of one frame.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, now: Instant) -> Option<Event> {
        let refusal = self.carrier.refuses(frame.payload);
        match self.budget.judge(now) {
            Verdict::Allow => {}
            Verdict::Refuse => {
                self.gate.meters.rate_limited.increment(1);
                self.refuse(frame, Code::RATE_LIMITED);
                return None;
            }
            Verdict::Close => {
                self.refuse(frame, Code::RATE_LIMITED);
                self.leave(Close::Refused);
                return None;
            }
        }
        if let Some(Refusal { code, message }) = refusal {
            self.refuse_because(frame, code, &message);
            return None;
        }
        let target = self.routes.find(frame.api);
        if self.session.is_none() {
            return self.stranger(frame, target);
        }
        match target {
            Some(Target::Player | Target::Join) => {
                let mark = if frame.api.is_request() { Mark::Request } else { Mark::Plain };
                self.for_player(mark, frame);
            }
            Some(Target::Ping) => self.for_player(Mark::Ping, frame),
            Some(Target::Logout) => self.for_player(Mark::Logout, frame),
            Some(Target::Nobody) => self.refuse(frame, Code::NOT_CONNECTED),
            None => self.refuse(frame, Code::UNKNOWN_API),
            // Both are the first message of a connection, and this one has had its.
            Some(Target::Login | Target::Resume) => {
                self.refuse(frame, Code::PROTOCOL);
                self.leave(Close::Refused);
            }
        }
        None
    }

    /// Decides what becomes of a frame of a client that is not signed in.
    fn stranger(&mut self, frame: &Frame<'_>, target: Option<Target>) -> Option<Event> {
        let event = match target {
            Some(Target::Login) => prost::Message::decode(frame.payload).map(Event::Login),
            Some(Target::Resume) => prost::Message::decode(frame.payload).map(Event::Resume),
            Some(Target::Join) => prost::Message::decode(frame.payload).map(Event::Join),
            Some(Target::Ping) => {
                let ping = <msg::ping::Req as prost::Message>::decode(frame.payload);
                let ping = ping.map(|msg::ping::Req { ct, received: _ }| {
                    let st = self.gate.clock.now_ms();
                    self.outbox.say(&msg::ping::Res { ct, st, received: 0 });
                });
                return ping.map_or_else(|e| self.undecodable(frame, &e), |()| None);
            }
            Some(Target::Player | Target::Logout | Target::Nobody) | None => {
                self.refuse(frame, Code::NOT_SIGNED_IN);
                return None;
            }
        };
        event.map_or_else(|e| self.undecodable(frame, &e), Some)
    }

    /// Asks the player something in the client's place; the client gets the answer.
    pub(super) fn ask<Q: Request>(&mut self, request: &Q) {
        let asked = self.requests.push_message(Mark::Request, request);
        asked.expect("what a gate asks is small");
        self.asked += 1;
        self.forward(Instant::now());
    }

    fn undecodable(&self, frame: &Frame<'_>, e: &prost::DecodeError) -> Option<Event> {
        self.outbox.say(&error_message(frame.api.as_str(), Code::UNDECODABLE, &e.to_string()));
        None
    }

    #[inline]
    fn for_player(&mut self, mark: Mark, frame: &Frame<'_>) {
        self.requests.push(mark, frame.bytes);
        self.asked += usize::from(mark.is_awaited());
    }

    /// Refuses a frame. Within a session the refusal goes the way of the requests: the player
    /// knows every frame that its client was told, and in which order.
    fn refuse(&mut self, frame: &Frame<'_>, code: Code) {
        self.refuse_because(frame, code, code.text());
    }

    fn refuse_because(&mut self, frame: &Frame<'_>, code: Code, text: &str) {
        let mark = if counts(frame) { Mark::Refused } else { Mark::Fault };
        self.say_error(mark, frame.api.as_str(), code, text);
    }

    /// What was asked before is still answered, then the client is told what is wrong.
    pub(super) fn fault(&mut self, error: FrameError) {
        self.gate.meters.protocol_errors.increment(1);
        let code = match error {
            FrameError::TooLarge { .. } => Code::FRAME_TOO_LARGE,
            _ => Code::PROTOCOL,
        };
        self.say_error(Mark::Fault, "", code, &error.to_string());
        self.leave(Close::Refused);
    }

    fn say_error(&mut self, mark: Mark, api: &str, code: Code, text: &str) {
        if self.session.is_none() {
            return self.outbox.say(&error_message(api, code, text));
        }
        self.requests.push_error(mark, api, code, text);
        self.asked += 1;
    }

    /// Sends what this read has for the player.
    pub(super) fn forward(&mut self, now: Instant) {
        if self.requests.is_empty() {
            return;
        }
        let (mut requests, asked) =
            (std::mem::take(&mut self.requests), std::mem::take(&mut self.asked));
        if asked > 0 {
            let timeout = self.gate.settings.request_timeout + GATE_DEADLINE_GRACE;
            self.outbox.await_answers(asked, now + timeout);
        }
        let deadline = now + self.gate.settings.request_timeout;
        self.forward_batch(&mut requests, now, deadline);
        self.requests = requests;
    }

    /// Sends requests to the player, and empties the batch. Where far too much waits for it
    /// already, or nobody is there, the connection ends: what was not taken was not counted, and
    /// the client may go on over another.
    pub(super) fn forward_batch(&self, batch: &mut Batch, now: Instant, deadline: Instant) {
        let Some(Session { connection, player, .. }) = &self.session else { return };
        if let Err(code) = player.forward(*connection, now, deadline, batch) {
            self.gate.meters.not_forwarded.increment(1);
            self.outbox.kick(code, code.text());
            batch.clear();
        }
    }

    /// Takes in what came beside the stream: inputs that may be lost, and do not count.
    pub(super) fn read_datagrams(&mut self, cx: &mut Context<'_>) {
        let mut now = None;
        for _ in 0..DATAGRAMS_PER_WAKE_MAX {
            let Poll::Ready(datagram) = self.carrier.poll_datagram(cx) else {
                return now.map_or((), |now| self.forward(now));
            };
            let now = *now.get_or_insert_with(Instant::now);
            self.follow_routes();
            let whole = cut(&datagram, self.frame_bytes_max());
            let wanted = self.session.is_some() && self.reading == Reading::Open;
            match whole {
                Ok(Cut::Frame(frame))
                    if wanted
                        && frame.bytes.len() == datagram.len()
                        && !frame.api.is_request()
                        && self.routes.find(frame.api) == Some(Target::Player)
                        && self.budget.judge(now) == Verdict::Allow =>
                {
                    self.last_frame = now;
                    self.gate.meters.frames_in.increment(1);
                    self.requests.push(Mark::Loose, frame.bytes);
                }
                // It may be lost, so it is: a request belongs into the stream.
                _ => self.gate.meters.datagrams_dropped.increment(1),
            }
        }
        self.forward(Instant::now());
        cx.waker().wake_by_ref();
    }

    /// The client failed to sign in or to resume; it may not try for ever, nor as fast as it can.
    pub(super) async fn failed(&mut self) {
        if self.tries > 0 {
            sleep(SIGN_IN_FAILED_PAUSE).await;
            let gate = self.gate.clone();
            let Ok(_turn) = timeout(SIGN_IN_DEADLINE, gate.failed_turn.lock()).await else {
                return self.leave(Close::Refused);
            };
            sleep(SIGN_IN_FAILED_TURN).await;
        }
        self.tries += 1;
        if self.tries >= SIGN_IN_TRIES_MAX {
            self.leave(Close::Refused);
        }
    }
}

/// Whether its client counts it as sent, whatever becomes of it.
fn counts(frame: &Frame<'_>) -> bool {
    let name = frame.api.as_str();
    !name.starts_with("msg.Ping.")
        && !name.starts_with("msg.Resume.")
        && name != msg::kick::Res::NAME
}
