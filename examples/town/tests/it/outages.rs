//! What becomes of a cluster when something breaks: a node is killed or frozen, a service is away.

use std::time::Duration;

use bastide::{Code, client::ClientError};
use bastide_testkit::{Etcd, Postgres, Redis, shared};
use tokio::{task::block_in_place, time::Instant};

use crate::{
    nodes::{Cluster, Node, until},
    players::{Load, Player, anybody_signs_in, players},
};

const ROLES: [&str; 4] = ["account", "gate", "game", "game"];

/// How long a service is away: longer than a lease of 10 s, so that what an outage may break has
/// broken. Nothing is waited for meanwhile; the time itself is the case.
const OUTAGE: Duration = Duration::from_secs(20);

/// What a sign-in may be told while a service is away.
const PASSING: [Code; 3] = [Code::NOT_READY, Code::NOT_CONNECTED, Code::BUSY];

// === Nodes ===

#[tokio::test]
async fn players_of_a_killed_game_server_come_back_on_the_other_with_what_was_saved() {
    let (cluster, services) = (Cluster::shared(), shared());
    let [_account, _gate, mut one, other] = cluster.nodes(ROLES).await;
    let mut players = players(&cluster.accounts, "p", 6).await;
    players.retain(|player| cluster.owner(&services.redis, player.account) == one.id);
    assert!(!players.is_empty(), "both have some");
    for player in &mut players {
        player.draw(3).await.unwrap();
    }
    one.kill();
    let killed = Instant::now();
    for player in &mut players {
        player.play_again().await;
        tell(&format!("from kill -9 of a game server to an answer: {:?}", killed.elapsed()));
        player.draw(1).await.unwrap();
        assert_eq!(cluster.owner(&services.redis, player.account), other.id);
    }
    until("it is gone from discovery", async || !cluster.knows(&services.etcd, &one.id)).await;
    is_swept(&cluster, &one).await;
    tell(&format!("to the end of its last trace: {:?}", killed.elapsed()));
}

#[tokio::test]
async fn players_of_a_killed_gate_sign_in_through_the_other_and_nothing_of_it_stays() {
    let (cluster, services) = (Cluster::shared(), shared());
    let roles = ["account", "gate", "gate", "game"];
    let [_account, mut one, other, _game] = cluster.nodes(roles).await;
    let load = Load::begin(&cluster.accounts, 6).await;
    let cut = one.counted("gate_sessions").await;
    assert!(cut > 0, "the load is spread");
    one.kill();
    let killed = Instant::now();
    load.goes_on().await;
    tell(&format!("from kill -9 of a gate to answers for all: {:?}", killed.elapsed()));
    assert_eq!(other.counted("gate_sessions").await, 6);
    until("it is gone from discovery", async || !cluster.knows(&services.etcd, &one.id)).await;
    load.goes_on().await;
    let record = load.end().await;
    record.is_sound();
    assert!(record.refused.is_empty() && record.kicked.is_empty(), "{record:#?}");
    assert!(record.cut as u64 <= cut, "{record:#?}");
}

