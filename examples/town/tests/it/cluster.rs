//! A cluster as its operator sees it: it is checked, played in, drained, and replaced node by
//! node. What happens when something breaks is in `outages`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bastide::Code;
use tokio::task::JoinSet;

use crate::{
    nodes::{Cluster, until},
    players::{Load, players},
};

#[tokio::test]
async fn players_are_spread_over_the_game_servers_and_check_and_play_work() {
    let cluster = Cluster::shared();
    let [_account, _gate, one, other] =
        cluster.nodes(["account,rooms", "gate", "game", "game"]).await;
    let players = players(&cluster.accounts, "p", 8).await;
    let running = [one.counted("entity_running").await, other.counted("entity_running").await];
    assert_eq!(running.iter().sum::<u64>(), 8, "{running:?}");
    assert!(running.iter().all(|n| *n >= 2), "{running:?}");
    cluster.play().await.unwrap();
    drop(players);

    let (code, said) = cluster.check(&[]);
    assert_eq!(code, Some(0), "{said}");
    for key in ["ports", "store.url", "discovery.etcd", "cache.redis", "link"] {
        assert!(said.lines().any(|l| l.starts_with("ok ") && l.contains(key)), "{key}: {said}");
    }
    // Port 1 is nobody's.
    let (code, said) = cluster.check(&["--redis", "redis://127.0.0.1:1"]);
    assert_eq!(code, Some(1), "{said}");
    let wrong: Vec<_> = said.lines().filter(|line| line.starts_with("WRONG")).collect();
    assert_eq!(wrong.len(), 1, "{said}");
    assert!(wrong[0].contains("cache.redis") && wrong[0].contains("see whether it is up"));
}

#[tokio::test]
async fn a_game_server_that_drains_hands_its_players_over_and_they_notice_nothing() {
    let cluster = Cluster::shared();
    let [_account, gate, one, _other] = cluster.nodes(["account", "gate", "game", "game"]).await;
    let load = Load::begin(&cluster.accounts, 8).await;
    let moving = one.counted("entity_running").await;
    assert!(moving > 0, "the load is spread");
    assert_eq!(one.drain().await.code(), Some(0));
    load.goes_on().await;
    load.end().await.is_unharmed();
    assert_eq!(gate.counted("gate_sessions_moved_total").await, moving);
}

/// Requests are under way at every moment, so that a player leaves with some in its mailbox: they
/// must be given back, and done elsewhere in their turn.
#[tokio::test]
async fn requests_that_wait_when_a_game_server_drains_are_each_done_once_and_in_order() {
    let cluster = Cluster::shared();
    let roles = ["account", "gate", "gate", "game", "game"];
    let [_account, gate, gate_too, one, other] = cluster.nodes(roles).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut streams = JoinSet::new();
    for mut player in players(&cluster.accounts, "p", 6).await {
        player.look_sure().await;
        streams.spawn(player.stream(over.clone()));
    }
    let moving = one.counted("entity_running").await;
    assert!(moving > 0, "they are spread");
    assert_eq!(one.drain().await.code(), Some(0));
    let third = cluster.node("game").await;
    let again = other.counted("entity_running").await;
    assert_eq!(again, 6);
    assert_eq!(other.drain().await.code(), Some(0));
    until("all are with the third", async || {
        if let Some(ended) = streams.try_join_next() {
            panic!("no stream ends by itself: {ended:?}");
        }
        third.counted("entity_running").await == 6
    })
    .await;
    over.store(true, Ordering::Relaxed);
    let answered = streams.join_all().await;
    assert!(answered.iter().all(|n| *n > 100), "{answered:?}");
    let moved = [&gate, &gate_too].map(|gate| gate.counted("gate_sessions_moved_total"));
    let [here, there] = moved;
    assert_eq!(here.await + there.await, moving + again);
}

#[tokio::test]
async fn a_gate_that_drains_answers_every_request_and_its_players_sign_in_at_the_other() {
    let cluster = Cluster::shared();
    let [_account, one, other, _game] =
        cluster.nodes(["account,rooms", "gate", "gate", "game"]).await;
    let load = Load::begin(&cluster.accounts, 8).await;
    let leaving = one.counted("gate_sessions").await;
    assert!(leaving > 0, "the load is spread");
    assert_eq!(one.drain().await.code(), Some(0));
    load.goes_on().await;
    assert_eq!(other.counted("gate_sessions").await, 8);
    let record = load.end().await;
    record.is_sound();
    assert!(record.refused.is_empty() && record.cut == 0, "{record:#?}");
    let kicked: Vec<_> = record.kicked.iter().map(|(code, n)| (*code, *n as u64)).collect();
    assert_eq!(kicked, [(Code::DRAINING.0, leaving)]);
}

