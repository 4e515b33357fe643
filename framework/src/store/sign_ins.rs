//! Owns the rows of sign-ins, of the refresh tokens that go with them, and of what apps know
//! accounts by. Leaves what a token is, and who is told of its end, to `account`.
//!
//! Every change of an account's sign-ins begins by locking the account's row, so that on
//! PostgreSQL too they happen one after the other.

use sqlx::{AnyConnection, AnyPool, Row as _, any::AnyRow};

use super::{Note, PasswordHash, Store, StoreError, accounts::openid};
use crate::limits::{APPS_PER_ACCOUNT_MAX, SIGN_INS_PER_ACCOUNT_MAX};

const INSERT: &str = "INSERT INTO sign_ins (sid, account_id, openid, app_id, role, parent, family, \
         secret, began_ms, expires_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// All but the newest, this one not counted.
const TRIM: &str = "UPDATE sign_ins SET ended_ms = $4 WHERE sid IN ( \
         SELECT sid FROM sign_ins WHERE account_id = $1 AND family IS NOT NULL AND sid <> $2 \
         AND ended_ms = 0 ORDER BY began_ms DESC, sid LIMIT 1000 OFFSET $3) \
     RETURNING sid";

/// Those of an account whose parents live no more. Looks at its living ones alone: of a device that
/// signs in again and again thousands may have ended.
const ORPHANS: &str = "UPDATE sign_ins SET ended_ms = $2 \
     WHERE account_id = $1 AND ended_ms = 0 AND parent <> '' AND NOT EXISTS ( \
         SELECT 1 FROM sign_ins AS parents \
         WHERE parents.sid = sign_ins.parent AND parents.ended_ms = 0) \
     RETURNING sid";

const DISPLACE_CREDENTIALS: &str = "UPDATE sign_ins SET ended_ms = $3 \
     WHERE account_id = $1 AND app_id = $2 AND family IS NULL AND ended_ms = 0 RETURNING sid";

const DISPLACE_SIGN_INS: &str = "UPDATE sign_ins SET ended_ms = $3 \
     WHERE account_id = $1 AND app_id = $2 AND family IS NOT NULL AND ended_ms = 0 RETURNING sid";

/// Whoever has the living secret puts the next in its place: of two, one.
const ROTATE: &str = "UPDATE sign_ins SET secret = $1, expires_ms = $2 \
     WHERE family = $3 AND secret = $4 AND expires_ms > $5 AND ended_ms = 0";

/// Whoever ends all others is told those as well that ended so short a time ago.
const TOLD_AGAIN_MS: i64 = 60_000;

/// More than an account can have, with a credential for each app.
const TOLD_MAX: i64 = 256;

/// Rows that one sweep takes at once: some milliseconds of the one writer of a SQLite file.
const SWEPT_MAX: i64 = 500;

/// A sign-in that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignIn {
    pub(crate) sid: String,
    pub(crate) account_id: i64,
    pub(crate) openid: String,
    /// Empty: none was named.
    pub(crate) app_id: String,
    /// Empty: a player.
    pub(crate) role: String,
    /// When its refresh token, or the credential, is too old.
    pub(crate) expires_ms: i64,
    /// 0 while it lives.
    pub(crate) ended_ms: i64,
}

/// A sign-in to be.
pub(crate) struct NewSignIn {
    pub(crate) sid: String,
    pub(crate) account_id: i64,
    /// What those know it by who name no app.
    pub(crate) openid: String,
    pub(crate) app_id: String,
    pub(crate) role: String,
    /// The sign-in that it ends with; empty: none.
    pub(crate) parent: String,
    /// `None`: a credential, of which an account has one for each app.
    pub(crate) token: Option<RefreshHash>,
    /// The password it was let in with must still be the account's.
    pub(crate) password_hash: Option<PasswordHash>,
    pub(crate) began_ms: i64,
    pub(crate) expires_ms: i64,
    pub(crate) note: Note,
}

/// A refresh token, as the store keeps it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RefreshHash {
    /// The same for all tokens of a sign-in.
    pub(crate) family: Vec<u8>,
    /// Of one token.
    pub(crate) secret: Vec<u8>,
}

/// A sign-in that has begun, and whom it took the place of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// What the app knows the account by.
    pub(crate) openid: String,
    /// Those of the same app, of which the newest counts.
    pub(crate) displaced: Vec<String>,
    /// Those that were the oldest of too many.
    pub(crate) trimmed: Vec<String>,
}

