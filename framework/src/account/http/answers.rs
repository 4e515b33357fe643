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
    /// What the description of the routes calls it.
    pub(super) name: &'static str,
    /// The statuses that it uses, beside those of HTTP itself (404, 405, 408, 413) and 5xx.
    pub(super) statuses: &'static [u16],
    /// What an answer 200 has, whatever the route adds; any other status has an `error`.
    pub(super) answer: &'static [Member],
    /// What a refusal is.
    refuses: fn(&Refusal) -> (StatusCode, Value),
}

/// One member of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Whether it is in every answer.
    pub(super) always: bool,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    IntegerOrNull,
    Text,
    TextOrNull,
}

const fn member(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, always: true }
}

/// Only in a refusal.
const MESSAGE: Member = Member { name: "message", kind: Kind::Text, always: false };

/// The account routes that sign in: always 200, all members always there, null when unset.
pub(super) const SIGN_IN: Dialect = Dialect {
    name: "SignIn",
    statuses: &[200],
    answer: &[
        member("code", Kind::Integer),
        member("token", Kind::TextOrNull),
        member("addr", Kind::TextOrNull),
        member("account_id", Kind::IntegerOrNull),
        member("openid", Kind::TextOrNull),
        member("refresh_token", Kind::TextOrNull),
        member("expires_in", Kind::IntegerOrNull),
        MESSAGE,
    ],
    refuses: sign_in_refused,
};

/// The other account routes: always 200 and a `code`.
pub(super) const CODE: Dialect = Dialect {
    name: "Code",
    statuses: &[200],
    answer: &[member("code", Kind::Integer), MESSAGE],
    refuses: code_refused,
};

/// A refresh: always 200, all members always there, null when unset.
pub(super) const REFRESH: Dialect = Dialect {
    name: "Refresh",
    statuses: &[200],
    answer: &[
        member("code", Kind::Integer),
        member("token", Kind::TextOrNull),
        member("refresh_token", Kind::TextOrNull),
        member("expires_in", Kind::IntegerOrNull),
        MESSAGE,
    ],
    refuses: refresh_refused,
};

/// The refresh of WebSocket clients: always 200, with a status as `code`.
pub(super) const ENVELOPE: Dialect = Dialect {
    name: "Envelope",
    statuses: &[200],
    answer: &[member("code", Kind::Integer), member("err_msg", Kind::Text)],
    refuses: envelope_refused,
};

/// The platform's routes for the studio's own servers: who may not ask is told so by the status.
pub(super) const INTERNAL: Dialect = Dialect {
    name: "Internal",
    statuses: &[200, 400, 401, 403, 429],
    answer: &[],
    refuses: internal_refused,
};

/// The platform's routes: a status, and `error`.
pub(super) const PLATFORM: Dialect = Dialect {
    name: "Platform",
    statuses: &[200, 400, 401, 403, 429],
    answer: &[],
    refuses: platform_refused,
};

/// The login server's routes: always 200, `success`, and `error` where it is false.
pub(super) const LOGIN_SERVER: Dialect =
    Dialect { name: "LoginServer", statuses: &[200], answer: &[], refuses: login_server_refused };

/// The calls by `func`: always 200 and a `code` of their own.
pub(super) const FUNC: Dialect = Dialect {
    name: "Func",
    statuses: &[200],
    answer: &[member("code", Kind::Integer), MESSAGE],
    refuses: func_refused,
};

/// The pages that show a signature: bare, or a status and `error`.
pub(super) const SIGNATURE: Dialect = Dialect {
    name: "Signature",
    statuses: &[200, 400, 401, 403, 429],
    answer: &[],
    refuses: platform_refused,
};

/// What a page shows. Nobody is refused but for a query that cannot be read, or for asking too
/// often.
pub(super) const PAGE: Dialect =
    Dialect { name: "Page", statuses: &[200, 400, 429], answer: &[], refuses: platform_refused };

impl Dialect {
    /// An answer where there is no status: what it says.
    pub(super) fn said(self, answer: Result<Value, Refused>) -> Value {
        answer.unwrap_or_else(|Refused { refusal, retry_after: _ }| {
            tracing::debug!(target: "account", code = %refusal.code, message = %refusal.message, "refused");
            (self.refuses)(&refusal).1
        })
    }

