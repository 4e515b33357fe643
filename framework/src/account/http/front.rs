//! Owns what all routes share: whose request it is, whether that address asks too much, and what
//! they are together.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use actix_web::HttpRequest;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    super::{AccountCenter, refused::Refused},
    budget::Budgets,
    openapi,
    route::Route,
};
use crate::{config, forwarded, limits::HTTP_REQUESTS_MAX, wire::Code};

/// What every route of every worker has. A clone is a handle to the same.
#[derive(Clone)]
pub(super) struct Front {
    pub(super) center: AccountCenter,
    shared: Arc<Shared>,
}

struct Shared {
    proxies: config::Networks,
    budgets: Budgets,
    /// One for each request that may be under way.
    places: Arc<Semaphore>,
    /// Of the routes that are served, once they are.
    description: OnceLock<Value>,
}

impl Front {
    pub(super) fn new(center: AccountCenter, settings: &config::Account) -> Self {
        let proxies = settings.proxies.clone();
        let budgets = Budgets::new(settings.requests_per_ip_s);
        let (places, description) = (Arc::new(Semaphore::new(HTTP_REQUESTS_MAX)), OnceLock::new());
        Self { center, shared: Arc::new(Shared { proxies, budgets, places, description }) }
    }

    /// Says which routes are served; each worker says the same.
    pub(super) fn serves(&self, routes: &[Route]) {
        self.shared.description.get_or_init(|| openapi::describe(routes));
    }

    /// The description of what is served.
    pub(super) fn description(&self) -> Value {
        self.shared.description.get().cloned().unwrap_or_default()
    }

    /// Where a request comes from: what the load balancers say that are believed, else the peer.
    pub(super) fn client(&self, req: &HttpRequest) -> Option<IpAddr> {
        let peer = req.peer_addr()?.ip();
        let believes = |ip| self.shared.proxies.contain(ip);
        let header = |name: &str| {
            req.headers().get_all(name).filter_map(|value| value.to_str().ok()).collect()
        };
        let told = || forwarded::client(header, believes);
        Some(if believes(peer) { told().unwrap_or(peer) } else { peer })
    }

    /// The right to be under way, until it is dropped.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, Code> {
        self.shared.places.clone().try_acquire_owned().map_err(|_| Code::BUSY)
    }

    /// Lets a request in, unless its address has spent what it may ask of this route.
    pub(super) fn admit(&self, ip: Option<IpAddr>, path: &'static str) -> Result<(), Refused> {
        let Some(ip) = ip else { return Ok(()) };
        let spent = self.shared.budgets.spend(ip, path, self.center.0.clock.now_ms());
        spent.map_err(Refused::too_many_tries)
    }
}
