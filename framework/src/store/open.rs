//! Owns the way from `store.url` to open connections: the path, the lock beside the file, the
//! pragmas, the migrations. Leaves queries to the rest of `store`.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use sqlx::{
    AnyConnection, Connection as _, Executor as _,
    any::AnyPoolOptions,
    migrate::{MigrateError, Migrator},
};
use tokio::runtime::Handle;

use super::Sql;
use crate::limits::STORE_DEADLINE;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// 4: SQLite reads from its page cache; each connection is a thread.
const READERS: u32 = 4;

/// WAL lets readers go on while the writer writes; NORMAL may lose the last commits on a power
/// cut, never the file. The busy timeout covers a checkpoint.
const PRAGMAS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; \
                       PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;";
const READER_PRAGMAS: &str = "PRAGMA busy_timeout = 5000; PRAGMA synchronous = NORMAL; \
                              PRAGMA foreign_keys = ON; PRAGMA query_only = ON;";

/// Why a store could not be opened; each is for the operator, who can set it right.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// `store.url` names a database this build does not speak.
    #[error(
        "`store.url` is {url}, which is no store known here: \
         give a file as sqlite:///absolute/path/town.db"
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

/// Opens what `url` names and brings its tables up to date.
pub(super) async fn open(url: &str, handle: Handle) -> Result<Sql, OpenError> {
    sqlx::any::install_default_drivers();
    let shown = without_password(url);
    let Some(path) = url.strip_prefix("sqlite:") else {
        return Err(OpenError::UnknownScheme { url: shown });
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.contains('?') || path.contains(":memory:") {
        return Err(OpenError::NoFile { url: shown });
    }
    let (path, lock) = claim(Path::new(path))?;
    let opening = sqlite(path, shown, lock, handle.clone());
    handle.spawn(opening).await.expect("opening a database does not panic")
}

/// Makes the file and its folder, and locks it against a second town.
fn claim(path: &Path) -> Result<(PathBuf, File), OpenError> {
    let denied = |path: &Path, source| OpenError::Denied { path: path.to_owned(), source };
    let path = std::path::absolute(path).map_err(|e| denied(path, e))?;
    if path.is_dir() {
        return Err(OpenError::Directory { path });
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)
        .map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?;

    let mut beside = path.clone().into_os_string();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let lock = private(&beside).map_err(|e| denied(&beside, e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Taken { path }),
        Err(TryLockError::Error(e)) => return Err(denied(&beside, e)),
    }
    // SQLite falls back to reading only when it may not write, and says so at the first write.
    private(&path).map_err(|e| denied(&path, e))?;
    Ok((path, lock))
}

/// Opens for reading and writing; what it creates is for this user alone, since the database
/// holds password hashes and the key that signs tokens.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

async fn sqlite(path: PathBuf, url: String, lock: File, handle: Handle) -> Result<Sql, OpenError> {
    let failed = |source: sqlx::Error| match &source {
        // 26 is SQLITE_NOTADB.
        sqlx::Error::Database(e) if e.code().as_deref() == Some("26") => {
            OpenError::NotADatabase { path: path.clone() }
        }
        _ => OpenError::Failed { url: url.clone(), source },
    };
    let database = format!("sqlite://{}?mode=rw", percent_encoded(&path.to_string_lossy()));

    // One connection first and by itself: a pool would hide the reason behind its own timeout.
    let mut first = AnyConnection::connect(&database).await.map_err(failed)?;
    first.execute(PRAGMAS).await.map_err(failed)?;
    migrate(&mut first, &url, failed).await?;
    first.close().await.map_err(failed)?;

    let pool = |size, pragmas: &'static str| {
        AnyPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(STORE_DEADLINE)
            .idle_timeout(None)
            .max_lifetime(None)
            .after_connect(move |connection, _| {
                Box::pin(async move { connection.execute(pragmas).await.map(drop) })
            })
            .connect_lazy(&database)
            .map_err(failed)
    };
    let (write, read) = (pool(1, PRAGMAS)?, pool(READERS, READER_PRAGMAS)?);
    Ok(Sql { shown: url, handle, read, write, lock: Mutex::new(Some(lock)) })
}

