//! Owns the rows of the keys that sign tokens. Which of two nodes makes the next key is decided
//! here: the one whose row is the first.

use std::fmt;

use sqlx::Row as _;

use super::{Store, StoreError};

/// A key that signs tokens, from its time on until the next one's.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SigningKey {
    /// Grows by one with each key.
    pub(crate) seq: i64,
    /// PKCS#8.
    pub(crate) data: Vec<u8>,
    pub(crate) made_ms: i64,
    pub(crate) signs_from_ms: i64,
}

impl Store {
    /// The keys of which tokens may be about, oldest first.
    pub(crate) async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        let sql = self.accounts()?;
        // The pool that writes: what this node has just made, it sees.
        let pool = sql.write.clone();
        sql.run(async move {
            let rows = sqlx::query("SELECT * FROM signing_keys ORDER BY seq").fetch_all(&pool);
            let key = |row: &sqlx::any::AnyRow| {
                Ok(SigningKey {
                    seq: row.try_get("seq")?,
                    data: row.try_get("data")?,
                    made_ms: row.try_get("made_ms")?,
                    signs_from_ms: row.try_get("signs_from_ms")?,
                })
            };
            rows.await?.iter().map(key).collect()
        })
        .await
    }

    /// Adds a key, unless there is one of its number already; whether it was added.
    pub(crate) async fn add_signing_key(&self, key: SigningKey) -> Result<bool, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        let SigningKey { seq, data, made_ms, signs_from_ms } = key;
        let added = sql.run(async move {
            let query = "INSERT INTO signing_keys (seq, data, made_ms, signs_from_ms) \
                         VALUES ($1, $2, $3, $4) ON CONFLICT (seq) DO NOTHING";
            let query = sqlx::query(query).bind(seq).bind(data).bind(made_ms).bind(signs_from_ms);
            Ok(query.execute(&pool).await?.rows_affected())
        });
        Ok(added.await? == 1)
    }

    /// Forgets a key, no token of which is good any more.
    pub(crate) async fn forget_signing_key(&self, seq: i64) -> Result<(), StoreError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        sql.run(async move {
            let query = sqlx::query("DELETE FROM signing_keys WHERE seq = $1");
            query.bind(seq).execute(&pool).await.map(drop)
        })
        .await
    }
}

impl fmt::Debug for SigningKey {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, data: _, made_ms, signs_from_ms } = self;
        f.debug_struct("SigningKey")
            .field("seq", seq)
            .field("made_ms", made_ms)
            .field("signs_from_ms", signs_from_ms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{opened, urls},
        *,
    };

    #[tokio::test]
    async fn the_key_of_the_release_before_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let sql = store.accounts().unwrap();
            // As that release left it.
            for table in ["sign_ins", "openids", "signing_keys", "identities"] {
                let drop = sqlx::AssertSqlSafe(format!("DROP TABLE {table}"));
                sqlx::query(drop).execute(&sql.write).await.unwrap();
            }
            let forget = sqlx::query("DELETE FROM _sqlx_migrations WHERE version >= 4");
            forget.execute(&sql.write).await.unwrap();
            store.secret("token.signing.1", || b"the key".to_vec()).await.unwrap();
            store.close().await;
            let store = opened(&url).await;
            let data = b"the key".to_vec();
            let kept = SigningKey { seq: 1, data, made_ms: 0, signs_from_ms: 0 };
            assert_eq!(store.signing_keys().await.unwrap(), [kept]);
            let left = store.secret("token.signing.1", || b"none".to_vec()).await.unwrap();
            assert_eq!(left, b"none", "it lies in one place");
        }
    }
}
