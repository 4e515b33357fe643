//! Owns a model of the server: what the rules of the wire say about a session, and nothing of how
//! the framework does it. It reads and writes bytes by hand, so that a mistake in the client's
//! codec is not made here too. Its connections break where a test wants it.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
};

use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    sync::Notify,
    task::JoinSet,
};

use crate::{
    client::{Address, Carrier, Dial, Dialing},
    msg,
};

/// The server, its gates, and the network before them.
#[derive(Clone)]
pub(super) struct Model(Arc<Shared>);

struct Shared {
    state: Mutex<Inside>,
    news: Notify,
    connections: Mutex<JoinSet<()>>,
}

/// What the server knows.
pub(super) struct Inside {
    /// Which connection has the session.
    pub(super) connection: usize,
    /// The token that came last, and the one that was given last.
    tokens: [Vec<u8>; 2],
    given: u64,
    /// Counted frames of the client.
    pub(super) received: u64,
    /// Counted frames to the client, all that there ever were.
    pub(super) sent: Vec<Vec<u8>>,
    /// Values of the echoes, in the order they were done.
    pub(super) done: Vec<i64>,
    /// A push follows each echo whose value it divides.
    pub(super) push_every: i64,
    /// What the client told at most that it has.
    pub(super) told: u64,
    pub(super) dialed: Vec<String>,
    pub(super) logins: usize,
    pub(super) window_s: u32,
    /// Where the connections break, in their order; those behind them never do.
    pub(super) cuts: Vec<Cut>,
    /// What the next resumes are answered instead of 0.
    pub(super) refuse: Vec<i32>,
    /// What the connection that has the session is told before it is closed.
    kick: Option<i32>,
    /// Gates where nobody listens.
    pub(super) down: Vec<String>,
    /// The server offers no resume.
    pub(super) plain: bool,
}

/// Where a connection breaks, counted in bytes from its beginning, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) up: usize,
    pub(super) down: usize,
    pub(super) how: How,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// Both ends see it at once.
    Ends,
    /// The client's calls fail.
    Fails,
    /// Nothing arrives any more, and nobody is told.
    Silent,
}

impl Model {
    pub(super) fn new() -> Self {
        let state = Inside {
            connection: 0,
            tokens: [Vec::new(), Vec::new()],
            given: 0,
            received: 0,
            sent: Vec::new(),
            done: Vec::new(),
            push_every: 3,
            told: 0,
            dialed: Vec::new(),
            logins: 0,
            window_s: 3600,
            cuts: Vec::new(),
            refuse: Vec::new(),
            kick: None,
            down: Vec::new(),
            plain: false,
        };
        let news = Notify::new();
        Self(Arc::new(Shared { state: Mutex::new(state), news, connections: Mutex::default() }))
    }

    pub(super) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.state.lock().unwrap()
    }

    /// Pushes to the player, wherever it is.
    pub(super) fn push(&self, value: i64) {
        self.inside().put("arena.Pushed", &msg::echo::Res { val: Some(value), ct: None });
        self.0.news.notify_waiters();
    }

    /// Kicks the connection that has the session.
    pub(super) fn kick(&self, code: i32) {
        self.inside().kick = Some(code);
        self.0.news.notify_waiters();
    }
}

impl Inside {
    fn put(&mut self, api: &str, message: &impl prost::Message) {
        self.sent.push(frame(api, message));
    }

    fn next_token(&mut self) -> Vec<u8> {
        self.given += 1;
        self.given.to_be_bytes().to_vec()
    }

    /// What the rules say about the first message; the answer, and whether the session is here.
    fn first(&mut self, connection: usize, api: &str, payload: &[u8]) -> (Vec<u8>, bool) {
        if api == "msg.Login.Req" {
            let token = self.next_token();
            (self.tokens, self.connection) = ([token.clone(), token.clone()], connection);
            (self.received, self.sent, self.told) = (0, Vec::new(), 0);
            self.logins += 1;
            let answer = msg::login::Res {
                resume_token: (!self.plain).then_some(token),
                resume_window_s: Some(self.window_s),
                ..Default::default()
            };
            return (frame("msg.Login.Res", &answer), true);
        }
        assert_eq!(api, "msg.Resume.Req", "the first message");
        let ask = msg::resume::Req::decode(payload).unwrap();
        let code = if !self.refuse.is_empty() {
            self.refuse.remove(0)
        } else if self.tokens.contains(&ask.resume_token) {
            0
        } else {
            2004
        };
        if code != 0 {
            let answer = msg::resume::Res { code, ..Default::default() };
            return (frame("msg.Resume.Res", &answer), false);
        }
        let token = self.next_token();
        (self.tokens, self.connection) = ([ask.resume_token, token.clone()], connection);
        assert!(ask.received >= self.told && ask.received <= self.sent.len() as u64);
        self.told = ask.received;
        let answer = msg::resume::Res { code: 0, received: self.received, resume_token: token };
        (frame("msg.Resume.Res", &answer), true)
    }

