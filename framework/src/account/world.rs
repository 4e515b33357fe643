//! Owns the one fixture of this folder's tests: an account center that lacks nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    ProofSettings,
    center::{AccountCenter, AccountSettings, Gates},
};
use crate::{
    ask::{Asker, Calls},
    clock::Clock,
    directory::{Directory, Front, Role},
    msg,
    proto::link::end_session,
    sessions::Sessions,
    store::{Cache, Store},
    tasks::Tasks,
    wire::Code,
};

/// Where WebSockets are opened.
pub(super) const WS: &str = "ws://127.0.0.1:18080";

/// An account center on a SQLite file, a clock to set and one gate to switch off.
pub(super) struct World {
    pub(super) center: AccountCenter,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) gate_lives: Arc<AtomicBool>,
    folder: tempfile::TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(ProofSettings { dev: true, ..ProofSettings::default() }).await
    }

    /// With these validators.
    pub(super) async fn with(proofs: ProofSettings) -> Self {
        Self::on(tempfile::tempdir().unwrap(), proofs, Cache::memory()).await
    }

    async fn on(folder: tempfile::TempDir, proofs: ProofSettings, cache: Cache) -> Self {
        let url = format!("sqlite://{}/town.db", folder.path().display());
        let store = Store::open(&url, Handle::current()).await.unwrap();
        let clock = Clock::fixed(1_000_000);
        let gate_lives = Arc::new(AtomicBool::new(true));
        let lives = Arc::clone(&gate_lives);
        let gates: Gates =
            Arc::new(move || lives.load(Ordering::Relaxed).then(|| "127.0.0.1:3017".to_owned()));
        let front_lives = Arc::clone(&gate_lives);
        let front = || Front { addr: "127.0.0.1:3017".to_owned(), ws: Some(WS.to_owned()) };
        let settings = AccountSettings {
            cluster: "test".to_owned(),
            token_ttl: Duration::from_secs(7200),
            proofs,
            fronts: Arc::new(move |_: &str| front_lives.load(Ordering::Relaxed).then(front)),
        };
        let asker = Asker::default();
        // Nobody plays here.
        let nobody = Calls::default().on(&(), async |(), _: end_session::Req| {
            Ok(end_session::Res { outcome: end_session::Outcome::NoSession.into() })
        });
        asker.start(Role::Game, nobody, &Tasks::default());
        let directory = Directory::alone("here", 1);
        let sessions = Sessions::new(directory, asker, cache.clone(), clock.clone());
        let center =
            AccountCenter::start(store.clone(), cache, sessions, gates, clock.clone(), settings)
                .await;
        Self { center: center.unwrap(), store, clock, gate_lives, folder }
    }

    pub(super) async fn restart(self) -> Self {
        let Self { center: _, store, clock: _, gate_lives: _, folder } = self;
        store.close().await;
        let proofs = ProofSettings { dev: true, ..ProofSettings::default() };
        Self::on(folder, proofs, Cache::memory()).await
    }

    /// A restart in a cluster: what lies in the cache stays.
    pub(super) async fn restart_with(self, proofs: ProofSettings, cache: Cache) -> Self {
        let Self { center: _, store, clock: _, gate_lives: _, folder } = self;
        store.close().await;
        Self::on(folder, proofs, cache).await
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
