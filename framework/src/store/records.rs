//! Owns what the town keeps by name: an entity's saved state with its fence, counters, secrets.
//! Leaves who owns an entity, and under which epoch, to the directory.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sqlx::{AnyPool, Row as _};

use super::{Backend, Store, StoreError};

/// A stored epoch that is not above $3 is raised to it; otherwise no row comes back. The row is
/// made when it is absent: an owner that never saved is fenced as well.
const LOAD: &str = "INSERT INTO records (kind, key, data, owner_epoch, updated_ms) \
     VALUES ($1, $2, NULL, $3, 0) \
     ON CONFLICT (kind, key) DO UPDATE SET owner_epoch = excluded.owner_epoch \
     WHERE records.owner_epoch <= excluded.owner_epoch \
     RETURNING data";

const SAVE: &str = "INSERT INTO records (kind, key, data, owner_epoch, updated_ms) \
     VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (kind, key) DO UPDATE SET data = excluded.data, \
         owner_epoch = excluded.owner_epoch, updated_ms = excluded.updated_ms \
     WHERE records.owner_epoch <= excluded.owner_epoch";

/// One statement, so that two nodes never get the same value.
const COUNT: &str = "INSERT INTO counters (name, value) VALUES ($1, $2) \
     ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 \
     RETURNING value";

/// The store of tests: as much as a test writes, no bound.
#[derive(Default)]
pub(super) struct MemoryRecords {
    /// Std mutex: held for a look-up, never across an await.
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: HashMap<(String, String), MemoryRecord>,
    secrets: HashMap<String, Vec<u8>>,
    incarnation: i64,
}

#[derive(Default)]
struct MemoryRecord {
    data: Option<Vec<u8>>,
    owner_epoch: i64,
}

impl Store {
    /// Reads an entity's state for its owner of `epoch`; from here on every older owner is
    /// refused. `None`: never saved. [`StoreError::Fenced`]: a newer owner came first.
    pub(crate) async fn load_record(
        &self,
        kind: &str,
        key: &str,
        epoch: i64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = match &self.0 {
            Backend::Memory(memory) => return memory.load(kind, key, epoch),
            Backend::Sql(sql) => sql,
        };
        let (pool, kind, key) = (sql.write.clone(), kind.to_owned(), key.to_owned());
        let row = sql.run(async move {
            let query = sqlx::query(LOAD).bind(kind).bind(key).bind(epoch);
            let row = query.fetch_optional(&pool).await?;
            row.map(|row| row.try_get::<Option<Vec<u8>>, _>(0)).transpose()
        });
        row.await?.ok_or(StoreError::Fenced)
    }

    /// Writes an entity's state for its owner of `epoch`. [`StoreError::Fenced`]: a newer owner
    /// has loaded or saved it since; nothing was written.
    pub(crate) async fn save_record(
        &self,
        kind: &str,
        key: &str,
        epoch: i64,
        data: Vec<u8>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let sql = match &self.0 {
            Backend::Memory(memory) => return memory.save(kind, key, epoch, data),
            Backend::Sql(sql) => sql,
        };
        let (pool, kind, key) = (sql.write.clone(), kind.to_owned(), key.to_owned());
        let written = sql.run(async move {
            let query = sqlx::query(SAVE).bind(kind).bind(key).bind(data).bind(epoch).bind(now_ms);
            Ok(query.execute(&pool).await?.rows_affected())
        });
        if written.await? == 0 { Err(StoreError::Fenced) } else { Ok(()) }
    }

    /// A number that no earlier call on this store was given, across restarts: the epoch of the
    /// claims of whoever starts.
    pub(crate) async fn next_incarnation(&self) -> Result<i64, StoreError> {
        let sql = match &self.0 {
            Backend::Memory(memory) => {
                let mut kept = memory.kept();
                kept.incarnation += 1;
                return Ok(kept.incarnation);
            }
            Backend::Sql(sql) => sql,
        };
        let pool = sql.write.clone();
        sql.run(async move { count(&pool, "incarnation", 1).await }).await
    }

