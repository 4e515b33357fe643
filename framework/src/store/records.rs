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

/// The counter of incarnations, never below $2: what a cluster gives out is the time of day, and
/// one database may see both, so that each must be above what the other gave before.
const INCARNATION: &str = "INSERT INTO counters (name, value) VALUES ($1, $2) \
     ON CONFLICT (name) DO UPDATE SET value = CASE \
         WHEN counters.value >= excluded.value THEN counters.value + 1 \
         ELSE excluded.value END \
     RETURNING value";

const INCARNATION_COUNTER: &str = "incarnation";

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
            // To the end of the answer: PostgreSQL may send a large row before it has committed.
            let row = query.fetch_all(&pool).await?.pop();
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

    /// Deletes what an entity saved, for its owner of `epoch`: there is no such entity any more.
    /// Nothing is deleted when a newer owner has loaded or saved it since.
    pub(crate) async fn delete_record(
        &self,
        kind: &str,
        key: &str,
        epoch: i64,
    ) -> Result<(), StoreError> {
        let sql = match &self.0 {
            Backend::Memory(memory) => {
                memory.delete(kind, key, epoch);
                return Ok(());
            }
            Backend::Sql(sql) => sql,
        };
        let (pool, kind, key) = (sql.write.clone(), kind.to_owned(), key.to_owned());
        let deleted = sql.run(async move {
            let query = "DELETE FROM records WHERE kind = $1 AND key = $2 AND owner_epoch <= $3";
            sqlx::query(query).bind(kind).bind(key).bind(epoch).execute(&pool).await
        });
        deleted.await.map(drop)
    }

    /// The epoch under which an entity was last loaded or saved; `None`: never.
    pub(crate) async fn record_epoch(
        &self,
        kind: &str,
        key: &str,
    ) -> Result<Option<i64>, StoreError> {
        let sql = match &self.0 {
            Backend::Memory(memory) => return Ok(memory.epoch(kind, key)),
            Backend::Sql(sql) => sql,
        };
        let (pool, kind, key) = (sql.read.clone(), kind.to_owned(), key.to_owned());
        sql.run(async move {
            let query = "SELECT owner_epoch FROM records WHERE kind = $1 AND key = $2";
            let row = sqlx::query(query).bind(kind).bind(key).fetch_optional(&pool).await?;
            row.map(|row| row.try_get(0)).transpose()
        })
        .await
    }

    /// A number above all that earlier calls on this store were given, across restarts, and not
    /// below the time in microseconds: the epoch of the claims of whoever starts.
    pub(crate) async fn next_incarnation(&self, now_ms: i64) -> Result<i64, StoreError> {
        let least = now_ms.saturating_mul(1000).max(1);
        let sql = match &self.0 {
            Backend::Memory(memory) => {
                let mut kept = memory.kept();
                kept.incarnation = least.max(kept.incarnation + 1);
                return Ok(kept.incarnation);
            }
            Backend::Sql(sql) => sql,
        };
        let pool = sql.write.clone();
        sql.run(async move { raise(&pool, INCARNATION, INCARNATION_COUNTER, least).await }).await
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
    raise(pool, COUNT, name, first).await
}

async fn raise(
    pool: &AnyPool,
    query: &'static str,
    name: &str,
    first: i64,
) -> Result<i64, sqlx::Error> {
    let query = sqlx::query(query).bind(name.to_owned()).bind(first);
    // To the end of the answer, so that a number was committed before it is used.
    let row = query.fetch_all(pool).await?.pop();
    row.ok_or(sqlx::Error::RowNotFound)?.try_get(0)
}

impl MemoryRecords {
    fn load(&self, kind: &str, key: &str, epoch: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut kept = self.kept();
        let record = kept.records.entry((kind.to_owned(), key.to_owned())).or_default();
        record.fence(epoch)?;
        Ok(record.data.clone())
    }

    fn delete(&self, kind: &str, key: &str, epoch: i64) {
        let name = (kind.to_owned(), key.to_owned());
        self.kept().records.retain(|of, record| *of != name || record.owner_epoch > epoch);
    }

