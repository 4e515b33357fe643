//! Owns the way between the HTTP server and Socket.IO: a polling request is handed over whole, the
//! bytes of a WebSocket are passed on in both directions, until one of them ends.
//! Leaves who has a seat to `seats`, what is said to `mod`.

use std::{io, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full};
use socketioxide::service::SocketIoService;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, split},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use tungstenite::handshake::derive_accept_key;

use super::{
    super::{answers::problem, answers::status_of, body},
    Elsewhere, PATH, Sockets,
    seats::Seat,
};
use crate::{
    limits::{SOCKET_PING, SOCKET_PIPE_BYTES},
    wire::Code,
};

/// What a request of Socket.IO is answered.
pub(super) async fn serve(
    sockets: Sockets,
    req: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let said = match admitted(&sockets, &req) {
        Ok(seat) if has(&req, "transport=websocket") => upgraded(&sockets, &req, payload, seat),
        Ok(seat) => polled(&sockets, &req, payload, seat).await,
        Err(code) => problem(status_of(code), code.text()),
    };
    open(said, &req)
}

/// What a browser asks before a page of another site may post.
pub(super) async fn preflight(req: HttpRequest) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type"))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "86400"));
    open(response.finish(), &req)
}

/// Lets pages of any site look at it. The older clients ask with credentials, for which `*` is no
/// answer; no cookie of ours is at stake.
fn open(mut response: HttpResponse, req: &HttpRequest) -> HttpResponse {
    let headers = response.headers_mut();
    let origin = req.headers().get(header::ORIGIN).cloned();
    if origin.is_some() {
        let yes = header::HeaderValue::from_static("true");
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        headers.insert(header::VARY, header::HeaderValue::from_static("origin"));
    }
    let all = header::HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.unwrap_or(all));
    response
}

/// A seat for whoever opens a socket; `None`: it is one's that has a socket.
fn admitted(sockets: &Sockets, req: &HttpRequest) -> Result<Option<Arc<Seat>>, Code> {
    let ip = sockets.desk.front.client(req);
    sockets.desk.front.admit(ip, PATH).map_err(|refused| refused.refusal.code)?;
    match has(req, "sid=") {
        true if sockets.desk.seats.closed() => Err(Code::DRAINING),
        true => Ok(None),
        false => sockets.desk.seats.take(ip).map(Some),
    }
}

/// Whether the query has a parameter that begins like this: read as Socket.IO reads it, so that
/// nobody opens a socket without a seat.
fn has(req: &HttpRequest, begins: &str) -> bool {
    req.query_string().split('&').any(|parameter| parameter.starts_with(begins))
}

/// The request as Socket.IO takes it; `None`: it is none.
fn request<B>(req: &HttpRequest, seat: Option<Arc<Seat>>, body: B) -> Option<http::Request<B>> {
    let method = http::Method::from_bytes(req.method().as_str().as_bytes()).ok()?;
    let mut asked =
        http::Request::builder().method(method).uri(format!("{PATH}?{}", req.query_string()));
    if let Some(kind) = req.headers().get(header::CONTENT_TYPE) {
        asked = asked.header(http::header::CONTENT_TYPE, kind.as_bytes());
    }
    if let Some(seat) = seat {
        asked = asked.extension(seat);
    }
    asked.body(body).ok()
}

fn malformed() -> HttpResponse {
    problem(StatusCode::BAD_REQUEST, "this is no request of Socket.IO")
}

// === long polling ===

async fn polled(
    sockets: &Sockets,
    req: &HttpRequest,
    payload: web::Payload,
    seat: Option<Arc<Seat>>,
) -> HttpResponse {
    let body = match body::bytes(req, payload).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let Some(asked) = request(req, seat, Full::new(Bytes::from(body))) else {
        return malformed();
    };
    let (said, answer) = oneshot::channel();
    // A poll that its client has left must not keep what comes for the next one.
    let gone = CancellationToken::new();
    let (left, service) = (gone.clone().drop_guard(), sockets.service.clone());
    let polling = async move {
        let answered = gone.run_until_cancelled_owned(ask(service, asked)).await;
        // Nobody hears it when the client has left.
        let _left = said.send(answered.flatten());
    };
    sockets.desk.tasks.spawn_on(polling, &sockets.desk.runtime);
    let answer = answer.await;
    drop(left);
    match answer {
        Ok(Some((status, kind, body))) => {
            let mut response = HttpResponse::build(status);
            if let Some(kind) = kind {
                response.insert_header((header::CONTENT_TYPE, kind));
            }
            response.insert_header((header::CACHE_CONTROL, "no-store")).body(body)
        }
        Ok(None) => malformed(),
        Err(_panicked) => problem(StatusCode::INTERNAL_SERVER_ERROR, "this request failed"),
    }
}

type Polled = (StatusCode, Option<Vec<u8>>, Bytes);

