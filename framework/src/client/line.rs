//! Owns one connection of a session: cuts what comes, writes what the record has for it, pings,
//! and notices that nothing comes any more. Every step is a poll that loses nothing when the
//! caller stops polling.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Duration, Instant, Sleep, sleep_until},
};

use super::{Options, Push, dial::Carrier, record::Record};
use crate::wire::{Cut, FRAME_BYTES_MAX, cut, put_message};

/// Bytes that are handed to the carrier at once. Beyond: the next write.
const WRITE_BYTES: usize = 16 * 1024;

/// Bytes that one read takes. Beyond: the next read.
const READ_BYTES: usize = 16 * 1024;

/// Frames and bytes after which the server is told what was received, a quarter of what it keeps
/// to send again (256 KiB): a ping that is under way still finds room.
const UNTOLD_FRAMES_MAX: u64 = 256;
const UNTOLD_BYTES_MAX: usize = 64 * 1024;

/// Between two pings that ask what the server has. Beyond: sending waits, for a server that is
/// behind is not helped by more pings, and they count towards its rate.
const ASK_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection that cannot be written to is still read: the server may have said why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    carrier: Box<dyn Carrier>,
    /// Read, and not a whole frame yet.
    unread: BytesMut,
    /// Whole frames to write; `done` bytes of them are gone.
    out: Vec<u8>,
    done: usize,
    pub(super) began: Instant,
    /// How often the server was pinged on this connection, and which of these came back last.
    pinged: i64,
    ponged: i64,
    ping_next: Instant,
    /// The server should be asked what it has, and when that may be.
    ask_at: Option<Instant>,
    /// Pinged then, and nothing has come since.
    silent_since: Option<Instant>,
    /// Writing failed, and when reading ends for it.
    unwritable: Option<(String, Instant)>,
    timer: Pin<Box<Sleep>>,
}

/// What time has brought.
#[derive(Debug)]
pub(super) enum Wake {
    Pinged,
    Broken(String),
}

impl Line {
    pub(super) fn new(carrier: Box<dyn Carrier>, unread: BytesMut, options: &Options) -> Self {
        let now = Instant::now();
        let ping_next = now + options.ping_interval;
        Self {
            carrier,
            unread,
            out: Vec::new(),
            done: 0,
            began: now,
            pinged: 0,
            ponged: 0,
            ping_next,
            ask_at: None,
            silent_since: None,
            unwritable: None,
            timer: Box::pin(sleep_until(ping_next)),
        }
    }

    /// Pings when the server should hear what has arrived, or be asked what has.
    pub(super) fn ping_if_due<W>(&mut self, record: &mut Record<W>, options: &Options) {
        if !record.resumable() {
            return;
        }
        let (untold_frames, untold_bytes) = record.untold();
        let tell = untold_frames >= UNTOLD_FRAMES_MAX || untold_bytes >= UNTOLD_BYTES_MAX;
        let (frames, bytes) = record.unconfirmed();
        // At a quarter, so that sending seldom waits for it; one such question at a time.
        let ask = self.ponged == self.pinged
            && (frames > options.unconfirmed_frames_max / 4
                || bytes > options.unconfirmed_bytes_max / 4);
        let last_ping = self.ping_next - options.ping_interval;
        self.ask_at = (ask && self.pinged > 0).then_some(last_ping + ASK_PAUSE);
        if tell || (ask && self.ask_at.is_none_or(|at| at <= Instant::now())) {
            self.ping(record, options);
        }
    }

    /// Says what was received; which ping of this connection it is.
    pub(super) fn ping<W>(&mut self, record: &mut Record<W>, options: &Options) -> i64 {
        // Frames that were sent before it are confirmed by its answer: they go first.
        while record.write_next(&mut self.out) {}
        self.pinged += 1;
        put_message(&mut self.out, &record.ping(self.pinged)).expect("a ping is small");
        let now = Instant::now();
        self.ping_next = now + options.ping_interval;
        self.ask_at = None;
        self.silent_since.get_or_insert(now);
        self.pinged
    }