/// The game server is frozen with a changed state that it has not saved, and with a request in its
/// socket that it has not read: when it wakes it must neither write the one nor do the other, for
/// its players are with another node by then, and have gone on.
#[tokio::test]
async fn a_game_server_that_wakes_after_its_lease_harms_nobody_who_went_on_elsewhere() {
    let (cluster, services) = (Cluster::shared(), shared());
    let [_account, _gate, frozen, other] = cluster.nodes(ROLES).await;
    let mut players = players(&cluster.accounts, "p", 6).await;
    players.retain(|player| cluster.owner(&services.redis, player.account) == frozen.id);
    assert!(players.len() >= 2, "both have some");
    let poor = &mut players[0];
    for _ in 0..9 {
        poor.draw(10).await.unwrap();
    }
    poor.draw(5).await.unwrap();
    // It is topped up at sign-in, which is saved some seconds later.
    poor.hang_up();
    poor.sign_in_at_gate().await.unwrap();
    frozen.freeze().await;
    let stopped = Instant::now();
    let (waits, blind) = players.split_last_mut().unwrap();
    for player in blind {
        player.draw_blindly().await;
    }
    // The gate ends the connection: what became of it is for the player to tell.
    let late = waits.draw(1).await;
    let ended = matches!(&late, Err(ClientError::Kicked(r)) if r.code == Code::DEADLINE);
    assert!(ended, "{late:?}");
    for player in &mut players {
        player.play_again().await;
        tell(&format!("from SIGSTOP to an answer of another: {:?}", stopped.elapsed()));
        player.draw(1).await.unwrap();
        assert_eq!(cluster.owner(&services.redis, player.account), other.id);
    }
    let rows = |players: &[Player]| {
        let row = |player: &Player| {
            let columns = "owner_epoch, md5(data), updated_ms";
            cluster.stored(&services.postgres, player.account, columns)
        };
        players.iter().map(row).collect::<Vec<_>>()
    };
    let before = rows(&players);
    is_swept(&cluster, &frozen).await;
    tell(&format!("from SIGSTOP to SIGCONT: {:?}", stopped.elapsed()));

    frozen.signal("-CONT");
    until("it knows what happened", async || frozen.logged(&["it begins anew"]) == 1).await;
    // Whom it lets in, it serves.
    let mut number = 0;
    until("it serves somebody again", async || {
        number += 1;
        let mut player = Player::new(&cluster.accounts, &format!("new-{number}"));
        player.sign_in().await.unwrap();
        player.draw(1).await.unwrap();
        cluster.owner(&services.redis, player.account) == frozen.id
    })
    .await;
    // By now everything that it ran has stopped, and has written what it could.
    assert_eq!(rows(&players), before);
    for player in &mut players {
        player.look_sure().await;
        // Once more through the door: what is stored is what was answered.
        player.play_again().await;
        assert_eq!(cluster.owner(&services.redis, player.account), other.id);
    }
    until("it is ready", async || frozen.ready().await).await;
}

/// Waits until Redis has nothing of a dead node but its grave.
async fn is_swept(cluster: &Cluster, node: &Node) {
    until("what a dead node claimed is swept", async || {
        let left = cluster.keys_of(&shared().redis, &node.id);
        left.len() == 1 && left[0].starts_with("dead:")
    })
    .await;
}

// === Services ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_etcd_everybody_plays_on_and_with_it_everything_is_as_before() {
    let mut etcd = block_in_place(Etcd::start);
    let cluster = Cluster::on(&etcd, &shared().redis, &shared().postgres);
    let mut nodes = cluster.nodes(ROLES).await;
    let load = Load::begin(&cluster.accounts, 4).await;
    block_in_place(|| etcd.kill());
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < OUTAGE {
        number += 1;
        let mut player = Player::new(&cluster.accounts, &format!("new-{number}"));
        is_in_or_refused(player.sign_in().await);
        load.goes_on().await;
        none_is_ready(&nodes).await;
    }
    block_in_place(|| etcd.restart());
    all_are_back(&mut nodes, "discovery.etcd").await;
    anybody_signs_in(&cluster.accounts, "after").await;
    load.goes_on().await;
    load.end().await.is_unharmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_everybody_plays_on_and_its_empty_return_takes_nothing_away() {
    let mut redis = block_in_place(Redis::start);
    let cluster = Cluster::on(&shared().etcd, &redis, &shared().postgres);
    let mut nodes = cluster.nodes(ROLES).await;
    let mut players = players(&cluster.accounts, "p", 4).await;
    let owners = |redis: &Redis, players: &[Player]| {
        let owner = |player: &Player| cluster.owner(redis, player.account);
        players.iter().map(owner).collect::<Vec<_>>()
    };
    let before = owners(&redis, &players);
    let load = Load::begin(&cluster.accounts, 4).await;
    block_in_place(|| redis.stop());
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < OUTAGE {
        number += 1;
        let refused = Player::new(&cluster.accounts, &format!("new-{number}")).sign_in().await;
        assert!(is_code(&refused, Code::NOT_READY), "{refused:?}");
        load.goes_on().await;
        none_is_ready(&nodes).await;
    }
    block_in_place(|| redis.restart());
    all_are_back(&mut nodes, "cache.redis").await;
    anybody_signs_in(&cluster.accounts, "after").await;
    // Whoever ran a player said so again, before anybody else could claim it.
    assert_eq!(owners(&redis, &players), before);
    for player in &mut players {
        player.draw(1).await.unwrap();
        player.play_again().await;
    }
    assert_eq!(owners(&redis, &players), before);
    load.goes_on().await;
    load.end().await.is_unharmed();
}

