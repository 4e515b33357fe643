//! Owns where settings come from: file, environment, flags, in that order of strength; and the
//! sentence that tells what is wrong, with the place where it was said.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Toml},
    util::nest,
    value::{Dict, Map, Value},
};

use super::{Config, LogFormat, check::refused, redacted};

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
    /// Addresses for TCP clients; "" for none [default: 127.0.0.1:3017].
    #[arg(long, value_name = "ADDR")]
    gate_tcp: Option<String>,
    /// Addresses for WebSocket clients; "" for none [default: 127.0.0.1:18080].
    #[arg(long, value_name = "ADDR")]
    gate_ws: Option<String>,
    /// UDP addresses for QUIC clients; "" for none [default: 127.0.0.1:3017].
    #[arg(long, value_name = "ADDR")]
    gate_quic: Option<String>,
    /// What clients are told to connect to, ip:port.
    #[arg(long, value_name = "ADDR")]
    gate_advertise: Option<String>,
    /// Address of the operators' pages [default: 127.0.0.1:9600].
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Where accounts and players are kept, postgres://… or sqlite:///path.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where etcd is, of a cluster.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    etcd: Vec<String>,
    /// Where Redis is, of a cluster.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Address that other nodes connect to.
    #[arg(long, value_name = "ADDR")]
    link: Option<String>,
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

/// What a configuration is for.
#[derive(Clone, Debug)]
pub(crate) enum For<'a> {
    /// Everything in this process, reached from this machine.
    Dev,
    /// A node that others reach, with these roles if some were named.
    Serve { roles: Option<&'a str> },
}

impl Config {
    /// Reads what the flags, the environment and the file say.
    pub(crate) fn load(flags: &Flags, purpose: &For<'_>) -> Result<Self, ConfigError> {
        Self::load_with(flags, purpose, ours(std::env::vars_os())?.into_iter())
    }

    pub(super) fn load_with(
        flags: &Flags,
        purpose: &For<'_>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let file = flags.config.as_deref().map_or_else(|| Ok(Figment::new()), file)?;
        let mut figment = flags.onto(onto(file, environment))?;
        if let For::Serve { roles: Some(roles) } = purpose {
            figment = set(figment, "--roles", "node.roles", roles);
        }
        let mut config: Self = figment.extract_lossy().map_err(|e| explain(&figment, e))?;
        let serves = matches!(purpose, For::Serve { .. });
        config.dev = !serves;
        if serves {
            config.open_up(&figment);
        } else {
            config.admin.secret_file = Some(config.data.0.join("admin.secret"));
            config.account.internal_secret_file = Some(config.data.0.join("internal.secret"));
        }
        let checked = config.move_ports(&figment).and_then(|()| config.check());
        let checked = checked.and_then(|()| if serves { config.check_serve() } else { Ok(()) });
        checked.map_err(|e| e.located(&figment))?;
        Ok(config)
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

/// What begins the name of an environment variable of ours.
const PREFIX: &str = "BASTIDE_";

/// The variables that are ours. Other people's may be anything: they are not even decoded.
pub(super) fn ours(
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
    let mut dict: Dict = Toml::from_str(&text).map_err(|e| {
        // The error's own text quotes the line, and with it a password that stands there.
        let at = e.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        syntax(format!("line {line} is not TOML: {}", e.message().trim().replace('\n', ", ")))
    })?;
    let origin = path.display().to_string();
    let auth = dict.remove("auth").map(|auth| Dict::from([("validators".to_owned(), auth)]));
    let figment = Figment::from(Named { origin: origin.clone(), dict });
    Ok(match auth {
        Some(dict) => figment.merge(Named { origin, dict }),
        None => figment,
    })
}

/// Adds the environment: `BASTIDE_GATE__IDLE_TIMEOUT=30s`.
fn onto(figment: Figment, environment: impl Iterator<Item = (String, String)>) -> Figment {
    // Backwards, so that BASTIDE_GATE, which is not a setting, is not hidden by BASTIDE_GATE__TCP.
    let sorted: BTreeMap<_, _> = environment.collect();
    sorted.iter().rev().fold(figment, |figment, (name, value)| match name.strip_prefix(PREFIX) {
        Some(key) => set(figment, name, &key.to_lowercase().replace("__", "."), value),
        None => figment,
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
            ("--gate-ws", "gate.ws", self.gate_ws.clone()),
            ("--gate-quic", "gate.quic", self.gate_quic.clone()),
            ("--gate-advertise", "gate.advertise", self.gate_advertise.clone()),
            ("--admin", "admin.listen", self.admin.clone()),
            ("--store", "store.url", self.store.clone()),
            ("--etcd", "discovery.etcd", (!self.etcd.is_empty()).then(|| self.etcd.join(","))),
            ("--redis", "cache.redis", self.redis.clone()),
            ("--link", "link.listen", self.link.clone()),
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
    // Two words for one section, as some know it.
    let renamed = key.strip_prefix("auth.").map(|rest| format!("validators.{rest}"));
    let key = renamed.as_deref().unwrap_or(key);
    let value: Value = match key {
        "account.listen" | "node.roles" | "discovery.etcd" => {
            text.split(',').map(str::trim).collect::<Vec<_>>().into()
        }
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
        return refused("configuration", "?", "cannot be read");
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
    let value = match figment.find_value(list) {
        Ok(_) if is_secret(list) => "…".to_owned(),
        Ok(value) => shown(&value),
        Err(_) => String::new(),
    };
    ConfigError::Value { origin, key, value, remedy }
}

/// Whether nobody may be shown what stands under a key.
fn is_secret(key: &str) -> bool {
    key.starts_with("validators") || key.ends_with("password") || key.ends_with("secret")
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
