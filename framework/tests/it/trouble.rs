//! Hostile, broken and slow clients: each hurts itself only.

use std::time::Duration;

use bastide::{
    Code,
    client::{Client, ClientError},
    msg,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::world::{World, echo_of, error, slow_of, until};

/// What a raw connection gets for `bytes`, up to its end.
async fn told(world: &World, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(world.gate()).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(5), socket.read_to_end(&mut answer)).await;
    read.expect("the gate closes").unwrap();
    answer
}

fn error_code(answer: &[u8]) -> i32 {
    let api = b"msg.Error.Res";
    assert_eq!(&answer[4..4 + api.len()], api, "{answer:?}");
    let error: msg::error::Res = prost::Message::decode(&answer[4 + api.len()..]).unwrap();
    error.code
}

#[test]
fn bytes_that_are_no_frame_get_1009_and_the_connection_is_closed() {
    let world = World::new();
    world.run(async {
        for bad in [
            &b"\x02\0"[..],
            b"\0\0",
            b"\x09\0\0\0",
            b"\x09\0\x08\0",
            b"\xff\0\x81\0",
            b"\x09\0\x07\0a ",
            b"\x09\0\x07\0\xff",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ] {
            let code = error_code(&told(&world, bad).await);
            let expected = if bad.starts_with(b"G") { 1008 } else { 1009 };
            assert!(code == expected || (bad[0] == 0x16 && code == 1009), "{bad:?}: {code}");
        }
        world.player().await.request(&echo_of(1)).await.unwrap();
    });
}

#[test]
fn what_was_asked_before_the_garbage_is_answered_before_the_goodbye() {
    let world = World::new();
    world.run(async {
        let mut client = world.player().await;
        let mut bytes = Vec::new();
        bastide::wire::put_message(&mut bytes, &slow_of(50)).unwrap();
        for val in 0..20 {
            bastide::wire::put_message(&mut bytes, &echo_of(val)).unwrap();
        }
        bytes.extend_from_slice(b"\x02\0");
        client.send_bytes(&bytes).await.unwrap();
        assert_eq!(client.receive().await.unwrap().api, "msg.GetRank.Res");
        for _ in 0..20 {
            assert_eq!(client.receive().await.unwrap().api, "msg.Echo.Res");
        }
        assert_eq!(error(&client.receive().await.unwrap()), (1009, String::new()));
        assert!(matches!(client.receive().await, Err(ClientError::Closed | ClientError::Io(_))));
    });
}

#[test]
fn a_flood_is_answered_up_to_where_it_is_cut_off() {
    let world = World::new();
    world.run(async {
        let mut client = world.player().await;
        let mut frame = Vec::new();
        bastide::wire::put_message(&mut frame, &echo_of(1)).unwrap();
        client.send_bytes(&frame.repeat(2500)).await.unwrap();
        let mut answers = [0, 0];
        while let Ok(answer) = client.receive().await {
            answers[usize::from(answer.api != "msg.Echo.Res")] += 1;
        }
        // The sign-in took one of the burst, and time has gone on a little.
        assert!((199..300).contains(&answers[0]), "{answers:?}");
        assert!((1700..2300).contains(&answers[1]), "{answers:?}");
    });
}

#[test]
fn a_deaf_client_is_kicked_too_when_the_gate_itself_answers_it() {
    let world = World::with(&["gate.rate_frames_per_s=0", "gate.outbox_bytes_max=131072"]);
    world.run(async {
        let mut deaf = world.player().await;
        let mut unknown = Vec::new();
        bastide::wire::put(&mut unknown, &format!("no.{}.Req", "x".repeat(100)), b"").unwrap();
        let packet = unknown.repeat(500);
        let mut sent = 0;
        while deaf.send_bytes(&packet).await.is_ok() {
            sent += packet.len();
            assert!(sent < 100_000_000, "never kicked");
        }
        world.counts("gate_sessions_kicked_slow_total", 1.0).await;
    });
}

#[test]
fn a_payload_of_the_session_s_own_messages_that_cannot_be_decoded_is_told_so() {
    let world = World::new();
    world.run(async {
        let mut client = world.connect().await;
        for api in ["msg.Ping.Req", "msg.Resume.Req", "msg.Login.Req"] {
            let mut bytes = Vec::new();
            bastide::wire::put(&mut bytes, api, b"\xff").unwrap();
            client.send_bytes(&bytes).await.unwrap();
            assert_eq!(error(&client.receive().await.unwrap()), (1005, api.to_owned()));
        }
        let mut client = world.player().await;
        let mut bytes = Vec::new();
        bastide::wire::put(&mut bytes, "msg.Logout.Req", b"\xff").unwrap();
        client.send_bytes(&bytes).await.unwrap();
        assert_eq!(error(&client.receive().await.unwrap()).0, 1005);
        client.request(&echo_of(1)).await.unwrap();
    });
}

#[test]
fn a_frame_above_the_limit_gets_1008_before_its_body_arrives() {
    let world = World::new();
    world.run(async {
        assert_eq!(error_code(&told(&world, &4095u16.to_le_bytes()).await), 1008);
        assert_eq!(error_code(&told(&world, b"\xff\xff").await), 1008);

        // Signed in, the same size is fine.
        let mut client = world.player().await;
        let mut large = Vec::new();
        bastide::wire::put(&mut large, "no.Such.Req", &vec![0; 60_000]).unwrap();
        client.send_bytes(&large).await.unwrap();
        assert_eq!(error(&client.receive().await.unwrap()).0, 1004);
    });
}

