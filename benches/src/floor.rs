//! Owns the floors: the least that a server can do with the client's frames, over one hop and
//! over two. Nothing is decoded, answered in turn, bounded or told apart by name.

#![expect(clippy::disallowed_methods, reason = "the floor has no tasks to account for at a drain")]

use std::{
    cell::RefCell,
    env, fs,
    future::poll_fn,
    io, mem,
    net::SocketAddr,
    pin::Pin,
    process::ExitCode,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Builder,
    task::JoinSet,
};

const READ_BYTES: usize = 64 * 1024;
const LINK_READ_BYTES: usize = 256 * 1024;

/// Calls for each whole frame; says how many bytes they were.
pub fn each_frame(bytes: &[u8], mut call: impl FnMut(&[u8])) -> usize {
    let mut at = 0;
    while let Some(size) = bytes.get(at..at + 2) {
        let end = at + 2 + usize::from(u16::from_le_bytes([size[0], size[1]]));
        let Some(frame) = bytes.get(at..end) else { break };
        call(frame);
        at = end;
    }
    at
}

/// Says where a floor listens, to the program that started it with [`Servers::raw`](crate::Servers).
///
/// # Panics
/// When it was started by hand.
pub fn announce(addr: SocketAddr) {
    let file = env::args().nth(1).expect("the announce file");
    let announced = serde_json::json!({ "gate_tcp": addr.to_string() });
    fs::write(file, announced.to_string()).expect("announced");
}

async fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    announce(listener.local_addr().expect("bound"));
    listener
}

// === One hop ===

/// Reads, cuts frames, writes them back, once per read.
///
/// # Panics
/// As [`announce`].
pub fn one_hop() -> ExitCode {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = listen().await;
        let mut echoes = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            echoes.spawn(echo(socket));
        }
    });
    ExitCode::SUCCESS
}

async fn echo(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut unread, mut out) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
    while socket.read_buf(&mut unread).await? > 0 {
        let used = each_frame(&unread, |frame| out.extend_from_slice(frame));
        unread.drain(..used);
        socket.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}

// === Two hops: the gate ===

thread_local! {
    /// One read's bytes; every client's task reads into it in turn.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
    static GATE: RefCell<Gate> = RefCell::default();
}

/// What the tasks of the gate share; its runtime has one thread.
#[derive(Default)]
struct Gate {
    /// `(len: u32 LE | session: u64 LE | frames)*`, for the link.
    out: Vec<u8>,
    /// Runs behind all clients that are ready: they are woken before it.
    writer: Option<Waker>,
    clients: Vec<Client>,
    /// Clients with something to write.
    dirty: Vec<usize>,
}

struct Client {
    socket: Arc<OwnedWriteHalf>,
    out: Vec<u8>,
    /// It took less than there was; a task of its own writes the rest.
    slow: bool,
}

/// Puts every client's frames on one link, and what comes back on the clients' sockets.
///
/// # Panics
/// As [`announce`], and when the echo does not listen.
pub fn gate() -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let echo = env::args().nth(2).expect("where the echo listens");
        let link = TcpStream::connect(echo).await.expect("the echo listens");
        link.set_nodelay(true).expect("a socket");
        let (from_link, to_link) = link.into_split();
        tokio::spawn(write_link(to_link));
        tokio::spawn(read_link(from_link));
        let listener = listen().await;
        while let Ok((socket, _)) = listener.accept().await {
            socket.set_nodelay(true).expect("a socket");
            let (from_client, to_client) = socket.into_split();
            let client = Client { socket: Arc::new(to_client), out: Vec::new(), slow: false };
            let session = GATE.with_borrow_mut(|gate| {
                gate.clients.push(client);
                gate.clients.len() - 1
            });
            tokio::spawn(read_client(from_client, session));
        }
    });
    ExitCode::SUCCESS
}

async fn read_client(mut socket: OwnedReadHalf, session: usize) -> io::Result<()> {
    let mut rest = Vec::new();
    poll_fn(|cx| {
        loop {
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut socket).poll_read(cx, &mut buffer))?;
                let read = buffer.filled();
                if rest.is_empty() {
                    let used = post(session, read);
                    rest.extend_from_slice(&read[used..]);
                } else {
                    rest.extend_from_slice(read);
                    let used = post(session, &rest);
                    rest.drain(..used);
                }
                Poll::Ready(io::Result::Ok(read.len()))
            });
            if ready!(read)? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    })
    .await
}

/// Puts whole frames on the link; says how many bytes they were.
fn post(session: usize, bytes: &[u8]) -> usize {
    let used = each_frame(bytes, |_| {});
    if used > 0 {
        GATE.with_borrow_mut(|gate| {
            put(&mut gate.out, session, &bytes[..used]);
            // Once a batch: later posts find no waker.
            if let Some(writer) = gate.writer.take() {
                writer.wake();
            }
        });
    }
    used
}