/// The state that changes without the store is a top-up: its time tells it from a later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_states_stay_in_memory_and_are_saved_when_it_is_back() {
    let mut postgres = block_in_place(Postgres::start);
    let cluster = Cluster::on(&shared().etcd, &shared().redis, &postgres);
    let mut nodes = cluster.nodes(ROLES).await;
    let mut poor = Player::new(&cluster.accounts, "poor");
    poor.play_again().await;
    for _ in 0..9 {
        poor.draw(10).await.unwrap();
    }
    poor.draw(5).await.unwrap();
    let load = Load::begin(&cluster.accounts, 4).await;
    block_in_place(|| postgres.stop());
    let began = Instant::now();
    poor.hang_up();
    poor.sign_in_at_gate().await.unwrap();
    let topped_up = poor.gold().await.unwrap();
    assert_eq!(topped_up.0, 10);
    while began.elapsed() < OUTAGE {
        let refused = poor.draw(1).await;
        assert!(is_code(&refused, Code::NOT_READY), "{refused:?}");
        let refused = Player::new(&cluster.accounts, "new").sign_in().await;
        assert!(is_code(&refused, Code::NOT_READY), "{refused:?}");
        load.goes_on().await;
    }
    block_in_place(|| postgres.restart());
    until("everything is ready", async || {
        for node in &nodes {
            if !node.ready().await {
                return false;
            }
        }
        true
    })
    .await;
    anybody_signs_in(&cluster.accounts, "after").await;
    load.goes_on().await;
    let record = load.end().await;
    record.is_sound();
    assert!(record.refused.keys().all(|code| *code == Code::NOT_READY.0), "{record:#?}");
    assert!(record.kicked.is_empty() && record.cut == 0, "{record:#?}");
    assert!(nodes.iter_mut().all(Node::lives));
    let account = &nodes[0];
    let told = |what: &str| account.logged(&["service=\"store.url\"", what]);
    assert_eq!((told("away"), told("back")), (1, 1), "{}", account.log());

    until("it is saved", async || {
        let saved: i64 = cluster.stored(&postgres, poor.account, "updated_ms").parse().unwrap();
        saved >= topped_up.1
    })
    .await;
    let owner = cluster.owner(&shared().redis, poor.account);
    nodes.iter_mut().find(|node| node.id == owner).unwrap().kill();
    poor.play_again().await;
    assert_eq!(poor.gold().await.unwrap(), topped_up);
}

/// Whoever sends players to nodes that are ready sends none, but the nodes live.
async fn none_is_ready(nodes: &[Node]) {
    for node in nodes {
        assert!(!node.ready().await, "{}", node.log());
    }
}

/// Waits until every node is ready again; each has said once that the service is away, and once
/// that it is back.
async fn all_are_back(nodes: &mut [Node], service: &str) {
    let service = format!("service=\"{service}\"");
    for node in nodes {
        until("a node is ready again", async || node.ready().await).await;
        assert!(node.lives());
        until("it says so", async || node.logged(&[&service, "back"]) > 0).await;
        let told = (node.logged(&[&service, "away"]), node.logged(&[&service, "back"]));
        assert_eq!(told, (1, 1), "{}", node.log());
    }
}

fn is_in_or_refused(signed_in: Result<(), ClientError>) {
    match signed_in {
        Ok(()) => {}
        Err(ClientError::Refused(why)) if PASSING.contains(&why.code) => {}
        Err(e) => panic!("{e}"),
    }
}

fn is_code(result: &Result<(), ClientError>, code: Code) -> bool {
    matches!(result, Err(ClientError::Refused(why)) if why.code == code)
}

#[expect(clippy::print_stderr, reason = "a measured time, for whoever runs the test")]
fn tell(what: &str) {
    eprintln!("measured: {what}");
}
