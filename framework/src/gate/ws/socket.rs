//! Owns the WebSocket as a carrier of frames: what a client's messages say becomes a stream of
//! frames, and what is written becomes messages. Leaves the protocol's own frames to `frames`,
//! text to `json`.
//!
//! Binary messages cost no buffer: their bytes are unmasked where the connection's read put them,
//! in the scratch buffer that a whole shard shares, and what is written goes out as it lies there,
//! with a header before it.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::{
    frames::{Decoder, Kind, Piece, Violation, as_message, header, put_close, put_header},
    handshake::{Choice, Opening},
    json::Json,
};
use crate::{
    gate::{
        Carrier, Gate, Transport,
        codec::{Told, Translator},
        out::Out,
        rate::{Budget, Verdict},
    },
    limits::{
        CLOSE_DRAIN_BYTES_MAX, CLOSE_LINGER, CODEC_FIRST_BYTES_PATIENCE, CODEC_OUT_BYTES,
        READS_PER_WAKE_MAX, WS_MESSAGE_BYTES_MAX, WS_PONG_BYTES_WAITING_MAX,
        WS_SILENCE_BEFORE_GREETING,
    },
    spare,
    wire::{Code, Cut, Refusal, cut},
};

/// One client's WebSocket.
#[derive(Debug)]
pub(super) struct WebSocket<C> {
    stream: C,
    transport: Transport,
    gate: Arc<Gate>,
    decoder: Decoder,
    /// What has arrived and was not looked at: it came with the handshake, or behind a text that
    /// is not answered yet.
    rest: Vec<u8>,
    out: Out,
    codec: Codec,
    ending: Ending,
    /// Bytes of frames that came before it was told that they are.
    held: Vec<u8>,
    /// There was a ping or a pong since the connection asked.
    heard: bool,
    /// Judges what carries no byte of a message; made with the first of them.
    noise: Option<Box<Budget>>,
    /// What a close says.
    farewell: CloseCode,
}

/// What a connection speaks; decided once.
#[derive(Debug)]
enum Codec {
    /// Nobody has said. With the timer, text greets the client when it is over.
    Open {
        silence: Option<Pin<Box<Sleep>>>,
        json: Box<Json>,
    },
    /// Binary; which codec is not told yet.
    Untold {
        first: Vec<u8>,
        patience: Pin<Box<Sleep>>,
    },
    Frames,
    Json(Box<Json>),
    Other(Box<Translator>),
}

/// How far a connection's end is.
#[derive(Debug)]
enum Ending {
    Not,
    /// The gate has said goodbye; what the client still sends is read and forgotten, for `timer`
    /// when it is the protocol's end alone.
    Said {
        timer: Option<Pin<Box<Sleep>>>,
        bytes_left: usize,
    },
    /// Both have.
    Over,
}

impl<C> WebSocket<C>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
{
    pub(super) fn new(
        stream: C,
        transport: Transport,
        gate: Arc<Gate>,
        peer: SocketAddr,
        opening: Opening,
    ) -> Self {
        let Opening { hello, rest } = opening;
        let (choice, token) = (hello.choice, hello.token.is_some());
        let mut json = Box::new(Json::new(gate.clone(), peer, hello));
        let mut out = Out::default();
        let mut arrived = rest;
        let codec = match choice {
            Some(Choice::Frames) => {
                if token {
                    // As if the client had said it itself, first of all.
                    arrived = [as_message(&json.login_frame()), arrived].concat();
                }
                Codec::Frames
            }
            _ if token => {
                json.login_by_token(&mut out.bytes);
                Codec::Json(json)
            }
            Some(Choice::Json) => {
                json.greet(&mut out.bytes);
                Codec::Json(json)
            }
            None => {
                let silence = Some(Box::pin(sleep(WS_SILENCE_BEFORE_GREETING)));
                Codec::Open { silence, json }
            }
        };
        Self {
            stream,
            transport,
            gate,
            decoder: Decoder::default(),
            rest: arrived,
            out,
            codec,
            ending: Ending::Not,
            held: Vec::new(),
            heard: false,
            noise: None,
            farewell: CloseCode::Normal,
        }
    }

    // === Reading ===

