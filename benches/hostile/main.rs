//! What hostile clients cost the good ones: the answer times of good clients without and with a
//! hundred hostile clients of each kind beside them, in turn in one run, and what the server says
//! and holds meanwhile.
//!
//! `cargo bench -p bastide-benches --bench hostile -- [--kinds deaf,flood] [--good 1000]
//! [--rate REQUESTS_A_SECOND_OF_EACH] [--hostile 100] [--seconds S] [--rounds R]`
//!
//! The server is a process of its own, as `dev` has it: all roles, all limits as they are by
//! default. The good clients are this process, the hostile ones another (two for `hold`), which
//! gives way to both where the machine is full, for in the world it would be elsewhere. Requests
//! of the good are due at fixed times whatever became of those before, so that waiting shows.
//! Beside them somebody new signs in every 100 ms. Read the ratios: absolute figures are those of
//! this machine in this minute.
//!
//! There is no kind that sends what unpacks to more than it is: nothing is compressed on any way
//! into a gate.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

mod good;
mod hostile;
mod http;
mod kinds;
mod udp;

use std::{env, process::ExitCode, time::Duration};

use bastide_benches::{Nodes, ROLE, Servers, Setup, game, median};
use good::{Figures, Good};
use hostile::Hostile;
use kinds::Kind;
use tokio::{runtime::Builder, time::sleep};

/// Between two measurements: what the kind before has left behind is cleared away.
const SETTLE: Duration = Duration::from_millis(1500);

/// How often the server's memory is looked at.
const MEMORY_LOOKED_AT: Duration = Duration::from_millis(250);

const MIB: f64 = 1024.0 * 1024.0;

fn main() -> ExitCode {
    match env::var(ROLE).as_deref() {
        Ok("bastide") => return game().main(),
        Ok("hostile") => return hostile::main(),
        _ => {}
    }
    match Plan::from_args() {
        Ok(plan) => {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(measure(&plan));
            ExitCode::SUCCESS
        }
        Err(usage) => {
            println!("{usage}");
            ExitCode::from(2)
        }
    }
}

#[derive(Clone, Debug)]
struct Plan {
    kinds: Vec<Kind>,
    good: usize,
    rate: usize,
    hostile: usize,
    span: Duration,
    rounds: usize,
}

impl Plan {
    fn from_args() -> Result<Self, String> {
        let mut plan = Self {
            kinds: Kind::ALL.to_vec(),
            good: 1000,
            rate: 2,
            hostile: 100,
            span: Duration::from_secs(4),
            rounds: 3,
        };
        let mut args = env::args().skip(1).filter(|a| a != "--bench");
        while let Some(arg) = args.next() {
            let value = args.next().ok_or(format!("{arg} wants a value"))?;
            let number = || {
                let number = value.parse::<usize>().ok().filter(|n| *n > 0);
                number.ok_or(format!("{arg} wants a number above 0"))
            };
            match arg.as_str() {
                "--kinds" => {
                    let kinds = value.split(',').map(Kind::named).collect::<Option<_>>();
                    let known = Kind::ALL.map(Kind::name).join(", ");
                    plan.kinds = kinds.ok_or(format!("{value}: {known} are known"))?;
                }
                "--good" => plan.good = number()?,
                "--rate" => plan.rate = number()?,
                "--hostile" => plan.hostile = number()?,
                "--seconds" => plan.span = Duration::from_secs(number()? as u64),
                "--rounds" => plan.rounds = number()?,
                _ => {
                    let known = "--kinds, --good, --rate, --hostile, --seconds, --rounds";
                    return Err(format!("{arg}: {known} are known"));
                }
            }
        }
        Ok(plan)
    }
}

/// One kind, measured once.
#[derive(Clone, Debug)]
struct Row {
    without: Figures,
    with: Figures,
    /// Bytes before, at most, and after.
    memory: [f64; 3],
    /// What the server counted meanwhile.
    counted: Vec<(String, f64)>,
}

