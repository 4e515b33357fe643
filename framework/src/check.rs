//! Owns `check`: tries what a node with this configuration needs, and says in a table what works
//! and what to do about the rest. Changes nothing but bringing the store's tables up to date.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use tokio::{runtime::Handle, time::timeout};

use crate::{
    config::{Config, redacted},
    directory::{Etcd, Role},
    doors::Doors,
    gate::{Certificates, Codecs, Transport},
    ground::etcd_settings,
    link::Tls,
    store::{Redis, Store},
};

/// How long one service may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was tried, and what came of it.
#[derive(Debug)]
pub(crate) struct Finding {
    /// The configuration key.
    key: &'static str,
    value: String,
    /// What works, or what is wrong with the remedy.
    outcome: Result<String, String>,
}

impl Finding {
    pub(crate) fn is_fine(&self) -> bool {
        self.outcome.is_ok()
    }
}

/// Tries everything, one after the other.
pub(crate) async fn check(config: &Config, codecs: &Codecs) -> Vec<Finding> {
    let mut findings = vec![ports(config, codecs)];
    findings.extend(certificate(config));
    if config.has(Role::Account) || config.has(Role::Game) {
        findings.push(store(config).await);
    }
    if config.clustered() {
        findings.push(etcd(config).await);
        findings.push(link(config).await);
    }
    if config.cache.redis.is_some() {
        findings.push(redis(config).await);
    }
    findings
}

fn ports(config: &Config, codecs: &Codecs) -> Finding {
    let outcome = match Doors::bind(config, codecs) {
        Ok(_) => Ok("free".to_owned()),
        Err(e) => Err(e.to_string()),
    };
    let shown = |addr: &SocketAddr| addr.port().to_string();
    let mut ports = vec![shown(&config.admin.listen)];
    if config.has(Role::Account) {
        ports.extend(config.account.listen.iter().map(shown));
    }
    if config.has(Role::Gate) {
        for (transport, listen) in config.gate.listeners() {
            let udp = if transport == Transport::Quic { "/udp" } else { "" };
            ports.extend(listen.0.iter().map(|addr| shown(addr) + udp));
        }
    }
    if config.clustered() {
        ports.push(shown(&config.link.listen));
    }
    Finding { key: "ports", value: ports.join(", "), outcome }
}

/// `None` where no certificate is named.
fn certificate(config: &Config) -> Option<Finding> {
    let (cert, _) = config.gate.certificate_files().filter(|_| config.has(Role::Gate))?;
    let outcome = match Certificates::load(config) {
        Ok(_) => Ok("a certificate, and the key that belongs to it".to_owned()),
        Err(e) => Err(e.to_string()),
    };
    Some(Finding { key: "gate.cert", value: cert.display().to_string(), outcome })
}

async fn store(config: &Config) -> Finding {
    let url = config.store_url();
    let tried = async {
        let store = Store::open(&url, Handle::current()).await.map_err(|e| e.to_string())?;
        let answered = store.ping().await.map_err(|e| e.to_string());
        store.close().await;
        answered.map(|()| match config.clustered() && config.store.url.is_none() {
            false => "answers, its tables are up to date".to_owned(),
            true => "a file that no other node reads: set it to a PostgreSQL".to_owned(),
        })
    };
    let outcome = in_time(tried, "store.url").await;
    Finding { key: "store.url", value: redacted(&url), outcome }
}

async fn etcd(config: &Config) -> Finding {
    let tried = async {
        let settings = etcd_settings(config);
        let etcd = Etcd::connect(settings, Handle::current()).await.map_err(|e| e.to_string())?;
        etcd.ping().await.map(|()| "answers".to_owned()).map_err(|e| e.to_string())
    };
    let outcome = in_time(tried, "discovery.etcd").await;
    let value = config.discovery.etcd.iter().map(|url| redacted(url)).collect::<Vec<_>>();
    Finding { key: "discovery.etcd", value: value.join(", "), outcome }
}

async fn redis(config: &Config) -> Finding {
    let url = config.cache.redis.as_ref().map(|url| url.0.clone()).unwrap_or_default();
    let tried = async {
        let cluster = &config.cluster.name;
        let redis = Redis::open(&url, cluster, Handle::current()).map_err(|e| e.to_string())?;
        redis.ping().await.map(|()| "answers".to_owned()).map_err(|e| e.to_string())
    };
    let outcome = in_time(tried, "cache.redis").await;
    Finding { key: "cache.redis", value: redacted(&url), outcome }
}

async fn link(config: &Config) -> Finding {
    let tried = async {
        match Tls::load(&config.link).map_err(|e| e.to_string())? {
            None => Ok("plaintext: whoever reaches the port is a node".to_owned()),
            Some(tls) => {
                let met = tls.check().await.map_err(|e| e.to_string());
                met.map(|()| "mutual TLS: two nodes with these files know each other".to_owned())
            }
        }
    };
    let outcome = in_time(tried, "link").await;
    Finding { key: "link", value: config.link.listen.to_string(), outcome }
}

async fn in_time(
    tried: impl Future<Output = Result<String, String>>,
    key: &str,
) -> Result<String, String> {
    let late = || {
        let seconds = PATIENCE.as_secs();
        Err(format!(
            "{key}: no answer within {seconds} s; see whether the service is up and reachable"
        ))
    };
    timeout(PATIENCE, tried).await.unwrap_or_else(|_| late())
}

/// The findings, for people.
pub(crate) fn table(findings: &[Finding]) -> String {
    let width = |of: fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or_default();
    let (keys, values) = (width(|f| f.key.len()), width(|f| f.value.len()));
    let mut text = String::new();
    for Finding { key, value, outcome } in findings {
        let (mark, said) = match outcome {
            Ok(said) => ("ok   ", said),
            Err(said) => ("WRONG", said),
        };
        writeln!(text, "{mark}  {key:keys$}  {value:values$}  {said}")
            .expect("writing to a String does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_works_and_what_to_do() {
        let fine = Finding { key: "store.url", value: "a".into(), outcome: Ok("answers".into()) };
        let wrong = Finding { key: "x", value: "bb".into(), outcome: Err("mend it".into()) };
        assert!(fine.is_fine() && !wrong.is_fine());
        let table = table(&[fine, wrong]);
        assert_eq!(table, "ok     store.url  a   answers\nWRONG  x          bb  mend it\n");
    }
}