    /// Reads once; frames that it brought are in `buf` then.
    fn read_once(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<Read>> {
        let start = buf.filled().len();
        if self.rest.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            if buf.filled().len() == start {
                return Poll::Ready(Ok(Read::End));
            }
        } else {
            let bytes = self.rest.len().min(buf.remaining());
            buf.put_slice(&self.rest[..bytes]);
            self.rest.drain(..bytes);
        }
        let kept = self.take_in(&mut buf.filled_mut()[start..]);
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        buf.set_filled(start + kept);
        Poll::Ready(Ok(if kept > 0 { Read::Frames } else { Read::Nothing }))
    }

    /// Takes apart what has arrived. Bytes of frames stay, at the front; says how many.
    fn take_in(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() && matches!(self.ending, Ending::Not) {
            if let Codec::Json(json) = &self.codec
                && json.busy()
            {
                self.rest.splice(..0, bytes[at..].iter().copied());
                break;
            }
            let taken = self.decoder.take(&mut bytes[at..]);
            let piece = taken.and_then(|(taken, piece)| {
                at += taken;
                self.piece(piece, &mut bytes[..at], &mut kept)
            });
            if let Err(violation) = piece {
                self.fail(violation);
            }
        }
        kept
    }

    fn piece(&mut self, piece: Piece, taken: &mut [u8], kept: &mut usize) -> Result<(), Violation> {
        match piece {
            Piece::More => Ok(()),
            Piece::Data { kind, bytes, last } => {
                self.decide(kind)?;
                if bytes == 0 && !self.allows() {
                    return Err(Violation::Noise);
                }
                let from = taken.len() - bytes;
                let bytes_said = &taken[from..];
                match &mut self.codec {
                    Codec::Json(json) => return json.take_text(bytes_said, last),
                    Codec::Other(translator) => {
                        translator.take(bytes_said);
                        return Ok(());
                    }
                    Codec::Untold { first, .. } => {
                        first.extend_from_slice(bytes_said);
                        self.tell();
                        return Ok(());
                    }
                    Codec::Frames | Codec::Open { .. } if !self.held.is_empty() => {
                        self.held.extend_from_slice(bytes_said);
                        return Ok(());
                    }
                    Codec::Frames | Codec::Open { .. } => {}
                }
                taken.copy_within(from.., *kept);
                *kept += bytes;
                Ok(())
            }
            Piece::Ping(payload) => {
                self.heard = true;
                if !self.allows() {
                    return Err(Violation::Noise);
                }
                // A client that does not read has pongs enough to read.
                if self.out.waiting() <= WS_PONG_BYTES_WAITING_MAX {
                    put_header(&mut self.out.bytes, OpCode::Control(Control::Pong), payload.len());
                    self.out.bytes.extend(payload);
                }
                Ok(())
            }
            Piece::Pong => {
                self.heard = true;
                if self.allows() { Ok(()) } else { Err(Violation::Noise) }
            }
            Piece::Close(code) => {
                put_close(&mut self.out.bytes, code);
                self.ending = Ending::Over;
                Ok(())
            }
        }
    }

    /// The first message decides what a connection speaks; the others have to keep to it.
    fn decide(&mut self, kind: Kind) -> Result<(), Violation> {
        match (&mut self.codec, kind) {
            (Codec::Json(_), Kind::Text) => Ok(()),
            (Codec::Frames | Codec::Untold { .. } | Codec::Other(_), Kind::Binary) => Ok(()),
            (Codec::Json(_), Kind::Binary)
            | (Codec::Frames | Codec::Untold { .. } | Codec::Other(_), Kind::Text) => {
                Err(Violation::Unsupported)
            }
            (Codec::Open { .. }, Kind::Binary) => {
                self.codec = match self.gate.codecs.is_empty() {
                    true => Codec::Frames,
                    false => Codec::Untold {
                        first: Vec::new(),
                        patience: Box::pin(sleep(CODEC_FIRST_BYTES_PATIENCE)),
                    },
                };
                Ok(())
            }
            (Codec::Open { silence, json }, Kind::Text) => {
                if silence.take().is_some() {
                    json.greet(&mut self.out.bytes);
                }
                self.speak_json();
                Ok(())
            }
        }
    }

    fn speak_json(&mut self) {
        self.codec = match std::mem::replace(&mut self.codec, Codec::Frames) {
            Codec::Open { silence: _, json } => Codec::Json(json),
            decided => decided,
        };
    }