    fn save(&self, kind: &str, key: &str, epoch: i64, data: Vec<u8>) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let record = kept.records.entry((kind.to_owned(), key.to_owned())).or_default();
        record.fence(epoch)?;
        record.data = Some(data);
        Ok(())
    }

    fn epoch(&self, kind: &str, key: &str) -> Option<i64> {
        let kept = self.kept();
        let record = kept.records.get(&(kind.to_owned(), key.to_owned()));
        record.map(|record| record.owner_epoch)
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

    use super::{
        super::tests::{opened, urls},
        *,
    };

    /// Each rule holds in all backends.
    async fn each() -> (tempfile::TempDir, [Store; 3]) {
        let folder = tempfile::tempdir().unwrap();
        let [sqlite, postgres] = urls(&folder);
        let stores = [opened(&sqlite).await, opened(&postgres).await, Store::memory()];
        (folder, stores)
    }

    #[tokio::test]
    async fn what_was_saved_is_loaded() {
        let (_folder, stores) = each().await;
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
        let (_folder, stores) = each().await;
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
        let (_folder, stores) = each().await;
        for store in stores {
            assert_eq!(store.load_record("player", "1", 1).await, Ok(None));
            assert_eq!(store.load_record("player", "1", 2).await, Ok(None));
            let late = store.save_record("player", "1", 1, b"late".to_vec(), 1).await;
            assert_eq!(late, Err(StoreError::Fenced));
            assert_eq!(store.load_record("player", "1", 2).await, Ok(None), "nothing was written");
        }
    }

    #[tokio::test]
    async fn the_epoch_of_a_record_is_that_of_its_last_owner() {
        let (_folder, stores) = each().await;
        for store in stores {
            assert_eq!(store.record_epoch("player", "1").await, Ok(None));
            store.load_record("player", "1", 3).await.unwrap();
            assert_eq!(store.record_epoch("player", "1").await, Ok(Some(3)));
            store.save_record("player", "1", i64::MAX, vec![1], 1).await.unwrap();
            assert_eq!(store.record_epoch("player", "1").await, Ok(Some(i64::MAX)));
            assert_eq!(store.load_record("player", "1", 4).await, Err(StoreError::Fenced));
            assert_eq!(store.record_epoch("player", "1").await, Ok(Some(i64::MAX)));
            assert_eq!(store.record_epoch("guild", "1").await, Ok(None));
        }
    }

    /// Larger than what PostgreSQL keeps back until it has committed (8 KiB).
    #[tokio::test]
    async fn a_large_state_comes_back_whole() {
        let (_folder, stores) = each().await;
        for store in stores {
            let bytes: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
            store.save_record("player", "1", 1, bytes.clone(), 5).await.unwrap();
            assert_eq!(store.load_record("player", "1", 2).await, Ok(Some(bytes)));
        }
    }

    #[tokio::test]
    async fn of_owners_that_race_the_newest_holds_the_record() {
        let (_folder, stores) = each().await;
        for store in stores {
            let racers = (1..=40_i64).map(|epoch| {
                let store = store.clone();
                Handle::current().spawn(async move {
                    let data = epoch.to_string().into_bytes();
                    (epoch, store.save_record("player", "1", epoch, data, 1).await)
                })
            });
            for racer in racers.collect::<Vec<_>>() {
                let (epoch, saved) = racer.await.unwrap();
                assert!(matches!(saved, Ok(()) | Err(StoreError::Fenced)), "{epoch}: {saved:?}");
                assert!(epoch < 40 || saved.is_ok(), "nobody is newer than the newest");
            }
            assert_eq!(store.load_record("player", "1", 40).await, Ok(Some(b"40".to_vec())));
        }
    }

    #[tokio::test]
    async fn incarnations_grow_across_restarts_and_among_racers() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let racers = (0..20).map(|_| {
                let store = store.clone();
                Handle::current().spawn(async move { store.next_incarnation(0).await.unwrap() })
            });
            let mut drawn: Vec<i64> = Vec::new();
            for racer in racers.collect::<Vec<_>>() {
                drawn.push(racer.await.unwrap());
            }
            drawn.sort_unstable();
            assert_eq!(drawn, (1..=20).collect::<Vec<_>>());
            store.close().await;
            assert_eq!(opened(&url).await.next_incarnation(0).await, Ok(21));
        }
        assert_eq!(Store::memory().next_incarnation(0).await, Ok(1));
    }

    #[tokio::test]
    async fn an_incarnation_is_never_below_the_time_nor_below_an_older_one() {
        let (_folder, stores) = each().await;
        for store in stores {
            assert_eq!(store.next_incarnation(7).await, Ok(7000));
            assert_eq!(store.next_incarnation(7).await, Ok(7001));
            assert_eq!(store.next_incarnation(9).await, Ok(9000));
            assert_eq!(store.next_incarnation(3).await, Ok(9001), "the clock was set back");
        }
    }

    #[tokio::test]
    async fn what_is_deleted_is_gone_unless_a_newer_owner_has_it() {
        let (_folder, stores) = each().await;
        for store in stores {
            for key in ["1", "2"] {
                store.save_record("room", key, 3, vec![1], 1).await.unwrap();
            }
            store.delete_record("room", "1", 2).await.unwrap();
            assert_eq!(store.load_record("room", "1", 3).await, Ok(Some(vec![1])));
            store.delete_record("room", "1", 3).await.unwrap();
            assert_eq!(store.record_epoch("room", "1").await, Ok(None));
            assert_eq!(store.load_record("room", "2", 3).await, Ok(Some(vec![1])));
            store.delete_record("room", "none", 3).await.expect("there is none already");
        }
    }

    #[tokio::test]
    async fn a_secret_is_made_once() {
        let (_folder, stores) = each().await;
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
