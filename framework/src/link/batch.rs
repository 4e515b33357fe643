//! Owns the batch: what one wake has to say to one entity, or to one session, as one buffer.
//!
//! `(tag: u32 LE | frame)*`. Towards an entity the tag numbers the request (0: an input that
//! gets no answer); towards a session it is the number of the request that the frame answers
//! (0: a push). The same bytes travel through a queue in this process and over a link.

use bytes::BufMut;

use crate::{
    Named,
    wire::{Code, Cut, FRAME_BYTES_MAX, Frame, FrameError, cut, put_named},
};

/// Tag of a frame that is neither a request nor an answer.
pub(crate) const UNTAGGED: u32 = 0;

const TAG_BYTES: usize = 4;

/// Frames in one buffer, each behind its tag.
#[derive(Debug, Default)]
pub(crate) struct Batch(Vec<u8>);

impl Batch {
    /// Appends a frame that was cut elsewhere.
    #[inline]
    pub(crate) fn push(&mut self, tag: u32, frame: &[u8]) {
        self.0.reserve(TAG_BYTES + frame.len());
        self.0.put_u32_le(tag);
        self.0.extend_from_slice(frame);
    }

    /// Appends a message as a frame.
    ///
    /// # Errors
    /// When it does not fit into a frame; the batch is then as before.
    #[inline]
    pub(crate) fn push_message<M: Named>(
        &mut self,
        tag: u32,
        message: &M,
    ) -> Result<(), FrameError> {
        self.push_answer(tag, M::NAME, message)
    }

    /// Appends a message as a frame under a name of its own.
    ///
    /// # Errors
    /// As [`Batch::push_message`].
    #[inline]
    pub(crate) fn push_answer(
        &mut self,
        tag: u32,
        name: &str,
        message: &impl prost::Message,
    ) -> Result<(), FrameError> {
        let before = self.0.len();
        self.0.put_u32_le(tag);
        put_named(&mut self.0, name, message).inspect_err(|_| self.0.truncate(before))
    }

    /// Appends `msg.Error.Res` for the request `api`.
    pub(crate) fn push_error(&mut self, tag: u32, api: &str, code: Code, message: &str) {
        let error = error_message(api, code, message);
        self.push_message(tag, &error).expect("an error message is far below the frame limit");
    }

    /// Appends frames of another batch.
    pub(crate) fn append(&mut self, frames: Frames<'_>) {
        self.0.extend_from_slice(frames.0);
    }

    /// Refusals for the requests in it, counted.
    pub(crate) fn refused(&self, code: Code, counter: &metrics::Counter) -> Self {
        let mut refusals = Self::default();
        for (tag, frame) in self.frames() {
            refusals.push_error(tag, frame.api.as_str(), code, code.text());
            counter.increment(1);
        }
        refusals
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The frames in order.
    #[inline]
    pub(crate) fn frames(&self) -> Frames<'_> {
        Frames(&self.0)
    }
}

impl From<Frames<'_>> for Batch {
    fn from(frames: Frames<'_>) -> Self {
        Self(frames.0.to_vec())
    }
}

/// The frames of a batch in order, wherever its bytes lie. Stops at bytes that are not a frame: a
/// batch is only ever built from whole frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames<'a>(pub(super) &'a [u8]);

impl<'a> Frames<'a> {
    /// The first frames, as many as fit into `bytes_max` and at least one; and the rest.
    pub(super) fn split(self, bytes_max: usize) -> (Self, Self) {
        if self.0.len() <= bytes_max {
            return (self, Frames(&[]));
        }
        let mut end = 0;
        for (_, frame) in self {
            let next = end + TAG_BYTES + frame.bytes.len();
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
    type Item = (u32, Frame<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (tag, rest) = self.0.split_first_chunk::<TAG_BYTES>()?;
        let Ok(Cut::Frame(frame)) = cut(rest, FRAME_BYTES_MAX) else {
            return None;
        };
        self.0 = &rest[frame.bytes.len()..];
        Some((u32::from_le_bytes(*tag), frame))
    }
}

/// The message of a refusal, its text cut to what a person reads and a frame holds.
pub(crate) fn error_message(api: &str, code: Code, message: &str) -> crate::msg::error::Res {
    const TEXT_BYTES_MAX: usize = 512;
    let end = message.floor_char_boundary(TEXT_BYTES_MAX);
    crate::msg::error::Res { code: code.0, api: api.to_owned(), message: message[..end].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg;

    #[test]
    fn frames_come_out_in_the_order_and_with_the_tags_they_went_in() {
        let mut batch = Batch::default();
        batch.push_message(7, &msg::echo::Req { val: Some(1), ct: None }).expect("fits");
        batch.push_error(UNTAGGED, "msg.Echo.Req", Code::BUSY, "later");
        let seen: Vec<_> =
            batch.frames().map(|(tag, frame)| (tag, frame.api.to_string())).collect();
        assert_eq!(seen, [(7, "msg.Echo.Req".into()), (0, "msg.Error.Res".into())]);
    }

    #[test]
    fn a_batch_is_split_between_frames_and_loses_none() {
        let mut batch = Batch::default();
        for n in 1..=9 {
            batch.push_message(n, &msg::echo::Req { val: Some(1), ct: None }).expect("fits");
        }
        for bytes_max in [0, 1, 22, 23, 45, 1000] {
            let (mut rest, mut tags) = (batch.frames(), Vec::new());
            while !rest.0.is_empty() {
                let first;
                (first, rest) = rest.split(bytes_max);
                assert!(first.count() == 1 || first.0.len() <= bytes_max);
                tags.extend(first.map(|(tag, _)| tag));
            }
            assert_eq!(tags, (1..=9).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_message_that_does_not_fit_leaves_the_batch_as_it_was() {
        let mut batch = Batch::default();
        batch.push_error(1, "a.Req", Code::BUSY, "later");
        let huge = msg::kick::Res { code: 1, reason: "x".repeat(70_000) };
        assert!(batch.push_message(2, &huge).is_err());
        assert_eq!(batch.frames().count(), 1);
    }
}
