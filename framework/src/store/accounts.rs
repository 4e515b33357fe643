//! Owns the rows of accounts: who exists, under which name, device and openid.
//! Leaves who may sign in, and what a password is, to `account`.

use std::fmt;

use rand::{TryRngCore as _, rngs::OsRng};
use sqlx::{AnyPool, Row as _, any::AnyRow};

use super::{Backend, Sql, Store, StoreError, records::count, unavailable};

/// Below are numbers that people have used for tests and for robots in every game.
const FIRST_ID: i64 = 10_001;

const INSERT: &str = "INSERT INTO accounts (id, openid, username, username_key, device_id, \
         password_hash, status, created_ms, last_sign_in_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// A row of `accounts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: i64,
    /// What the outside knows the account by; says nothing about the id.
    pub(crate) openid: String,
    /// As chosen; compares by its lower case. `None`: a guest.
    pub(crate) username: Option<String>,
    pub(crate) device_id: Option<String>,
    pub(crate) password_hash: Option<PasswordHash>,
    pub(crate) status: AccountStatus,
    pub(crate) created_ms: i64,
    pub(crate) last_sign_in_ms: i64,
    /// 0: never was.
    pub(crate) banned_until_ms: i64,
    pub(crate) banned_reason: String,
}

/// What an administrator said about an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccountStatus {
    Open,
    Locked,
    Deleted,
    /// A number of a later release; not open.
    Other(i64),
}

/// A password hash as the store keeps it (a PHC string); a log sees only that there is one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PasswordHash(pub(crate) String);

/// Who a new account is for.
#[derive(Clone, Debug)]
pub(crate) enum NewAccount {
    Named { username: String, password_hash: PasswordHash },
    Guest { device_id: String },
}

/// Why an account was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CreateError {
    /// Another account has that name or that device: choose another, or sign in.
    #[error("another account has this name or device: choose another, or sign in")]
    Taken,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// The account of that name, whatever the case of its letters.
    pub(crate) async fn account_by_username(
        &self,
        username: &str,
    ) -> Result<Option<Account>, StoreError> {
        let key = username.to_lowercase();
        self.account("SELECT * FROM accounts WHERE username_key = $1", key).await
    }

    pub(crate) async fn account_by_device(
        &self,
        device_id: &str,
    ) -> Result<Option<Account>, StoreError> {
        let device_id = device_id.to_owned();
        self.account("SELECT * FROM accounts WHERE device_id = $1", device_id).await
    }

    pub(crate) async fn account_by_id(&self, id: i64) -> Result<Option<Account>, StoreError> {
        self.account("SELECT * FROM accounts WHERE id = $1", id).await
    }

    /// Creates an account with the next id; of two that race for a name or a device, one.
    pub(crate) async fn create_account(
        &self,
        new: NewAccount,
        now_ms: i64,
    ) -> Result<Account, CreateError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        let created = sql.run_raw(async move { insert(&pool, new, now_ms).await });
        created.await.map_err(|error| match error {
            sqlx::Error::Database(e) if e.is_unique_violation() => CreateError::Taken,
            other => CreateError::Store(unavailable(other)),
        })
    }

    /// False when there is no such account.
    #[cfg_attr(not(test), expect(dead_code, reason = "changing a password will ask"))]
    pub(crate) async fn set_password_hash(
        &self,
        id: i64,
        hash: PasswordHash,
    ) -> Result<bool, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        let changed = sql.run(async move {
            let query = sqlx::query("UPDATE accounts SET password_hash = $1 WHERE id = $2");
            Ok(query.bind(hash.0).bind(id).execute(&pool).await?.rows_affected())
        });
        Ok(changed.await? == 1)
    }

    /// False when there is no such account.
    #[cfg_attr(not(test), expect(dead_code, reason = "locking and deleting will ask"))]
    pub(crate) async fn set_account_status(
        &self,
        id: i64,
        status: AccountStatus,
    ) -> Result<bool, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        let changed = sql.run(async move {
            let query = sqlx::query("UPDATE accounts SET status = $1 WHERE id = $2");
            Ok(query.bind(status.number()).bind(id).execute(&pool).await?.rows_affected())
        });
        Ok(changed.await? == 1)
    }

    /// Bans an account until then; 0 ends a ban. False when there is no such account.
    pub(crate) async fn set_ban(
        &self,
        id: i64,
        until_ms: i64,
        reason: String,
    ) -> Result<bool, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        let changed = sql.run(async move {
            let query = sqlx::query(
                "UPDATE accounts SET banned_until_ms = $1, banned_reason = $2 WHERE id = $3",
            );
            Ok(query.bind(until_ms).bind(reason).bind(id).execute(&pool).await?.rows_affected())
        });
        Ok(changed.await? == 1)
    }

    /// The accounts that are banned at `now_ms`, those that last longest at the front, at most
    /// `max`.
    pub(crate) async fn banned_accounts(
        &self,
        now_ms: i64,
        max: i64,
    ) -> Result<Vec<Account>, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.read.clone();
        sql.run(async move {
            let query = sqlx::query(
                "SELECT * FROM accounts WHERE banned_until_ms > $1 ORDER BY banned_until_ms DESC LIMIT $2",
            );
            let rows = query.bind(now_ms).bind(max).fetch_all(&pool).await?;
            rows.iter().map(Account::from_row).collect()
        })
        .await
    }

    /// Notes that the account signed in.
    pub(crate) async fn touch_sign_in(&self, id: i64, now_ms: i64) -> Result<(), StoreError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        sql.run(async move {
            let query = sqlx::query("UPDATE accounts SET last_sign_in_ms = $1 WHERE id = $2");
            query.bind(now_ms).bind(id).execute(&pool).await.map(drop)
        })
        .await
    }

    async fn account<V>(&self, query: &'static str, by: V) -> Result<Option<Account>, StoreError>
    where
        V: for<'q> sqlx::Encode<'q, sqlx::Any> + sqlx::Type<sqlx::Any> + Send + 'static,
    {
        let sql = self.accounts()?;
        let pool = sql.read.clone();
        sql.run(async move {
            let row = sqlx::query(query).bind(by).fetch_optional(&pool).await?;
            row.map(|row| Account::from_row(&row)).transpose()
        })
        .await
    }

    pub(super) fn accounts(&self) -> Result<&Sql, StoreError> {
        match &self.0 {
            Backend::Sql(sql) => Ok(sql),
            Backend::Memory(_) => {
                Err(StoreError::Unavailable("the store in memory keeps no accounts".to_owned()))
            }
        }
    }
}

