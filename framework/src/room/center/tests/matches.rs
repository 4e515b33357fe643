//! How wishes become rooms, and how players hear of it.

use super::*;
use crate::{msg, proto::link::seek_match};

fn seek(account: i64, wish: u64) -> seek_match::Req {
    let (who, kind) = (Some(asking(account)), "arena".to_owned());
    seek_match::Req { who, kind, wish, rating: 1000, ..seek_match::Req::default() }
}

async fn told(world: &World) -> Vec<(i64, msg::Matched)> {
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut told = std::mem::take(&mut world.servers().told);
    told.sort_by_key(|(account, _)| *account);
    told
}

/// A center that works, and what asks it.
async fn started() -> (World, RoomCenter) {
    let world = World::in_steps();
    let center = world.center();
    center.start();
    (world, center)
}

async fn ask(center: &RoomCenter, request: seek_match::Req) -> Result<(), Code> {
    center.clone().seek_match(request).await.map(drop).map_err(|r| r.code)
}

#[tokio::test(start_paused = true)]
async fn three_who_wait_are_told_one_room_and_each_a_ticket_of_its_own() {
    let (world, center) = started().await;
    for account in [1, 2] {
        ask(&center, seek(account, 5)).await.unwrap();
    }
    assert!(told(&world).await.is_empty(), "a match begins with three");
    ask(&center, seek(3, 5)).await.unwrap();
    let heard = told(&world).await;
    assert_eq!(heard.iter().map(|(account, _)| *account).collect::<Vec<_>>(), [1, 2, 3]);
    let room_id = heard[0].1.room_id.clone();
    for (account, matched) in &heard {
        assert_eq!((matched.code, &matched.room_id, matched.kind.as_str()), (0, &room_id, "arena"));
        let ticket = world.tickets().take(&matched.ticket, Some(*account)).await.unwrap();
        assert_eq!(ticket.room_id, room_id);
    }
    assert_eq!(world.servers().runs.len(), 1);
    assert_eq!(seats(&world.rooms().await[0]), 3);
    // Who did not hear it says again that it waits, and hears it again; with a new ticket.
    ask(&center, seek(2, 5)).await.unwrap();
    let again = told(&world).await;
    assert_eq!((again.len(), again[0].0, &again[0].1.room_id), (1, 2, &room_id));
    assert!(world.tickets().take(&again[0].1.ticket, Some(2)).await.is_ok());
    assert_eq!(seats(&world.rooms().await[0]), 3, "not with a new seat");
    world.ground.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn who_has_cancelled_is_not_told_and_what_makes_no_sense_is_refused() {
    let (world, center) = started().await;
    for account in [1, 2] {
        ask(&center, seek(account, 5)).await.unwrap();
    }
    ask(&center, seek_match::Req { cancel: true, ..seek(2, 5) }).await.unwrap();
    ask(&center, seek(3, 5)).await.unwrap();
    assert!(told(&world).await.is_empty());
    let party = seek_match::Req { party: "p".into(), party_size: 5, ..seek(1, 6) };
    assert_eq!(ask(&center, party).await, Err(Code::PARAMETER), "a room has four seats");
    let unknown = seek_match::Req { kind: "moon".into(), ..seek(1, 6) };
    assert_eq!(ask(&center, unknown).await, Err(Code::ROOM_NOT_FOUND));
    world.ground.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn when_no_room_is_to_be_had_all_are_told_why_and_may_ask_again() {
    let (world, center) = started().await;
    world.servers().refusals = [Code::STUDIO].into();
    for account in [1, 2, 3] {
        ask(&center, seek(account, 5)).await.unwrap();
    }
    let heard = told(&world).await;
    assert!(heard.len() == 3 && heard.iter().all(|(_, m)| m.code == Code::STUDIO.0), "{heard:?}");
    for account in [1, 2, 3] {
        ask(&center, seek(account, 5)).await.unwrap();
    }
    assert!(told(&world).await.iter().all(|(_, matched)| matched.code == 0));
    assert_eq!(world.rooms().await.len(), 1);
    world.ground.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_two_centers_have_leads_to_one_match() {
    let (world, one) = started().await;
    let other = world.center();
    other.start();
    // Each thinks that it is the one.
    for account in [1, 2] {
        ask(&one, seek(account, 5)).await.unwrap();
        ask(&other, seek(account, 5)).await.unwrap();
    }
    ask(&one, seek(3, 5)).await.unwrap();
    ask(&other, seek(4, 5)).await.unwrap();
    let heard = told(&world).await;
    let rooms: BTreeSet<_> = heard.iter().map(|(_, m)| &m.room_id).collect();
    assert_eq!((heard.len(), rooms.len()), (3, 1), "{heard:?}");
    assert_eq!(world.rooms().await.len(), 1);
    world.ground.tasks.stop();
}
