//! Owns the bookkeeping of a session that outlives its connections: what both sides have
//! received, what must be kept to be sent again, which answers are due. Knows no sockets and no
//! clock.
//!
//! Each side counts the frames that it received behind `msg.Login.Res`, leaving out `msg.Ping.*`,
//! `msg.Resume.*` and `msg.Kick.Res`. A frame in a datagram is not counted either: it does not come
//! here, but goes to the events at once.

use std::collections::VecDeque;

use super::{Loss, Push};
use crate::{
    Named, msg,
    wire::{Code, Refusal},
};

/// The record of one session; `W` is who waits for an answer.
#[derive(Debug)]
pub(super) struct Record<W> {
    /// The newest that the server gave; empty when it offers no resume.
    token: Vec<u8>,
    received: u64,
    /// What of `received` the server was told, and the bytes received since.
    told: u64,
    untold_bytes: usize,
    /// What the server said that it has.
    confirmed: u64,
    /// Whole frames behind `confirmed`, the oldest first.
    sent: VecDeque<Vec<u8>>,
    sent_bytes: usize,
    /// How many of `sent` this connection has been given.
    written: usize,
    due: VecDeque<Due<W>>,
}

/// An answer that the server owes.
#[derive(Debug)]
pub(super) struct Due<W> {
    /// The request's name.
    pub(super) api: &'static str,
    /// The answer's name.
    pub(super) answer: &'static str,
    pub(super) waits: W,
}

/// What a frame of the server is.
#[derive(Debug)]
pub(super) enum Inbound<W> {
    /// The oldest answer due.
    Answer(W, Result<Push, Refusal>),
    Push(Push),
    /// An input failed.
    Refused {
        api: String,
        refusal: Refusal,
    },
    Pong(msg::ping::Res),
    Kicked(Refusal),
    /// The gate could not cut a frame out of what was sent, and closes.
    Unreadable(Refusal),
    /// It means nothing here.
    Nothing,
    /// The payload is not what its name says.
    Undecodable(String),
}

impl<W> Record<W> {
    /// A session that has just begun.
    pub(super) fn new(token: Vec<u8>) -> Self {
        Self {
            token,
            received: 0,
            told: 0,
            untold_bytes: 0,
            confirmed: 0,
            sent: VecDeque::new(),
            sent_bytes: 0,
            written: 0,
            due: VecDeque::new(),
        }
    }

    // === What is sent ===

    /// Takes a whole frame to be sent, in its turn.
    pub(super) fn send(&mut self, frame: Vec<u8>, due: Option<Due<W>>) {
        self.sent_bytes += frame.len();
        self.sent.push_back(frame);
        self.due.extend(due);
    }

