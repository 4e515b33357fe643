//! Owns how answers look: one dialect for each family of routes, the form of an error, the 500 of
//! a panic. Leaves which answer it is to the routes and the center.

use std::panic::AssertUnwindSafe;

use actix_web::{
    Error, HttpResponse, ResponseError,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::Next,
};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::route::Refused;
use crate::{
    msg,
    wire::{Code, Refusal},
};

/// How a family of routes says what it has to say.
#[derive(Clone, Copy)]
pub(super) struct Dialect {
    /// The statuses that it uses, beside those of HTTP itself (404, 405, 408, 413) and 5xx.
    pub(super) statuses: &'static [u16],
    /// What a refusal is.
    refuses: fn(&Refusal) -> (StatusCode, Value),
}

/// The account routes that sign in: always 200, all members always there, null when unset.
pub(super) const SIGN_IN: Dialect = Dialect { statuses: &[200], refuses: sign_in_refused };

/// The other account routes: always 200 and a `code`.
pub(super) const CODE: Dialect = Dialect { statuses: &[200], refuses: code_refused };

/// The platform's routes: a status, and `error`.
pub(super) const PLATFORM: Dialect =
    Dialect { statuses: &[200, 400, 401, 403, 429], refuses: platform_refused };

/// The calls by `func`: always 200 and a `code` of their own.
pub(super) const FUNC: Dialect = Dialect { statuses: &[200], refuses: func_refused };

/// The pages that show a signature: bare, or a status and `error`.
pub(super) const SIGNATURE: Dialect =
    Dialect { statuses: &[200, 400, 401, 403], refuses: platform_refused };

/// What a page shows; nobody is refused.
pub(super) const PAGE: Dialect = Dialect { statuses: &[200], refuses: platform_refused };

impl Dialect {
    pub(super) fn respond(self, answer: Result<Value, Refused>) -> HttpResponse {
        match answer {
            Ok(value) => no_store(StatusCode::OK, value),
            Err(Refused { refusal, retry_after }) => {
                tracing::debug!(target: "account", code = %refusal.code, message = %refusal.message, "refused");
                let (status, value) = (self.refuses)(&refusal);
                let mut response = no_store(status, value);
                if let Some(after) = retry_after {
                    // A whole second more than is left: who comes then is in time.
                    let seconds = header::HeaderValue::from(after.as_secs() + 1);
                    response.headers_mut().insert(header::RETRY_AFTER, seconds);
                }
                response
            }
        }
    }
}

fn no_store(status: StatusCode, value: Value) -> HttpResponse {
    HttpResponse::build(status).insert_header((header::CACHE_CONTROL, "no-store")).json(value)
}

/// The answer of every route that signs in.
pub(super) fn sign_in(res: msg::auth::Res) -> Value {
    let msg::auth::Res { code, token, addr, account_id, openid, refresh_token, expires_in } = res;
    json!({
        "code": code, "token": token, "addr": addr, "account_id": account_id, "openid": openid,
        "refresh_token": refresh_token, "expires_in": expires_in,
    })
}

fn sign_in_refused(refusal: &Refusal) -> (StatusCode, Value) {
    let mut value = sign_in(msg::auth::Res { code: refusal.code.0, ..msg::auth::Res::default() });
    value["message"] = refusal.message.as_ref().into();
    (StatusCode::OK, value)
}

fn code_refused(refusal: &Refusal) -> (StatusCode, Value) {
    (StatusCode::OK, json!({ "code": refusal.code.0, "message": refusal.message }))
}

fn func_refused(refusal: &Refusal) -> (StatusCode, Value) {
    let code = match refusal.code {
        Code::BANNED => 1,
        Code::PARAMETER => 9001,
        Code::WRONG_CREDENTIALS
        | Code::TOO_MANY_TRIES
        | Code::TOKEN_INVALID
        | Code::TOKEN_EXPIRED => 9006,
        studio if studio >= Code::STUDIO => 9006,
        _ => 9000,
    };
    (StatusCode::OK, json!({ "code": code, "message": refusal.message }))
}

fn platform_refused(refusal: &Refusal) -> (StatusCode, Value) {
    (status_of(refusal.code), json!({ "error": refusal.message }))
}

/// The status of a code, where a status is all that there is.
pub(super) fn status_of(code: Code) -> StatusCode {
    match code {
        Code::WRONG_CREDENTIALS
        | Code::CODE_WRONG
        | Code::CODE_EXPIRED
        | Code::NO_SUCH_ACCOUNT
        | Code::TOKEN_INVALID
        | Code::TOKEN_EXPIRED => StatusCode::UNAUTHORIZED,
        Code::BANNED => StatusCode::FORBIDDEN,
        Code::TOO_MANY_TRIES => StatusCode::TOO_MANY_REQUESTS,
        Code::NOT_READY | Code::NOT_CONNECTED | Code::BUSY => StatusCode::SERVICE_UNAVAILABLE,
        Code::DEADLINE => StatusCode::GATEWAY_TIMEOUT,
        Code::INTERNAL => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

pub(super) fn problem(status: StatusCode, error: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "error": error }))
}

/// A 5xx: the log has the reason under the id that the answer carries.
#[derive(Debug, thiserror::Error)]
#[error("{status}, request {request_id}")]
struct Failure {
    status: StatusCode,
    request_id: String,
}

impl Failure {
    fn new(status: StatusCode) -> Self {
        Self { status, request_id: format!("{:016x}", rand::random::<u64>()) }
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let error = self.status.canonical_reason().unwrap_or("failure").to_lowercase();
        HttpResponse::build(self.status)
            .json(json!({ "error": error, "request_id": self.request_id }))
    }
}

/// Around every request: a panic becomes a 500 (actix would drop the connection unanswered), and
/// every 5xx gets its id.
pub(super) async fn guarded(
    req: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    // The path alone: a query may hold a password.
    let (method, path) = (req.method().clone(), req.path().to_owned());
    let called = AssertUnwindSafe(async { next.call(req).await }).catch_unwind().await;
    // The panic hook has logged where and why.
    let (status, response) = match called {
        Ok(Ok(response)) => (response.status(), Some(Ok(response))),
        Ok(Err(error)) => (error.as_response_error().status_code(), Some(Err(error))),
        Err(_panic) => (StatusCode::INTERNAL_SERVER_ERROR, None),
    };
    match response {
        Some(response) if !status.is_server_error() => {
            tracing::debug!(target: "account", %method, path, status = status.as_u16(), "request");
            response
        }
        failed => {
            let failure = Failure::new(status);
            let (status, id, panicked) = (status.as_u16(), &failure.request_id, failed.is_none());
            tracing::error!(target: "account", %method, path, status, id, panicked, "request failed");
            Err(failure.into())
        }
    }
}
