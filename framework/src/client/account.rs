//! Owns the way to the account center: a form goes there, a token and a gate come back.

use serde::Deserialize;

use super::{ANSWER_TIMEOUT, ClientError};
use crate::wire::Code;

/// What the account center hands out at sign-in.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct SignedIn {
    /// The access token that a gate takes.
    pub token: String,
    /// The gate to connect to, `ip:port`.
    pub addr: String,
    /// The account's number.
    pub account_id: i64,
}

impl std::fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { token: _, addr, account_id } = self;
        f.debug_struct("SignedIn")
            .field("addr", addr)
            .field("account_id", account_id)
            .finish_non_exhaustive()
    }
}

/// Signs in as the guest who owns `device_id`, making the guest if it is new.
///
/// `http` is the account center, such as `127.0.0.1:8080`.
///
/// # Errors
/// [`ClientError::Http`] when it does not answer, [`ClientError::Refused`] with its code.
pub async fn guest(http: &str, device_id: &str) -> Result<SignedIn, ClientError> {
    auth(http, &[("device_id", device_id)]).await
}

/// Signs in with what the account center's `/v1/account/auth` takes.
///
/// # Errors
/// As [`guest`].
pub async fn auth(http: &str, form: &[(&str, &str)]) -> Result<SignedIn, ClientError> {
    let over = connections().map_err(|e| ClientError::Http { url: http.to_owned(), why: e })?;
    auth_over(&over, http, form).await
}

/// Connections to account centers, kept for the next one who signs in.
pub(crate) fn connections() -> Result<reqwest::Client, String> {
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build();
    http.map_err(|e| e.to_string())
}

/// As [`auth`], for many.
pub(crate) async fn auth_over(
    over: &reqwest::Client,
    http: &str,
    form: &[(&str, &str)],
) -> Result<SignedIn, ClientError> {
    let host = http.trim_start_matches("http://").trim_end_matches('/');
    let url = format!("http://{host}/v1/account/auth");
    let failed = |why: String| ClientError::Http { url: url.clone(), why };
    let body = serde_urlencoded::to_string(form).map_err(|e| failed(e.to_string()))?;
    let request = over.post(&url).header("content-type", "application/x-www-form-urlencoded");
    let response = request.body(body).send().await.map_err(|e| failed(root(&e)))?;
    let text = response.text().await.map_err(|e| failed(root(&e)))?;

    #[derive(Deserialize)]
    struct Answer {
        code: i32,
        message: Option<String>,
    }
    let answer: Answer = serde_json::from_str(&text).map_err(|e| failed(e.to_string()))?;
    if answer.code != Code::OK.0 {
        let code = Code(answer.code);
        let message = answer.message.unwrap_or_else(|| code.text().to_owned());
        return Err(ClientError::Refused(code.because(message)));
    }
    serde_json::from_str(&text).map_err(|e| failed(e.to_string()))
}

/// The innermost reason: the outer ones of an HTTP client only say that there is one.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
