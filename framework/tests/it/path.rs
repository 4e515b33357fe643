//! The way of a message, there and back.

use bastide::{Code, client::ClientError, msg};
use prost::Message;

use crate::world::{World, code, echo_of, error, panicking, slow_of, told};

#[test]
fn a_guest_signs_in_and_is_answered() {
    let world = World::new();
    world.run(async {
        let mut client = world.connect().await;
        let session = client.sign_in(&world.token("a").await).await.unwrap();
        assert!(session.session_id.unwrap().starts_with("session_"));
        let user = session.user.unwrap();
        assert_eq!(user.name.unwrap(), format!("guest-{}", user.account));
        assert!(session.server_time_ms.unwrap() > 1_700_000_000_000);
        let answer = client.request(&echo_of(7)).await.unwrap();
        assert_eq!((answer.val, answer.ct), (Some(7), None));
    });
}

#[test]
fn what_is_pushed_at_sign_in_comes_right_behind_its_answer() {
    let world = World::new();
    world.run(async {
        let mut client = world.connect().await;
        let token = world.token("a").await;
        client.send(&msg::login::Req { token, ..Default::default() }).await.unwrap();
        assert_eq!(client.receive().await.unwrap().api, "msg.Login.Res");
        assert_eq!(client.receive().await.unwrap().api, "msg.GetItems.Res");
    });
}

#[test]
fn the_bytes_of_the_contract_get_the_bytes_of_the_contract() {
    let world = World::new();
    world.run(async {
        let mut client = world.player().await;
        client.send_bytes(b"\x10\0\x0c\0msg.Echo.Req\x08\x07").await.unwrap();
        let answer = client.receive().await.unwrap();
        assert_eq!((answer.api.as_str(), &answer.payload[..]), ("msg.Echo.Res", &[8, 7][..]));
    });
}

/// A slow request is followed by quick ones, by one that nobody handles and by a ping, all in one
/// write: whoever answers first, the client sees the order of its requests.
#[test]
fn answers_come_in_the_order_of_the_requests_whoever_gives_them() {
    let world = World::new();
    world.run(async {
        let mut client = world.player().await;
        let mut bytes = Vec::new();
        bastide::wire::put_message(&mut bytes, &slow_of(50)).unwrap();
        for val in 0..20 {
            bastide::wire::put_message(&mut bytes, &echo_of(val)).unwrap();
        }
        bastide::wire::put(&mut bytes, "no.Such.Req", b"").unwrap();
        bastide::wire::put_message(&mut bytes, &msg::ping::Req { ct: 5, received: 0 }).unwrap();
        client.send_bytes(&bytes).await.unwrap();

        assert_eq!(client.receive().await.unwrap().api, "msg.GetRank.Res");
        for val in 0..20 {
            let answer = client.receive().await.unwrap();
            let echo = msg::echo::Res::decode(answer.payload.as_slice()).unwrap();
            assert_eq!(echo.val, Some(val));
        }
        let unknown = client.receive().await.unwrap();
        assert_eq!(error(&unknown), (1004, "no.Such.Req".to_owned()));
        assert_eq!(client.receive().await.unwrap().api, "msg.Ping.Res");
    });
}

#[test]
fn pushes_of_a_handler_come_before_its_answer() {
    let world = World::new();
    world.run(async {
        let mut client = world.player().await;
        let gift = msg::gift_items::Req { dst_id: 0, item_idx: 0, item_num: 3 };
        client.request(&gift).await.unwrap();
        let pushed: Vec<_> = std::iter::from_fn(|| client.push()).map(|p| p.api).collect();
        assert_eq!(pushed, ["msg.GetItems.Res"; 3]);
    });
}

#[test]
fn a_ping_is_answered_before_sign_in_and_everything_else_is_not() {
    let world = World::new();
    world.run(async {
        let mut client = world.connect().await;
        let pong = client.request(&msg::ping::Req { ct: 42, received: 0 }).await.unwrap();
        assert!(pong.ct == 42 && pong.st > 1_700_000_000_000);
        assert_eq!(code(client.request(&echo_of(1)).await), Code::NOT_SIGNED_IN);
        assert_eq!(
            code(client.request(&msg::logout::Req { account: 1 }).await),
            Code::NOT_SIGNED_IN
        );
        client.sign_in(&world.token("a").await).await.unwrap();
    });
}

#[test]
fn a_bad_token_is_refused_and_the_connection_may_try_again() {
    let world = World::new();
    world.run(async {
        let mut client = world.connect().await;
        for bad in ["", "x", "a.b.c", &"x".repeat(3000)] {
            assert_eq!(code(client.sign_in(bad).await), Code::TOKEN_INVALID, "{bad}");
        }
        let resumed = client.request(&msg::resume::Req::default()).await.unwrap();
        assert_eq!(resumed.code, Code::RESUME_REFUSED.0);
        client.sign_in(&world.token("a").await).await.unwrap();
    });
}