/// Why a sign-in did not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotBegun {
    /// The account has got another password meanwhile, or is gone. Sign in again.
    #[error("the account has changed meanwhile: sign in again")]
    Changed,
    /// The sign-in that it belongs to has ended. Sign in again.
    #[error("the sign-in has ended: sign in again")]
    ParentEnded,
    /// The account has an openid for as many apps as it may. Name one of those.
    #[error("the account is known to {APPS_PER_ACCOUNT_MAX} apps already: name one of those")]
    TooManyApps,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Begins a sign-in and notes it at the account, in one go.
    pub(crate) async fn begin_sign_in(&self, new: NewSignIn) -> Result<Begun, NotBegun> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        sql.run(async move { begin(&pool, new).await }).await?
    }

    /// The sign-in of that family, and whether this secret is its living one.
    pub(crate) async fn sign_in_of(
        &self,
        token: RefreshHash,
    ) -> Result<Option<(SignIn, bool)>, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.read.clone();
        sql.run(async move {
            let query = sqlx::query("SELECT * FROM sign_ins WHERE family = $1").bind(token.family);
            let row = query.fetch_optional(&pool).await?;
            row.map(|row| {
                let living: Option<Vec<u8>> = row.try_get("secret")?;
                Ok((SignIn::from_row(&row)?, living.as_ref() == Some(&token.secret)))
            })
            .transpose()
        })
        .await
    }

    /// The sign-in of that id, while it lives.
    pub(crate) async fn sign_in(&self, sid: &str) -> Result<Option<SignIn>, StoreError> {
        let sql = self.accounts()?;
        let (pool, sid) = (sql.read.clone(), sid.to_owned());
        sql.run(async move {
            let query =
                sqlx::query("SELECT * FROM sign_ins WHERE sid = $1 AND ended_ms = 0").bind(sid);
            query.fetch_optional(&pool).await?.map(|row| SignIn::from_row(&row)).transpose()
        })
        .await
    }

    /// Puts a new secret in the place of the living one; false when `old` is not that any more,
    /// or is too old.
    pub(crate) async fn rotate_refresh_token(
        &self,
        old: RefreshHash,
        secret: Vec<u8>,
        expires_ms: i64,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        let rotated = sql.run(async move {
            let query = sqlx::query(ROTATE).bind(secret).bind(expires_ms);
            let query = query.bind(old.family).bind(old.secret).bind(now_ms);
            Ok(query.execute(&pool).await?.rows_affected())
        });
        Ok(rotated.await? == 1)
    }

    /// Ends a sign-in and those that belong to it; their ids, also when they had ended before, in
    /// case nobody could be told then.
    pub(crate) async fn end_sign_in(
        &self,
        account_id: i64,
        sid: &str,
        now_ms: i64,
    ) -> Result<Vec<String>, StoreError> {
        let sql = self.accounts()?;
        let (pool, sid) = (sql.write.clone(), sid.to_owned());
        sql.run(async move {
            let mut tx = pool.begin().await?;
            let lock = sqlx::query("UPDATE accounts SET id = id WHERE id = $1");
            lock.bind(account_id).execute(&mut *tx).await?;
            let query = "UPDATE sign_ins SET ended_ms = $3 \
                         WHERE account_id = $1 AND (sid = $2 OR parent = $2) AND ended_ms = 0";
            let query = sqlx::query(query).bind(account_id).bind(sid.clone()).bind(now_ms);
            query.execute(&mut *tx).await?;
            let query = "SELECT sid FROM sign_ins \
                         WHERE account_id = $1 AND (sid = $2 OR parent = $2)";
            let ended = sids(&mut tx, sqlx::query(query).bind(account_id).bind(sid)).await?;
            tx.commit().await?;
            Ok(ended)
        })
        .await
    }

    /// Sign-ins that ended after `after_ms`, at most `max`: the newest.
    pub(crate) async fn ended_sign_ins(
        &self,
        after_ms: i64,
        max: i64,
    ) -> Result<Vec<String>, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.read.clone();
        sql.run(async move {
            let query =
                "SELECT sid FROM sign_ins WHERE ended_ms > $1 ORDER BY ended_ms DESC LIMIT $2";
            let mut one = pool.acquire().await?;
            sids(&mut one, sqlx::query(query).bind(after_ms.max(0)).bind(max)).await
        })
        .await
    }

    /// Forgets sign-ins that ran out before `before_ms`, those that ended before `ended_before_ms`,
    /// and credentials that ended before `before_ms`; whether there may be more of them.
    pub(crate) async fn sweep_sign_ins(
        &self,
        before_ms: i64,
        ended_before_ms: i64,
    ) -> Result<bool, StoreError> {
        let sql = self.accounts()?;
        let pool = sql.write.clone();
        let swept = sql.run(async move {
            let query = "DELETE FROM sign_ins WHERE sid IN ( \
                         SELECT sid FROM sign_ins WHERE expires_ms <= $1 \
                         OR (ended_ms > 0 AND ended_ms <= $2 AND family IS NOT NULL) \
                         OR (ended_ms > 0 AND ended_ms <= $1) LIMIT $3)";
            let query = sqlx::query(query).bind(before_ms).bind(ended_before_ms).bind(SWEPT_MAX);
            Ok(query.execute(&pool).await?.rows_affected())
        });
        Ok(i64::try_from(swept.await?).is_ok_and(|swept| swept == SWEPT_MAX))
    }
}

