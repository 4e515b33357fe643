//! Owns the life of one server: started on a free port, awaited, stopped, frozen, started again.
//! Leaves its command line and how it is asked to `etcd`, `redis` and `postgres`.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this waits for real processes, in tests that have no runtime"
)]

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    guard::{Guard, folder, runs, search_path},
    ports::free_port,
};

/// How long a server may take to answer, or to end: 0.2 to 2 s on an idle machine, more when
/// every core compiles.
const DEADLINE: Duration = Duration::from_secs(60);

/// Short against any start; a look costs microseconds, or a small process.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Ports that are tried before the fault must be another one.
const PORTS_MAX: u32 = 5;

/// Lines of its log that a panic quotes.
const LOG_LINES: usize = 30;

/// How one kind of server is run.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    /// Fills the folder of data, which is absent.
    pub(crate) prepare: fn(&Path),
    /// The command line for a folder and a port. Data go to `data` below the folder.
    pub(crate) command: fn(&Path, u16) -> Vec<OsString>,
    /// The signal after which the server ends in order, whoever is connected.
    pub(crate) stop: &'static str,
    /// Asks the server on that port; false when it does not answer within a second.
    pub(crate) answers: fn(u16) -> bool,
}

/// A server that runs, or did.
#[derive(Debug)]
pub(crate) struct Server {
    recipe: &'static Recipe,
    guard: Guard,
    port: u16,
    /// The id of the server's own process; `None` while it is stopped.
    process: Option<u32>,
}

impl Server {
    /// Starts a server and returns when it answers. When it loses the race for its port, another is
    /// taken.
    pub(crate) fn start(recipe: &'static Recipe) -> Self {
        for _ in 1..PORTS_MAX {
            let mut server = Self::on(recipe, free_port());
            if server.run().is_ok() {
                return server;
            }
        }
        let mut server = Self::on(recipe, free_port());
        server.run().unwrap_or_else(|Ended| server.fail("ended at once"));
        server
    }

    fn on(recipe: &'static Recipe, port: u16) -> Self {
        let folder = folder(recipe.name);
        (recipe.prepare)(&folder.join("data"));
        let command = (recipe.command)(&folder, port);
        Self { recipe, guard: Guard::new(folder, &command), port, process: None }
    }

    /// Ends the server with SIGKILL. Nothing happens to one that does not run.
    pub(crate) fn kill(&mut self) {
        self.end("KILL");
    }

    /// Ends the server in order. One that is frozen is thawed first.
    pub(crate) fn stop(&mut self) {
        if self.process.is_some() {
            self.guard.order("CONT");
            self.end(self.recipe.stop);
        }
    }

    /// Starts the server again on its port and its data, and returns when it answers. One that
    /// runs is stopped first.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let begun = Instant::now();
        // A PostgreSQL that was killed refuses to start while its last child still ends.
        while self.run().is_err() {
            if begun.elapsed() > DEADLINE {
                self.fail("does not start again");
            }
            thread::sleep(LOOK_EVERY * 10);
        }
    }

    /// Forgets the data of a stopped server.
    pub(crate) fn wipe(&mut self) {
        assert!(self.process.is_none(), "{} runs: stop it before its data go", self.recipe.name);
        let data = self.guard.folder().join("data");
        fs::remove_dir_all(&data).unwrap_or_else(|e| panic!("{}: {e}", data.display()));
        (self.recipe.prepare)(&data);
    }

    /// Stops the clock of the server: connections stay, answers do not come.
    pub(crate) fn freeze(&self) {
        assert!(self.process.is_some(), "{} does not run: nothing to freeze", self.recipe.name);
        self.guard.order("STOP");
    }

    /// Undoes [`Server::freeze`].
    pub(crate) fn thaw(&self) {
        assert!(self.process.is_some(), "{} does not run: nothing to thaw", self.recipe.name);
        self.guard.order("CONT");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn process(&self) -> Option<u32> {
        self.process
    }

    pub(crate) fn folder(&self) -> &Path {
        self.guard.folder()
    }

    /// Starts the process and waits for its first answer.
    fn run(&mut self) -> Result<(), Ended> {
        let process = self.guard.order("START");
        self.process = Some(process);
        let begun = Instant::now();
        // Alive after the answer: on a port that was lost, somebody else's server answers.
        while !(self.recipe.answers)(self.port) || !runs(process) {
            if !runs(process) {
                self.guard.order("REAP");
                self.process = None;
                return Err(Ended);
            }
            if begun.elapsed() > DEADLINE {
                self.fail("does not answer");
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn end(&mut self, signal: &str) {
        let Some(process) = self.process.take() else { return };
        self.guard.order(signal);
        let begun = Instant::now();
        while runs(process) {
            if begun.elapsed() > DEADLINE {
                self.fail(&format!("does not end after SIG{signal}"));
            }
            thread::sleep(LOOK_EVERY);
        }
        self.guard.order("REAP");
    }

    fn fail(&self, what: &str) -> ! {
        let log = fs::read_to_string(self.guard.folder().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        panic!("{} on port {} {what}; its log ends:\n{tail}", self.recipe.name, self.port)
    }
}

/// The server ended before it answered.
#[derive(Debug)]
struct Ended;

/// The folders in which the system keeps programs.
pub(crate) fn program_folders() -> Vec<PathBuf> {
    env::split_paths(&search_path()).collect()
}

/// Declares the public half of a server: the methods that all of them have.
macro_rules! life {
    ($server:ident) => {
        impl $server {
            /// SIGKILL; returns when the process is gone.
            pub fn kill(&mut self) {
                self.0.kill();
            }

            /// Ends it in order, whoever is connected; returns when the process is gone.
            pub fn stop(&mut self) {
                self.0.stop();
            }

            /// Starts it again on the same port and the same data; returns when it answers.
            pub fn restart(&mut self) {
                self.0.restart();
            }

            /// SIGSTOP: connections are taken and kept, nothing is answered.
            pub fn freeze(&self) {
                self.0.freeze();
            }

            /// SIGCONT.
            pub fn thaw(&self) {
                self.0.thaw();
            }

            /// The id of its process; `None` while it is stopped.
            pub fn process(&self) -> Option<u32> {
                self.0.process()
            }

            /// Where its log and its data are.
            pub fn folder(&self) -> &Path {
                self.0.folder()
            }
        }
    };
}
pub(crate) use life;
