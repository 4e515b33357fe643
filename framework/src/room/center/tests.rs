//! What holds whoever asks at once, and whoever dies between which steps.

mod matches;
mod reaper;

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use prost::Message as _;

use super::{world::*, *};
use crate::{
    limits::{
        RESERVATION_TTL, ROOM_INFO_MAX, ROOM_OPENING_MAX, ROOM_STATE_BYTES_MAX,
        ROOMS_OPENED_PER_ACCOUNT_MAX, ROOMS_PER_PAGE_MAX,
    },
    msg::list_rooms,
    proto::link::{Reservation, enter},
    room::book::seats,
};

async fn enter(center: &RoomCenter, request: enter::Req) -> Result<enter::Res, Code> {
    center.clone().enter(request).await.map_err(|refusal| refusal.code)
}

fn reserved_by(room: &RoomRecord, account: i64) -> usize {
    room.reserved.iter().filter(|kept| kept.account == account).count()
}

/// A room that runs, with these members.
fn room(id: &str, members: &[i64]) -> RoomRecord {
    RoomRecord {
        room_id: id.into(),
        kind: "arena".into(),
        node: ME.into(),
        incarnation: 1,
        capacity: 4,
        members: members.to_vec(),
        ..RoomRecord::default()
    }
}

#[tokio::test]
async fn who_asks_gets_the_fullest_room_with_space_else_a_new_one() {
    for world in World::both() {
        let center = world.center();
        for record in [room("two", &[1, 2]), room("one", &[3]), room("full", &[4, 5, 6, 7])] {
            world.book().report(record).await.unwrap();
        }
        let locked = RoomRecord { locked: true, ..room("locked", &[8, 9]) };
        world.book().report(locked).await.unwrap();
        let mut led = Vec::new();
        for account in 10..16 {
            let answer = enter(&center, any(account, "")).await.unwrap();
            let ticket = world.tickets().take(&answer.ticket, Some(account)).await.unwrap();
            assert_eq!((&ticket.room_id, &ticket.sid), (&answer.room_id, &"s".to_owned()));
            assert_eq!(answer.addr, "1.2.3.4:3017");
            led.push(answer.room_id);
        }
        assert_eq!(led[..5], ["two", "two", "one", "one", "one"]);
        assert_eq!(world.servers().runs.keys().collect::<Vec<_>>(), [&led[5]]);
        assert!(led[5].len() == 10 && led[5].chars().all(|c| c.is_ascii_alphanumeric()));
    }
}

#[tokio::test]
async fn a_certain_room_is_found_or_full_or_locked_and_one_who_has_a_seat_gets_no_second() {
    let world = World::in_steps();
    let center = world.center();
    world.book().report(room("r", &[1, 2])).await.unwrap();
    let certain = |account, id: &str| enter::Req { room_id: id.into(), ..any(account, "") };
    assert_eq!(enter(&center, certain(3, "none")).await, Err(Code::ROOM_NOT_FOUND));
    let unknown = enter::Req { kind: "moon".into(), ..any(3, "") };
    assert_eq!(enter(&center, unknown).await, Err(Code::ROOM_NOT_FOUND));
    // Whoever has a ticket counts, but for who asks.
    for (account, members) in [(3, 2), (1, 3), (3, 2), (4, 3), (3, 3)] {
        assert_eq!(enter(&center, certain(account, "r")).await.map(|r| r.members), Ok(members));
    }
    assert_eq!(enter(&center, certain(5, "r")).await, Err(Code::ROOM_FULL));
    let record = &world.rooms().await[0];
    assert_eq!((reserved_by(record, 3), reserved_by(record, 4), seats(record)), (1, 1, 4));
    world.book().report(RoomRecord { locked: true, ..room("r", &[1]) }).await.unwrap();
    assert_eq!(enter(&center, certain(5, "r")).await, Err(Code::ROOM_FULL), "it is locked");
    assert!(enter(&center, certain(3, "r")).await.is_ok(), "its seat is kept");
}

#[tokio::test]
async fn a_private_room_is_new_in_no_list_and_found_by_its_id() {
    let world = World::in_steps();
    let center = world.center();
    let mine = enter(&center, private(any(1, "p"))).await.unwrap().room_id;
    assert_ne!(enter(&center, any(2, "")).await.unwrap().room_id, mine);
    let listed =
        center.clone().list_rooms(list_rooms::Req { kind: "arena".into(), ..Default::default() });
    assert_eq!(listed.await.unwrap().rooms.len(), 1);
    let found = enter::Req { room_id: mine.clone(), ..any(3, "") };
    assert_eq!(enter(&center, found).await.unwrap().room_id, mine);
    assert_eq!(enter(&center, private(any(1, "p"))).await.unwrap().room_id, mine, "asked again");
    assert_ne!(enter(&center, private(any(1, "q"))).await.unwrap().room_id, mine);
}

