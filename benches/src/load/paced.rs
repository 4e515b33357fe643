//! Owns the open loop: each request is sent when it is due, and its latency counts from then, so
//! that a server which stalls is not asked less for it.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, time::Duration};

use hdrhistogram::Histogram;
use tokio::{
    io::AsyncReadExt as _,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::LocalSet,
    time::{Instant, sleep, timeout},
};

use super::{Figures, WARM_UP, figures};
use crate::{Servers, floor::each_frame, request};

/// How long answers are waited for after the last request.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// The longest time between two looks at the clock; at high rates each look finds several requests.
const TICK_MAX: Duration = Duration::from_millis(1);
const TICK_MIN: Duration = Duration::from_micros(50);

/// What the tasks of the load share; they run on one thread.
struct Load {
    /// When the requests of each connection that are not answered were due.
    due: Vec<VecDeque<Instant>>,
    /// Before it nothing is recorded.
    counted_from: Instant,
    answered: u64,
    waiting: u64,
    round_trips: Histogram<u64>,
}

pub(super) async fn run(
    servers: &Servers,
    sockets: Vec<TcpStream>,
    rate: usize,
    span: Duration,
) -> Figures {
    let began = Instant::now();
    let load = Rc::new(RefCell::new(Load {
        due: vec![VecDeque::new(); sockets.len()],
        counted_from: began + WARM_UP,
        answered: 0,
        waiting: 0,
        round_trips: Histogram::new(3).expect("a histogram"),
    }));
    let tasks = LocalSet::new();
    let mut writers = Vec::new();
    for (n, socket) in sockets.into_iter().enumerate() {
        let (reads, writes) = socket.into_split();
        tasks.spawn_local(read(reads, n, load.clone()));
        writers.push(writes);
    }
    tasks
        .run_until(async {
            let sender = tokio::task::spawn_local(send(writers, rate, began, span, load.clone()));
            sleep(WARM_UP).await;
            let (cpu, count) = (servers.cpu(), load.borrow().answered);
            let from = Instant::now();
            sleep(span).await;
            let (cpu, count) = (servers.cpu() - cpu, load.borrow().answered - count);
            let took = from.elapsed();
            let all = async {
                // Kept: what is closed is not answered.
                let _writers = sender.await.expect("the requests were sent");
                while load.borrow().waiting > 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            let answered = timeout(LAST_ANSWERS, all).await;
            let load = load.borrow();
            assert!(answered.is_ok(), "{} requests have no answer: a lower rate", load.waiting);
            figures(count, took, cpu, &load.round_trips)
        })
        .await
}

/// Sends what is due, one connection after the other, until the time is over.
async fn send(
    writers: Vec<OwnedWriteHalf>,
    rate: usize,
    began: Instant,
    span: Duration,
    load: Rc<RefCell<Load>>,
) -> Vec<OwnedWriteHalf> {
    let mut frame = Vec::new();
    bastide::wire::put_message(&mut frame, &request()).expect("fits");
    let between = Duration::from_secs(1).div_f64(rate as f64);
    let mut clock = clock::Clock::new(between.clamp(TICK_MIN, TICK_MAX));
    for (k, n) in (0..writers.len()).cycle().enumerate() {
        let due = began + between.mul_f64(k as f64);
        if due >= began + WARM_UP + span {
            break;
        }
        while Instant::now() < due {
            clock.tick().await;
        }
        let written = writers[n].try_write(&frame);
        // 64 KiB and more lie in a socket: that much unread is a server that does not keep up.
        assert!(
            matches!(written, Ok(all) if all == frame.len()),
            "the server takes nothing any more ({written:?}): a lower rate"
        );
        let mut load = load.borrow_mut();
        load.due[n].push_back(due);
        load.waiting += 1;
    }
    writers
}

/// Reads the answers of one connection.
async fn read(mut socket: OwnedReadHalf, n: usize, load: Rc<RefCell<Load>>) {
    let mut unread = Vec::with_capacity(1024);
    while socket.read_buf(&mut unread).await.is_ok_and(|read| read > 0) {
        let (mut load, now) = (load.borrow_mut(), Instant::now());
        let used = each_frame(&unread, |_| load.answer(n, now));
        unread.drain(..used);
    }
}

impl Load {
    fn answer(&mut self, n: usize, now: Instant) {
        let due = self.due[n].pop_front().expect("no more answers than requests");
        self.waiting -= 1;
        self.answered += 1;
        if due >= self.counted_from {
            let ns = u64::try_from((now - due).as_nanos()).unwrap_or(u64::MAX);
            self.round_trips.record(ns).expect("below an hour");
        }
    }
}

/// The kernel's own timer: tokio's counts milliseconds, which is more than an answer takes.
#[cfg(target_os = "linux")]
mod clock {
    use std::{os::fd::OwnedFd, time::Duration};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::{Interest, unix::AsyncFd};

    pub(super) struct Clock(AsyncFd<OwnedFd>);

    impl Clock {
        pub(super) fn new(period: Duration) -> Self {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags).expect("a timer");
            let every = Timespec::try_from(period).expect("far below a second");
            let times = Itimerspec { it_interval: every, it_value: every };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times).expect("a period");
            #[expect(
                deprecated,
                reason = "unsound for what does not own its descriptor; this does"
            )]
            let timer = AsyncFd::with_interest(timer, Interest::READABLE);
            Self(timer.expect("within a runtime"))
        }

        /// Waits for the next tick; ticks that nobody waited for are one.
        pub(super) async fn tick(&mut self) {
            let mut ready = self.0.readable().await.expect("the runtime lives");
            let mut ticks = [0; 8];
            // That there was one is all: the caller looks at the clock.
            let _ticked = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut ticks)?));
        }
    }
}

/// Elsewhere no CPU is told either (see [`crate::cpu`]); it compiles.
#[cfg(not(target_os = "linux"))]
mod clock {
    use std::time::Duration;

    pub(super) struct Clock(Duration);

    impl Clock {
        pub(super) fn new(period: Duration) -> Self {
            Self(period)
        }

        pub(super) async fn tick(&mut self) {
            tokio::time::sleep(self.0).await;
        }
    }
}
