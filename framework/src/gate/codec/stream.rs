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
    gate::{Carrier, Gate, Transport, out::Out},
    limits::{CODEC_OUT_BYTES, READS_PER_WAKE_MAX},
};

/// A stream of a codec's messages.
#[derive(Debug)]
pub(in crate::gate) struct Coded<S> {
    stream: S,
    transport: Transport,
    translator: Translator,
    out: Out,
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
        Self { stream, transport, translator, out: Out::default(), ended: false, udp }
    }

    /// Takes over what the codec has for the client. What may be lost goes as a datagram, where there
    /// is a way for it; else with the rest.
    fn take_out(&mut self) {
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
        self.out.push(self.translator.out());
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
            this.take_out();
            // What the codec answered itself.
            if let Poll::Ready(written) = this.out.poll_write(&mut this.stream, cx) {
                written?;
            }
            if this.translator.give(buf)? {
                return Poll::Ready(Ok(()));
            }
            if this.out.waiting() >= CODEC_OUT_BYTES {
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
        ready!(this.out.poll_write(&mut this.stream, cx))?;
        let taken = this.translator.write(frames);
        this.take_out();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.out.poll_write(&mut this.stream, cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.ended = true;
        ready!(this.out.poll_write(&mut this.stream, cx))?;
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
