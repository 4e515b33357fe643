//! Owns a store that is a SQLite file: its path, the lock beside it, its pragmas. Leaves which
//! tables it has to `open`, queries to the rest of `store`.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use sqlx::{AnyConnection, Connection as _, Executor as _, any::AnyPoolOptions};
use tokio::runtime::Handle;

use super::{
    Sql,
    open::{OpenError, migrate},
};
use crate::{limits::STORE_DEADLINE, outage::Outage};

/// 4: SQLite reads from its page cache; each connection is a thread.
const READERS: u32 = 4;

/// WAL lets readers go on while the writer writes; NORMAL may lose the last commits on a power
/// cut, never the file. The busy timeout covers a checkpoint.
const PRAGMAS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; \
                       PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;";
const READER_PRAGMAS: &str = "PRAGMA busy_timeout = 5000; PRAGMA synchronous = NORMAL; \
                              PRAGMA foreign_keys = ON; PRAGMA query_only = ON;";

/// Opens what stands behind `sqlite:`, and makes it where it is absent.
pub(super) async fn open(path: &str, shown: String, handle: Handle) -> Result<Sql, OpenError> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.contains('?') || path.contains(":memory:") {
        return Err(OpenError::NoFile { url: shown });
    }
    let (path, lock) = claim(Path::new(path))?;
    let opening = connect(path, shown, lock, handle.clone());
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

async fn connect(path: PathBuf, url: String, lock: File, handle: Handle) -> Result<Sql, OpenError> {
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
    let (outage, lock) = (Outage::new("store.url"), Mutex::new(Some(lock)));
    Ok(Sql { shown: url, handle, read, write, outage, lock })
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
    use super::{
        super::{Store, tests::refused},
        *,
    };

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
}
