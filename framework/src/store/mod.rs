//! Owns the SQL store: how it is opened, on which runtime its queries run, how long they may take.
//! Leaves what is kept to `records` (entities, counters, secrets), `accounts` with `changes` and
//! `identities`, `sign_ins`, `signing_keys` and `audit`; what need not survive a restart is in
//! `cache`, which a cluster has in `redis`.

mod accounts;
mod audit;
mod cache;
mod changes;
mod identities;
mod open;
mod postgres;
mod records;
mod redis;
mod sign_ins;
mod signing_keys;
mod sqlite;

use std::{
    fmt,
    fs::File,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::{AnyPool, Executor as _};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{error::Elapsed, timeout},
};

pub(crate) use self::redis::{CacheOpenError, Cmd, Redis, Script};
pub(crate) use accounts::{
    Account, AccountStatus, CreateError, NewAccount, PasswordHash, username_key,
};
pub(crate) use audit::{Note, Noted, What};
pub(crate) use cache::{Cache, CacheError, Found, Range, Rank, Swap};
pub(crate) use changes::Change;
pub(crate) use open::OpenError;
pub(crate) use sign_ins::{Begun, NewSignIn, NotBegun, RefreshHash, SignIn};
pub(crate) use signing_keys::SigningKey;

use records::MemoryRecords;

use crate::{limits::STORE_DEADLINE, outage::Outage};

/// What a town keeps across restarts. A clone is a handle to the same store.
#[derive(Clone)]
pub(crate) struct Store(Backend);

#[derive(Clone)]
enum Backend {
    Sql(Arc<Sql>),
    /// Nothing but records, for tests with a paused clock: no thread is ever waited for.
    Memory(Arc<MemoryRecords>),
}

struct Sql {
    /// As the operator wrote it, without the password.
    shown: String,
    /// The runtime that drives the pools; callers live on others (an HTTP worker, a shard).
    handle: Handle,
    read: AnyPool,
    /// SQLite: one connection, since a transaction that begins to write while another writes
    /// fails at once, whatever the busy timeout is. PostgreSQL: the same pool as `read`.
    write: AnyPool,
    outage: Outage,
    /// Keeps a second town away from a SQLite file; `close` gives it up. `None` on PostgreSQL.
    /// Std mutex: held to take the file out, never across an await.
    lock: Mutex<Option<File>>,
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another node owns the record by now. Stop the entity here without saving.
    #[error("a newer owner holds this record, so the write was refused: stop the entity here")]
    Fenced,
    /// The database is away, slow or broken. Ask again later; whether it was done is unknown.
    #[error("the store of `store.url` did not answer: {0}; see whether the database is up")]
    Unavailable(String),
}

impl Store {
    /// Opens the store that `url` names (`sqlite:///abs/path/town.db`, `sqlite://rel.db`,
    /// `postgres://user:password@host/database`) and brings its tables up to date. Creates a file
    /// and its folder where they are absent, never a database of a server.
    pub(crate) async fn open(url: &str, handle: Handle) -> Result<Self, OpenError> {
        let opened = open::open(url, handle).await?;
        tracing::info!(target: "store", url = opened.shown, "store opened");
        Ok(Self(Backend::Sql(Arc::new(opened))))
    }

    /// A store without SQL that forgets everything with its last clone. Knows no accounts.
    pub(crate) fn memory() -> Self {
        Self(Backend::Memory(Arc::default()))
    }

    /// Answers when the database does.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        let Backend::Sql(sql) = &self.0 else { return Ok(()) };
        let pool = sql.write.clone();
        sql.run(async move { pool.execute("SELECT 1").await.map(drop) }).await
    }

    /// Closes the connections and lets another town have the file. Later calls answer
    /// [`StoreError::Unavailable`].
    pub(crate) async fn close(&self) {
        let Backend::Sql(sql) = &self.0 else { return };
        let (read, write) = (sql.read.clone(), sql.write.clone());
        let closed = sql.run(async move {
            read.close().await;
            write.close().await;
            Ok(())
        });
        if let Err(error) = closed.await {
            tracing::warn!(target: "store", %error, "the store did not close in time");
        }
        drop(sql.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match &self.0 {
            Backend::Sql(sql) => sql.shown.as_str(),
            Backend::Memory(_) => "memory",
        };
        f.debug_tuple("Store").field(&shown).finish()
    }
}

impl Sql {
    /// Runs a query on the store's runtime, with the deadline. When the caller stops waiting the
    /// query goes on to its end: a write is never cut in half.
    async fn run<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        self.run_raw(query).await.map_err(unavailable)
    }

    /// Begins a query on the store's runtime, with the deadline; it goes on when nobody waits.
    fn start<T, F>(&self, query: F) -> JoinHandle<Result<Result<T, sqlx::Error>, Elapsed>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        // The timer is made inside: the caller's runtime may have none.
        self.handle.spawn(async { timeout(STORE_DEADLINE, query).await })
    }

    /// Like [`Sql::run`], for whoever tells one database error from another.
    async fn run_raw<T, F>(&self, query: F) -> Result<T, sqlx::Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        let done = match self.start(query).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(sqlx::Error::PoolTimedOut),
            Err(_) => Err(sqlx::Error::WorkerCrashed),
        };
        let _news: bool = match &done {
            Err(e @ (sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut)) => self.outage.away(e),
            // 57P: PostgreSQL stops, or has only just started.
            Err(sqlx::Error::Database(e)) if e.code().is_some_and(|c| c.starts_with("57P")) => {
                self.outage.away(e)
            }
            // A database that refuses is there.
            Ok(_) | Err(sqlx::Error::Database(_)) => self.outage.back(),
            Err(_) => false,
        };
        done
    }
}

fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(match error {
        sqlx::Error::PoolTimedOut => format!("nothing came within {STORE_DEADLINE:?}"),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) async fn sqlite(folder: &tempfile::TempDir) -> Store {
        opened(&url(folder)).await
    }

    fn url(folder: &tempfile::TempDir) -> String {
        format!("sqlite://{}/town.db", folder.path().display())
    }

    /// An empty store of each kind that survives a restart: what holds on one holds on both.
    pub(super) fn urls(folder: &tempfile::TempDir) -> [String; 2] {
        [url(folder), bastide_testkit::shared().postgres.database()]
    }

    pub(super) async fn opened(url: &str) -> Store {
        Store::open(url, Handle::current()).await.unwrap()
    }

    /// What the operator is told.
    pub(super) async fn refused(url: &str) -> String {
        Store::open(url, Handle::current()).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_closed_store_says_unavailable_and_frees_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = sqlite(&folder).await;
        store.ping().await.unwrap();
        store.close().await;
        assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
        // The first store still lives: only `close` can have freed the file.
        sqlite(&folder).await.ping().await.unwrap();
        assert!(format!("{store:?}").contains("town.db"));
    }

    #[test]
    fn a_caller_on_another_runtime_is_served() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = runtime.block_on(async { sqlite(&folder).await });
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        other.block_on(store.ping()).unwrap();
    }

    #[tokio::test]
    async fn a_query_that_hangs_ends_at_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let store = sqlite(&folder).await;
        let Backend::Sql(sql) = &store.0 else { panic!("opened as SQL") };
        tokio::time::pause();
        let hung = sql.run(std::future::pending::<Result<(), sqlx::Error>>()).await;
        assert!(hung.unwrap_err().to_string().contains(&format!("{STORE_DEADLINE:?}")));
    }
}
