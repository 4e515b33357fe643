//! Owns the load: players on one thread, that keep a number of requests under way or ask by the
//! clock.

mod paced;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Builder,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{Servers, floor::each_frame, request};

/// Before counting: connections are warm, buffers have their size.
const WARM_UP: Duration = Duration::from_millis(800);

/// Guests that sign in side by side.
const SIGN_INS: usize = 16;

/// How the load asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// So many requests of each connection are always under way.
    Depth(usize),
    /// So many requests a second, spread evenly over all connections and in time, whether those
    /// before them are answered or not.
    Paced(usize),
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Depth(depth) => f.pad(&depth.to_string()),
            Self::Paced(rate) => f.pad(&format!("{rate}/s")),
        }
    }
}

/// One server, measured once.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Answered.
    pub messages_per_s: f64,
    /// Of all processes of the server, for each message.
    pub cpu_us: f64,
    /// From when a request is sent, or was due, until its answer is read.
    pub p50_ms: f64,
    /// As above.
    pub p99_ms: f64,
}

/// Starts a server, plays on it and stops it.
///
/// # Panics
/// When the server does not keep up, or does not live: a figure with errors is none.
pub fn run(
    start: impl AsyncFnOnce() -> Servers,
    connections: usize,
    demand: Demand,
    span: Duration,
) -> Figures {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { play(&start().await, connections, demand, span).await })
}

/// Plays on servers that are there.
///
/// # Panics
/// As [`run`].
pub async fn play(
    servers: &Servers,
    connections: usize,
    demand: Demand,
    span: Duration,
) -> Figures {
    let sockets = connect(servers, connections).await;
    match demand {
        Demand::Depth(depth) => closed(servers, sockets, depth, span).await,
        Demand::Paced(rate) => paced::run(servers, sockets, rate, span).await,
    }
}

/// What was counted while the CPU of the server was.
fn figures(count: u64, took: Duration, cpu: Duration, round_trips: &Histogram<u64>) -> Figures {
    let ms = |quantile| round_trips.value_at_quantile(quantile) as f64 / 1e6;
    Figures {
        messages_per_s: count as f64 / took.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / count as f64,
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
    }
}

async fn closed(
    servers: &Servers,
    sockets: Vec<TcpStream>,
    depth: usize,
    span: Duration,
) -> Figures {
    let (begin, answered) = (watch::Sender::new(None), Arc::new(AtomicU64::new(0)));
    let mut players = JoinSet::new();
    for socket in sockets {
        players.spawn(player(socket, depth, begin.subscribe(), answered.clone()));
    }
    begin.send_replace(Some(Instant::now() + WARM_UP + span));
    sleep(WARM_UP).await;
    let (cpu, count, began) = (servers.cpu(), answered.load(Ordering::Relaxed), Instant::now());
    sleep(span).await;
    let (cpu, count) = (servers.cpu() - cpu, answered.load(Ordering::Relaxed) - count);
    let took = began.elapsed();
    let mut round_trips = Histogram::<u64>::new(3).expect("a histogram");
    while let Some(player) = players.join_next().await {
        round_trips.add(player.expect("a player")).expect("same shape");
    }
    figures(count, took, cpu, &round_trips)
}

/// Connections, signed in where that is asked for.
async fn connect(servers: &Servers, connections: usize) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    if servers.http.is_none() {
        for _ in 0..connections {
            let socket = TcpStream::connect(&servers.gate).await.expect("the gate listens");
            socket.set_nodelay(true).expect("a socket");
            sockets.push(socket);
        }
        return sockets;
    }
    let mut guests = JoinSet::new();
    for first in 0..SIGN_INS {
        let mut guest = servers.guest().await;
        guests.spawn(async move {
            let mut sockets = Vec::new();
            for n in (first..connections).step_by(SIGN_INS) {
                sockets.push(guest.sign_in(&format!("bench-{n}")).await);
            }
            sockets
        });
    }
    while let Some(signed_in) = guests.join_next().await {
        sockets.extend(signed_in.expect("signed in"));
    }
    sockets
}

/// Keeps `depth` requests under way until the time is over.
async fn player(
    mut socket: TcpStream,
    depth: usize,
    mut begin: watch::Receiver<Option<Instant>>,
    answered: Arc<AtomicU64>,
) -> Histogram<u64> {
    let mut frame = Vec::new();
    bastide::wire::put_message(&mut frame, &request()).expect("fits");
    let frames = frame.repeat(depth);
    let mut round_trips = Histogram::new(3).expect("a histogram");
    let mut unread = Vec::with_capacity(2 * frames.len());
    let mut sent = VecDeque::new();
    let until = begin.wait_for(Option::is_some).await.map_or(None, |until| *until);
    let until = until.expect("a time is set");
    let mut answers = depth;
    loop {
        let now = Instant::now();
        if now >= until {
            return round_trips;
        }
        sent.push_back((now, answers));
        socket.write_all(&frames[..answers * frame.len()]).await.expect("the server lives");
        answers = 0;
        while answers == 0 {
            let read = socket.read_buf(&mut unread).await.expect("the server lives");
            assert!(read > 0, "the server hangs up");
            let used = each_frame(&unread, |_| answers += 1);
            unread.drain(..used);
        }
        answered.fetch_add(answers as u64, Ordering::Relaxed);
        let (now, mut left) = (Instant::now(), answers);
        while left > 0 {
            let (began, waiting) = sent.front_mut().expect("no more answers than requests");
            let done = left.min(*waiting);
            let ns = u64::try_from((now - *began).as_nanos()).unwrap_or(u64::MAX);
            round_trips.record_n(ns, done as u64).expect("below an hour");
            (*waiting, left) = (*waiting - done, left - done);
            if *waiting == 0 {
                sent.pop_front();
            }
        }
    }
}