#[test]
fn every_way_to_fail_is_answered_with_its_code_and_the_player_goes_on() {
    let world = World::new();
    world.run(async {
        let mut client = world.player().await;
        assert_eq!(code(client.request(&panicking()).await), Code::INTERNAL);
        assert_eq!(code(client.request(&msg::get_user::Req { id: 3 }).await), Code(10_007));
        assert_eq!(code(client.request(&msg::get_mails::Req::default()).await), Code::INTERNAL);
        client.send_bytes(b"\x0f\0\x0c\0msg.Echo.Req\x08").await.unwrap();
        assert_eq!(error(&client.receive().await.unwrap()), (1005, "msg.Echo.Req".to_owned()));
        assert_eq!(told(&client.request(&msg::get_items::Req::default()).await.unwrap()), 1);
        world.counts("entity_handler_panics_total", 1.0).await;
    });
}

#[test]
fn a_handler_past_its_deadline_is_answered_1003_and_the_next_one_runs() {
    let world = World::with(&["game.request_timeout=100ms"]);
    world.run(async {
        let mut client = world.player().await;
        assert_eq!(code(client.request(&slow_of(60_000)).await), Code::DEADLINE);
        client.request(&echo_of(1)).await.unwrap();
    });
}

/// Both come in one packet: the second is too late by the time the first has been given up.
#[test]
fn what_is_too_late_by_the_time_it_is_its_turn_is_not_begun() {
    let world = World::with(&["game.request_timeout=100ms"]);
    world.run(async {
        let mut client = world.player().await;
        let mut bytes = Vec::new();
        bastide::wire::put_message(&mut bytes, &slow_of(60_000)).unwrap();
        bastide::wire::put_message(&mut bytes, &msg::get_items::Req::default()).unwrap();
        client.send_bytes(&bytes).await.unwrap();
        for api in ["msg.GetRank.Req", "msg.GetItems.Req"] {
            assert_eq!(error(&client.receive().await.unwrap()), (1003, api.to_owned()));
        }
        assert_eq!(told(&client.request(&msg::get_items::Req::default()).await.unwrap()), 1);
    });
}

#[test]
fn signing_in_twice_on_one_connection_is_a_protocol_error() {
    let world = World::new();
    world.run(async {
        let token = world.token("twice").await;
        let mut client = world.connect().await;
        client.sign_in(&token).await.unwrap();
        client.receive().await.unwrap();
        assert_eq!(code(client.sign_in(&token).await), Code::PROTOCOL);
        assert!(matches!(client.receive().await, Err(ClientError::Closed | ClientError::Io(_))));
    });
}

#[test]
fn a_slow_player_delays_nobody_else() {
    let world = World::new();
    world.run(async {
        let (mut slow, mut quick) = (world.player().await, world.player().await);
        slow.send(&slow_of(4000)).await.unwrap();
        for val in 0..100 {
            quick.request(&echo_of(val)).await.unwrap();
        }
        let answered = tokio::time::timeout(std::time::Duration::ZERO, slow.receive()).await;
        assert!(answered.is_err(), "a hundred answers came before the slow one");
    });
}

#[test]
fn a_client_that_closes_its_sending_side_still_gets_its_answers() {
    let world = World::new();
    world.run(async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let token = world.token("half").await;
        let mut bytes = Vec::new();
        let login = msg::login::Req { token, ..Default::default() };
        bastide::wire::put_message(&mut bytes, &login).unwrap();
        bastide::wire::put_message(&mut bytes, &slow_of(50)).unwrap();
        let mut socket = tokio::net::TcpStream::connect(world.gate()).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answers = Vec::new();
        socket.read_to_end(&mut answers).await.unwrap();
        let text = String::from_utf8_lossy(&answers);
        assert!(text.contains("msg.Login.Res") && text.contains("msg.GetRank.Res"), "{text}");
    });
}

#[test]
fn logging_out_is_answered_after_what_was_asked_before_and_closes() {
    let world = World::new();
    world.run(async {
        let mut client = world.player().await;
        client.send(&slow_of(50)).await.unwrap();
        client.send(&msg::logout::Req { account: 1 }).await.unwrap();
        client.send(&echo_of(1)).await.unwrap();
        assert_eq!(client.receive().await.unwrap().api, "msg.GetRank.Res");
        assert_eq!(client.receive().await.unwrap().api, "msg.Logout.Res");
        assert!(matches!(client.receive().await, Err(ClientError::Closed | ClientError::Io(_))));
    });
}
