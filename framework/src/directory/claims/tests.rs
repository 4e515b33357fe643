//! The promises of the claims one by one, on a real Redis. Any mixture of them is in `model`.

mod model;

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{runtime::Handle, time::Instant};

use super::*;

/// Long enough that no lease ends while a test runs.
const LONG: Duration = Duration::from_secs(60);
/// Short enough to be waited for.
const SHORT: Duration = Duration::from_millis(100);

/// A cluster of its own.
struct Cluster {
    redis: Redis,
    claims: RedisClaims,
}

impl Cluster {
    fn new() -> Self {
        Self::at(&bastide_testkit::shared().redis.url())
    }

    fn at(url: &str) -> Self {
        let name = bastide_testkit::cluster_name();
        let redis = Redis::open(url, &name, Handle::current()).unwrap();
        Self { claims: RedisClaims::new(redis.clone(), LONG), redis }
    }

    /// One that has nothing to settle.
    async fn founded() -> Self {
        let cluster = Self::new();
        cluster.claims.found().await.unwrap();
        cluster
    }

    /// The same cluster, as a node with this lease sees it.
    fn with_lease(&self, lease: Duration) -> RedisClaims {
        RedisClaims::new(self.redis.clone(), lease)
    }

    /// All that is kept of the cluster.
    async fn names(&self) -> Vec<String> {
        let keys = Cmd::new().arg("KEYS").arg(self.redis.key("*")).take();
        let keys: Vec<String> = self.redis.command(keys).await.unwrap();
        let prefix = self.redis.key("");
        keys.iter().map(|key| key.strip_prefix(&prefix).unwrap().to_owned()).collect()
    }

    async fn forget(&self, names: &[String]) {
        for name in names {
            let del = Cmd::new().arg("DEL").arg(self.redis.key(name)).take();
            self.redis.command::<()>(del).await.unwrap();
        }
    }

    async fn lapse(&self, owner: &Owner) {
        self.forget(&[format!("lease:{}", owner.tag())]).await;
    }

    /// Claims what must be free.
    async fn granted(&self, entity: &str, me: &Owner) -> i64 {
        epoch(self.claims.claim(entity, me, 0).await.unwrap())
    }
}

fn node(name: &str) -> Owner {
    Owner { node: name.into(), incarnation: 7 }
}

#[track_caller]
fn epoch(claimed: Claimed) -> i64 {
    let Claimed::Granted { epoch } = claimed else { panic!("{claimed:?}") };
    epoch
}

fn generation_of(renewed: Renewed) -> String {
    let Renewed::Alive { generation } = renewed else { panic!("{renewed:?}") };
    generation
}

