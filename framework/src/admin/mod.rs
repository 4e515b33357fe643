//! Owns what an operator's machines ask a node: is it alive, is it ready, what does it count.

use std::net::TcpListener;

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::Server,
    web::{self, Data},
};
use serde_json::json;

use crate::{
    directory::{Directory, NodeState},
    store::Store,
    telemetry::Meters,
};

/// What the pages speak of.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) node: String,
    pub(crate) directory: Directory,
    pub(crate) store: Store,
    pub(crate) meters: Meters,
}

/// Serves `/healthz`, `/readyz` and `/metrics` until the server is stopped.
///
/// # Errors
/// When the listener cannot be used.
pub(crate) fn serve(listener: TcpListener, admin: Admin) -> std::io::Result<Server> {
    let admin = Data::new(admin);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(admin.clone())
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(metrics))
    });
    Ok(server.disable_signals().workers(1).shutdown_timeout(1).listen(listener)?.run())
}

/// The process lives.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// The node is registered, its store answers, and it is not draining.
async fn readyz(admin: Data<Admin>) -> HttpResponse {
    let nodes = admin.directory.nodes();
    let state = nodes.iter().find(|n| n.id == admin.node).map(|n| n.state);
    let missing = match (state, admin.store.ping().await) {
        (Some(NodeState::Up), Ok(())) => {
            return HttpResponse::Ok().json(json!({ "status": "ready" }));
        }
        (None, _) => "not registered".to_owned(),
        (Some(NodeState::Draining), _) => "draining".to_owned(),
        (Some(NodeState::Up), Err(e)) => e.to_string(),
    };
    HttpResponse::ServiceUnavailable().json(json!({ "status": "not ready", "reason": missing }))
}

async fn metrics(admin: Data<Admin>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(admin.meters.page())
}
