//! Owns the kinds of hostile clients, and what one of each does over frames until it is sent away.

use std::{io, time::Duration};

use bastide::{
    Named, msg,
    wire::{put, put_message},
};
use bastide_benches::{blob::Req, sign_in_over, slow};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::hostile::Ground;

/// What a hostile client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Asks for much and does not read.
    Deaf,
    /// One byte a second of a frame, signed in or not.
    Drip,
    /// Connects and goes.
    Connect,
    /// Connects and stays, 20,000 of them.
    Hold,
    /// Frames at five times the rate, or thousands at once.
    Flood,
    /// A frame larger than may be.
    Oversize,
    /// No frames, or none that can be decoded.
    Garbage,
    /// Frames that are none of its business.
    State,
    /// TLS handshakes that stop.
    Tls,
    /// QUIC handshakes that stop.
    Quic,
    /// WebSocket handshakes that stop.
    Ws,
    /// Resume tokens that are used up, or made up.
    Replay,
    /// Pings at five times the rate, signed in or not.
    Pings,
    /// Sign-ins with tokens that nobody signed.
    Tokens,
    /// HTTP requests that never end.
    Http,
    /// Requests that take a second each.
    Slow,
}

impl Kind {
    pub(crate) const ALL: [Self; 16] = [
        Self::Deaf,
        Self::Drip,
        Self::Connect,
        Self::Hold,
        Self::Flood,
        Self::Oversize,
        Self::Garbage,
        Self::State,
        Self::Tls,
        Self::Quic,
        Self::Ws,
        Self::Replay,
        Self::Pings,
        Self::Tokens,
        Self::Http,
        Self::Slow,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deaf => "deaf",
            Self::Drip => "drip",
            Self::Connect => "connect",
            Self::Hold => "hold",
            Self::Flood => "flood",
            Self::Oversize => "oversize",
            Self::Garbage => "garbage",
            Self::State => "state",
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::Ws => "ws",
            Self::Replay => "replay",
            Self::Pings => "pings",
            Self::Tokens => "tokens",
            Self::Http => "http",
            Self::Slow => "slow",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether its clients have accounts.
    pub(crate) fn signs_in(self) -> bool {
        use Kind::{Deaf, Drip, Flood, Garbage, Pings, Replay, Slow, State, Tokens};
        [Deaf, Drip, Flood, Garbage, Pings, Replay, Slow, State, Tokens].contains(&self)
    }

    /// Before one that was sent away comes again.
    pub(crate) fn pause(self) -> Duration {
        Duration::from_millis(match self {
            Self::Connect => 50,
            Self::Hold => 2000,
            Self::Deaf | Self::Flood => 1000,
            _ => 100,
        })
    }
}

/// How long a client that floods goes on before it comes anew.
const TURN: Duration = Duration::from_secs(30);

/// What one connection is to send, and how often.
struct Stream<'a> {
    frames: &'a [u8],
    every: Duration,
}

impl Ground {
    /// Does what its kind does, once.
    pub(crate) async fn turn(&self, nth: usize) -> io::Result<()> {
        match self.kind {
            Kind::Deaf => self.deaf(nth).await,
            Kind::Drip => self.drip(nth).await,
            Kind::Connect => connect(&self.gate).await?.set_zero_linger(),
            Kind::Hold => self.hold(nth).await,
            Kind::Flood => self.flood(nth).await,
            Kind::Oversize => self.oversize(nth).await,
            Kind::Garbage => self.garbage(nth).await,
            Kind::State => self.state(nth).await,
            Kind::Tls => self.half_tls(nth).await,
            Kind::Quic => self.quic(nth).await,
            Kind::Ws => self.half_ws(nth).await,
            Kind::Replay => self.replay(nth).await,
            Kind::Pings => self.pings(nth).await,
            Kind::Tokens => self.tokens(nth).await,
            Kind::Http => self.slow_http(nth).await,
            Kind::Slow => {
                let asks = frame(&slow::Req { ms: 1000 });
                let socket = self.signed_in(nth).await?;
                stream(socket, Stream { frames: &asks, every: Duration::from_millis(20) }).await
            }
        }
    }

