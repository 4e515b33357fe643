//! Owns the rows of accounts: who exists, under which name, device and openid.
//! Leaves who may sign in, and what a password is, to `account`.

use std::fmt;

use rand::{TryRngCore as _, rngs::OsRng};
use sqlx::{AnyConnection, AnyPool, Row as _, any::AnyRow};
use unicode_normalization::UnicodeNormalization as _;

use super::{
    Backend, Sql, Store, StoreError,
    audit::{Note, What},
    records::count,
    unavailable,
};

/// Below are numbers that people have used for tests and for robots in every game.
const FIRST_ID: i64 = 10_001;

const INSERT: &str = "INSERT INTO accounts (id, openid, username, username_key, device_id, \
         password_hash, status, created_ms, last_sign_in_ms, phone, email, \
         email_key) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// A row of `accounts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: i64,
    /// What the outside knows the account by; says nothing about the id.
    pub(crate) openid: String,
    /// As chosen; compares by [`username_key`]. `None`: a guest.
    pub(crate) username: Option<String>,
    pub(crate) device_id: Option<String>,
    pub(crate) password_hash: Option<PasswordHash>,
    pub(crate) status: AccountStatus,
    pub(crate) created_ms: i64,
    pub(crate) last_sign_in_ms: i64,
    /// 0: never was.
    pub(crate) banned_until_ms: i64,
    pub(crate) banned_reason: String,
    /// E.164, such as `+8613812345678`.
    pub(crate) phone: Option<String>,
    pub(crate) email: Option<String>,
    /// When a session of the account ended last; 0: none has.
    pub(crate) last_play_ms: i64,
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
    Named {
        username: String,
        password_hash: PasswordHash,
    },
    Guest {
        device_id: String,
    },
    /// Who proved to own a phone, in E.164; the name is made for it.
    Phone {
        phone: String,
        username: String,
    },
    /// With an address that no other account has.
    Reachable {
        username: String,
        password_hash: PasswordHash,
        email: String,
    },
}

/// Why an account was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CreateError {
    /// Another account has that name, device, phone or address: choose another, or sign in.
    #[error("another account has this name, device, phone or address: choose another, or sign in")]
    Taken,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// The account of that name, whatever the case and the form of its letters.
    pub(crate) async fn account_by_username(
        &self,
        username: &str,
    ) -> Result<Option<Account>, StoreError> {
        let key = username_key(username);
        self.account("SELECT * FROM accounts WHERE username_key = $1", key).await
    }

    pub(crate) async fn account_by_device(
        &self,
        device_id: &str,
    ) -> Result<Option<Account>, StoreError> {
        let device_id = device_id.to_owned();
        self.account("SELECT * FROM accounts WHERE device_id = $1", device_id).await
    }

    /// By E.164.
    pub(crate) async fn account_by_phone(
        &self,
        phone: &str,
    ) -> Result<Option<Account>, StoreError> {
        self.account("SELECT * FROM accounts WHERE phone = $1", phone.to_owned()).await
    }

    /// The account of that address, whatever the case of its letters.
    pub(crate) async fn account_by_email(
        &self,
        email: &str,
    ) -> Result<Option<Account>, StoreError> {
        self.account("SELECT * FROM accounts WHERE email_key = $1", email.to_lowercase()).await
    }

    pub(crate) async fn account_by_id(&self, id: i64) -> Result<Option<Account>, StoreError> {
        self.account("SELECT * FROM accounts WHERE id = $1", id).await
    }

    /// Creates an account with the next id, and notes it; of two that race for a name, a device or
    /// a phone, one.
    pub(crate) async fn create_account(
        &self,
        new: NewAccount,
        now_ms: i64,
    ) -> Result<Account, CreateError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        let created = sql.run_raw(async move { insert(&pool, new, now_ms).await });
        created.await.map_err(CreateError::from_sql)
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

    /// Where accounts are kept.
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
            phone: row.try_get("phone")?,
            email: row.try_get("email")?,
            last_play_ms: row.try_get("last_play_ms")?,
        })
    }
}

