//! Owns what changes at an account that exists: each change and the note about it are written
//! together or not at all. Leaves who may change what to `account`.

use sqlx::{Any, any::AnyArguments, query::Query};

use super::{
    Sql, Store, StoreError,
    accounts::{CreateError, PasswordHash, username_key},
    audit::Note,
    sign_ins::end_others,
    unavailable,
};

/// A change, and what an operator reads of it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) account: i64,
    pub(crate) at_ms: i64,
    pub(crate) note: Note,
}

impl Store {
    /// Gives an account without a name its name and password. False: it has one already, or does
    /// not exist.
    pub(crate) async fn bind_username(
        &self,
        change: Change,
        username: String,
        hash: PasswordHash,
    ) -> Result<bool, CreateError> {
        let query = sqlx::query(
            "UPDATE accounts SET username = $1, username_key = $2, password_hash = $3 \
             WHERE id = $4 AND username IS NULL",
        );
        let key = username_key(&username);
        let query = query.bind(username).bind(key).bind(hash.0).bind(change.account);
        self.bind(change, query).await
    }

    /// Gives an account without a phone its phone. False: it has one already, or does not exist.
    pub(crate) async fn bind_phone(
        &self,
        change: Change,
        phone: String,
    ) -> Result<bool, CreateError> {
        let query = sqlx::query("UPDATE accounts SET phone = $1 WHERE id = $2 AND phone IS NULL");
        let query = query.bind(phone).bind(change.account);
        self.bind(change, query).await
    }

    /// Changes a password, forgets the device that signed in without one, and ends every sign-in but
    /// one, all or nothing; the ids of all that have
    /// ended. `None`: the password is not the one of `before` any more.
    pub(crate) async fn change_password(
        &self,
        change: Change,
        before: Option<PasswordHash>,
        hash: PasswordHash,
        except_sid: Option<String>,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        let Change { account, at_ms, note } = change;
        let query = match before {
            Some(before) => {
                let query = "UPDATE accounts SET password_hash = $1, device_id = NULL \
                             WHERE id = $2 AND password_hash = $3";
                sqlx::query(query).bind(hash.0).bind(account).bind(before.0)
            }
            None => {
                let query = "UPDATE accounts SET password_hash = $1, device_id = NULL \
                             WHERE id = $2 AND password_hash IS NULL";
                sqlx::query(query).bind(hash.0).bind(account)
            }
        };
        sql.run(async move {
            let mut tx = pool.begin().await?;
            if query.execute(&mut *tx).await?.rows_affected() == 0 {
                return Ok(None);
            }
            note.write(account, at_ms, &mut *tx).await?;
            let ended = end_others(&mut tx, account, except_sid, at_ms).await?;
            tx.commit().await?;
            Ok(Some(ended))
        })
        .await
    }

    /// Keeps another hash of the same password. False: the hash was changed since.
    pub(crate) async fn rehash(
        &self,
        account: i64,
        before: PasswordHash,
        hash: PasswordHash,
    ) -> Result<bool, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        let changed = sql.run(async move {
            let query = sqlx::query(
                "UPDATE accounts SET password_hash = $1 WHERE id = $2 AND password_hash = $3",
            );
            let query = query.bind(hash.0).bind(account).bind(before.0);
            Ok(query.execute(&pool).await?.rows_affected())
        });
        Ok(changed.await? == 1)
    }

    /// Bans an account until then; 0 ends a ban. False when there is no such account.
    pub(crate) async fn set_ban(
        &self,
        change: Change,
        until_ms: i64,
        reason: String,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "UPDATE accounts SET banned_until_ms = $1, banned_reason = $2 WHERE id = $3",
        );
        let query = query.bind(until_ms).bind(reason).bind(change.account);
        self.accounts()?.change(change, query).await.map_err(unavailable)
    }

    /// Notes that a session of the account is over. A store that keeps no accounts does nothing.
    pub(crate) async fn note_played(&self, account: i64, now_ms: i64) -> Result<(), StoreError> {
        let Ok(sql) = self.accounts() else { return Ok(()) };
        let pool = sql.write.clone();
        sql.run(async move {
            let query = sqlx::query("UPDATE accounts SET last_play_ms = $1 WHERE id = $2");
            query.bind(now_ms).bind(account).execute(&pool).await.map(drop)
        })
        .await
    }

    async fn bind(&self, change: Change, query: AnyQuery) -> Result<bool, CreateError> {
        self.accounts()?.change(change, query).await.map_err(CreateError::from_sql)
    }
}

