//! Owns how a code gets to a phone: the trait for a studio's own way, and the two built-in ones.
//! Leaves what a code is, and how often one is sent, to `codes`.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use reqwest::{Certificate, Url, header, redirect};
use serde_json::json;

use crate::{
    config::{self, CodeChannel},
    limits::{CODE_SEND_DEADLINE, CODE_TTL},
};

/// A way of sending codes to phones; registered with
/// [`App::code_sender`](crate::App::code_sender).
///
/// ```
/// use bastide::{CodeSendError, CodeSender};
///
/// struct Sms;
///
/// impl CodeSender for Sms {
///     async fn send(&self, phone: &str, code: &str) -> Result<(), CodeSendError> {
///         let text = format!("Your code is {code}. It is good for five minutes.");
///         provider(phone, &text).await.map_err(CodeSendError::new)
///     }
/// }
/// # async fn provider(_: &str, _: &str) -> Result<(), String> { Ok(()) }
///
/// let game = bastide::App::new("town").code_sender(Sms);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` sends no codes",
    note = "implement `bastide::CodeSender` for it: one method, `send`"
)]
pub trait CodeSender: Send + Sync + 'static {
    /// Sends a code of six digits to a phone such as `+8613812345678`, which waits for it: who
    /// takes longer than 3 s, or panics, has not sent it.
    ///
    /// # Errors
    /// The client is told 101, and the code is void. The reason goes into the log: no secret, no
    /// code belongs in it.
    fn send(
        &self,
        phone: &str,
        code: &str,
    ) -> impl Future<Output = Result<(), CodeSendError>> + Send;
}

/// A code that was not sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CodeSendError(String);

impl CodeSendError {
    /// Says why.
    pub fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// The way that codes take. A clone is a handle to the same.
#[derive(Clone)]
pub(crate) struct Sender(Option<Arc<dyn AnySender>>);

/// A sender whose type does not matter.
trait AnySender: Send + Sync {
    fn send<'a>(
        &'a self,
        phone: &'a str,
        code: &'a str,
    ) -> BoxFuture<'a, Result<(), CodeSendError>>;
}

/// What `[account]` says of sending codes cannot be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SenderError {
    /// The URL is none.
    #[error("account.code_url: {0}; write the URL that takes codes, such as https://sms.example/send")]
    Url(String),
    /// No client for it can be made.
    #[error("account.code_url: {0}; see whether this system has its certificates")]
    Client(reqwest::Error),
}

// === impl Sender ===

impl<S: CodeSender> AnySender for S {
    fn send<'a>(
        &'a self,
        phone: &'a str,
        code: &'a str,
    ) -> BoxFuture<'a, Result<(), CodeSendError>> {
        Box::pin(CodeSender::send(self, phone, code))
    }
}

impl Sender {
    /// No code is sent.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(sender: impl CodeSender) -> Self {
        Self(Some(Arc::new(sender)))
    }

    /// What the operator names, else the studio's own; where neither says anything, codes are
    /// written to the log in `dev`, and nowhere else.
    pub(crate) fn of(
        config: &config::Account,
        dev: bool,
        studios: Self,
    ) -> Result<Self, SenderError> {
        match config.code_sender {
            Some(CodeChannel::Log) => {
                if !dev {
                    tracing::warn!(
                        target: "account",
                        "account.code_sender = \"log\": whoever reads this log can sign in with any \
                         phone; set it to \"http\", or let the game bring a sender of its own"
                    );
                }
                Ok(Self::new(Log))
            }
            Some(CodeChannel::Http) => Ok(Self::new(Http::new(config)?)),
            None if studios.0.is_some() => Ok(studios),
            None if dev => Ok(Self::new(Log)),
            None => Ok(Self::none()),
        }
    }

    /// Whether there is a way at all.
    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(super) async fn send(&self, phone: &str, code: &str) -> Result<(), CodeSendError> {
        match &self.0 {
            Some(sender) => sender.send(phone, code).await,
            None => Err(CodeSendError::new("nothing sends codes: see account.code_sender")),
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.0.is_some()).finish()
    }
}

// === the built-in ones ===

/// The phone of development: the log.
struct Log;

impl CodeSender for Log {
    async fn send(&self, phone: &str, code: &str) -> Result<(), CodeSendError> {
        // The line is the contract's, for scripts that wait for it.
        tracing::info!(target: "account", "向手机号 {phone} 发送验证码: {code}");
        Ok(())
    }
}

/// A service of the operator's, which is told what to send.
struct Http {
    client: reqwest::Client,
    url: Url,
    secret: config::Secret,
}

impl Http {
    fn new(config: &config::Account) -> Result<Self, SenderError> {
        let url = config.code_url.as_ref().map(|url| url.0.as_str()).unwrap_or_default();
        let url = Url::parse(url).map_err(|e| SenderError::Url(e.to_string()))?;
        // A redirect would carry phone, code and secret to where nobody said.
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(CODE_SEND_DEADLINE);
        if url.scheme() == "https" {
            let trusted = rustls_native_certs::load_native_certs().certs;
            let trusted = trusted.iter().filter_map(|c| Certificate::from_der(c).ok());
            client = trusted.fold(client, reqwest::ClientBuilder::add_root_certificate);
        }
        let client = client.build().map_err(SenderError::Client)?;
        let secret = config.code_secret.clone().unwrap_or(config::Secret(String::new()));
        Ok(Self { client, url, secret })
    }
}

impl CodeSender for Http {
    async fn send(&self, phone: &str, code: &str) -> Result<(), CodeSendError> {
        let said = json!({ "phone": phone, "code": code, "expires_in": CODE_TTL.as_secs() });
        let request = self.client.post(self.url.clone()).bearer_auth(&self.secret.0);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        // The URL may hold a key of its own.
        let answer = request.body(said.to_string()).send().await;
        let answer = answer.map_err(|e| CodeSendError::new(root(&e.without_url())))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(CodeSendError::new(format!("account.code_url answers {status}"))),
        }
    }
}


/// The innermost reason: the outer ones of an HTTP client only say that there is one.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