#[tokio::test]
async fn one_account_opens_no_more_rooms_than_its_share_and_enters_those_that_are_there() {
    let (most, span) = ROOMS_OPENED_PER_ACCOUNT_MAX;
    for world in World::both() {
        let center = world.center();
        for n in 0..most {
            let request = private(any(1, &n.to_string()));
            assert!(enter(&center, request.clone()).await.is_ok());
            assert!(enter(&center, request).await.is_ok(), "asked again, it is the same room");
        }
        assert_eq!(enter(&center, private(any(1, ""))).await, Err(Code::RATE_LIMITED));
        let other = enter(&center, any(2, "")).await.unwrap().room_id;
        assert_eq!(enter(&center, any(1, "")).await.map(|r| r.room_id), Ok(other));
        assert_eq!(world.rooms().await.len() as u64, most + 1);
    }
    let world = World::in_steps();
    let center = world.center();
    for _ in 0..=most {
        _ = enter(&center, private(any(1, ""))).await;
    }
    world.pass(span);
    assert!(enter(&center, private(any(1, ""))).await.is_ok(), "its share is there again");
}

#[tokio::test]
async fn a_page_fits_into_a_frame_whatever_its_rooms_tell_of_themselves() {
    let world = World::in_steps();
    let center = world.center();
    let (entries, bytes) = ROOM_INFO_MAX;
    let info: HashMap<_, _> =
        (0..entries).map(|n| (format!("{n:0bytes$}"), "x".repeat(bytes))).collect();
    for n in 0..ROOMS_PER_PAGE_MAX {
        let told = RoomRecord { info: info.clone(), ..room(&format!("{n:064}"), &[1]) };
        world.book().report(told).await.unwrap();
    }
    let page = async |page_size| {
        let (kind, filter) = ("arena".to_owned(), [info.iter().next().unwrap()]);
        let filter = filter.map(|(key, value)| (key.clone(), value.clone())).into();
        let asked = list_rooms::Req { kind, page_size, filter, ..Default::default() };
        center.clone().list_rooms(asked).await.unwrap()
    };
    let whole = page(100).await;
    assert_eq!(whole.rooms.len(), ROOMS_PER_PAGE_MAX);
    assert!(whole.encoded_len() < ROOM_STATE_BYTES_MAX, "{}", whole.encoded_len());
    assert!(whole.rooms[0].info == info && whole.rooms[99].info.is_empty());
    assert!(page(5).await.rooms.iter().all(|room| room.info == info));
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let world = World::in_steps();
    let center = world.center();
    let option = |n: usize, len: usize| -> HashMap<_, _> {
        (0..n).map(|n| (n.to_string(), "x".repeat(len))).collect()
    };
    for request in [
        any(1, &"x".repeat(ROOM_NAME_BYTES_MAX + 1)),
        enter::Req { room_id: "x".repeat(ROOM_NAME_BYTES_MAX + 1), ..any(1, "") },
        enter::Req { options: option(ROOM_OPTIONS_MAX + 1, 1), ..any(1, "") },
        enter::Req { options: option(1, ROOM_OPTIONS_BYTES_MAX), ..any(1, "") },
    ] {
        assert_eq!(enter(&center, request).await, Err(Code::PARAMETER));
    }
}

#[tokio::test]
async fn no_room_server_is_said_and_leaves_nothing() {
    let world = World::in_steps();
    let center = world.center();
    world.servers().refusals = [Code::NOT_CONNECTED].into();
    assert_eq!(enter(&center, any(1, "x")).await, Err(Code::NO_ROOM_SERVER));
    assert!(world.rooms().await.is_empty(), "nobody else wanted it");
    world.servers().refusals = [Code::STUDIO].into();
    assert_eq!(enter(&center, any(1, "x")).await, Err(Code::STUDIO), "the room's own word");
    world.ground.directory.deregister();
    assert_eq!(enter(&center, any(1, "x")).await, Err(Code::NO_ROOM_SERVER));
    assert!(world.rooms().await.is_empty());
}

#[tokio::test]
async fn a_room_that_was_perhaps_opened_is_gone_on_with() {
    let world = World::in_steps();
    world.servers().refusals = [Code::DEADLINE].into();
    assert_eq!(enter(&world.center(), any(1, "x")).await, Err(Code::DEADLINE));
    let id = world.rooms().await[0].room_id.clone();
    assert_eq!(enter(&world.center(), any(1, "x")).await.map(|r| r.room_id), Ok(id));
}

#[tokio::test]
async fn many_centers_asked_at_once_fill_rooms_and_overfill_none() {
    for world in World::both() {
        let centers: Vec<_> = (0..4).map(|_| world.center()).collect();
        // Each asks twice, at two centers.
        let asked = (0..80i64).map(|n| {
            let account = n % 40;
            let center = &centers[usize::try_from(n / 20).unwrap()];
            enter(center, any(account, "once"))
        });
        let answers = join_all(asked).await;
        let led = |n: usize| answers[n].as_ref().map(|answer| answer.room_id.clone()).unwrap();
        for account in 0..40 {
            assert_eq!(led(account), led(account + 40), "account {account}");
        }
        let rooms = world.rooms().await;
        assert!(rooms.iter().all(|room| seats(room) <= 4));
        assert_eq!(rooms.iter().map(seats).sum::<u64>(), 40, "nobody has two seats");
        let running: BTreeSet<_> = world.servers().runs.keys().cloned().collect();
        assert_eq!(running, rooms.iter().map(|room| room.room_id.clone()).collect());
        // Ten, and for each center but one a room that it did not see another make.
        assert!((10..=13).contains(&rooms.len()), "{}", rooms.len());
    }
}

