//! What records keep when many change them, on both caches.

use futures_util::future::join_all;
use tokio::runtime::Handle;

use super::*;
use crate::store::Redis;

fn both() -> [(Book, Clock); 2] {
    let url = bastide_testkit::shared().redis.url();
    let redis = Redis::open(&url, &bastide_testkit::cluster_name(), Handle::current()).unwrap();
    [Cache::memory(), Cache::redis(redis)].map(|cache| {
        let clock = Clock::fixed(1_000);
        (Book::new(cache, clock.clone()), clock)
    })
}

fn room(id: &str, members: &[i64]) -> RoomRecord {
    RoomRecord {
        room_id: id.into(),
        kind: "arena".into(),
        node: "a".into(),
        incarnation: 1,
        capacity: 4,
        members: members.to_vec(),
        ..RoomRecord::default()
    }
}

async fn ids(book: &Book, list: List<'_>) -> Vec<String> {
    let listed = book.list(list, 0, 100).await.unwrap();
    listed.into_iter().map(|listed| listed.seen.record.expect("there").room_id).collect()
}

#[tokio::test]
async fn a_room_is_in_the_lists_that_it_belongs_to() {
    for (book, _) in both() {
        let private =
            RoomRecord { options: [("private".into(), "1".into())].into(), ..room("d", &[]) };
        let other = RoomRecord { kind: "chat".into(), ..room("e", &[]) };
        for record in
            [room("a", &[1]), room("b", &[2, 3]), room("c", &[4, 5, 6, 7]), private, other]
        {
            book.report(record).await.unwrap();
        }
        assert_eq!(ids(&book, List::Space("arena", "")).await, ["b", "a"], "the fuller first");
        assert_eq!(ids(&book, List::Public("arena")).await, ["a", "b", "c"]);
        assert_eq!(ids(&book, List::All).await, ["a", "b", "c", "d", "e"]);
        book.report(RoomRecord { locked: true, ..room("b", &[2, 3]) }).await.unwrap();
        book.report(room("c", &[4])).await.unwrap();
        assert_eq!(ids(&book, List::Space("arena", "")).await, ["c", "a"]);
        let red =
            RoomRecord { options: [("colour".into(), "red".into())].into(), ..room("f", &[]) };
        let like = likeness(&red.options);
        book.report(red).await.unwrap();
        assert_eq!(ids(&book, List::Space("arena", "")).await, ["c", "a"]);
        assert_eq!(ids(&book, List::Space("arena", &like)).await, ["f"], "its like");
        book.closed("arena", "f", 0).await.unwrap();
        assert_eq!(ids(&book, List::Space("arena", &like)).await, [""; 0]);
        book.closed("arena", "c", 0).await.unwrap();
        book.closed("arena", "never was", 0).await.unwrap();
        assert_eq!(ids(&book, List::Public("arena")).await, ["a", "b"]);
        assert_eq!(book.find("arena/c").await.unwrap(), None);
    }
}

#[tokio::test]
async fn of_twenty_that_want_four_seats_at_once_four_have_one_and_nobody_two() {
    for (book, _) in both() {
        let seat = |account: i64| {
            book.seat(
                "arena/a",
                None,
                std::slice::from_ref(Box::leak(Box::new(account))),
                Some(room("a", &[])),
            )
        };
        let seatings = join_all((0..20).chain(0..20).map(seat)).await;
        let kept = |at: usize| matches!(seatings[at], Ok(Some(Seating::Kept(_))));
        for account in 0..20 {
            assert_eq!(kept(account), kept(account + 20), "the same seat");
        }
        assert_eq!((0..20).filter(|at| kept(*at)).count(), 4);
        let record = book.find("arena/a").await.unwrap().unwrap();
        assert_eq!((record.reserved.len(), seats(&record)), (4, 4));
    }
}

#[tokio::test]
async fn a_reservation_ends_when_its_account_sits_and_when_its_time_is_over() {
    for (book, clock) in both() {
        book.seat("arena/a", None, &[1, 2], Some(room("a", &[]))).await.unwrap();
        book.report(room("a", &[1])).await.unwrap();
        let record = book.find("arena/a").await.unwrap().unwrap();
        assert_eq!((record.reserved.len(), seats(&record)), (1, 2));
        clock.set(1_000 + ms(RESERVATION_TTL));
        let Listed { name, seen } = book.list(List::All, 0, 1).await.unwrap().remove(0);
        book.pruned(&name, seen).await.unwrap();
        let record = book.find("arena/a").await.unwrap().unwrap();
        assert_eq!((record.reserved.len(), seats(&record)), (0, 1));
    }
}

#[tokio::test]
async fn a_party_has_all_its_seats_or_none() {
    let [(book, _), _] = both();
    book.report(room("a", &[1, 2])).await.unwrap();
    let seating = book.seat("arena/a", None, &[3, 4, 5], None).await.unwrap();
    assert_eq!(seating, Some(Seating::Full));
    assert_eq!(book.find("arena/a").await.unwrap().map(|r| r.reserved.len()), Some(0));
    let seating = book.seat("arena/b", None, &[3], None).await.unwrap();
    assert_eq!(seating, Some(Seating::Missing));
}

/// A game server is frozen in the middle of telling what its room is; when it wakes, the room is
/// elsewhere.
#[tokio::test]
async fn who_has_lost_its_claim_neither_changes_nor_removes_what_the_later_one_told() {
    for (book, _) in both() {
        let old = RoomRecord { epoch: 5, ..room("a", &[1]) };
        let new = RoomRecord { node: "b".into(), epoch: 6, ..room("a", &[1, 2]) };
        assert_eq!(book.report(old.clone()).await, Ok(true));
        assert_eq!(book.report(new.clone()).await, Ok(true));
        assert_eq!(book.report(old).await, Ok(false), "it is told that another runs the room");
        book.closed("arena", "a", 5).await.unwrap();
        assert_eq!(book.find("arena/a").await, Ok(Some(new.clone())));
        assert_eq!(book.report(new).await, Ok(true), "its own word it may change");
        book.closed("arena", "a", 6).await.unwrap();
        assert_eq!(book.find("arena/a").await, Ok(None));
    }
}
