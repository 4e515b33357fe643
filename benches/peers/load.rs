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
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::peer::{At, Peer, read, send, unexpected};

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
        let run = Arc::new(Run {
            at,
            depth,
            span,
            joins: Semaphore::new(JOINS),
            joined: watch::Sender::new(0),
            begin: watch::Sender::new(None),
            answered: AtomicU64::new(0),
        });
        let mut players = JoinSet::new();
        for nth in 0..connections {
            players.spawn(player(peer, nth, run.clone()));
        }
        let mut joined = run.joined.subscribe();
        tokio::select! {
            _ = joined.wait_for(|joined| *joined == connections) => {}
            Some(ended) = players.join_next() => {
                return Err(ended.map_err(|e| e.to_string())?.err().unwrap_or_default());
            }
        }
        run.begin.send_replace(Some(Instant::now() + WARM_UP + span));
        sleep(WARM_UP).await;
        let (cpu, count, began) =
            (servers.cpu(), run.answered.load(Ordering::Relaxed), Instant::now());
        sleep(span).await;
        let (cpu, count) = (servers.cpu() - cpu, run.answered.load(Ordering::Relaxed) - count);
        let took = began.elapsed();
        let mut round_trips = histogram();
        while let Some(player) = players.join_next().await {
            let played = player.map_err(|e| e.to_string())??;
            round_trips.add(played).map_err(|e| e.to_string())?;
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

/// What the connections of one run share.
struct Run {
    at: Arc<At>,
    depth: usize,
    span: Duration,
    joins: Semaphore,
    joined: watch::Sender<usize>,
    /// When the run ends, once all have joined.
    begin: watch::Sender<Option<Instant>>,
    answered: AtomicU64,
}

/// One connection, from its first byte to its last answer.
async fn player(
    peer: &'static dyn Peer,
    nth: usize,
    run: Arc<Run>,
) -> Result<Histogram<u64>, String> {
    let of = |why| format!("connection {nth}: {why}");
    let join = async {
        let mut socket = peer.join(run.at.clone(), nth).await?;
        first_echo(peer, &mut socket).await?;
        Ok(socket)
    };
    let turn = run.joins.acquire().await.map_err(|e| e.to_string())?;
    let late = |_| Err(format!("no echo after {JOIN_TIMEOUT:?}"));
    let mut socket = timeout(JOIN_TIMEOUT, join).await.unwrap_or_else(late).map_err(of)?;
    drop(turn);
    run.joined.send_modify(|joined| *joined += 1);
    let until = idle(peer, &mut socket, run.begin.subscribe()).await.map_err(of)?;
    let played = timeout(WARM_UP + run.span + ANSWER_TIMEOUT, play(peer, socket, &run, until));
    let late = |_| Err(format!("an answer is not there after {ANSWER_TIMEOUT:?}"));
    played.await.unwrap_or_else(late).map_err(of)
}

async fn first_echo(peer: &dyn Peer, socket: &mut TcpStream) -> Result<(), String> {
    let (mut reply, mut unread, mut answers) = (Vec::new(), Vec::with_capacity(1024), 0);
    peer.request(0, &mut reply);
    loop {
        if !reply.is_empty() {
            send(socket, &reply).await?;
            reply.clear();
        }
        // What is left is a frame that is not whole.
        if answers > 0 && unread.is_empty() {
            return Ok(());
        }
        read(socket, &mut unread).await?;
        let taken = peer.answers(&unread, &mut reply)?;
        unread.drain(..taken.bytes);
        answers += taken.answers;
        if answers > 1 {
            return Err(format!("{answers} answers to one request"));
        }
    }
}

/// Waits for the others, and answers meanwhile as a client does who is there.
async fn idle(
    peer: &dyn Peer,
    socket: &mut TcpStream,
    mut begin: watch::Receiver<Option<Instant>>,
) -> Result<Instant, String> {
    let (mut reply, mut unread) = (Vec::new(), Vec::new());
    loop {
        let until = tokio::select! {
            begun = begin.wait_for(Option::is_some) => begun.map_err(|e| e.to_string())?.to_owned(),
            read = read(socket, &mut unread) => read.map(|()| None)?,
        };
        let taken = peer.answers(&unread, &mut reply)?;
        if taken.answers > 0 {
            return Err(unexpected(&unread));
        }
        unread.drain(..taken.bytes);
        if !reply.is_empty() {
            send(socket, &reply).await?;
            reply.clear();
        }
        match until {
            Some(until) if unread.is_empty() => return Ok(until),
            _ => {}
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
    peer: &dyn Peer,
    mut socket: TcpStream,
    run: &Run,
    until: Instant,
) -> Result<Histogram<u64>, String> {
    let mut asked = Asked::new(peer, run.depth)?;
    let (mut unread, mut reply) = (Vec::with_capacity(asked.frames.len()), Vec::new());
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
        run.answered.fetch_add(answers as u64, Ordering::Relaxed);
        asked.answered(Instant::now(), answers)?;
    }
}