type AnyQuery = Query<'static, Any, AnyArguments>;

impl Sql {
    /// Makes a change of one row and its note in one transaction. False: there was no such row.
    async fn change(&self, change: Change, query: AnyQuery) -> Result<bool, sqlx::Error> {
        let pool = self.write.clone();
        let Change { account, at_ms, note } = change;
        self.run_raw(async move {
            let mut both = pool.begin().await?;
            if query.execute(&mut *both).await?.rows_affected() == 0 {
                return Ok(false);
            }
            note.write(account, at_ms, &mut *both).await?;
            both.commit().await?;
            Ok(true)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::{
        super::{
            accounts::NewAccount,
            audit::What,
            tests::{opened, urls},
        },
        *,
    };

    /// Each a millisecond after the one before, so that their order is told.
    fn change(account: i64, what: What) -> Change {
        static AT_MS: AtomicI64 = AtomicI64::new(5);
        let at_ms = AT_MS.fetch_add(1, Ordering::Relaxed);
        Change { account, at_ms, note: Note::new(what, "test") }
    }

    fn hash(text: &str) -> PasswordHash {
        PasswordHash(text.to_owned())
    }

    async fn guest(store: &Store, device: &str) -> i64 {
        let new = NewAccount::Guest { device_id: device.to_owned() };
        store.create_account(new, 1).await.unwrap().id
    }

    async fn notes(store: &Store, account: i64) -> Vec<String> {
        let noted = store.last_notes(account, 99).await.unwrap();
        noted.into_iter().rev().map(|n| n.what).collect()
    }

    #[tokio::test]
    async fn a_name_and_a_phone_are_bound_once_and_are_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let (a, b) = (guest(&store, "a").await, guest(&store, "b").await);
            let name = async |id, name: &str| {
                let change = change(id, What::NameBound);
                store.bind_username(change, name.to_owned(), hash("h")).await
            };
            assert_eq!(name(a, "Anna").await, Ok(true));
            assert_eq!(name(a, "Bert").await, Ok(false), "it has a name");
            assert_eq!(name(b, "aNNA").await, Err(CreateError::Taken));
            assert_eq!(name(1, "nobody").await, Ok(false));
            let phone = async |id, phone: &str| {
                store.bind_phone(change(id, What::PhoneBound), phone.to_owned()).await
            };
            assert_eq!(phone(a, "+8613812345678").await, Ok(true));
            assert_eq!(phone(a, "+8613812345679").await, Ok(false), "it has a phone");
            assert_eq!(phone(b, "+8613812345678").await, Err(CreateError::Taken));
            let found = store.account_by_phone("+8613812345678").await.unwrap().unwrap();
            assert_eq!((found.id, found.username.as_deref()), (a, Some("Anna")));
            assert_eq!(store.account_by_phone("+8613812345679").await, Ok(None));
            // What was not done was not noted.
            assert_eq!(notes(&store, a).await[1..], ["name_bound", "phone_bound"]);
            assert_eq!(notes(&store, b).await, ["registered"]);
        }
    }

    #[tokio::test]
    async fn a_password_is_changed_only_from_the_one_that_was_shown() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let id = guest(&store, "a").await;
            let to = async |before: Option<&str>, new: &str| {
                let change = change(id, What::PasswordChanged);
                store
                    .change_password(change, before.map(hash), hash(new), None)
                    .await
                    .map(|c| c.is_some())
            };
            assert_eq!(to(Some("one"), "two").await, Ok(false));
            assert_eq!(to(None, "one").await, Ok(true));
            assert_eq!(to(None, "two").await, Ok(false));
            assert_eq!(to(Some("one"), "two").await, Ok(true));
            assert_eq!(store.rehash(id, hash("one"), hash("late")).await, Ok(false));
            assert_eq!(store.rehash(id, hash("two"), hash("stronger")).await, Ok(true));
            store.note_played(id, 77).await.unwrap();
            store.close().await;
            let store = opened(&url).await;
            let kept = store.account_by_id(id).await.unwrap().unwrap();
            assert_eq!(kept.password_hash, Some(hash("stronger")));
            assert_eq!(kept.last_play_ms, 77);
            let all = ["registered", "password_changed", "password_changed"];
            assert_eq!(notes(&store, id).await, all);
        }
    }
}
