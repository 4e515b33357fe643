//! What it costs to speak to an actor of this process: CPU and messages a second of a raw tokio
//! channel, of bastide's mailbox of entities, and of what other actor crates have; and the memory
//! of an actor that does nothing.
//!
//! `cargo bench -p bastide-benches --bench mailbox -- [--messages N] [--actors N] [--rounds R]`
//!
//! `tell`: one tells one, again and again. `ask`: the same, and each waits for the answer; a tenth
//! as many. `fan-out`: one tells 1,000 in turn. On one thread: all of it; on two: a runtime of two
//! threads (actix: who tells has one, the actors the other). A mailbox without a bound is asked once
//! in 1,024 messages, so that it does not grow for ever. In turn in one run; medians; the ratio is
//! that of the CPU to tokio's in the same round.
//!
//! `bastide` is an entity's mailbox with a task that takes from it. In the table of memory `entity`
//! is a signed-in player of a game, with its session, its record in the store of one process, and
//! its claim; the others count to a number.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

mod memory;
mod peer;
mod peers;

use std::{env, process::ExitCode, time::Duration};

use bastide_benches::{ROLE, machine, median, numbers};
use peer::Peer;
use peers::{Actix, Bastide, Kameo, Ractor, Tokio};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Actors of `fan-out`.
const FAN_OUT: usize = 1000;

/// Messages after which a mailbox without a bound is asked something.
const UNASKED_MAX: usize = 1024;

fn main() -> ExitCode {
    if let Ok(role) = env::var(ROLE) {
        memory::main(&role);
        return ExitCode::SUCCESS;
    }
    match Plan::from_args() {
        Ok(plan) => {
            println!("{}", machine());
            measure(&plan);
            memory::measure(plan.actors, plan.rounds);
            ExitCode::SUCCESS
        }
        Err(usage) => {
            println!("{usage}");
            ExitCode::from(2)
        }
    }
}

struct Plan {
    messages: usize,
    actors: usize,
    rounds: usize,
}

impl Plan {
    fn from_args() -> Result<Self, String> {
        let mut plan = Self { messages: 500_000, actors: 100_000, rounds: 5 };
        let mut args = env::args().skip(1).filter(|a| a != "--bench");
        while let Some(arg) = args.next() {
            let value = args.next().ok_or(format!("{arg} wants a value"))?;
            let number = match arg.as_str() {
                "--messages" => &mut plan.messages,
                "--actors" => &mut plan.actors,
                "--rounds" => &mut plan.rounds,
                _ => return Err(format!("{arg}: --messages, --actors, --rounds are known")),
            };
            *number = numbers(&arg, &value)?[0];
        }
        Ok(plan)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Tell,
    Ask,
    FanOut,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Tell => "tell",
            Self::Ask => "ask",
            Self::FanOut => "fan-out",
        }
    }
}

/// Of one peer, once.
#[derive(Clone, Copy)]
struct Figures {
    messages_per_s: f64,
    cpu_ns: f64,
}

type Run = fn(Way, usize, usize) -> Figures;

/// The first is what the others are beside.
const PEERS: [(&str, Run); 5] = [
    (Tokio::NAME, run::<Tokio>),
    (Bastide::NAME, run::<Bastide>),
    (Kameo::NAME, run::<Kameo>),
    (Ractor::NAME, run::<Ractor>),
    (Actix::NAME, run::<Actix>),
];

fn measure(plan: &Plan) {
    println!("{} rounds of {} messages, interleaved; medians", plan.rounds, plan.messages);
    println!(
        "{:8} {:>7}  {:8} {:>11} {:>10} {:>8} {:>12}",
        "way", "threads", "peer", "messages/s", "CPU ns/msg", "x tokio", "(lo..hi)"
    );
    for way in [Way::Tell, Way::Ask, Way::FanOut] {
        for threads in [1, 2] {
            let mut figures = PEERS.map(|_| Vec::new());
            for _ in 0..plan.rounds {
                for ((_, run), figures) in PEERS.iter().zip(&mut figures) {
                    figures.push(run(way, threads, plan.messages));
                }
            }
            for ((name, _), of) in PEERS.iter().zip(&figures) {
                print!("{:8} {threads:>7}  {name:8}", way.name());
                print_row(of, &figures[0]);
            }
        }
    }
}

fn print_row(of: &[Figures], tokio: &[Figures]) {
    let ratios: Vec<_> = of.iter().zip(tokio).map(|(f, tokio)| f.cpu_ns / tokio.cpu_ns).collect();
    let lo = ratios.iter().copied().reduce(f64::min).unwrap_or_default();
    let hi = ratios.iter().copied().reduce(f64::max).unwrap_or_default();
    println!(
        " {:>11.0} {:>10.0} {:>8.2} {:>12}",
        median(of, |f| f.messages_per_s),
        median(of, |f| f.cpu_ns),
        median(&ratios, |ratio| *ratio),
        format!("{lo:.2}..{hi:.2}"),
    );
}

fn run<P: Peer>(way: Way, threads: usize, messages: usize) -> Figures {
    P::block_on(threads, async move {
        match way {
            Way::Tell => tell::<P>(threads, 1, messages).await,
            Way::FanOut => tell::<P>(threads, FAN_OUT, messages).await,
            Way::Ask => ask::<P>(threads, (messages / 10).max(1)).await,
        }
    })
}

/// Tells some actors in turn, and sees that each has heard everything.
async fn tell<P: Peer>(threads: usize, count: usize, messages: usize) -> Figures {
    let mut actors = Vec::new();
    for _ in 0..count {
        actors.push(P::spawn(threads).await);
    }
    let each = messages.div_ceil(count);
    let counted = Counted::begin();
    for told in 1..=each {
        for actor in &actors {
            P::tell(actor, 1).await;
        }
        if !P::BOUNDED && told.is_multiple_of(UNASKED_MAX.div_ceil(count)) {
            let last = &actors[count - 1];
            assert!(P::ask(last, told as i32).await, "{} loses messages", P::NAME);
        }
    }
    for actor in &actors {
        assert!(P::ask(actor, each as i32).await, "{} loses messages", P::NAME);
    }
    counted.end(each * count)
}

async fn ask<P: Peer>(threads: usize, messages: usize) -> Figures {
    let actor = P::spawn(threads).await;
    assert!(P::ask(&actor, 0).await, "it has started");
    let counted = Counted::begin();
    for _ in 0..messages {
        assert!(P::ask(&actor, 0).await, "{} answers something else", P::NAME);
    }
    counted.end(messages)
}

struct Counted {
    began: Instant,
    cpu: Duration,
}

impl Counted {
    fn begin() -> Self {
        Self { began: Instant::now(), cpu: cpu() }
    }

    fn end(self, messages: usize) -> Figures {
        let (took, cpu) = (self.began.elapsed(), cpu() - self.cpu);
        let messages = messages as f64;
        Figures {
            messages_per_s: messages / took.as_secs_f64(),
            cpu_ns: cpu.as_nanos() as f64 / messages,
        }
    }
}

/// CPU that this process has used so far, to the nanosecond: some of what is measured is short.
fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(used).expect("it only grows")
}