/// All but one, and what belongs to that.
const END_OTHERS: &str = "UPDATE sign_ins SET ended_ms = $3 \
     WHERE account_id = $1 AND sid <> $2 AND (parent = '' OR parent <> $2) AND ended_ms = 0";

/// Ends every sign-in of an account but one and what belongs to that, within a transaction that has
/// locked the account; the ids of all that have ended lately, in case nobody could be told before.
pub(super) async fn end_others(
    tx: &mut AnyConnection,
    account_id: i64,
    except_sid: Option<String>,
    now_ms: i64,
) -> Result<Vec<String>, sqlx::Error> {
    let query = sqlx::query(END_OTHERS).bind(account_id).bind(except_sid.unwrap_or_default());
    query.bind(now_ms).execute(&mut *tx).await?;
    let query = "SELECT sid FROM sign_ins WHERE account_id = $1 AND ended_ms > $2 \
                 ORDER BY ended_ms DESC LIMIT $3";
    let query =
        sqlx::query(query).bind(account_id).bind(now_ms.saturating_sub(TOLD_AGAIN_MS).max(0));
    sids(tx, query.bind(TOLD_MAX)).await
}

impl SignIn {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            sid: row.try_get("sid")?,
            account_id: row.try_get("account_id")?,
            openid: row.try_get("openid")?,
            app_id: row.try_get("app_id")?,
            role: row.try_get("role")?,
            expires_ms: row.try_get("expires_ms")?,
            ended_ms: row.try_get("ended_ms")?,
        })
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

/// The first column of what a statement returns.
async fn sids(tx: &mut AnyConnection, query: Query<'_>) -> Result<Vec<String>, sqlx::Error> {
    query.fetch_all(tx).await?.iter().map(|row| row.try_get(0)).collect()
}

async fn begin(pool: &AnyPool, new: NewSignIn) -> Result<Result<Begun, NotBegun>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let NewSignIn { sid, account_id, app_id, parent, token, began_ms, .. } = &new;
    let known = new.password_hash.as_ref().map_or("", |hash| hash.0.as_str());
    let lock = "UPDATE accounts SET last_sign_in_ms = $1 \
                WHERE id = $2 AND ($3 = '' OR password_hash = $3)";
    let lock = sqlx::query(lock).bind(*began_ms).bind(*account_id).bind(known.to_owned());
    if lock.execute(&mut *tx).await?.rows_affected() != 1 {
        return Ok(Err(NotBegun::Changed));
    }
    if !parent.is_empty() {
        let query = sqlx::query(
            "SELECT sid FROM sign_ins WHERE sid = $1 AND account_id = $2 AND ended_ms = 0",
        );
        let query = query.bind(parent.clone()).bind(*account_id);
        if sids(&mut tx, query).await?.is_empty() {
            return Ok(Err(NotBegun::ParentEnded));
        }
    }
    let openid = match app_id.as_str() {
        "" => Some(new.openid.clone()),
        app_id => openid_for(&mut tx, *account_id, app_id).await?,
    };
    let Some(openid) = openid else { return Ok(Err(NotBegun::TooManyApps)) };
    // Of credentials, and of sign-ins to an app, the newest counts.
    let others = match token {
        None => Some(DISPLACE_CREDENTIALS),
        Some(_) if !app_id.is_empty() => Some(DISPLACE_SIGN_INS),
        Some(_) => None,
    };
    let mut displaced = match others {
        Some(query) => {
            let query = sqlx::query(query).bind(*account_id).bind(app_id.clone()).bind(*began_ms);
            sids(&mut tx, query).await?
        }
        None => Vec::new(),
    };
    let trim = sqlx::query(TRIM).bind(*account_id).bind(sid.clone());
    let trim = trim.bind(SIGN_INS_PER_ACCOUNT_MAX - 1).bind(*began_ms);
    let trimmed = match token {
        Some(_) => sids(&mut tx, trim).await?,
        None => Vec::new(),
    };
    if !(displaced.is_empty() && trimmed.is_empty()) {
        let orphans = sqlx::query(ORPHANS).bind(*account_id).bind(*began_ms);
        displaced.extend(sids(&mut tx, orphans).await?);
    }
    insert(&mut tx, new, &openid).await?;
    tx.commit().await?;
    Ok(Ok(Begun { openid, displaced, trimmed }))
}

