//! Owns the connection to Redis: one for the whole process, on which runtime it lives, how long
//! a command may take, what is said while Redis is away. Leaves what is asked to the cache and
//! to the claims of the directory.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::redis::{
    Client, ErrorKind, FromRedisValue, IntoConnectionInfo as _, RedisError, RedisResult,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::{runtime::Handle, time::timeout};

pub(crate) use ::redis::{Cmd, Script};

use super::cache::CacheError;
use crate::{config::redacted, limits::CACHE_DEADLINE, outage::Outage};

/// How long one answer may take, and one attempt to connect: half of the deadline, so that a
/// command that finds its connection broken has time for a new one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause before the one retry of a connection attempt. Each command that comes while Redis
/// is away waits through it, so it is short.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// After this long without a sign from its host a connection counts as broken; the operating
/// system alone would wait for a quarter of an hour.
const HOST_SILENT_MAX: Duration = Duration::from_secs(5);

/// A Redis that the nodes of one cluster share. A clone is a handle to the same connection.
#[derive(Clone)]
pub(crate) struct Redis(Arc<Shared>);

struct Shared {
    /// As the operator wrote it, without the password.
    shown: String,
    prefix: String,
    client: Client,
    /// The runtime that drives the connection; callers live on others (an HTTP worker, a shard).
    handle: Handle,
    /// Std mutex: held to clone or replace, never across an await.
    manager: Mutex<ConnectionManager>,
    outage: Outage,
}

/// Why `cache.redis` cannot be used. That Redis is away is no such reason: a node starts all the
/// same.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheOpenError {
    /// `cache.redis` is not the address of a Redis.
    #[error(
        "`cache.redis` is {url}, which leads to no Redis ({source}): \
         give redis://host:6379, or rediss://host:6379 for TLS"
    )]
    Url { url: String, source: RedisError },
}

impl Redis {
    /// A handle to the Redis at `url`, whether it is up or not: the first command connects.
    /// Every key begins with the name of the cluster. The braces around it put all keys of a
    /// cluster into one slot of Redis Cluster, since a script must not reach beyond one.
    pub(crate) fn open(url: &str, cluster: &str, handle: Handle) -> Result<Self, CacheOpenError> {
        let shown = redacted(url);
        let bad_url = |source| CacheOpenError::Url { url: shown.clone(), source };
        let info = url.into_connection_info().map_err(bad_url)?;
        // The client asks rustls for a process-wide provider and panics when there is none.
        // An error says that one is installed already.
        drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default());
        let tcp = info.tcp_settings().clone();
        let keepalive =
            socket2::TcpKeepalive::new().with_time(HOST_SILENT_MAX).with_interval(ANSWER_TIMEOUT);
        let tcp = tcp.set_nodelay(true).set_keepalive(keepalive);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(HOST_SILENT_MAX);
        let client = Client::open(info.set_tcp_settings(tcp)).map_err(bad_url)?;
        let manager = connect(&client, &handle).map_err(bad_url)?;
        tracing::info!(target: "store", url = shown, "cache in Redis");
        Ok(Self(Arc::new(Shared {
            shown,
            prefix: format!("bastide:{{{cluster}}}:"),
            client,
            handle,
            manager: Mutex::new(manager),
            outage: Outage::new("cache.redis"),
        })))
    }

    /// Answers when Redis does.
    pub(crate) async fn ping(&self) -> Result<(), CacheError> {
        self.command(::redis::cmd("PING")).await
    }

    /// The key of this name among those of the cluster.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.0.prefix)
    }

    /// Runs a command. It may be run twice when the connection breaks in the middle, and after
    /// an error it may have been run or not.
    pub(crate) async fn command<T>(&self, command: Cmd) -> Result<T, CacheError>
    where
        T: FromRedisValue + Send + 'static,
    {
        self.run(move |mut connection| {
            let command = command.clone();
            async move { command.query_async(&mut connection).await }
        })
        .await
    }

    /// Runs a script, with the same reservations as [`Redis::command`]. Redis is given its text
    /// when it does not know it yet, as after a restart.
    pub(crate) async fn script<T>(
        &self,
        script: &'static Script,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
    ) -> Result<T, CacheError>
    where
        T: FromRedisValue + Send + 'static,
    {
        let asked = Arc::new((keys, args));
        self.run(move |mut connection| {
            let asked = Arc::clone(&asked);
            async move {
                let mut invocation = script.prepare_invoke();
                invocation.key(&asked.0).arg(&asked.1);
                invocation.invoke_async(&mut connection).await
            }
        })
        .await
    }

    /// Runs what is asked on the runtime of the connection, with the deadline. When the caller
    /// stops waiting it goes on to its end.
    async fn run<T, F, Fut>(&self, ask: F) -> Result<T, CacheError>
    where
        T: Send + 'static,
        F: Fn(ConnectionManager) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = RedisResult<T>> + Send,
    {
        let shared = Arc::clone(&self.0);
        let asked = self.0.handle.spawn(async move {
            let answer = match timeout(CACHE_DEADLINE, shared.ask(ask)).await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err(format!("nothing came within {CACHE_DEADLINE:?}")),
            };
            match &answer {
                Ok(_) => shared.outage.back(),
                Err(why) => shared.outage.away(why),
            };
            answer
        });
        match asked.await {
            Ok(answer) => answer.map_err(CacheError::Unavailable),
            // The runtime is being shut down.
            Err(error) => Err(CacheError::Unavailable(format!("nobody asked it ({error})"))),
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.0.shown).finish()
    }
}

