//! Owns the account center: who signs in, what a token says, the HTTP edge that clients speak.
//! Leaves rows and counters to `store`, where sessions are to `sessions`, how it is asked to `ask`.

mod center;
mod ends;
mod http;
mod passwords;
mod rules;
mod throttle;
mod tokens;
mod validators;
#[cfg(test)]
mod world;

pub(crate) use center::{AccountCenter, AccountSettings, StartError};
pub(crate) use http::serve;
#[cfg(test)]
pub(crate) use tokens::{Subject, TokenIssuer, new_signing_key};
pub(crate) use tokens::{TokenError, TokenVerifier};
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
    struct Log(Arc<Mutex<Vec<u8>>>);

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
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_writer(log.clone())
            .finish();
        // This test has one thread, so the subscriber of the thread sees all but the hashing.
        let listening = tracing::subscriber::set_default(subscriber);
        let w = World::new().await;
        let signed_in = w.registry("anna", "hunter2-right").await.unwrap();
        w.auth("anna", "hunter2-right").await.unwrap();
        w.auth("anna", "hunter2-wrong").await.unwrap_err();
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

        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("signed in") && log.contains("nobody can sign in"), "{log}");
        let token = signed_in.token.unwrap();
        let token = token.rsplit('.').next().unwrap();
        for secret in ["hunter2", "argon2id$", "dev-secret", &sign, &nonce, token] {
            assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
        }
    }
}
