//! The whole path beside the least that a server can do: messages a second and CPU per message
//! of a bastide server (gate, session, mailbox, entity, protobuf both ways) and of a raw tokio
//! echo of the same frames, in turn in one run.
//!
//! `cargo bench --bench path -- [--connections N] [--depth D] [--seconds S] [--rounds R]`
//!
//! Each server is a process of its own, so that its CPU can be told from the load's. Read the
//! ratios: absolute figures are those of this machine in this minute.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::{
    env, fs, io,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use bastide::{client, msg};
use bastide_benches::{game, request};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep},
};

/// Says which server a child process is to be.
const ROLE: &str = "BENCH_ROLE";

/// Before counting: connections are warm, buffers have their size.
const WARM_UP: Duration = Duration::from_millis(800);

fn main() -> ExitCode {
    match env::var(ROLE).as_deref() {
        Ok("bastide") => game().main(),
        Ok("tokio") => floor(),
        _ => match Load::from_args() {
            Ok(load) => measure(&load),
            Err(usage) => {
                println!("{usage}");
                ExitCode::from(2)
            }
        },
    }
}

// === The floor ===

/// What cannot be left out: read, cut frames, write them back, once per read.
fn floor() -> ExitCode {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let file = env::args().nth(1).expect("the announce file");
        let addr = listener.local_addr().expect("bound").to_string();
        fs::write(file, serde_json::json!({ "gate_tcp": addr }).to_string()).expect("announced");
        let mut echoes = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            echoes.spawn(echo(socket));
        }
    });
    ExitCode::SUCCESS
}

async fn echo(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut unread, mut out) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
    while socket.read_buf(&mut unread).await? > 0 {
        let used = each_frame(&unread, |frame| out.extend_from_slice(frame));
        unread.drain(..used);
        socket.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}

/// Calls for each whole frame; says how many bytes they were.
fn each_frame(bytes: &[u8], mut call: impl FnMut(&[u8])) -> usize {
    let mut at = 0;
    while let Some(size) = bytes.get(at..at + 2) {
        let end = at + 2 + usize::from(u16::from_le_bytes([size[0], size[1]]));
        let Some(frame) = bytes.get(at..end) else { break };
        call(frame);
        at = end;
    }
    at
}

// === The load ===

#[derive(Clone, Debug)]
struct Load {
    connections: Vec<usize>,
    depths: Vec<usize>,
    seconds: f64,
    rounds: usize,
}

impl Load {
    fn from_args() -> Result<Self, String> {
        let mut load =
            Self { connections: vec![100], depths: vec![1, 32], seconds: 3.0, rounds: 3 };
        let mut args = env::args().skip(1).filter(|a| a != "--bench");
        while let Some(arg) = args.next() {
            let value = args.next().and_then(|v| v.parse::<f64>().ok());
            let value =
                value.filter(|v| *v > 0.0).ok_or(format!("{arg} wants a number above 0"))?;
            match arg.as_str() {
                "--connections" => load.connections = vec![value as usize],
                "--depth" => load.depths = vec![value as usize],
                "--seconds" => load.seconds = value,
                "--rounds" => load.rounds = value as usize,
                _ => {
                    return Err(format!(
                        "{arg}: --connections, --depth, --seconds, --rounds are known"
                    ));
                }
            }
        }
        Ok(load)
    }
}

/// One server, measured once.
#[derive(Clone, Copy, Debug)]
struct Figures {
    messages_per_s: f64,
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn measure(load: &Load) -> ExitCode {
    println!(
        "{} rounds of {} s each, interleaved; medians; payload {} bytes",
        load.rounds,
        load.seconds,
        bastide_benches::PAYLOAD_BYTES
    );
    println!(
        "{:>5} {:>5}  {:8} {:>12} {:>11} {:>8} {:>8} {:>8}",
        "conns", "depth", "server", "messages/s", "CPU us/msg", "x floor", "p50 ms", "p99 ms"
    );
    for &connections in &load.connections {
        for &depth in &load.depths {
            let mut rounds: [Vec<Figures>; 2] = [Vec::new(), Vec::new()];
            for _ in 0..load.rounds {
                for (role, figures) in ["tokio", "bastide"].iter().zip(&mut rounds) {
                    figures.push(run(role, connections, depth, load.seconds));
                }
            }
            let floor = median(&rounds[0], |f| f.cpu_us);
            for (role, figures) in ["tokio", "bastide"].iter().zip(&rounds) {
                let cpu_us = median(figures, |f| f.cpu_us);
                println!(
                    "{connections:>5} {depth:>5}  {role:8} {:>12.0} {cpu_us:>11.2} {:>8.2} {:>8.2} {:>8.2}",
                    median(figures, |f| f.messages_per_s),
                    cpu_us / floor,
                    median(figures, |f| f.p50_ms),
                    median(figures, |f| f.p99_ms),
                );
            }
        }
    }
    ExitCode::SUCCESS
}

fn median(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<_> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn run(role: &str, connections: usize, depth: usize, seconds: f64) -> Figures {
    let dir = tempfile::tempdir().expect("a folder for the server");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = Server::start(role, dir.path()).await;
        let mut players = JoinSet::new();
        let until = Instant::now() + Duration::from_secs(3600);
        let (begin, end) =
            (tokio::sync::watch::Sender::new(None), Duration::from_secs_f64(seconds));
        for n in 0..connections {
            let socket = server.connect(n).await;
            players.spawn(player(socket, depth, begin.subscribe(), until));
        }
        begin.send_replace(Some(Instant::now() + WARM_UP + end));
        sleep(WARM_UP).await;
        let (cpu, began) = (server.cpu(), Instant::now());
        sleep(end).await;
        let (cpu, took) = (server.cpu() - cpu, began.elapsed());
        let mut round_trips = Histogram::<u64>::new(3).expect("a histogram");
        while let Some(player) = players.join_next().await {
            round_trips.add(player.expect("a player")).expect("same shape");
        }
        let in_time =
            round_trips.len() as f64 * took.as_secs_f64() / (took + WARM_UP).as_secs_f64();
        let ms = |quantile| round_trips.value_at_quantile(quantile) as f64 / 1e6;
        Figures {
            messages_per_s: in_time / took.as_secs_f64(),
            cpu_us: cpu.as_secs_f64() * 1e6 / in_time,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
        }
    })
}