    /// The next frame that this connection has not been given.
    pub(super) fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(frame) = self.sent.get(self.written) else { return false };
        out.extend_from_slice(frame);
        self.written += 1;
        if !self.resumable() {
            self.forget(1);
        }
        true
    }

    /// The server says how many frames it has. What it said before it may say again.
    pub(super) fn confirm(&mut self, received: u64) -> Result<(), Loss> {
        if !self.resumable() || received <= self.confirmed {
            return Ok(());
        }
        let more = received - self.confirmed;
        match usize::try_from(more) {
            Ok(more) if more <= self.written => {
                self.forget(more);
                Ok(())
            }
            _ => Err(self.miscounted(received)),
        }
    }

    fn forget(&mut self, frames: usize) {
        for frame in self.sent.drain(..frames) {
            self.sent_bytes -= frame.len();
        }
        self.confirmed += frames as u64;
        self.written -= frames;
    }

    fn miscounted(&self, received: u64) -> Loss {
        let (confirmed, sent) = (self.confirmed, self.confirmed + self.sent.len() as u64);
        Loss::Miscounted { received, confirmed, sent }
    }

    // === What is received ===

    /// Counts a frame of the server, if it counts, and says what it is.
    pub(super) fn receive(&mut self, frame: Push) -> Inbound<W> {
        match frame.api.as_str() {
            msg::ping::Res::NAME => return decoded(&frame, Inbound::Pong),
            msg::kick::Res::NAME => return decoded(&frame, |k| Inbound::Kicked(kicked(k))),
            msg::ping::Req::NAME | msg::resume::Req::NAME | msg::resume::Res::NAME => {
                return Inbound::Nothing;
            }
            _ => {}
        }
        self.received += 1;
        self.untold_bytes += frame.api.len() + frame.payload.len();
        if frame.api == msg::error::Res::NAME {
            return match decode::<msg::error::Res>(&frame) {
                Some(error) => self.failed(error),
                None => Inbound::Undecodable(frame.api),
            };
        }
        match self.due.pop_front_if(|due| due.answer == frame.api) {
            Some(due) => Inbound::Answer(due.waits, Ok(frame)),
            None => Inbound::Push(frame),
        }
    }

    fn failed(&mut self, error: msg::error::Res) -> Inbound<W> {
        let msg::error::Res { code, api, message } = error;
        let refusal = Code(code).because(message);
        if let Some(due) = self.due.pop_front_if(|due| due.api == api) {
            return Inbound::Answer(due.waits, Err(refusal));
        }
        match refusal.code {
            // Nobody waits for it by name: the next ping asks again.
            _ if api == msg::ping::Req::NAME => Inbound::Nothing,
            Code::FRAME_TOO_LARGE | Code::PROTOCOL if api.is_empty() => {
                Inbound::Unreadable(refusal)
            }
            _ => Inbound::Refused { api, refusal },
        }
    }

    /// A ping that tells the server what was received.
    pub(super) fn ping(&mut self, ct: i64) -> msg::ping::Req {
        self.told = self.received;
        self.untold_bytes = 0;
        msg::ping::Req { ct, received: self.received }
    }

    // === The session's turns ===

    /// What to say first on a new connection.
    pub(super) fn resume(&self) -> msg::resume::Req {
        msg::resume::Req { resume_token: self.token.clone(), received: self.received }
    }

    /// The server goes on with the session: how many frames it must be sent again.
    pub(super) fn resumed(&mut self, answer: msg::resume::Res) -> Result<usize, Loss> {
        let msg::resume::Res { code: _, received, resume_token } = answer;
        let last = self.confirmed + self.sent.len() as u64;
        if !(self.confirmed..=last).contains(&received) {
            return Err(self.miscounted(received));
        }
        let before = self.written;
        // Within `sent` by the line above.
        let had = usize::try_from(received - self.confirmed).unwrap_or_default();
        self.written = had;
        self.forget(had);
        if !resume_token.is_empty() {
            self.token = resume_token;
        }
        self.told = self.received;
        self.untold_bytes = 0;
        Ok(before.saturating_sub(had))
    }

    /// The session is over: who still waits for an answer.
    pub(super) fn end(&mut self) -> impl Iterator<Item = W> {
        self.sent.clear();
        (self.sent_bytes, self.written) = (0, 0);
        std::mem::take(&mut self.due).into_iter().map(|due| due.waits)
    }

    // === What a connection decides by ===

    pub(super) fn resumable(&self) -> bool {
        !self.token.is_empty()
    }

    /// Frames and bytes that the server has not confirmed.
    pub(super) fn unconfirmed(&self) -> (usize, usize) {
        (self.sent.len(), self.sent_bytes)
    }

    /// Frames and bytes that the server does not know to have arrived.
    pub(super) fn untold(&self) -> (u64, usize) {
        (self.received - self.told, self.untold_bytes)
    }

    /// Answers that are due.
    pub(super) fn due(&self) -> usize {
        self.due.len()
    }
}

fn decoded<M: Named, W>(frame: &Push, then: impl FnOnce(M) -> Inbound<W>) -> Inbound<W> {
    match decode(frame) {
        Some(message) => then(message),
        None => Inbound::Undecodable(frame.api.clone()),
    }
}

