//! Owns the text login: what a client must say, what the account center is asked, and how its
//! answer is told.

use std::{
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use serde_json::json;

use super::texts::Text;
use crate::{
    ask::Asker,
    directory::Role,
    msg,
    wire::{Code, Refusal},
};

/// A sign-in by name and password.
pub(super) struct Wanted {
    pub(super) username: String,
    pub(super) password: String,
    pub(super) device_id: Option<String>,
    pub(super) platform: Option<String>,
}

/// What the account center gave.
pub(super) struct SignedUp {
    access_token: String,
    refresh_token: Option<String>,
}

/// A question to the account center, under way.
///
/// Std mutex: never locked. A connection is `Sync` with it, and its task is the only one here.
pub(super) struct Asking(Mutex<AskFuture>);

type AskFuture = Pin<Box<dyn Future<Output = Result<SignedUp, Refusal>> + Send>>;

/// Asks the account center for a token.
pub(super) fn ask(asker: Asker, wanted: &Wanted, client: IpAddr) -> Asking {
    let request = msg::auth::Req {
        username: Some(wanted.username.clone()),
        password: Some(wanted.password.clone()),
        client_ip: Some(client.to_string()),
        ..msg::auth::Req::default()
    };
    Asking(Mutex::new(Box::pin(async move {
        let answer = asker.ask(Role::Account, &request).await?;
        let access_token = answer.token.ok_or(Code::INTERNAL)?;
        Ok(SignedUp { access_token, refresh_token: answer.refresh_token })
    })))
}

impl Asking {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<SignedUp, Refusal>> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(cx)
    }
}

impl Wanted {
    /// The gate's own sign-in, with the token that was given.
    pub(super) fn with_token(&mut self, given: &SignedUp) -> msg::login::Req {
        msg::login::Req {
            token: given.access_token.clone(),
            device_id: self.device_id.take(),
            platform: self.platform.take(),
            version: None,
        }
    }
}

impl SignedUp {
    pub(super) fn text(&self, session_id: &str) -> Text<'static> {
        let Self { access_token, refresh_token } = self;
        Text::ok(&json!({
            "message": "Login successful",
            "access_token": access_token,
            "refresh_token": refresh_token,
            "session_id": session_id,
        }))
    }
}

/// A text login that did not succeed.
pub(super) fn refused(refusal: &Refusal) -> Text<'static> {
    let code = match refusal.code {
        Code::TOKEN_INVALID | Code::TOKEN_EXPIRED => 401,
        // Not 401: to that clients with a token answer with another login, at once, for ever.
        Code::WRONG_CREDENTIALS | Code::PARAMETER => 400,
        Code::BANNED => 403,
        Code::TOO_MANY_TRIES | Code::RATE_LIMITED => 429,
        Code::NOT_READY | Code::NOT_CONNECTED | Code::BUSY | Code::DRAINING => 503,
        Code::DEADLINE => 504,
        _ => 500,
    };
    let why = match refusal.code {
        Code::WRONG_CREDENTIALS => "Invalid username or password",
        _ => &refusal.message,
    };
    Text::refusal(code, &format!("Login failed: {why}"))
}

/// The token that a client connected with is refused; it may sign in all the same.
pub(super) fn token_refused(code: Code) -> Text<'static> {
    match code {
        Code::TOKEN_INVALID => Text::refusal(401, "Token authentication failed. Please login."),
        Code::TOKEN_EXPIRED => {
            let text = "Token authentication failed: token expired. Please login.";
            Text::refusal(401, text)
        }
        other => refused(&other.into()),
    }
}

impl fmt::Debug for Wanted {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { username, password: _, device_id, platform } = self;
        f.debug_struct("Wanted")
            .field("username", username)
            .field("device_id", device_id)
            .field("platform", platform)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SignedUp {
    /// Without the tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedUp").finish_non_exhaustive()
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}
