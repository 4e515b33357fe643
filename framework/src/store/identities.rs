//! Owns the rows that tie whom a validator knows to an account.
//! Leaves who somebody is to the validators, and accounts to `accounts`.

use sqlx::AnyPool;

use super::{
    Account, CreateError, Store, StoreError,
    accounts::{fresh, write},
    unavailable,
};

const FIND: &str = "SELECT accounts.* FROM identities \
     JOIN accounts ON accounts.id = identities.account_id \
     WHERE identities.validator = $1 AND identities.subject = $2";

const INSERT: &str = "INSERT INTO identities (validator, subject, account_id, created_ms) \
     VALUES ($1, $2, $3, $4)";

impl Store {
    /// The account of whom a validator knows by `subject`; `None`: nobody yet.
    pub(crate) async fn account_by_identity(
        &self,
        validator: &str,
        subject: &str,
    ) -> Result<Option<Account>, StoreError> {
        let sql = self.accounts()?;
        let (pool, validator, subject) =
            (sql.read.clone(), validator.to_owned(), subject.to_owned());
        sql.run(async move {
            let query = sqlx::query(FIND).bind(validator).bind(subject);
            let row = query.fetch_optional(&pool).await?;
            row.map(|row| Account::from_row(&row)).transpose()
        })
        .await
    }

    /// Makes an account for somebody whom a validator knows, both rows or none; of two that race
    /// for one identity, one is made and the other hears [`CreateError::Taken`].
    pub(crate) async fn create_identity(
        &self,
        validator: &str,
        subject: &str,
        now_ms: i64,
    ) -> Result<Account, CreateError> {
        let sql = self.accounts()?;
        let (pool, validator, subject) =
            (sql.write.clone(), validator.to_owned(), subject.to_owned());
        let created = sql.run_raw(async move { insert(&pool, validator, subject, now_ms).await });
        created.await.map_err(|error| match error {
            sqlx::Error::Database(e) if e.is_unique_violation() => CreateError::Taken,
            other => CreateError::Store(unavailable(other)),
        })
    }
}

async fn insert(
    pool: &AnyPool,
    validator: String,
    subject: String,
    now_ms: i64,
) -> Result<Account, sqlx::Error> {
    // The number before the transaction: on SQLite there is one connection that writes.
    let account = fresh(pool, now_ms).await?;
    let mut both = pool.begin().await?;
    let way = validator.clone();
    let query = sqlx::query(INSERT).bind(validator).bind(subject);
    query.bind(account.id).bind(now_ms).execute(&mut *both).await?;
    write(&mut both, &account, &way).await?;
    both.commit().await?;
    Ok(account)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::{
        super::tests::{opened, urls},
        *,
    };

    #[tokio::test]
    async fn an_identity_has_one_account_and_another_validators_is_another() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            assert_eq!(store.account_by_identity("wx", "1").await, Ok(None));
            let anna = store.create_identity("wx", "1", 7).await.unwrap();
            assert_eq!((anna.id, anna.created_ms, &anna.username), (10_001, 7, &None));
            let found = store.account_by_identity("wx", "1").await.unwrap();
            assert_eq!(found.as_ref(), Some(&anna));
            assert_eq!(store.create_identity("wx", "1", 8).await, Err(CreateError::Taken));
            for (validator, subject) in [("360", "1"), ("wx", "2"), ("WX", "1")] {
                assert_eq!(store.account_by_identity(validator, subject).await, Ok(None));
                let other = store.create_identity(validator, subject, 9).await.unwrap();
                assert_ne!(other.id, anna.id);
            }
        }
    }

    #[tokio::test]
    async fn of_fifty_that_are_one_person_at_once_one_account_is_made() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let racers = (0..50).map(|_| {
                let store = store.clone();
                Handle::current().spawn(async move { store.create_identity("wx", "1", 1).await })
            });
            let mut made = Vec::new();
            for racer in racers.collect::<Vec<_>>() {
                match racer.await.unwrap() {
                    Ok(account) => made.push(account),
                    Err(error) => assert_eq!(error, CreateError::Taken),
                }
            }
            assert_eq!(made.len(), 1);
            let kept = store.account_by_identity("wx", "1").await.unwrap();
            assert_eq!(kept.as_ref(), made.first());
        }
    }
}
