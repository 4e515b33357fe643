//! Owns the batch: what one wake has to say to one entity, or to one session, as one buffer.
//!
//! `(mark: u8 | frame)*`. The same bytes travel through a queue in this process and over a link.

use std::fmt;

use bytes::BufMut;

use crate::{
    Named, spare,
    wire::{Code, Cut, FRAME_BYTES_MAX, Frame, FrameError, cut, put_named},
};

/// What a frame is, beside its name. A session's frames are counted at both ends, so that it can
/// be resumed: each mark says whether the frame counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mark {
    /// To the player: gets no answer unless it fails. To the client: nobody asked for it.
    /// Counts.
    Plain = 0,
    /// To the player: gets exactly one answer. Counts.
    Request = 1,
    /// To the player: a request that the gate refuses; the frame is its answer. Counts.
    Refused = 2,
    /// To the player: as [`Mark::Refused`], for what would have got no answer. Counts.
    RefusedPlain = 3,
    /// To the player: bytes that were no frame; the frame is what the client is told. Does not
    /// count as received.
    Fault = 4,
    /// To the player: `msg.Ping.Req`. To the client: its answer. Does not count.
    Ping = 5,
    /// To the player: `msg.Logout.Req`. Counts.
    Logout = 6,
    /// To the client: the answer to one request, in the order of the requests. Counts.
    Answer = 7,
    /// Both ways: may be lost, and travels beside the stream. Does not count.
    Loose = 8,
}

impl Mark {
    const ALL: [Self; 9] = [
        Self::Plain,
        Self::Request,
        Self::Refused,
        Self::RefusedPlain,
        Self::Fault,
        Self::Ping,
        Self::Logout,
        Self::Answer,
        Self::Loose,
    ];

    #[inline]
    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// How what answers it is marked, on its way to the client.
    pub(crate) fn answered(self) -> Self {
        match self {
            Self::Plain | Self::RefusedPlain => Self::Plain,
            Self::Loose => Self::Loose,
            Self::Ping => Self::Ping,
            Self::Request | Self::Refused | Self::Fault | Self::Logout | Self::Answer => {
                Self::Answer
            }
        }
    }

    /// Whether the client waits for exactly one frame because of it.
    #[inline]
    pub(crate) fn is_awaited(self) -> bool {
        matches!(self, Self::Request | Self::Refused | Self::Fault | Self::Ping | Self::Logout)
    }

    /// Whether, on its way to the client, it is what the client waits for.
    #[inline]
    pub(crate) fn answers(self) -> bool {
        matches!(self, Self::Answer | Self::Ping)
    }

    /// Whether, on its way to the client, it counts for resume.
    #[inline]
    pub(crate) fn counts_as_sent(self) -> bool {
        matches!(self, Self::Plain | Self::Answer)
    }
}

/// Bytes of the mark before each frame.
pub(crate) const MARK_BYTES: usize = 1;

/// Frames in one buffer, each behind its mark.
#[derive(Default)]
pub(crate) struct Batch(pub(super) Vec<u8>);

impl Batch {
    /// Appends a frame that was cut elsewhere.
    #[inline]
    pub(crate) fn push(&mut self, mark: Mark, frame: &[u8]) {
        spare::take(&mut self.0);
        self.0.reserve(MARK_BYTES + frame.len());
        self.0.put_u8(mark as u8);
        self.0.extend_from_slice(frame);
    }

    /// Appends a message as a frame.
    ///
    /// # Errors
    /// When it does not fit into a frame; the batch is then as before.
    #[inline]
    pub(crate) fn push_message<M: Named>(
        &mut self,
        mark: Mark,
        message: &M,
    ) -> Result<(), FrameError> {
        self.push_answer(mark, M::NAME, message)
    }

    /// Appends a message as a frame under a name of its own.
    ///
    /// # Errors
    /// As [`Batch::push_message`].
    #[inline]
    pub(crate) fn push_answer(
        &mut self,
        mark: Mark,
        name: &str,
        message: &impl prost::Message,
    ) -> Result<(), FrameError> {
        spare::take(&mut self.0);
        let before = self.0.len();
        self.0.put_u8(mark as u8);
        put_named(&mut self.0, name, message).inspect_err(|_| self.0.truncate(before))
    }

    /// Appends `msg.Error.Res` for the request `api`.
    pub(crate) fn push_error(&mut self, mark: Mark, api: &str, code: Code, message: &str) {
        let error = error_message(api, code, message);
        self.push_message(mark, &error).expect("an error message is far below the frame limit");
    }

    /// Appends frames of another batch.
    pub(crate) fn append(&mut self, frames: Frames<'_>) {
        spare::take(&mut self.0);
        self.0.extend_from_slice(frames.0);
    }

    /// The same frames, refused: each one that counts becomes what its client is told, in its
    /// place; also how many were refused.
    pub(crate) fn refused(&self, code: Code) -> (Self, u64) {
        let (mut refused, mut count) = (Self::default(), 0);
        for (mark, frame) in self.frames() {
            let mark = match mark {
                Mark::Request | Mark::Logout => Mark::Refused,
                Mark::Plain => Mark::RefusedPlain,
                // Small, and to be answered all the same.
                Mark::Refused | Mark::RefusedPlain | Mark::Fault | Mark::Ping => {
                    refused.push(mark, frame.bytes);
                    continue;
                }
                Mark::Loose | Mark::Answer => continue,
            };
            refused.push_error(mark, frame.api.as_str(), code, code.text());
            count += 1;
        }
        (refused, count)
    }

