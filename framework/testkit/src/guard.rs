//! Owns the shell that stands between a test process and one server, and the server's folder.
//! Leaves when a server starts, stops and answers to `server`.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

/// In shell, since only a process of its own outlives a test program that is killed.
const SCRIPT: &str = include_str!("guard.sh");

/// What an etcd (its log is 64 MB from the start) and a PostgreSQL take, twice, in KiB.
const MEMORY_FREE_MIN: u64 = 1024 * 1024;

/// A shell that holds the read end of a pipe from this process; at its end it kills the server
/// and removes the folder.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    /// Std mutex: held for one order and its answer, which the shell gives at once. `None` only
    /// while the guard is dropped.
    pipes: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    folder: PathBuf,
}

impl Guard {
    /// A guard for a server that `command` names; an empty one guards a folder alone.
    pub(crate) fn new(folder: PathBuf, command: &[OsString]) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(&folder)
            .args(command)
            // Settings of whoever runs the tests (`ETCD_…`, `PG…`) are not for these servers.
            .env_clear()
            .env("PATH", search_path())
            .env("LC_ALL", "C")
            // Ctrl-C goes to a whole group: the guard must live to clean up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        let orders = shell.stdin.take().expect("piped above");
        let answers = BufReader::new(shell.stdout.take().expect("piped above"));
        Self { shell, pipes: Mutex::new(Some((orders, answers))), folder }
    }

    /// Gives an order (see `guard.sh`) and returns the id of the server.
    pub(crate) fn order(&self, order: &str) -> u32 {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let (orders, answers) = pipes.as_mut().expect("the guard is not dropped");
        let mut answer = String::new();
        writeln!(orders, "{order}")
            .and_then(|()| answers.read_line(&mut answer))
            .unwrap_or_else(|e| panic!("the guard of {} is gone: {e}", self.folder.display()));
        answer.trim().parse().unwrap_or_else(|_| {
            panic!("the guard of {} answered {order} with {answer:?}", self.folder.display())
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipes.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        // Nothing to be done about a shell that cannot be waited for: it is gone as well.
        self.shell.wait().ok();
    }
}

/// A new folder for a server. The guard removes it, not this process, which may be killed.
pub(crate) fn folder(name: &str) -> PathBuf {
    let made = tempfile::Builder::new().prefix(&format!("bastide-{name}-")).tempdir_in(place());
    made.unwrap_or_else(|e| panic!("no folder for {name} in {}: {e}", place().display())).keep()
}

/// In memory where there is enough of it (a container has 64 MB by default), since etcd 3.4
/// writes through to the disk each time; else where temporary files go.
fn place() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        if free_kib(memory).is_some_and(|free| free >= MEMORY_FREE_MIN) {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        }
    })
}

fn free_kib(path: &Path) -> Option<u64> {
    let printed = Command::new("df").arg("-Pk").arg(path).output().ok()?.stdout;
    let printed = String::from_utf8(printed).ok()?;
    printed.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

/// Where programs are searched: servers and `setpriv` lie where a plain user's path may not lead.
pub(crate) fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

/// The program of that name in the folders, or the sentence that says how to get it.
pub(crate) fn program(name: &str, package: &str, folders: &[PathBuf]) -> PathBuf {
    folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()).unwrap_or_else(
        || {
            panic!(
                "`{name}` is not installed and the tests need it: run ./services.sh, \
                 or install the package `{package}`"
            )
        },
    )
}

/// Whether a process runs: neither gone nor waiting to be reaped.
pub(crate) fn runs(process: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
    // The name, in parentheses, may hold spaces; the state follows it.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(
        expected = "`etcdd` is not installed and the tests need it: run ./services.sh, \
                               or install the package `etcd-server`"
    )]
    fn a_missing_server_is_told_with_its_package() {
        program("etcdd", "etcd-server", &[PathBuf::from("/usr/bin")]);
    }

    #[test]
    fn a_folder_without_a_server_is_removed_with_its_guard() {
        let guard = Guard::new(folder("empty"), &[]);
        let path = guard.folder().to_owned();
        assert!(path.is_dir());
        drop(guard);
        assert!(!path.exists());
    }
}