    /// A ping came back.
    pub(super) fn pong(&mut self, ct: i64) {
        self.ponged = self.ponged.max(ct.min(self.pinged));
    }

    pub(super) fn ponged(&self) -> i64 {
        self.ponged
    }

    /// Since when nothing has come though a ping is under way.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.silent_since
    }

    /// Writes as much as the carrier takes; ready when it took something.
    pub(super) fn poll_write<W>(
        &mut self,
        cx: &mut Context<'_>,
        record: &mut Record<W>,
    ) -> Poll<()> {
        if self.unwritable.is_some() {
            return Poll::Pending;
        }
        if self.done == self.out.len() {
            self.out.clear();
            self.done = 0;
            while self.out.len() < WRITE_BYTES && record.write_next(&mut self.out) {}
        }
        let wrote = match self.done == self.out.len() {
            true => {
                // Pending or done: what matters is only whether it failed.
                match Pin::new(&mut self.carrier).poll_flush(cx) {
                    Poll::Ready(Err(e)) => Err(e),
                    Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
                }
            }
            false => {
                ready!(Pin::new(&mut self.carrier).poll_write(cx, &self.out[self.done..]))
            }
        };
        match wrote.and_then(|n| if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(n) })
        {
            Ok(n) => self.done += n,
            Err(e) => self.unwritable = Some((e.to_string(), Instant::now() + LAST_WORDS)),
        }
        Poll::Ready(())
    }

    /// The next whole frame, or why there is none any more.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Push, String>> {
        loop {
            match cut(&self.unread, FRAME_BYTES_MAX) {
                Ok(Cut::Frame(frame)) => {
                    let push = Push { api: frame.api.to_string(), payload: frame.payload.to_vec() };
                    let used = frame.bytes.len();
                    let _frame = self.unread.split_to(used);
                    return Poll::Ready(Ok(push));
                }
                Ok(Cut::Partial { .. }) => {}
                Err(e) => return Poll::Ready(Err(format!("the gate sent a bad frame: {e}"))),
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err("the gate closed the connection".to_owned())),
                Ok(_) => self.silent_since = None,
                Err(e) => return Poll::Ready(Err(e.to_string())),
            }
        }
    }

    /// What came beside the stream; nothing when it is no frame.
    pub(super) fn poll_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Option<Push>> {
        let bytes = ready!(self.carrier.poll_datagram(cx));
        self.silent_since = None;
        Poll::Ready(match cut(&bytes, FRAME_BYTES_MAX) {
            Ok(Cut::Frame(frame)) if frame.bytes.len() == bytes.len() => {
                Some(Push { api: frame.api.to_string(), payload: frame.payload.to_vec() })
            }
            _ => None,
        })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.carrier).poll_read(cx, &mut buffer))?;
        self.unread.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Looks at the clock. Only when there was nothing to read: who has not polled for a while has
    /// not heard, and that is not the server's silence.
    pub(super) fn poll_time<W>(
        &mut self,
        cx: &mut Context<'_>,
        record: &mut Record<W>,
        options: &Options,
    ) -> Poll<Wake> {
        let now = Instant::now();
        let mut wake = self.ask_at.map_or(self.ping_next, |at| at.min(self.ping_next));
        if let Some((why, until)) = &self.unwritable {
            if now >= *until {
                return Poll::Ready(Wake::Broken(why.clone()));
            }
            wake = wake.min(*until);
        }
        if let Some(since) = self.silent_since {
            let until = since + options.silence_max;
            if now >= until {
                let silence = options.silence_max.as_secs_f32();
                return Poll::Ready(Wake::Broken(format!("nothing came for {silence} s")));
            }
            wake = wake.min(until);
        }
        if now >= self.ping_next {
            self.ping(record, options);
            return Poll::Ready(Wake::Pinged);
        }
        if self.timer.deadline() != wake {
            self.timer.as_mut().reset(wake);
        }
        self.timer.as_mut().poll(cx).map(|()| Wake::Pinged)
    }
}