#[test]
fn the_goodbye_arrives_although_the_client_is_still_sending() {
    let world = World::new();
    world.run(async {
        let mut garbage = b"\x02\0".to_vec();
        garbage.extend_from_slice(&[7; 200_000]);
        assert_eq!(error_code(&told(&world, &garbage).await), 1009);
    });
}

#[test]
fn a_frame_that_arrives_byte_by_byte_is_a_frame() {
    let world = World::new();
    world.run(async {
        let mut client = world.player().await;
        for byte in b"\x10\0\x0c\0msg.Echo.Req\x08\x07" {
            client.send_bytes(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(client.receive().await.unwrap().api, "msg.Echo.Res");
    });
}

#[test]
fn too_many_frames_are_refused_and_far_too_many_close() {
    let world = World::new();
    world.run(async {
        let mut client = world.player().await;
        let mut frame = Vec::new();
        bastide::wire::put_message(&mut frame, &echo_of(1)).unwrap();
        client.send_bytes(&frame.repeat(400)).await.unwrap();
        let mut counts = [0, 0];
        for _ in 0..400 {
            let answer = client.receive().await.unwrap();
            match answer.api.as_str() {
                "msg.Echo.Res" => counts[0] += 1,
                _ => {
                    assert_eq!(error(&answer), (1007, "msg.Echo.Req".to_owned()));
                    counts[1] += 1;
                }
            }
        }
        assert!(counts[0] >= 199 && counts[1] > 100, "{counts:?}");

        let mut flooding = world.player().await;
        let flood = async {
            flooding.send_bytes(&frame.repeat(4000)).await?;
            loop {
                flooding.receive().await?;
            }
        };
        let ended: Result<(), ClientError> = flood.await;
        assert!(matches!(ended, Err(ClientError::Closed | ClientError::Io(_))), "{ended:?}");
        assert!(world.meter("gate_frames_rate_limited_total").await > 100.0);
    });
}

#[test]
fn a_client_that_does_not_read_is_kicked_and_nobody_else_notices() {
    let world = World::with(&["gate.rate_frames_per_s=0", "gate.outbox_bytes_max=131072"]);
    world.run(async {
        let mut deaf = world.player().await;
        let mut fine = world.player().await;
        let gift = msg::gift_items::Req { dst_id: 0, item_idx: 0, item_num: 10_000 };
        // 10,000 pushes of some 30 bytes: the socket's own buffers take a few hundred KiB.
        until("the deaf one is kicked", async || {
            let sent = deaf.send(&gift).await;
            assert!(matches!(sent, Ok(()) | Err(ClientError::Io(_))), "{sent:?}");
            fine.request(&echo_of(1)).await.unwrap();
            world.meter("gate_sessions_kicked_slow_total").await == 1.0
        })
        .await;

        // What it had been sent before ends with a whole frame and the reason, if at all.
        let end = loop {
            match deaf.receive().await {
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        match end {
            ClientError::Kicked(refusal) => assert_eq!(refusal.code, Code::TOO_SLOW),
            ClientError::Closed | ClientError::Io(_) => {}
            other => panic!("{other:?}"),
        }
        fine.request(&echo_of(2)).await.unwrap();
    });
}

#[test]
fn an_address_gets_no_more_connections_than_its_share_and_gets_them_back() {
    let world = World::with(&["gate.connections_per_ip_max=3"]);
    world.run(async {
        // Whoever looked whether the world is there has left.
        while world.meter("gate_connections").await > 0.0 {
            tokio::task::yield_now().await;
        }
        let mut three = Vec::new();
        for _ in 0..3 {
            three.push(world.connect().await);
        }
        for client in &mut three {
            client.request(&msg::ping::Req::default()).await.unwrap();
        }
        let mut fourth = world.connect().await;
        let refused = fourth.request(&msg::ping::Req::default()).await;
        assert!(matches!(refused, Err(ClientError::Closed | ClientError::Io(_))), "{refused:?}");
        world.counts("gate_connections_refused_total", 1.0).await;

        drop(three.pop());
        let again = async {
            loop {
                let mut client: Client = world.connect().await;
                if client.request(&msg::ping::Req::default()).await.is_ok() {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(5), again).await.unwrap();
    });
}

#[test]
fn who_does_not_sign_in_or_falls_silent_is_closed() {
    closed_in_time(&World::with(&["gate.sign_in_timeout=200ms", "gate.idle_timeout=400ms"]));
    closed_in_time(&World::with(&["gate.sign_in_timeout=900ms", "gate.idle_timeout=300ms"]));
}

fn closed_in_time(world: &World) {
    world.run(async {
        let mut dribbling = TcpStream::connect(world.gate()).await.unwrap();
        dribbling.write_all(b"\x10").await.unwrap();
        let mut end = Vec::new();
        dribbling.read_to_end(&mut end).await.unwrap();
        assert!(end.is_empty());

        let mut client = world.player().await;
        assert!(matches!(client.receive().await, Err(ClientError::Closed | ClientError::Io(_))));
    });
}

#[test]
fn a_thousand_connections_of_random_bytes_leave_the_gate_as_it_was() {
    let world = World::new();
    world.run(async {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..1000 {
            let length = usize::try_from(random() % 200).unwrap();
            let bytes: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            let mut socket = TcpStream::connect(world.gate()).await.unwrap();
            // The gate may have closed already.
            if socket.write_all(&bytes).await.is_ok() {
                drop(socket);
            }
        }
        world.player().await.request(&echo_of(1)).await.unwrap();
        let gone = async {
            while world.meter("gate_connections").await > 0.0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), gone).await.unwrap();
        assert_eq!(world.meter("entity_handler_panics_total").await, 0.0);
    });
}
