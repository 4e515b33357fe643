//! Owns one measurement from its flags to its files: has the workers sign in, begins when all are
//! there, adds up what they say, and ends early where the operator, or all that is lost, says so.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, ToSocketAddrs as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    LoadFlags,
    crew::Crew,
    meter::{Latency, Slice},
    outcome::{Outcome, Second, Server},
    plan::{Language, Mistake, Plan},
    progress::Progress,
    report,
    server::{Processes, Usage, machine},
    worker::{Order, Said},
};
use crate::{
    client::{SignedIn, guest},
    clock::Clock,
};

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The operator has to say something else.
    #[error("{0}")]
    Mistake(Mistake),
    /// It did not work.
    #[error("{0}")]
    Failed(String),
}

impl From<Mistake> for LoadError {
    fn from(mistake: Mistake) -> Self {
        Self::Mistake(mistake)
    }
}

/// What a worker has said of its connections.
#[derive(Clone, Copy, Debug, Default)]
struct Post {
    connected: usize,
    tried: usize,
    /// Seconds that it has told.
    told: u64,
    is_done: bool,
}

/// What processes had used at one moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    server: Option<Usage>,
    generator: Option<Usage>,
}

/// A measurement under way.
struct Measurement {
    crew: Crew,
    posts: Vec<Post>,
    plan: Plan,
    progress: Progress,
    server: Processes,
    generator: Processes,
    memory_before: u64,
    /// Seconds that some workers have not told yet.
    open: BTreeMap<u64, Slice>,
    total: Slice,
    in_time: u64,
    series: Vec<Second>,
    /// What the server and the generator had used at each second, from the beginning.
    used: Vec<Look>,
    begins: Option<Instant>,
    ended: Option<Instant>,
}