async fn insert(tx: &mut AnyConnection, new: NewSignIn, openid: &str) -> Result<(), sqlx::Error> {
    let NewSignIn {
        sid,
        account_id,
        openid: _,
        app_id,
        role,
        parent,
        token,
        password_hash: _,
        began_ms,
        expires_ms,
        note,
    } = new;
    let (family, secret) = token.map(|token| (token.family, token.secret)).unzip();
    let query = sqlx::query(INSERT).bind(sid).bind(account_id).bind(openid.to_owned());
    let query = query.bind(app_id).bind(role).bind(parent).bind(family).bind(secret);
    query.bind(began_ms).bind(expires_ms).execute(&mut *tx).await?;
    note.write(account_id, began_ms, tx).await
}

/// What an app knows the account by, made when it is new; `None`: too many apps.
async fn openid_for(
    tx: &mut AnyConnection,
    account_id: i64,
    app_id: &str,
) -> Result<Option<String>, sqlx::Error> {
    let query = "SELECT openid FROM openids WHERE account_id = $1 AND app_id = $2";
    let query = sqlx::query(query).bind(account_id).bind(app_id.to_owned());
    if let Some(known) = sids(tx, query).await?.pop() {
        return Ok(Some(known));
    }
    let query = sqlx::query("SELECT COUNT(*) FROM openids WHERE account_id = $1");
    let row = query.bind(account_id).fetch_one(&mut *tx).await?;
    if row.try_get::<i64, _>(0)? >= APPS_PER_ACCOUNT_MAX {
        return Ok(None);
    }
    let new = openid();
    let query = sqlx::query("INSERT INTO openids (app_id, account_id, openid) VALUES ($1, $2, $3)");
    let query = query.bind(app_id.to_owned()).bind(account_id).bind(new.clone());
    query.execute(tx).await?;
    Ok(Some(new))
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::{
        super::{
            Account, NewAccount, What,
            tests::{opened, urls},
        },
        *,
    };

    async fn guest(store: &Store) -> Account {
        let new = NewAccount::Guest { device_id: "phone".to_owned() };
        store.create_account(new, 1).await.unwrap()
    }

    /// Of an app or of none; with a refresh token or without.
    fn of(account: &Account, sid: &str, app_id: &str, token: bool) -> NewSignIn {
        let bytes = |kind: &str| format!("{kind} of {sid}").into_bytes();
        NewSignIn {
            sid: sid.to_owned(),
            account_id: account.id,
            openid: account.openid.clone(),
            app_id: app_id.to_owned(),
            role: String::new(),
            parent: String::new(),
            token: token.then(|| RefreshHash { family: bytes("family"), secret: bytes("secret") }),
            password_hash: None,
            began_ms: 1,
            expires_ms: 100,
            note: Note::new(What::SignedIn, "test"),
        }
    }

    async fn living(store: &Store, sids: &[&str]) -> Vec<bool> {
        let mut living = Vec::new();
        for sid in sids {
            living.push(store.sign_in(sid).await.unwrap().is_some());
        }
        living
    }

    #[tokio::test]
    async fn an_app_has_one_sign_in_and_one_credential_of_an_account() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let anna = guest(&store).await;
            let begin = async |sid: &str, app: &str, token: bool| {
                store.begin_sign_in(of(&anna, sid, app, token)).await.unwrap()
            };
            let first = begin("a", "app", true).await;
            assert_ne!(first.openid, anna.openid);
            assert_eq!(begin("c", "app", false).await.displaced, [""; 0], "another kind");
            assert_eq!(
                begin("b", "app", true).await,
                Begun { displaced: vec!["a".into()], ..first }
            );
            assert_eq!(begin("d", "app", false).await.displaced, ["c"]);
            assert_eq!(begin("e", "other", false).await.displaced, [""; 0]);
            for (sid, openid) in [("f", &anna.openid), ("g", &anna.openid)] {
                let begun = begin(sid, "", true).await;
                assert_eq!((&begun.openid, begun.displaced), (openid, vec![]), "of no app");
            }
            let sids = ["a", "b", "c", "d", "e", "f", "g"];
            assert_eq!(living(&store, &sids).await, [false, true, false, true, true, true, true]);
            let row = store.account_by_id(anna.id).await.unwrap().unwrap();
            assert_eq!(row.last_sign_in_ms, 1);
            let ended = store.end_sign_in(anna.id, "f", 2).await;
            assert_eq!(ended, Ok(vec!["f".to_owned()]), "not those that were displaced before");
        }
    }

    #[tokio::test]
    async fn of_many_that_sign_in_at_once_as_many_stay_as_there_may_be() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let anna = guest(&store).await;
            let racers = (0..60).map(|n| {
                let (store, app) = (store.clone(), if n % 3 == 0 { "app" } else { "" });
                let new = of(&anna, &format!("sid-{n}"), app, true);
                Handle::current().spawn(async move { store.begin_sign_in(new).await })
            });
            let (mut gone, mut openids) = (0, std::collections::HashSet::new());
            for racer in racers.collect::<Vec<_>>() {
                let Begun { openid, displaced, trimmed } = racer.await.unwrap().unwrap();
                gone += displaced.len() + trimmed.len();
                openids.insert(openid);
            }
            assert_eq!(openids.len(), 2, "one of the app, one of none");
            let sids: Vec<_> = (0..60).map(|n| format!("sid-{n}")).collect();
            let sids: Vec<_> = sids.iter().map(String::as_str).collect();
            let left = living(&store, &sids).await.into_iter().filter(|lives| *lives).count();
            assert_eq!(gone + left, 60, "each is told once");
            assert!(i64::try_from(left).unwrap() <= SIGN_INS_PER_ACCOUNT_MAX, "{left}");
        }
    }

    #[tokio::test]
    async fn what_is_drawn_from_a_sign_in_ends_with_it_and_cannot_begin_after_it() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let anna = guest(&store).await;
            store.begin_sign_in(of(&anna, "a", "app", true)).await.unwrap();
            let drawn =
                |sid: &str| NewSignIn { parent: "a".into(), ..of(&anna, sid, "app", false) };
            store.begin_sign_in(drawn("b")).await.unwrap();
            let strangers = store.end_sign_in(anna.id + 1, "a", 1_000_000).await;
            assert_eq!(strangers, Ok(vec![]), "another account's");
            let mut ended = store.end_sign_in(anna.id, "a", 1_000_000).await.unwrap();
            ended.sort();
            assert_eq!(ended, ["a", "b"]);
            let again = store.end_sign_in(anna.id, "a", 1_000_001).await.unwrap();
            assert_eq!(again.len(), 2, "in case nobody could be told");
            assert_eq!(store.begin_sign_in(drawn("c")).await, Err(NotBegun::ParentEnded));
            assert_eq!(living(&store, &["a", "b", "c"]).await, [false; 3]);
            let nobody = Account { id: 1, ..anna };
            let begun = store.begin_sign_in(of(&nobody, "d", "", true)).await;
            assert_eq!(begun, Err(NotBegun::Changed));
        }
    }

    #[tokio::test]
    async fn an_account_is_known_to_so_many_apps() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let anna = guest(&store).await;
            for n in 0..APPS_PER_ACCOUNT_MAX {
                let new = of(&anna, &format!("{n}"), &format!("app-{n}"), false);
                store.begin_sign_in(new).await.unwrap();
            }
            let one_more = store.begin_sign_in(of(&anna, "x", "one-more", false)).await;
            assert_eq!(one_more, Err(NotBegun::TooManyApps));
            store.begin_sign_in(of(&anna, "y", "app-7", false)).await.expect("it is known there");
        }
    }

    #[tokio::test]
    async fn an_address_is_given_once_in_any_case_and_with_it_the_name() {
        let folder = tempfile::tempdir().unwrap();
        for url in urls(&folder) {
            let store = opened(&url).await;
            let create = async |username: &str, email: &str| {
                let (username, email) = (username.to_owned(), email.to_owned());
                let password_hash = PasswordHash("$argon2id$".to_owned());
                let new = NewAccount::Reachable { username, password_hash, email };
                store.create_account(new, 1).await.map(|account| account.id)
            };
            let anna = create("anna", "Anna@example.org").await.unwrap();
            let found = store.account_by_email("aNNA@example.org").await.unwrap().unwrap();
            assert_eq!((found.id, found.email.as_deref()), (anna, Some("Anna@example.org")));
            assert!(create("bert", "anna@EXAMPLE.org").await.is_err());
            assert_eq!(store.account_by_username("bert").await, Ok(None), "nothing is half done");
            create("bert", "bert@example.org").await.unwrap();
        }
    }
}