    pub(super) fn respond(self, answer: Result<Value, Refused>) -> HttpResponse {
        match answer {
            Ok(value) => no_store(StatusCode::OK, value),
            Err(Refused { refusal, retry_after }) => {
                tracing::debug!(target: "account", code = %refusal.code, message = %refusal.message, "refused");
                let (status, mut value) = (self.refuses)(&refusal);
                let id = status.is_server_error().then(RequestId::new);
                if let (Some(RequestId(id)), Value::Object(value)) = (&id, &mut value) {
                    value.insert("request_id".to_owned(), id.as_str().into());
                }
                let mut response = no_store(status, value);
                if let Some(id) = id {
                    response.extensions_mut().insert(id);
                }
                if let Some(after) = retry_after {
                    // Rounded up: who comes then is in time.
                    let seconds = after.as_millis().div_ceil(1000).max(1);
                    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
                    let seconds = header::HeaderValue::from(seconds);
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

fn refresh_refused(refusal: &Refusal) -> (StatusCode, Value) {
    let value = json!({
        "code": refusal.code.0, "token": null, "refresh_token": null, "expires_in": null,
        "message": refusal.message,
    });
    (StatusCode::OK, value)
}

fn envelope_refused(refusal: &Refusal) -> (StatusCode, Value) {
    let code = match status_of(refusal.code) {
        status if status.is_server_error() => status.as_u16(),
        _ => 401,
    };
    (StatusCode::OK, json!({ "code": code, "body": null, "err_msg": refusal.message }))
}

/// Here nobody signs in, so the codes of signing in are those of the header.
fn internal_refused(refusal: &Refusal) -> (StatusCode, Value) {
    let status = match refusal.code {
        Code::NOT_SIGNED_IN => StatusCode::UNAUTHORIZED,
        Code::WRONG_CREDENTIALS => StatusCode::FORBIDDEN,
        code => status_of(code),
    };
    (status, json!({ "error": refusal.message }))
}

fn func_refused(refusal: &Refusal) -> (StatusCode, Value) {
    let code = match refusal.code {
        Code::PARAMETER => 9001,
        Code::WRONG_CREDENTIALS
        | Code::TOO_MANY_TRIES
        | Code::BANNED
        | Code::CODE_WRONG
        | Code::CODE_EXPIRED
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

fn login_server_refused(refusal: &Refusal) -> (StatusCode, Value) {
    (StatusCode::OK, json!({ "success": false, "error": refusal.message }))
}

/// The status of a code, where a status is all that there is.
pub(super) fn status_of(code: Code) -> StatusCode {
    match code {
        Code::WRONG_CREDENTIALS
        | Code::CODE_WRONG
        | Code::CODE_EXPIRED
        | Code::NO_SUCH_ACCOUNT
        | Code::BANNED
        | Code::TOKEN_INVALID
        | Code::TOKEN_EXPIRED => StatusCode::UNAUTHORIZED,
        Code::TOO_MANY_TRIES => StatusCode::TOO_MANY_REQUESTS,
        Code::NOT_READY | Code::NOT_CONNECTED | Code::BUSY | Code::DRAINING => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::DEADLINE => StatusCode::GATEWAY_TIMEOUT,
        Code::INTERNAL => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

pub(super) fn problem(status: StatusCode, error: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "error": error }))
}

/// By what an operator finds a request in the log.
struct RequestId(String);

impl RequestId {
    fn new() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()))
    }
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
        let RequestId(request_id) = RequestId::new();
        Self { status, request_id }
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
        // A refusal of ours says why, and has its id already.
        Some(Ok(response)) if request_id(&response).is_some() => {
            let (id, status) = (request_id(&response), status.as_u16());
            tracing::error!(target: "account", %method, path, status, id, "request failed");
            Ok(response)
        }
        failed => {
            let failure = Failure::new(status);
            let (status, id, panicked) = (status.as_u16(), &failure.request_id, failed.is_none());
            tracing::error!(target: "account", %method, path, status, id, panicked, "request failed");
            Err(failure.into())
        }
    }
}

fn request_id<B>(response: &ServiceResponse<B>) -> Option<String> {
    response.response().extensions().get::<RequestId>().map(|RequestId(id)| id.clone())
}