/// Measures; what the operator reads at the end, and whether there was no error.
///
/// # Errors
/// [`LoadError`]: a sentence for the operator.
pub(crate) async fn run(
    name: &str,
    flags: &LoadFlags,
    language: Language,
) -> Result<(String, bool), LoadError> {
    let language = Arc::new(language);
    let (plan, processes) = flags.plan(&language)?;
    let other = flags.against.as_deref().map(Outcome::read).transpose()?;
    for file in [&flags.json, &flags.report].into_iter().flatten() {
        write(file, "")?;
    }
    let failed = |e: std::io::Error| LoadError::Failed(format!("signals cannot be received: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;

    let first = first_guest(flags, &plan).await?;
    let server = if flags.pid.is_empty() {
        Processes::listening(&addresses(flags, &first))
    } else {
        Processes(flags.pid.clone())
    };
    if !flags.pid.is_empty() && server.usage().is_none() {
        let pids = &flags.pid;
        let said = format!("--pid names {pids:?}, of which none runs here; name the server's");
        return Err(Mistake(said).into());
    }
    let at_ms = Clock::system().now_ms();
    let crew = Crew::start(&plan, &language, processes).map_err(LoadError::Failed)?;
    let mut measurement = Measurement::new(plan, crew, server, processes);
    measurement.progress.begin(flags.connections as u64, "sign in");
    loop {
        let next = measurement.next_look();
        tokio::select! {
            said = measurement.crew.said.recv() => match said {
                Some((worker, said)) => measurement.hear(worker, said),
                None => break,
            },
            _ = interrupt.recv() => measurement.stop(),
            _ = terminate.recv() => measurement.stop(),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => measurement.look(),
        }
        if measurement.posts.iter().all(|post| post.is_done) {
            break;
        }
    }
    let connected = measurement.posts.iter().map(|post| post.connected).sum();
    let what = flags.words(&measurement.plan);
    let outcome = measurement.outcome(name, what, at_ms, connected);
    if let Some(file) = &flags.json {
        let json = serde_json::to_string(&outcome).map_err(|e| LoadError::Failed(e.to_string()))?;
        write(file, &json)?;
    }
    if let Some(file) = &flags.report {
        write(file, &report::page(&outcome, other.as_ref()))?;
    }
    Ok((outcome.table(other.as_ref()), outcome.errors() == 0))
}

/// The first guest signs in by itself: if the account center is not there, that is one sentence.
async fn first_guest(flags: &LoadFlags, plan: &Plan) -> Result<SignedIn, LoadError> {
    let signed_in = guest(&flags.addr, &format!("{}-0", plan.prefix)).await;
    signed_in.map_err(|e| LoadError::Failed(e.to_string()))
}

/// Where the server listens.
fn addresses(flags: &LoadFlags, first: &SignedIn) -> Vec<SocketAddr> {
    let center = flags.addr.trim_start_matches("http://").trim_end_matches('/');
    let gate = flags.gate.as_deref().unwrap_or(&first.addr);
    [center, gate].iter().filter_map(|at| at.to_socket_addrs().ok()).flatten().collect()
}

fn write(file: &Path, text: &str) -> Result<(), LoadError> {
    fs::write(file, text).map_err(|e| {
        let file = file.display();
        Mistake(format!("{file} cannot be written: {e}; name a file in a folder of yours")).into()
    })
}

impl Measurement {
    fn new(plan: Plan, crew: Crew, server: Processes, processes: usize) -> Self {
        Self {
            generator: Processes(crew.pids()),
            memory_before: server.usage().unwrap_or_default().memory,
            posts: vec![Post::default(); processes],
            progress: Progress::new(),
            open: BTreeMap::new(),
            total: Slice::new(0),
            in_time: 0,
            series: Vec::new(),
            used: Vec::new(),
            begins: None,
            ended: None,
            crew,
            plan,
            server,
        }
    }

    fn hear(&mut self, worker: usize, said: Said) {
        match said {
            Said::Ramp { connected, tried } => {
                let post = &mut self.posts[worker];
                (post.connected, post.tried) = (connected, tried);
                self.ramped();
            }
            Said::Slice(slice) => self.take(worker, &slice),
            Said::Done => self.posts[worker].is_done = true,
            Said::Gone if self.posts[worker].is_done => {}
            Said::Gone => {
                self.total.error("a process of the generator failed", 1);
                self.posts[worker].is_done = true;
                self.posts[worker].tried = self.plan.shares(self.posts.len())[worker].len();
                self.ramped();
            }
        }
    }

    /// Begins once everybody has tried to come in.
    fn ramped(&mut self) {
        let connected = self.posts.iter().map(|post| post.connected).sum();
        let tried: usize = self.posts.iter().map(|post| post.tried).sum();
        self.progress.connected(connected, tried);
        if self.begins.is_some() || self.ended.is_some() || tried < self.plan.connections {
            return;
        }
        if connected == 0 {
            self.stop();
            return;
        }
        self.progress.say(&format!("{connected} connections are there"));
        self.begins = Some(Instant::now() + self.plan.warm_up);
        self.progress.begin(self.plan.span.as_secs(), "measure");
        self.crew.tell(Order::Go);
    }

    fn stop(&mut self) {
        self.ended.get_or_insert_with(Instant::now);
        self.crew.tell(Order::Stop);
    }

    /// When to look at the processes next.
    fn next_look(&self) -> Option<Instant> {
        let next = self.begins? + Duration::from_secs(self.used.len() as u64);
        (self.used.len() as u64 <= self.plan.span.as_secs()).then_some(next)
    }

    fn look(&mut self) {
        let (server, generator) = (self.server.usage(), self.generator.usage());
        self.used.push(Look { server, generator });
    }

    /// Adds up what one worker says of one second.
    fn take(&mut self, worker: usize, slice: &Slice) {
        let second = slice.second;
        if second < self.plan.span.as_secs() {
            self.in_time += slice.done();
        }
        self.total.add(slice);
        self.open.entry(second).or_insert_with(|| Slice::new(second)).add(slice);
        self.posts[worker].told = second + 1;
        let is_whole = self.posts.iter().all(|post| post.is_done || post.told > second);
        // A worker that lags behind is waited for no longer than two seconds.
        let later =
            self.open.split_off(&if is_whole { second + 1 } else { second.saturating_sub(1) });
        for slice in std::mem::replace(&mut self.open, later).into_values() {
            self.close(&slice);
        }
    }

    fn close(&mut self, slice: &Slice) {
        let mut second = Second::from(slice);
        if second.second >= self.plan.span.as_secs() {
            return;
        }
        // Told by a worker that has lagged behind.
        if let Some(known) = self.series.iter_mut().rev().find(|s| s.second == second.second) {
            known.messages += second.messages;
            known.pushes += second.pushes;
            known.errors += second.errors;
            return;
        }
        let at = |n: u64| usize::try_from(n).ok().and_then(|n| self.used.get(n)).copied();
        let server = |n: u64| at(n)?.server;
        if let (Some(before), Some(after)) = (server(second.second), server(second.second + 1)) {
            second.server_cpu = Some(after.cpu.saturating_sub(before.cpu).as_secs_f64());
        }
        self.progress.second(&second);
        self.series.push(second);
    }

    fn outcome(mut self, name: &str, what: String, at_ms: i64, connected: usize) -> Outcome {
        let now = Instant::now();
        for slice in std::mem::take(&mut self.open).into_values() {
            self.close(&slice);
        }
        self.progress.end();
        let ended = self.ended.unwrap_or(now);
        let since = |begins: Instant| ended.saturating_duration_since(begins).min(self.plan.span);
        let span = self.begins.map(since).unwrap_or_default();
        // It is over before its time: the last look is now.
        if self.begins.is_some_and(|begins| begins <= now) && self.next_look().is_some() {
            self.look();
        }
        let used = |of: fn(&Look) -> Option<Usage>| {
            let mut looks = self.used.iter().filter_map(of);
            let first = looks.next()?;
            let last = looks.next_back().unwrap_or(first);
            Some((last.cpu.saturating_sub(first.cpu).as_secs_f64(), last.memory))
        };
        let Processes(pids) = &self.server;
        let server = used(|look| look.server).map(|(cpu_s, memory)| Server {
            pids: pids.clone(),
            cpu_s,
            memory_before: self.memory_before,
            memory,
        });
        let generator_cpu_s = used(|look| look.generator).map(|(cpu_s, _)| cpu_s);
        let (machine, cores) = machine();
        let Slice { second: _, sent, inputs, answered, pushes, errors, latency, sign_in } =
            std::mem::replace(&mut self.total, Slice::new(0));
        let (latency_ns, sign_in_ns): (Latency, Latency) = (latency, sign_in);
        Outcome {
            format: Outcome::FORMAT,
            program: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at_ms,
            machine,
            cores,
            what,
            connections: self.plan.connections,
            connected,
            seconds: span.as_secs_f64(),
            sent,
            inputs,
            answered,
            in_time: self.in_time,
            pushes,
            errors,
            latency_ns,
            sign_in_ns,
            server,
            generator_cpu_s,
            series: self.series,
        }
    }
}
