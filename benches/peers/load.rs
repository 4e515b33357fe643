//! Owns the load: connections that keep a number of echoes under way, on one thread, the same
//! for every peer. Leaves the bytes to the peer.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{
    net::TcpStream,
    runtime::Builder,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::peer::{At, Peer, read, send};

/// Before counting: connections are warm, buffers have their size, JavaScript is compiled.
const WARM_UP: Duration = Duration::from_millis(800);

/// How long one connection may take until its first echo is there.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the last answers may take; a server that takes longer has lost them.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections that join side by side.
const JOINS: usize = 16;

/// One peer, measured once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) messages_per_s: f64,
    pub(crate) cpu_us: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Starts a peer, asks it for echoes and stops it.
///
/// # Errors
/// What went wrong: a figure with errors is none.
pub(crate) fn run(
    peer: &'static dyn Peer,
    connections: usize,
    depth: usize,
    span: Duration,
) -> Result<Figures, String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let servers = peer.start().await?;
        let at = Arc::new(At { gate: servers.gate.clone(), http: servers.http.clone() });
        let (begin, answered) = (watch::Sender::new(None), Arc::new(AtomicU64::new(0)));
        let mut players = JoinSet::new();
        for socket in join_all(peer, &at, connections).await? {
            let asked = Asked::new(peer, depth)?;
            let played = play(peer, socket, asked, begin.subscribe(), answered.clone());
            players.spawn(timeout(WARM_UP + span + ANSWER_TIMEOUT, played));
        }
        begin.send_replace(Some(Instant::now() + WARM_UP + span));
        sleep(WARM_UP).await;
        let (cpu, count, began) = (servers.cpu(), answered.load(Ordering::Relaxed), Instant::now());
        sleep(span).await;
        let (cpu, count) = (servers.cpu() - cpu, answered.load(Ordering::Relaxed) - count);
        let took = began.elapsed();
        let mut round_trips = histogram();
        while let Some(player) = players.join_next().await {
            let played = player.map_err(|e| e.to_string())?;
            let late = |_| format!("an answer is not there after {ANSWER_TIMEOUT:?}");
            round_trips.add(played.map_err(late)??).map_err(|e| e.to_string())?;
        }
        if count == 0 {
            return Err(format!("no answer in {span:?}"));
        }
        let ms = |quantile| round_trips.value_at_quantile(quantile) as f64 / 1e6;
        Ok(Figures {
            messages_per_s: count as f64 / took.as_secs_f64(),
            cpu_us: cpu.as_secs_f64() * 1e6 / count as f64,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
        })
    })
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

/// Connections that have had their first echo.
async fn join_all(
    peer: &'static dyn Peer,
    at: &Arc<At>,
    connections: usize,
) -> Result<Vec<TcpStream>, String> {
    let mut joins = JoinSet::new();
    for first in 0..JOINS {
        let at = at.clone();
        joins.spawn(async move {
            let mut sockets = Vec::new();
            for nth in (first..connections).step_by(JOINS) {
                let joined = async {
                    let mut socket = peer.join(at.clone(), nth).await?;
                    first_echo(peer, &mut socket).await?;
                    Ok(socket)
                };
                let late = |_| Err(format!("no echo after {JOIN_TIMEOUT:?}"));
                let socket = timeout(JOIN_TIMEOUT, joined).await.unwrap_or_else(late);
                sockets.push(socket.map_err(|why| format!("connection {nth}: {why}"))?);
            }
            Ok::<_, String>(sockets)
        });
    }
    let mut sockets = Vec::new();
    while let Some(joined) = joins.join_next().await {
        sockets.extend(joined.map_err(|e| e.to_string())??);
    }
    Ok(sockets)
}

async fn first_echo(peer: &dyn Peer, socket: &mut TcpStream) -> Result<(), String> {
    let (mut out, mut unread) = (Vec::new(), Vec::with_capacity(1024));
    peer.request(0, &mut out);
    loop {
        if !out.is_empty() {
            send(socket, &out).await?;
            out.clear();
        }
        read(socket, &mut unread).await?;
        let taken = peer.answers(&unread, &mut out)?;
        unread.drain(..taken.bytes);
        match taken.answers {
            0 => {}
            1 if unread.is_empty() && out.is_empty() => return Ok(()),
            more => return Err(format!("{more} answers and more bytes to one request")),
        }
    }
}

/// What one connection asks for, and since when it waits for what.
struct Asked {
    /// Each request twice in a row, so that a batch is one slice wherever it begins.
    frames: Vec<u8>,
    size: usize,
    depth: usize,
    /// The request that is asked next.
    next: usize,
    waiting: VecDeque<(Instant, usize)>,
    round_trips: Histogram<u64>,
}

impl Asked {
    fn new(peer: &dyn Peer, depth: usize) -> Result<Self, String> {
        let mut frames = Vec::new();
        for nth in (0..depth).chain(0..depth) {
            peer.request(nth, &mut frames);
        }
        let size = frames.len() / (2 * depth);
        if frames.len() != size * 2 * depth {
            return Err("its requests are not of one size".to_owned());
        }
        let (waiting, round_trips) = (VecDeque::new(), histogram());
        Ok(Self { frames, size, depth, next: 0, waiting, round_trips })
    }

    /// Frames for so many requests more.
    fn ask(&mut self, now: Instant, requests: usize) -> &[u8] {
        self.waiting.push_back((now, requests));
        let from = self.next;
        self.next = (from + requests) % self.depth;
        &self.frames[from * self.size..(from + requests) * self.size]
    }

    /// Counts answers as if to the oldest requests: who answers out of turn has the same mean.
    fn answered(&mut self, now: Instant, mut answers: usize) -> Result<(), String> {
        while answers > 0 {
            let Some((began, waiting)) = self.waiting.front_mut() else {
                return Err(format!("{answers} answers more than requests"));
            };
            let done = answers.min(*waiting);
            let ns = u64::try_from((now - *began).as_nanos()).unwrap_or(u64::MAX);
            self.round_trips.record_n(ns, done as u64).map_err(|e| e.to_string())?;
            (*waiting, answers) = (*waiting - done, answers - done);
            if *waiting == 0 {
                self.waiting.pop_front();
            }
        }
        Ok(())
    }
}

/// Keeps `depth` echoes under way until the time is over, and waits for the last of them.
async fn play(
    peer: &'static dyn Peer,
    mut socket: TcpStream,
    mut asked: Asked,
    mut begin: watch::Receiver<Option<Instant>>,
    answered: Arc<AtomicU64>,
) -> Result<Histogram<u64>, String> {
    let (mut unread, mut reply) = (Vec::with_capacity(asked.frames.len()), Vec::new());
    let until = begin.wait_for(Option::is_some).await.map_or(None, |until| *until);
    let until = until.ok_or("no time is set")?;
    let mut answers = asked.depth;
    loop {
        let now = Instant::now();
        if now < until {
            send(&mut socket, asked.ask(now, answers)).await?;
        } else if asked.waiting.is_empty() {
            return Ok(asked.round_trips);
        }
        answers = 0;
        while answers == 0 {
            read(&mut socket, &mut unread).await?;
            let taken = peer.answers(&unread, &mut reply)?;
            unread.drain(..taken.bytes);
            answers = taken.answers;
            if !reply.is_empty() {
                send(&mut socket, &reply).await?;
                reply.clear();
            }
        }
        answered.fetch_add(answers as u64, Ordering::Relaxed);
        asked.answered(Instant::now(), answers)?;
    }
}
