//! A node registers, stays registered through what befalls etcd, and leaves.

use std::sync::mpsc;

use serde_json::json;
use tokio::runtime::Builder;

use super::*;

#[tokio::test]
async fn a_node_is_seen_by_others_with_the_words_that_the_contract_pins() {
    let world = World::shared(LONG);
    let mut follower = world.follower().await;
    let told = NodeInfo {
        addr: Some("10.0.0.7:3100".into()),
        roles: BTreeSet::from([Role::Game, Role::Rooms]),
        apis: vec!["msg.Echo.Req".into()],
        load: 3,
        version: "0.1.0".into(),
        incarnation: 9,
        ..info("town-9")
    };
    let _node = Node::start(world.etcd().await, told.clone());
    follower.sees(&["town-9"]).await;
    assert_eq!(follower.nodes.borrow()[0], Arc::new(told));

    let mut raw = world.raw().await;
    let got = raw.get(world.key("town-9"), None).await.expect("etcd answers");
    let kv = got.kvs().first().expect("the key of the contract");
    let words: serde_json::Value = serde_json::from_slice(kv.value()).expect("JSON");
    let expected = json!({
        "id": "town-9", "addr": "10.0.0.7:3100", "roles": ["game", "rooms"],
        "apis": ["msg.Echo.Req"], "gate": null, "load": 3, "version": "0.1.0",
        "incarnation": 9, "state": "up", "keys": [],
    });
    assert_eq!(words, expected);
    let lease = raw.lease_time_to_live(kv.lease(), None).await.expect("it is under a lease");
    assert_eq!(lease.granted_ttl(), 10);
}

#[tokio::test]
async fn of_many_changes_at_once_the_latest_is_told_and_the_others_need_not_be() {
    let world = World::shared(LONG);
    let node = world.node("a").await;
    let mut follower = world.follower().await;
    follower.sees(&["a"]).await;
    for load in 1..=1000 {
        node.info.send_modify(|info| info.as_mut().expect("it is registered").load = load);
    }
    let last = follower.nodes.wait_for(|n| n.first().is_some_and(|n| n.load == 1000));
    timeout(PATIENCE, last).await.expect("the latest is seen").expect("it follows");
    let kv = world.raw().await.get(world.key("a"), None).await.expect("etcd answers");
    let writes = kv.kvs()[0].version();
    assert!(writes <= 3, "{writes} writes for what was there at one instant");
}

#[tokio::test]
async fn a_node_leaves_at_once_when_it_says_so_and_may_come_again() {
    let world = World::shared(LONG);
    let mut follower = world.follower().await;
    let node = world.node("a").await;
    follower.sees(&["a"]).await;
    let mut raw = world.raw().await;
    let got = raw.get(world.key("a"), None).await.expect("etcd answers");
    let lease = got.kvs()[0].lease();

    let told = Instant::now();
    node.info.send_replace(None);
    follower.sees(&[]).await;
    assert!(told.elapsed() < LONG / 2, "long before the lease would run out");
    let left = raw.lease_time_to_live(lease, None).await.expect("etcd answers").ttl();
    assert_eq!(left, -1, "the lease is revoked");

    node.info.send_replace(Some(info("a")));
    follower.sees(&["a"]).await;
}

#[tokio::test]
async fn a_node_that_stops_or_has_nobody_to_speak_for_it_leaves_at_once() {
    let world = World::shared(LONG);
    let mut follower = world.follower().await;
    let mut stops = world.node("a").await;
    let mut forgotten = world.node("b").await;
    follower.sees(&["a", "b"]).await;
    let told = Instant::now();
    stops.tasks.stop();
    follower.sees(&["b"]).await;
    forgotten.info = channel::Sender::new(None);
    follower.sees(&[]).await;
    assert!(told.elapsed() < LONG / 2, "long before the lease would run out");
    for running in [&mut stops.running, &mut forgotten.running] {
        let ended = timeout(PATIENCE, running.join_next()).await.expect("it ends");
        ended.expect("one task").expect("without a panic");
    }
}

#[tokio::test]
async fn a_node_that_dies_without_a_word_is_gone_when_its_lease_is() {
    let world = World::shared(SHORT);
    let mut follower = world.follower().await;
    let node = world.node("a").await;
    follower.sees(&["a"]).await;
    until("a renewal", async || node.proofs().len() >= 2).await;
    let last = *node.proofs().last().expect("seen above");
    drop(node);
    follower.sees(&[]).await;
    assert!(last.elapsed() >= SHORT, "not before the time that the node may count on");
}

