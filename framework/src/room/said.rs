//! Owns what a room has to say, in order, until it is spread to the members: each message is
//! encoded once, whoever it is for.

use super::Seat;
use crate::{
    Code, Named,
    link::{Batch, Frames, Mark},
    wire::{FrameError, Refusal},
};

/// What was said since the last time it was spread.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Every frame once; also such as nobody is told after all.
    frames: Batch,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Frame { to: To, start: usize, end: usize },
    Lost { seat: Seat, code: Code, reason: String },
}

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    One(Seat),
    All,
    But(Seat),
}

/// One thing said.
#[derive(Clone, Copy, Debug)]
pub(super) enum Saying<'a> {
    /// One frame.
    Frame(To, Frames<'a>),
    /// A member has lost its seat; its client hears why.
    Lost { seat: Seat, code: Code, reason: &'a str },
}

impl Said {
    pub(super) fn message<M: Named>(
        &mut self,
        to: To,
        mark: Mark,
        message: &M,
    ) -> Result<(), FrameError> {
        self.answer(to, mark, M::NAME, message)
    }

    /// Says a message under a name of its own.
    pub(super) fn answer(
        &mut self,
        to: To,
        mark: Mark,
        name: &str,
        message: &impl prost::Message,
    ) -> Result<(), FrameError> {
        let start = self.frames.bytes_len();
        self.frames.push_answer(mark, name, message)?;
        self.pieces.push(Piece::Frame { to, start, end: self.frames.bytes_len() });
        Ok(())
    }

    pub(super) fn refusal(&mut self, seat: Seat, mark: Mark, api: &str, refusal: &Refusal) {
        let start = self.frames.bytes_len();
        self.frames.push_error(mark.answered(), api, refusal.code, &refusal.message);
        let end = self.frames.bytes_len();
        self.pieces.push(Piece::Frame { to: To::One(seat), start, end });
    }

    pub(super) fn lost(&mut self, seat: Seat, code: Code, reason: String) {
        self.pieces.push(Piece::Lost { seat, code, reason });
    }

    /// How much was said.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Takes back what was said since then.
    pub(super) fn cut(&mut self, len: usize) {
        self.pieces.truncate(len);
    }

    /// What was said, in order.
    pub(super) fn sayings(&self) -> impl Iterator<Item = Saying<'_>> {
        let bytes = self.frames.frames().bytes();
        self.pieces.iter().map(move |piece| match piece {
            Piece::Frame { to, start, end } => {
                Saying::Frame(*to, Frames::over(bytes.get(*start..*end).unwrap_or_default()))
            }
            Piece::Lost { seat, code, reason } => Saying::Lost { seat: *seat, code: *code, reason },
        })
    }

    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.pieces.clear();
    }
}
