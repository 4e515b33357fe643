//! Owns what settings must be like beyond their types: ranges, folders, addresses that do not
//! collide; and the arithmetic of `--port-base`.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use figment::Figment;
use humantime::format_duration;

use super::{CodeChannel, Config, Listen, Secret, listener_key, redacted, source::ConfigError};
use crate::{account::is_country_code, directory::Role, gate::Transport, wire::FRAME_BYTES_MAX};

impl Config {
    /// A node that `serve` runs is there for others: unless told otherwise, all but the operators'
    /// pages listen on every address of the machine.
    pub(super) fn open_up(&mut self, figment: &Figment) {
        let everywhere = |addr: &mut SocketAddr| addr.set_ip(Ipv4Addr::UNSPECIFIED.into());
        if !figment.contains("account.listen") {
            self.account.listen.iter_mut().for_each(everywhere);
        }
        if !figment.contains("account.requests_per_ip_s") {
            self.account.requests_per_ip_s = REQUESTS_PER_IP_S;
        }
        let gate = &mut self.gate;
        for (key, listen) in
            [("gate.tcp", &mut gate.tcp), ("gate.ws", &mut gate.ws), ("gate.quic", &mut gate.quic)]
        {
            if !figment.contains(key) {
                listen.0.iter_mut().for_each(everywhere);
            }
        }
        if !figment.contains("gate.quic") && gate.cert.is_none() {
            gate.quic = Listen::default();
        }
        if !figment.contains("link.listen") {
            everywhere(&mut self.link.listen);
        }
    }

    /// HTTP at N, N+1, N+2, gate TCP N+3, WebSocket N+4, QUIC N+5, admin N+6, link N+7.
    pub(super) fn move_ports(&mut self, figment: &Figment) -> Result<(), ConfigError> {
        let Some(base) = self.port_base else { return Ok(()) };
        if base == 0 || base > u16::MAX - PORTS {
            let remedy = format!("choose a base from 1 to {}", u16::MAX - PORTS);
            return Err(refused("port_base", base, remedy));
        }
        if !figment.contains("account.listen") {
            for (addr, n) in self.account.listen.iter_mut().zip(0..) {
                addr.set_port(base + n);
            }
        }
        for (key, listen, n) in [
            ("gate.tcp", &mut self.gate.tcp, 3),
            ("gate.ws", &mut self.gate.ws, 4),
            ("gate.quic", &mut self.gate.quic, 5),
        ] {
            if !figment.contains(key) {
                listen.0.iter_mut().for_each(|addr| addr.set_port(base + n));
            }
        }
        for (key, addr, n) in
            [("admin.listen", &mut self.admin.listen, 6), ("link.listen", &mut self.link.listen, 7)]
        {
            if !figment.contains(key) {
                addr.set_port(base + n);
            }
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let name = &self.cluster.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(refused(
                "cluster.name",
                name,
                "choose 1 to 64 letters, digits, '-' and '_'",
            ));
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
            ("session.replay_bytes_max", self.session.replay_bytes_max, 64 * 1024, 1 << 30),
            ("session.replay_bytes_total_max", self.session.replay_bytes_total_max, 0, 1 << 40),
            ("account.requests_per_ip_s", self.account.requests_per_ip_s as usize, 0, 1 << 20),
            ("account.listen (how many)", self.account.listen.len(), 1, 16),
        ] {
            if value < from || value > to {
                return Err(refused(key, value, format!("choose a number from {from} to {to}")));
            }
        }
        for (key, value, from) in [
            ("account.token_ttl", self.account.token_ttl, Duration::from_secs(1)),
            ("account.audit_keep", self.account.audit_keep, Duration::from_secs(1)),
            ("account.refresh_ttl", self.account.refresh_ttl, Duration::from_secs(1)),
            ("account.key_ttl", self.account.key_ttl, KEY_TTL_MIN),
            ("gate.sign_in_timeout", gate.sign_in_timeout, MILLISECOND),
            ("gate.idle_timeout", gate.idle_timeout, MILLISECOND),
            ("game.request_timeout", self.game.request_timeout, MILLISECOND),
            ("game.save_interval", self.game.save_interval, MILLISECOND),
            ("game.linger", self.game.linger, Duration::ZERO),
            ("session.resume_window", self.session.resume_window, Duration::ZERO),
            ("shutdown.grace", self.shutdown.grace, Duration::ZERO),
        ] {
            if value < from || value > TIME_MAX {
                let (value, from) = (format_duration(value), format_duration(from));
                let to = format_duration(TIME_MAX);
                return Err(refused(key, value, format!("choose a time from {from} to {to}")));
            }
        }
        let short = |secret: &Secret| secret.0.len() < ADMIN_SECRET_BYTES_MIN;
        for (key, secret) in [
            ("admin.secret", &self.admin.secret),
            ("account.internal_secret", &self.account.internal_secret),
        ] {
            if secret.as_ref().is_some_and(short) {
                let remedy = format!(
                    "choose at least {ADMIN_SECRET_BYTES_MIN} characters by chance, such as those \
                     of `openssl rand -hex 32`"
                );
                return Err(refused(key, "…", remedy));
            }
        }
        self.check_folders()?;
        self.check_announce()?;
        self.check_codes()?;
        self.check_validators()?;
        self.check_cluster()?;
        self.check_gate()?;
        self.check_addresses()
    }

