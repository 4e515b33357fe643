//! Owns the account center's HTTP edge: the server, its limits, all its routes. Routes are thin:
//! they read parameters, call the center, and answer in their dialect; no rule of signing in is
//! here.

mod answers;
mod body;
mod budget;
#[cfg(test)]
mod enumeration;
mod front;
mod func;
mod login_server;
mod openapi;
mod own;
mod owner;
mod pages;
mod params;
mod phone;
mod platform;
mod refresh;
mod route;
mod signatures;
mod sockets;
#[cfg(test)]
mod tests;
mod v1;

use std::{io, net::TcpListener, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer, dev::Server, http::StatusCode, middleware::from_fn, web,
};

pub use self::own::{HttpAnswer, HttpCall, SignedIn};
pub(crate) use self::own::{Own, OwnRoutes};
use self::{
    answers::{guarded, problem},
    body::READ_TIMEOUT,
    front::Front,
    route::Route,
};
use super::{AccountCenter, Validators};
use crate::{config, tasks::Tasks};

pub(crate) use self::sockets::Sockets;

/// Per worker; the next connection waits in the listener's backlog.
const CONNECTIONS_MAX: usize = 4096;
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Two, since they only read, ask and write: hashing has threads of its own.
const WORKERS: usize = 2;
/// How long requests may take to end once the server is told to stop. Beyond: cut.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves every route on all listeners, and the sockets. The server is a future to be spawned; its
/// `handle()` stops it, once the sockets are closed.
pub(crate) fn serve(
    listeners: Vec<TcpListener>,
    center: AccountCenter,
    settings: &config::Account,
    own: Own,
    tasks: &Tasks,
) -> io::Result<(Server, Sockets)> {
    let front = Front::new(center, settings);
    let sockets = Sockets::new(front.clone(), tasks);
    let served = sockets.clone();
    let server = serve_with(listeners, move |cfg| {
        own.serve(cfg, &front);
        configure(cfg, &front, &served);
    })?;
    Ok((server, sockets))
}

fn serve_with(
    listeners: Vec<TcpListener>,
    routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
) -> io::Result<Server> {
    let mut server =
        HttpServer::new(move || App::new().wrap(from_fn(guarded)).configure(routes.clone()))
            .disable_signals()
            .workers(WORKERS)
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(READ_TIMEOUT)
            .max_connections(CONNECTIONS_MAX)
            .shutdown_timeout(STOP_TIMEOUT.as_secs());
    for listener in listeners {
        server = server.listen(listener)?;
    }
    Ok(server.run())
}

/// Every route with a dialect.
fn routes() -> Vec<Route> {
    [
        v1::routes(),
        refresh::routes(),
        owner::routes(),
        phone::routes(),
        platform::routes(),
        login_server::routes(),
        func::routes(),
        pages::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The paths that no validator's page may have.
pub(super) fn paths() -> Vec<&'static str> {
    routes().into_iter().map(|route| route.path).chain([sockets::PATH]).collect()
}

/// With the pages of validators.
fn all_routes(validators: &Validators) -> Vec<Route> {
    routes().into_iter().chain(signatures::routes(validators)).collect()
}

fn configure(cfg: &mut web::ServiceConfig, front: &Front, sockets: &Sockets) {
    let routes = all_routes(front.center.0.proofs.validators());
    front.serves(&routes);
    for route in routes {
        cfg.service(route.resource(front.clone()));
    }
    cfg.service(sockets.resource());
    cfg.default_service(web::to(not_found));
}

async fn not_found() -> HttpResponse {
    problem(StatusCode::NOT_FOUND, "no such route")
}