    /// A message of the session; what is answered at once and not counted.
    fn take(&mut self, api: &str, payload: &[u8]) -> Option<Vec<u8>> {
        if api == "msg.Ping.Req" {
            let ping = msg::ping::Req::decode(payload).unwrap();
            assert!(ping.received >= self.told && ping.received <= self.sent.len() as u64);
            self.told = ping.received;
            let received = if self.plain { 0 } else { self.received };
            return Some(frame("msg.Ping.Res", &msg::ping::Res { ct: ping.ct, st: 0, received }));
        }
        self.received += 1;
        match api {
            "msg.Echo.Req" => {
                let echo = msg::echo::Req::decode(payload).unwrap();
                let value = echo.val.unwrap();
                self.done.push(value);
                self.put("msg.Echo.Res", &msg::echo::Res { val: Some(value), ct: None });
                if self.push_every != 0 && value % self.push_every == 0 {
                    self.put("arena.Pushed", &msg::echo::Res { val: Some(value), ct: None });
                }
            }
            "msg.Logout.Req" => {
                self.put("msg.Logout.Res", &msg::logout::Res { code: 0 });
                self.tokens = [b"over".to_vec(), b"over".to_vec()];
            }
            // Asked for and never answered.
            "msg.GetItems.Req" => {}
            other => {
                let (api, message) = (other.to_owned(), "no such thing".to_owned());
                self.put("msg.Error.Res", &msg::error::Res { code: 1004, api, message });
            }
        }
        None
    }
}

/// One connection at a gate.
async fn serve(model: Model, connection: usize, mut stream: DuplexStream) {
    let Some((api, payload)) = read(&mut stream).await else { return };
    let (answer, here) = model.inside().first(connection, &api, &payload);
    if stream.write_all(&answer).await.is_err() || !here {
        return;
    }
    let mut next = usize::try_from(model.inside().told).unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (heard, mut hears) = tokio::sync::mpsc::channel(8);
    let reading = async {
        while let Some(frame) = read(&mut reader).await {
            if heard.send(frame).await.is_err() {
                break;
            }
        }
        drop(heard);
        std::future::pending::<()>().await;
    };
    let serving = async {
        loop {
            let news = model.0.news.notified();
            let (mut out, kick) = {
                let mut inside = model.inside();
                if inside.connection != connection {
                    return;
                }
                let out = inside.sent[next..].concat();
                next = inside.sent.len();
                (out, inside.kick.take())
            };
            if let Some(code) = kick {
                let reason = "asked to".to_owned();
                out.extend(frame("msg.Kick.Res", &msg::kick::Res { code, reason }));
            }
            if writer.write_all(&out).await.is_err() || kick.is_some() {
                return;
            }
            let answer = tokio::select! {
                () = news => None,
                frame = hears.recv() => match frame {
                    None => return,
                    Some((api, payload)) => {
                        let mut inside = model.inside();
                        if inside.connection != connection {
                            return;
                        }
                        inside.take(&api, &payload)
                    }
                },
            };
            if writer.write_all(&answer.unwrap_or_default()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = reading => {}, () = serving => {} }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let size = stream.read_u16_le().await.ok()?;
    let mut rest = vec![0; size.into()];
    stream.read_exact(&mut rest).await.ok()?;
    let api_end = 2 + usize::from(u16::from_le_bytes([rest[0], rest[1]]));
    let api = String::from_utf8(rest[2..api_end].to_vec()).unwrap();
    Some((api, rest[api_end..].to_vec()))
}

fn frame(api: &str, message: &impl prost::Message) -> Vec<u8> {
    let payload = message.encode_to_vec();
    let size = u16::try_from(2 + api.len() + payload.len()).unwrap();
    let api_len = u16::try_from(api.len()).unwrap();
    [&size.to_le_bytes(), &api_len.to_le_bytes(), api.as_bytes(), &payload].concat()
}

// === The network ===

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Model")
    }
}

impl Dial for Model {
    fn dial(&self, address: &Address) -> Dialing {
        let mut inside = self.inside();
        let name = address.to_string();
        let (number, down) = (inside.dialed.len() + 1, inside.down.contains(&name));
        inside.dialed.push(name);
        if down {
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        }
        let cut = inside.cuts.get(number - 1).copied();
        drop(inside);
        let (client, server) = duplex(512);
        self.0.connections.lock().unwrap().spawn(serve(self.clone(), number, server));
        let wire = Wire { inner: Some(client), cut };
        Box::pin(async { Ok(Box::new(wire) as Box<dyn Carrier>) })
    }
}

/// The client's end of a connection that breaks.
struct Wire {
    /// Gone when it is broken.
    inner: Option<DuplexStream>,
    cut: Option<Cut>,
}

impl Wire {
    /// What one more call may move, or how it is broken.
    fn allowance(&mut self, up: bool) -> Result<usize, How> {
        let Some(cut) = &self.cut else { return Ok(usize::MAX) };
        let (left, how) = (if up { cut.up } else { cut.down }, cut.how);
        if left > 0 && self.inner.is_some() {
            return Ok(left);
        }
        if !matches!(how, How::Silent) {
            self.inner = None;
        }
        Err(how)
    }

    fn moved(&mut self, up: bool, bytes: usize) {
        if let Some(cut) = &mut self.cut {
            *(if up { &mut cut.up } else { &mut cut.down }) -= bytes;
        }
    }
}

impl Carrier for Wire {}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = match self.allowance(false) {
            Ok(most) => most.min(buf.remaining()),
            Err(How::Ends) => return Poll::Ready(Ok(())),
            Err(How::Fails) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Err(How::Silent) => return Poll::Pending,
        };
        let mut part = vec![0; most];
        let mut part = ReadBuf::new(&mut part);
        ready!(Pin::new(self.inner.as_mut().unwrap()).poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        self.moved(false, part.filled().len());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = match self.allowance(true) {
            Ok(most) => most.min(bytes.len()),
            Err(How::Ends | How::Fails) => {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            // A system takes bytes for a connection that is not there any more.
            Err(How::Silent) => return Poll::Ready(Ok(bytes.len())),
        };
        let wrote = ready!(Pin::new(self.inner.as_mut().unwrap()).poll_write(cx, &bytes[..most]))?;
        self.moved(true, wrote);
        Poll::Ready(Ok(wrote))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
