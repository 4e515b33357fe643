//! Owns configuration: defaults, then a TOML file, then the environment, then flags, each
//! stronger than the one before. Whatever is wrong is said in one sentence with the key, the
//! value, where it came from and what to do.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    thread::available_parallelism,
    time::Duration,
};

use clap::{Args, ValueEnum};
use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Toml},
    util::nest,
    value::{Dict, Map, Value},
};
use serde::{Deserialize, Deserializer, de};

use crate::wire::FRAME_BYTES_MAX;

/// Everything an operator can set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) cluster: Cluster,
    pub(crate) node: Node,
    pub(crate) account: Account,
    pub(crate) gate: Gate,
    pub(crate) game: Game,
    pub(crate) store: Store,
    pub(crate) admin: Admin,
    pub(crate) shutdown: Shutdown,
    pub(crate) log: Log,
    /// Folder of the SQLite file.
    pub(crate) data: Data,
    /// File that the addresses are written to, once ready.
    pub(crate) announce: Option<PathBuf>,
    /// Moves every address that is not set itself to this port and those above it.
    pub(crate) port_base: Option<u16>,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct $name {
            $($(#[$field_doc])* pub(crate) $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// `[cluster]`
    Cluster {
        /// Names the cluster in tokens and in discovery: 1 to 64 letters, digits, `-`, `_`.
        name: String = "dev".to_owned(),
    }
}

section! {
    /// `[node]`
    Node {
        /// Threads that carry connections and entities; one a core.
        shards: usize = available_parallelism().map_or(1, usize::from).min(SHARDS_MAX),
    }
}

section! {
    /// `[account]`
    Account {
        /// Addresses of the account center's HTTP.
        listen: Vec<SocketAddr> = (8080..8083).map(local).collect(),
        /// How long an access token is good.
        #[serde(deserialize_with = "duration")]
        token_ttl: Duration = Duration::from_secs(2 * 3600),
    }
}

section! {
    /// `[gate]`
    Gate {
        /// Address for TCP clients.
        tcp: SocketAddr = local(3017),
        /// What clients are told to connect to, `ip:port`; absent: the address listened on.
        advertise: Option<String> = None,
        /// Largest frame of a signed-in client, its size field included.
        frame_bytes_max: usize = FRAME_BYTES_MAX,
        /// Frames a second and connection; 0: no limit, for benchmarks. Beyond: 1007.
        rate_frames_per_s: u32 = 100,
        /// Frames at once, after a pause.
        rate_burst_frames: u32 = 200,
        /// Bytes that wait for one client. Beyond: kicked, 2008.
        outbox_bytes_max: usize = 1024 * 1024,
        /// Connections in all. Beyond: closed at accept. Mind the limit of open files.
        connections_max: usize = 16_000,
        /// Connections from one address, or one IPv6 network of 64 bits.
        connections_per_ip_max: usize = 4_096,
        /// Time to sign in.
        #[serde(deserialize_with = "duration")]
        sign_in_timeout: Duration = Duration::from_secs(30),
        /// Time without a frame.
        #[serde(deserialize_with = "duration")]
        idle_timeout: Duration = Duration::from_secs(60),
        /// Requests of one session without an answer. Beyond: it is not read until some are.
        requests_in_flight_max: usize = 1024,
    }
}

section! {
    /// `[game]`
    Game {
        /// How long a handler may take.
        #[serde(deserialize_with = "duration")]
        request_timeout: Duration = Duration::from_secs(5),
        /// A changed state is written at most this much later.
        #[serde(deserialize_with = "duration")]
        save_interval: Duration = Duration::from_secs(5),
        /// How long a player without a connection stays in memory.
        #[serde(deserialize_with = "duration")]
        linger: Duration = Duration::from_secs(60),
    }
}

section! {
    /// `[store]`
    Store {
        /// `sqlite:///path`; absent: a file in the data folder.
        url: Option<Url> = None,
    }
}

section! {
    /// `[admin]`
    Admin {
        /// Address of the operators' pages.
        listen: SocketAddr = local(9600),
    }
}

section! {
    /// `[shutdown]`
    Shutdown {
        /// How long draining may take.
        #[serde(deserialize_with = "duration")]
        grace: Duration = Duration::from_secs(10),
    }
}

section! {
    /// `[log]`
    Log {
        /// How lines look.
        format: LogFormat = LogFormat::Text,
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines: a JSON object a line.
    Json,
}

/// The folder that data lies in.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Data(pub(crate) PathBuf);

impl Default for Data {
    fn default() -> Self {
        Self("./bastide-data".into())
    }
}

/// A URL that may hold a password; shown without it.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Url(pub(crate) String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

/// A URL without its password, be it before the host or among the parameters.
pub(crate) fn redacted(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = url.split_at(start);
    // The last '@', wherever it is: a password may hold a '/', '#' or '@' that is not escaped,
    // and hiding too much is better than too little.
    let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    let user = match user.split_once(':') {
        Some((name, _)) => format!("{name}:…@"),
        None => rest[..rest.len() - place.len()].to_owned(),
    };
    let secret = |q: &str| ["pass", "pwd", "secret", "token"].iter().any(|word| q.contains(word));
    match place.split_once('?') {
        Some((place, q)) if secret(&q.to_lowercase()) => format!("{scheme}{user}{place}?…"),
        _ => format!("{scheme}{user}{place}"),
    }
}

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Flags that set configuration; every other key by `--set`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Flags {
    /// TOML file with settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the SQLite file [default: ./bastide-data].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Moves every address to N, N+1, …, so that several towns run side by side.
    #[arg(long, value_name = "N")]
    port_base: Option<String>,
    /// Writes the addresses to a JSON file, once ready.
    #[arg(long, value_name = "FILE")]
    announce: Option<PathBuf>,
    /// Addresses of the account center's HTTP [default: 127.0.0.1:8080,8081,8082].
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    http: Vec<String>,
    /// Address for TCP clients [default: 127.0.0.1:3017].
    #[arg(long, value_name = "ADDR")]
    gate_tcp: Option<String>,
    /// What clients are told to connect to, ip:port.
    #[arg(long, value_name = "ADDR")]
    gate_advertise: Option<String>,
    /// Address of the operators' pages [default: 127.0.0.1:9600].
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Where accounts and players are kept, sqlite:///path.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT")]
    log: Option<LogFormat>,
    /// Sets any other key, such as --set gate.idle_timeout=30s.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// What is wrong with the configuration, in a sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file named by `--config` cannot be read.
    #[error("--config {}: {source}; name a file that exists and that you may read", .path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// The file is not TOML.
    #[error("{}: {why}; mend the file", .path.display())]
    Syntax { path: PathBuf, why: String },
    /// `--set` without `=`, or with a key that cannot be one.
    #[error("--set {0}: not of the form KEY=VALUE, such as gate.idle_timeout=30s")]
    Set(String),
    /// A key that does not exist.
    #[error("{origin}: there is no setting `{key}`; {hint}")]
    Unknown { origin: String, key: String, hint: String },
    /// A value that is not of its key's kind, out of range, or at odds with another.
    #[error("{key} = {value} ({origin}): {remedy}")]
    Value { origin: String, key: String, value: String, remedy: String },
    /// A variable of ours that is not text.
    #[error("{0}: the value is not UTF-8; set it anew or unset it")]
    Environment(String),
}

impl Config {
    /// Reads what the flags, the environment and the file say.
    pub(crate) fn load(flags: &Flags) -> Result<Self, ConfigError> {
        Self::load_with(flags, ours(std::env::vars_os())?.into_iter())
    }

    fn load_with(
        flags: &Flags,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let file = flags.config.as_deref().map_or_else(|| Ok(Figment::new()), file)?;
        let figment = flags.onto(onto(file, environment))?;
        let mut config: Self = figment.extract_lossy().map_err(|e| explain(&figment, e))?;
        let checked = config.move_ports(&figment).and_then(|()| config.check());
        checked.map_err(|e| e.located(&figment))?;
        Ok(config)
    }

    /// Where accounts and players are kept.
    pub(crate) fn store_url(&self) -> String {
        match &self.store.url {
            Some(url) => url.0.clone(),
            None => format!("sqlite://{}", self.data.0.join("town.db").display()),
        }
    }

    /// HTTP at N, N+1, N+2, gate TCP N+3, admin N+6; N+4 and N+5 are the gate's other carriers'.
    fn move_ports(&mut self, figment: &Figment) -> Result<(), ConfigError> {
        let Some(base) = self.port_base else { return Ok(()) };
        if base == 0 || base > u16::MAX - PORTS {
            let remedy = format!("choose a base from 1 to {}", u16::MAX - PORTS);
            return Err(check("port_base", base, remedy));
        }
        if !figment.contains("account.listen") {
            for (addr, n) in self.account.listen.iter_mut().zip(0..) {
                addr.set_port(base + n);
            }
        }
        for (key, addr, n) in
            [("gate.tcp", &mut self.gate.tcp, 3), ("admin.listen", &mut self.admin.listen, 6)]
        {
            if !figment.contains(key) {
                addr.set_port(base + n);
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let name = &self.cluster.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(check("cluster.name", name, "choose 1 to 64 letters, digits, '-' and '_'"));
        }
        let gate = &self.gate;
        for (key, value, from, to) in [
            ("node.shards", self.node.shards, 1, SHARDS_MAX),
            ("gate.frame_bytes_max", gate.frame_bytes_max, 4096, FRAME_BYTES_MAX),
            ("gate.rate_burst_frames", gate.rate_burst_frames as usize, 1, 1 << 20),
            ("gate.outbox_bytes_max", gate.outbox_bytes_max, 128 * 1024, 1 << 30),
            ("gate.connections_max", gate.connections_max, 1, 1 << 20),
            ("gate.connections_per_ip_max", gate.connections_per_ip_max, 1, 1 << 20),
            ("gate.requests_in_flight_max", gate.requests_in_flight_max, 1, 65_536),
            ("account.listen (how many)", self.account.listen.len(), 1, 16),
        ] {
            if value < from || value > to {
                return Err(check(key, value, format!("choose a number from {from} to {to}")));
            }
        }
        for (key, value) in [
            ("account.token_ttl", self.account.token_ttl),
            ("gate.sign_in_timeout", gate.sign_in_timeout),
            ("gate.idle_timeout", gate.idle_timeout),
            ("game.request_timeout", self.game.request_timeout),
            ("game.save_interval", self.game.save_interval),
        ] {
            if value.is_zero() {
                return Err(check(key, "0s", "choose a time above 0, such as 30s"));
            }
        }
        if self.data.0.as_os_str().is_empty() {
            return Err(check("data", "\"\"", "name a folder, such as ./bastide-data"));
        }
        self.check_addresses()
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        let reachable = |addr: SocketAddr| addr.port() != 0 && !addr.ip().is_unspecified();
        if let Some(told) = &self.gate.advertise
            && !told.parse().is_ok_and(reachable)
        {
            let remedy = "write the ip:port that clients reach, such as 203.0.113.5:3017";
            return Err(check("gate.advertise", redacted(told), remedy));
        }
        let http = self.account.listen.iter().map(|a| ("account.listen", *a));
        let others = [("gate.tcp", self.gate.tcp), ("admin.listen", self.admin.listen)];
        let mut taken = BTreeMap::new();
        for (key, addr) in http.chain(others).filter(|(_, a)| a.port() != 0) {
            if let Some(other) = taken.insert(addr, key) {
                let remedy = format!("{other} has this address too: give one of them another port");
                return Err(check(key, addr, remedy));
            }
        }
        Ok(())
    }
}

impl ConfigError {
    /// Adds where the value of a failed check came from.
    fn located(mut self, figment: &Figment) -> Self {
        if let Self::Value { origin, key, .. } = &mut self {
            let plain = key.split(' ').next().unwrap_or_default();
            *origin = place(figment.find_metadata(plain));
        }
        self
    }
}

/// Ports that `--port-base` takes, less one.
const PORTS: u16 = 6;

/// More threads than any machine that a gate was measured on has cores.
const SHARDS_MAX: usize = 256;

/// What begins the name of an environment variable of ours.
const PREFIX: &str = "BASTIDE_";

/// A value that is refused; [`ConfigError::located`] says where it came from.
fn check(
    key: impl fmt::Display,
    value: impl fmt::Display,
    remedy: impl Into<String>,
) -> ConfigError {
    let (key, value) = (key.to_string(), value.to_string());
    ConfigError::Value { origin: String::new(), key, value, remedy: remedy.into() }
}

/// The variables that are ours. Other people's may be anything: they are not even decoded.
fn ours(
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let named = environment.map(|(name, value)| (name.to_string_lossy().into_owned(), value));
    named
        .filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(ConfigError::Environment(name)),
        })
        .collect()
}

fn file(path: &Path) -> Result<Figment, ConfigError> {
    let failed = |source| ConfigError::File { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(failed)?;
    let syntax = |why: String| ConfigError::Syntax { path: path.to_owned(), why };
    let dict: Dict = Toml::from_str(&text).map_err(|e| {
        // The error's own text quotes the line, and with it a password that stands there.
        let at = e.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        syntax(format!("line {line} is not TOML: {}", e.message().trim().replace('\n', ", ")))
    })?;
    Ok(Figment::from(Named { origin: path.display().to_string(), dict }))
}

/// Adds the environment: `BASTIDE_GATE__IDLE_TIMEOUT=30s`.
fn onto(figment: Figment, environment: impl Iterator<Item = (String, String)>) -> Figment {
    // Backwards, so that BASTIDE_GATE, which is not a setting, is not hidden by BASTIDE_GATE__TCP.
    let sorted: BTreeMap<_, _> = environment.collect();
    sorted.iter().rev().fold(figment, |figment, (name, value)| match name.strip_prefix(PREFIX) {
        Some(key) if !key.starts_with("BENCH_") => {
            set(figment, name, &key.to_lowercase().replace("__", "."), value)
        }
        _ => figment,
    })
}

impl Flags {
    fn onto(&self, mut figment: Figment) -> Result<Figment, ConfigError> {
        for pair in &self.set {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| ConfigError::Set(pair.clone()))?;
            if key.is_empty() {
                return Err(ConfigError::Set("=…".to_owned()));
            }
            figment = set(figment, &format!("--set {key}"), key, value);
        }
        let shown = |path: &PathBuf| path.display().to_string();
        let http = (!self.http.is_empty()).then(|| self.http.join(","));
        let given = [
            ("--data", "data", self.data.as_ref().map(shown)),
            ("--port-base", "port_base", self.port_base.clone()),
            ("--announce", "announce", self.announce.as_ref().map(shown)),
            ("--http", "account.listen", http),
            ("--gate-tcp", "gate.tcp", self.gate_tcp.clone()),
            ("--gate-advertise", "gate.advertise", self.gate_advertise.clone()),
            ("--admin", "admin.listen", self.admin.clone()),
            ("--store", "store.url", self.store.clone()),
            ("--log", "log.format", self.log.map(|f| format!("{f:?}").to_lowercase())),
        ];
        Ok(given.into_iter().fold(figment, |figment, (flag, key, value)| match value {
            Some(value) => set(figment, flag, key, &value),
            None => figment,
        }))
    }
}

/// Adds one setting from a place that has text only; a list has commas.
fn set(figment: Figment, origin: &str, key: &str, text: &str) -> Figment {
    let value: Value = match key {
        "account.listen" => text.split(',').map(str::trim).collect::<Vec<_>>().into(),
        _ => text.into(),
    };
    // A key that begins with a dot nests nothing; it is unknown, and must be told so.
    let dict =
        nest(key, value).into_dict().unwrap_or_else(|| Dict::from([(key.to_owned(), text.into())]));
    figment.merge(Named { origin: origin.to_owned(), dict })
}

/// Settings from one place, which errors name.
struct Named {
    origin: String,
    dict: Dict,
}

impl Provider for Named {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// Turns figment's error into a sentence.
fn explain(figment: &Figment, error: figment::Error) -> ConfigError {
    use figment::error::Kind;
    // Several may be wrong at once; one sentence at a time is what a person mends.
    let Some(error) = error.into_iter().next() else {
        return check("configuration", "?", "cannot be read");
    };
    let (key, origin) = (error.path.join("."), place(error.metadata.as_ref()));
    // The text of some kinds quotes the value, and with it a password.
    let remedy = match &error.kind {
        Kind::UnknownField(_, known) => {
            let hint = format!("this section has: {}", known.join(", "));
            return ConfigError::Unknown { origin, key, hint };
        }
        Kind::InvalidType(_, wanted) | Kind::InvalidValue(_, wanted) => expected(wanted),
        Kind::Message(message) => expected(message),
        other => other.to_string(),
    };
    // An item of a list is told with its list: it cannot be looked up by itself.
    let list = key.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit());
    let value = figment.find_value(list).map(|v| shown(&v)).unwrap_or_default();
    ConfigError::Value { origin, key, value, remedy }
}

/// What to write instead, from serde's word for the type.
fn expected(wanted: &str) -> String {
    match wanted {
        "u16" | "u32" | "u64" | "usize" => "write a whole number".to_owned(),
        "path string" => "write a path".to_owned(),
        _ if wanted.starts_with("struct ") => "this is a section: set the keys in it".to_owned(),
        _ if wanted.contains("socket address") => {
            "write an address, ip:port, such as 127.0.0.1:3017".to_owned()
        }
        _ => format!("write {wanted}"),
    }
}

/// The place of a setting, as its writer knows it.
fn place(metadata: Option<&Metadata>) -> String {
    metadata.map_or_else(|| "default".to_owned(), |m| m.name.to_string())
}

/// A value as it was written, without a password.
fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) => redacted(text),
        Value::Char(_, c) => c.to_string(),
        Value::Bool(_, b) => b.to_string(),
        Value::Num(_, n) => match (n.to_u128(), n.to_i128(), n.to_f64()) {
            (Some(n), ..) => n.to_string(),
            (_, Some(n), _) => n.to_string(),
            (.., n) => n.map_or_else(String::new, |n| n.to_string()),
        },
        Value::Empty(..) => String::new(),
        Value::Dict(..) => "a section".to_owned(),
        Value::Array(_, items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
    }
}

