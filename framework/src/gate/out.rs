//! Owns what waits to be written to a client's stream, where it is not frames that go straight there:
//! what a WebSocket's protocol has to say, texts, and the messages of a codec.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use crate::spare;

/// Bytes that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) bytes: Vec<u8>,
    written: usize,
    /// What was written may still be held back by what lies below.
    unflushed: bool,
}

impl Out {
    /// Takes bytes over, and leaves none.
    pub(super) fn push(&mut self, bytes: &mut Vec<u8>) {
        if self.bytes.is_empty() {
            std::mem::swap(&mut self.bytes, bytes);
        } else {
            self.bytes.append(bytes);
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Ready when nothing waits.
    pub(super) fn poll_write<C>(
        &mut self,
        stream: &mut C,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        C: AsyncWrite + Unpin,
    {
        while self.written < self.bytes.len() {
            let rest = &self.bytes[self.written..];
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.unflushed = true;
        }
        if self.unflushed {
            spare::give(&mut self.bytes);
            self.written = 0;
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
