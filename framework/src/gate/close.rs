//! Owns the end of a connection: why it ends, and the last thing that the client hears.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{Carrier, CloseReason, Closed, connection::Connection, outbox::Kicked};
use crate::{
    Named,
    limits::{CLOSE_DRAIN_BYTES_MAX, CLOSE_LINGER},
    msg,
    wire::{Code, Cut, FRAME_BYTES_MAX, cut, put_message},
};

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum Close {
    /// The client closed, or the network did.
    Gone,
    /// It was told why in its last answer: no frame, far above the rate, or signing in twice.
    Refused,
    /// Somebody ended the session.
    Kicked(Kicked),
    /// Not signed in within `gate.sign_in_timeout`.
    NotSignedIn,
    /// Nothing came for `gate.idle_timeout`.
    Idle,
    /// The gate is going away and every answer is given.
    Drained,
}

impl Close {
    /// The same, as a studio hears it.
    fn reason(&self) -> CloseReason {
        match self {
            Self::Gone => CloseReason::Gone,
            Self::Refused => CloseReason::Refused,
            Self::Kicked(Kicked { code, .. }) => match *code {
                Code::OK => CloseReason::Left,
                Code::TOO_SLOW => CloseReason::TooSlow,
                Code::DRAINING => CloseReason::Drained,
                code => CloseReason::Kicked(code),
            },
            Self::NotSignedIn => CloseReason::NotSignedIn,
            Self::Idle => CloseReason::Idle,
            Self::Drained => CloseReason::Drained,
        }
    }
}

impl<C> Connection<C>
where
    C: Carrier,
{
    /// Tells the studio that the connection ends.
    pub(super) fn tell_closed(&self, close: &Close) {
        self.gate.hooks.closed(|| Closed {
            address: self.peer,
            transport: self.carrier.transport(),
            account: self.session.as_ref().map(|session| session.account),
            reason: close.reason(),
            open: self.opened.elapsed(),
        });
    }

    /// Writes what the client must still hear, within [`CLOSE_LINGER`], then closes.
    pub(super) async fn say_goodbye(&mut self, close: Close) {
        let mut last = Vec::new();
        match close {
            Close::Gone => return,
            Close::Kicked(Kicked { code: Code::OK, .. }) => {}
            Close::Kicked(Kicked { code, reason }) => {
                if code == Code::TOO_SLOW {
                    self.gate.meters.kicked_slow.increment(1);
                    self.outbox.discard();
                    self.keep_one_frame();
                }
                self.carrier.closes_with(code);
                say(&mut last, &msg::kick::Res { code: code.0, reason });
            }
            Close::Drained => {
                let code = Code::DRAINING;
                self.carrier.closes_with(code);
                say(&mut last, &msg::kick::Res { code: code.0, reason: code.text().into() });
            }
            Close::NotSignedIn | Close::Idle | Close::Refused => {}
        }
        let goodbye = async {
            self.carrier.write_all(&self.writing[self.written..]).await?;
            self.writing.clear();
            let begun = self.outbox.take(&mut self.writing, 0).written;
            self.carrier.write_all(&self.writing[begun..]).await?;
            self.carrier.write_all(&last).await?;
            self.carrier.shutdown().await?;
            self.read_off().await
        };
        if !matches!(timeout(CLOSE_LINGER, goodbye).await, Ok(Ok(()))) {
            tracing::debug!(target: "gate", peer = %self.peer, "closed without a goodbye");
        }
    }

    /// Of what is being written, keeps the frame that is half out, so that the next one begins
    /// where the client expects it.
    fn keep_one_frame(&mut self) {
        let mut end = 0;
        while end < self.written
            && let Ok(Cut::Frame(frame)) = cut(&self.writing[end..], FRAME_BYTES_MAX)
        {
            end += frame.bytes.len();
        }
        self.writing.truncate(end);
    }

    /// Reads what the client still sends, and forgets it. Closing over unread bytes would reset
    /// the connection, and the client's system would throw away our last frame.
    async fn read_off(&mut self) -> io::Result<()> {
        // Of the heap: in the connection's own task it would lie for as long as that lives.
        let mut bytes = vec![0; 4096];
        let mut left = CLOSE_DRAIN_BYTES_MAX;
        while left > 0 {
            match self.carrier.read(&mut bytes).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        Ok(())
    }
}

fn say<M: Named>(out: &mut Vec<u8>, message: &M) {
    put_message(out, message).expect("what a gate says itself is small");
}