async fn measure(plan: &Plan) {
    let Plan { good, rate, hostile, span, rounds, .. } = plan;
    let program = env::current_exe().expect("this program");
    let setup = Setup { quic: "127.0.0.1:0", settings: vec!["gate.tcp_tls=127.0.0.1:0".into()] };
    let servers = Servers::bastide_with(&program, Nodes::One, &setup).await;
    println!(
        "{good} good clients, {rate} requests a second each, beside {hostile} hostile ones; \
         {rounds} rounds of {span:?} each, interleaved; medians"
    );
    let good = Good::start(&servers, *good, *rate).await;
    let mut rows = vec![Vec::new(); plan.kinds.len()];
    sleep(SETTLE).await;
    for _ in 0..plan.rounds {
        for (kind, rows) in plan.kinds.iter().zip(&mut rows) {
            rows.push(row(&servers, &good, *kind, plan).await);
        }
    }
    println!(
        "{:10} {:>15} {:>15} {:>6} {:>6} {:>17} {:>7} {:>22}",
        "kind",
        "p50 ms (with)",
        "p99 ms (with)",
        "ratio",
        "least",
        "sign-in p99 ms",
        "lost",
        "RSS MiB, peak, after"
    );
    for (kind, rows) in plan.kinds.iter().zip(&rows) {
        print_kind(*kind, rows);
    }
}

async fn row(servers: &Servers, good: &Good, kind: Kind, plan: &Plan) -> Row {
    let without = good.measure(plan.span).await;
    let before = servers.memory(0).rss;
    let began = servers.meters(0).await;
    let hostile = Hostile::start(servers, kind, plan.hostile);
    let mut peak = before;
    let looks = async {
        loop {
            peak = f64::max(peak, servers.memory(0).rss);
            sleep(MEMORY_LOOKED_AT).await;
        }
    };
    let with = tokio::select! {
        with = async {
            sleep(SETTLE).await;
            good.measure(plan.span).await
        } => with,
        () = looks => unreachable!("it looks as long as it may"),
    };
    let ended = servers.meters(0).await;
    drop(hostile);
    sleep(SETTLE).await;
    let memory = [before, peak, servers.memory(0).rss];
    Row { without, with, memory, counted: counted(&began, &ended) }
}

/// How far the meters went that count what was refused, or who came.
fn counted(began: &[(String, f64)], ended: &[(String, f64)]) -> Vec<(String, f64)> {
    let quiet = ["frames_in", "bytes_in", "bytes_out", "gate_sign_ins_total", "tcp_total"];
    let wanted = |name: &str| {
        let ours = ["gate_", "entity_", "link_"].iter().any(|part| name.starts_with(part));
        ours && name.ends_with("_total") && quiet.iter().all(|part| !name.contains(part))
    };
    let before = |name: &str| began.iter().find(|(n, _)| n == name).map_or(0.0, |(_, v)| *v);
    let ended = ended.iter().filter(|(name, _)| wanted(name));
    let went = ended.map(|(name, value)| (name.clone(), value - before(name)));
    went.filter(|(_, by)| *by > 0.0).collect()
}

/// The ratio is taken round by round, each against the quiet span before it. Whatever else the
/// machine does can only add to a p99, so beside it stands the ratio of the least of all rounds.
fn print_kind(kind: Kind, rows: &[Row]) {
    let ms = |of: fn(&Row) -> f64| median(rows, of) * 1e3;
    let mib = |n: usize| median(rows, |row| row.memory[n]) / MIB;
    let least = |of: fn(&Row) -> f64| rows.iter().map(of).fold(f64::INFINITY, f64::min);
    let lost: usize = rows.iter().map(|row| row.with.lost + row.without.lost).sum();
    println!(
        "{:10} {:>6.2} ({:>6.2}) {:>6.2} ({:>6.2}) {:>6.2} {:>6.2} {:>7.2} ({:>7.2}) {:>7} {:>7.0}{:>7.0}{:>7.0}",
        kind.name(),
        ms(|row| row.without.p50),
        ms(|row| row.with.p50),
        ms(|row| row.without.p99),
        ms(|row| row.with.p99),
        median(rows, |row| row.with.p99 / row.without.p99),
        least(|row| row.with.p99) / least(|row| row.without.p99),
        ms(|row| row.without.sign_in_p99),
        ms(|row| row.with.sign_in_p99),
        lost,
        mib(0),
        mib(1),
        mib(2),
    );
    let refused: usize = rows.iter().map(|row| row.with.sign_ins_refused).sum();
    if refused > 0 {
        println!("           good sign-ins refused: {refused}");
    }
    let said = rows.last().map_or(&[][..], |row| &row.counted);
    for (name, by) in said {
        println!("           {by:>9.0} {name}");
    }
}
