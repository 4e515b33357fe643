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
    /// takes longer than 3 s, or panics, has not sent it. Where a studio's validator sends codes
    /// ([`ValidatorCtx::send_code`](crate::ValidatorCtx::send_code)) it may be an address of mail,
    /// too.
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
    fn deliver<'a>(
        &'a self,
        phone: &'a str,
        code: &'a str,
    ) -> BoxFuture<'a, Result<(), CodeSendError>>;
}

/// What `[account]` says of sending codes cannot be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SenderError {
    /// The URL is none.
    #[error(
        "account.code_url: {0}; write the URL that takes codes, such as https://sms.example/send"
    )]
    Url(String),
    /// No client for it can be made.
    #[error("account.code_url: {0}; see whether this system has its certificates")]
    Client(reqwest::Error),
}

// === impl Sender ===

impl<S: CodeSender> AnySender for S {
    fn deliver<'a>(
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
            Some(sender) => sender.deliver(phone, code).await,
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
    /// Trusts over https whom the system trusts.
    fn new(config: &config::Account) -> Result<Self, SenderError> {
        let encrypted = config.code_url.as_ref().is_some_and(|url| url.0.starts_with("https"));
        let trusted = match encrypted {
            true => rustls_native_certs::load_native_certs().certs,
            false => Vec::new(),
        };
        let trusted = trusted.iter().filter_map(|c| Certificate::from_der(c).ok());
        Self::trusting(config, trusted)
    }

    fn trusting(
        config: &config::Account,
        trusted: impl Iterator<Item = Certificate>,
    ) -> Result<Self, SenderError> {
        let url = config.code_url.as_ref().map(|url| url.0.as_str()).unwrap_or_default();
        let url = Url::parse(url).map_err(|e| SenderError::Url(e.to_string()))?;
        // A redirect would carry phone, code and secret to where nobody said.
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(CODE_SEND_DEADLINE);
        let client = trusted.fold(client, reqwest::ClientBuilder::add_root_certificate);
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::{
        io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
    };

    use super::*;
    use crate::tasks::Tasks;

    /// A service that takes one request, answers what it is told to, and keeps what it was asked.
    #[derive(Clone, Default)]
    struct Service(Arc<Mutex<String>>);

    impl Service {
        async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: String) {
            let mut asked = String::new();
            while !asked.ends_with('}') {
                let mut bytes = [0; 1024];
                let Ok(read @ 1..) = stream.read(&mut bytes).await else { return };
                asked.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
            *self.0.lock().unwrap() = asked;
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _gone = stream.shutdown().await;
        }
    }

    fn account(url: String) -> config::Account {
        config::Account {
            code_sender: Some(CodeChannel::Http),
            code_url: Some(config::Url(url)),
            code_secret: Some(config::Secret("the-secret".to_owned())),
            ..config::Account::default()
        }
    }

    /// What a service that answers so was asked, and what came of it.
    async fn sent(answer: &str) -> (String, Result<(), String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/sms?key=hidden", listener.local_addr().unwrap());
        let (service, answer) = (Service::default(), answer.to_owned());
        let serving = service.clone();
        Tasks::default().spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            serving.serve(stream, answer).await;
        });
        let sender = Sender::of(&account(url), false, Sender::none()).unwrap();
        let sent = sender.send("+8613812345678", "123456").await.map_err(|e| e.to_string());
        (service.0.lock().unwrap().clone(), sent)
    }

    #[tokio::test]
    async fn a_service_is_told_phone_and_code_and_shown_the_secret() {
        let (asked, sent) = sent("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(sent, Ok(()));
        let (head, body) = asked.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /sms?key=hidden HTTP/1.1"), "{head}");
        assert!(head.contains("authorization: Bearer the-secret"), "{head}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let told = json!({ "phone": "+8613812345678", "code": "123456", "expires_in": 300 });
        assert_eq!(body, told);
    }

    #[tokio::test]
    async fn a_service_that_refuses_or_points_elsewhere_has_sent_nothing() {
        let elsewhere = "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\n\r\n";
        for (answer, why) in [
            ("HTTP/1.1 500 Internal Server Error\r\n\r\n", "500"),
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", "401"),
            (elsewhere, "307"),
            ("nonsense\r\n\r\n", ""),
            ("", ""),
        ] {
            let said = sent(answer).await.1.unwrap_err();
            assert!(said.contains(why), "{answer}: {said}");
            for secret in ["hidden", "the-secret", "123456"] {
                assert!(!said.contains(secret), "{said}");
            }
        }
    }

    #[tokio::test]
    async fn a_service_is_reached_over_https_if_its_certificate_is_trusted() {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        let (acceptor, service) = (TlsAcceptor::from(Arc::new(tls)), Service::default());
        let serving = service.clone();
        Tasks::default().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(stream).await {
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned();
                    serving.clone().serve(stream, answer).await;
                }
            }
        });
        let stranger = Http::new(&account(url.clone())).unwrap();
        let said = stranger.send("+8613812345678", "123456").await.unwrap_err().to_string();
        assert!(said.contains("ertificate"), "{said}");
        assert_eq!(*service.0.lock().unwrap(), "", "nothing was said to it");
        let trusted = Certificate::from_der(cert.der()).unwrap();
        let known = Http::trusting(&account(url), [trusted].into_iter()).unwrap();
        known.send("+8613812345678", "123456").await.unwrap();
        assert!(service.0.lock().unwrap().contains("123456"));
    }

    #[test]
    fn the_operators_word_comes_before_the_studios_and_outside_dev_nothing_is_sent_unsaid() {
        let (unsaid, studios) = (config::Account::default(), Sender::new(Log));
        assert!(!Sender::of(&unsaid, false, Sender::none()).unwrap().is_some());
        assert!(Sender::of(&unsaid, true, Sender::none()).unwrap().is_some());
        let same = |a: &Sender, b: &Sender| match (&a.0, &b.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        for dev in [true, false] {
            let chosen = Sender::of(&unsaid, dev, studios.clone()).unwrap();
            assert!(same(&chosen, &studios));
            let named = account("https://sms.example/send".to_owned());
            let chosen = Sender::of(&named, dev, studios.clone()).unwrap();
            assert!(!same(&chosen, &studios) && chosen.is_some());
        }
    }
}