impl Account {
    pub(super) fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            openid: row.try_get("openid")?,
            username: row.try_get("username")?,
            device_id: row.try_get("device_id")?,
            password_hash: row.try_get::<Option<String>, _>("password_hash")?.map(PasswordHash),
            status: AccountStatus::from_number(row.try_get("status")?),
            created_ms: row.try_get("created_ms")?,
            last_sign_in_ms: row.try_get("last_sign_in_ms")?,
            banned_until_ms: row.try_get("banned_until_ms")?,
            banned_reason: row.try_get("banned_reason")?,
        })
    }
}

impl AccountStatus {
    fn from_number(number: i64) -> Self {
        match number {
            1 => Self::Open,
            2 => Self::Locked,
            4 => Self::Deleted,
            other => Self::Other(other),
        }
    }

    fn number(self) -> i64 {
        match self {
            Self::Open => 1,
            Self::Locked => 2,
            Self::Deleted => 4,
            Self::Other(number) => number,
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

async fn insert(pool: &AnyPool, new: NewAccount, now_ms: i64) -> Result<Account, sqlx::Error> {
    let (username, password_hash, device_id) = match new {
        NewAccount::Named { username, password_hash } => {
            (Some(username), Some(password_hash), None)
        }
        NewAccount::Guest { device_id } => (None, None, Some(device_id)),
    };
    let account = Account { username, device_id, password_hash, ..fresh(pool, now_ms).await? };
    write(pool, &account).await?;
    Ok(account)
}

/// A new open account with the next id, which nothing leads to yet and which is not written.
pub(super) async fn fresh(pool: &AnyPool, now_ms: i64) -> Result<Account, sqlx::Error> {
    Ok(Account {
        // A refused insert leaves a gap, which is better than a number given twice.
        id: count(pool, "account", FIRST_ID).await?,
        openid: openid(),
        username: None,
        device_id: None,
        password_hash: None,
        status: AccountStatus::Open,
        created_ms: now_ms,
        last_sign_in_ms: now_ms,
        banned_until_ms: 0,
        banned_reason: String::new(),
    })
}

/// Writes the row of a new account.
pub(super) async fn write<'c>(
    to: impl sqlx::Executor<'c, Database = sqlx::Any>,
    account: &Account,
) -> Result<(), sqlx::Error> {
    sqlx::query(INSERT)
        .bind(account.id)
        .bind(account.openid.clone())
        .bind(account.username.clone())
        .bind(account.username.as_ref().map(|name| name.to_lowercase()))
        .bind(account.device_id.clone())
        .bind(account.password_hash.clone().map(|hash| hash.0))
        .bind(account.status.number())
        .bind(account.created_ms)
        .bind(account.last_sign_in_ms)
        .execute(to)
        .await
        .map(drop)
}

/// 128 bits from the system: nobody guesses another player's.
fn openid() -> String {
    let mut bytes = [0; 16];
    OsRng.try_fill_bytes(&mut bytes).expect("the system has a source of randomness");
    format!("{:032x}", u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::{
        super::tests::{opened, urls},
        *,
    };

    fn named(username: &str) -> NewAccount {
        let password_hash = PasswordHash("$argon2id$secret".to_owned());
        NewAccount::Named { username: username.to_owned(), password_hash }
    }

    fn guest(device_id: &str) -> NewAccount {
        NewAccount::Guest { device_id: device_id.to_owned() }
    }

    #[tokio::test]
    async fn an_account_is_found_by_name_in_any_case_by_device_and_by_id() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let anna = store.create_account(named("Ännä.1"), 7).await.unwrap();
            let phone = store.create_account(guest("phone-1"), 8).await.unwrap();
            assert_eq!((anna.id, phone.id), (10_001, 10_002));
            assert_eq!(store.account_by_username("äNNÄ.1").await.unwrap().as_ref(), Some(&anna));
            assert_eq!(store.account_by_device("phone-1").await.unwrap().as_ref(), Some(&phone));
            assert_eq!(store.account_by_id(10_001).await.unwrap(), Some(anna.clone()));
            assert_eq!(store.account_by_id(1).await, Ok(None));
            assert_eq!(store.account_by_username("nobody").await, Ok(None));
            assert_eq!(anna.openid.len(), 32);
            assert!(
                anna.openid.bytes().all(|b| b.is_ascii_hexdigit()) && anna.openid != phone.openid
            );
            assert!(!format!("{anna:?}").contains("secret"), "a log never sees the hash");
        }
    }

    #[tokio::test]
    async fn a_name_or_device_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            store.create_account(named("Anna"), 1).await.unwrap();
            assert_eq!(store.create_account(named("aNNA"), 1).await, Err(CreateError::Taken));
            store.create_account(guest("a"), 1).await.unwrap();
            assert_eq!(store.create_account(guest("a"), 1).await, Err(CreateError::Taken));
            store.create_account(guest("A"), 1).await.expect("devices are compared as they are");
        }
    }

    #[tokio::test]
    async fn a_password_and_a_sign_in_are_written_down() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let anna = store.create_account(named("anna"), 1).await.unwrap();
            let hash = PasswordHash("other".to_owned());
            assert_eq!(store.set_password_hash(anna.id, hash.clone()).await, Ok(true));
            assert_eq!(store.set_password_hash(1, hash.clone()).await, Ok(false));
            store.touch_sign_in(anna.id, 99).await.unwrap();
            store.close().await;
            let again = opened(&url).await.account_by_id(anna.id).await.unwrap().unwrap();
            assert_eq!((again.password_hash, again.last_sign_in_ms), (Some(hash), 99));
        }
    }

    #[tokio::test]
    async fn of_a_hundred_that_want_one_name_at_once_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let racers = (0..100).map(|n: u32| {
                let store = store.clone();
                let name = if n.is_multiple_of(2) { "Anna" } else { "anna" };
                Handle::current().spawn(async move { store.create_account(named(name), 1).await })
            });
            let mut winners = Vec::new();
            for racer in racers.collect::<Vec<_>>() {
                match racer.await.unwrap() {
                    Ok(account) => winners.push(account),
                    Err(error) => assert_eq!(error, CreateError::Taken),
                }
            }
            assert_eq!(winners.len(), 1, "{winners:?}");
            let kept = store.account_by_username("ANNA").await.unwrap();
            assert_eq!(kept.as_ref(), winners.first());
        }
    }

    #[tokio::test]
    async fn the_store_in_memory_knows_no_accounts() {
        let store = Store::memory();
        assert!(matches!(store.account_by_id(1).await, Err(StoreError::Unavailable(_))));
        let created = store.create_account(guest("a"), 1).await;
        assert!(matches!(created, Err(CreateError::Store(_))));
    }
}
