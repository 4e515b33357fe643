//! Owns the commands of a game's program: reads them, runs them, says in one sentence what is
//! wrong. What they do lies in `node`, `play` and `load`.

use std::{
    fmt,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use crate::{
    admin::command::{self, AdminFlags},
    app::{Exit, Game, Running},
    check,
    config::{Config, Flags, For, LogFormat, redacted},
    gate::Codecs,
    load::{self, Language, LoadError, LoadFlags},
    node::{self, Node},
    play::{AnyScript, Play, PlayError},
    room::{AnyRoomKind, Recording, ReplayError},
    telemetry,
};

/// What the operator has to change something for.
const EXIT_OPERATOR: u8 = 2;

/// Threads of the runtime that carries HTTP, store and control; games run on shards of their own.
const CONTROL_THREADS: usize = 2;

#[derive(Debug, Parser)]
#[command(
    version,
    about = "A game server built on bastide. Without a command: dev.",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one process: account center, gate and game server, with a SQLite file.
    Dev(Box<Flags>),
    /// A node of a cluster, with some of the roles account, gate, game, rooms.
    Serve(Box<ServeFlags>),
    /// Reads the configuration, tries each service, and says what is wrong; exits 0 if nothing is.
    Check(Box<ServeFlags>),
    /// Tells a running node to kick or ban somebody, or to show an account.
    Admin(AdminFlags),
    /// A client: signs in as a guest and plays; exits 0 only if all worked.
    Play(PlayFlags),
    /// Measures a server: guests send messages and count what comes back.
    Load(Box<LoadFlags>),
    /// A part of `load`, told by it what to do.
    #[command(name = load::WORKER, hide = true)]
    LoadWorker,
    /// Plays a recorded match again; exits 0 only if the same comes of it.
    Replay(ReplayFlags),
}

#[derive(Debug, Args)]
struct ServeFlags {
    /// What this process does [default: all].
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Args)]
struct PlayFlags {
    /// The account center to sign in at.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    addr: String,
    /// The guest's device; the same device is the same player.
    #[arg(long, value_name = "NAME", default_value = "play")]
    device: String,
}

#[derive(Debug, Args)]
struct ReplayFlags {
    /// What a room has recorded, in the folder of `rooms.record`.
    file: PathBuf,
}

/// Does what the command line says.
pub(crate) fn main(name: &'static str, game: Game, script: Option<AnyScript>) -> Exit {
    let matches = match Cli::command().name(name).bin_name(name).try_get_matches() {
        Ok(matches) => matches,
        Err(e) => e.exit(),
    };
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    telemetry::hook_panics();
    match cli.command {
        None => run(name, &cli.flags, &For::Dev, game),
        Some(Command::Dev(flags)) => run(name, &flags, &For::Dev, game),
        Some(Command::Serve(serve)) => run(name, &serve.flags, &serve.purpose(), game),
        Some(Command::Check(serve)) => check(name, &serve, &game.parts.codecs),
        Some(Command::Admin(flags)) => admin(name, &flags),
        Some(Command::Play(flags)) => play(name, &flags, script),
        Some(Command::Load(flags)) => measure(name, &flags, Language::of(&game)),
        Some(Command::LoadWorker) => work(name, &Language::of(&game)),
        Some(Command::Replay(flags)) => replay(name, &flags, &game.parts.rooms),
    }
}

impl ServeFlags {
    fn purpose(&self) -> For<'_> {
        For::Serve { roles: self.roles.as_deref() }
    }
}

// === dev and serve ===

fn run(name: &str, flags: &Flags, purpose: &For<'_>, game: Game) -> Exit {
    let began = now();
    let config = match Config::load(flags, purpose) {
        Ok(config) => config,
        Err(e) => return sorry(name, &e),
    };
    if let Err(e) = telemetry::start_logging(config.log.format) {
        return sorry(name, &e);
    }
    let runtime = match control_runtime() {
        Ok(runtime) => runtime,
        Err(e) => return sorry(name, &e),
    };
    let exit = runtime.block_on(async {
        // Before anything else: a signal that comes while the node starts, or right after it said
        // that it is ready, drains it too.
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(e) => return sorry(name, &format!("signals cannot be received: {e}")),
        };
        let pages = game.parts.pages.shown();
        let started = tokio::select! {
            started = node::start(&config, game) => started,
            // While it waits for a service, say.
            () = signals.next() => return Exit::SUCCESS,
        };
        match started {
            Ok(node) => {
                say(&banner(name, &node, began, &config, &pages));
                until_told_to_stop(node, &mut signals).await
            }
            Err(e) => sorry(name, &e),
        }
    });
    // A thread that a handler blocks must not keep the program from ending.
    runtime.shutdown_background();
    exit
}

