//! Sign-ins by password beside the bare hash, and what a thousand at once cost those who play.
//!
//! `cargo bench --bench passwords -- [--seconds S] [--rounds R]`
//!
//! One process, embedded set, everything on this machine. First, in turn: the bare hash (argon2id
//! at its default) on one thread a core, and sign-ins by password over connections that are kept,
//! as many at once as keep every turn busy; and sign-ins of guests, which are the same without the
//! hash. Then a hundred players ask twenty times a second each, alone and beside a
//! thousand clients that sign in by password at once, again and again: what the players wait, what
//! becomes of the sign-ins, the server's memory.
//!
//! Read the ratios: absolute figures are those of this machine in this minute.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::{
    env,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use argon2::Argon2;
use bastide::{
    prost::Message as _,
    wire::{Cut, FRAME_BYTES_MAX, cut, put_message},
};
use bastide_benches::{Guest, Nodes, ROLE, Res, Servers, game, median, request};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Builder,
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};

/// Names that sign in; enough that none is asked for twice at once.
const NAMES: usize = 32;
/// Devices that sign in, in turn: so many that none has as many sign-ins as an account may have.
const DEVICES: usize = 1024;
/// Clients that keep every turn busy.
const BUSY: usize = 8;
/// Clients that sign in at once, as after an outage.
const CROWD: usize = 1000;
const PLAYERS: usize = 100;
const ASK_EVERY: Duration = Duration::from_millis(50);
const PASSWORD: &str = "correct horse";

fn main() -> ExitCode {
    if env::var(ROLE).is_ok() {
        return game().main();
    }
    let mut plan = Plan { span: Duration::from_secs(4), rounds: 3 };
    let mut args = env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next().and_then(|n| n.parse::<u32>().ok()).filter(|n| *n > 0)) {
            ("--seconds", Some(n)) => plan.span = Duration::from_secs(n.into()),
            ("--rounds", Some(n)) => plan.rounds = n,
            _ => {
                println!("{arg}: --seconds N, --rounds N are known");
                return ExitCode::from(2);
            }
        }
    }
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(plan.measure());
    ExitCode::SUCCESS
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    span: Duration,
    rounds: u32,
}

/// What became of the sign-ins of one span.
#[derive(Clone, Copy, Debug, Default)]
struct SignIns {
    good: f64,
    busy: f64,
    per_s: f64,
    cpu_ms: f64,
}

impl Plan {
    async fn measure(self) {
        let program = env::current_exe().expect("this program");
        let servers = Servers::bastide(&program, Nodes::One).await;
        for n in 0..NAMES {
            let told = ask(&mut servers.guest().await, "registry", As::Name, n).await;
            assert_eq!(told, 0, "registered");
        }
        let mut client = servers.guest().await;
        for n in 0..DEVICES {
            assert_eq!(ask(&mut client, "auth", As::Guest, n).await, 0, "made");
        }
        self.beside_the_bare_hash(&servers).await;
        self.beside_players(&servers).await;
    }

    async fn beside_the_bare_hash(self, servers: &Servers) {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (mut bare, mut one) = (Vec::new(), Vec::new());
        let (mut signed, mut guests) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            bare.push(hashes_per_s(cores, self.span));
            one.push(hashes_per_s(1, self.span));
            signed.push(sign_ins(servers, As::Name, BUSY, self.span).await);
            guests.push(sign_ins(servers, As::Guest, BUSY, self.span).await);
        }
        let (bare, one) = (median(&bare, |n| *n), median(&one, |n| *n));
        let (per_s, cpu_ms) = (median(&signed, |s| s.per_s), median(&signed, |s| s.cpu_ms));
        let hash_ms = 1e3 / one;
        println!("bare argon2id: {one:.1}/s on one thread, {bare:.1}/s on {cores}");
        println!(
            "sign-ins by password: {per_s:.1}/s, {:.2} of the bare hash on {cores} threads, {:.2} of one",
            per_s / bare,
            per_s / one
        );
        println!(
            "CPU of one: {cpu_ms:.2} ms, of which the bare hash {hash_ms:.2} ms when it is alone"
        );
        println!(
            "the same without a password: {:.0}/s, {:.2} ms of CPU",
            median(&guests, |s| s.per_s),
            median(&guests, |s| s.cpu_ms)
        );
    }

    async fn beside_players(self, servers: &Servers) {
        let waits = Waits::default();
        let mut players = JoinSet::new();
        for n in 0..PLAYERS {
            let mut guest = servers.guest().await;
            players.spawn(play(guest.sign_in(&format!("player-{n}")).await, waits.clone()));
        }
        sleep(self.span / 4).await;
        let (mut alone, mut beside, mut crowds, mut peak) = (vec![], vec![], vec![], 0.0_f64);
        let before = servers.memory(0).rss;
        for _ in 0..self.rounds {
            waits.take();
            sleep(self.span).await;
            alone.push(waits.take());
            let crowd = sign_ins(servers, As::Name, CROWD, self.span);
            let watch = async {
                let mut ticks = interval(Duration::from_millis(50));
                loop {
                    ticks.tick().await;
                    peak = peak.max(servers.memory(0).rss);
                }
            };
            tokio::select! {
                signed = crowd => crowds.push(signed),
                () = watch => {}
            }
            beside.push(waits.take());
        }
        let ms = |of: &[Histogram<u64>], quantile: f64| {
            median(of, |h| h.value_at_quantile(quantile) as f64 / 1e6)
        };
        for (name, of) in [("alone", &alone), ("beside the crowd", &beside)] {
            println!(
                "{PLAYERS} players {name}: p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms",
                ms(of, 0.5),
                ms(of, 0.99),
                ms(of, 1.0)
            );
        }
        println!(
            "the crowd of {CROWD}: {:.0} signed in and {:.0} told to come back in {:?}",
            median(&crowds, |s| s.good),
            median(&crowds, |s| s.busy),
            self.span
        );
        println!(
            "memory: {:.0} MiB before, {:.0} MiB at most",
            before / 1_048_576.0,
            peak / 1_048_576.0
        );
    }
}

