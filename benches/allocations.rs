//! Rooms allocated per second by one room center, with a Redis: seats and tickets for distinct
//! accounts, so many of them asking at a time.
//!
//! `cargo bench -p bastide-benches --bench allocations -- [--at-once 1,16,64] [--seconds S]
//! [--rounds R]`
//!
//! `any` fills rooms of 50 seats one after the other, `certain` names one of some that there are,
//! `new` opens a room for each. The game server answers at once: what a game does in `open` is not
//! in it, nor is the client's way to the center. All of it runs on one thread of this process,
//! Redis beside it. Each figure is the median of some rounds, in turn.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::{
    env,
    process::ExitCode,
    rc::Rc,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use bastide::{
    __bench::{Allocator, Wish},
    Refusal, Room, RoomCtx, RoomKind,
};
use bastide_benches::median;
use hdrhistogram::Histogram;
use tokio::{
    runtime::Builder,
    task::{JoinSet, LocalSet},
    time::Instant,
};

const KIND: &str = "bench";
const SEATS: u32 = 50;

/// Rooms that are there for `certain`, for each second that is measured: more than are filled.
const ROOMS_PER_S: usize = 1000;

/// A room that is never opened: the game server only says so.
struct Nothing;

impl Room for Nothing {
    fn open(_: &mut RoomCtx) -> Result<Self, Refusal> {
        Ok(Self)
    }
}

fn main() -> ExitCode {
    let (mut at_once, mut seconds, mut rounds) = (vec![1, 16, 64], 3, 3);
    let mut args = env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().unwrap_or_default();
        let numbers = value.split(',').map(|n| n.parse::<usize>().ok().filter(|n| *n > 0));
        match (arg.as_str(), numbers.collect::<Option<Vec<_>>>()) {
            ("--at-once", Some(numbers)) => at_once = numbers,
            ("--seconds", Some(numbers)) => seconds = numbers[0],
            ("--rounds", Some(numbers)) => rounds = numbers[0],
            _ => {
                println!("{arg}: --at-once N,…, --seconds N, --rounds N are known");
                return ExitCode::from(2);
            }
        }
    }
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!("{rounds} rounds of {seconds} s each, interleaved; medians");
    println!("{:8} {:>8} {:>10} {:>8} {:>8}", "rooms", "at once", "seats/s", "p50 ms", "p99 ms");
    for at_once in at_once {
        let mut figures = WAYS.map(|_| Vec::new());
        for _ in 0..rounds {
            for (way, figures) in WAYS.iter().zip(&mut figures) {
                let tasks = LocalSet::new();
                let measured = tasks.run_until(measure(*way, at_once, seconds));
                figures.push(runtime.block_on(measured));
            }
        }
        for (way, of) in WAYS.iter().zip(&figures) {
            println!(
                "{:8} {at_once:>8} {:>10.0} {:>8.2} {:>8.2}",
                way.name(),
                median(of, |figures| figures[0]),
                median(of, |figures| figures[1]),
                median(of, |figures| figures[2]),
            );
        }
    }
    ExitCode::SUCCESS
}

const WAYS: [Way; 3] = [Way::Any, Way::Certain, Way::New];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Any,
    Certain,
    New,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Certain => "certain",
            Self::New => "new",
        }
    }
}

/// Seats a second, and the times that half and all but a hundredth of those who asked waited, in
/// milliseconds. A cluster of its own.
async fn measure(way: Way, at_once: usize, seconds: usize) -> [f64; 3] {
    let redis = bastide_testkit::shared().redis.url();
    let kind = RoomKind::<Nothing>::new(KIND).capacity(SEATS);
    let center = Rc::new(Allocator::new(&redis, &bastide_testkit::cluster_name(), kind));
    let (accounts, mut rooms) = (Rc::new(AtomicI64::new(1)), Vec::new());
    let there = if way == Way::Certain { ROOMS_PER_S * seconds } else { 0 };
    for _ in 0..there {
        let account = accounts.fetch_add(1, Ordering::Relaxed);
        rooms.push(center.enter(account, KIND, Wish::Private).await.expect("a room"));
    }
    let (rooms, began) = (Rc::new(rooms), Instant::now());
    let until = began + Duration::from_secs(seconds as u64);
    let mut askers = JoinSet::new();
    for _ in 0..at_once {
        let (center, accounts, rooms) = (center.clone(), accounts.clone(), rooms.clone());
        askers.spawn_local(async move {
            let mut waited = Histogram::<u64>::new(3).expect("a histogram");
            loop {
                let began = Instant::now();
                if began >= until {
                    return waited;
                }
                let account = accounts.fetch_add(1, Ordering::Relaxed);
                let wish = match way {
                    Way::Any => Wish::Any,
                    Way::Certain => Wish::Certain(rooms[account as usize % rooms.len()].clone()),
                    Way::New => Wish::Private,
                };
                center.enter(account, KIND, wish).await.expect("a seat");
                waited.record(began.elapsed().as_nanos() as u64).expect("below an hour");
            }
        });
    }
    let mut waited = Histogram::<u64>::new(3).expect("a histogram");
    while let Some(of_one) = askers.join_next().await {
        waited.add(of_one.expect("no panic")).expect("same shape");
    }
    let ms = |quantile| waited.value_at_quantile(quantile) as f64 / 1e6;
    [waited.len() as f64 / began.elapsed().as_secs_f64(), ms(0.5), ms(0.99)]
}
