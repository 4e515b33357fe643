//! One arena: how long a tick takes, and what it costs of a core at 20 ticks a second.
//!
//! `cargo bench -p bastide-benches --bench arena -- [--robots R] [--members M] [--seconds S]
//! [--clients C] [--server-seconds S]`
//!
//! First the match alone, without a room around it: the world's tick, what each member sees, and
//! each message encoded. Queues, players and sockets are not in it. Tick follows tick without a
//! pause, so the CPU of a tick is that of a busy core; `--seconds` is the time of the match, not of
//! the clock on the wall. Members steer at random and come in again when they are eaten.
//!
//! Then one arena in a server, a process with everything in it, and TCP clients that play: what
//! its own meter says of its ticks, and the CPU of the whole process.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

mod server;

use std::{env, fs, process::ExitCode, time::Duration};

use arena::measure::Match;
use bastide_benches::{ROLE, game};
use hdrhistogram::Histogram;
use tokio::{runtime::Builder, time::Instant};

const TICKS_PER_S: u32 = 20;

/// The balls have grown to what they are in a match that goes on.
const WARM_UP_TICKS: u32 = 60 * TICKS_PER_S;

/// A tick that takes longer counts as this: a second.
const SPAN_MAX_NS: u64 = 1_000_000_000;

fn main() -> ExitCode {
    if env::var(ROLE).as_deref() == Ok("bastide") {
        return arena::mount(game()).main();
    }
    let (mut robots, mut members, mut seconds) = (200, None, 300);
    let (mut clients, mut server_seconds) = (20, 20);
    let mut args = env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next().and_then(|n| n.parse::<u32>().ok())) {
            ("--robots", Some(n @ 0..=500)) => robots = n,
            ("--members", Some(n)) => members = Some(n),
            ("--seconds", Some(n @ 1..)) => seconds = n,
            ("--clients", Some(n @ 0..=50)) => clients = n,
            ("--server-seconds", Some(n @ 1..)) => server_seconds = n,
            _ => {
                println!(
                    "{arg}: --robots 0 to 500, --members N, --seconds N, --clients 0 to 50, \
                     --server-seconds N are known"
                );
                return ExitCode::from(2);
            }
        }
    }
    let rows = members.map_or_else(|| vec![0, 1, 50], |members| vec![members]);
    println!(
        "{:>7} {:>8} {:>10} {:>10} {:>10} {:>11} {:>10} {:>13} {:>10}",
        "robots",
        "members",
        "p50 us",
        "p99 us",
        "max us",
        "CPU us/tick",
        "core %",
        "bytes/tick",
        "longest"
    );
    for members in rows {
        measure(robots, members, seconds * TICKS_PER_S);
    }
    if clients > 0 {
        in_a_server(robots, clients, server_seconds);
    }
    ExitCode::SUCCESS
}

fn measure(robots: u32, members: u32, ticks: u32) {
    let mut game = Match::new(robots, members, 1);
    for _ in 0..WARM_UP_TICKS {
        game.tick();
    }
    let mut spans = Histogram::<u64>::new_with_bounds(1, SPAN_MAX_NS, 3).expect("three digits");
    let (mut bytes, cpu) = (0, thread_cpu());
    for _ in 0..ticks {
        let began = Instant::now();
        bytes += game.tick();
        spans.saturating_record(began.elapsed().as_nanos() as u64);
    }
    let cpu_us = (thread_cpu() - cpu).as_secs_f64() * 1e6 / f64::from(ticks);
    let us = |quantile| spans.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{robots:>7} {members:>8} {:>10.1} {:>10.1} {:>10.1} {cpu_us:>11.1} {:>10.2} {:>13.0} {:>10}",
        us(0.5),
        us(0.99),
        us(1.0),
        cpu_us * f64::from(TICKS_PER_S) / 1e6 * 100.0,
        bytes as f64 / f64::from(ticks),
        game.largest()
    );
}

fn in_a_server(robots: u32, clients: u32, seconds: u32) {
    println!("in a server, {seconds} s at {TICKS_PER_S} ticks; p50 and p99 are bounds in seconds");
    println!(
        "{:>7} {:>8} {:>7} {:>6} {:>10} {:>10} {:>10} {:>8}",
        "robots", "clients", "ticks", "late", "mean us", "p50 <=", "p99 <=", "core %"
    );
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(server::measure(robots, clients, Duration::from_secs(seconds.into())));
}

/// What this thread has used of a processor so far, to the nanosecond.
fn thread_cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let first = text.split_whitespace().next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(first.expect("nanoseconds on a processor"))
}
