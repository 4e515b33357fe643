//! What it costs to tell a room something: CPU of the server for each member and message, beside a
//! raw write of the same bytes to as many sockets, in turn in one run.
//!
//! `cargo bench -p bastide-benches --bench broadcast -- [--members 1000] [--bytes 64,1024]
//! [--rate 20,100] [--seconds S] [--rounds R] [--beside PROGRAM]`
//!
//! `one` is bastide in one process, `two` a gate and a game server of their own, on an etcd, a
//! Redis and a PostgreSQL; `floor` is a loop over sockets. `--beside` names another build of this
//! benchmark, whose bastide is measured too. Members are TCP clients of this process, who read all
//! they are told. Read the ratios: absolute figures are those of this machine in this minute.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

mod floor;
mod members;

use std::{env, path::PathBuf, process::ExitCode};

use bastide::{Code, Member, Refusal, Room, RoomCtx, RoomKind};
use bastide_benches::{Call, Heard, Nodes, ROLE, Servers, Setup, game, median};
use members::Members;
use tokio::{runtime::Builder, task::LocalSet};

/// A room without a state.
struct Hall;

impl Room for Hall {
    fn open(_: &mut RoomCtx) -> Result<Self, Refusal> {
        Ok(Self)
    }
}

fn call(_: &mut Hall, call: Call, _: &Member, ctx: &mut RoomCtx) -> Result<(), Code> {
    ctx.broadcast(&Heard { data: call.data });
    Ok(())
}

fn main() -> ExitCode {
    let hall = || RoomKind::<Hall>::new("hall").capacity(10_000).on(call);
    match env::var(ROLE).as_deref() {
        Ok("bastide") => return game().room(hall()).main(),
        Ok("floor") => return floor::main(),
        _ => {}
    }
    match Plan::from_args() {
        Ok(plan) => {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(LocalSet::new().run_until(measure(&plan)));
            ExitCode::SUCCESS
        }
        Err(usage) => {
            println!("{usage}");
            ExitCode::from(2)
        }
    }
}

struct Plan {
    members: usize,
    bytes: Vec<usize>,
    rates: Vec<u32>,
    seconds: u32,
    rounds: usize,
    beside: Option<PathBuf>,
}

impl Plan {
    fn from_args() -> Result<Self, String> {
        let mut plan = Self {
            members: 1000,
            bytes: vec![64, 1024],
            rates: vec![20, 100],
            seconds: 3,
            rounds: 5,
            beside: None,
        };
        let mut args = env::args().skip(1).filter(|a| a != "--bench");
        while let Some(arg) = args.next() {
            let value = args.next().ok_or(format!("{arg} wants a value"))?;
            let numbers = || {
                let numbers = value.split(',').map(|n| n.parse::<u32>().ok().filter(|n| *n > 0));
                numbers.collect::<Option<Vec<_>>>().ok_or(format!("{arg} wants numbers above 0"))
            };
            match arg.as_str() {
                "--members" => plan.members = numbers()?[0] as usize,
                "--bytes" => plan.bytes = numbers()?.iter().map(|n| *n as usize).collect(),
                "--rate" => plan.rates = numbers()?,
                "--seconds" => plan.seconds = numbers()?[0],
                "--rounds" => plan.rounds = numbers()?[0] as usize,
                "--beside" => plan.beside = Some(value.into()),
                _ => {
                    let known = "--members, --bytes, --rate, --seconds, --rounds, --beside";
                    return Err(format!("{arg}: {known} are known"));
                }
            }
        }
        match plan.bytes.iter().all(|bytes| (8..=16_000).contains(bytes)) {
            true => Ok(plan),
            false => Err("--bytes is 8 to 16000".to_owned()),
        }
    }

    /// Everybody who is measured, with its members in it; the first is the floor.
    async fn servers(&self) -> Vec<(&'static str, Members)> {
        let this = env::current_exe().expect("this program");
        let mut setup = Setup::default();
        let more = ["gate.connections_per_ip_max=100000", "gate.idle_timeout=1h"];
        setup.settings.extend(more.map(str::to_owned));
        let cluster = Nodes::Cluster(&["account,gate,rooms", "game"]);
        let mut all = vec![("one", &this, Nodes::One), ("two", &this, cluster)];
        if let Some(old) = &self.beside {
            all.extend([("beside one", old, Nodes::One), ("beside two", old, cluster)]);
        }
        let floor = Servers::raw(&["floor"]).await;
        let mut servers = vec![("floor", Members::seat(floor, self.members).await)];
        for (name, program, nodes) in all {
            let started = Servers::bastide_with(program, nodes, &setup).await;
            servers.push((name, Members::seat(started, self.members).await));
        }
        servers
    }
}

async fn measure(plan: &Plan) {
    let Plan { members, seconds, rounds, .. } = plan;
    println!("{members} members; {rounds} rounds of {seconds} s each, interleaved; medians");
    println!(
        "{:>6} {:>7}  {:10} {:>21} {:>8} {:>14}",
        "bytes", "a sec.", "server", "CPU us/member/message", "x floor", "(lo..hi)"
    );
    let mut servers = plan.servers().await;
    for &bytes in &plan.bytes {
        for &rate in &plan.rates {
            let mut figures = vec![Vec::new(); servers.len()];
            for round in 0..=*rounds {
                for ((_, members), figures) in servers.iter_mut().zip(&mut figures) {
                    let figure = members.say(bytes, rate, rate * seconds).await;
                    // The first one warms it up.
                    if round > 0 {
                        figures.push(figure);
                    }
                }
            }
            for ((name, _), of) in servers.iter().zip(&figures) {
                print!("{bytes:>6} {rate:>7}  {name:10}");
                print_row(of, &figures[0]);
            }
        }
    }
}

/// The ratio is taken round by round, each against the floor of its own minute.
fn print_row(of: &[f64], floor: &[f64]) {
    let mut ratios: Vec<_> = of.iter().zip(floor).map(|(of, floor)| of / floor).collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        " {:>21.2} {:>8.2} {:>7.2}..{:<5.2}",
        median(of, |figure| *figure),
        median(&ratios, |ratio| *ratio),
        ratios[0],
        ratios[ratios.len() - 1]
    );
}