impl CreateError {
    pub(super) fn from_sql(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(e) if e.is_unique_violation() => Self::Taken,
            other => Self::Store(unavailable(other)),
        }
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
    let (way, (username, password_hash, device_id, phone, email)) = match new {
        NewAccount::Named { username, password_hash } => {
            ("password", (Some(username), Some(password_hash), None, None, None))
        }
        NewAccount::Reachable { username, password_hash, email } => {
            ("password", (Some(username), Some(password_hash), None, None, Some(email)))
        }
        NewAccount::Guest { device_id } => ("guest", (None, None, Some(device_id), None, None)),
        NewAccount::Phone { phone, username } => {
            ("phone", (Some(username), None, None, Some(phone), None))
        }
    };
    let fresh = fresh(pool, now_ms).await?;
    let account = Account { username, device_id, password_hash, phone, email, ..fresh };
    let mut both = pool.begin().await?;
    write(&mut both, &account, way).await?;
    both.commit().await?;
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
        last_play_ms: 0,
        phone: None,
        email: None,
    })
}

/// Writes the row of a new account, and that it was made.
pub(super) async fn write(
    to: &mut AnyConnection,
    account: &Account,
    way: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(INSERT)
        .bind(account.id)
        .bind(account.openid.clone())
        .bind(account.username.clone())
        .bind(account.username.as_deref().map(username_key))
        .bind(account.device_id.clone())
        .bind(account.password_hash.clone().map(|hash| hash.0))
        .bind(account.status.number())
        .bind(account.created_ms)
        .bind(account.last_sign_in_ms)
        .bind(account.phone.clone())
        .bind(account.email.clone())
        .bind(account.email.as_ref().map(|email| email.to_lowercase()))
        .execute(&mut *to)
        .await?;
    Note::new(What::Registered, way).write(account.id, account.created_ms, to).await
}

/// What must be unique of a name: letters that look alike, such as those of full width, are the
/// same, and so are large and small ones.
pub(crate) fn username_key(username: &str) -> String {
    // Lower case may leave the normal form again.
    username.nfkc().collect::<String>().to_lowercase().nfkc().collect()
}

/// 128 bits from the system: nobody guesses another player's.
pub(super) fn openid() -> String {
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
    async fn a_name_in_another_form_of_its_letters_is_the_same_name() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let anna = store.create_account(named("Ａnｎa"), 1).await.unwrap();
            let fish = store.create_account(named("Fi\u{301}sh"), 1).await.unwrap();
            assert_eq!(anna.username.as_deref(), Some("Ａnｎa"), "it is shown as it was chosen");
            for (form, account) in [("anna", &anna), ("ＡＮＮＡ", &anna), ("FÍSH", &fish)] {
                let found = store.account_by_username(form).await.unwrap();
                assert_eq!(found.as_ref(), Some(account), "{form}");
                assert_eq!(store.create_account(named(form), 1).await, Err(CreateError::Taken));
            }
            assert_eq!(username_key("İ"), username_key(&username_key("İ")), "a key is its own");
        }
    }

    #[tokio::test]
    async fn a_phone_has_one_account_and_its_creation_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let new = |phone: &str, username: &str| NewAccount::Phone {
                phone: phone.to_owned(),
                username: username.to_owned(),
            };
            let account = store.create_account(new("+8613812345678", "user_86_1"), 3).await;
            let account = account.unwrap();
            let found = store.account_by_phone("+8613812345678").await.unwrap();
            assert_eq!(found.as_ref(), Some(&account));
            for taken in [new("+8613812345678", "other"), new("+8613812345679", "USER_86_1")] {
                assert_eq!(store.create_account(taken, 3).await, Err(CreateError::Taken));
            }
            let notes = store.last_notes(account.id, 9).await.unwrap();
            assert_eq!((notes.len(), notes[0].what.as_str(), notes[0].at_ms), (1, "registered", 3));
            assert_eq!(notes[0].way, "phone");
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
