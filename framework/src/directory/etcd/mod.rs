//! Owns the way to etcd: its addresses, sign-in, TLS, the deadline of each question.
//! Leaves what a node registers to `lease`, what it sees of the others to `watch`, and who leads
//! to `election`.
//!
//! Below `/bastide/<cluster>/` are `nodes/<node id>`, a node's own words under a lease that it
//! keeps alive, and `elections/<name>/`, laid out as etcd's own elections are. Whoever loses
//! etcd goes on with what it knew; nothing is dropped merely because etcd is away.

mod election;
mod error;
mod lease;
mod pause;
mod tls;
mod watch;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use etcd_client::{Client, Compare, CompareOp, ConnectOptions, GetOptions, Txn, TxnOp};
use rand::Rng as _;
use reqwest::Url;
use tokio::{
    runtime::Handle,
    sync::{Mutex, watch as channel},
    time::timeout,
};

pub(crate) use error::EtcdError;
use pause::{Health, Patience};

use crate::limits::{ETCD_DEADLINE, ETCD_PROBE_DEADLINE, ETCD_PROBE_INTERVAL};

/// Where etcd is, who asks, and for how long what a node registers outlives it.
#[derive(Clone)]
pub(crate) struct EtcdSettings {
    /// `http://host:port` each, or `https://`.
    pub(crate) endpoints: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// Who signed etcd's certificate.
    pub(crate) ca: Option<PathBuf>,
    /// This node's own certificate, where etcd asks for one, and its key.
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) cluster: String,
    /// In whole seconds, at least 2: etcd gives no shorter one.
    pub(crate) lease: Duration,
}

/// The nodes of a cluster, through etcd. A clone shares the connection.
#[derive(Clone, Debug)]
pub(crate) struct Etcd {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
}

#[derive(Debug)]
struct Shared {
    settings: EtcdSettings,
    options: ConnectOptions,
    /// The runtime that drives connections; callers live on others.
    handle: Handle,
    health: Arc<Health>,
}

/// The way to each server of etcd, of which one is used: the client's own balancing takes one by
/// chance, and so would come back to a dead one again and again.
#[derive(Debug)]
struct Connection {
    servers: Vec<Server>,
    /// The one that is asked; the next when it fails.
    at: AtomicUsize,
}

struct Server {
    client: Client,
    /// Whether the client has a token. Held while it gets one, so that loops that lost it
    /// together sign in once.
    signed_in: Mutex<bool>,
}

impl Etcd {
    /// Lazy: etcd need not be there.
    ///
    /// # Errors
    /// On what an operator must mend: an address, a file, half of a pair.
    pub(crate) async fn connect(settings: EtcdSettings, handle: Handle) -> Result<Self, EtcdError> {
        let mut secure = false;
        for endpoint in &settings.endpoints {
            secure |= check(endpoint)?;
        }
        if settings.endpoints.is_empty() {
            return Err(EtcdError::NoEndpoint);
        }
        if settings.user.is_some() != settings.password.is_some() {
            return Err(EtcdError::Settings(
                "`discovery.user` and `discovery.password` need each other: set both or neither",
            ));
        }
        let mut options = ConnectOptions::new()
            .with_connect_timeout(ETCD_DEADLINE)
            .with_keep_alive(ETCD_PROBE_INTERVAL, ETCD_PROBE_DEADLINE)
            .with_keep_alive_while_idle(true)
            // A server that has lost its cluster ends its streams rather than be silent.
            .with_require_leader(true);
        if let Some(tls) = tls::options(&settings, secure)? {
            options = options.with_tls(tls);
        }
        let health = Health::new();
        let shared = Arc::new(Shared { settings, options, handle, health });
        let connection = shared.dial().await?;
        Ok(Self { shared, connection })
    }

    /// Answers when etcd does.
    ///
    /// # Errors
    /// When it does not, in time.
    pub(crate) async fn ping(&self) -> Result<(), EtcdError> {
        let prefix = self.nodes_prefix();
        self.call(|mut etcd| {
            let (prefix, count) =
                (prefix.clone(), GetOptions::new().with_prefix().with_count_only());
            async move { etcd.get(prefix, Some(count)).await }
        })
        .await?;
        Ok(())
    }

    /// What a key of the cluster says.
    ///
    /// # Errors
    /// When etcd does not answer, in time.
    pub(crate) async fn value(&self, name: &str) -> Result<Option<String>, EtcdError> {
        let key = self.key(name);
        let found = self.call(|mut etcd| {
            let key = key.clone();
            async move { etcd.get(key, None).await }
        });
        let found = found.await?;
        Ok(found.kvs().first().map(|kv| String::from_utf8_lossy(kv.value()).into_owned()))
    }

    /// Makes a key of the cluster; of many who try, one hears that it was made.
    ///
    /// # Errors
    /// When etcd does not answer, in time.
    pub(crate) async fn create(&self, name: &str, value: &str) -> Result<bool, EtcdError> {
        let key = self.key(name);
        let absent = Compare::version(key.as_str(), CompareOp::Equal, 0);
        let put = TxnOp::put(key.as_str(), value, None);
        let txn = Txn::new().when([absent]).and_then([put]);
        let made = self.call(|mut etcd| {
            let txn = txn.clone();
            async move { etcd.txn(txn).await }
        });
        Ok(made.await?.succeeded())
    }

    /// The same etcd through a connection of its own.
    async fn apart(&self) -> Result<Self, EtcdError> {
        let connection = self.shared.dial().await?;
        Ok(Self { shared: self.shared.clone(), connection })
    }

