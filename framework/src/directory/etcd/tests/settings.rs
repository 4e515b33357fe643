//! What an operator may have set wrongly, and etcd with users.

use std::{fs, path::Path};

use etcd_client::{Client, PermissionType};

use super::*;
use crate::directory::etcd::EtcdError;

async fn refused(change: impl FnOnce(&mut EtcdSettings)) -> String {
    let world = World::at("http://127.0.0.1:2379".to_owned(), LONG);
    let mut settings = world.settings();
    change(&mut settings);
    let connected = Etcd::connect(settings, Handle::current()).await;
    connected.expect_err("the settings are wrong").to_string()
}

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_named_with_its_key() {
    says(&refused(|s| s.endpoints.clear()).await, &["discovery.etcd", "http://127.0.0.1:2379"]);
    for wrong in
        ["127.0.0.1:2379", "http://", "http://a b", "http://h:99999", "ftp://h", "http://h:1/x"]
    {
        let text = refused(|s| s.endpoints = vec!["http://fine:1".into(), wrong.into()]).await;
        says(&text, &["discovery.etcd", wrong, "http://host:2379"]);
    }
    let text = refused(|s| s.endpoints = vec!["http://root:s3cret@h:2379".into()]).await;
    says(&text, &["discovery.etcd", "discovery.password"]);
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn half_of_a_pair_and_a_file_that_is_none_are_named_with_their_key() {
    let secure = |s: &mut EtcdSettings| s.endpoints = vec!["https://127.0.0.1:2379".into()];
    says(&refused(|s| s.user = Some("u".into())).await, &["discovery.user", "discovery.password"]);
    says(&refused(secure).await, &["discovery.ca"]);
    says(&refused(|s| s.ca = Some("/ca.pem".into())).await, &["discovery.ca", "https://"]);
    let text = refused(|s| {
        secure(s);
        s.endpoints.push("http://127.0.0.1:1".into());
    });
    says(&text.await, &["discovery.etcd", "http://127.0.0.1:1"]);

    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("writable");
        path
    };
    let absent = Path::new("/absent/ca.pem");
    let text = refused(|s| {
        secure(s);
        s.ca = Some(absent.to_owned());
    });
    says(&text.await, &["discovery.ca", "/absent/ca.pem"]);
    let empty = file("empty.pem", "no certificate");
    let text = refused(|s| {
        secure(s);
        s.ca = Some(empty.clone());
    });
    says(&text.await, &["discovery.ca", "empty.pem", "no certificate"]);

    let own = rcgen::generate_simple_self_signed(["h".to_owned()]).expect("a certificate");
    let ca = file("ca.pem", &own.cert.pem());
    let with = |cert: Option<&Path>, key: Option<&Path>| {
        let (ca, cert, key) = (ca.clone(), cert.map(Path::to_owned), key.map(Path::to_owned));
        refused(move |s| {
            s.endpoints = vec!["https://127.0.0.1:2379".into()];
            (s.ca, s.cert, s.key) = (Some(ca), cert, key);
        })
    };
    says(&with(Some(&ca), None).await, &["discovery.cert", "discovery.key"]);
    says(&with(Some(&ca), Some(&empty)).await, &["discovery.key", "empty.pem"]);
    says(&with(Some(&empty), Some(&empty)).await, &["discovery.cert", "empty.pem"]);
}

