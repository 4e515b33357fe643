//! Owns the proof that a store on PostgreSQL names what is wrong with it, and outlives its server.

use std::{fs, net::Ipv4Addr};

use bastide_testkit::{Postgres, free_port, shared};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::Instant,
};

use super::{
    super::{Backend, Store, StoreError, tests::refused},
    *,
};

/// What a loaded machine may add to a deadline before it counts as missed.
const GRACE: Duration = Duration::from_secs(2);

async fn opened(url: &str) -> Store {
    Store::open(url, Handle::current()).await.unwrap()
}

/// Lets a server of the kit begin or end something without holding up the store's runtime.
async fn aside<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(what).await.unwrap()
}

#[tokio::test]
async fn several_nodes_that_start_at_once_on_an_empty_database_all_succeed() {
    let url = shared().postgres.database();
    let nodes: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            Handle::current().spawn(async move { opened(&url).await })
        })
        .collect();
    for node in nodes {
        node.await.unwrap().ping().await.unwrap();
    }
    // And one that comes later finds all of it done.
    opened(&url.replace("postgres://", "postgresql://")).await.ping().await.unwrap();
}

#[tokio::test]
async fn what_an_operator_set_wrong_is_named_with_its_remedy_and_without_the_password() {
    let mut server = Postgres::start();
    server.sql("CREATE ROLE town LOGIN PASSWORD 'hunter2'");
    let rules = server.folder().join("data/pg_hba.conf");
    let trust = fs::read_to_string(&rules).unwrap();
    let strict = "host all town 127.0.0.1/32 scram-sha-256\n\
                  host postgres walled 127.0.0.1/32 reject\n\
                  hostssl postgres veiled 127.0.0.1/32 trust\n\
                  hostnossl postgres veiled 127.0.0.1/32 reject\n";
    fs::write(&rules, format!("{strict}{trust}")).unwrap();
    server.restart();
    let place = server.url().rsplit('@').next().unwrap().to_owned();
    let host = place.split('/').next().unwrap().to_owned();

    for (login, expected) in [
        (format!("town:hunter3@{place}"), "refuses this user name or password"),
        (format!("town@{place}"), "refuses this user name or password"),
        (format!("walled:hunter2@{place}"), "pg_hba.conf rejects connection"),
        (format!("veiled:hunter2@{place}"), "add ?sslmode=require to"),
        (format!("nobody:hunter2@{place}"), r#"role "nobody" does not exist"#),
        (format!("postgres:hunter2@{host}/nowhere"), "create it with `createdb`"),
        (format!("town:hunter2@{host}/postgres"), "let it own the database"),
        (format!("town:hunter2@{place}?sslmode=require"), "no TLS with the database"),
        (format!("town:hunter2@{place}?sslmode=hunted"), "`store.url` cannot be read"),
        ("town:hunter2#@db/town".to_owned(), "as %2F %3F %23"),
        ("town:hunter2".to_owned(), "as %2F %3F %23"),
    ] {
        let error = Store::open(&format!("postgres://{login}"), Handle::current()).await;
        let error = error.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(expected), "{login}: {said}");
        assert!(said.contains("`store.url`") && !said.contains("hunter"), "{login}: {said}");
        assert!(!error.is_away(), "{login}: {said}");
    }
    server.sql("ALTER DATABASE postgres OWNER TO town");
    opened(&format!("postgres://town:hunter2@{place}")).await.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_no_mistake_of_the_operator() {
    let nobody = format!("postgres://town:hunter2@127.0.0.1:{}/town", free_port());
    let error = Store::open(&nobody, Handle::current()).await.unwrap_err();
    assert!(error.is_away(), "{error}");
    assert!(error.to_string().contains("see whether its server is up"), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");

    let unnamed = "postgres://town@nowhere.invalid/town";
    let error = Store::open(unnamed, Handle::current()).await.unwrap_err();
    assert!(error.is_away(), "a name may be known later: {error}");

    let error = Store::open("sqlite:///", Handle::current()).await.unwrap_err();
    assert!(!error.is_away(), "{error}");
}

/// PostgreSQL is in this state too shortly to be met: here its words are said for it.
#[tokio::test]
async fn a_server_that_starts_just_now_is_waited_for() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Handle::current().spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        client.read_exact(&mut [0; 8]).await.unwrap();
        let fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
        let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
        client.write_all(&[b"E", length.as_slice(), fields].concat()).await.unwrap();
        // Open until the client has read.
        client.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let url = format!("postgres://town@127.0.0.1:{port}/town?sslmode=disable");
    let error = Store::open(&url, Handle::current()).await.unwrap_err();
    assert!(error.is_away() && error.to_string().contains("starting up"), "{error}");
    server.await.unwrap();
}

#[tokio::test]
async fn a_database_of_a_newer_release_is_refused() {
    let url = shared().postgres.database();
    let store = opened(&url).await;
    let Backend::Sql(sql) = &store.0 else { panic!("opened as SQL") };
    let newer = "INSERT INTO _sqlx_migrations \
                 (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'later', TRUE, '\\x00', 1)";
    sql.write.execute(newer).await.unwrap();
    let said = refused(&url).await;
    assert!(said.contains("another release (migration 9999)"), "{said}");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended_by_the_server_and_says_so() {
    let store = opened(&shared().postgres.database()).await;
    let Backend::Sql(sql) = &store.0 else { panic!("opened as SQL") };
    let pool = sql.write.clone();
    let slow = sql.run(async move { pool.execute("SELECT pg_sleep(60)").await.map(drop) }).await;
    assert!(slow.unwrap_err().to_string().contains("statement timeout"));
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_not_waited_for_for_ever() {
    let url = shared().postgres.database();
    let store = opened(&url).await;
    store.save_record("player", "1", 1, b"a".to_vec(), 1).await.unwrap();
    let mut holder = AnyConnection::connect(&url).await.unwrap();
    holder.execute("BEGIN; UPDATE records SET updated_ms = 2").await.unwrap();
    let late = store.save_record("player", "1", 1, b"b".to_vec(), 3).await.unwrap_err();
    assert!(late.to_string().contains("lock timeout"), "{late}");
    holder.execute("ROLLBACK").await.unwrap();
    store.save_record("player", "1", 1, b"b".to_vec(), 3).await.unwrap();
}

#[tokio::test]
async fn calls_fail_while_the_server_is_stopped_and_succeed_when_it_is_back() {
    let mut server = Postgres::start();
    let store = opened(&server.database()).await;
    store.save_record("player", "1", 1, b"before".to_vec(), 1).await.unwrap();
    // More connections than one call needs: each of them must be found dead.
    let busy = (0..8).map(|_| {
        let store = store.clone();
        Handle::current().spawn(async move { store.ping().await })
    });
    for ping in busy.collect::<Vec<_>>() {
        ping.await.unwrap().unwrap();
    }
    for end in [Postgres::stop, Postgres::kill] {
        server = aside(move || {
            end(&mut server);
            server
        })
        .await;
        let begun = Instant::now();
        let away = store.load_record("player", "1", 1).await;
        assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
        assert!(begun.elapsed() < STORE_DEADLINE + GRACE, "{:?}", begun.elapsed());
        server = aside(move || {
            server.restart();
            server
        })
        .await;
        let back = store.load_record("player", "1", 1).await;
        assert_eq!(back, Ok(Some(b"before".to_vec())), "the first call after the outage");
    }
}

#[tokio::test]
async fn calls_end_at_the_deadline_while_the_server_is_frozen_and_the_pool_heals() {
    let server = Postgres::start();
    let store = opened(&server.database()).await;
    store.ping().await.unwrap();
    server.freeze();
    let begun = Instant::now();
    // More than there are connections: those that wait for one end in time as well.
    let calls: Vec<_> = (0..STORE_CONNECTIONS_MAX * 2)
        .map(|_| {
            let store = store.clone();
            Handle::current().spawn(async move { store.ping().await })
        })
        .collect();
    for call in calls {
        let answer = call.await.unwrap();
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }
    assert!(begun.elapsed() < STORE_DEADLINE + GRACE, "{:?}", begun.elapsed());
    server.thaw();
    store.ping().await.expect("the first call after the thaw");
}

#[tokio::test]
async fn a_statement_under_way_when_the_server_freezes_gives_its_connection_up() {
    let server = Postgres::start();
    let store = opened(&server.database()).await;
    let Backend::Sql(sql) = &store.0 else { panic!("opened as SQL") };
    let under_way: Vec<_> = (0..4)
        .map(|_| {
            let (store, pool) = (store.clone(), sql.write.clone());
            Handle::current().spawn(async move {
                let Backend::Sql(sql) = &store.0 else { panic!("opened as SQL") };
                sql.run(async move { pool.execute("SELECT pg_sleep(2)").await.map(drop) }).await
            })
        })
        .collect();
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(2)'";
    let server = aside(move || {
        let begun = (0..100).any(|_| server.sql(sleeping).trim() == "4");
        assert!(begun, "all statements are under way at once");
        server.freeze();
        server
    })
    .await;
    for statement in under_way {
        let ended = statement.await.unwrap();
        assert!(matches!(ended, Err(StoreError::Unavailable(_))), "{ended:?}");
    }
    // Still frozen: what comes back is asked once more, and then closed.
    let given_up = async {
        while sql.write.size() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(STORE_CHECK_DEADLINE + GRACE, given_up).await.expect("no connection is kept waiting");
    server.thaw();
    store.ping().await.expect("the first call after the thaw");
}
