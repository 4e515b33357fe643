//! Owns the workers: threads of this program, or processes of it where one may not hold so many
//! connections; brings what they say together, second by second.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    ops::Range,
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    thread,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::{
    plan::{Language, Mistake, Plan},
    worker::{Order, Said, work},
};

/// The hidden command with which the program starts itself again.
pub(crate) const WORKER: &str = "load-worker";

/// What workers say and nobody has taken in yet: some seconds of each. Beyond: they wait.
const SAID_MAX: usize = 256;

/// Files that a process needs beside its connections.
const FILES_BESIDE: u64 = 64;

/// Processes that share the load: more than a machine has cores. Beyond: refused.
pub(super) const PROCESSES_MAX: usize = 256;

/// How many processes it takes, with the files that each may open.
pub(super) fn processes(connections: usize, wanted: Option<usize>) -> Result<usize, Mistake> {
    let files = files_allowed();
    let each = usize::try_from(files.saturating_sub(FILES_BESIDE)).unwrap_or(usize::MAX).max(1);
    let needed = connections.div_ceil(each);
    if needed > PROCESSES_MAX || wanted.is_some_and(|wanted| wanted < needed) {
        return Err(Mistake(format!(
            "--connections is {connections}, and a process may open {files} files: that takes \
             {needed} processes; raise the limit (ulimit -n), or --processes up to {PROCESSES_MAX}"
        )));
    }
    Ok(wanted.unwrap_or(needed).min(connections))
}

/// The files that this process may open, once it may open as many as the system lets it.
fn files_allowed() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let allowed = if raised.is_ok() { maximum } else { current };
    allowed.unwrap_or(u64::MAX)
}

/// What a process is told before its orders.
#[derive(Serialize, Deserialize)]
struct Share {
    plan: Plan,
    connections: Range<usize>,
}

/// Workers at work.
pub(super) struct Crew {
    pub(super) said: mpsc::Receiver<(usize, Said)>,
    orders: watch::Sender<Order>,
    pipes: Vec<ChildStdin>,
    children: Vec<Child>,
}

impl Crew {
    /// Starts so many; each begins to sign in.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn start(
        plan: &Plan,
        language: &Arc<Language>,
        processes: usize,
    ) -> Result<Self, String> {
        let (tell, said) = mpsc::channel(SAID_MAX);
        let (orders, _) = watch::channel(Order::Ramp);
        let mut crew = Self { said, orders, pipes: Vec::new(), children: Vec::new() };
        for (worker, share) in plan.shares(processes).into_iter().enumerate() {
            let tell = tell.clone();
            match processes {
                1 => crew.start_thread(plan.clone(), share, language.clone(), tell)?,
                _ => crew.start_process(worker, plan, share, tell)?,
            }
        }
        Ok(crew)
    }

    fn start_thread(
        &self,
        plan: Plan,
        share: Range<usize>,
        language: Arc<Language>,
        tell: mpsc::Sender<(usize, Said)>,
    ) -> Result<(), String> {
        let orders = self.orders.subscribe();
        let (to_me, mut said) = mpsc::channel(SAID_MAX);
        let relay = move || {
            while let Some(said) = said.blocking_recv() {
                drop(tell.blocking_send((0, said)));
            }
            drop(tell.blocking_send((0, Said::Gone)));
        };
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let work = move || {
            if let Err(why) = work(plan, share, &language, orders, to_me) {
                tracing::error!(target: "load", "{why}");
            }
        };
        named("load-said").spawn(relay).map_err(|e| format!("no thread: {e}"))?;
        named("load").spawn(work).map(drop).map_err(|e| format!("no thread: {e}"))
    }

    fn start_process(
        &mut self,
        worker: usize,
        plan: &Plan,
        connections: Range<usize>,
        tell: mpsc::Sender<(usize, Said)>,
    ) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("no process of this program: {e}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        // A group of its own: Ctrl-C is for this process, which tells it.
        command.arg(WORKER).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        self.children.push(child);
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
            return Err("a process without pipes".to_owned());
        };
        let share = Share { plan: plan.clone(), connections };
        let line = serde_json::to_string(&share).map_err(|e| e.to_string())?;
        writeln!(stdin, "{line}").map_err(failed)?;
        self.pipes.push(stdin);
        let relay = move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(said) => drop(tell.blocking_send((worker, said))),
                    Err(e) => tracing::error!(target: "load", "worker {worker} says {line:?}: {e}"),
                }
            }
            drop(tell.blocking_send((worker, Said::Gone)));
        };
        let relay = thread::Builder::new().name("load-said".to_owned()).spawn(relay);
        relay.map(drop).map_err(|e| format!("no thread: {e}"))
    }

    /// Tells all of them.
    pub(super) fn tell(&mut self, order: Order) {
        let raised = |said: &mut Order| {
            let later = *said < order;
            *said = if later { order } else { *said };
            later
        };
        if !self.orders.send_if_modified(raised) {
            return;
        }
        let line = serde_json::to_string(&order).unwrap_or_default();
        for pipe in &mut self.pipes {
            if let Err(e) = writeln!(pipe, "{line}").and_then(|()| pipe.flush()) {
                tracing::error!(target: "load", "a worker does not listen: {e}");
            }
        }
    }

    /// The processes that make the load, this one among them.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).chain([std::process::id()]).collect()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.pipes.clear();
        for child in &mut self.children {
            // It ends by itself once it has said all; one that does not is of no use.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A worker that is a process of its own: told and heard over its pipes.
pub(crate) fn work_for_another(language: &Language) -> Result<(), String> {
    let mut lines = BufReader::new(std::io::stdin()).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    let share: Share = serde_json::from_str(&first)
        .map_err(|e| format!("{WORKER} is told by load what to do, and was told {first:?}: {e}"))?;
    let (orders, told) = watch::channel(Order::Ramp);
    let (say, mut said) = mpsc::channel(SAID_MAX);
    let listen = move || {
        for line in lines.map_while(Result::ok) {
            if let Ok(order) = serde_json::from_str(&line) {
                orders.send_replace(order);
            }
        }
        // Who would hear it is gone.
        orders.send_replace(Order::Stop);
    };
    let speak = move || {
        let mut out = std::io::stdout();
        while let Some(said) = said.blocking_recv() {
            let line = serde_json::to_string(&said).unwrap_or_default();
            if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    };
    thread::spawn(listen);
    let speak = thread::spawn(speak);
    let Share { plan, connections } = share;
    let worked = work(plan, connections, language, told, say);
    drop(speak.join());
    worked
}