    /// Looks which codec the first bytes are of.
    fn tell(&mut self) {
        let Codec::Untold { first, .. } = &mut self.codec else { return };
        match self.gate.codecs.told(first) {
            Told::NotYet => {}
            Told::Frames => self.speak_frames(),
            Told::Codec(codec) => {
                let mut translator = Box::new(Translator::new(&*codec, &self.gate.settings.gate));
                translator.take(first);
                self.codec = Codec::Other(translator);
            }
        }
    }

    /// What came was of frames.
    fn speak_frames(&mut self) {
        if let Codec::Untold { first, .. } = std::mem::replace(&mut self.codec, Codec::Frames) {
            self.held = first;
        }
    }

    /// Whether the client may say nothing once more: at the rate of frames, and not above ten
    /// times that.
    fn allows(&mut self) -> bool {
        let (now, settings) = (Instant::now(), &self.gate.settings.gate);
        let fresh = || Budget::new(settings.rate_frames_per_s, settings.rate_burst_frames, now);
        let budget = self.noise.get_or_insert_with(|| Box::new(fresh()));
        budget.judge(now) != Verdict::Close
    }

    /// What a codec has for the connection, once it has something.
    fn poll_codec(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Read>> {
        if let Codec::Untold { patience, .. } = &mut self.codec
            && patience.as_mut().poll(cx).is_ready()
        {
            self.speak_frames();
        }
        Poll::Ready(Ok(match &mut self.codec {
            Codec::Untold { .. } => Read::Nothing,
            Codec::Frames if self.held.is_empty() => Read::Nothing,
            Codec::Frames => {
                let bytes = self.held.len().min(buf.remaining());
                buf.put_slice(&self.held[..bytes]);
                self.held.drain(..bytes);
                if self.held.is_empty() {
                    self.held = Vec::new();
                }
                Read::Frames
            }
            Codec::Other(translator) => {
                put_said(translator, &mut self.out.bytes);
                if translator.give(buf)? { Read::Frames } else { Read::Nothing }
            }
            Codec::Open { silence, json } => {
                if let Some(timer) = silence
                    && timer.as_mut().poll(cx).is_ready()
                {
                    *silence = None;
                    json.greet(&mut self.out.bytes);
                }
                Read::Nothing
            }
            Codec::Json(json) => {
                ready!(json.poll(cx));
                if json.give(buf) { Read::Frames } else { Read::Nothing }
            }
        }))
    }

    // === The end ===

    /// The client does not keep to the protocol: it is told why, and not heard any more.
    fn fail(&mut self, violation: Violation) {
        tracing::debug!(target: "gate", "a WebSocket is closed: {violation}");
        self.gate.meters.protocol_errors.increment(1);
        put_close(&mut self.out.bytes, Some(violation.code().into()));
        let timer = Some(Box::pin(sleep(CLOSE_LINGER)));
        self.ending = Ending::Said { timer, bytes_left: CLOSE_DRAIN_BYTES_MAX };
    }

    /// Reads what the client still sends and forgets it; ready when there is no more of it. To
    /// close over unread bytes would take our goodbye back.
    fn poll_end(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Ending::Said { timer, bytes_left } = &mut self.ending else {
            return Poll::Ready(Ok(()));
        };
        if let Some(timer) = timer {
            if timer.as_mut().poll(cx).is_ready() {
                self.ending = Ending::Over;
                return Poll::Ready(Ok(()));
            }
            ready!(self.out.poll_write(&mut self.stream, cx))?;
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        let start = buf.filled().len();
        loop {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            let bytes = buf.filled().len() - start;
            buf.set_filled(start);
            *bytes_left = bytes_left.saturating_sub(bytes);
            if bytes == 0 || *bytes_left == 0 {
                self.ending = Ending::Over;
                return Poll::Ready(Ok(()));
            }
        }
    }

    // === Writing ===

    /// Writes whole frames as one message. Either nothing of it is taken or all: what the socket
    /// does not take now is kept, so that a message never ends in the middle.
    fn poll_message(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        let frames = &frames[..whole_frames(frames)];
        let (head, head_bytes) = header(OpCode::Data(Data::Binary), frames.len());
        let head = &head[..head_bytes];
        let both = [IoSlice::new(head), IoSlice::new(frames)];
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &both))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.out.bytes.extend_from_slice(head.get(written..).unwrap_or_default());
        let of_frames = written.saturating_sub(head.len());
        self.out.bytes.extend_from_slice(&frames[of_frames..]);
        Poll::Ready(Ok(frames.len()))
    }
}