    async fn signed_in(&self, nth: usize) -> io::Result<TcpStream> {
        let mut socket = connect(&self.gate).await?;
        sign_in_over(&mut socket, &self.tokens[nth]).await.map_err(io::Error::other)?;
        Ok(socket)
    }

    /// Asks for a megabyte and a half a second, and takes nothing of it.
    async fn deaf(&self, nth: usize) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        let mut socket = socket.connect(self.gate.parse().map_err(io::Error::other)?).await?;
        sign_in_over(&mut socket, &self.tokens[nth]).await.map_err(io::Error::other)?;
        let asks = frame(&Req { data: vec![7; 32 * 1024] });
        loop {
            timeout(TURN, socket.write_all(&asks)).await??;
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn drip(&self, nth: usize) -> io::Result<()> {
        let (mut socket, size) = match nth % 2 {
            0 => (self.signed_in(nth).await?, 60_000_u16),
            _ => (connect(&self.gate).await?, 4000),
        };
        socket.write_all(&size.to_le_bytes()).await?;
        socket.write_all(b"\x0e\0bench.Blob.Req").await?;
        loop {
            socket.write_all(b"x").await?;
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// From several addresses, for one alone would not get so many.
    async fn hold(&self, nth: usize) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        let here = format!("127.0.0.{}:0", 2 + self.process * 4 + nth % 4);
        socket.bind(here.parse().map_err(io::Error::other)?)?;
        let mut socket = socket.connect(self.gate.parse().map_err(io::Error::other)?).await?;
        socket.set_zero_linger()?;
        read_off(&mut socket).await
    }

    async fn flood(&self, nth: usize) -> io::Result<()> {
        let asks = frame(&Req { data: vec![7; 62] });
        let (frames, every) = match nth % 2 {
            0 => (asks.repeat(50), Duration::from_millis(100)),
            _ => (asks.repeat(3000), TURN),
        };
        stream(self.signed_in(nth).await?, Stream { frames: &frames, every }).await
    }

    async fn oversize(&self, nth: usize) -> io::Result<()> {
        let mut socket = connect(&self.gate).await?;
        let size: u16 = if nth.is_multiple_of(2) { u16::MAX } else { 4095 };
        socket.write_all(&size.to_le_bytes()).await?;
        // The gate may have closed already.
        let _sent = socket.write_all(&vec![7; usize::from(size)]).await;
        read_off(&mut socket).await
    }

    /// In turn: each field wrong before sign-in, random bytes, and payloads that cannot be read.
    async fn garbage(&self, nth: usize) -> io::Result<()> {
        let bad: [&[u8]; 8] = [
            b"\x02\0",
            b"\x09\0\0\0",
            b"\x09\0\x08\0",
            b"\xff\0\x81\0",
            b"\x09\0\x07\0a ",
            b"\x09\0\x07\0\xff",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ];
        if nth.is_multiple_of(4) {
            let mut frames = Vec::new();
            put(&mut frames, "bench.Blob.Req", b"\xff\xff").expect("fits");
            let socket = self.signed_in(nth).await?;
            return stream(socket, Stream { frames: &frames, every: FIFTY_A_SECOND }).await;
        }
        let mut socket = connect(&self.gate).await?;
        socket.write_all(bad[nth % bad.len()]).await?;
        read_off(&mut socket).await
    }

    /// In turn: asks before it signs in, signs in twice, resumes what it has, asks for what is not.
    async fn state(&self, nth: usize) -> io::Result<()> {
        let mut frames = Vec::new();
        match nth % 4 {
            0 => {
                put_message(&mut frames, &Req { data: vec![7; 62] }).expect("fits");
                let socket = connect(&self.gate).await?;
                return stream(socket, Stream { frames: &frames, every: FIFTY_A_SECOND }).await;
            }
            1 => {
                put(&mut frames, "no.Such.Req", b"").expect("fits");
                let socket = self.signed_in(nth).await?;
                return stream(socket, Stream { frames: &frames, every: FIFTY_A_SECOND }).await;
            }
            2 => {
                let token = self.tokens[nth].clone();
                let again = msg::login::Req { token, ..msg::login::Req::default() };
                put_message(&mut frames, &again).expect("fits");
            }
            _ => {
                let resume = msg::resume::Req { resume_token: vec![0; 32], received: 0 };
                put_message(&mut frames, &resume).expect("fits");
            }
        }
        let mut socket = self.signed_in(nth).await?;
        socket.write_all(&frames).await?;
        read_off(&mut socket).await
    }

    /// Shows ten times what nobody takes, and comes again: a token that was used up, or one that
    /// is made up for the account of somebody else.
    async fn replay(&self, nth: usize) -> io::Result<()> {
        let mut first = connect(&self.gate).await?;
        let welcome =
            sign_in_over(&mut first, &self.tokens[nth]).await.map_err(io::Error::other)?;
        let mut token = welcome.resume_token.unwrap_or_default();
        let mut playing = connect(&self.gate).await?;
        let resume = msg::resume::Req { resume_token: token.clone(), received: 0 };
        playing.write_all(&frame(&resume)).await?;
        // That it speaks shows that it has the next one.
        playing.write_all(&frame(&Req { data: vec![7; 62] })).await?;
        sleep(Duration::from_millis(200)).await;
        for round in 0_i64.. {
            if nth.is_multiple_of(2) {
                let mine = welcome.user.as_ref().map_or(0, |user| user.account);
                let theirs = (mine - 1 - round % 1000).max(1);
                token[..8].copy_from_slice(&theirs.to_le_bytes());
            }
            let resume = msg::resume::Req { resume_token: token.clone(), received: 0 };
            let mut socket = connect(&self.gate).await?;
            socket.write_all(&frame(&resume).repeat(10)).await?;
            let _closed = timeout(TURN, read_off(&mut socket)).await;
            sleep(self.kind.pause()).await;
        }
        Ok(())
    }

    async fn pings(&self, nth: usize) -> io::Result<()> {
        let frames = frame(&msg::ping::Req::default()).repeat(50);
        let socket = match nth % 2 {
            0 => self.signed_in(nth).await?,
            _ => connect(&self.gate).await?,
        };
        stream(socket, Stream { frames: &frames, every: Duration::from_millis(100) }).await
    }

    /// Tokens of the right form whose signature is another's, ten a connection.
    async fn tokens(&self, nth: usize) -> io::Result<()> {
        let (signed, _) = self.tokens[nth].rsplit_once('.').unwrap_or_default();
        let other = &self.tokens[(nth + 1) % self.tokens.len()];
        let (_, signature) = other.rsplit_once('.').unwrap_or_default();
        let token = format!("{signed}.{signature}");
        let bad = msg::login::Req { token, ..msg::login::Req::default() };
        let mut socket = connect(&self.gate).await?;
        socket.write_all(&frame(&bad).repeat(10)).await?;
        read_off(&mut socket).await
    }
}

const FIFTY_A_SECOND: Duration = Duration::from_millis(20);

/// Sends frames again and again, and reads what comes, until the gate closes or the turn is over.
async fn stream(socket: TcpStream, what: Stream<'_>) -> io::Result<()> {
    let (mut read, mut write) = socket.into_split();
    let sends = async {
        loop {
            write.write_all(what.frames).await?;
            sleep(what.every).await;
        }
    };
    let reads = async {
        let mut bytes = vec![0; 16 * 1024];
        while read.read(&mut bytes).await? > 0 {}
        io::Result::Ok(())
    };
    let both = async {
        tokio::select! {
            sent = sends => sent,
            ended = reads => ended,
        }
    };
    timeout(TURN, both).await.unwrap_or(Ok(()))
}

pub(crate) async fn connect(address: &str) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Reads and forgets, until the other end closes.
pub(crate) async fn read_off(socket: &mut TcpStream) -> io::Result<()> {
    let mut bytes = vec![0; 1024];
    while socket.read(&mut bytes).await? > 0 {}
    Ok(())
}

fn frame<M: Named>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    put_message(&mut frame, message).expect("fits");
    frame
}