/// SIGTERM and Ctrl-C.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        let Self { term, int } = self;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}

fn control_runtime() -> Result<Runtime, String> {
    Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|e| format!("no threads for the runtime: {e}"))
}

/// `dev` or `serve` inside another program.
pub(crate) fn start(name: &'static str, game: Game, args: &[&str]) -> Result<Running, String> {
    let command = (args.first() != Some(&"serve")).then_some("dev");
    let line = [name].into_iter().chain(command).chain(args.iter().copied());
    let cli = Cli::try_parse_from(line).map_err(|e| e.to_string())?;
    let config = match &cli.command {
        Some(Command::Dev(flags)) => Config::load(flags, &For::Dev),
        Some(Command::Serve(serve)) => Config::load(&serve.flags, &serve.purpose()),
        _ => return Err("not arguments of dev or serve".into()),
    };
    let config = config.map_err(|e| e.to_string())?;
    let runtime = control_runtime()?;
    let node = runtime.block_on(node::start(&config, game)).map_err(|e| e.to_string())?;
    Ok(Running::new(node, runtime))
}

/// Serves until SIGTERM or Ctrl-C, then drains; a second signal ends it at once.
async fn until_told_to_stop(node: Node, signals: &mut Signals) -> Exit {
    signals.next().await;
    tracing::info!(target: "node", "draining; a second signal stops at once");
    tokio::select! {
        biased; // a second signal first: it is the only way out of a drain that hangs
        exit = at_once(signals) => exit,
        () = node.drain() => {
            tracing::info!(target: "node", "stopped");
            Exit::SUCCESS
        }
    }
}

/// Ends the program at the next signal, without waiting for anything: a drain that is dropped
/// would still wait for its threads. What was saved is safe in the store.
async fn at_once(signals: &mut Signals) -> Exit {
    signals.next().await;
    std::process::exit(1)
}

fn banner(name: &str, node: &Node, began: Instant, config: &Config, pages: &[&str]) -> String {
    use std::fmt::Write as _;
    let at = node.addresses();
    let mut text = format!("{name} {}\n\n", env!("CARGO_PKG_VERSION"));
    let http = at.http.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut line = |what: &str, said: String| {
        writeln!(text, "  {what:<16} {said}").expect("writing to a String does not fail");
    };
    if config.clustered() {
        let roles = config.node.roles.iter().map(|r| r.name()).collect::<Vec<_>>().join(", ");
        line("node", format!("{} ({roles}) of the cluster {}", node.id(), config.cluster.name));
    }
    if !at.http.is_empty() {
        line("account center", format!("http://{http}"));
    }
    for (scheme, addr) in [
        ("tcp", at.gate_tcp),
        ("tls", at.gate_tcp_tls),
        ("ws", at.gate_ws),
        ("wss", at.gate_ws_tls),
        ("quic", at.gate_quic),
    ] {
        if let Some(addr) = addr {
            line("gate", format!("{scheme}://{addr}"));
        }
    }
    for (codec, at) in &at.codecs {
        if let Some(tcp) = at.tcp {
            let also = at.udp.map(|udp| format!(", udp://{udp}")).unwrap_or_default();
            line("gate", format!("tcp://{tcp}{also}  ({codec})"));
        }
    }
    if let Some(addr) = at.gate_ws {
        for page in pages {
            line("page", format!("http://{addr}{page}"));
        }
    }
    if let Some(link) = at.link {
        line("link", link.to_string());
    }
    line("admin", format!("http://{}  (/healthz, /readyz, /metrics)", at.admin));
    if node.keeps() {
        line("data", redacted(&config.store_url()));
    }
    let ms = (now() - began).as_millis();
    write!(text, "\nready in {ms} ms\n").expect("writing to a String does not fail");
    if let Some(first) = at.http.first() {
        let first = first.to_string();
        let addr =
            if first == "127.0.0.1:8080" { String::new() } else { format!(" --addr {first}") };
        let try_next = try_next(name);
        write!(text, "\nTry next, in another terminal:  {try_next}{addr}\n")
            .expect("writing to a String does not fail");
    }
    text
}

/// The command that plays. Started by cargo, the next command is cargo's too.
fn try_next(name: &str) -> String {
    let program = std::env::args().next().unwrap_or_else(|| name.to_owned());
    match std::env::var("CARGO_PKG_NAME") {
        Ok(package) if cfg!(debug_assertions) => format!("cargo run -p {package} -- play"),
        Ok(package) => format!("cargo run --release -p {package} -- play"),
        Err(_) => format!("{program} play"),
    }
}

// === check ===