/// `30s`, `2h`, `250ms`, or a whole number of seconds.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a time such as 30s, 2h, 250ms, or a whole number of seconds")]
    enum Written {
        Seconds(u64),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Seconds(seconds) => Ok(Duration::from_secs(seconds)),
        // From the environment and from flags, a number comes as text too.
        Written::Text(text) => text
            .parse()
            .map(Duration::from_secs)
            .or_else(|_| humantime::parse_duration(&text))
            .map_err(|_| de::Error::custom("a time such as 30s, 2h, or a whole number of seconds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &[&str], environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            flags: Flags,
        }
        let line = [&["town"], flags].concat();
        let flags = <Line as clap::Parser>::try_parse_from(line).expect("flags").flags;
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load_with(&flags, environment)
    }

    fn load_file(
        text: &str,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("town.toml");
        fs::write(&path, text).expect("written");
        load(&[&["--config", path.to_str().expect("text")], flags].concat(), environment)
    }

    fn says(result: Result<Config, ConfigError>, parts: &[&str]) {
        let sentence = result.map(|_| ()).expect_err("refused").to_string();
        for part in parts {
            assert!(sentence.contains(part), "{part:?} is not in: {sentence}");
        }
        assert!(!sentence.contains('\n'), "one sentence: {sentence}");
    }

    #[test]
    fn without_anything_said_the_defaults_of_dev_hold() {
        let config = load(&[], &[]).expect("defaults");
        assert_eq!(config.account.listen, [local(8080), local(8081), local(8082)]);
        assert_eq!((config.gate.tcp, config.admin.listen), (local(3017), local(9600)));
        assert_eq!(config.gate.idle_timeout, Duration::from_secs(60));
        assert_eq!(config.store_url(), "sqlite://./bastide-data/town.db");
    }

    #[test]
    fn a_flag_beats_the_environment_and_the_environment_beats_the_file() {
        let file = "[gate]\ntcp = \"127.0.0.1:1\"\nidle_timeout = \"1s\"\nsign_in_timeout = 7";
        let environment =
            [("BASTIDE_GATE__TCP", "127.0.0.1:2"), ("BASTIDE_GATE__IDLE_TIMEOUT", "2")];
        let config = load_file(file, &["--gate-tcp", "127.0.0.1:3"], &environment).expect("fine");
        assert_eq!(config.gate.tcp, local(3));
        assert_eq!(config.gate.idle_timeout, Duration::from_secs(2));
        assert_eq!(config.gate.sign_in_timeout, Duration::from_secs(7));
    }

    #[test]
    fn set_reaches_every_key() {
        let config =
            load(&["--set", "gate.rate_frames_per_s=0", "--set", "game.linger=250ms"], &[]);
        let config = config.expect("fine");
        assert_eq!(config.gate.rate_frames_per_s, 0);
        assert_eq!(config.game.linger, Duration::from_millis(250));
        says(load(&["--set", "gate"], &[]), &["--set gate", "KEY=VALUE"]);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_known_ones() {
        says(load_file("[gate]\ntpc = 1", &[], &[]), &["town.toml", "`gate.tpc`", "tcp"]);
        says(load_file("[gaet]\ntcp = 1", &[], &[]), &["`gaet`", "gate"]);
        says(load(&[], &[("BASTIDE_", "1")]), &["BASTIDE_", "``"]);
        says(load(&["--set", ".tcp=1"], &[]), &["--set .tcp", "`.tcp`"]);
        says(load(&[], &[("BASTIDE_GATE__TPC", "1")]), &["BASTIDE_GATE__TPC", "tcp"]);
        says(load(&["--set", "gate.tpc=1"], &[]), &["--set gate.tpc", "tcp"]);
    }

    #[test]
    fn a_bad_value_is_named_with_its_key_its_place_and_what_is_expected() {
        says(load(&["--gate-tcp", "nonsense"], &[]), &["--gate-tcp", "gate.tcp", "nonsense"]);
        says(load(&["--http", "127.0.0.1:0,x"], &[]), &["--http", "x"]);
        says(
            load(&[], &[("BASTIDE_GATE__IDLE_TIMEOUT", "soon")]),
            &["BASTIDE_GATE__IDLE_TIMEOUT", "gate.idle_timeout", "soon", "such as 30s"],
        );
        says(load_file("[gate]\ntcp = 5", &[], &[]), &["town.toml", "gate.tcp", "5"]);
    }

    #[test]
    fn a_value_out_of_range_is_told_the_range() {
        says(load(&["--set", "node.shards=0"], &[]), &["node.shards", "0", "1 to 256"]);
        says(load(&["--set", "gate.idle_timeout=0"], &[]), &["gate.idle_timeout", "above 0"]);
        says(load(&["--set", "cluster.name=a/b"], &[]), &["cluster.name", "a/b"]);
        says(load(&["--set", "gate.frame_bytes_max=70000"], &[]), &["65537"]);
    }

    #[test]
    fn a_file_that_is_missing_or_is_not_toml_is_named() {
        says(load(&["--config", "/no/such.toml"], &[]), &["/no/such.toml", "exists"]);
        says(load_file("[gate", &[], &[]), &["town.toml", "line 1"]);
    }

    #[test]
    fn the_place_of_a_value_out_of_range_is_named() {
        says(load_file("[node]\nshards = 0", &[], &[]), &["node.shards = 0", "town.toml"]);
        says(
            load(&[], &[("BASTIDE_NODE__SHARDS", "257")]),
            &["(BASTIDE_NODE__SHARDS)", "1 to 256"],
        );
        says(load(&["--port-base", "0"], &[]), &["port_base = 0", "(--port-base)", "1 to 65529"]);
        says(load(&["--gate-tcp", "127.0.0.1:8080"], &[]), &["(--gate-tcp)"]);
        says(load(&[], &[("BASTIDE_DATA", "")]), &["(BASTIDE_DATA)", "name a folder"]);
        says(
            load(&["--set", "gate.rate_burst_frames=0"], &[]),
            &["gate.rate_burst_frames", "from 1"],
        );
        for told in ["nonsense", "0.0.0.0:3017", "203.0.113.5:0"] {
            says(load(&["--gate-advertise", told], &[]), &["(--gate-advertise)", told, "ip:port"]);
        }
        says(
            load(&["--set", "gate.tcp=127.0.0.1:9", "--admin", "127.0.0.1:9"], &[]),
            &["gate.tcp"],
        );
    }

    #[test]
    fn what_comes_as_text_is_read_as_its_key_wants_it() {
        let environment = [
            ("BASTIDE_CLUSTER__NAME", "5"),
            ("BASTIDE_GATE__RATE_FRAMES_PER_S", "7"),
            ("BASTIDE_GATE__IDLE_TIMEOUT", "9"),
            ("BASTIDE_ACCOUNT__LISTEN", "127.0.0.1:1, 127.0.0.1:2"),
            ("BASTIDE_DATA", "2026"),
        ];
        let config = load(&[], &environment).expect("fine");
        assert_eq!((config.cluster.name.as_str(), config.gate.rate_frames_per_s), ("5", 7));
        assert_eq!(config.gate.idle_timeout, Duration::from_secs(9));
        assert_eq!(config.account.listen, [local(1), local(2)]);
        assert_eq!(config.data.0, Path::new("2026"));
        says(load(&[], &[("BASTIDE_ACCOUNT__LISTEN", "127.0.0.1")]), &["127.0.0.1", "ip:port"]);
        let environment = [("BASTIDE_GATE", "5"), ("BASTIDE_GATE__TCP", "127.0.0.1:1")];
        says(load(&[], &environment), &["BASTIDE_GATE", "gate = 5", "section"]);
        says(load_file("[gate]\nidle_timeout = 1.5", &[], &[]), &["= 1.5", "such as 30s"]);
        says(load_file("[gate]\nconnections_max = -5", &[], &[]), &["= -5", "a whole number"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_text_matters_only_if_it_is_ours() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = || OsString::from_vec(vec![0xff]);
        let of = |name: &str| ours([(OsString::from(name), odd())].into_iter());
        assert_eq!(of("LS_COLORS").expect("not ours"), []);
        let sentence = of("BASTIDE_DATA").expect_err("ours").to_string();
        assert!(sentence.contains("BASTIDE_DATA") && sentence.contains("UTF-8"), "{sentence}");
    }

    #[test]
    fn port_base_moves_what_is_not_set_itself() {
        let config = load(&["--port-base", "20000"], &[]).expect("fine");
        assert_eq!(config.account.listen, [local(20_000), local(20_001), local(20_002)]);
        assert_eq!((config.gate.tcp, config.admin.listen), (local(20_003), local(20_006)));
        let config =
            load(&["--port-base", "20000", "--gate-tcp", "127.0.0.1:5"], &[]).expect("fine");
        assert_eq!((config.gate.tcp, config.admin.listen), (local(5), local(20_006)));
        for bad in ["0", "65530", "70000", "x"] {
            says(load(&["--port-base", bad], &[]), &["port_base", bad]);
        }
    }

    #[test]
    fn two_doors_with_one_address_are_named_both() {
        says(load(&["--gate-tcp", "127.0.0.1:8080"], &[]), &["account.listen", "gate.tcp"]);
        load(&["--gate-tcp", "127.0.0.1:0", "--admin", "127.0.0.1:0"], &[]).expect("0 is any");
    }

    #[test]
    fn a_password_in_a_url_is_never_shown() {
        let config = load(&["--store", "postgres://town:s3cret@db/town"], &[]).expect("fine");
        assert!(!format!("{config:?}").contains("s3cret"));
        assert_eq!(redacted("postgres://town:s3c@ret@db/x"), "postgres://town:…@db/x");
        assert_eq!(redacted("sqlite:///var/town.db"), "sqlite:///var/town.db");
        assert_eq!(redacted("redis://10.0.0.6:6379"), "redis://10.0.0.6:6379");
        assert_eq!(redacted("postgres://town@db:5/x"), "postgres://town@db:5/x");
        assert_eq!(redacted("postgres://town:s3/c#ret@db/x"), "postgres://town:…@db/x");
        assert_eq!(redacted("town:s3cret@db"), "town:…@db");
        assert_eq!(redacted("pg://db/x?a=1&Password=s3cret"), "pg://db/x?…");
    }

    #[test]
    fn no_mistake_beside_a_password_shows_it() {
        let url = "postgres://town:s3cret@db/town";
        for wrong in [
            load_file(&format!("[store]\nurl = \"{url}\" oops"), &[], &[]),
            load_file(&format!("[gate]\ntcp = \"{url}\""), &[], &[]),
            load_file(&format!("[gate]\nidle_timeout = \"{url}\""), &[], &[]),
            load_file(&format!("[node]\nshards = \"{url}\""), &[], &[]),
            load_file(&format!("[stroe]\nurl = \"{url}\""), &[], &[]),
            load(&["--set", "=s3cret"], &[]),
            load(&["--gate-advertise", url], &[]),
            load(&["--set", &format!("store={url}")], &[]),
        ] {
            let sentence = wrong.map(|_| ()).expect_err("refused").to_string();
            assert!(!sentence.contains("s3cret"), "{sentence}");
        }
    }
}
