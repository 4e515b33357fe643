//! Owns the one fixture of this folder's tests: an account center that lacks nothing.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    ProofSettings,
    center::{AccountCenter, AccountSettings, Gates},
    codes::{CodeSendError, CodeSender, Phone, Sender, Taker},
    refused::Refused,
};
use crate::{
    ask::{Asker, Calls},
    clock::Clock,
    directory::{Directory, Front, Role},
    msg,
    proto::link::end_session,
    secret::Known,
    sessions::Sessions,
    store::{Cache, Store},
    tasks::Tasks,
    wire::Code,
};

/// Where WebSockets are opened.
pub(super) const WS: &str = "ws://127.0.0.1:18080/ws";

/// An account center on a store, a clock to set and one gate to switch off.
pub(super) struct World {
    pub(super) center: AccountCenter,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) gate_lives: Arc<AtomicBool>,
    pub(super) phones: Phones,
    url: String,
    folder: tempfile::TempDir,
}

/// What other servers show here.
pub(super) const INTERNAL: &str = "a-secret-between-the-servers";

/// Every phone there is: what was sent to it is read here. A clone is the same.
#[derive(Clone, Default)]
pub(super) struct Phones {
    sent: Arc<Mutex<Vec<(String, String)>>>,
    /// How the next codes fare.
    pub(super) way: Arc<Mutex<Way>>,
}

/// How a code fares.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Way {
    #[default]
    Arrives,
    Fails,
    Panics,
    /// For ever.
    Hangs,
}

impl Phones {
    /// The code that a phone got last.
    pub(super) fn code(&self, phone: &str) -> String {
        let sent = self.sent.lock().unwrap();
        sent.iter().rev().find(|(to, _)| to == phone).expect("a code was sent").1.clone()
    }

    /// How many codes were sent in all.
    pub(super) fn count(&self) -> usize {
        self.sent.lock().unwrap().len()
    }
}

