//! Owns how etcd is run and asked. Leaves its life to `server`.

use std::{ffi::OsString, path::Path};

use crate::{
    guard::program,
    ports::free_port,
    redis::ask,
    server::{Recipe, Server, life, program_folders},
};

static RECIPE: Recipe = Recipe { name: "etcd", prepare: |_| (), command, stop: "TERM", answers };

/// An etcd of one member. What was written outlives `kill` and `stop`; its leases begin their
/// time anew with each start.
#[derive(Debug)]
pub struct Etcd(Server);

impl Etcd {
    /// Starts one and returns when it answers.
    ///
    /// # Panics
    ///
    /// When it is not installed or does not start; the text says what to do.
    pub fn start() -> Self {
        Self(Server::start(&RECIPE))
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port())
    }

    /// Whether a key is there.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn has(&self, key: &str) -> bool {
        let said = self
            .ask("range", &format!(r#"{{"key":"{}","count_only":true}}"#, base64(key.as_bytes())));
        // A count of 0 is left out.
        said.contains(r#""count""#)
    }

    /// Removes a key, and says what was there: as though nobody had heard of it yet.
    ///
    /// # Panics
    ///
    /// When it does not answer, or there is no such key.
    pub fn take(&self, key: &str) -> Taken {
        let key = base64(key.as_bytes());
        let said = self.ask("deleterange", &format!(r#"{{"key":"{key}","prev_kv":true}}"#));
        let value = said.split_once(r#""value":""#).and_then(|(_, rest)| rest.split_once('"'));
        let value = value.unwrap_or_else(|| panic!("no such key: {said}")).0.to_owned();
        Taken { key, value }
    }

    /// Puts back what was taken, without a lease.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn put_back(&self, taken: &Taken) {
        let Taken { key, value } = taken;
        self.ask("put", &format!(r#"{{"key":"{key}","value":"{value}"}}"#));
    }

    /// It speaks JSON as well, of keys and values in base64.
    fn ask(&self, what: &str, asked: &str) -> String {
        let request = format!(
            "POST /v3/kv/{what} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n{asked}",
            asked.len()
        );
        let said = ask(self.0.port(), &request).unwrap_or_default();
        assert!(said.contains("revision"), "no answer to {what} from {}: {said}", self.url());
        said
    }

    /// Forgets the data.
    ///
    /// # Panics
    ///
    /// While it runs.
    pub fn wipe(&mut self) {
        self.0.wipe();
    }
}

/// A key and its value that are there no more.
#[derive(Debug)]
pub struct Taken {
    key: String,
    value: String,
}

life!(Etcd);

fn command(folder: &Path, port: u16) -> Vec<OsString> {
    let etcd = program("etcd", "etcd-server", &program_folders());
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{}", free_port());
    let mut command = vec![etcd.into_os_string(), "--data-dir".into(), folder.join("data").into()];
    let options = [
        ["--name", "test"],
        ["--listen-client-urls", &client],
        ["--advertise-client-urls", &client],
        ["--listen-peer-urls", &peer],
        ["--initial-advertise-peer-urls", &peer],
        ["--initial-cluster", &format!("test={peer}")],
        // A member alone elects itself after this long, and no lease is shorter than 1.5 of it:
        // 200 ms instead of 1 s lets tests start fast and let leases run out after one second.
        ["--heartbeat-interval", "20"],
        ["--election-timeout", "200"],
        ["--logger", "zap"],
        ["--log-level", "warn"],
        ["--log-outputs", "stderr"],
    ];
    command.extend(options.as_flattened().iter().map(OsString::from));
    command
}

fn answers(port: u16) -> bool {
    let request = "GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n";
    ask(port, request).is_some_and(|said| said.contains(r#""health":"true""#))
}

/// As its JSON wants bytes.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, n| bits << 8 | u32::from(*group.get(n).unwrap_or(&0)));
        for n in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * n)) as usize & 63];
            text.push(if n > group.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_nobody_put_is_not_there() {
        assert!(!crate::shared().etcd.has("nobody"));
    }

    #[test]
    fn bytes_are_written_as_json_wants_them() {
        let written = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
        assert_eq!(written, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }
}
