//! Owns the account center: who signs in, what a token says, the HTTP edge that clients speak.
//! Leaves rows and counters to `store`, where sessions are to `sessions`, how it is asked to `ask`.

mod audit;
mod center;
mod codes;
mod credentials;
mod ends;
mod entry;
mod http;
mod keys;
mod newcomers;
mod owner;
mod passwords;
mod phones;
mod platform;
mod refresh;
mod refused;
mod rules;
mod throttle;
mod tokens;
mod validators;
#[cfg(test)]
mod world;

pub(crate) use center::{AccountCenter, AccountSettings, Gates, StartError};
pub use codes::{CodeSendError, CodeSender};
pub(crate) use codes::{Sender, SenderError, is_country_code};
pub use http::{HttpAnswer, HttpCall, SignedIn};
pub(crate) use http::{Own, OwnRoutes, Sockets, serve};
use tokens::Claims;
pub(crate) use tokens::{Subject, TokenError, TokenIssuer, TokenVerifier, new_signing_key};
use validators::{Claim, Known, called};
pub use validators::{Fields, Identity, Proof, Validator, ValidatorCtx};
pub(crate) use validators::{ProofSettings, Validators};

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

    use super::{Claim, Fields, world::World};

    #[derive(Clone, Default)]
    pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        /// Hears this thread at every level until the guard is dropped.
        pub(super) fn listen(&self) -> tracing::subscriber::DefaultGuard {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(LevelFilter::TRACE)
                .with_ansi(false)
                .with_writer(self.clone())
                .finish();
            tracing::subscriber::set_default(subscriber)
        }

        pub(super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[tokio::test]
    async fn no_log_line_at_any_level_holds_a_password_a_token_or_a_hash() {
        let log = Log::default();
        // With a second one, tracing asks every subscriber about a new line; with one it asks that of
        // the thread that comes first, which may be another test's.
        let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
        // This test has one thread, so the subscriber of the thread sees all but the hashing.
        let listening = log.listen();
        let w = World::new().await;
        let signed_in = w.registry("anna", "hunter2-right").await.unwrap();
        w.auth("anna", "hunter2-right").await.unwrap();
        w.auth("anna", "hunter2-wrong").await.unwrap_err();
        let refreshed =
            w.center.refresh(signed_in.refresh_token.as_deref().unwrap()).await.unwrap();
        w.center.refresh(signed_in.refresh_token.as_deref().unwrap()).await.err().unwrap();
        let phone = "+8613812345678";
        w.send(phone).await.unwrap();
        let (account, code) = (signed_in.account_id.unwrap(), w.phones.code(phone));
        w.bind_phone(account, "hunter2-right", phone, &code).await.unwrap();
        w.change_password(account, "hunter2-right", "hunter2-other").await.unwrap();
        let auth = w.center.signature("/auth.html", Fields::new().with("id", "7"), None).await;
        let auth = auth.unwrap();
        let (sign, nonce) = (auth.text("sign").unwrap(), auth.text("nonce").unwrap());
        let shown = Claim { openid: "official.7".into(), auth: Some(auth), ..Claim::default() };
        w.center.login(shown.clone()).await.unwrap();
        w.center.login(shown).await.map(drop).unwrap_err();
        for openid in ["official.anna", "tx.anna", "nobodys.anna"] {
            let openkey = Some("hunter2-key".to_owned());
            let claim = Claim { openid: openid.into(), openkey, ..Claim::default() };
            w.center.login(claim).await.map(drop).unwrap_err();
        }
        w.store.close().await;
        w.auth("anna", "hunter2-late").await.unwrap_err();
        drop(listening);

        let log = log.text();
        assert!(log.contains("signed in") && log.contains("nobody can sign in"), "{log}");
        let token = signed_in.token.unwrap();
        let (first, next) = (signed_in.refresh_token.unwrap(), refreshed.refresh_token);
        let tail = |token: &str| token.rsplit('.').next().unwrap().to_owned();
        let (token, again) = (tail(&token), tail(&refreshed.token));
        assert!(log.contains("used twice"), "{log}");
        let (first, next) = (&first[32..], &next[32..]);
        let secrets = [&token, &again, first, next, &code, "dev-secret", &sign, &nonce];
        for secret in ["hunter2", "argon2id$"].into_iter().chain(secrets) {
            assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
        }
    }
}