/// Bare hashes a second, on so many threads.
fn hashes_per_s(threads: usize, span: Duration) -> f64 {
    let until = Instant::now() + span;
    let hash = || {
        let (argon2, mut out, mut count) = (Argon2::default(), [0; 32], 0);
        let mut blocks = vec![argon2::Block::default(); argon2.params().block_count()];
        while Instant::now() < until {
            let salt = [7; 16];
            argon2
                .hash_password_into_with_memory(PASSWORD.as_bytes(), &salt, &mut out, &mut blocks)
                .expect("the parameters are the default");
            count += 1;
        }
        count
    };
    let hashed: u32 = thread::scope(|scope| {
        let hashing: Vec<_> = (0..threads).map(|_| scope.spawn(hash)).collect();
        hashing.into_iter().map(|t| t.join().expect("hashed")).sum()
    });
    f64::from(hashed) / span.as_secs_f64()
}

/// Lets so many clients sign in again and again for a span.
async fn sign_ins(servers: &Servers, who: As, clients: usize, span: Duration) -> SignIns {
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(servers.guest().await);
    }
    let (good, busy) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (cpu, until) = (servers.cpu(), Instant::now() + span);
    let mut signing_in = JoinSet::new();
    for (n, mut client) in connected.into_iter().enumerate() {
        let (good, busy) = (good.clone(), busy.clone());
        signing_in.spawn(async move {
            let mut turn = n;
            while Instant::now() < until {
                let number = match who {
                    As::Name => n % NAMES,
                    As::Guest => turn % DEVICES,
                };
                turn += clients;
                match ask(&mut client, "auth", who, number).await {
                    0 => good.fetch_add(1, Ordering::Relaxed),
                    1002 | 1003 => {
                        // As a client that is told to come back does.
                        sleep(Duration::from_millis(500)).await;
                        busy.fetch_add(1, Ordering::Relaxed)
                    }
                    other => panic!("code {other}"),
                };
            }
        });
    }
    sleep(span).await;
    let (good, busy) = (good.load(Ordering::Relaxed), busy.load(Ordering::Relaxed));
    let cpu = servers.cpu() - cpu;
    drop(timeout(Duration::from_secs(20), signing_in.join_all()).await);
    SignIns {
        good: good as f64,
        busy: busy as f64,
        per_s: good as f64 / span.as_secs_f64(),
        cpu_ms: cpu.as_secs_f64() * 1e3 / good as f64,
    }
}

/// Who signs in.
#[derive(Clone, Copy, Debug)]
enum As {
    Name,
    /// Without a password, so without a hash.
    Guest,
}

/// Asks a route for a name or a device; the answer's code.
async fn ask(client: &mut Guest, route: &str, who: As, number: usize) -> i64 {
    let form = match who {
        As::Name => format!("username=bench-{number}&password={PASSWORD}"),
        As::Guest => format!("device_id=bench-{number}"),
    };
    let answer = client.post(&format!("/v1/account/{route}"), "", &form).await.expect("answered");
    answer["code"].as_i64().expect("a code")
}

/// What the players waited, in nanoseconds.
#[derive(Clone, Default)]
struct Waits(Arc<std::sync::Mutex<Vec<u64>>>);

impl Waits {
    fn take(&self) -> Histogram<u64> {
        let waits = std::mem::take(&mut *self.0.lock().expect("nobody panicked"));
        let mut histogram = Histogram::new(3).expect("a histogram");
        waits.into_iter().for_each(|wait| histogram.record(wait).expect("it grows"));
        histogram
    }
}

/// Asks at fixed times, and notes how long after such a time the answer came.
async fn play(mut socket: TcpStream, waits: Waits) {
    let mut ask = Vec::new();
    put_message(&mut ask, &request()).expect("small");
    let (mut ticks, mut unread) = (interval(ASK_EVERY), Vec::new());
    loop {
        let due = ticks.tick().await;
        socket.write_all(&ask).await.expect("the gate is there");
        loop {
            if let Ok(Cut::Frame(frame)) = cut(&unread, FRAME_BYTES_MAX) {
                let answered = frame.bytes.len();
                let answer = Res::decode(frame.payload);
                unread.drain(..answered);
                if answer.is_ok_and(|answer| !answer.text.is_empty()) {
                    break;
                }
                continue;
            }
            assert!(socket.read_buf(&mut unread).await.expect("the gate is there") > 0);
        }
        let wait = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
        waits.0.lock().expect("nobody panicked").push(wait);
    }
}
