//! Owns Socket.IO on the account center's ports, in both generations of its protocol: the event
//! `req` is a call by `func`, the event `notify` tells a client what it did not ask.
//! Leaves what a call does to `func`.

mod bridge;
mod seats;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{HttpResponse, http::StatusCode, web};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Map, Value, json};
use socketioxide::{
    ParserConfig, SocketIo,
    extract::{AckSender, SocketRef, TryData},
    service::SocketIoService,
    socket::Sid,
};
use tokio::{runtime::Handle, sync::oneshot, time::timeout};
use tower_service::Service;

use self::seats::{Seat, Seats};
use super::{
    answers::{FUNC, problem},
    front::Front,
    func,
    params::Params,
    route::{Call, Refused},
};
use crate::{
    limits::{
        HTTP_BODY_BYTES_MAX, ROLE_ASK_DEADLINE, SOCKET_CLOSE_DEADLINE, SOCKET_MESSAGES_MAX,
        SOCKET_OPEN_DEADLINE, SOCKET_PING,
    },
    tasks::Tasks,
    wire::Code,
};

/// Where clients look for it.
pub(super) const PATH: &str = "/socket.io/";

/// The sockets of one account center. A clone is a handle to the same.
#[derive(Clone)]
pub(crate) struct Sockets {
    desk: Desk,
    service: SocketIoService<Elsewhere>,
    io: SocketIo,
}

/// What a call needs. It knows no socket, so that those who are listened to do not keep themselves.
#[derive(Clone)]
struct Desk {
    front: Front,
    seats: Seats,
    tasks: Tasks,
    /// What a call takes.
    names: Arc<[&'static str]>,
    /// Where what is begun goes on: a worker of the HTTP server ends before the node does.
    runtime: Handle,
}

impl Sockets {
    /// On the runtime of the caller.
    pub(super) fn new(front: Front, tasks: &Tasks) -> Self {
        let (ping, patience) = SOCKET_PING;
        let (service, io) = SocketIo::builder()
            .ping_interval(ping)
            .ping_timeout(patience)
            .connect_timeout(SOCKET_OPEN_DEADLINE)
            .upgrade_timeout(SOCKET_OPEN_DEADLINE)
            .max_buffer_size(SOCKET_MESSAGES_MAX)
            .max_payload(HTTP_BODY_BYTES_MAX as u64)
            .ws_max_message_size(HTTP_BODY_BYTES_MAX)
            .ws_max_frame_size(HTTP_BODY_BYTES_MAX)
            // Calls are texts: what comes beside one is not waited for.
            .with_parser(
                ParserConfig::common()
                    .max_incoming_binaries(1)
                    .max_incoming_binary_buf_size(HTTP_BODY_BYTES_MAX)
                    .packet_completion_timeout(SOCKET_OPEN_DEADLINE),
            )
            .build_with_inner_svc(Elsewhere);
        let (seats, tasks, runtime) = (Seats::default(), tasks.clone(), Handle::current());
        let desk = Desk { front, seats, tasks, names: func::names(), runtime };
        let at = desk.clone();
        io.ns("/", async move |socket: SocketRef| at.welcome(&socket));
        Self { desk, service, io }
    }

    /// The resource that serves it.
    pub(super) fn resource(&self) -> actix_web::Resource {
        let serving = self.clone();
        let serve = move |req, payload| bridge::serve(serving.clone(), req, payload);
        web::resource(PATH)
            .route(web::get().to(serve.clone()))
            .route(web::post().to(serve))
            .route(web::method(actix_web::http::Method::OPTIONS).to(bridge::preflight))
            .default_service(web::to(not_allowed))
    }

