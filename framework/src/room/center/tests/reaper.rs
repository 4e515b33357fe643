//! What is over goes, and what was saved comes back.

use super::*;
use crate::directory::NodeInfo;

fn lost(id: &str, kind: &str, saved: bool) -> RoomRecord {
    let (kind, node) = (kind.to_owned(), "lost".to_owned());
    RoomRecord { kind, node, saved, incarnation: 7, ..room(id, &[1, 2]) }
}

#[tokio::test(start_paused = true)]
async fn a_saved_room_of_a_lost_node_is_opened_again_and_others_are_removed() {
    let world = World::in_steps();
    for record in [lost("s", "saved", true), lost("u", "arena", false), room("lives", &[3])] {
        world.book().report(record).await.unwrap();
    }
    let centers = [world.center(), world.center(), world.center()];
    join_all(centers.iter().map(|center| world.sweep(center))).await;
    settle().await;
    let rooms = world.rooms().await;
    let ids: Vec<_> = rooms.iter().map(|r| (r.room_id.as_str(), r.node.as_str())).collect();
    assert_eq!(ids, [("lives", ME), ("s", ME)]);
    assert!(rooms.iter().all(|room| room.opening_until_ms == 0));
    let servers = world.servers();
    assert_eq!(servers.runs, [("s".to_owned(), true)].into(), "from what it saved");
}

#[tokio::test(start_paused = true)]
async fn a_room_whose_claim_is_not_free_yet_is_tried_until_it_is() {
    let world = World::in_steps();
    world.book().report(lost("s", "saved", true)).await.unwrap();
    world.servers().refusals = [Code::NOT_CONNECTED; 9].into();
    world.sweep(&world.center()).await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(world.servers().runs.get("s"), Some(&true), "ten tries, 200 ms apart");
    assert_eq!(world.rooms().await[0].opening_until_ms, 0);
}

#[tokio::test(start_paused = true)]
async fn a_center_that_dies_while_it_has_a_room_back_is_followed_by_another() {
    for steps in 0..40 {
        let world = World::in_steps();
        world.book().report(lost("s", "saved", true)).await.unwrap();
        let mut expected = world.rooms().await.remove(0);
        let center = world.center();
        let looked = in_steps(steps, async { world.sweep(&center).await });
        let looked = looked.await.is_some();
        // What it set going dies with it.
        world.servers().refusals = [Code::DEADLINE; 100].into();
        world.ground.tasks.stop();
        settle().await;
        let next = World {
            ground: CenterGround { tasks: Tasks::default(), ..world.ground.clone() },
            ..world.clone()
        };
        next.servers().refusals.clear();
        next.pass(ROOM_OPENING_MAX);
        next.sweep(&next.center()).await;
        settle().await;
        expected.node = ME.to_owned();
        let rooms = next.rooms().await;
        assert_eq!(
            (rooms.len(), &rooms[0].room_id, &rooms[0].node),
            (1, &expected.room_id, &expected.node),
            "{steps}"
        );
        assert_eq!((rooms[0].opening_until_ms, next.servers().runs.len()), (0, 1), "{steps}");
        if looked {
            return;
        }
    }
    panic!("a look has fewer steps");
}

#[tokio::test(start_paused = true)]
async fn a_room_that_cannot_come_back_is_removed() {
    let world = World::in_steps();
    world.book().report(lost("s", "saved", true)).await.unwrap();
    world.servers().refusals = [Code::INTERNAL].into();
    world.sweep(&world.center()).await;
    settle().await;
    assert!(world.rooms().await.is_empty() && world.servers().runs.is_empty());
}

#[tokio::test]
async fn a_seat_that_nobody_took_is_free_and_a_room_that_nobody_opened_is_gone() {
    let world = World::in_steps();
    let center = world.center();
    let until_ms = world.ground.clock.now_ms() + 1;
    let kept = Reservation { account: 9, until_ms };
    let full = RoomRecord { reserved: vec![kept], ..room("r", &[1, 2, 3]) };
    let opening = RoomRecord { opening_until_ms: until_ms, ..room("o", &[]) };
    for record in [full, opening] {
        let name = name_of(&record);
        world.book().seat(&name, None, &[], Some(record)).await.unwrap();
    }
    world.sweep(&center).await;
    assert_eq!(world.rooms().await.len(), 2, "it is not time yet");
    world.pass(Duration::from_millis(1));
    world.sweep(&center).await;
    let rooms = world.rooms().await;
    assert_eq!((rooms.len(), seats(&rooms[0])), (1, 3));
    assert_eq!(enter(&center, any(4, "")).await.unwrap().room_id, "r", "it is in the list again");
}

#[tokio::test(start_paused = true)]
async fn a_reaper_looks_as_soon_as_a_node_goes() {
    let world = World::in_steps();
    let directory = &world.ground.directory;
    let info = NodeInfo { id: "lost".into(), incarnation: 7, ..NodeInfo::default() };
    directory.register(info);
    world.book().report(lost("s", "saved", true)).await.unwrap();
    world.center().start();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(world.servers().runs.is_empty(), "it lives");
    directory.forget("lost");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.servers().runs.get("s"), Some(&true));
    world.ground.tasks.stop();
}
