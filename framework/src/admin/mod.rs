//! Owns what an operator's machines ask a node: is it alive, is it ready, what does it count; and
//! what operators tell it to do.

pub(crate) mod command;
mod guard;
mod orders;

use std::{net::TcpListener, sync::Arc};

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::Server,
    web::{self, Data},
};
use serde_json::json;

pub(crate) use self::guard::Guard;

use crate::{
    account::{TokenError, TokenVerifier},
    ask::Asker,
    clock::Clock,
    directory::{Directory, NodeState},
    sessions::Marks,
    store::Store,
    telemetry::Meters,
    wire::{Code, Refusal},
};

/// What the pages speak of.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) directory: Directory,
    /// `None` on a node that keeps nothing.
    pub(crate) store: Option<Store>,
    pub(crate) meters: Meters,
    /// The way to an account center, which does what operators want.
    pub(crate) asker: Asker,
    pub(crate) clock: Clock,
    pub(crate) guard: Arc<Guard>,
    /// Whose tokens are those of its administrators.
    pub(crate) cluster: String,
    pub(crate) marks: Marks,
}

impl Admin {
    /// The account of an administrator whose token this is; `None`: it is no such token.
    ///
    /// # Errors
    /// 2001, 2002 or 209 when it was one and is good no more, 101 when nobody knows: none of them
    /// is a guess at the secret.
    async fn administrator(&self, token: &str) -> Result<Option<i64>, Refusal> {
        let keys: Vec<_> = self.directory.nodes().iter().flat_map(|n| n.keys.clone()).collect();
        let verifier = TokenVerifier::new(&keys, &self.cluster);
        let claims = match verifier.verify_admin(token, self.clock.now_ms()) {
            Ok(claims) => claims,
            Err(TokenError::Invalid) => return Ok(None),
            Err(TokenError::Expired) => return Err(Code::TOKEN_EXPIRED.into()),
        };
        let Ok(account) = claims.sub.parse() else { return Ok(None) };
        self.marks.check(account, &claims.sid).await.map(|()| Some(account))
    }
}

/// Serves `/healthz`, `/readyz`, `/metrics` and the orders below `/admin` until the server is stopped.
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
            .configure(orders::configure)
    });
    Ok(server.disable_signals().workers(1).shutdown_timeout(1).listen(listener)?.run())
}

/// The process lives.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// The node is registered, its services answer, and it is not draining.
async fn readyz(admin: Data<Admin>) -> HttpResponse {
    let Admin { directory, store, .. } = &**admin;
    let mut missing = match directory.node(directory.me()).map(|n| n.state) {
        Some(NodeState::Up) => Vec::new(),
        Some(NodeState::Draining) => vec!["draining".to_owned()],
        None => vec!["not registered".to_owned()],
    };
    missing.extend(directory.missing().await);
    if let Some(store) = store
        && let Err(e) = store.ping().await
    {
        missing.push(e.to_string());
    }
    if missing.is_empty() {
        return HttpResponse::Ok().json(json!({ "status": "ready" }));
    }
    let reason = missing.join("; ");
    HttpResponse::ServiceUnavailable().json(json!({ "status": "not ready", "reason": reason }))
}

async fn metrics(admin: Data<Admin>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(admin.meters.page())
}
