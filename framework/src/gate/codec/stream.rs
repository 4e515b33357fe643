//! Owns a stream whose client speaks a codec, as what carries frames.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    kind::AnyCodec,
    translator::Translator,
    udp::{Hub, UdpDoor},
};
use crate::{
    gate::{Carrier, Gate, Transport},
    limits::{CODEC_OUT_BYTES, READS_PER_WAKE_MAX},
    spare,
};

/// A stream of a codec's messages.
#[derive(Debug)]
pub(in crate::gate) struct Coded<S> {
    stream: S,
    transport: Transport,
    translator: Translator,
    /// Of what the translator has for the client, so many bytes are written.
    written: usize,
    unflushed: bool,
    /// The gate has said its last: what still comes is passed on as it is, to be forgotten.
    ended: bool,
    udp: Option<UdpDoor>,
}

impl<S> Coded<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    pub(in crate::gate) fn new(
        stream: S,
        transport: Transport,
        codec: &dyn AnyCodec,
        gate: &Gate,
        hub: Option<(Arc<Hub>, IpAddr)>,
    ) -> Self {
        let translator = Translator::new(codec, &gate.settings.gate);
        let udp = hub.map(|(hub, client)| UdpDoor::new(hub, client));
        Self { stream, transport, translator, written: 0, unflushed: false, ended: false, udp }
    }

    /// Bytes for the client that are not written.
    fn waiting(&mut self) -> usize {
        self.translator.out().len() - self.written
    }

    /// Sends what may be lost, where there is a way for it; else it goes with the rest.
    fn send_loose(&mut self) {
        match &mut self.udp {
            None => self.translator.all_in_order(),
            Some(udp) => {
                if let Some(word) = self.translator.expected() {
                    udp.expect(word);
                }
                for message in std::mem::take(self.translator.loose()) {
                    if !udp.send(&message) {
                        self.translator.out().extend_from_slice(&message);
                    }
                }
            }
        }
    }

    /// Ready when nothing waits to be written.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.translator.out().len() {
            let rest = &self.translator.out()[self.written..];
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.unflushed = true;
        }
        if self.unflushed {
            spare::give(self.translator.out());
            self.written = 0;
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> AsyncRead for Coded<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        for _ in 0..READS_PER_WAKE_MAX {
            this.send_loose();
            // What the codec answered itself.
            if let Poll::Ready(written) = this.poll_out(cx) {
                written?;
            }
            if this.translator.give(buf)? {
                return Poll::Ready(Ok(()));
            }
            if this.waiting() >= CODEC_OUT_BYTES {
                // It does not read: it is not read either, until it does.
                return Poll::Pending;
            }
            let start = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            if buf.filled().len() == start {
                return Poll::Ready(Ok(()));
            }
            this.translator.take(&buf.filled()[start..]);
            buf.set_filled(start);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S> AsyncWrite for Coded<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Takes frames, whole ones.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        let taken = this.translator.write(frames);
        this.send_loose();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.ended = true;
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

impl<S> Carrier for Coded<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    fn transport(&self) -> Transport {
        self.transport
    }

    fn heard(&mut self) -> bool {
        self.translator.heard()
    }

    fn signed_in(&mut self) {
        self.translator.signed_in();
    }

    fn poll_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let Some(udp) = &mut self.udp else { return Poll::Pending };
        let datagram = ready!(udp.poll(cx));
        Poll::Ready(self.translator.take_datagram(&datagram).into())
    }
}