async fn ask(
    mut service: SocketIoService<Elsewhere>,
    asked: http::Request<Full<Bytes>>,
) -> Option<Polled> {
    let (head, body) = Service::call(&mut service, asked).await.ok()?.into_parts();
    let kind = head.headers.get(http::header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec());
    let body = body.collect().await.ok()?.to_bytes();
    let status = StatusCode::from_u16(head.status.as_u16()).ok()?;
    // Only `upgraded` switches protocols.
    (!status.is_informational()).then_some((status, kind, body))
}

// === WebSockets ===

/// Answers a handshake, and passes on what comes after it.
fn upgraded(
    sockets: &Sockets,
    req: &HttpRequest,
    payload: web::Payload,
    seat: Option<Arc<Seat>>,
) -> HttpResponse {
    let (Some(accept), Some(asked)) = (accepted(req), request(req, seat, ())) else {
        return malformed();
    };
    let goodbye = goodbye(req);
    let (near, far) = tokio::io::duplex(SOCKET_PIPE_BYTES);
    // What Socket.IO spawns belongs to the node's runtime, not to a worker's.
    let entered = sockets.desk.runtime.enter();
    let taken = Service::call(&mut sockets.service.clone(), (far, asked)).into_inner();
    drop(entered);
    if taken.is_err() {
        return malformed();
    }
    let (out, body) = mpsc::channel(1);
    let sockets = sockets.clone();
    actix_web::rt::spawn(async move {
        let (reader, writer) = split(near);
        // When one way ends so does the other: Socket.IO sees the end, and the client.
        tokio::select! {
            () = upstream(payload, writer) => {}
            () = downstream(reader, out) => {}
        }
        if let Some(goodbye) = goodbye {
            sockets.desk.tasks.spawn_on(ask(sockets.service, goodbye), &sockets.desk.runtime);
        }
    });
    let body = stream::unfold(body, async |mut body| {
        body.recv().await.map(|bytes| (Ok::<Bytes, io::Error>(bytes), body))
    });
    HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS)
        .upgrade("websocket")
        .insert_header((header::SEC_WEBSOCKET_ACCEPT, accept))
        .streaming(body)
}

/// What closes a socket that polls, when its client has one; one that has turned to a WebSocket
/// refuses it. Without it, Socket.IO keeps for ever who leaves half-way between the two. It may have
/// the newer form for both generations.
fn goodbye(req: &HttpRequest) -> Option<http::Request<Full<Bytes>>> {
    let sid = req.query_string().split('&').find(|parameter| parameter.starts_with("sid="))?;
    let asked = http::Request::post(format!("{PATH}?EIO=4&transport=polling&{sid}"));
    asked.body(Full::new(Bytes::from_static(b"1"))).ok()
}

/// What a WebSocket's handshake is answered, if it is one.
fn accepted(req: &HttpRequest) -> Option<String> {
    let text = |name: header::HeaderName| req.headers().get(name)?.to_str().ok();
    let names = |list: &str, word: &str| {
        list.split(',').any(|entry| entry.trim().eq_ignore_ascii_case(word))
    };
    let asks = req.method() == "GET"
        && names(text(header::UPGRADE)?, "websocket")
        && names(text(header::CONNECTION)?, "upgrade")
        && text(header::SEC_WEBSOCKET_VERSION)? == "13";
    let key = text(header::SEC_WEBSOCKET_KEY)?;
    asks.then(|| derive_accept_key(key.as_bytes()))
}

async fn upstream(mut payload: web::Payload, mut writer: WriteHalf<DuplexStream>) {
    while let Some(Ok(bytes)) = payload.next().await {
        if writer.write_all(&bytes).await.is_err() {
            break;
        }
    }
}

/// Ends also when a client takes in nothing for as long as it may be silent.
async fn downstream(mut reader: ReadHalf<DuplexStream>, out: mpsc::Sender<Bytes>) {
    let (ping, patience) = SOCKET_PING;
    loop {
        let mut bytes = vec![0; SOCKET_PIPE_BYTES];
        match reader.read(&mut bytes).await {
            Ok(read @ 1..) => bytes.truncate(read),
            Ok(0) | Err(_) => return,
        }
        if !matches!(timeout(ping + patience, out.send(bytes.into())).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_websocket_whose_client_does_not_read_is_closed() {
        let (near, mut far) = tokio::io::duplex(SOCKET_PIPE_BYTES);
        let (reader, writer) = split(near);
        let (out, mut body) = mpsc::channel(1);
        let began = Instant::now();
        let passes = async {
            downstream(reader, out).await;
            drop(writer);
            began.elapsed()
        };
        let says = async { while far.write_all(&[0; SOCKET_PIPE_BYTES]).await.is_ok() {} };
        let (lasted, ()) = tokio::join!(passes, says);
        assert!(lasted >= SOCKET_PING.0 + SOCKET_PING.1);
        assert!(body.recv().await.is_some_and(|bytes| !bytes.is_empty()));
        assert_eq!(body.recv().await, None);
    }
}
