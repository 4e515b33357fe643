//! Owns what a room has said to one of its members and its player has not heard yet.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use crate::{
    limits::ROOM_INBOX_BYTES_MAX,
    link::{Batch, Frames, SessionEnd},
    wire::Code,
};

/// A player's end of the way to a room.
pub(super) struct Inbox {
    /// Std mutex: held to append or to take, never across an await.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    said: Batch,
    lost: Option<Lost>,
    waker: Option<Waker>,
}

/// That a seat is lost, and why, in the room's words.
pub(super) type Lost = (Code, String);

impl Inbox {
    pub(super) fn new() -> Self {
        Self { inner: Mutex::default() }
    }

    /// Takes everything that is there into an empty batch, whose room it uses from now on. Pending:
    /// nothing, and the waker is woken when there is.
    pub(super) fn take(&self, said: &mut Batch, waker: &Waker) -> Poll<Option<Lost>> {
        let mut inner = self.lock();
        if inner.said.is_empty() && inner.lost.is_none() {
            if inner.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
                inner.waker = Some(waker.clone());
            }
            return Poll::Pending;
        }
        std::mem::swap(said, &mut inner.said);
        Poll::Ready(inner.lost.take())
    }

    /// Puts back what was not heard yet; it comes first.
    pub(super) fn put_back(&self, mut said: Batch, lost: Option<Lost>) {
        if said.is_empty() && lost.is_none() {
            return;
        }
        let mut inner = self.lock();
        said.append(inner.said.frames());
        inner.said = said;
        inner.lost = lost.or(inner.lost.take());
        inner.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl SessionEnd for Inbox {
    fn deliver(&self, frames: Frames<'_>) {
        let mut inner = self.lock();
        if inner.lost.is_some() {
            return;
        }
        if inner.said.bytes_len() + frames.bytes().len() > ROOM_INBOX_BYTES_MAX {
            // What is missing would be missing for ever: the seat is lost, honestly.
            let reason = "the player did not take in what the room said";
            inner.lost = Some((Code::TOO_SLOW, reason.to_owned()));
        } else {
            inner.said.append(frames);
        }
        inner.wake();
    }

    fn kick(&self, code: Code, reason: &str) {
        let mut inner = self.lock();
        if inner.lost.is_none() {
            inner.lost = Some((code, reason.to_owned()));
        }
        inner.wake();
    }

    // Of a room that goes away its members hear by a kick.
    fn leaving(&self) {}
    fn give_back(&self, _: Frames<'_>) {}
    fn detached(&self) {}
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("bytes", &self.lock().said.bytes_len())
            .finish_non_exhaustive()
    }
}
