//! A node sees the others through what befalls etcd.

use std::sync::atomic::{AtomicBool, Ordering};

use bastide_testkit::Etcd as Server;
use etcd_client::{CompactionOptions, WatchOptions};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::directory::etcd::EtcdError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_dropped_while_etcd_is_dead_and_all_goes_on_when_it_is_back() {
    let mut server = Server::start();
    let world = World::at(server.url(), SHORT);
    let node = world.node("a").await;
    let mut follower = world.follower().await;
    follower.sees(&["a"]).await;
    follower.is_synced(true).await;
    follower.nodes.borrow_and_update();

    server.kill();
    follower.is_synced(false).await;
    // Longer than the lease: whether it is dead or only away, nobody can tell.
    sleep(SHORT * 2).await;
    assert_eq!(follower.ids(), ["a"]);
    server.restart();
    let back = Instant::now();
    follower.is_synced(true).await;
    until("a proof by the restarted etcd", async || node.proved_after(back)).await;
    assert_eq!(follower.ids(), ["a"]);
    assert!(!follower.nodes.has_changed().expect("it follows"), "nobody is woken for nothing");

    node.info.send_modify(|info| info.as_mut().expect("it is registered").load = 5);
    let news = follower.nodes.wait_for(|n| n.first().is_some_and(|n| n.load == 5));
    timeout(PATIENCE, news).await.expect("the watch is alive").expect("it follows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_etcd_is_noticed_within_ten_seconds_and_healed_when_it_thaws() {
    let server = Server::start();
    let world = World::at(server.url(), LONG);
    let node = world.node("a").await;
    let mut follower = world.follower().await;
    follower.sees(&["a"]).await;
    follower.is_synced(true).await;
    server.freeze();
    let frozen = Instant::now();
    follower.is_synced(false).await;
    let noticed = frozen.elapsed();
    assert_eq!(follower.ids(), ["a"]);
    server.thaw();
    let thawed = Instant::now();
    assert!(noticed < Duration::from_secs(10), "{noticed:?}");
    follower.is_synced(true).await;
    until("a proof by the thawed etcd", async || node.proved_after(thawed)).await;
    follower.sees(&["a"]).await;
    node.info.send_replace(None);
    follower.sees(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_compacted_while_the_watch_was_away_is_seen_all_the_same() {
    let mut server = Server::start();
    let world = World::at(server.url(), LONG);
    let mut raw = world.raw().await;
    for id in ["a", "b"] {
        raw.put(world.key(id), "{}", None).await.expect("etcd answers");
    }
    let mut follower = world.follower().await;
    follower.sees(&["a", "b"]).await;
    server.kill();
    follower.is_synced(false).await;
    server.restart();
    let mut raw = world.raw().await;
    raw.delete(world.key("a"), None).await.expect("etcd answers");
    let put = raw.put(world.key("c"), "{}", None).await.expect("etcd answers");
    let revision = put.header().expect("a header").revision();
    let physical = CompactionOptions::new().with_physical();
    raw.compact(revision, Some(physical)).await.expect("etcd answers");
    follower.sees(&["b", "c"]).await;
    follower.is_synced(true).await;
    raw.delete(world.key("b"), None).await.expect("etcd answers");
    follower.sees(&["c"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_lost_its_memory_does_not_make_living_nodes_vanish_nor_dead_ones_stay() {
    let mut server = Server::start();
    let world = World::at(server.url(), SHORT);
    let alive = world.node("alive").await;
    let dead = world.node("dead").await;
    let mut follower = world.follower().await;
    follower.sees(&["alive", "dead"]).await;
    let mut news = follower.nodes.clone();
    let mut running = JoinSet::new();
    let (vanished, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (vanishes, sees) = (vanished.clone(), seen.clone());
    running.spawn(async move {
        while news.changed().await.is_ok() {
            let there = news.borrow_and_update().iter().any(|n| n.id == "alive");
            vanishes.fetch_or(!there, Ordering::Relaxed);
            sees.store(true, Ordering::Relaxed);
        }
    });
    drop(dead);
    server.kill();
    server.wipe();
    server.restart();
    follower.sees(&["alive"]).await;
    until("the change is looked at", async || seen.load(Ordering::Relaxed)).await;
    assert!(!vanished.load(Ordering::Relaxed));
    drop(alive);
    follower.sees(&[]).await;
}

#[tokio::test]
async fn a_watch_from_a_compacted_revision_ends_as_such() {
    let server = Server::start();
    let world = World::at(server.url(), LONG);
    let mut raw = world.raw().await;
    for value in ["1", "2", "3"] {
        raw.put("key", value, None).await.expect("etcd answers");
    }
    let now = raw.get("key", None).await.expect("etcd answers").header().expect("one").revision();
    raw.compact(now, None).await.expect("etcd answers");
    let from_start = WatchOptions::new().with_start_revision(1);
    let mut stream = raw.watch("key", Some(from_start)).await.expect("etcd answers");
    let etcd = world.etcd().await;
    let ended = timeout(PATIENCE, async {
        loop {
            let news = stream.message().await.expect("etcd answers").expect("not ended");
            if let Err(ended) = etcd.judge(&news).await {
                break ended;
            }
        }
    });
    assert_eq!(ended.await.expect("it ends"), EtcdError::Compacted);
}

#[tokio::test]
async fn what_is_no_node_is_passed_over_and_what_another_release_tells_is_kept() {
    let log = Log::default();
    let _listening = log.listen();
    let world = World::shared(LONG);
    let mut raw = world.raw().await;
    let newer = r#"{"roles": ["game", "weather"], "addr": "1.2.3.4:5", "novel": {"x": [1]}}"#;
    let all = [("a", newer), ("b", "not JSON"), ("c", r#"{"load": "high"}"#), ("d/e", "{}")];
    for (id, words) in all {
        raw.put(world.key(id), words, None).await.expect("etcd answers");
    }
    let mut follower = world.follower().await;
    follower.sees(&["a"]).await;
    let expected = NodeInfo { addr: Some("1.2.3.4:5".into()), ..info("a") };
    assert_eq!(follower.nodes.borrow()[0], Arc::new(expected));

    // By the watch, as by the snapshot.
    raw.put(world.key("f"), "[]", None).await.expect("etcd answers");
    raw.put(world.key("b"), "{}", None).await.expect("etcd answers");
    follower.sees(&["a", "b"]).await;
    raw.put(world.key("c"), "still none", None).await.expect("etcd answers");
    raw.put(world.key("a"), "", None).await.expect("etcd answers");
    follower.sees(&["b"]).await;
    for (id, told) in [("a", 1), ("b", 1), ("c", 1), ("d/e", 1), ("f", 1)] {
        assert_eq!(log.lines_with(&world.key(id)), told, "{id}");
    }
}

#[tokio::test]
async fn a_cluster_does_not_see_the_nodes_of_another() {
    let world = World::shared(LONG);
    let other = World { cluster: format!("{}0", world.cluster), ..World::shared(LONG) };
    let _node = other.node("a").await;
    let mut theirs = other.follower().await;
    theirs.sees(&["a"]).await;
    let mut ours = world.follower().await;
    ours.is_synced(true).await;
    assert_eq!(ours.ids(), [""; 0]);
}

/// Whatever comes in whatever order, and though etcd dies in the midst of it, all who watch see
/// what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_agree_after_a_storm() {
    let mut server = Server::start();
    let world = World::at(server.url(), LONG);
    let mut followers = [world.follower().await, world.follower().await];
    let mut there = BTreeSet::new();
    for seed in 0..6 {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut raw = world.raw().await;
        for _ in 0..200 {
            let id = format!("n{}", chance.random_range(0..12));
            match chance.random_range(0..10) {
                0..6 => {
                    let words = format!(r#"{{"load": {}}}"#, chance.random_range(0..5));
                    raw.put(world.key(&id), words, None).await.expect("etcd answers");
                    there.insert(id);
                }
                6 => {
                    raw.put(world.key(&id), "?", None).await.expect("etcd answers");
                    there.remove(&id);
                }
                _ => {
                    raw.delete(world.key(&id), None).await.expect("etcd answers");
                    there.remove(&id);
                }
            }
        }
        if seed % 2 == 0 {
            server.kill();
            server.restart();
        }
        let expected: Vec<&str> = there.iter().map(String::as_str).collect();
        for follower in &mut followers {
            follower.sees(&expected).await;
        }
    }
    // Not by name alone: once the last change is seen by all, they are the same.
    let mut raw = world.raw().await;
    raw.put(world.key("zz"), "{}", None).await.expect("etcd answers");
    let mut fresh = world.follower().await;
    let mut last: Vec<&str> = there.iter().map(String::as_str).collect();
    last.push("zz");
    fresh.sees(&last).await;
    for follower in &mut followers {
        follower.sees(&last).await;
        assert_eq!(*follower.nodes.borrow(), *fresh.nodes.borrow());
    }
}
