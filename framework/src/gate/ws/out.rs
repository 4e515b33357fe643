//! Owns what waits to be written to a WebSocket's stream, beside the frames that go straight there.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use crate::spare;

/// Bytes that wait to be written: of a message that was taken whole, of pongs, of the end.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) bytes: Vec<u8>,
    written: usize,
    /// What was written may still be held back by what lies below.
    unflushed: bool,
}

impl Out {
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
