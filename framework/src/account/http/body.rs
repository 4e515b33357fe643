//! Owns how a body is read: its size, its time, what it was sent as.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    error::PayloadError,
    http::{StatusCode, header},
    web,
};
use futures_util::StreamExt as _;

use super::{answers::problem, params::Params};
use crate::{limits::HTTP_BODY_BYTES_MAX, wire::Refusal};

/// What a client sends beyond the limit is read and dropped up to here, so that it reads our 413
/// and not a reset connection.
const BODY_BYTES_DROPPED: usize = 1024 * 1024;
/// For the head, and once more for the body. Slower: 408.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The parameters of a body. `Err` is an answer of HTTP itself: 408, 413.
pub(super) async fn read(
    req: &HttpRequest,
    body: web::Payload,
) -> Result<Result<Params, Refusal>, HttpResponse> {
    let body = bytes(req, body).await?;
    let content_type = req.headers().get(header::CONTENT_TYPE);
    // A header that is not ASCII is a content type that nobody knows.
    let content_type = content_type.map_or("", |value| value.to_str().unwrap_or("unknown"));
    Ok(Params::from_body(content_type, &body))
}

/// A body. `Err` as above.
pub(super) async fn bytes(req: &HttpRequest, body: web::Payload) -> Result<Vec<u8>, HttpResponse> {
    let too_large = || {
        let limit = format!("the body is larger than {HTTP_BODY_BYTES_MAX} bytes");
        problem(StatusCode::PAYLOAD_TOO_LARGE, &limit)
    };
    let announced = req.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    if announced.and_then(|v| v.parse().ok()).is_some_and(|n: usize| n > BODY_BYTES_DROPPED) {
        return Err(too_large());
    }
    match tokio::time::timeout(READ_TIMEOUT, collect(body)).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(_)) => Err(problem(StatusCode::BAD_REQUEST, "the body could not be read")),
        Err(_) => Err(problem(StatusCode::REQUEST_TIMEOUT, "the body came too slowly")),
    }
}

/// The whole body; `None` when it is too large.
async fn collect(mut body: web::Payload) -> Result<Option<Vec<u8>>, PayloadError> {
    let (mut read, mut length) = (Vec::new(), 0);
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        length += chunk.len();
        if length <= HTTP_BODY_BYTES_MAX {
            read.extend_from_slice(&chunk);
        } else if length > BODY_BYTES_DROPPED {
            break;
        }
    }
    Ok((length <= HTTP_BODY_BYTES_MAX).then_some(read))
}
