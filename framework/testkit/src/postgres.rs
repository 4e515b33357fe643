//! Owns how PostgreSQL is run and asked, as which user, and how a database is made. Leaves its
//! life to `server`.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{
    cluster_name,
    guard::{Guard, folder, program, search_path},
    server::{Recipe, Server, life, program_folders},
};

/// SIGINT is the "fast" end; SIGTERM waits until the last client has gone.
static RECIPE: Recipe = Recipe { name: "postgres", prepare, command, stop: "INT", answers };

/// A PostgreSQL that trusts the loopback; its superuser is `postgres`. Committed data outlive
/// `kill` and `stop`, though not a crash of the machine: nothing is written through.
#[derive(Debug)]
pub struct Postgres(Server);

impl Postgres {
    /// Starts one and returns when it answers.
    ///
    /// # Panics
    ///
    /// When it is not installed or does not start; the text says what to do.
    pub fn start() -> Self {
        Self(Server::start(&RECIPE))
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`, the database that is always there.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Creates an empty database with a name of its own, and returns its url.
    ///
    /// # Panics
    ///
    /// When the server does not let it.
    pub fn database(&self) -> String {
        let name = cluster_name().replace('-', "_");
        self.sql(&format!("CREATE DATABASE {name}"));
        self.url_of(&name)
    }

    /// Runs statements as the superuser, for what a test sets up, such as users; returns what
    /// `psql` prints, fields apart by `|`.
    ///
    /// # Panics
    ///
    /// When one of them fails.
    pub fn sql(&self, statements: &str) -> String {
        self.sql_in(&self.url(), statements)
    }

    /// The same in a database of this server.
    ///
    /// # Panics
    ///
    /// When one of them fails.
    pub fn sql_in(&self, database: &str, statements: &str) -> String {
        let mut psql = Command::new(tool("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database]);
        printed(psql.args(["-c", statements]))
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.0.port())
    }
}

life!(Postgres);

/// Makes the folder of data: a copy of one that is made once for each process, since `initdb`
/// takes a second.
fn prepare(data: &Path) {
    static TEMPLATE: OnceLock<Guard> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let guard = Guard::new(folder("initdb"), &[]);
        give_away(guard.folder());
        let mut initdb = as_server(tool("initdb"));
        initdb
            .extend(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C"].map(Into::into));
        initdb.extend(["--no-sync", "-D"].map(Into::into));
        initdb.push(guard.folder().join("data").into());
        printed(Command::new(&initdb[0]).args(&initdb[1..]).current_dir("/"));
        guard
    });
    give_away(data.parent().expect("data lie below a server's folder"));
    printed(Command::new("cp").arg("-a").arg(template.folder().join("data")).arg(data));
}

fn command(folder: &Path, port: u16) -> Vec<OsString> {
    let mut command = as_server(tool("postgres"));
    command.extend(["-p".into(), port.to_string().into()]);
    command.extend(["-D".into(), folder.join("data").into()]);
    command.extend(["-k".into(), folder.into()]);
    let settings = [
        "listen_addresses=127.0.0.1",
        "max_connections=400",
        "shared_buffers=32MB",
        // A test's data may be lost with the machine. `synchronous_commit` stays on: without it
        // a killed server loses the commits of its last 200 ms, and little is won beside this.
        "fsync=off",
        "full_page_writes=off",
        // In the folder of data, so that a killed server leaves nothing behind in /dev/shm.
        "dynamic_shared_memory_type=mmap",
    ];
    command.extend(settings.iter().flat_map(|setting| ["-c", setting]).map(OsString::from));
    command
}

fn answers(port: u16) -> bool {
    let mut ready = Command::new(tool("pg_isready"));
    ready.args(["-q", "-t", "1", "-h", "127.0.0.1", "-p", &port.to_string()]);
    ready.status().is_ok_and(|status| status.success())
}

/// A program of the newest PostgreSQL here.
fn tool(name: &str) -> PathBuf {
    static FOLDERS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let folders = FOLDERS.get_or_init(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path()).collect();
        versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
        let mut folders: Vec<_> = versions.iter().map(|path| path.join("bin")).collect();
        folders.extend(program_folders());
        folders
    });
    program(name, "postgresql", folders)
}

/// The command as the user that the server may run as: it refuses root.
fn as_server(tool: PathBuf) -> Vec<OsString> {
    let mut command = Vec::new();
    if root() {
        let setpriv = program("setpriv", "util-linux", &program_folders());
        command.push(setpriv.into_os_string());
        let user = ["--reuid=postgres", "--regid=postgres", "--init-groups", "--"];
        command.extend(user.map(Into::into));
    }
    command.push(tool.into_os_string());
    command
}

/// Lets the user that the server runs as own a folder.
fn give_away(folder: &Path) {
    if root() {
        printed(Command::new("chown").arg("postgres:postgres").arg(folder));
    }
}

fn root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| printed(Command::new("id").arg("-u")).trim() == "0")
}

/// What a command prints; a panic with all it said when it fails.
fn printed(command: &mut Command) -> String {
    command.env_clear().env("PATH", search_path()).env("LC_ALL", "C");
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}{error}");
    said
}
