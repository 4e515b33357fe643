//! What a codec costs: CPU of the server for each message in a codec beside the same message in
//! frames, and of frames with the codecs on beside frames with all of them off, in turn in one run.
//!
//! `cargo bench --bench codecs -- [--connections N] [--depth 1,32] [--seconds S] [--rounds R]`
//!
//! Over TCP, the whole town's game in one process. A numbered envelope asks who one is, which is
//! handled by a player; a command is a heart beat, which the session answers. So many requests of
//! each connection are always under way. Read the ratios: absolute figures are those of this machine
//! in this minute.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::{
    env,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bastide::{App, Named, msg, prost::Message as _, wire};
use bastide_benches::{Nodes, ROLE, Servers, Setup, machine, median};
use jigger::proto::{Message, auth, create_room, get_user_info};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep},
};

/// Before counting: connections are warm, buffers have their size.
const WARM_UP: Duration = Duration::from_millis(800);

const OFF: [&str; 2] = ["codecs.jigger.on=false", "codecs.mope.on=false"];

fn main() -> ExitCode {
    if env::var(ROLE).is_ok() {
        let app = App::new("bench").player::<cards::Hero>();
        return mope::mount(jigger::mount(arena::mount(cards::mount(app)))).main();
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
    connections: usize,
    depths: Vec<usize>,
    span: Duration,
    rounds: usize,
}

impl Plan {
    fn from_args() -> Result<Self, String> {
        let span = Duration::from_secs(2);
        let mut plan = Self { connections: 100, depths: vec![1, 32], span, rounds: 5 };
        let mut args = env::args().skip(1).filter(|a| a != "--bench");
        while let Some(arg) = args.next() {
            let numbers = args.next().and_then(|v| {
                v.split(',').map(|n| n.parse::<usize>().ok().filter(|n| *n > 0)).collect()
            });
            let numbers: Vec<_> = numbers.ok_or(format!("{arg} wants numbers above 0"))?;
            match arg.as_str() {
                "--connections" => plan.connections = numbers[0],
                "--depth" => plan.depths = numbers,
                "--seconds" => plan.span = Duration::from_secs(numbers[0] as u64),
                "--rounds" => plan.rounds = numbers[0],
                _ => return Err(format!("{arg} is not known")),
            }
        }
        Ok(plan)
    }
}

/// What is asked, and in which wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// Who one is, in frames.
    UserFrame,
    /// The same in envelopes.
    UserEnvelope,
    /// A ping, in frames.
    PingFrame,
    /// The same as a command.
    PingCommand,
}

impl Wire {
    const fn name(self) -> &'static str {
        match self {
            Self::UserFrame => "who one is, frames",
            Self::UserEnvelope => "who one is, envelopes",
            Self::PingFrame => "ping, frames",
            Self::PingCommand => "ping, commands",
        }
    }

    /// What signs in, and then a request of whoever has this account.
    fn says(self, token: &str, account: u64) -> (Vec<u8>, Vec<u8>) {
        let token = token.to_owned();
        let user = get_user_info::Req { uid: account };
        let login = msg::login::Req { token: token.clone(), ..Default::default() };
        match self {
            Self::UserFrame => (frame(&login), frame(&user)),
            Self::PingFrame => (frame(&login), frame(&msg::ping::Req { ct: 7, received: 0 })),
            Self::UserEnvelope => {
                let auth = auth::Req { token, ..auth::Req::default() };
                (envelope(2, 1, auth.encode_to_vec()), envelope(4, 2, user.encode_to_vec()))
            }
            Self::PingCommand => {
                // The room does not exist: its client stays signed in, and hears nothing of a game.
                let key = format!("nosuchroom.{token}");
                let name = "bench".to_owned();
                let login = create_room::Req { name }.encode_to_vec();
                let key = [&[0x12], &*length(key.len()), key.as_bytes()].concat();
                (command(1, &[login, key].concat()), command(16, &[8, 7]))
            }
        }
    }

    /// How many bytes the first message of these has, once its head is there.
    fn whole(self, bytes: &[u8]) -> Option<usize> {
        let &[a, b, c, d, ..] = bytes else { return None };
        Some(match self {
            Self::UserFrame | Self::PingFrame => 2 + usize::from(u16::from_le_bytes([a, b])),
            Self::UserEnvelope => 4 + u32::from_le_bytes([a, b, c, d]) as usize,
            Self::PingCommand => 4 + u32::from_le_bytes([a, b, c, 0]) as usize,
        })
    }

    /// Messages before the first answer: of the sign-in, and what is pushed with it.
    const fn before(self) -> usize {
        match self {
            Self::UserFrame | Self::PingFrame | Self::UserEnvelope => 1,
            // No room was found, and that is told.
            Self::PingCommand => 1,
        }
    }
}

fn frame<M: Named>(message: &M) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_message(&mut out, message).expect("small");
    out
}