    fn check_folders(&self) -> Result<(), ConfigError> {
        if self.data.0.as_os_str().is_empty() {
            return Err(refused("data", "\"\"", "name a folder, such as ./bastide-data"));
        }
        if self.rooms.record.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()) {
            return Err(refused("rooms.record", "\"\"", "name a folder, or take it away"));
        }
        Ok(())
    }

    /// Codes get to phones as it says, or it says nothing.
    fn check_codes(&self) -> Result<(), ConfigError> {
        let account = &self.account;
        let country_code = &account.country_code;
        if !is_country_code(country_code) {
            let remedy = "write `+` and 1 to 4 digits, such as +86";
            return Err(refused("account.country_code", country_code, remedy));
        }
        let http = account.code_sender == Some(CodeChannel::Http);
        let url = account.code_url.as_ref().map(|url| url.0.as_str());
        let secret = account.code_secret.as_ref().map(|secret| secret.0.as_str());
        match (http, url, secret) {
            (true, Some(url), Some(secret)) => {
                let web = reqwest::Url::parse(url)
                    .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
                if !web {
                    let remedy = "write a URL, such as https://sms.example/send";
                    return Err(refused("account.code_url", redacted(url), remedy));
                }
                // What a header can carry.
                if secret.is_empty() || !secret.bytes().all(|b| b.is_ascii_graphic()) {
                    let remedy = "choose characters by chance, such as those of \
                                  `openssl rand -hex 32`";
                    return Err(refused("account.code_secret", "…", remedy));
                }
                Ok(())
            }
            (true, None, _) => {
                let remedy =
                    "account.code_sender = \"http\" needs it: write the URL that takes codes";
                Err(refused("account.code_url", "", remedy))
            }
            (true, Some(_), None) => {
                let remedy = "account.code_sender = \"http\" needs it: choose what the service of \
                              account.code_url knows this server by";
                Err(refused("account.code_secret", "", remedy))
            }
            (false, Some(url), _) => {
                let remedy =
                    "nothing posts to it: set account.code_sender to \"http\", or take it away";
                Err(refused("account.code_url", redacted(url), remedy))
            }
            (false, None, Some(_)) => {
                let remedy =
                    "nothing shows it: set account.code_sender to \"http\", or take it away";
                Err(refused("account.code_secret", "…", remedy))
            }
            (false, None, None) => Ok(()),
        }
    }

    /// A gate is reached somehow, and has what its listeners need.
    fn check_gate(&self) -> Result<(), ConfigError> {
        let gate = &self.gate;
        if !self.has(Role::Gate) {
            return Ok(());
        }
        for (transport, listen) in gate.listeners() {
            if listen.0.len() > LISTENERS_MAX {
                let remedy = format!("name at most {LISTENERS_MAX} addresses");
                return Err(refused(listener_key(transport).0, listen, remedy));
            }
        }
        if gate.listeners().iter().all(|(_, listen)| listen.0.is_empty()) {
            let remedy = "no client reaches this gate: name an address for one of gate.tcp, \
                          gate.tcp_tls, gate.ws, gate.ws_tls, gate.quic, or take the role gate away";
            return Err(refused("gate.tcp", "\"\"", remedy));
        }
        for (key, file, other, there) in [
            ("gate.cert", &gate.cert, "gate.key", gate.key.is_some()),
            ("gate.key", &gate.key, "gate.cert", gate.cert.is_some()),
        ] {
            if let Some(file) = file.as_ref().filter(|_| !there) {
                let remedy = format!("a certificate and its key belong together: set {other} too");
                return Err(refused(key, file.display(), remedy));
            }
        }
        match gate.encrypted() {
            Some((transport, listen)) if !self.dev && gate.cert.is_none() => {
                let key = listener_key(transport).0;
                let remedy = "it needs a certificate: set gate.cert and gate.key to PEM files";
                Err(refused(key, listen, remedy))
            }
            _ => Ok(()),
        }
    }

    /// What belongs together is there together.
    fn check_cluster(&self) -> Result<(), ConfigError> {
        let roles = &self.node.roles;
        if roles.is_empty() {
            return Err(refused("node.roles", "", "name some of account, gate, game, rooms"));
        }
        let link = &self.link;
        let files = [&link.cert, &link.key, &link.ca].iter().filter(|f| f.is_some()).count();
        if files != 0 && files != 3 {
            let remedy = "mutual TLS needs link.cert, link.key and link.ca: set all three";
            return Err(refused("link.cert", "incomplete", remedy));
        }
        if files == 3 && link.plaintext {
            let remedy = "take it away, or take link.cert, link.key and link.ca away";
            return Err(refused("link.plaintext", "true", remedy));
        }
        if !self.clustered() {
            if let Some(missing) =
                [Role::Account, Role::Gate, Role::Game].into_iter().find(|role| !self.has(*role))
            {
                let roles = roles.iter().map(|r| r.name()).collect::<Vec<_>>().join(",");
                let remedy = format!(
                    "nobody has the role {} then: add it, or set discovery.etcd and run it in \
                     another node",
                    missing.name()
                );
                return Err(refused("node.roles", roles, remedy));
            }
            return Ok(());
        }
        if self.cache.redis.is_none() {
            let remedy = "nodes share claims and counters: set it to redis://host:6379";
            return Err(refused("cache.redis", "", remedy));
        }
        Ok(())
    }

    /// A node outside `dev` neither trusts a wire nor a default by accident.
    pub(super) fn check_serve(&self) -> Result<(), ConfigError> {
        let link = &self.link;
        if self.clustered() && !link.plaintext && link.cert.is_none() {
            let remedy = "nodes prove who they are: set link.cert, link.key and link.ca, or say \
                          link.plaintext = true where nobody else reaches the port";
            return Err(refused("link.plaintext", "false", remedy));
        }
        Ok(())
    }

    /// No secret is empty, and outside `dev` none is what everybody knows.
    fn check_validators(&self) -> Result<(), ConfigError> {
        for (name, settings) in &self.validators.0 {
            for (setting, Secret(value)) in settings {
                let key = format!("validators.{name}.{setting}");
                let remedy = match (name.as_str(), setting.as_str()) {
                    ("admin", "secret") => {
                        "administrators sign with admin.secret: take this away, and set that"
                    }
                    (_, "secret") if value.trim().is_empty() => {
                        "it is empty, so that anybody could sign: set it, or take it away, and \
                         the validator is off"
                    }
                    (_, "secret") if !self.dev && value.starts_with(DEV_SECRET) => {
                        "everybody knows it: set the one that you share with the platform, or \
                         take it away, and the validator is off"
                    }
                    ("tx", "endpoint") if !is_web(value) => {
                        "write the platform's URL, such as https://platform.example/v3/user/get_info"
                    }
                    _ => continue,
                };
                return Err(refused(key, "…", remedy));
            }
        }
        Ok(())
    }

    /// Told now rather than when everything has been started.
    fn check_announce(&self) -> Result<(), ConfigError> {
        let Some(path) = &self.announce else { return Ok(()) };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() || !folder.is_dir() {
            return Err(refused("announce", path.display(), "name a file in a folder that exists"));
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        let reachable = |addr: SocketAddr| addr.port() != 0 && !addr.ip().is_unspecified();
        for (key, told, whom) in [
            ("account.advertise", &self.account.advertise, "people"),
            ("gate.advertise", &self.gate.advertise, "clients"),
            ("link.advertise", &self.link.advertise, "other nodes"),
        ] {
            if let Some(told) = told
                && !told.parse().is_ok_and(reachable)
            {
                let remedy =
                    format!("write the ip:port that {whom} reach, such as 203.0.113.5:3017");
                return Err(refused(key, redacted(told), remedy));
            }
        }
        let mut used = vec![("admin.listen", false, self.admin.listen)];
        if self.has(Role::Account) {
            used.extend(self.account.listen.iter().map(|a| ("account.listen", false, *a)));
        }
        if self.has(Role::Gate) {
            for (transport, listen) in self.gate.listeners() {
                let (key, udp) = (listener_key(transport).0, transport == Transport::Quic);
                used.extend(listen.0.iter().map(|a| (key, udp, *a)));
            }
        }
        if self.clustered() {
            used.push(("link.listen", false, self.link.listen));
        }
        let mut taken = BTreeMap::new();
        for (key, udp, addr) in used.into_iter().filter(|(.., a)| a.port() != 0) {
            if let Some(other) = taken.insert((udp, addr), key) {
                let remedy = format!("{other} has this address too: give one of them another port");
                return Err(refused(key, addr, remedy));
            }
        }
        Ok(())
    }
}