/// Asks until the answer is another one than `not_yet`.
async fn until_other<F: Future<Output = Result<Claimed, CacheError>>>(
    not_yet: &Claimed,
    ask: impl Fn() -> F,
) -> Claimed {
    let began = Instant::now();
    loop {
        let answer = ask().await.unwrap();
        if answer != *not_yet {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "still {answer:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_free_entity_is_claimed_by_one_found_by_all_and_given_up_by_its_owner_alone() {
    let cluster = Cluster::founded().await;
    let Cluster { claims, .. } = &cluster;
    let (a, b) = (node("a.town-1"), node("b"));
    // Names hold what keys and claims are written with.
    let entity = "player:{x} 7:8";
    assert_eq!(claims.locate(entity).await, Ok(None));
    let before = cluster.granted(entity, &a).await;
    let first = cluster.granted(entity, &a).await;
    assert!(first > before, "what is late of an earlier run is not meant");
    assert_eq!(claims.claim(entity, &b, 0).await, Ok(Claimed::Held(a.clone())));
    assert_eq!(claims.locate(entity).await, Ok(Some(a.clone())));
    claims.release(entity, &b, first).await.unwrap();
    claims.release(entity, &a, before).await.unwrap();
    assert_eq!(claims.locate(entity).await, Ok(Some(a.clone())), "neither was the claim");
    for _ in 0..2 {
        claims.release(entity, &a, first).await.unwrap();
        assert_eq!(claims.locate(entity).await, Ok(None));
    }
    let second = epoch(claims.claim(entity, &b, first + 1_000_000_000).await.unwrap());
    assert!(second > first + 1_000_000_000, "above what was written last");
    let third = cluster.granted("other", &b).await;
    assert!(third > second, "also when the clock is behind");
}

#[tokio::test]
async fn an_entity_is_taken_over_only_when_the_lease_of_its_owner_is_over_and_that_one_is_dead() {
    let cluster = Cluster::founded().await;
    let Cluster { claims, .. } = &cluster;
    let (a, b, c) = (node("a"), node("b"), node("c"));
    let first = cluster.granted("x", &a).await;
    let held = Claimed::Held(a.clone());
    assert_eq!(claims.take_over("x", &a, &b, 0).await, Ok(held.clone()));
    assert_eq!(claims.take_over("x", &c, &b, 0).await, Ok(held.clone()), "c never had it");
    cluster.with_lease(SHORT).renew(&a).await.unwrap();
    let taken = until_other(&held, || claims.take_over("x", &a, &b, 0)).await;
    let taken = epoch(taken);
    assert!(taken > first);
    let second = epoch(claims.take_over("x", &a, &b, 0).await.unwrap());
    assert!(second > taken, "asked again");
    assert_eq!(claims.take_over("x", &a, &c, 0).await, Ok(Claimed::Held(b.clone())));

    for _ in 0..2 {
        assert_eq!(claims.renew(&a).await, Ok(Renewed::Dead));
        assert_eq!(claims.claim("free", &a, 0).await, Ok(Claimed::Dead));
        assert_eq!(claims.take_over("x", &b, &a, 0).await, Ok(Claimed::Dead));
        assert_eq!(claims.reassert(&a, &[("y".into(), 9)]).await, Ok(vec!["y".into()]));
    }
    claims.release("x", &a, first).await.unwrap();
    assert_eq!(claims.locate("x").await, Ok(Some(b)));
    let again = Owner { incarnation: 8, ..a };
    cluster.granted("free", &again).await;
}

#[tokio::test]
async fn of_ten_nodes_that_take_over_at_once_one_wins_and_the_others_hear_who() {
    let cluster = Cluster::founded().await;
    let a = node("a");
    cluster.granted("x", &a).await;
    cluster.lapse(&a).await;
    let nodes: Vec<Owner> = (0..10).map(|n| node(&format!("n{n}"))).collect();
    let takers = nodes.iter().map(|me| cluster.claims.take_over("x", &a, me, 0));
    let answers = join_all(takers).await.into_iter().map(Result::unwrap);
    let (won, lost): (Vec<_>, Vec<_>) = nodes
        .iter()
        .zip(answers)
        .partition(|(_, answer)| matches!(answer, Claimed::Granted { .. }));
    let [(winner, _)] = won[..] else { panic!("{won:?}") };
    assert!(lost.iter().all(|(_, answer)| *answer == Claimed::Held(winner.clone())), "{lost:?}");
    assert_eq!(lost.len(), 9);
    assert_eq!(cluster.claims.locate("x").await, Ok(Some(winner.clone())));
}

#[tokio::test]
async fn after_redis_lost_its_data_owners_come_first_and_keep_their_epochs() {
    let server = bastide_testkit::Redis::start();
    let cluster = Cluster::at(&server.url());
    // Settling takes as long as a lease, and a bit: a short one is waited for sooner.
    let claims = &cluster.with_lease(SHORT);
    claims.found().await.unwrap();
    let (a, b) = (node("a"), node("b"));
    let owned = [("x".to_owned(), cluster.granted("x", &a).await), ("y".to_owned(), 5)];
    let before = generation_of(claims.renew(&a).await.unwrap());

    cluster.redis.command::<()>(Cmd::new().arg("FLUSHALL").take()).await.unwrap();
    assert_eq!(claims.claim("x", &b, 0).await, Ok(Claimed::Settling));
    assert_eq!(claims.take_over("x", &a, &b, 0).await, Ok(Claimed::Settling));
    let after = generation_of(claims.renew(&a).await.unwrap());
    assert_ne!(before, after);
    claims.found().await.unwrap();
    assert_eq!(claims.claim("x", &b, 0).await, Ok(Claimed::Settling), "not to be cut short");
    for _ in 0..2 {
        assert_eq!(claims.reassert(&a, &owned).await, Ok(vec![]));
        assert!(cluster.granted("x", &a).await > owned[0].1, "its own at once");
    }
    assert_eq!(claims.locate("y").await, Ok(Some(a.clone())));

    let third = until_other(&Claimed::Settling, || claims.claim("z", &b, 0)).await;
    assert!(epoch(third) > owned[0].1);
    assert_eq!(claims.claim("x", &b, 0).await, Ok(Claimed::Held(a.clone())));
    assert_eq!(generation_of(claims.renew(&b).await.unwrap()), after);
    let late = [("z".to_owned(), owned[0].1), ("w".to_owned(), 6)];
    assert_eq!(claims.reassert(&a, &late).await, Ok(vec!["z".to_owned()]), "b's by now");
    assert_eq!(claims.locate("w").await, Ok(Some(a)));
}

#[tokio::test]
async fn of_two_that_say_they_own_an_entity_the_later_claim_counts() {
    let cluster = Cluster::founded().await;
    let Cluster { claims, .. } = &cluster;
    let (a, b) = (node("a"), node("b"));
    let (earlier, later) = ([("x".to_owned(), 5)], [("x".to_owned(), 6)]);
    assert_eq!(claims.reassert(&a, &earlier).await, Ok(vec![]));
    assert_eq!(claims.reassert(&b, &later).await, Ok(vec![]));
    assert_eq!(claims.reassert(&a, &earlier).await, Ok(vec!["x".to_owned()]));
    assert_eq!(claims.locate("x").await, Ok(Some(b)));
    cluster.lapse(&a).await;
    assert_eq!(claims.sweep(&a).await, Ok(true));
    assert!(claims.locate("x").await.unwrap().is_some(), "it is not among a's any more");
}

#[tokio::test]
async fn only_a_cluster_that_is_founded_need_not_settle() {
    let cluster = Cluster::new();
    let a = node("a");
    assert_eq!(cluster.claims.claim("x", &a, 0).await, Ok(Claimed::Settling));
    let founded = Cluster::founded().await;
    founded.granted("x", &a).await;
    let generation = founded.claims.renew(&a).await;
    founded.claims.found().await.unwrap();
    assert_eq!(founded.claims.renew(&a).await, generation, "known by then");
}

#[tokio::test]
async fn what_resigns_or_is_swept_leaves_nothing_but_its_grave_however_much_it_had() {
    for swept in [false, true] {
        let cluster = Cluster::founded().await;
        let Cluster { claims, .. } = &cluster;
        let (a, b) = (node("a"), node("b"));
        let many = 2 * CLAIMS_PER_SCRIPT_MAX + 1;
        let owned: Vec<_> = (0..many).map(|n| (format!("e{n}"), 5)).collect();
        assert_eq!(claims.reassert(&a, &owned).await, Ok(vec![]));
        cluster.granted("b's", &b).await;
        assert_eq!(cluster.names().await.iter().filter(|n| n.starts_with("claim:e")).count(), many);
        for _ in 0..2 {
            if swept {
                assert_eq!(claims.sweep(&b).await, Ok(false), "its lease lives");
                cluster.lapse(&a).await;
                assert_eq!(claims.sweep(&a).await, Ok(true));
            } else {
                claims.resign(&a).await.unwrap();
            }
            let mut names = cluster.names().await;
            names.sort();
            let left = "claim:b's dead:a:7 epoch generation lease:b:7 owned:b:7 owners";
            assert_eq!(names.join(" "), left);
        }
        assert_eq!(claims.owners().await, Ok(vec![b.clone()]));
        assert_eq!(claims.renew(&a).await, Ok(Renewed::Dead));
        let ttl = Cmd::new().arg("PTTL").arg(cluster.redis.key("dead:a:7")).take();
        let ttl_ms: u128 = cluster.redis.command(ttl).await.unwrap();
        let kept_ms = DEAD_INCARNATION_KEPT.as_millis();
        assert!(ttl_ms <= kept_ms && ttl_ms > kept_ms - 60_000, "{ttl_ms}");
        cluster.granted("e0", &b).await;
    }
}

#[tokio::test]
async fn what_another_program_wrote_is_an_error_that_shows_it() {
    let cluster = Cluster::founded().await;
    let set = Cmd::new().arg("SET").arg(cluster.redis.key("claim:x")).arg("5 somebody").take();
    cluster.redis.command::<()>(set).await.unwrap();
    let sentence = cluster.claims.locate("x").await.unwrap_err().to_string();
    assert!(sentence.contains("somebody"), "{sentence}");
    let error = cluster.claims.claim("x", &node("a"), 0).await;
    assert!(error.unwrap_err().to_string().contains("somebody"));
}