/// The ways that a request may go.
fn requests() -> [(&'static str, enter::Req, Vec<RoomRecord>); 4] {
    [
        ("a new room", any(1, "x"), vec![room("full", &[5, 6, 7, 8])]),
        ("a private one", private(any(1, "x")), vec![room("space", &[5])]),
        ("one with space", any(1, "x"), vec![room("space", &[5])]),
        (
            "a certain one",
            enter::Req { room_id: "space".into(), ..any(1, "x") },
            vec![room("space", &[5])],
        ),
    ]
}

async fn world_with(rooms: &[RoomRecord]) -> World {
    let world = World::in_steps();
    for room in rooms {
        world.book().report(room.clone()).await.unwrap();
    }
    world
}

/// A step is whatever another center could see: each of the cache's, and each question to a game
/// server. The first center dies after one of them, the second after another, the third lives.
#[tokio::test]
async fn centers_that_die_between_any_two_steps_leave_one_room_and_one_seat_to_who_asks_again() {
    for (what, request, there) in requests() {
        let mut deaths = 0;
        for first in 0.. {
            let mut whole = false;
            for second in 0..=30 {
                let world = world_with(&there).await;
                let led = in_steps(first, enter(&world.center(), request.clone())).await;
                whole = led.is_some();
                deaths += usize::from(!whole);
                let again = in_steps(second, enter(&world.center(), request.clone())).await;
                let third = enter(&world.center(), request.clone()).await.unwrap();
                for before in [led, again].into_iter().flatten() {
                    assert_eq!(before.unwrap().room_id, third.room_id, "{what} {first} {second}");
                }
                settle().await;
                let rooms = world.rooms().await;
                let mine: Vec<_> = rooms.iter().filter(|r| reserved_by(r, 1) > 0).collect();
                assert_eq!(mine.len(), 1, "{what} {first} {second}: {rooms:?}");
                assert_eq!(reserved_by(mine[0], 1), 1);
                assert_eq!((&mine[0].room_id, mine[0].opening_until_ms), (&third.room_id, 0));
                let new = rooms.len() - there.len();
                assert!(new <= 1 && world.servers().runs.len() == new, "{what} {first} {second}");
            }
            if whole {
                break;
            }
        }
        assert!(deaths > 100, "{what}: {deaths}");
    }
}

#[tokio::test]
async fn centers_that_die_between_any_two_steps_leave_no_ghost_seat_when_nobody_asks_again() {
    for (what, request, there) in requests() {
        for first in 0.. {
            let world = world_with(&there).await;
            let whole = in_steps(first, enter(&world.center(), request.clone())).await.is_some();
            settle().await;
            world.pass(RESERVATION_TTL.max(ROOM_OPENING_MAX));
            world.sweep(&world.center()).await;
            let rooms = world.rooms().await;
            let new: Vec<_> =
                rooms.iter().filter(|r| !there.iter().any(|t| t.room_id == r.room_id)).collect();
            assert!(
                rooms.iter().all(|r| r.reserved.is_empty() && r.opening_until_ms == 0),
                "{what} {first}"
            );
            // A room is known if it runs, and only then.
            let running = world.servers().runs.keys().cloned().collect::<Vec<_>>();
            assert_eq!(
                running,
                new.iter().map(|r| r.room_id.clone()).collect::<Vec<_>>(),
                "{what} {first}"
            );
            if whole {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_list_has_pages_and_a_filter() {
    for world in World::both() {
        let center = world.center();
        for n in 0..5 {
            let info = [("map".to_owned(), (n % 2).to_string())].into();
            world.book().report(RoomRecord { info, ..room(&n.to_string(), &[n]) }).await.unwrap();
        }
        let list = async |page, filter: &[(&str, &str)]| {
            let filter = filter.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let request = list_rooms::Req { kind: "arena".into(), page, page_size: 2, filter };
            let list_rooms::Res { rooms, next_page, .. } =
                center.clone().list_rooms(request).await.unwrap();
            (rooms.into_iter().map(|room| room.room_id).collect::<String>(), next_page)
        };
        assert_eq!(list(0, &[]).await, ("01".into(), 1));
        assert_eq!(list(1, &[]).await, ("23".into(), 2));
        assert_eq!(list(2, &[]).await, ("4".into(), 0));
        assert_eq!(list(u32::MAX, &[]).await, (String::new(), 0));
        assert_eq!(list(1, &[("map", "1")]).await, ("3".into(), 2));
        assert_eq!(list(0, &[("map", "1"), ("mode", "x")]).await, (String::new(), 1));
        let all = center.clone().all_rooms(crate::proto::admin::rooms::Req {}).await.unwrap();
        assert_eq!((all.rooms.len(), all.more), (5, false));
    }
}
