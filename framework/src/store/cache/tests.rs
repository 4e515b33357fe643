//! The same promises, kept by the cache in memory and by the one in Redis; and what is said
//! while Redis is away.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{runtime::Handle, time::Instant};

use super::*;
use crate::limits::CACHE_DEADLINE;

/// A cache and the time that passes for it: that of its own in memory, real time in Redis.
struct Kit {
    cache: Cache,
    now_ms: AtomicI64,
}

const TICK_MS: i64 = 10;
/// 5 s: no expiry in these tests is later than a tenth of it.
const TICKS_MAX: i64 = 500;

impl Kit {
    fn both() -> [Self; 2] {
        let url = bastide_testkit::shared().redis.url();
        let redis = open(&url);
        [Cache::memory(), Cache::redis(redis)].map(|cache| Self { cache, now_ms: 0.into() })
    }

    fn now(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    async fn tick(&self) {
        self.now_ms.fetch_add(TICK_MS, Ordering::Relaxed);
        if let Backend::Redis(_) = self.cache.0 {
            tokio::time::sleep(Duration::from_millis(TICK_MS.unsigned_abs())).await;
        }
    }
}

fn open(url: &str) -> Redis {
    Redis::open(url, &bastide_testkit::cluster_name(), Handle::current()).unwrap()
}

#[tokio::test]
async fn a_count_ends_with_its_window_however_often_it_grew() {
    for kit in Kit::both() {
        let Kit { cache, .. } = &kit;
        assert_eq!(cache.count("k", kit.now()).await, Ok(0));
        assert_eq!(cache.window_ms("k", kit.now()).await, Ok(None));
        for expected in 1..=3 {
            assert_eq!(cache.incr("k", 300, kit.now()).await, Ok(expected), "{cache:?}");
            assert_eq!(cache.count("k", kit.now()).await, Ok(expected), "{cache:?}");
        }
        let left = cache.window_ms("k", kit.now()).await.unwrap();
        assert!(left.is_some_and(|left| (1..=300).contains(&left)), "{left:?} {cache:?}");
        // It grows all the time: if that moved the window, it would never end.
        let mut ended = false;
        for _ in 0..TICKS_MAX {
            kit.tick().await;
            ended = cache.incr("k", 300, kit.now()).await.unwrap() == 1;
            if ended {
                break;
            }
        }
        assert!(ended, "{cache:?}");
        assert_eq!(cache.count("other", kit.now()).await, Ok(0));
    }
}

#[tokio::test]
async fn a_value_is_read_until_it_expires_and_taken_once() {
    for kit in Kit::both() {
        let Kit { cache, .. } = &kit;
        // No text: what is kept are bytes.
        let value = vec![0, 255, b'\r', b'\n'];
        cache.put("k", value.clone(), 200, kit.now()).await.unwrap();
        assert_eq!(cache.get("k", kit.now()).await, Ok(Some(value)), "{cache:?}");
        let mut ticks = 0;
        while cache.get("k", kit.now()).await.unwrap().is_some() && ticks < TICKS_MAX {
            kit.tick().await;
            ticks += 1;
        }
        assert!(ticks > 0 && ticks < TICKS_MAX, "{cache:?}: it expires, not at once: {ticks}");
        cache.put("k", b"a".to_vec(), 60_000, kit.now()).await.unwrap();
        cache.put("k", b"b".to_vec(), 60_000, kit.now()).await.unwrap();
        let taken = cache.take("k", kit.now()).await;
        assert_eq!(taken, Ok(Some(b"b".to_vec())), "{cache:?}: the later put counts");
        assert_eq!(cache.take("k", kit.now()).await, Ok(None), "{cache:?}");
        assert_eq!(cache.get("k", kit.now()).await, Ok(None), "{cache:?}");
    }
}

#[tokio::test]
async fn of_twenty_that_take_one_value_at_once_one_gets_it() {
    for kit in Kit::both() {
        let Kit { cache, .. } = &kit;
        cache.put("k", b"v".to_vec(), 60_000, 0).await.unwrap();
        let takes = join_all((0..20).map(|_| cache.take("k", 0))).await;
        let winners = takes.into_iter().filter(|taken| *taken == Ok(Some(b"v".to_vec())));
        assert_eq!(winners.count(), 1, "{cache:?}");
    }
}

#[tokio::test]
async fn a_value_is_put_where_there_is_none_and_the_same_one_is_confirmed() {
    for kit in Kit::both() {
        let Kit { cache, .. } = &kit;
        let put = |value: &'static str| cache.put_if_absent("k", value.into(), 200, kit.now());
        assert_eq!(put("mine").await, Ok(true), "{cache:?}");
        assert_eq!(put("mine").await, Ok(true), "{cache:?}: a second try of the same");
        assert_eq!(put("yours").await, Ok(false), "{cache:?}");
        assert_eq!(cache.get("k", kit.now()).await, Ok(Some(b"mine".to_vec())), "{cache:?}");
        let mut free = false;
        for _ in 0..TICKS_MAX {
            kit.tick().await;
            free = put("yours").await.unwrap();
            if free {
                break;
            }
        }
        assert!(free, "{cache:?}: it expires");
    }
}

fn swap(key: &str, expected: Option<&str>, new: Option<&str>, at: Option<i64>) -> Swap {
    let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
    let rank = Rank { set: "s".into(), member: key.into(), at };
    let (expected, new) = (bytes(expected), bytes(new));
    Swap { key: key.into(), expected, new, ttl_ms: 60_000, ranks: vec![rank] }
}

async fn order(kit: &Kit, greatest_first: bool, offset: usize, count: usize) -> Vec<String> {
    let range = Range { set: "s", prefix: "", greatest_first, offset, count };
    let found = kit.cache.range(range, kit.now()).await.unwrap();
    let word = |found: Found| {
        format!("{}={}", found.member, String::from_utf8(found.value.unwrap_or_default()).unwrap())
    };
    found.into_iter().map(word).collect()
}

#[tokio::test]
async fn a_value_is_swapped_with_its_rank_when_it_is_what_was_expected() {
    for kit in Kit::both() {
        let done = async |s: Swap| kit.cache.swap(s, kit.now()).await.unwrap();
        assert!(!done(swap("a", Some("x"), Some("1"), Some(1))).await, "there is none");
        assert!(order(&kit, false, 0, 9).await.is_empty(), "nor was it ranked");
        for _ in 0..2 {
            assert!(done(swap("a", None, Some("1"), Some(5))).await, "and again");
        }
        assert!(!done(swap("a", None, Some("2"), Some(6))).await, "there is one");
        assert!(done(swap("a", Some("1"), Some("2"), Some(7))).await);
        assert!(done(swap("b", None, Some(""), Some(7))).await, "nothing is a value too");
        assert!(!done(swap("b", None, Some("3"), Some(7))).await);
        assert!(done(swap("c", None, Some("c"), Some(-3))).await);
        assert!(done(swap("d", None, None, Some(1000))).await, "a rank without a value");
        assert_eq!(order(&kit, false, 0, 9).await, ["c=c", "a=2", "b=", "d="]);
        assert_eq!(order(&kit, true, 1, 2).await, ["b=", "a=2"]);
        assert!(
            order(&kit, false, 4, 2).await.is_empty() && order(&kit, false, 0, 0).await.is_empty()
        );
        for _ in 0..2 {
            assert!(done(swap("a", Some("2"), None, None)).await, "and again");
        }
        assert_eq!(kit.cache.get("a", kit.now()).await, Ok(None));
        assert_eq!(order(&kit, false, 0, 9).await, ["c=c", "b=", "d="]);
        assert!(done(Swap { ttl_ms: 200, ..swap("e", None, Some("e"), Some(0)) }).await);
        let mut ticks = 0;
        while !order(&kit, false, 0, 9).await.is_empty() && ticks < TICKS_MAX {
            kit.tick().await;
            ticks += 1;
        }
        assert!(ticks > 0 && ticks < TICKS_MAX, "the set expires, not at once: {ticks}");
    }
}

#[tokio::test]
async fn of_twenty_that_swap_one_value_at_once_one_does() {
    for kit in Kit::both() {
        kit.cache.put("k", b"v".to_vec(), 60_000, 0).await.unwrap();
        let words: Vec<_> = (0..20).map(|n| n.to_string()).collect();
        let swaps = words.iter().map(|n| kit.cache.swap(swap("k", Some("v"), Some(n), None), 0));
        let done = join_all(swaps).await.into_iter().filter(|done| *done == Ok(true)).count();
        assert_eq!(done, 1, "{:?}", kit.cache);
    }
}

#[tokio::test]
async fn clusters_that_share_a_redis_do_not_see_each_other() {
    let [_, one] = Kit::both();
    let [_, other] = Kit::both();
    one.cache.put("k", b"v".to_vec(), 60_000, 0).await.unwrap();
    assert_eq!(other.cache.get("k", 0).await, Ok(None));
    assert_eq!(one.cache.get("k", 0).await, Ok(Some(b"v".to_vec())));
}

#[tokio::test]
async fn while_redis_is_away_all_is_refused_in_time_and_when_it_is_back_all_goes_on() {
    let mut server = bastide_testkit::Redis::start();
    let redis = open(&server.url());
    let cache = Cache::redis(redis.clone());
    assert_eq!(cache.incr("k", 60_000, 0).await, Ok(1));
    server.stop();
    for _ in 0..3 {
        let began = Instant::now();
        let CacheError::Unavailable(why) = cache.incr("k", 60_000, 0).await.unwrap_err();
        assert!(!why.is_empty() && began.elapsed() <= CACHE_DEADLINE + Duration::from_millis(500));
    }
    server.restart();
    // The first one already: nobody is told the failure of before.
    assert_eq!(cache.incr("k", 60_000, 0).await, Ok(1), "the data is lost, the handle is not");
    redis.ping().await.unwrap();
    // Nobody asked while it was away: the connection is found broken only now.
    server.stop();
    server.restart();
    assert_eq!(cache.count("k", 0).await, Ok(0));
}

#[tokio::test]
async fn a_redis_that_hangs_is_away_after_the_deadline_and_serves_again_when_it_goes_on() {
    let server = bastide_testkit::Redis::start();
    let cache = Cache::redis(open(&server.url()));
    cache.put("k", b"v".to_vec(), 60_000, 0).await.unwrap();
    server.freeze();
    let began = Instant::now();
    cache.get("k", 0).await.unwrap_err();
    assert!(began.elapsed() <= CACHE_DEADLINE + Duration::from_millis(500));
    server.thaw();
    assert_eq!(cache.get("k", 0).await, Ok(Some(b"v".to_vec())));
}