fn envelope(id: i32, serial: i32, data: Vec<u8>) -> Vec<u8> {
    let client_id = "6f1c9a52-0000-4000-8000-5f6b7a8c9d0e".to_owned();
    let message = Message { client_id, msg_serial_no: serial, id, data }.encode_to_vec();
    let length = u32::try_from(message.len()).expect("small").to_le_bytes();
    [&length[..], &message].concat()
}

fn command(command: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 2).expect("small").to_le_bytes();
    [&length[..3], &[0], &command.to_le_bytes(), body].concat()
}

fn length(of: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = of;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

/// One server with its accounts.
struct Ground {
    servers: Servers,
    accounts: Vec<(String, u64)>,
}

impl Ground {
    async fn new(plan: &Plan, off: bool) -> Self {
        let mut setup = Setup::default();
        if off {
            setup.settings.extend(OFF.map(str::to_owned));
        }
        let program = env::current_exe().expect("this program");
        let servers = Servers::bastide_with(&program, Nodes::One, &setup).await;
        let http = servers.http.clone().expect("bastide's");
        let mut accounts = Vec::new();
        for n in 0..plan.connections {
            let who = bastide::client::guest(&http, &format!("codec-{n}")).await.expect("a guest");
            accounts.push((who.token, who.account_id.unsigned_abs()));
        }
        Self { servers, accounts }
    }

    /// CPU for each message, in microseconds.
    async fn measure(&self, wire: Wire, depth: usize, span: Duration) -> f64 {
        let answered = Arc::new(AtomicU64::new(0));
        let mut players = JoinSet::new();
        for (token, account) in &self.accounts {
            let (login, request) = wire.says(token, *account);
            let (gate, answered) = (self.servers.gate.clone(), answered.clone());
            players.spawn(async move { play(wire, &gate, login, request, depth, &answered).await });
        }
        sleep(WARM_UP).await;
        let (cpu, count, began) =
            (self.servers.cpu(), answered.load(Ordering::Relaxed), Instant::now());
        sleep(span.saturating_sub(began.elapsed())).await;
        let (cpu, count) = (self.servers.cpu() - cpu, answered.load(Ordering::Relaxed) - count);
        assert!(count > 0, "{}: nothing was answered", wire.name());
        players.shutdown().await;
        cpu.as_secs_f64() * 1e6 / count as f64
    }
}

/// Keeps requests under way until it is stopped.
async fn play(
    wire: Wire,
    gate: &str,
    login: Vec<u8>,
    request: Vec<u8>,
    depth: usize,
    answered: &AtomicU64,
) {
    let mut stream = TcpStream::connect(gate).await.expect("connected");
    stream.set_nodelay(true).expect("set");
    stream.write_all(&login).await.expect("written");
    let (mut bytes, mut before) = (Vec::with_capacity(64 * 1024), wire.before());
    loop {
        assert!(stream.read_buf(&mut bytes).await.expect("read") > 0, "{} ended", wire.name());
        let (mut at, mut count) = (0, 0);
        while let Some(whole) = wire.whole(&bytes[at..]).filter(|n| bytes.len() - at >= *n) {
            at += whole;
            count += 1;
        }
        bytes.drain(..at);
        let asked = if before == 0 {
            answered.fetch_add(count as u64, Ordering::Relaxed);
            count
        } else if count >= before {
            before = 0;
            depth
        } else {
            before -= count;
            continue;
        };
        stream.write_all(&request.repeat(asked)).await.expect("written");
    }
}

async fn measure(plan: &Plan) {
    println!("{}", machine());
    let Plan { connections, rounds, .. } = *plan;
    println!(
        "{connections} connections over TCP, {rounds} rounds; CPU a message in us, and by frames'"
    );
    let (on, off) = (Ground::new(plan, false).await, Ground::new(plan, true).await);
    println!("{:<26} {:>6} {:>10} {:>22}", "message", "depth", "CPU us", "ratio (of rounds)");
    for &depth in &plan.depths {
        for (frames, other) in [
            ((&off, Wire::UserFrame), (&on, Wire::UserFrame)),
            ((&on, Wire::UserFrame), (&on, Wire::UserEnvelope)),
            ((&on, Wire::PingFrame), (&on, Wire::PingCommand)),
        ] {
            let mut pairs = Vec::new();
            for _ in 0..rounds {
                let one = frames.0.measure(frames.1, depth, plan.span).await;
                pairs.push((one, other.0.measure(other.1, depth, plan.span).await));
            }
            let ratio = |pair: &(f64, f64)| pair.1 / pair.0;
            let mut ratios: Vec<_> = pairs.iter().map(ratio).collect();
            ratios.sort_by(f64::total_cmp);
            let what = match frames.1 == other.1 {
                true => format!("{}, codecs off", frames.1.name()),
                false => frames.1.name().to_owned(),
            };
            println!("{what:<32} {depth:>6} {:>10.2}", median(&pairs, |pair| pair.0));
            let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
            println!(
                "{:<32} {depth:>6} {:>10.2} {:>8.2} ({least:.2} to {most:.2})",
                other.1.name(),
                median(&pairs, |pair| pair.1),
                median(&pairs, ratio)
            );
        }
    }
}
