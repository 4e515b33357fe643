//! Owns the fixture: the town's program, started as a process on free ports.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use bastide_testkit::{assert_none_is_logged, logged, secret};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// A running town.
pub(crate) struct Town {
    process: Child,
    log: PathBuf,
    /// The lines it printed up to the one that tells what to try next.
    pub(crate) banner: Vec<String>,
    pub(crate) addresses: Value,
}

/// The town's program with arguments, in a folder of the test's.
pub(crate) fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_town"));
    command.current_dir(dir).args(args).stdin(Stdio::null()).env_remove("CARGO_PKG_NAME");
    if args.first().is_none_or(|verb| *verb == "dev") {
        // Tests run side by side: none has the ports that codecs have on a machine of their own.
        for door in ["JIGGER__TCP", "MOPE__TCP", "MOPE__UDP"] {
            command.env(format!("BASTIDE_CODECS__{door}"), "127.0.0.1:0");
        }
    }
    command
}

/// Runs the program to its end.
pub(crate) fn run(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

impl Town {
    /// Starts it on free ports; returns when it is ready.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &["--http", "127.0.0.1:0"])
    }

    /// Starts it anew, where its account center and its gate's WebSockets were.
    pub(crate) fn start_at(dir: &Path, http: &str, gate_ws: &str) -> Self {
        Self::start_with(dir, &["--http", http, "--gate-ws", gate_ws])
    }

    pub(crate) fn start_with(dir: &Path, args: &[&str]) -> Self {
        let announce: PathBuf = dir.join("announce.json");
        let mut all = vec!["dev", "--announce", announce.to_str().unwrap()];
        for door in ["--gate-tcp", "--gate-ws", "--gate-quic", "--admin"] {
            if !args.contains(&door) {
                all.extend([door, "127.0.0.1:0"]);
            }
        }
        all.extend(args);
        let log = dir.join("log");
        let mut program = command(dir, &all);
        // All that it can say: no secret may be in it.
        program.env("RUST_LOG", "debug").stderr(File::create(&log).unwrap());
        let mut process = program.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut banner = Vec::new();
        for line in lines {
            banner.push(line.unwrap());
            if banner.last().unwrap().starts_with("Try next") {
                break;
            }
        }
        let announced = fs::read(&announce).unwrap_or_else(|e| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            panic!("{e}: {banner:?} {said}")
        });
        if let Ok(operators) = fs::read_to_string(dir.join("bastide-data/admin.secret")) {
            secret(operators.trim());
        }
        Self { process, log, banner, addresses: serde_json::from_slice(&announced).unwrap() }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> PathBuf {
        self.log.clone()
    }

    pub(crate) fn http(&self) -> String {
        self.addresses["http"][0].as_str().unwrap().to_owned()
    }

    pub(crate) fn gate(&self) -> String {
        self.addresses["gate_tcp"].as_str().unwrap().to_owned()
    }

    pub(crate) fn gate_ws(&self) -> String {
        self.addresses["gate_ws"].as_str().unwrap().to_owned()
    }

    /// Plays against it, as a certain device.
    pub(crate) fn play(&self, dir: &Path, device: &str) -> Output {
        run(dir, &["play", "--addr", &self.http(), "--device", device])
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Its end, within 15 s.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the town did not end");
    }

    /// Stops it as an operator does.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.ended().await
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        // A test that failed must not leave a town behind.
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
        // Its folder may be gone with the test's end.
        logged(&fs::read_to_string(&self.log).unwrap_or_default());
        if !std::thread::panicking() {
            assert_none_is_logged();
        }
    }
}