    /// Asks etcd, within the deadline. What is asked may be asked twice: a server that cannot be
    /// reached passes the question on to the next, one that does not answer is left for the next
    /// question.
    async fn call<T, A>(&self, ask: impl Fn(Client) -> A) -> Result<T, EtcdError>
    where
        A: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let connection = &self.connection;
        let asking = async {
            let mut left = connection.servers.len();
            loop {
                let (n, server) = connection.server();
                let asked = match self.sign_in(server).await {
                    Ok(()) => ask(server.client.clone()).await,
                    Err(e) => Err(e),
                };
                left -= 1;
                match asked {
                    Ok(answer) => return Ok(answer),
                    Err(e) if error::unreachable(&e) => {
                        connection.leave(n);
                        if left == 0 {
                            return Err(EtcdError::from(e));
                        }
                    }
                    Err(e) => return Err(EtcdError::from(e)),
                }
            }
        };
        let (n, _) = connection.server();
        let answer = timeout(ETCD_DEADLINE, asking).await.unwrap_or_else(|_| {
            connection.leave(n);
            Err(EtcdError::TimedOut)
        });
        if let Err(EtcdError::Failed(_)) = &answer {
            self.sign_in_anew().await;
        }
        answer
    }

    /// Gets a token where a user is set and there is none yet.
    async fn sign_in(&self, server: &Server) -> Result<(), etcd_client::Error> {
        let settings = &self.shared.settings;
        let (Some(user), Some(password)) = (&settings.user, &settings.password) else {
            return Ok(());
        };
        let mut signed_in = server.signed_in.lock().await;
        if !*signed_in {
            let mut client = server.client.clone();
            client.update_user(Some((user.clone(), password.clone()))).await?;
            *signed_in = true;
        }
        Ok(())
    }

    /// A token may be what was wrong: etcd forgets it after five minutes, or when it starts.
    async fn sign_in_anew(&self) {
        if self.shared.settings.user.is_some() {
            for server in &self.connection.servers {
                *server.signed_in.lock().await = false;
            }
        }
    }

    fn patience(&self) -> Patience {
        // A third of the lease: whatever happened, there are further tries before it runs out.
        Patience::new(&self.shared.health, self.shared.settings.lease / 3)
    }

    fn key(&self, name: &str) -> String {
        format!("/bastide/{}/{name}", self.shared.settings.cluster)
    }

    fn nodes_prefix(&self) -> String {
        format!("/bastide/{}/nodes/", self.shared.settings.cluster)
    }

    fn election_key(&self, name: &str) -> String {
        format!("/bastide/{}/elections/{name}", self.shared.settings.cluster)
    }
}

impl Shared {
    /// A connection driven by the runtime that is meant for it, whoever asks through it.
    async fn dial(&self) -> Result<Arc<Connection>, EtcdError> {
        let mut servers = Vec::new();
        for endpoint in &self.settings.endpoints {
            let dialling = Client::connect([endpoint.clone()], Some(self.options.clone()));
            let dialled = self.handle.spawn(dialling).await.map_err(|_| EtcdError::Ending)?;
            let client = dialled.map_err(|e| EtcdError::Endpoint {
                endpoint: endpoint.clone(),
                why: e.to_string(),
            })?;
            servers.push(Server { client, signed_in: Mutex::new(false) });
        }
        // By chance, so that the nodes do not all ask the first.
        let at = AtomicUsize::new(rand::rng().random_range(0..servers.len()));
        Ok(Arc::new(Connection { servers, at }))
    }
}

impl Connection {
    fn server(&self) -> (usize, &Server) {
        let n = self.at.load(Ordering::Relaxed);
        (n, &self.servers[n % self.servers.len()])
    }

    /// Asks another from now on, unless that is done already.
    fn leave(&self, n: usize) {
        let next = n.wrapping_add(1);
        // A failure means that another loop has left it, and that is as good.
        let _left = self.at.compare_exchange(n, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl fmt::Debug for EtcdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoints, user, password, ca, cert, key, cluster, lease } = self;
        f.debug_struct("EtcdSettings")
            .field("endpoints", endpoints)
            .field("user", user)
            .field("password", &password.as_ref().map(|_| "…"))
            .field("ca", ca)
            .field("cert", cert)
            .field("key", key)
            .field("cluster", cluster)
            .field("lease", lease)
            .finish()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client shows its password.
        let Self { client: _, signed_in } = self;
        f.debug_struct("Server").field("signed_in", signed_in).finish_non_exhaustive()
    }
}

/// A bool that others watch, and that is false once nobody holds it true any more.
struct Flag(channel::Sender<bool>);

impl Flag {
    /// Says whether that changes it.
    fn set(&self, to: bool) -> bool {
        self.0.send_if_modified(|now| std::mem::replace(now, to) != to)
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Whether an address is one, and whether it wants TLS.
fn check(endpoint: &str) -> Result<bool, EtcdError> {
    let wrong = |endpoint: &str, why: &str| {
        Err(EtcdError::Endpoint { endpoint: endpoint.to_owned(), why: why.to_owned() })
    };
    if endpoint.contains('@') {
        // Not shown: what stands before it may be a password.
        let why = "a user belongs in `discovery.user` and `discovery.password`";
        return wrong("an address with `@`", why);
    }
    let secure = endpoint.starts_with("https://");
    if !secure && !endpoint.starts_with("http://") {
        return wrong(endpoint, "it begins with neither http:// nor https://");
    }
    match Url::parse(endpoint) {
        Err(e) => wrong(endpoint, &e.to_string()),
        Ok(url) if url.path() != "/" || url.query().is_some() || url.fragment().is_some() => {
            wrong(endpoint, "something follows the port")
        }
        Ok(_) => Ok(secure),
    }
}

#[cfg(test)]
mod tests;