#[tokio::test]
async fn etcd_need_not_be_there_to_connect_and_a_ping_says_that_it_is_not() {
    let port = bastide_testkit::free_port();
    let world = World::at(format!("http://127.0.0.1:{port}"), LONG);
    let etcd = world.etcd().await;
    let text = etcd.ping().await.expect_err("nobody is there").to_string();
    says(&text, &["discovery.etcd", "refused"]);
    World::shared(LONG).etcd().await.ping().await.expect("etcd is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_of_a_frozen_etcd_ends_at_its_deadline() {
    let server = bastide_testkit::Etcd::start();
    let etcd = World::at(server.url(), LONG).etcd().await;
    etcd.ping().await.expect("etcd is there");
    server.freeze();
    let asked = Instant::now();
    let answer = etcd.ping().await;
    let took = asked.elapsed();
    server.thaw();
    assert_eq!(answer, Err(EtcdError::TimedOut));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn of_several_servers_those_that_are_there_are_asked() {
    let there = World::shared(LONG);
    let mut settings = there.settings();
    for _ in 0..2 {
        settings.endpoints.push(format!("http://127.0.0.1:{}", bastide_testkit::free_port()));
    }
    let etcd = Etcd::connect(settings, Handle::current()).await.expect("settings are right");
    for _ in 0..50 {
        etcd.ping().await.expect("one of three is there");
    }
}

#[test]
fn a_connection_lives_on_its_own_runtime_whoever_asks_through_it() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let (drives, first, second) = (runtime(), runtime(), runtime());
    let world = World::shared(LONG);
    let connect = Etcd::connect(world.settings(), drives.handle().clone());
    let etcd = first.block_on(async { connect.await.expect("settings are right") });
    first.block_on(etcd.ping()).expect("etcd is there");
    drop(first);
    second.block_on(etcd.ping()).expect("the connection is not the first caller's");
}

const PASSWORD: &str = "a pass of many words";

/// An etcd that lets `node` do what a node does, and nobody else anything.
async fn guarded() -> (bastide_testkit::Etcd, World) {
    let server = bastide_testkit::Etcd::start();
    let world = World::at(server.url(), SHORT);
    let mut raw: Client = world.raw().await;
    for (user, password) in [("root", "r"), ("node", PASSWORD)] {
        raw.user_add(user, password, None).await.expect("etcd answers");
        raw.role_add(user).await.expect("etcd answers");
        raw.user_grant_role(user, user).await.expect("etcd answers");
    }
    let all = etcd_client::Permission::new(PermissionType::Readwrite, "/bastide/").with_prefix();
    raw.role_grant_permission("node", all).await.expect("etcd answers");
    raw.auth_enable().await.expect("etcd answers");
    (server, world)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_signs_in_and_does_so_again_after_etcd_forgot_its_tokens() {
    let (mut server, world) = guarded().await;
    let settings = EtcdSettings {
        user: Some("node".into()),
        password: Some(PASSWORD.into()),
        ..world.settings()
    };
    let etcd = Etcd::connect(settings, Handle::current()).await.expect("settings are right");
    let node = Node::start(etcd.clone(), info("a"));
    let mut follower = Follower::start(etcd.clone());
    let leading = channel::Sender::new(false);
    let mut leads = leading.subscribe();
    let mut running = JoinSet::new();
    running.spawn(async move { etcd.elect("rooms", "a", leading, Tasks::default()).await });
    follower.sees(&["a"]).await;
    timeout(PATIENCE, leads.wait_for(|l| *l)).await.expect("it wins").expect("it takes part");

    server.kill();
    follower.is_synced(false).await;
    timeout(PATIENCE, leads.wait_for(|l| !*l)).await.expect("unsure").expect("it takes part");
    server.restart();
    let back = Instant::now();
    follower.is_synced(true).await;
    until("a proof by the restarted etcd", async || node.proved_after(back)).await;
    timeout(PATIENCE, leads.wait_for(|l| *l)).await.expect("it wins").expect("it takes part");
    follower.sees(&["a"]).await;
}

#[tokio::test]
async fn a_wrong_password_is_said_and_no_password_is_shown_anywhere() {
    let (_server, world) = guarded().await;
    let log = Log::default();
    let listening = log.listen();
    let right = EtcdSettings {
        user: Some("node".into()),
        password: Some(PASSWORD.into()),
        ..world.settings()
    };
    let etcd = Etcd::connect(right, Handle::current()).await.expect("settings are right");
    etcd.ping().await.expect("the password is right");
    let settings = EtcdSettings {
        user: Some("node".into()),
        password: Some("wr0ng".into()),
        ..world.settings()
    };
    let shown = format!("{settings:?}");
    let etcd = Etcd::connect(settings, Handle::current()).await.expect("settings are right");
    let text = etcd.ping().await.expect_err("the password is wrong").to_string();
    says(&text, &["discovery.etcd", "invalid user ID or password"]);
    drop(listening);
    let log = log.text();
    assert!(log.contains("h2"), "the log was heard, down to the bytes of the connection");
    for text in [text, shown, format!("{etcd:?}"), log] {
        assert!(!text.contains("wr0ng") && !text.contains(PASSWORD), "{text}");
    }
}
