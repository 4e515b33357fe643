//! Owns the record of what happened to accounts: each note is written with the change that it is
//! about, old ones are swept. Leaves what is worth a note to `account` and to `changes`.

use rand::{TryRngCore as _, rngs::OsRng};
use sqlx::{Any, Executor, Row as _, any::AnyRow};

use super::{Store, StoreError};

const INSERT: &str = "INSERT INTO audit (account_id, at_ms, id, what, way, app_id, ip, detail) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// The rows that are too old, some at a time: nobody else writes to a SQLite file meanwhile.
const SWEEP: &str = "DELETE FROM audit WHERE (account_id, at_ms, id) IN \
     (SELECT account_id, at_ms, id FROM audit WHERE at_ms < $1 ORDER BY at_ms LIMIT $2)";

/// In the order of the key, so that it ends after so many accounts.
const COUNTS: &str = "SELECT account_id, COUNT(*) AS notes FROM audit WHERE account_id > $1 \
     GROUP BY account_id ORDER BY account_id LIMIT $2";

const TRIM: &str = "DELETE FROM audit WHERE (account_id, at_ms, id) IN \
     (SELECT account_id, at_ms, id FROM audit WHERE account_id = $1 \
      ORDER BY at_ms DESC, id DESC LIMIT $2 OFFSET $3)";

/// Characters of one text of a note. Beyond: cut off, since some of them come from strangers.
const TEXT_CHARS_MAX: usize = 200;

/// What can happen to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Registered,
    SignedIn,
    /// Somebody who named the account was not let in.
    Refused,
    SignedOut,
    NameBound,
    PhoneBound,
    PasswordChanged,
    PasswordReset,
    Kicked,
    Banned,
    Unbanned,
}

/// What happened to an account, and how; holds no secret.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    what: What,
    way: String,
    app_id: Option<String>,
    ip: Option<String>,
    detail: String,
}

/// A note as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) at_ms: i64,
    /// One of [`What`], or a word of a later release.
    pub(crate) what: String,
    pub(crate) way: String,
    pub(crate) app_id: Option<String>,
    pub(crate) ip: Option<String>,
    pub(crate) detail: String,
}

// === impl What ===

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::SignedIn => "signed_in",
            Self::Refused => "refused",
            Self::SignedOut => "signed_out",
            Self::NameBound => "name_bound",
            Self::PhoneBound => "phone_bound",
            Self::PasswordChanged => "password_changed",
            Self::PasswordReset => "password_reset",
            Self::Kicked => "kicked",
            Self::Banned => "banned",
            Self::Unbanned => "unbanned",
        }
    }
}

// === impl Note ===

impl Note {
    /// `way` is how it was proven, such as `password`, `guest`, `phone`, `operator`.
    pub(crate) fn new(what: What, way: &str) -> Self {
        Self { what, way: short(way), app_id: None, ip: None, detail: String::new() }
    }

    /// From where it was asked.
    pub(crate) fn from(self, ip: Option<&str>) -> Self {
        Self { ip: ip.map(short), ..self }
    }

    pub(crate) fn for_app(self, app_id: Option<&str>) -> Self {
        Self { app_id: app_id.map(short), ..self }
    }

    /// What else an operator wants to know.
    pub(crate) fn saying(self, detail: &str) -> Self {
        Self { detail: short(detail), ..self }
    }

    /// Writes it down; inside the caller's transaction, where there is one.
    pub(super) async fn write<'c>(
        self,
        account: i64,
        at_ms: i64,
        to: impl Executor<'c, Database = Any>,
    ) -> Result<(), sqlx::Error> {
        let Self { what, way, app_id, ip, detail } = self;
        let query = sqlx::query(INSERT).bind(account).bind(at_ms).bind(random_id());
        let query = query.bind(what.name()).bind(way).bind(app_id).bind(ip).bind(detail);
        query.execute(to).await.map(drop)
    }
}

impl Noted {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            at_ms: row.try_get("at_ms")?,
            what: row.try_get("what")?,
            way: row.try_get("way")?,
            app_id: row.try_get("app_id")?,
            ip: row.try_get("ip")?,
            detail: row.try_get("detail")?,
        })
    }
}

// === impl Store ===

impl Store {
    /// Writes a note that nobody waits for: whoever is refused must not learn from the time it
    /// takes that there is an account to write about. Lost when the store is away.
    pub(crate) fn note_later(&self, account: i64, at_ms: i64, note: Note) {
        let Ok(sql) = self.accounts() else { return };
        let pool = sql.write.clone();
        let written = sql.start(async move { note.write(account, at_ms, &pool).await });
        drop(written);
    }

