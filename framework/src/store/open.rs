//! Owns the way from `store.url` to a store: which database it names, what may be wrong with it,
//! and its tables. Leaves how each is connected to `sqlite` and `postgres`.

use std::{io, path::PathBuf, sync::LazyLock};

use sqlx::{
    AnyConnection, SqlSafeStr as _,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};
use tokio::runtime::Handle;

use super::{Sql, postgres, sqlite};
use crate::config::redacted;

/// Without sqlx's macro, which would build every database driver a second time for the compiler:
/// most of a minute.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let start = include_str!("../../migrations/0001_start.sql").into_sql_str();
    let start = Migration::new(1, "start".into(), MigrationType::Simple, start, false);
    let bans = include_str!("../../migrations/0002_bans.sql").into_sql_str();
    let bans = Migration::new(2, "bans".into(), MigrationType::Simple, bans, false);
    let accounts = include_str!("../../migrations/0003_accounts.sql").into_sql_str();
    let accounts = Migration::new(3, "accounts".into(), MigrationType::Simple, accounts, false);
    let sign_ins = include_str!("../../migrations/0004_sign_ins.sql").into_sql_str();
    let sign_ins = Migration::new(4, "sign_ins".into(), MigrationType::Simple, sign_ins, false);
    let identities = include_str!("../../migrations/0005_identities.sql").into_sql_str();
    let identities =
        Migration::new(5, "identities".into(), MigrationType::Simple, identities, false);
    Migrator::with_migrations(vec![start, bans, accounts, sign_ins, identities])
});

/// Why a store could not be opened; each is for the operator, who can set it right.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// `store.url` names a database this build does not speak.
    #[error(
        "`store.url` is {url}, which is no store known here: \
         give a file as sqlite:///absolute/path/town.db, \
         or a PostgreSQL database as postgres://user:password@host/town"
    )]
    UnknownScheme { url: String },
    /// The path is empty, or has a `?` with parameters after it.
    #[error(
        "`store.url` is {url}, which does not name a file: \
         give sqlite:// and a path without parameters, such as sqlite:///absolute/path/town.db"
    )]
    NoFile { url: String },
    /// The path of the file is a folder.
    #[error(
        "`store.url` names {}, which is a directory: \
         name a file in it, such as {}", path.display(), path.join("town.db").display()
    )]
    Directory { path: PathBuf },
    /// The folder of the file cannot be made.
    #[error(
        "the folder {} of `store.url` cannot be created ({source}): \
         create it, or choose another with --data", path.display()
    )]
    Folder { path: PathBuf, source: io::Error },
    /// The file, or the lock beside it, cannot be read and written.
    #[error(
        "the file {} of `store.url` cannot be read and written ({source}): \
         let this user own it, or choose another folder with --data", path.display()
    )]
    Denied { path: PathBuf, source: io::Error },
    /// A running town holds the lock.
    #[error(
        "another town is using {}: stop it, or give this one its own --data folder",
        path.display()
    )]
    Taken { path: PathBuf },
    /// The file is something else than a SQLite database.
    #[error(
        "the file {} of `store.url` is not a SQLite database: \
         move it away, or name another file", path.display()
    )]
    NotADatabase { path: PathBuf },
    /// The url of a PostgreSQL is no url; not shown, since nobody knows where the password is.
    #[error(
        "`store.url` cannot be read ({said}): give postgres://user:password@host:5432/database, \
         with the marks / ? # @ : % of a password written as %2F %3F %23 %40 %3A %25"
    )]
    Malformed { said: String },
    /// PostgreSQL knows no such user with that password.
    #[error(
        "the database {url} of `store.url` refuses this user name or password: \
         set them right in `store.url`"
    )]
    WrongPassword { url: String },
    /// PostgreSQL does not let this user in from here, whatever the password: it does not exist,
    /// or `pg_hba.conf` has no line for it, or only one that asks for TLS. Its text says which, in
    /// the server's language.
    #[error(
        "the database {url} of `store.url` refuses this user ({said}): see that the user exists \
         and that pg_hba.conf on the server lets it in from here; where that asks for TLS, add \
         ?sslmode=require to `store.url`"
    )]
    NotAllowed { url: String, said: String },
    /// `store.url` asks for TLS, and the server has none, or a certificate that is not trusted.
    #[error(
        "no TLS with the database {url} of `store.url` ({said}): \
         set sslmode and sslrootcert in `store.url` to what its server has"
    )]
    NoTls { url: String, said: String },
    /// The server has no database of that name.
    #[error(
        "the server of `store.url` has no database {url}: \
         create it with `createdb`, or name another"
    )]
    NoDatabase { url: String },
    /// The user may not make tables, as is usual since PostgreSQL 15.
    #[error(
        "the user of {url} of `store.url` may not make tables there ({said}): \
         let it own the database, with ALTER DATABASE … OWNER TO …"
    )]
    NotOwner { url: String, said: String },
    /// The server is not there, or not there yet. Nothing is wrong with `store.url` as far as
    /// one can see: wait, and try again.
    #[error(
        "the database {url} of `store.url` does not answer ({said}): \
         see whether its server is up and can be reached from here"
    )]
    Away { url: String, said: String },
    /// A newer release has changed the tables.
    #[error(
        "the database {url} of `store.url` was written by another release (migration {version}): \
         start that release, or restore a backup made before it"
    )]
    OtherRelease { url: String, version: i64 },
    /// The database refused for a reason of its own.
    #[error("the database {url} of `store.url` cannot be opened: {source}")]
    Failed { url: String, source: sqlx::Error },
}

