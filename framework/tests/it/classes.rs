//! Message classes: what a client that does not keep up gets in the end, and that it is not closed
//! for what may be replaced or dropped.

use bastide::{
    client::{Client, ClientError},
    msg,
};
use prost::Message as _;

use crate::world::{DROPPABLE, LATEST, World, echo_of, until};

/// 1000 pushes of a kind, numbered on.
fn pushes(kind: i32) -> msg::gift_items::Req {
    msg::gift_items::Req { dst_id: 0, item_idx: kind, item_num: 1000 }
}

/// The number of the next push that has one: all of them have it in `code = 1`.
async fn next_number(client: &mut Client) -> i32 {
    loop {
        let frame = client.receive().await.unwrap();
        if matches!(frame.api.as_str(), "msg.GetMails.Res" | "msg.BindPhone.Res") {
            return msg::bind_phone::Res::decode(frame.payload.as_slice()).unwrap().code;
        }
    }
}

/// The numbers of the pushes that a client finds when it reads at last, up to the last one.
async fn numbers(client: &mut Client, last: usize) -> Vec<i32> {
    let mut numbers = Vec::new();
    while numbers.last().copied() != i32::try_from(last).ok() {
        numbers.push(next_number(client).await);
    }
    numbers
}

/// Asks for far more than all buffers on the way hold; the client does not read meanwhile.
async fn overwhelm(world: &World, deaf: &mut Client, kind: i32) -> usize {
    let mut beside = world.player().await;
    let mut pushed = 0;
    while world.meter("entity_messages_replaced_total").await
        + world.meter("entity_messages_dropped_total").await
        < 10_000.0
    {
        deaf.send(&pushes(kind)).await.unwrap();
        pushed += 1000;
        assert!(pushed < 10_000_000, "nothing is ever kept back");
        // Others are answered meanwhile.
        beside.request(&echo_of(1)).await.unwrap();
    }
    pushed
}

#[test]
fn of_what_may_be_replaced_a_slow_client_gets_the_latest_of_each_key_and_is_not_closed() {
    // An outbox that holds what comes before the player hears that its client is slow, however
    // late the threads of this machine have their turns.
    let world = World::with(&["gate.rate_frames_per_s=0", "gate.outbox_bytes_max=67108864"]);
    world.run(async {
        let mut slow = world.player().await;
        let pushed = overwhelm(&world, &mut slow, LATEST).await;
        assert_eq!(world.meter("gate_sessions_kicked_slow_total").await, 0.0);
        let numbers = numbers(&mut slow, pushed).await;
        assert!(numbers.len() < pushed, "{}", numbers.len());
        // Pushed even and odd in turn, so the latest of the other key is one less: it comes next
        // to this one, on either side.
        let before = numbers.len() - 2;
        let other = match numbers[before] {
            number if number == numbers[before + 1] - 1 => number,
            _ => next_number(&mut slow).await,
        };
        assert_eq!(other, i32::try_from(pushed).unwrap() - 1);
    });
}

#[test]
fn of_what_may_be_dropped_a_slow_client_gets_some_in_order_and_the_last() {
    // An outbox that holds what comes before the player hears that its client is slow, however
    // late the threads of this machine have their turns.
    let world = World::with(&["gate.rate_frames_per_s=0", "gate.outbox_bytes_max=67108864"]);
    world.run(async {
        let mut slow = world.player().await;
        let pushed = overwhelm(&world, &mut slow, DROPPABLE).await;
        assert_eq!(world.meter("gate_sessions_kicked_slow_total").await, 0.0);
        let numbers = numbers(&mut slow, pushed).await;
        assert!(numbers.len() < pushed && numbers.is_sorted(), "{}", numbers.len());
    });
}

#[test]
fn what_is_reliable_closes_a_slow_client_all_the_same() {
    let world = World::with(&["gate.rate_frames_per_s=0", "gate.outbox_bytes_max=131072"]);
    world.run(async {
        let mut slow = world.player().await;
        until("the slow one is kicked", async || {
            let sent = slow.send(&pushes(0)).await;
            assert!(matches!(sent, Ok(()) | Err(ClientError::Io(_))), "{sent:?}");
            world.meter("gate_sessions_kicked_slow_total").await == 1.0
        })
        .await;
    });
}