#[tokio::test]
async fn what_a_draining_gate_has_read_is_answered_and_what_it_has_not_is_not_done() {
    let cluster = Cluster::shared();
    let [_account, one] = cluster.nodes(["account,rooms,game", "gate"]).await;
    let never = Arc::new(AtomicBool::new(false));
    let mut streams = JoinSet::new();
    for player in players(&cluster.accounts, "p", 6).await {
        streams.spawn(player.stream(never.clone()));
    }
    until("requests are under way", async || one.counted("gate_frames_in_total").await > 500).await;
    let _other = cluster.node("gate").await;
    assert_eq!(one.drain().await.code(), Some(0));
    let answered = streams.join_all().await;
    assert!(answered.iter().all(|n| *n > 0), "{answered:?}");
}

/// The smallest cluster: the players of a node that drains were its own gate's, come back through
/// the other gate while it still runs them, and then move.
#[tokio::test]
async fn of_two_nodes_that_do_everything_each_may_drain() {
    let cluster = Cluster::shared();
    let all = "account,gate,game,rooms";
    let [one, other] = cluster.nodes([all, all]).await;
    let load = Load::begin(&cluster.accounts, 6).await;
    assert_eq!(one.drain().await.code(), Some(0));
    load.goes_on().await;
    let _third = cluster.node(all).await;
    assert_eq!(other.drain().await.code(), Some(0));
    load.goes_on().await;
    let record = load.end().await;
    record.is_sound();
    assert!(record.refused.is_empty() && record.cut == 0, "{record:#?}");
    assert!(record.kicked.keys().all(|code| *code == Code::DRAINING.0), "{record:#?}");
}

#[tokio::test]
async fn every_node_is_replaced_one_after_the_other_and_nobody_fails() {
    let cluster = Cluster::shared();
    let roles = ["account,rooms", "account,rooms", "gate", "gate", "game", "game"];
    let nodes = cluster.nodes(roles).await;
    let load = Load::begin(&cluster.accounts, 6).await;
    let mut replaced = Vec::new();
    for (node, roles) in nodes.into_iter().zip(roles) {
        let (ended, ()) = tokio::join!(node.drain(), cluster.play_again());
        assert_eq!(ended.code(), Some(0), "{roles}");
        replaced.push(cluster.node(roles).await);
        load.goes_on().await;
    }
    cluster.play().await.unwrap();
    let record = load.end().await;
    record.is_sound();
    assert!(record.refused.is_empty() && record.cut == 0, "{record:#?}");
    assert!(record.kicked.keys().all(|code| *code == Code::DRAINING.0), "{record:#?}");
}

#[tokio::test]
async fn strangers_at_the_link_are_cut_off_and_counted_and_the_cluster_plays_on() {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    let cluster = Cluster::shared();
    let [_account, _gate, game] = cluster.nodes(["account", "gate", "game"]).await;
    let load = Load::begin(&cluster.accounts, 3).await;
    let mut hello = vec![1, 8, 1];
    for (field, text) in [(2, "another"), (3, "stranger-1")] {
        hello.extend([field << 3 | 2, u8::try_from(text.len()).unwrap()]);
        hello.extend(text.as_bytes());
    }
    let mut another = u32::try_from(hello.len()).unwrap().to_le_bytes().to_vec();
    another.extend(hello);
    for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[5, 0, 0, 0, 99, 1, 2, 3, 4], &another, b""] {
        let mut stranger = TcpStream::connect(game.link()).await.unwrap();
        stranger.write_all(said).await.unwrap();
        // It is greeted, then cut off; a reset is as good.
        let mut heard = Vec::new();
        let _cut = stranger.read_to_end(&mut heard).await;
        assert!(!heard.is_empty());
    }
    until("each is counted", async || game.counted("link_strangers_total").await == 4).await;
    assert_eq!(game.logged(&["not a node of this cluster", "cluster `another`"]), 1);
    load.goes_on().await;
    load.end().await.is_unharmed();
}
