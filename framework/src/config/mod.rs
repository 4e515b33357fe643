//! Owns configuration: defaults, then a TOML file, then the environment, then flags, each
//! stronger than the one before. Whatever is wrong is said in one sentence with the key, the
//! value, where it came from and what to do.

mod check;
mod listen;
mod source;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    thread::available_parallelism,
    time::Duration,
};

use clap::ValueEnum;
use serde::{Deserialize, Deserializer, de};

use crate::{directory::Role, wire::FRAME_BYTES_MAX};

pub(crate) use listen::{Listen, Networks, listener_key};
pub(crate) use source::{Flags, For};

pub(crate) use check::{ADMIN_SECRET_BYTES_MIN, DEV_SECRET};

use check::SHARDS_MAX;

/// Everything an operator can set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) cluster: Cluster,
    pub(crate) node: Node,
    pub(crate) account: Account,
    /// `[validators.<name>]`; what is set under `auth.<name>` is set here.
    pub(crate) validators: ValidatorSettings,
    pub(crate) gate: Gate,
    /// `[codecs.<name>]`
    pub(crate) codecs: BTreeMap<String, Codec>,
    pub(crate) game: Game,
    pub(crate) rooms: Rooms,
    pub(crate) session: Session,
    pub(crate) store: Store,
    pub(crate) discovery: Discovery,
    pub(crate) cache: Cache,
    pub(crate) link: Link,
    pub(crate) admin: Admin,
    pub(crate) shutdown: Shutdown,
    pub(crate) log: Log,
    /// Folder of the SQLite file.
    pub(crate) data: Data,
    /// File that the addresses are written to, once ready.
    pub(crate) announce: Option<PathBuf>,
    /// Moves every address that is not set itself to this port and those above it.
    pub(crate) port_base: Option<u16>,
    /// Whether this is for the developer alone; nobody sets it but the command.
    #[serde(skip)]
    pub(crate) dev: bool,
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
        /// What this process does, of `account`, `gate`, `game`, `rooms`.
        roles: Vec<Role> = vec![Role::Account, Role::Gate, Role::Game, Role::Rooms],
        /// Threads that carry connections and entities; one a core, less one for HTTP, the store
        /// and the system. On 2 cores with 100 busy clients, 2 shards cost 1.39 times the CPU per
        /// message of a bare echo, 1 shard 1.12 times: it sleeps less often, and writes more at once.
        shards: usize = available_parallelism().map_or(1, |n| n.get() - 1).clamp(1, SHARDS_MAX),
    }
}

section! {
    /// `[account]`
    Account {
        /// Addresses of the account center's HTTP.
        listen: Vec<SocketAddr> = (8080..8083).map(local).collect(),
        /// Where people are told to reach it by a load balancer's call, `ip:port`; absent: the
        /// first address listened on.
        advertise: Option<String> = None,
        /// How long an access token is good.
        #[serde(deserialize_with = "duration")]
        token_ttl: Duration = Duration::from_secs(2 * 3600),
        /// Requests a second that one address, or one IPv6 network of 64 bits, may send to one
        /// route, counted over ten seconds; 0: no limit, as in `dev`. A node that serves takes 200
        /// unless told otherwise: twice what a thousand players behind one address send when they
        /// all come at once. Loopback addresses are not counted.
        requests_per_ip_s: u32 = 0,
        /// Addresses and networks of load balancers, whose `X-Forwarded-For` or `Forwarded` is
        /// believed.
        proxies: Networks = Networks::default(),
        /// How codes get to phones; absent: as the game says, and if it says nothing, in `dev` by
        /// the log and elsewhere not at all.
        code_sender: Option<CodeChannel> = None,
        /// What `code_sender = "http"` posts `{phone, code, expires_in}` to, and the secret that it
        /// shows there as `Authorization: Bearer`.
        code_url: Option<Url> = None,
        code_secret: Option<Secret> = None,
        /// The country of a phone that is written without one.
        country_code: String = "+86".to_owned(),
        /// Accounts, of devices and names, that are made for one address, or one IPv6 network of 64 bits, in an hour; 0: no
        /// limit, as in `dev` when it is absent. Elsewhere that is 10,000: no household has as
        /// many, and one address fills no more than that of the store.
        accounts_per_ip_hour: Option<u64> = None,
        /// How long is kept what happened to an account.
        #[serde(deserialize_with = "duration")]
        audit_keep: Duration = Duration::from_secs(90 * 24 * 3600),
        /// How long a refresh token is good; each use gives a new one.
        #[serde(deserialize_with = "duration")]
        refresh_ttl: Duration = Duration::from_secs(30 * 24 * 3600),
        /// How long a key signs tokens before the next one does.
        #[serde(deserialize_with = "duration")]
        key_ttl: Duration = Duration::from_secs(30 * 24 * 3600),
        /// What other servers of the studio show in `X-Internal-Auth` to have a token checked: at
        /// least 24 characters; absent: nobody may. `dev` makes one, in `internal.secret` of the
        /// data folder.
        internal_secret: Option<Secret> = None,
        /// Where `dev` keeps the one it makes.
        #[serde(skip)]
        internal_secret_file: Option<PathBuf> = None,
    }
}

