//! Owns the load: players that keep a number of requests under way, on one thread.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bastide_benches::{Servers, request};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Builder,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::floor::each_frame;

/// Before counting: connections are warm, buffers have their size.
const WARM_UP: Duration = Duration::from_millis(800);

/// Guests that sign in side by side.
const SIGN_INS: usize = 16;

/// One server, measured once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) messages_per_s: f64,
    pub(crate) cpu_us: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Starts a server, plays on it and stops it.
pub(crate) fn run(
    start: impl AsyncFnOnce() -> Servers,
    connections: usize,
    depth: usize,
    span: Duration,
) -> Figures {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let servers = start().await;
        let (begin, answered) = (watch::Sender::new(None), Arc::new(AtomicU64::new(0)));
        let mut players = JoinSet::new();
        for socket in connect(&servers, connections).await {
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
        let ms = |quantile| round_trips.value_at_quantile(quantile) as f64 / 1e6;
        Figures {
            messages_per_s: count as f64 / took.as_secs_f64(),
            cpu_us: cpu.as_secs_f64() * 1e6 / count as f64,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
        }
    })
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