    /// Empties it; somebody else may have its buffer.
    #[inline]
    pub(crate) fn clear(&mut self) {
        spare::give(&mut self.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes_len(&self) -> usize {
        self.0.len()
    }

    /// The frames in order.
    #[inline]
    pub(crate) fn frames(&self) -> Frames<'_> {
        Frames(&self.0)
    }
}

impl From<Frames<'_>> for Batch {
    #[inline]
    fn from(frames: Frames<'_>) -> Self {
        let mut batch = Self::default();
        batch.append(frames);
        batch
    }
}

impl Drop for Batch {
    #[inline]
    fn drop(&mut self) {
        spare::give(&mut self.0);
    }
}

/// The frames of a batch in order, wherever its bytes lie. Stops at bytes that are not a frame: a
/// batch is only ever built from whole frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames<'a>(pub(super) &'a [u8]);

impl<'a> Frames<'a> {
    /// Bytes before a frame's size counts: the mark, and the size itself.
    pub(crate) const HEADER_BYTES: usize = MARK_BYTES + 2;

    /// Frames that lie in these bytes.
    pub(crate) fn over(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Mark and length (its mark included) of each frame: nothing else of it is looked at.
    #[inline]
    pub(crate) fn spans(self) -> impl Iterator<Item = (Mark, usize)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let &[mark, low, high, ..] = rest else { return None };
            let len = Self::HEADER_BYTES + usize::from(u16::from_le_bytes([low, high]));
            rest = rest.get(len..)?;
            Some((Mark::from_byte(mark)?, len))
        })
    }

    /// The first frames, as many as fit into `bytes_max` and at least one; and the rest.
    pub(super) fn split(self, bytes_max: usize) -> (Self, Self) {
        if self.0.len() <= bytes_max {
            return (self, Frames(&[]));
        }
        let mut end = 0;
        for (_, frame) in self {
            let next = end + MARK_BYTES + frame.bytes.len();
            if end > 0 && next > bytes_max {
                break;
            }
            end = next;
        }
        let (first, rest) = self.0.split_at(end);
        (Frames(first), Frames(rest))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (Mark, Frame<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (mark, rest) = self.0.split_first()?;
        let Ok(Cut::Frame(frame)) = cut(rest, FRAME_BYTES_MAX) else {
            return None;
        };
        self.0 = &rest[frame.bytes.len()..];
        Some((Mark::from_byte(*mark)?, frame))
    }
}

/// The message of a refusal, its text cut to what a person reads and a frame holds.
pub(crate) fn error_message(api: &str, code: Code, message: &str) -> crate::msg::error::Res {
    const TEXT_BYTES_MAX: usize = 512;
    let end = message.floor_char_boundary(TEXT_BYTES_MAX);
    crate::msg::error::Res { code: code.0, api: api.to_owned(), message: message[..end].to_owned() }
}

/// Without what is in it: a game's payloads, and the tokens of sign-ins and resumes.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("bytes", &self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg;

    fn echo(val: i64) -> msg::echo::Req {
        msg::echo::Req { val: Some(val), ct: None }
    }

    /// Each session has batches, at its gate and at its player, and most of the time nothing in
    /// them.
    #[test]
    fn frames_come_out_in_the_order_and_with_the_marks_they_went_in() {
        for mark in Mark::ALL {
            let mut batch = Batch::default();
            batch.push_message(mark, &echo(1)).expect("fits");
            batch.push_error(Mark::Plain, "msg.Echo.Req", Code::BUSY, "later");
            let seen: Vec<_> =
                batch.frames().map(|(mark, frame)| (mark, frame.api.to_string())).collect();
            assert_eq!(
                seen,
                [(mark, "msg.Echo.Req".into()), (Mark::Plain, "msg.Error.Res".into())]
            );
        }
    }

    #[test]
    fn a_batch_is_split_between_frames_and_loses_none() {
        let mut batch = Batch::default();
        for n in 1..=9 {
            batch.push_message(Mark::Request, &echo(n)).expect("fits");
        }
        for bytes_max in [0, 1, 19, 20, 39, 1000] {
            let (mut rest, mut seen) = (batch.frames(), Vec::new());
            while !rest.0.is_empty() {
                let first;
                (first, rest) = rest.split(bytes_max);
                assert!(first.count() == 1 || first.0.len() <= bytes_max);
                seen.extend(first.map(|(_, frame)| frame.payload[1]));
            }
            assert_eq!(seen, (1..=9).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_refused_keeps_its_place_and_says_so_once() {
        let mut batch = Batch::default();
        batch.push_message(Mark::Request, &echo(1)).expect("fits");
        batch.push_message(Mark::Plain, &echo(2)).expect("fits");
        batch.push_message(Mark::Ping, &msg::ping::Req::default()).expect("fits");
        let (refused, count) = batch.refused(Code::BUSY);
        let seen: Vec<_> = refused.frames().map(|(mark, f)| (mark, f.api.to_string())).collect();
        let error = "msg.Error.Res".to_owned();
        let ping = "msg.Ping.Req".to_owned();
        let expected =
            [(Mark::Refused, error.clone()), (Mark::RefusedPlain, error), (Mark::Ping, ping)];
        assert_eq!((seen.as_slice(), count), (&expected[..], 2));
        assert_eq!(refused.refused(Code::BUSY).1, 0);
    }

    #[test]
    fn a_message_that_does_not_fit_leaves_the_batch_as_it_was() {
        let mut batch = Batch::default();
        batch.push_error(Mark::Answer, "a.Req", Code::BUSY, "later");
        let huge = msg::kick::Res { code: 1, reason: "x".repeat(70_000) };
        assert!(batch.push_message(Mark::Answer, &huge).is_err());
        assert_eq!(batch.frames().count(), 1);
    }
}
