//! Owns a store that is a PostgreSQL database: its pool, what a session may take, what its
//! refusals mean. Leaves which tables it has to `open`, queries to the rest of `store`.

use std::{future::Future, io::ErrorKind, sync::Mutex, time::Duration};

use sqlx::{
    AnyConnection, AnyPool, AssertSqlSafe, Connection as _, Error, Executor as _,
    any::AnyPoolOptions,
};
use tokio::{runtime::Handle, time::timeout};

use super::{
    Sql,
    open::{OpenError, migrate},
};
use crate::{
    limits::{
        STORE_CHECK_DEADLINE, STORE_CONNECTIONS_MAX, STORE_DEADLINE, STORE_LOCK_DEADLINE,
        STORE_MIGRATIONS_DEADLINE, STORE_STATEMENT_DEADLINE,
    },
    outage::Outage,
};

/// Connects once, so that what is wrong is known at the start, and brings the tables up to date.
pub(super) async fn open(url: &str, shown: String, handle: Handle) -> Result<Sql, OpenError> {
    let opening = connect(url.to_owned(), shown, handle.clone());
    handle.spawn(opening).await.expect("opening a database does not panic")
}

async fn connect(url: String, shown: String, handle: Handle) -> Result<Sql, OpenError> {
    let failed = |error| refusal(error, &url, &shown);
    // One connection first and by itself: a pool would hide the reason behind its own timeout.
    // It has no settings of its own: a migration may take longer than a statement.
    let connecting = AnyConnection::connect(&url);
    let mut first = within(STORE_DEADLINE, &shown, connecting).await?.map_err(failed)?;
    let migrating = migrate(&mut first, &shown, failed);
    within(STORE_MIGRATIONS_DEADLINE, &shown, migrating).await??;
    // The tables are there, however the server takes the farewell.
    first.close().await.ok();

    let pool = pool(&url).map_err(failed)?;
    let outage = Outage::new("store.url");
    Ok(Sql { shown, handle, read: pool.clone(), write: pool, outage, lock: Mutex::new(None) })
}

async fn within<T>(
    limit: Duration,
    url: &str,
    what: impl Future<Output = T>,
) -> Result<T, OpenError> {
    timeout(limit, what).await.map_err(|_| OpenError::Away {
        url: url.to_owned(),
        said: format!("nothing came within {limit:?}"),
    })
}

/// The pool asks each connection whether it is there before it lends it and when it comes back,
/// and asks with a deadline: sqlx's own questions have none, and an answer that is lost on its
/// way would keep the connection from the pool until the system gives up, a quarter of an hour.
fn pool(url: &str) -> Result<AnyPool, Error> {
    // The server gives up before this side does: then the connection is clean, and the caller
    // hears the reason.
    let settings = format!(
        "SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = {}",
        STORE_STATEMENT_DEADLINE.as_millis(),
        STORE_LOCK_DEADLINE.as_millis(),
        STORE_DEADLINE.as_millis(),
    );
    AnyPoolOptions::new()
        .max_connections(STORE_CONNECTIONS_MAX)
        .acquire_timeout(STORE_DEADLINE)
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(answers(connection)))
        .after_release(|connection, _| Box::pin(answers(connection)))
        .after_connect(move |connection, _| {
            let settings = AssertSqlSafe(settings.clone());
            Box::pin(async move { connection.execute(settings).await.map(drop) })
        })
        .connect_lazy(url)
}

/// False: close it, and take another.
async fn answers(connection: &mut AnyConnection) -> Result<bool, Error> {
    Ok(matches!(timeout(STORE_CHECK_DEADLINE, connection.ping()).await, Ok(Ok(()))))
}

/// What a first connection that failed means for the operator.
fn refusal(error: Error, url: &str, shown: &str) -> OpenError {
    let shown = shown.to_owned();
    match error {
        Error::Configuration(error) => OpenError::Malformed { said: error.to_string() },
        Error::Tls(error) => OpenError::NoTls { url: shown, said: error.to_string() },
        Error::Io(error) => match error.kind() {
            // Of rustls: a certificate that is not trusted, or no TLS at all.
            ErrorKind::InvalidData => OpenError::NoTls { url: shown, said: error.to_string() },
            // A socket of this machine may come yet; a certificate that `store.url` names will not.
            ErrorKind::NotFound if url.contains("ssl") => {
                OpenError::NoTls { url: shown, said: error.to_string() }
            }
            ErrorKind::PermissionDenied => {
                OpenError::Failed { url: shown, source: Error::Io(error) }
            }
            _ => OpenError::Away { url: shown, said: error.to_string() },
        },
        Error::Database(error) => {
            let said = error.message().to_owned();
            match error.code().as_deref().unwrap_or_default() {
                "28P01" => OpenError::WrongPassword { url: shown },
                "28000" => OpenError::NotAllowed { url: shown, said },
                "3D000" => OpenError::NoDatabase { url: shown },
                "42501" => OpenError::NotOwner { url: shown, said },
                code if passes(code) => OpenError::Away { url: shown, said },
                _ => OpenError::Failed { url: shown, source: Error::Database(error) },
            }
        }
        source => OpenError::Failed { url: shown, source },
    }
}

/// Whether a refusal passes by itself: the connection broke (08), the server is full (53), it
/// starts or stops (57P).
fn passes(code: &str) -> bool {
    ["08", "53", "57P"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests;