fn decode<M: Named>(frame: &Push) -> Option<M> {
    M::decode(frame.payload.as_slice()).ok()
}

fn kicked(kick: msg::kick::Res) -> Refusal {
    Code(kick.code).because(kick.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_message;

    fn record() -> Record<i64> {
        Record::new(b"token".to_vec())
    }

    fn send(record: &mut Record<i64>, val: i64) {
        let mut frame = Vec::new();
        put_message(&mut frame, &msg::echo::Req { val: Some(val), ct: None }).unwrap();
        let due = Due { api: msg::echo::Req::NAME, answer: msg::echo::Res::NAME, waits: val };
        record.send(frame, Some(due));
    }

    fn write_all(record: &mut Record<i64>) -> usize {
        let mut out = Vec::new();
        std::iter::from_fn(|| record.write_next(&mut out).then_some(())).count()
    }

    fn comes<M: Named>(record: &mut Record<i64>, message: &M) -> Inbound<i64> {
        let payload = message.encode_to_vec();
        record.receive(Push { api: M::NAME.to_owned(), payload })
    }

    fn resume(received: u64, token: &[u8]) -> msg::resume::Res {
        msg::resume::Res { code: 0, received, resume_token: token.to_vec() }
    }

    #[test]
    fn only_what_the_server_misses_is_sent_again() {
        let mut record = record();
        (1..=5).for_each(|val| send(&mut record, val));
        assert_eq!(write_all(&mut record), 5);
        record.confirm(2).unwrap();
        // An older word, overtaken by a newer one.
        record.confirm(1).unwrap();
        send(&mut record, 6);
        assert_eq!(record.resumed(resume(4, b"next")).unwrap(), 1);
        assert_eq!((write_all(&mut record), record.unconfirmed().0), (2, 2));
        assert_eq!(record.resume().resume_token, b"next");
    }

    #[test]
    fn a_server_that_has_what_was_never_sent_or_lost_what_it_had_is_not_believed() {
        let mut record = record();
        (1..=3).for_each(|val| send(&mut record, val));
        assert!(matches!(record.confirm(1), Err(Loss::Miscounted { .. })), "nothing is written");
        write_all(&mut record);
        record.confirm(2).unwrap();
        for received in [0, 1, 4, u64::MAX] {
            let resumed = record.resumed(resume(received, b"next"));
            assert!(matches!(resumed, Err(Loss::Miscounted { .. })), "{received}");
        }
        assert_eq!(record.resumed(resume(2, b"next")).unwrap(), 1);
    }

    #[test]
    fn pings_resumes_and_kicks_are_not_counted_and_everything_else_is() {
        let mut record = record();
        send(&mut record, 1);
        comes(&mut record, &msg::ping::Res::default());
        comes(&mut record, &msg::resume::Res::default());
        assert!(matches!(
            comes(&mut record, &msg::kick::Res { code: 2005, reason: String::new() }),
            Inbound::Kicked(why) if why.code == Code::SIGNED_IN_ELSEWHERE
        ));
        assert_eq!(record.resume().received, 0);
        // Not the oldest answer due, so a push.
        assert!(matches!(
            comes(&mut record, &msg::get_rank::Res { code: 0, rank: None }),
            Inbound::Push(_)
        ));
        let refused =
            |api: &str| msg::error::Res { code: 1002, api: api.to_owned(), message: String::new() };
        assert!(matches!(comes(&mut record, &refused("arena.Move")), Inbound::Refused { .. }));
        let answer = comes(&mut record, &refused("msg.Echo.Req"));
        assert!(matches!(answer, Inbound::Answer(1, Err(_))));
        assert_eq!((record.resume().received, record.untold().0), (3, 3));
        assert_eq!(record.ping(1).received, 3);
        assert_eq!(record.untold(), (0, 0));
    }
}