section! {
    /// `[gate]`
    Gate {
        /// Addresses for TCP clients: one or a list; an empty one: none.
        tcp: Listen = Listen(vec![local(3017)]),
        /// Addresses for TLS over TCP.
        tcp_tls: Listen = Listen::default(),
        /// Addresses for WebSockets.
        ws: Listen = Listen(vec![local(18080)]),
        /// Addresses for WebSockets over TLS.
        ws_tls: Listen = Listen::default(),
        /// UDP addresses for QUIC; outside `dev` only if said, or if there is a certificate.
        quic: Listen = Listen(vec![local(3017)]),
        /// PEM files: the certificate that clients are shown, with what links it to an authority,
        /// and its key. Read again when they change. Absent in `dev`: one made at the start.
        cert: Option<PathBuf> = None,
        key: Option<PathBuf> = None,
        /// Addresses and networks of load balancers. Whoever connects from there begins with a
        /// PROXY header, version 2, and is believed what it says of its clients' addresses.
        proxies: Networks = Networks::default(),
        /// What clients are told to connect to, `ip:port`; absent: the address listened on.
        advertise: Option<String> = None,
        /// Largest frame of a signed-in client, its size field included.
        frame_bytes_max: usize = FRAME_BYTES_MAX,
        /// Frames a second and connection; 0: no limit, for benchmarks. Beyond: 1007.
        rate_frames_per_s: u32 = 100,
        /// Frames at once, after a pause.
        rate_burst_frames: u32 = 200,
        /// Bytes that wait for one client. Beyond: kicked, 2008. From three quarters on it is not
        /// read until it has taken some.
        outbox_bytes_max: usize = 1024 * 1024,
        /// Connections in all. Beyond: closed at accept. Mind the limit of open files.
        connections_max: usize = 16_000,
        /// Connections from one address, or one IPv6 network of 64 bits. Unless that is all of
        /// them, it shrinks with what is left of the last quarter of the places.
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
    /// `[codecs.<name>]`: clients that speak it come in; in `dev`, those of every codec do.
    Codec {
        /// Whether they do.
        on: bool = true,
        /// Addresses where only its clients come in, over TCP; absent: in `dev`, a port of the
        /// codec's choice.
        tcp: Option<Listen> = None,
        /// Address where datagrams of its clients come in; absent: in `dev`, as above.
        udp: Option<SocketAddr> = None,
        /// Where its clients are told to connect to, `ip:port`; absent: the address listened on.
        advertise: Option<String> = None,
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
    /// `[rooms]`
    Rooms {
        /// The folder that rooms of a kind that is recorded put their recordings in, for
        /// `replay`; absent: nothing is recorded.
        record: Option<PathBuf> = None,
    }
}

section! {
    /// `[session]`
    Session {
        /// How long a session without a connection waits for its client.
        #[serde(deserialize_with = "duration")]
        resume_window: Duration = Duration::from_secs(60),
        /// Bytes kept of what was said to one client and it has not told to have received: what
        /// may wait at its gate (`gate.outbox_bytes_max`), and as much again on its way.
        replay_bytes_max: usize = 2 * 1024 * 1024,
        /// The same for all clients of a game server together.
        replay_bytes_total_max: usize = 1024 * 1024 * 1024,
    }
}

section! {
    /// `[store]`
    Store {
        /// `postgres://user:password@host/database` or `sqlite:///path`; absent: a SQLite file in
        /// the data folder.
        url: Option<Url> = None,
    }
}

section! {
    /// `[discovery]`; absent: this process is alone.
    Discovery {
        /// Where etcd is, `http://host:port` each, or `https://`.
        etcd: Vec<String> = Vec::new(),
        /// The user that etcd knows this cluster by, and its password; absent: none.
        user: Option<String> = None,
        password: Option<Secret> = None,
        /// PEM file of who signed etcd's certificate; absent: the system's authorities.
        ca: Option<PathBuf> = None,
        /// PEM files of the certificate that etcd is shown, and its key.
        cert: Option<PathBuf> = None,
        key: Option<PathBuf> = None,
    }
}

section! {
    /// `[cache]`; absent: in this process.
    Cache {
        /// `redis://[user:password@]host:port`, or `rediss://` for TLS.
        redis: Option<Url> = None,
    }
}

section! {
    /// `[link]`, between nodes.
    Link {
        /// Address that other nodes connect to.
        listen: SocketAddr = local(3018),
        /// Where other nodes reach it, `ip:port`; absent: the address listened on, and if that is
        /// every address, the one towards etcd.
        advertise: Option<String> = None,
        /// Nodes neither encrypt nor prove who they are: whoever reaches the port is one of them.
        plaintext: bool = false,
        /// PEM files: this node's certificate, made out to the name `bastide-node`; its key; who
        /// signs the certificates of all nodes.
        cert: Option<PathBuf> = None,
        key: Option<PathBuf> = None,
        ca: Option<PathBuf> = None,
    }
}

section! {
    /// `[admin]`
    Admin {
        /// Address of the operators' pages.
        listen: SocketAddr = local(9600),
        /// Who shows it may kick and ban: at least 24 characters, the same on every node; absent:
        /// nobody may. `dev` makes one, in `admin.secret` of the data folder.
        secret: Option<Secret> = None,
        /// Where `dev` keeps the one it makes.
        #[serde(skip)]
        secret_file: Option<PathBuf> = None,
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

/// A built-in way for codes to get to phones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CodeChannel {
    /// They are written to the log.
    Log,
    /// A service of the operator's is told.
    Http,
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

/// What each validator knows by configuration: texts under keys of its own choice, of which any may
/// be a secret.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct ValidatorSettings(pub(crate) BTreeMap<String, BTreeMap<String, Secret>>);

/// A URL that may hold a password; shown without it.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Url(pub(crate) String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

/// Something that nobody is shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Config {
    /// Whether this node has a role.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.node.roles.contains(&role)
    }

    /// Whether this node is one of several.
    pub(crate) fn clustered(&self) -> bool {
        !self.discovery.etcd.is_empty()
    }

    /// Accounts that are made for one address in an hour; 0: no limit.
    pub(crate) fn accounts_per_ip_hour(&self) -> u64 {
        let unsaid = if self.dev { 0 } else { 10_000 };
        self.account.accounts_per_ip_hour.unwrap_or(unsaid)
    }

    /// Where accounts and players are kept.
    pub(crate) fn store_url(&self) -> String {
        match &self.store.url {
            Some(url) => url.0.clone(),
            None => format!("sqlite://{}", self.data.0.join("town.db").display()),
        }
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