async fn write_link(mut link: OwnedWriteHalf) -> io::Result<()> {
    let (mut writing, mut written) = (Vec::new(), 0);
    poll_fn(|cx| {
        loop {
            if written == writing.len() {
                writing.clear();
                written = 0;
                let empty = GATE.with_borrow_mut(|gate| {
                    mem::swap(&mut gate.out, &mut writing);
                    if writing.is_empty() {
                        gate.writer = Some(cx.waker().clone());
                    }
                    writing.is_empty()
                });
                if empty {
                    return Poll::Pending;
                }
            }
            written += ready!(Pin::new(&mut link).poll_write(cx, &writing[written..]))?;
        }
    })
    .await
}

async fn read_link(mut link: OwnedReadHalf) -> io::Result<()> {
    let mut unread = Unread::default();
    poll_fn(|cx| {
        loop {
            ready!(unread.read(cx, &mut link))?;
            GATE.with_borrow_mut(|gate| {
                unread.each(|session, frames| {
                    let client = &mut gate.clients[session];
                    if client.out.is_empty() {
                        gate.dirty.push(session);
                    }
                    client.out.extend_from_slice(frames);
                });
                let mut dirty = mem::take(&mut gate.dirty);
                for session in dirty.drain(..) {
                    gate.clients[session].write(session);
                }
                gate.dirty = dirty;
            });
        }
    })
    .await
}

impl Client {
    fn write(&mut self, session: usize) {
        if self.slow {
            return;
        }
        match self.socket.try_write(&self.out) {
            Ok(all) if all == self.out.len() => self.out.clear(),
            part => {
                self.out.drain(..part.unwrap_or(0));
                self.slow = true;
                tokio::spawn(write_slow(self.socket.clone(), session));
            }
        }
    }
}

async fn write_slow(socket: Arc<OwnedWriteHalf>, session: usize) -> io::Result<()> {
    loop {
        socket.writable().await?;
        let done = GATE.with_borrow_mut(|gate| {
            let client = &mut gate.clients[session];
            match socket.try_write(&client.out) {
                Ok(n) => client.out.drain(..n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            };
            client.slow = !client.out.is_empty();
            Ok(!client.slow)
        })?;
        if done {
            return Ok(());
        }
    }
}

// === Two hops: the echo ===

/// Answers what comes over links: replies grouped by session, one write a read.
///
/// # Panics
/// As [`announce`].
pub fn echo_behind_gate() -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = listen().await;
        while let Ok((link, _)) = listener.accept().await {
            tokio::spawn(echo_link(link));
        }
    });
    ExitCode::SUCCESS
}

async fn echo_link(mut link: TcpStream) -> io::Result<()> {
    link.set_nodelay(true)?;
    let mut unread = Unread::default();
    let (mut replies, mut dirty) = (Vec::<Vec<u8>>::new(), Vec::new());
    let (mut out, mut written) = (Vec::new(), 0);
    poll_fn(|cx| {
        loop {
            while written < out.len() {
                written += ready!(Pin::new(&mut link).poll_write(cx, &out[written..]))?;
            }
            out.clear();
            written = 0;
            ready!(unread.read(cx, &mut link))?;
            unread.each(|session, frames| {
                if replies.len() <= session {
                    replies.resize_with(session + 1, Vec::new);
                }
                if replies[session].is_empty() {
                    dirty.push(session);
                }
                each_frame(frames, |frame| replies[session].extend_from_slice(frame));
            });
            for session in dirty.drain(..) {
                put(&mut out, session, &replies[session]);
                replies[session].clear();
            }
        }
    })
    .await
}

// === Two hops: the link ===

const HEAD_BYTES: usize = 12;

fn put(out: &mut Vec<u8>, session: usize, frames: &[u8]) {
    let len = u32::try_from(frames.len()).expect("a read's bytes");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&(session as u64).to_le_bytes());
    out.extend_from_slice(frames);
}

/// What has arrived on a link and was not taken.
struct Unread {
    bytes: Vec<u8>,
    filled: usize,
}

impl Default for Unread {
    fn default() -> Self {
        Self { bytes: vec![0; LINK_READ_BYTES], filled: 0 }
    }
}

impl Unread {
    fn read<L>(&mut self, cx: &mut Context<'_>, link: &mut L) -> Poll<io::Result<()>>
    where
        L: tokio::io::AsyncRead + Unpin,
    {
        let mut buffer = ReadBuf::new(&mut self.bytes[self.filled..]);
        ready!(Pin::new(link).poll_read(cx, &mut buffer))?;
        self.filled += match buffer.filled().len() {
            0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            n => n,
        };
        Poll::Ready(Ok(()))
    }

    /// Calls for each whole envelope, and keeps the rest.
    fn each(&mut self, mut call: impl FnMut(usize, &[u8])) {
        let mut at = 0;
        while let Some(head) = self.bytes[at..self.filled].first_chunk::<HEAD_BYTES>() {
            let (len, session) = head.split_at(4);
            let len = u32::from_le_bytes(len.try_into().expect("four bytes")) as usize;
            let session = u64::from_le_bytes(session.try_into().expect("eight bytes"));
            let end = at + HEAD_BYTES + len;
            if end > self.filled {
                break;
            }
            call(session as usize, &self.bytes[at + HEAD_BYTES..end]);
            at = end;
        }
        self.bytes.copy_within(at..self.filled, 0);
        self.filled -= at;
    }
}