fn is_web(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// What the secrets begin with that `dev` gives to validators which have none.
pub(crate) const DEV_SECRET: &str = "dev-secret-of-";

const MILLISECOND: Duration = Duration::from_millis(1);

/// A secret by chance of this length is not guessed; a word that people choose is shorter.
pub(crate) const ADMIN_SECRET_BYTES_MIN: usize = 24;

/// Tokens of a key are good for a day at most, unless an operator says more: with a key an hour,
/// the published ones would be more than there may be.
const KEY_TTL_MIN: Duration = Duration::from_secs(6 * 3600);

/// A year: far above any use, far below what a clock can count.
const TIME_MAX: Duration = Duration::from_secs(31_557_600);

/// `account.requests_per_ip_s` of a node that serves.
pub(super) const REQUESTS_PER_IP_S: u32 = 200;

/// Ports that `--port-base` takes, less one.
const PORTS: u16 = 7;

/// Addresses of one kind of listener.
const LISTENERS_MAX: usize = 16;

/// More threads than any machine that a gate was measured on has cores.
pub(super) const SHARDS_MAX: usize = 256;

/// A value that is refused; [`ConfigError::located`] says where it came from.
pub(super) fn refused(
    key: impl fmt::Display,
    value: impl fmt::Display,
    remedy: impl Into<String>,
) -> ConfigError {
    let (key, value) = (key.to_string(), value.to_string());
    ConfigError::Value { origin: String::new(), key, value, remedy: remedy.into() }
}