    /// The last notes about an account, the newest first, at most `max`.
    pub(crate) async fn last_notes(
        &self,
        account: i64,
        max: i64,
    ) -> Result<Vec<Noted>, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.read.clone();
        sql.run(async move {
            let query = sqlx::query(
                "SELECT * FROM audit WHERE account_id = $1 ORDER BY at_ms DESC, id DESC LIMIT $2",
            );
            let rows = query.bind(account).bind(max).fetch_all(&pool).await?;
            rows.iter().map(Noted::from_row).collect()
        })
        .await
    }

    /// Deletes notes from before `before_ms`, at most `max` of them, and says how many.
    pub(crate) async fn sweep_notes(&self, before_ms: i64, max: i64) -> Result<u64, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        sql.run(async move {
            let query = sqlx::query(SWEEP).bind(before_ms).bind(max);
            Ok(query.execute(&pool).await?.rows_affected())
        })
        .await
    }

    /// How many notes there are of the next `max` accounts above `after`, in order.
    pub(crate) async fn count_notes(
        &self,
        after: i64,
        max: i64,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.read.clone();
        sql.run(async move {
            let rows = sqlx::query(COUNTS).bind(after).bind(max).fetch_all(&pool).await?;
            rows.iter().map(|row| Ok((row.try_get("account_id")?, row.try_get("notes")?))).collect()
        })
        .await
    }

    /// Deletes all but the newest `keep` notes about an account, at most `max` at once, and says
    /// how many.
    pub(crate) async fn trim_notes(
        &self,
        account: i64,
        keep: i64,
        max: i64,
    ) -> Result<u64, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        sql.run(async move {
            let query = sqlx::query(TRIM).bind(account).bind(max).bind(keep);
            Ok(query.execute(&pool).await?.rows_affected())
        })
        .await
    }
}

/// What fits into a note. PostgreSQL takes no NUL, and an operator's terminal no escapes.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

fn random_id() -> i64 {
    let mut bytes = [0; 8];
    OsRng.try_fill_bytes(&mut bytes).expect("the system has a source of randomness");
    i64::from_le_bytes(bytes) & i64::MAX
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{opened, urls},
        *,
    };

    async fn noted(store: &Store, account: i64, at_ms: i64) {
        let sql = store.accounts().unwrap();
        let pool = sql.write.clone();
        let note = Note::new(What::SignedIn, "guest");
        sql.run(async move { note.write(account, at_ms, &pool).await }).await.unwrap();
    }

    #[tokio::test]
    async fn the_last_notes_about_an_account_come_newest_first_and_hold_no_control_characters() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            for at_ms in 1..=5 {
                noted(&store, 7, at_ms).await;
            }
            noted(&store, 8, 9).await;
            let times = |notes: Vec<Noted>| notes.iter().map(|n| n.at_ms).collect::<Vec<_>>();
            assert_eq!(times(store.last_notes(7, 3).await.unwrap()), [5, 4, 3]);
            let note = Note::new(What::Refused, "pass\0word").from(Some("10.0.0.1"));
            let note = note.for_app(Some(&"a".repeat(999))).saying("\x1b[31mred");
            store.note_later(8, 10, note);
            let newest = loop {
                let newest = store.last_notes(8, 1).await.unwrap().remove(0);
                if newest.at_ms == 10 {
                    break newest;
                }
                tokio::task::yield_now().await;
            };
            let Noted { at_ms: _, what, way, app_id, ip, detail } = newest;
            assert_eq!((what.as_str(), way.as_str()), ("refused", "password"));
            assert_eq!(app_id.map(|app| app.len()), Some(TEXT_CHARS_MAX));
            assert_eq!((ip.as_deref(), detail.as_str()), (Some("10.0.0.1"), "[31mred"));
        }
    }

    #[tokio::test]
    async fn a_sweep_takes_what_is_too_old_and_an_account_keeps_its_newest() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            for account in [7, 8] {
                for at_ms in 1..=6 {
                    noted(&store, account, at_ms).await;
                }
            }
            assert_eq!(store.sweep_notes(3, 3).await, Ok(3), "no more than asked");
            assert_eq!(store.sweep_notes(3, 3).await, Ok(1));
            assert_eq!(store.count_notes(0, 1).await, Ok(vec![(7, 4)]));
            assert_eq!(store.count_notes(7, 9).await, Ok(vec![(8, 4)]));
            assert_eq!(store.trim_notes(7, 2, 100).await, Ok(2));
            assert_eq!(store.trim_notes(7, 2, 100).await, Ok(0));
            let left = store.last_notes(7, 9).await.unwrap();
            assert_eq!(left.iter().map(|n| n.at_ms).collect::<Vec<_>>(), [6, 5]);
            assert_eq!(store.count_notes(7, 9).await, Ok(vec![(8, 4)]), "others keep theirs");
        }
    }
}
