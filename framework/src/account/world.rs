//! Owns the one fixture of this folder's tests: an account center that lacks nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;

use super::center::{AccountCenter, AccountSettings, Gates};
use crate::{
    ask::{Asker, Calls},
    clock::Clock,
    directory::{Directory, Role},
    msg,
    proto::link::end_session,
    secret::Known,
    sessions::Sessions,
    store::{Cache, Store},
    tasks::Tasks,
    wire::Code,
};

/// An account center on a store, a clock to set and one gate to switch off.
pub(super) struct World {
    pub(super) center: AccountCenter,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) gate_lives: Arc<AtomicBool>,
    url: String,
    folder: tempfile::TempDir,
}

/// What other servers show here.
pub(super) const INTERNAL: &str = "a-secret-between-the-servers";

impl World {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/town.db", folder.path().display());
        Self::on(url, folder, Clock::fixed(1_000_000)).await
    }

    /// One on SQLite, and one on PostgreSQL.
    pub(super) async fn both() -> [Self; 2] {
        let url = bastide_testkit::shared().postgres.database();
        let folder = tempfile::tempdir().unwrap();
        [Self::new().await, Self::on(url, folder, Clock::fixed(1_000_000)).await]
    }

    /// Another center on the same store and the same clock, as a cluster has it.
    pub(super) async fn beside(&self) -> Self {
        Self::on(self.url.clone(), tempfile::tempdir().unwrap(), self.clock.clone()).await
    }

    async fn on(url: String, folder: tempfile::TempDir, clock: Clock) -> Self {
        let store = Store::open(&url, Handle::current()).await.unwrap();
        let gate_lives = Arc::new(AtomicBool::new(true));
        let lives = Arc::clone(&gate_lives);
        let gates: Gates =
            Arc::new(move || lives.load(Ordering::Relaxed).then(|| "127.0.0.1:3017".to_owned()));
        let lives = Arc::clone(&gate_lives);
        let gateways: Gates = Arc::new(move || {
            lives.load(Ordering::Relaxed).then(|| "ws://127.0.0.1:18080".to_owned())
        });
        let settings = AccountSettings {
            cluster: "test".to_owned(),
            token_ttl: Duration::from_secs(7200),
            refresh_ttl: Duration::from_secs(30 * 24 * 3600),
            key_ttl: Duration::from_secs(30 * 24 * 3600),
            internal: Some(Known::new(INTERNAL)),
        };
        let (cache, asker) = (Cache::memory(), Asker::default());
        // Nobody plays here.
        let nobody = Calls::default().on(&(), async |(), _: end_session::Req| {
            Ok(end_session::Res { outcome: end_session::Outcome::NoSession.into() })
        });
        asker.start(Role::Game, nobody, &Tasks::default());
        let directory = Directory::alone("here", 1);
        let sessions = Sessions::new(directory, asker, cache.clone(), clock.clone());
        let (kept, time) = (store.clone(), clock.clone());
        let center =
            AccountCenter::start(kept, cache, sessions, gates, gateways, time, settings).await;
        Self { center: center.unwrap(), store, clock, gate_lives, url, folder }
    }

    pub(super) async fn restart(self) -> Self {
        let Self { center: _, store, clock, gate_lives: _, url, folder } = self;
        store.close().await;
        Self::on(url, folder, clock).await
    }

    pub(super) async fn registry(
        &self,
        username: &str,
        password: &str,
    ) -> Result<msg::registry::Res, Code> {
        let req = msg::registry::Req {
            username: username.to_owned(),
            password: password.to_owned(),
            client_ip: None,
        };
        self.center.clone().registry(req).await.map_err(|refusal| refusal.code)
    }

    pub(super) async fn auth(
        &self,
        username: &str,
        password: &str,
    ) -> Result<msg::auth::Res, Code> {
        self.auth_from(username, password, "10.0.0.1").await
    }

    pub(super) async fn auth_from(
        &self,
        username: &str,
        password: &str,
        ip: &str,
    ) -> Result<msg::auth::Res, Code> {
        let req = msg::auth::Req {
            username: Some(username.to_owned()),
            password: Some(password.to_owned()),
            client_ip: Some(ip.to_owned()),
            ..Default::default()
        };
        self.center.clone().auth(req).await.map_err(|refusal| refusal.code)
    }

    pub(super) async fn guest(&self, device_id: &str) -> Result<msg::auth::Res, Code> {
        let req = msg::auth::Req { device_id: Some(device_id.to_owned()), ..Default::default() };
        self.center.clone().auth(req).await.map_err(|refusal| refusal.code)
    }
}
