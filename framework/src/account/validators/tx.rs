//! Owns the validator `tx`: one stage, where the platform itself is asked whether a key is good.

use std::{error::Error, sync::OnceLock};

use serde_json::Value;
use tokio::{sync::Semaphore, time::timeout};

use super::{Identity, Proof, Validator, ValidatorCtx};
use crate::{
    limits::{PLATFORM_ANSWER_BYTES_MAX, PLATFORM_ASKS_MAX, PLATFORM_DEADLINE},
    outage::Outage,
    wire::{Code, Refusal},
};

/// Asks `validators.tx.endpoint` by GET with `openid`, `openkey` and `pf`, and believes a 200 whose JSON
/// object has `ret` 0 (or `code` 0) and no other `openid`. Everything else refuses.
pub(super) struct Tx {
    /// Made by the first who needs it, since it reads the system's authorities.
    http: OnceLock<Option<reqwest::Client>>,
    /// One for each question that may be under way.
    turns: Semaphore,
    outage: Outage,
}

impl Default for Tx {
    fn default() -> Self {
        Self::with(PLATFORM_ASKS_MAX)
    }
}

impl Validator for Tx {
    async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
        let (openkey, pf) = (proof.openkey()?, proof.pf()?);
        let endpoint = ctx.setting("endpoint").ok_or_else(|| ctx.off("endpoint"))?;
        let _turn = self.turns.try_acquire().map_err(|_| Code::BUSY)?;
        let answer = timeout(PLATFORM_DEADLINE, self.ask(endpoint, &proof.id, openkey, pf)).await;
        match answer.unwrap_or(Err("it was too slow")) {
            Ok(answer) => {
                let _news: bool = self.outage.back();
                match is_yes(&answer, &proof.id) {
                    true => Ok(Identity::new(proof.id.as_str())),
                    false => Err(ctx.refused("the platform does not know this openkey")),
                }
            }
            // The error of a request has its URL, and in it the key: only its kind is told.
            Err(trouble) => {
                let _news: bool = self.outage.away(&trouble);
                Err(ctx.unanswered("the platform did not answer"))
            }
        }
    }
}

impl Tx {
    pub(super) fn with(asks_max: usize) -> Self {
        Self {
            http: OnceLock::new(),
            turns: Semaphore::new(asks_max),
            outage: Outage::new("validators.tx.endpoint"),
        }
    }

    /// What the platform says, whatever that is; `Err`: it said nothing, and why.
    async fn ask(
        &self,
        endpoint: &str,
        openid: &str,
        openkey: &str,
        pf: &str,
    ) -> Result<Value, &'static str> {
        let http = self.http.get_or_init(client).as_ref().ok_or("no HTTP client can be made")?;
        let query = [("openid", openid), ("openkey", openkey), ("pf", pf)];
        let mut url = reqwest::Url::parse(endpoint).map_err(|_| "its address is no URL")?;
        url.query_pairs_mut().extend_pairs(query);
        let mut response = http.get(url).send().await.map_err(|e| trouble(&e))?;
        if response.status().is_server_error() {
            return Err("it answered with a failure of its own");
        }
        let yes = response.status() == 200;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| trouble(&e))? {
            if body.len() + chunk.len() > PLATFORM_ANSWER_BYTES_MAX {
                return Err("its answer is too long");
            }
            body.extend_from_slice(&chunk);
        }
        match serde_json::from_slice(&body) {
            Ok(answer) if yes => Ok(answer),
            _ => Ok(Value::Null),
        }
    }
}

/// Whether the platform knows the key, and as that person's.
fn is_yes(answer: &Value, openid: &str) -> bool {
    let said = [answer.get("ret"), answer.get("code")];
    let mut said = said.into_iter().flatten().peekable();
    said.peek().is_some()
        && said.all(|said| said.as_i64() == Some(0))
        && answer.get("openid").is_none_or(|of| of.as_str() == Some(openid))
}

/// Follows no redirect: only the platform is asked.
fn client() -> Option<reqwest::Client> {
    let mut http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PLATFORM_DEADLINE);
    let found = rustls_native_certs::load_native_certs();
    for authority in found.certs {
        // One that cannot be read vouches for nobody.
        if let Ok(authority) = reqwest::Certificate::from_der(&authority) {
            http = http.add_root_certificate(authority);
        }
    }
    http.build().ok()
}

fn trouble(error: &reqwest::Error) -> &'static str {
    match error {
        e if e.is_timeout() => "it was too slow",
        e if e.is_connect() => "it cannot be reached",
        e if e.source().is_some() => "the connection broke",
        _ => "it did not answer",
    }
}