/// Keeps `depth` requests under way until the time is over.
async fn player(
    mut socket: TcpStream,
    depth: usize,
    mut begin: tokio::sync::watch::Receiver<Option<Instant>>,
    until: Instant,
) -> Histogram<u64> {
    let mut frame = Vec::new();
    bastide::wire::put_message(&mut frame, &request()).expect("fits");
    let mut round_trips = Histogram::new(3).expect("a histogram");
    let until = begin.wait_for(Option::is_some).await.map_or(until, |end| end.unwrap_or(until));
    let (mut out, mut unread) = (frame.repeat(depth), Vec::with_capacity(8192));
    let mut sent = std::collections::VecDeque::new();
    loop {
        let now = Instant::now();
        if now >= until {
            return round_trips;
        }
        sent.push_back((now, out.len() / frame.len()));
        socket.write_all(&out).await.expect("the server lives");
        let mut answers = 0;
        while answers == 0 {
            socket.read_buf(&mut unread).await.expect("the server lives");
            let used = each_frame(&unread, |_| answers += 1);
            unread.drain(..used);
        }
        out.truncate(0);
        out.extend_from_slice(&frame.repeat(answers));
        let now = Instant::now();
        while answers > 0 {
            let (began, waiting) = sent.front_mut().expect("no more answers than requests");
            let done = answers.min(*waiting);
            let ns = u64::try_from((now - *began).as_nanos()).unwrap_or(u64::MAX);
            round_trips.record_n(ns, done as u64).expect("below an hour");
            (*waiting, answers) = (*waiting - done, answers - done);
            if *waiting == 0 {
                sent.pop_front();
            }
        }
    }
}

// === The server's process ===

struct Server {
    process: Child,
    gate: String,
    http: Option<String>,
}

impl Server {
    async fn start(role: &str, dir: &Path) -> Self {
        let announce = dir.join("announce.json");
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.env(ROLE, role).stdout(Stdio::null()).env("RUST_LOG", "warn");
        if role == "bastide" {
            command.args(["dev", "--http", "127.0.0.1:0", "--gate-tcp", "127.0.0.1:0"]);
            command.args(["--admin", "127.0.0.1:0"]).arg("--data").arg(dir);
            command.arg("--announce").arg(&announce);
            command.env("BASTIDE_GATE__RATE_FRAMES_PER_S", "0");
        } else {
            command.arg(&announce);
        }
        let process = command.spawn().expect("the server starts");
        let mut server = Self { process, gate: String::new(), http: None };
        let text = |v: &serde_json::Value| v.as_str().map(str::to_owned);
        for _ in 0..200 {
            let announced = fs::read(&announce).ok();
            let json = announced.and_then(|t| serde_json::from_slice::<serde_json::Value>(&t).ok());
            if let Some(json) = json {
                server.gate = text(&json["gate_tcp"]).expect("a gate");
                server.http = text(&json["http"][0]);
                return server;
            }
            sleep(Duration::from_millis(25)).await;
        }
        panic!("the server did not announce itself within 5 s");
    }

    async fn connect(&self, n: usize) -> TcpStream {
        let mut socket = TcpStream::connect(&self.gate).await.expect("the gate listens");
        socket.set_nodelay(true).expect("a socket");
        if let Some(http) = &self.http {
            let signed_in = client::guest(http, &format!("bench-{n}")).await.expect("a guest");
            let request = msg::login::Req { token: signed_in.token, ..Default::default() };
            let mut frame = Vec::new();
            bastide::wire::put_message(&mut frame, &request).expect("fits");
            socket.write_all(&frame).await.expect("the gate reads");
            let mut answer = Vec::with_capacity(1024);
            let mut answers = 0;
            while answers == 0 {
                socket.read_buf(&mut answer).await.expect("the gate answers");
                each_frame(&answer, |_| answers += 1);
            }
        }
        socket
    }

    /// CPU that every thread of the server has used so far.
    fn cpu(&self) -> Duration {
        let tasks = format!("/proc/{}/task", self.process.id());
        let tasks = fs::read_dir(tasks).expect("the server runs on Linux");
        let ns = tasks.flatten().filter_map(|task| {
            let line = fs::read_to_string(task.path().join("schedstat")).ok()?;
            line.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(ns.sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("the server ends");
        self.process.wait().expect("the server ends");
    }
}