impl CodeSender for Phones {
    async fn send(&self, phone: &str, code: &str) -> Result<(), CodeSendError> {
        let way = *self.way.lock().unwrap();
        self.sent.lock().unwrap().push((phone.to_owned(), code.to_owned()));
        match way {
            Way::Arrives => Ok(()),
            Way::Fails => Err(CodeSendError::new("no net")),
            Way::Panics => panic!("a bug of the studio's"),
            Way::Hangs => std::future::pending().await,
        }
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings than the usual.
    pub(super) async fn with(settings: impl FnOnce(&mut AccountSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/town.db", folder.path().display());
        Self::on(url, folder, Clock::fixed(1_000_000), Cache::memory(), settings).await
    }

    /// With these validators.
    pub(super) async fn proving(proofs: ProofSettings) -> Self {
        Self::with(|settings| settings.proofs = proofs).await
    }

    /// One on SQLite, and one on PostgreSQL.
    pub(super) async fn both() -> [Self; 2] {
        let url = bastide_testkit::shared().postgres.database();
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(1_000_000);
        [Self::new().await, Self::on(url, folder, clock, Cache::memory(), |_| {}).await]
    }

    /// Another center on the same store and the same clock, as a cluster has it.
    pub(super) async fn beside(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::on(self.url.clone(), folder, self.clock.clone(), Cache::memory(), |_| {}).await
    }

    async fn on(
        url: String,
        folder: tempfile::TempDir,
        clock: Clock,
        cache: Cache,
        change: impl FnOnce(&mut AccountSettings),
    ) -> Self {
        let store = Store::open(&url, Handle::current()).await.unwrap();
        let gate_lives = Arc::new(AtomicBool::new(true));
        let lives = Arc::clone(&gate_lives);
        let gate = |at: &'static str| {
            let lives = lives.clone();
            Arc::new(move || lives.load(Ordering::Relaxed).then(|| at.to_owned()))
        };
        let gates = Gates { addr: gate("127.0.0.1:3017"), url: gate(WS) };
        let front = || Front { addr: "127.0.0.1:3017".to_owned(), ws: Some(WS.to_owned()) };
        let front_lives = Arc::clone(&gate_lives);
        let phones = Phones::default();
        let mut settings = AccountSettings {
            cluster: "test".to_owned(),
            token_ttl: Duration::from_secs(7200),
            refresh_ttl: Duration::from_secs(30 * 24 * 3600),
            key_ttl: Duration::from_secs(30 * 24 * 3600),
            internal: Some(Known::new(INTERNAL)),
            country_code: "+86".to_owned(),
            accounts_per_ip_hour: 0,
            audit_keep: Duration::from_secs(90 * 24 * 3600),
            sender: Sender::new(phones.clone()),
            proofs: ProofSettings { dev: true, ..ProofSettings::default() },
            fronts: Arc::new(move |_: &str| front_lives.load(Ordering::Relaxed).then(front)),
        };
        change(&mut settings);
        let asker = Asker::default();
        // Nobody plays here.
        let nobody = Calls::default().on(&(), async |(), _: end_session::Req| {
            Ok(end_session::Res { outcome: end_session::Outcome::NoSession.into() })
        });
        asker.start(Role::Game, nobody, &Tasks::default());
        let directory = Directory::alone("here", 1);
        let sessions = Sessions::new(directory, asker, cache.clone(), clock.clone());
        let (kept, time) = (store.clone(), clock.clone());
        let center = AccountCenter::start(kept, cache, sessions, gates, time, settings).await;
        Self { center: center.unwrap(), store, clock, gate_lives, phones, url, folder }
    }

    pub(super) async fn restart(self) -> Self {
        let Self { center: _, store, clock, gate_lives: _, phones: _, url, folder } = self;
        store.close().await;
        Self::on(url, folder, clock, Cache::memory(), |_| {}).await
    }

    /// A restart in a cluster: what lies in the cache stays.
    pub(super) async fn restart_with(self, proofs: ProofSettings, cache: Cache) -> Self {
        let Self { center: _, store, clock, gate_lives: _, phones: _, url, folder } = self;
        store.close().await;
        Self::on(url, folder, clock, cache, |settings| settings.proofs = proofs).await
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

    // === phones; refusals come with when to come back, in seconds ===

    pub(super) async fn send(&self, phone: &str) -> Result<(), Told> {
        self.send_from(phone, "10.0.0.1").await
    }

    pub(super) async fn send_from(&self, phone: &str, ip: &str) -> Result<(), Told> {
        let phone = Phone::parse(None, phone).unwrap();
        self.center.send_code(&phone, Some(ip)).await.map_err(told)
    }

    pub(super) async fn take(&self, phone: &str, code: &str, taker: Taker) -> Result<(), Told> {
        let phone = Phone::parse(None, phone).unwrap();
        self.center.0.take_code(&phone, code, taker, Some("10.0.0.1")).await.map_err(told)
    }

    pub(super) async fn bind_phone(
        &self,
        account: i64,
        password: &str,
        phone: &str,
        code: &str,
    ) -> Result<(), Code> {
        let phone = Phone::parse(None, phone).unwrap();
        let (password, ip) = (password.to_owned(), Some("10.0.0.1"));
        let bound = self.center.bind_phone(account, password, &phone, code, ip).await;
        bound.map_err(|refused| refused.refusal.code)
    }

    pub(super) async fn change_password(
        &self,
        account: i64,
        password: &str,
        new: &str,
    ) -> Result<(), Code> {
        let (password, new) = (password.to_owned(), new.to_owned());
        let changed = self.center.change_password(account, password, new, None, None).await;
        changed.map_err(|refused| refused.refusal.code)
    }
}

/// A refusal's code, and the whole seconds after which to come back.
pub(super) type Told = (Code, Option<u64>);

fn told(refused: Refused) -> Told {
    (refused.refusal.code, refused.retry_after.map(|after| after.as_secs()))
}
