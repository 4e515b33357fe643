//! Owns how Redis is run and asked. Leaves its life to `server`.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use crate::{
    guard::program,
    server::{Recipe, Server, life, program_folders},
};

static RECIPE: Recipe = Recipe { name: "redis-server", prepare, command, stop: "TERM", answers };

/// A Redis that writes nothing down: after `kill` or `stop` its data are gone.
#[derive(Debug)]
pub struct Redis(Server);

impl Redis {
    /// Starts one and returns when it answers.
    ///
    /// # Panics
    ///
    /// When it is not installed or does not start; the text says what to do.
    pub fn start() -> Self {
        Self(Server::start(&RECIPE))
    }

    /// `redis://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.0.port())
    }

    /// What a command answers, a string each; nothing where it answers with none. A space ends a
    /// word of the command.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn ask(&self, command: &str) -> Vec<String> {
        let said = ask(self.0.port(), &format!("{command}\r\nQUIT\r\n"));
        let said = said.unwrap_or_else(|| panic!("no answer to {command} from {}", self.url()));
        // What begins so is a length, or the answer to QUIT.
        let frame = |line: &&str| !line.starts_with(['*', '$', '+']);
        said.lines().filter(frame).map(str::to_owned).collect()
    }

    /// Forgets the data, which a stopped Redis has none of: here so that a test may treat all
    /// servers alike.
    ///
    /// # Panics
    ///
    /// While it runs.
    pub fn wipe(&mut self) {
        self.0.wipe();
    }
}

life!(Redis);

fn prepare(data: &Path) {
    fs::create_dir(data).unwrap_or_else(|e| panic!("{}: {e}", data.display()));
}

fn command(folder: &Path, port: u16) -> Vec<OsString> {
    let redis = program("redis-server", "redis-server", &program_folders());
    let port = port.to_string();
    let mut command = vec![redis.into_os_string(), "--dir".into(), folder.join("data").into()];
    let options = [
        ["--port", &port],
        ["--bind", "127.0.0.1"],
        ["--save", ""],
        ["--appendonly", "no"],
        ["--daemonize", "no"],
        ["--loglevel", "notice"],
    ];
    command.extend(options.as_flattened().iter().map(OsString::from));
    command
}

fn answers(port: u16) -> bool {
    // QUIT ends the connection, and so the answer.
    ask(port, "PING\r\nQUIT\r\n").is_some_and(|said| said.starts_with("+PONG"))
}

/// Sends a request and reads to the end of the connection; `None` when that takes more than a
/// second, or nobody listens.
pub(crate) fn ask(port: u16, request: &str) -> Option<String> {
    let limit = Duration::from_secs(1);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    Some(said)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_asked_in_words_and_answers_in_strings() {
        let redis = &crate::shared().redis;
        let key = crate::cluster_name();
        assert_eq!(redis.ask(&format!("GET {key}")), Vec::<String>::new());
        redis.ask(&format!("SET {key} 7"));
        assert_eq!(redis.ask(&format!("GET {key}")), ["7"]);
        assert_eq!(redis.ask(&format!("KEYS {key}*")), [key]);
    }
}