    /// The secret of that name; `make` is asked when there is none. Of two that start at once,
    /// both get the one that was kept.
    pub(crate) async fn secret(
        &self,
        name: &str,
        make: impl FnOnce() -> Vec<u8> + Send + 'static,
    ) -> Result<Vec<u8>, StoreError> {
        let sql = match &self.0 {
            Backend::Memory(memory) => {
                return Ok(memory
                    .kept()
                    .secrets
                    .entry(name.to_owned())
                    .or_insert_with(make)
                    .clone());
            }
            Backend::Sql(sql) => sql,
        };
        let (pool, name) = (sql.write.clone(), name.to_owned());
        let read = async |name: &str, pool: &AnyPool| {
            let query =
                sqlx::query("SELECT data FROM secrets WHERE name = $1").bind(name.to_owned());
            query.fetch_optional(pool).await?.map(|row| row.try_get::<Vec<u8>, _>(0)).transpose()
        };
        sql.run(async move {
            if let Some(kept) = read(&name, &pool).await? {
                return Ok(kept);
            }
            sqlx::query(
                "INSERT INTO secrets (name, data) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            )
            .bind(name.clone())
            .bind(make())
            .execute(&pool)
            .await?;
            read(&name, &pool).await?.ok_or(sqlx::Error::RowNotFound)
        })
        .await
    }
}

/// The next value of a counter that starts at `first`.
pub(super) async fn count(pool: &AnyPool, name: &str, first: i64) -> Result<i64, sqlx::Error> {
    let query = sqlx::query(COUNT).bind(name.to_owned()).bind(first);
    query.fetch_one(pool).await?.try_get(0)
}

impl MemoryRecords {
    fn load(&self, kind: &str, key: &str, epoch: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut kept = self.kept();
        let record = kept.records.entry((kind.to_owned(), key.to_owned())).or_default();
        record.fence(epoch)?;
        Ok(record.data.clone())
    }

    fn save(&self, kind: &str, key: &str, epoch: i64, data: Vec<u8>) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let record = kept.records.entry((kind.to_owned(), key.to_owned())).or_default();
        record.fence(epoch)?;
        record.data = Some(data);
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryRecord {
    fn fence(&mut self, epoch: i64) -> Result<(), StoreError> {
        if self.owner_epoch > epoch {
            return Err(StoreError::Fenced);
        }
        self.owner_epoch = epoch;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::{super::tests::sqlite, *};

    /// Each rule holds in both backends.
    async fn both() -> (tempfile::TempDir, [Store; 2]) {
        let folder = tempfile::tempdir().unwrap();
        let sql = sqlite(&folder).await;
        (folder, [sql, Store::memory()])
    }

    #[tokio::test]
    async fn what_was_saved_is_loaded() {
        let (_folder, stores) = both().await;
        for store in stores {
            assert_eq!(store.load_record("player", "1", 1).await, Ok(None));
            let bytes = vec![0, 255, 39, 0];
            store.save_record("player", "1", 1, bytes.clone(), 5).await.unwrap();
            assert_eq!(store.load_record("player", "1", 1).await, Ok(Some(bytes)));
            store.save_record("player", "1", 1, vec![], 6).await.unwrap();
            assert_eq!(store.load_record("player", "1", 2).await, Ok(Some(vec![])));
            assert_eq!(store.load_record("guild", "1", 1).await, Ok(None), "kinds are apart");
        }
    }

    #[tokio::test]
    async fn a_stale_owner_is_refused_at_load_and_at_save() {
        let (_folder, stores) = both().await;
        for store in stores {
            store.save_record("player", "1", 5, b"five".to_vec(), 1).await.unwrap();
            assert_eq!(store.load_record("player", "1", 4).await, Err(StoreError::Fenced));
            let late = store.save_record("player", "1", 4, b"four".to_vec(), 2).await;
            assert_eq!(late, Err(StoreError::Fenced));
            let same = store.load_record("player", "1", 5).await;
            assert_eq!(same, Ok(Some(b"five".to_vec())), "the equal epoch is the owner");
            store.save_record("player", "1", 5, b"5".to_vec(), 3).await.unwrap();
        }
    }

    #[tokio::test]
    async fn loading_fences_the_former_owner_even_when_nothing_was_ever_saved() {
        let (_folder, stores) = both().await;
        for store in stores {
            assert_eq!(store.load_record("player", "1", 1).await, Ok(None));
            assert_eq!(store.load_record("player", "1", 2).await, Ok(None));
            let late = store.save_record("player", "1", 1, b"late".to_vec(), 1).await;
            assert_eq!(late, Err(StoreError::Fenced));
            assert_eq!(store.load_record("player", "1", 2).await, Ok(None), "nothing was written");
        }
    }

    #[tokio::test]
    async fn incarnations_grow_across_restarts_and_among_racers() {
        let folder = tempfile::tempdir().unwrap();
        let store = sqlite(&folder).await;
        let racers = (0..20).map(|_| {
            let store = store.clone();
            Handle::current().spawn(async move { store.next_incarnation().await.unwrap() })
        });
        let mut drawn: Vec<i64> = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            drawn.push(racer.await.unwrap());
        }
        drawn.sort_unstable();
        assert_eq!(drawn, (1..=20).collect::<Vec<_>>());
        store.close().await;
        assert_eq!(sqlite(&folder).await.next_incarnation().await, Ok(21));
        assert_eq!(Store::memory().next_incarnation().await, Ok(1));
    }

    #[tokio::test]
    async fn a_secret_is_made_once() {
        let (_folder, stores) = both().await;
        for store in stores {
            let (a, b) = tokio::join!(
                store.secret("key", || b"first".to_vec()),
                store.secret("key", || b"second".to_vec()),
            );
            assert_eq!(a, b);
            let later = store.secret("key", || unreachable!("it is kept")).await;
            assert_eq!(later, a);
        }
    }
}
