//! Owns what goes back over HTTP: the members of an answer, the form of an error, the 500 of a panic.
//! Leaves which answer it is to `http` and `center`.

use std::panic::AssertUnwindSafe;

use actix_web::{
    Error, HttpResponse, ResponseError,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::Next,
};
use futures_util::FutureExt as _;
use serde::Serialize;
use serde_json::json;

use crate::{msg, wire::Refusal};

/// The answer of every sign-in route: all members always there, null when unset.
#[derive(Default, Serialize)]
pub(super) struct Answer {
    code: i32,
    token: Option<String>,
    addr: Option<String>,
    account_id: Option<i64>,
    openid: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<i64>,
    /// For people, and only when `code` is not zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Answer {
    pub(super) fn auth(answer: Result<msg::auth::Res, Refusal>) -> Self {
        match answer {
            Ok(res) => Self {
                code: res.code,
                token: res.token,
                addr: res.addr,
                account_id: res.account_id,
                openid: res.openid,
                refresh_token: res.refresh_token,
                expires_in: res.expires_in,
                message: None,
            },
            Err(refusal) => Self::refused(refusal),
        }
    }

    pub(super) fn registry(answer: Result<msg::registry::Res, Refusal>) -> Self {
        match answer {
            Ok(res) => Self {
                code: res.code,
                token: res.token,
                addr: res.addr,
                account_id: res.account_id,
                openid: res.openid,
                refresh_token: res.refresh_token,
                expires_in: res.expires_in,
                message: None,
            },
            Err(refusal) => Self::refused(refusal),
        }
    }

    fn refused(refusal: Refusal) -> Self {
        let Refusal { code, message } = refusal;
        tracing::debug!(target: "account", %code, %message, "refused");
        Self { code: code.0, message: Some(message.into_owned()), ..Self::default() }
    }

    pub(super) fn respond(self) -> HttpResponse {
        HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(self)
    }
}

/// The answer of a route that hands out nothing.
pub(super) fn done(answer: Result<i32, Refusal>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    match answer {
        Ok(code) => response.json(json!({ "code": code })),
        Err(Refusal { code, message }) => {
            tracing::debug!(target: "account", %code, %message, "refused");
            response.json(json!({ "code": code.0, "message": message }))
        }
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