/// What one look at the client brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Frames,
    Nothing,
    End,
}

impl<C> AsyncRead for WebSocket<C>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        for _ in 0..READS_PER_WAKE_MAX {
            if matches!(this.ending, Ending::Said { .. }) {
                return this.poll_end(cx, buf);
            }
            let said = this.poll_codec(cx, buf);
            // What was said above, and pongs; whether it goes out at once does not matter here.
            if let Poll::Ready(written) = this.out.poll_write(&mut this.stream, cx) {
                written?;
            }
            if ready!(said)? == Read::Frames || matches!(this.ending, Ending::Over) {
                return Poll::Ready(Ok(()));
            }
            if let Codec::Other(_) = this.codec
                && this.out.waiting() >= CODEC_OUT_BYTES
            {
                // It does not read: it is not read either, until it does.
                return Poll::Pending;
            }
            match ready!(this.read_once(cx, buf))? {
                Read::Nothing => {}
                Read::Frames | Read::End => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<C> AsyncWrite for WebSocket<C>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// Takes frames, whole ones.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !matches!(this.ending, Ending::Not) || frames.is_empty() {
            return Poll::Ready(Ok(frames.len()));
        }
        ready!(this.out.poll_write(&mut this.stream, cx))?;
        if let Codec::Open { silence: None, .. } = this.codec {
            // It was greeted in text, and has said nothing.
            this.speak_json();
        }
        // Goes out with the flush, or before the next of these.
        Poll::Ready(Ok(match &mut this.codec {
            Codec::Json(json) => json.write(frames, &mut this.out.bytes),
            Codec::Other(translator) => {
                put_said(translator, &mut this.out.bytes);
                let told = translator.write(frames);
                put_said(translator, &mut this.out.bytes);
                told
            }
            Codec::Open { .. } | Codec::Untold { .. } | Codec::Frames => {
                return this.poll_message(cx, frames);
            }
        }))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.out.poll_write(&mut this.stream, cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    /// Says goodbye, and closes this way.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if matches!(this.ending, Ending::Not) {
            put_close(&mut this.out.bytes, Some(this.farewell.into()));
            this.ending = Ending::Said { timer: None, bytes_left: CLOSE_DRAIN_BYTES_MAX };
        }
        ready!(this.out.poll_write(&mut this.stream, cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

impl<C> Carrier for WebSocket<C>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    fn transport(&self) -> Transport {
        self.transport
    }

    fn closes_with(&mut self, code: Code) {
        self.farewell = match code {
            Code::DRAINING => CloseCode::Away,
            _ => CloseCode::Policy,
        };
    }

    fn refuses(&mut self, payload: &[u8]) -> Option<Refusal> {
        match &mut self.codec {
            Codec::Json(json) => json.refuses(payload),
            Codec::Open { .. } | Codec::Untold { .. } | Codec::Frames | Codec::Other(_) => None,
        }
    }

    fn signed_in(&mut self) {
        if let Codec::Other(translator) = &mut self.codec {
            translator.signed_in();
        }
    }

    fn heard(&mut self) -> bool {
        let codec = match &mut self.codec {
            Codec::Other(translator) => translator.heard(),
            _ => false,
        };
        std::mem::take(&mut self.heard) | codec
    }
}

/// What a codec has for its client, as one message.
fn put_said(translator: &mut Translator, out: &mut Vec<u8>) {
    translator.all_in_order();
    let said = translator.out();
    if !said.is_empty() {
        put_header(out, OpCode::Data(Data::Binary), said.len());
        out.append(said);
        spare::give(said);
    }
}

/// As many bytes of whole frames as one message holds.
fn whole_frames(frames: &[u8]) -> usize {
    if frames.len() <= WS_MESSAGE_BYTES_MAX {
        return frames.len();
    }
    let mut end = 0;
    while let Ok(Cut::Frame(frame)) = cut(&frames[end..], WS_MESSAGE_BYTES_MAX)
        && end + frame.bytes.len() <= WS_MESSAGE_BYTES_MAX
    {
        end += frame.bytes.len();
    }
    if end == 0 { WS_MESSAGE_BYTES_MAX } else { end }
}