impl Shared {
    /// Asks, and once more on a new connection when the one it had turned out to be broken.
    async fn ask<T, F, Fut>(&self, ask: F) -> RedisResult<T>
    where
        F: Fn(ConnectionManager) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        match ask(self.manager()).await {
            // The manager connects anew only when somebody asks, and gives its failure to the
            // next one: what was just told may be an hour old.
            Err(error) if error.is_connection_dropped() => ask(self.manager()).await,
            // This failure it would even give to everybody, for ever.
            Err(error) if error.kind() == ErrorKind::AuthenticationFailed => {
                *self.manager.lock().unwrap_or_else(PoisonError::into_inner) =
                    connect(&self.client, &self.handle)?;
                ask(self.manager()).await
            }
            answer => answer,
        }
    }

    fn manager(&self) -> ConnectionManager {
        self.manager.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A connection that is made when it is first used, and made anew when it breaks.
fn connect(client: &Client, handle: &Handle) -> RedisResult<ConnectionManager> {
    let _runtime = handle.enter();
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(ANSWER_TIMEOUT))
        .set_connection_timeout(Some(ANSWER_TIMEOUT))
        .set_number_of_retries(1)
        .set_min_delay(RECONNECT_PAUSE)
        .set_max_delay(RECONNECT_PAUSE);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str) -> Redis {
        Redis::open(url, &bastide_testkit::cluster_name(), Handle::current()).unwrap()
    }

    #[tokio::test]
    async fn a_handle_is_made_while_redis_is_away_and_an_error_names_what_to_do() {
        // Port 1 is nobody's.
        let redis = open("redis://:s3cret@127.0.0.1:1");
        let sentence = redis.ping().await.unwrap_err().to_string();
        assert!(sentence.contains("`cache.redis`") && sentence.contains("refused"), "{sentence}");
        assert!(!format!("{redis:?} {sentence}").contains("s3cret"), "{redis:?} {sentence}");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_with_a_remedy_and_without_its_password() {
        for url in ["postgres://town:s3cret@db/0", "redis://town:s3cret@db/x", "s3cret@db"] {
            let sentence =
                Redis::open(url, "c", Handle::current()).map(drop).unwrap_err().to_string();
            assert!(sentence.contains("`cache.redis`") && sentence.contains("rediss://"));
            assert!(!sentence.contains(":s3cret"), "{sentence}");
        }
    }

    #[tokio::test]
    async fn every_key_is_in_the_slot_of_its_cluster() {
        let redis = Redis::open("redis://127.0.0.1:1", "town-1", Handle::current()).unwrap();
        assert_eq!(redis.key("value:k"), "bastide:{town-1}:value:k");
    }

    #[test]
    fn a_caller_on_another_runtime_is_served_and_its_end_harms_nobody() {
        let url = bastide_testkit::shared().redis.url();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let redis =
            Redis::open(&url, &bastide_testkit::cluster_name(), runtime.handle().clone()).unwrap();
        for _ in 0..2 {
            // Without timers and sockets, and gone after its question.
            let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
            other.block_on(redis.ping()).unwrap();
        }
        drop(runtime);
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        other.block_on(redis.ping()).unwrap_err();
    }

    #[tokio::test]
    async fn tls_towards_a_server_without_it_is_an_error_and_no_panic() {
        let url = bastide_testkit::shared().redis.url().replace("redis://", "rediss://");
        let CacheError::Unavailable(why) = open(&url).ping().await.unwrap_err();
        assert!(!why.contains("panicked"), "{why}");
    }

    #[tokio::test]
    async fn a_wrong_password_is_named_and_tried_again() {
        let server = bastide_testkit::Redis::start();
        let open_one = open(&server.url());
        let password = |word: &str| {
            let mut set = ::redis::cmd("CONFIG");
            set.arg("SET").arg("requirepass").arg(word);
            set
        };
        open_one.command::<()>(password("right")).await.unwrap();
        let redis = open(&server.url().replace("redis://", "redis://:other@"));
        for _ in 0..2 {
            let sentence = redis.ping().await.unwrap_err().to_string();
            assert!(sentence.to_lowercase().contains("password"), "{sentence}");
        }
        open_one.command::<()>(password("other")).await.unwrap();
        redis.ping().await.unwrap();
    }

    #[tokio::test]
    async fn an_outage_is_known_as_long_as_it_lasts() {
        let mut server = bastide_testkit::Redis::start();
        let redis = open(&server.url());
        redis.ping().await.unwrap();
        server.stop();
        redis.ping().await.unwrap_err();
        assert!(!redis.0.outage.away(&"asked"), "it was told already");
        server.restart();
        redis.ping().await.unwrap();
        assert!(!redis.0.outage.back(), "its end was told already");
    }
}