    /// Closes all, and lets nobody in any more.
    pub(crate) async fn close(&self) {
        self.desk.seats.close();
        let sockets = self.io.sockets();
        // One whose client does not read holds up all: whoever stops goes on without it.
        let _late = timeout(SOCKET_CLOSE_DEADLINE, self.io.close()).await;
        // Their namespace is gone, and would keep them.
        sockets.into_iter().for_each(close);
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { desk: _, service: _, io: _ } = self;
        f.debug_struct("Sockets").finish_non_exhaustive()
    }
}

impl Desk {
    fn welcome(&self, socket: &SocketRef) {
        let (seats, desk) = (self.seats.clone(), self.clone());
        socket.on_disconnect(async move |socket: SocketRef| seats.gone(socket.id));
        let answer = async move |socket: SocketRef, io: SocketIo, asked: TryData<Value>, ack| {
            desk.answer(socket, io, asked.0.ok(), ack).await;
        };
        socket.on("req", answer);
    }

    /// Answers a call; who signs in takes the place of its older socket.
    async fn answer(&self, socket: SocketRef, io: SocketIo, asked: Option<Value>, ack: AckSender) {
        let answer = FUNC.said(self.call(&socket, asked).await);
        let signed_in = match answer.pointer("/data/token").is_some() {
            true => answer.pointer("/data/id").and_then(Value::as_i64),
            false => None,
        };
        if let Some(account) = signed_in {
            let before = self.seats.sign_in(account, socket.id);
            // It has gone meanwhile, and was forgotten before it was noted.
            if !socket.connected() {
                self.seats.gone(socket.id);
            }
            if let Some(before) = before {
                displace(&io, before);
            }
        }
        if ack.send(&answer).is_err() {
            tracing::debug!(target: "account", limit = SOCKET_MESSAGES_MAX, "an answer found no way");
            close(socket);
        }
    }

    /// Does a call as the route `/index.html` does, with the same budget, places and deadline.
    async fn call(&self, socket: &SocketRef, asked: Option<Value>) -> Result<Value, Refused> {
        let seat = socket.req_parts().extensions.get::<Arc<Seat>>().ok_or(Code::INTERNAL)?;
        let _turn = seat.calls.try_acquire().map_err(|_| Code::BUSY)?;
        let place = self.front.place()?;
        self.front.admit(seat.ip, func::PATH)?;
        let Some(Value::Object(asked)) = asked else {
            return Err(Code::PARAMETER.because("a `req` has one JSON object").into());
        };
        let call = self.read(asked, seat);
        let (done, answer) = oneshot::channel();
        // It goes on when the client does not wait for it: what changes an account is done whole.
        let doing = async move {
            let answer = func::answer(call).await;
            drop(place);
            let _gone = done.send(answer);
        };
        self.tasks.spawn_on(doing, &self.runtime);
        match timeout(ROLE_ASK_DEADLINE, answer).await {
            Ok(Ok(answer)) => answer,
            // The panic hook has logged where and why.
            Ok(Err(_panicked)) => Err(Code::INTERNAL.into()),
            Err(_late) => Err(Code::DEADLINE.into()),
        }
    }

    fn read(&self, asked: Map<String, Value>, seat: &Seat) -> Call {
        let mut params = Params::from_object(asked);
        params.declare(self.names.clone());
        Call {
            center: self.front.center.clone(),
            front: self.front.clone(),
            params,
            ip: seat.ip.map(|ip| ip.to_string()),
            bearer: None,
            internal: None,
        }
    }
}

/// Tells a socket that its account is signed in on another, and closes it.
fn displace(io: &SocketIo, socket: Sid) {
    let Some(socket) = io.get_socket(socket) else { return };
    let code = Code::SIGNED_IN_ELSEWHERE;
    let info = json!({ "code": code.0, "message": code.text() });
    // One that takes nothing in is closed untold.
    let _full = socket.emit("notify", &json!({ "type": code.0, "info": info }));
    close(socket);
}

fn close(socket: SocketRef) {
    // One whose messages fill all its room is not told; its pings will not be answered either.
    let _full = socket.disconnect();
}

async fn not_allowed() -> HttpResponse {
    problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}

/// What is at other paths: nothing, for only one leads here.
#[derive(Clone, Debug)]
struct Elsewhere;

impl<B> Service<http::Request<B>> for Elsewhere {
    type Response = http::Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<B>) -> Self::Future {
        let mut nothing = http::Response::new(Full::default());
        *nothing.status_mut() = http::StatusCode::NOT_FOUND;
        ready(Ok(nothing))
    }
}