async fn migrate(
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

/// The url as a log may show it: what stands between the user's name and the last `@`, and all
/// parameters, are left out.
fn without_password(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let Some((login, host)) = url.rsplit_once('@') else { return url.to_owned() };
    let Some((scheme, login)) = login.split_once("://") else { return format!("…@{host}") };
    match login.split_once(':') {
        Some((user, _password)) => format!("{scheme}://{user}:…@{host}"),
        None => format!("{scheme}://{login}@{host}"),
    }
}

/// A path as the path of a url: `?`, `#`, `%` and spaces are legal in names of files.
fn percent_encoded(path: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::{super::Store, *};

    async fn refused(url: &str) -> String {
        Store::open(url, Handle::current()).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn the_folder_and_the_file_are_made_and_the_file_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b/50% #1/town.db");
        let store = Store::open(&format!("sqlite://{}", path.display()), Handle::current()).await;
        store.unwrap().ping().await.unwrap();
        assert!(path.metadata().unwrap().len() > 0, "the tables lie in the file that was named");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn a_second_town_on_the_same_file_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/town.db", folder.path().display());
        let first = Store::open(&url, Handle::current()).await.unwrap();
        let said = refused(&url).await;
        assert!(said.starts_with("another town is using /"), "{said}");
        assert!(said.contains("town.db") && said.contains("--data"), "{said}");
        drop(first);
        Store::open(&url, Handle::current()).await.unwrap();
    }

    #[tokio::test]
    async fn a_directory_as_database_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let said = refused(&format!("sqlite://{}", folder.path().display())).await;
        assert!(said.contains("is a directory") && said.contains("`store.url`"), "{said}");
        assert!(said.contains("town.db"), "{said}");
    }

    #[tokio::test]
    async fn a_folder_that_is_a_file_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notes");
        fs::write(&file, "text").unwrap();
        let said = refused(&format!("sqlite://{}/town.db", file.display())).await;
        assert!(said.contains("cannot be created") && said.contains("--data"), "{said}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("town.db");
        let text = "dear diary, ".repeat(100);
        fs::write(&path, &text).unwrap();
        let said = refused(&format!("sqlite://{}", path.display())).await;
        assert!(said.contains("is not a SQLite database"), "{said}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[tokio::test]
    async fn a_database_of_a_newer_release_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/town.db", folder.path().display());
        let store = Store::open(&url, Handle::current()).await.unwrap();
        let super::super::Backend::Sql(sql) = &store.0 else { panic!("opened as SQL") };
        let newer = "INSERT INTO _sqlx_migrations \
                     (version, description, success, checksum, execution_time) \
                     VALUES (9999, 'later', TRUE, x'00', 1)";
        sql.write.execute(newer).await.unwrap();
        store.close().await;
        let said = refused(&url).await;
        assert!(said.contains("another release (migration 9999)"), "{said}");
    }

    #[tokio::test]
    async fn an_unknown_url_is_named_without_its_password() {
        let said = refused("mysql://town:hunter2@db/town?password=hunter2").await;
        assert!(said.contains("`store.url` is mysql://town:…@db/town"), "{said}");
        assert!(!said.contains("hunter2") && said.contains("sqlite:///"), "{said}");
        for odd in ["town.db", "", "postgres:town:hunter2@db", "pg://a:hunter2@x@db"] {
            let said = refused(odd).await;
            assert!(said.contains("no store known here") && !said.contains("hunter2"), "{said}");
        }
        for odd in ["sqlite://", "sqlite:", "sqlite::memory:", "sqlite:///a.db?mode=ro"] {
            assert!(refused(odd).await.contains("does not name a file"), "{odd}");
        }
    }
}
