//! Owns the good clients: many that each ask a few times a second at fixed times, and one that
//! signs in anew every 100 ms. What they wait is counted while somebody measures.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bastide::{
    prost::Message as _,
    wire::{Cut, FRAME_BYTES_MAX, cut, put_message},
};
use bastide_benches::{
    Guest, Servers,
    blob::{Req, Res},
};
use hdrhistogram::Histogram;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

/// Guests that sign in side by side before it begins.
const SIGN_INS: usize = 16;

/// Between two new sign-ins while it runs.
const SIGN_IN_EVERY: Duration = Duration::from_millis(100);

/// What was asked within a span and is not answered so much later counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the good clients waited within one span, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) sign_in_p99: f64,
    /// Requests without an answer, and clients that were cut off.
    pub(crate) lost: usize,
    pub(crate) sign_ins_refused: usize,
}

/// The good clients, as long as it lives.
pub(crate) struct Good {
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

/// What they have seen.
struct Seen {
    began: Instant,
    /// Std mutex: held to count one answer.
    span: Mutex<Span>,
}

/// What counts now.
struct Span {
    /// Of the requests that count; 0: none do.
    number: u64,
    spans: u64,
    under_way: usize,
    lost: usize,
    answers: Histogram<u64>,
    sign_ins: Histogram<u64>,
    sign_ins_refused: usize,
}

impl Good {
    /// Signs them in, and lets them ask from now on, `rate` times a second each.
    pub(crate) async fn start(servers: &Servers, clients: usize, rate: usize) -> Self {
        let span = Span {
            number: 0,
            spans: 0,
            under_way: 0,
            lost: 0,
            answers: Histogram::new(3).expect("a histogram"),
            sign_ins: Histogram::new(3).expect("a histogram"),
            sign_ins_refused: 0,
        };
        let seen = Arc::new(Seen { began: Instant::now(), span: Mutex::new(span) });
        let (mut tasks, mut writers) = (JoinSet::new(), Vec::new());
        for socket in signed_in(servers, clients).await {
            let (read, write) = socket.into_split();
            tasks.spawn(seen.clone().receive(read));
            writers.push(write);
        }
        tasks.spawn(seen.clone().ask(writers, rate));
        let http = servers.http.clone().expect("bastide's");
        tasks.spawn(seen.clone().sign_in(http, servers.gate.clone()));
        Self { seen, _tasks: tasks }
    }

    /// What they wait in the next span.
    pub(crate) async fn measure(&self, span: Duration) -> Figures {
        self.seen.span().begin();
        sleep(span).await;
        let number = std::mem::take(&mut self.seen.span().number);
        let all_answered = async {
            while self.seen.span().under_way > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let _late = timeout(PATIENCE, all_answered).await;
        let mut span = self.seen.span();
        let seconds = |histogram: &Histogram<u64>, quantile: f64| {
            histogram.value_at_quantile(quantile) as f64 / 1e9
        };
        debug_assert_eq!(number, span.spans);
        let under_way = std::mem::take(&mut span.under_way);
        Figures {
            p50: seconds(&span.answers, 0.5),
            p99: seconds(&span.answers, 0.99),
            sign_in_p99: seconds(&span.sign_ins, 0.99),
            lost: span.lost + under_way,
            sign_ins_refused: span.sign_ins_refused,
        }
    }
}

impl Seen {
    fn span(&self) -> MutexGuard<'_, Span> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Sends every client's requests when they are due, evenly over each second. Each carries
    /// when it was sent: the timer's own lateness, a millisecond, is not the server's.
    async fn ask(self: Arc<Self>, writers: Vec<OwnedWriteHalf>, rate: usize) {
        let per_s = (writers.len() * rate) as f64;
        let mut ticks = interval(Duration::from_millis(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (began, mut sent) = (Instant::now(), 0_usize);
        let mut frame = Vec::new();
        loop {
            let due = (ticks.tick().await - began).as_secs_f64() * per_s;
            while (sent as f64) < due {
                let number = self.span().number;
                let data = [&self.now_ns().to_le_bytes()[..], &number.to_le_bytes(), &[7; 46]];
                frame.clear();
                put_message(&mut frame, &Req { data: data.concat() }).expect("fits");
                let written = writers[sent % writers.len()].try_write(&frame);
                let mut span = self.span();
                match written {
                    Ok(n) if n == frame.len() => span.under_way += usize::from(number > 0),
                    _ => span.lost += usize::from(number > 0),
                }
                sent += 1;
            }
        }
    }

    async fn receive(self: Arc<Self>, mut read: OwnedReadHalf) {
        let mut unread = Vec::with_capacity(512);
        while read.read_buf(&mut unread).await.is_ok_and(|n| n > 0) {
            let mut used = 0;
            while let Ok(Cut::Frame(frame)) = cut(&unread[used..], FRAME_BYTES_MAX) {
                self.answered(frame.payload);
                used += frame.bytes.len();
            }
            unread.drain(..used);
        }
        self.span().lost += 1;
    }

    fn answered(&self, payload: &[u8]) {
        let data = Res::decode(payload).expect("an echo").data;
        let number = |at: usize| u64::from_le_bytes(data[at..at + 8].try_into().expect("eight"));
        let waited = self.now_ns() - number(0);
        let mut span = self.span();
        if number(8) == span.spans && span.under_way > 0 {
            span.under_way -= 1;
            span.answers.record(waited).expect("below an hour");
        }
    }

    /// Somebody who was not connected signs in, at the account center and at the gate.
    async fn sign_in(self: Arc<Self>, http: String, gate: String) {
        let mut ticks = interval(SIGN_IN_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for nth in 0_u64.. {
            ticks.tick().await;
            let (number, began) = (self.span().number, Instant::now());
            let sign_in = async {
                let mut guest = Guest::new(&http, &gate).await;
                guest.try_sign_in(&format!("new-{}", nth % 50)).await
            };
            let signed_in = timeout(PATIENCE, sign_in).await;
            let mut span = self.span();
            if number == 0 || number != span.number {
                continue;
            }
            match signed_in {
                Ok(Ok(socket)) => {
                    let ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    span.sign_ins.record(ns).expect("below an hour");
                    // Reset rather than closed, or the machine runs out of ports.
                    socket.set_zero_linger().expect("a socket");
                }
                _ => span.sign_ins_refused += 1,
            }
        }
    }
}

impl Span {
    fn begin(&mut self) {
        self.answers.reset();
        self.sign_ins.reset();
        (self.under_way, self.lost, self.sign_ins_refused) = (0, 0, 0);
        self.spans += 1;
        self.number = self.spans;
    }
}

async fn signed_in(servers: &Servers, clients: usize) -> Vec<TcpStream> {
    let (mut guests, mut sockets) = (JoinSet::new(), Vec::new());
    for first in 0..SIGN_INS {
        let mut guest = servers.guest().await;
        guests.spawn(async move {
            let mut sockets = Vec::new();
            for n in (first..clients).step_by(SIGN_INS) {
                sockets.push(guest.sign_in(&format!("good-{n}")).await);
            }
            sockets
        });
    }
    while let Some(signed_in) = guests.join_next().await {
        sockets.extend(signed_in.expect("signed in"));
    }
    sockets
}