impl OpenError {
    /// Whether waiting may help: the server is unreachable or starts just now. All else is for
    /// the operator to set right.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// Opens what `url` names and brings its tables up to date.
pub(super) async fn open(url: &str, handle: Handle) -> Result<Sql, OpenError> {
    sqlx::any::install_default_drivers();
    let shown = redacted(url);
    if let Some(path) = url.strip_prefix("sqlite:") {
        return sqlite::open(path, shown, handle).await;
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return postgres::open(url, shown, handle).await;
    }
    Err(OpenError::UnknownScheme { url: shown })
}

/// Brings the tables up to date. sqlx locks a PostgreSQL meanwhile, so that of several nodes which
/// start at once one makes the tables and the others find them; a SQLite file is locked already.
pub(super) async fn migrate(
    connection: &mut AnyConnection,
    url: &str,
    failed: impl Fn(sqlx::Error) -> OpenError,
) -> Result<(), OpenError> {
    // `run` takes an `Acquire`, which no spawned future can borrow a connection for.
    MIGRATIONS.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => {
            OpenError::OtherRelease { url: url.to_owned(), version }
        }
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => failed(source),
        other => failed(sqlx::Error::Migrate(Box::new(other))),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::refused;

    #[test]
    fn every_file_of_migrations_is_among_them() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let files = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(super::MIGRATIONS.iter().count(), files);
    }

    #[tokio::test]
    async fn an_unknown_url_is_named_without_its_password() {
        let said = refused("mysql://town:hunter2@db/town?password=hunter2").await;
        assert!(said.contains("`store.url` is mysql://town:…@db/town"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        assert!(said.contains("sqlite:///") && said.contains("postgres://"), "{said}");
        for odd in ["town.db", "", "postgres:town:hunter2@db", "pg://a:hunter2@x@db"] {
            let said = refused(odd).await;
            assert!(said.contains("no store known here") && !said.contains("hunter2"), "{said}");
        }
        for odd in ["sqlite://", "sqlite:", "sqlite::memory:", "sqlite:///a.db?mode=ro"] {
            assert!(refused(odd).await.contains("does not name a file"), "{odd}");
        }
    }
}