#[tokio::test]
async fn a_lease_is_renewed_again_and_again_and_each_proof_is_later() {
    let world = World::shared(SHORT);
    let node = world.node("a").await;
    until("six proofs", async || node.proofs().len() >= 6).await;
    assert!(node.proofs().is_sorted_by(|a, b| a < b));
    let kv = world.raw().await.get(world.key("a"), None).await.expect("etcd answers");
    assert_eq!(kv.kvs()[0].version(), 1, "renewed, not registered again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_etcd_is_told_of_the_node_again() {
    let mut server = bastide_testkit::Etcd::start();
    let world = World::at(server.url(), SHORT);
    let node = world.node("a").await;
    let mut follower = world.follower().await;
    follower.sees(&["a"]).await;
    server.kill();
    server.wipe();
    server.restart();
    let back = Instant::now();
    until("a proof by the new etcd", async || node.proved_after(back)).await;
    let kv = world.raw().await.get(world.key("a"), None).await.expect("etcd answers");
    assert_eq!(kv.kvs().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_lease_was_revoked_registers_again_under_another() {
    let world = World::shared(SHORT);
    let node = world.node("a").await;
    let mut follower = world.follower().await;
    follower.sees(&["a"]).await;
    let mut raw = world.raw().await;
    let got = raw.get(world.key("a"), None).await.expect("etcd answers");
    let lease = got.kvs()[0].lease();
    raw.lease_revoke(lease).await.expect("etcd answers");
    follower.sees(&[]).await;
    follower.sees(&["a"]).await;
    let got = raw.get(world.key("a"), None).await.expect("etcd answers");
    assert_ne!(got.kvs()[0].lease(), lease);
    drop(node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_while_etcd_is_frozen_does_not_wait_for_it() {
    let server = bastide_testkit::Etcd::start();
    let world = World::at(server.url(), LONG);
    let mut node = world.node("a").await;
    until("a proof", async || !node.proofs().is_empty()).await;
    server.freeze();
    let told = Instant::now();
    node.tasks.stop();
    let ended = timeout(PATIENCE, node.running.join_next()).await.expect("it ends");
    ended.expect("one task").expect("without a panic");
    let took = told.elapsed();
    server.thaw();
    assert!(took < Duration::from_millis(2500), "{took:?}");
}

/// etcd freezes with the question before it, answers, and the answer lies in a buffer until the
/// lease may be over.
#[test]
fn an_answer_that_is_read_too_late_proves_nothing() {
    let server = bastide_testkit::Etcd::start();
    let world = World::at(server.url(), SHORT);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let node = world.node("a").await;
        until("a proof", async || !node.proofs().is_empty()).await;
        server.freeze();
        sleep(world.lease / 3 + Duration::from_millis(200)).await;
        let asked = node.proofs();
        server.thaw();
        // Shorter than the deadline of the question, so that its answer counts as one.
        let (_held, nobody) = mpsc::channel::<()>();
        nobody.recv_timeout(SHORT + Duration::from_millis(100)).expect_err("nobody speaks");
        let woken = Instant::now();
        until("a proof after the freeze", async || node.proofs() != asked).await;
        assert!(node.proofs()[asked.len()] >= woken, "the old answer was taken for a proof");
    });
}

/// The process is stopped and goes on later: nothing of it runs meanwhile, and its lease goes.
/// So does a thread that blocks with all that keeps the registration on it.
#[test]
fn a_process_that_was_frozen_registers_again_and_proves_nothing_by_old_answers() {
    let frozen_for = SHORT + Duration::from_secs(2);
    let world = World::shared(SHORT);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (late, proofs) = mpsc::channel();
    let lease = world.lease;
    let tasks = Tasks::default();
    let info = channel::Sender::new(Some(info("a")));
    let node = async {
        let prove = move |sent: Instant| late.send((sent, sent.elapsed())).expect("heard");
        world.etcd().await.keep(info.subscribe(), prove, tasks.clone()).await;
    };
    let freezes = async {
        until("a proof", async || proofs.try_recv().is_ok()).await;
        let (mut raw, key) = (world.raw().await, world.key("a"));
        let before = raw.get(key.as_str(), None).await.expect("etcd answers").kvs()[0].lease();
        // At different moments of a renewal.
        for moment in 0..3 {
            sleep(lease / 3 + Duration::from_micros(moment * 150)).await;
            let (_held, nobody) = mpsc::channel::<()>();
            nobody.recv_timeout(frozen_for).expect_err("nobody speaks");
            let woken = Instant::now();
            let mut proof = None;
            until("a proof after the freeze", async || {
                proof = proofs.try_iter().inspect(|(_, age)| assert!(*age < lease)).last();
                proof.is_some_and(|(sent, _)| sent >= woken)
            })
            .await;
            assert!(woken.elapsed() < Duration::from_secs(2), "at once, or nearly");
        }
        let got = raw.get(key.as_str(), None).await.expect("etcd answers");
        assert_ne!(got.kvs()[0].lease(), before);
        tasks.stop();
    };
    runtime.block_on(async { tokio::join!(node, freezes) });
}