fn check(name: &str, serve: &ServeFlags, codecs: &Codecs) -> Exit {
    let config = match Config::load(&serve.flags, &serve.purpose()) {
        Ok(config) => config,
        Err(e) => return sorry(name, &e),
    };
    let runtime = match control_runtime() {
        Ok(runtime) => runtime,
        Err(e) => return sorry(name, &e),
    };
    let findings = runtime.block_on(check::check(&config, codecs));
    runtime.shutdown_background();
    say(&check::table(&findings));
    if findings.iter().all(check::Finding::is_fine) { Exit::SUCCESS } else { Exit::FAILURE }
}

// === admin ===

fn admin(name: &str, flags: &AdminFlags) -> Exit {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return sorry(name, &format!("no runtime: {e}")),
    };
    match runtime.block_on(command::give(flags)) {
        Ok(sentence) => {
            say(&format!("{sentence}\n"));
            Exit::SUCCESS
        }
        Err(e) if e.is_operators() => sorry(name, &e),
        Err(e) => {
            complain(&format!("{name} admin: {e}"));
            Exit::FAILURE
        }
    }
}

// === play ===

fn play(name: &str, flags: &PlayFlags, script: Option<AnyScript>) -> Exit {
    if let Err(e) = telemetry::start_logging(LogFormat::Text) {
        return sorry(name, &e);
    }
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return sorry(name, &format!("no runtime: {e}")),
    };
    let played = runtime.block_on(async {
        let mut play = Play::begin(&flags.addr, &flags.device).await?;
        if let Some(script) = script {
            script(&mut play).await?;
        }
        play.end();
        Ok::<_, PlayError>(())
    });
    match played {
        Ok(()) => Exit::SUCCESS,
        Err(e) => {
            complain(&format!("{name} play: {e}"));
            Exit::FAILURE
        }
    }
}

// === load ===

fn measure(name: &str, flags: &LoadFlags, language: Language) -> Exit {
    if let Err(e) = telemetry::start_logging(LogFormat::Text) {
        return sorry(name, &e);
    }
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return sorry(name, &format!("no runtime: {e}")),
    };
    match runtime.block_on(load::run(name, flags, language)) {
        Ok((said, all_went_well)) => {
            say(&said);
            if all_went_well { Exit::SUCCESS } else { Exit::FAILURE }
        }
        Err(LoadError::Mistake(e)) => sorry(name, &e),
        Err(LoadError::Failed(e)) => {
            complain(&format!("{name} load: {e}"));
            Exit::FAILURE
        }
    }
}

fn work(name: &str, language: &Language) -> Exit {
    if let Err(e) = telemetry::start_logging(LogFormat::Text) {
        return sorry(name, &e);
    }
    match load::work_for_another(language) {
        Ok(()) => Exit::SUCCESS,
        Err(e) => sorry(name, &e),
    }
}

// === replay ===

fn replay(name: &str, flags: &ReplayFlags, kinds: &[Arc<dyn AnyRoomKind>]) -> Exit {
    if let Err(e) = telemetry::start_logging(LogFormat::Text) {
        return sorry(name, &e);
    }
    match played_again(&flags.file, kinds) {
        Ok((said, matches)) => {
            say(&said);
            if matches { Exit::SUCCESS } else { Exit::FAILURE }
        }
        Err(e) => sorry(name, &e),
    }
}

/// What an operator reads of a recorded match that is played again; whether the same came of it.
///
/// # Errors
/// As [`Recording::read`] and [`RoomKind::replay`](crate::RoomKind::replay).
pub(crate) fn played_again(
    file: &Path,
    kinds: &[Arc<dyn AnyRoomKind>],
) -> Result<(String, bool), ReplayError> {
    let recording = Recording::read(file)?;
    let (kind, room) = (recording.kind(), recording.room_id());
    let known = kinds.iter().find(|known| known.name() == kind);
    let known = known.ok_or_else(|| ReplayError::Kind(kind.to_owned()))?;
    let replayed = known.replay(&recording)?;
    let hex = |hash: &[u8]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (ticks, inputs, hash) = (replayed.ticks, replayed.inputs, hex(&replayed.hash));
    let cut = if recording.is_cut() { ", as far as it was recorded" } else { "" };
    let verdict = if replayed.matches {
        "the same as recorded".to_owned()
    } else {
        format!("recorded was {}", hex(recording.hash()))
    };
    let said =
        format!("{kind} {room}: {ticks} ticks, {inputs} inputs{cut}\nstate {hash}: {verdict}\n");
    Ok((said, replayed.matches))
}

// === Words to the operator ===

fn sorry(name: &str, error: &dyn fmt::Display) -> Exit {
    complain(&format!("{name}: {error}"));
    Exit::from(EXIT_OPERATOR)
}

fn complain(sentence: &str) {
    // When nobody reads standard error, the exit code must do.
    let _nobody_reads = writeln!(std::io::stderr(), "{sentence}");
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    let _nobody_reads = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn now() -> Instant {
    Instant::now()
}
