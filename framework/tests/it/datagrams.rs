//! What travels beside the stream of a QUIC client: messages that may be lost, and inputs. None of
//! them counts for a resume.

use std::time::Duration;

use bastide::{
    client::{Client, Push},
    msg,
};
use quinn::{Connection, TransportConfig};
use tokio::time::timeout;

use crate::{
    transports::{Quic, echoes, plays},
    websocket::{decoded, frame, frames},
    world::{DROPPABLE, LATEST, World, add_of, echo_of, error, told, until},
};

const COUNT: msg::get_items::Req = msg::get_items::Req { idx: None };

fn pushes_of(kind: i32, number: i32) -> msg::gift_items::Req {
    msg::gift_items::Req { dst_id: 0, item_idx: kind, item_num: number }
}

/// The one frame of the next datagram.
async fn datagram(connection: &Connection) -> Push {
    let next = timeout(Duration::from_secs(10), connection.read_datagram()).await;
    let mut frames = frames(&next.expect("a datagram").unwrap());
    assert_eq!(frames.len(), 1, "exactly one whole frame");
    frames.remove(0)
}

/// A client of QUIC that has signed in, its greeting read off; and what its resume needs.
async fn player(world: &World, who: &str) -> (Quic, Vec<u8>) {
    let mut quic = Quic::connect(world).await;
    let welcome = quic.client.sign_in(&world.token(who).await).await.unwrap();
    assert_eq!(quic.client.receive().await.unwrap().api, "msg.GetItems.Res");
    (quic, welcome.resume_token.unwrap())
}

/// Sends inputs beside the stream until their sum has come to so much: one may be lost.
async fn adds(quic: &mut Quic, sum: i64) -> i64 {
    let mut counted = 0;
    until("the inputs are executed", async || {
        quic.connection.send_datagram(frame(&add_of(1000)).into()).unwrap();
        counted += 1;
        told(&quic.client.request(&COUNT).await.unwrap()) - counted >= sum
    })
    .await;
    counted
}

#[test]
fn what_may_be_lost_comes_in_datagrams_and_the_rest_by_the_stream() {
    let world = World::alone(&[]);
    world.run(async {
        let (mut quic, _) = player(&world, "a").await;
        for (kind, api) in [(DROPPABLE, "msg.BindPhone.Res"), (LATEST, "msg.GetMails.Res")] {
            quic.client.send(&pushes_of(kind, 10)).await.unwrap();
            for _ in 0..10 {
                assert_eq!(datagram(&quic.connection).await.api, api);
            }
            let answer = quic.client.receive().await.unwrap();
            assert_eq!(answer.api, "msg.GiftItems.Res", "nothing else comes by the stream");
        }
        quic.client.send(&pushes_of(0, 3)).await.unwrap();
        for api in ["msg.GetItems.Res", "msg.GetItems.Res", "msg.GetItems.Res", "msg.GiftItems.Res"]
        {
            assert_eq!(quic.client.receive().await.unwrap().api, api);
        }
    });
}

#[test]
fn a_client_that_takes_no_datagrams_gets_everything_by_the_stream() {
    let world = World::alone(&[]);
    world.run(async {
        let mut transport = TransportConfig::default();
        transport.datagram_receive_buffer_size(None);
        let mut quic = Quic::connect_with(&world, transport).await;
        plays(&world, &mut quic.client, "a").await;
        quic.client.send(&pushes_of(DROPPABLE, 5)).await.unwrap();
        for number in 1..=5 {
            let push = quic.client.receive().await.unwrap();
            assert_eq!(decoded::<msg::bind_phone::Res>(&push).code, number);
        }
        assert_eq!(quic.client.receive().await.unwrap().api, "msg.GiftItems.Res");
    });
}

/// The counts of both sides, and what is said again: the frames of the stream, and no other.
#[test]
fn datagrams_are_not_counted_and_a_resume_over_tcp_goes_on_as_if_there_had_been_none() {
    let world = World::alone(&[]);
    world.run(async {
        let (mut quic, token) = player(&world, "a").await;
        let counted = adds(&mut quic, 3000).await;
        quic.client.request(&pushes_of(DROPPABLE, 10)).await.unwrap();
        for _ in 0..10 {
            assert_eq!(datagram(&quic.connection).await.api, "msg.BindPhone.Res");
        }
        // By the stream came the greeting and an answer to each request.
        let (sent, heard) =
            (u64::try_from(counted).unwrap() + 1, u64::try_from(counted).unwrap() + 2);
        let ping = msg::ping::Req { ct: 0, received: heard - 1 };
        assert_eq!(quic.client.request(&ping).await.unwrap().received, sent);
        quic.client.send(&pushes_of(DROPPABLE, 10)).await.unwrap();
        for _ in 0..10 {
            datagram(&quic.connection).await;
        }
        drop(quic);

        let mut client = world.connect().await;
        let request = msg::resume::Req { resume_token: token, received: heard - 1 };
        let answer = client.request(&request).await.unwrap();
        assert_eq!((answer.code, answer.received), (0, sent + 1));
        for _ in 0..2 {
            assert_eq!(client.receive().await.unwrap().api, "msg.GiftItems.Res");
        }
        client.send(&echo_of(3)).await.unwrap();
        assert_eq!(client.receive().await.unwrap().api, "msg.Echo.Res", "nothing comes twice");
    });
}

#[test]
fn an_input_by_stream_or_datagram_is_executed_and_tells_only_that_it_failed() {
    let world = World::alone(&[]);
    world.run(async {
        let (mut quic, _) = player(&world, "a").await;
        quic.client.send(&add_of(100)).await.unwrap();
        assert_eq!(told(&quic.client.request(&COUNT).await.unwrap()), 101);
        adds(&mut quic, 2000).await;
        quic.connection.send_datagram(frame(&add_of(-1)).into()).unwrap();
        assert_eq!(error(&datagram(&quic.connection).await), (210, "def.Item".to_owned()));
        quic.client.send(&add_of(-1)).await.unwrap();
        assert_eq!(error(&quic.client.receive().await.unwrap()), (210, "def.Item".to_owned()));
        assert!(quic.client.push().is_none());
    });
}

#[test]
fn a_datagram_that_is_no_input_is_dropped_and_counted_and_hurts_nobody() {
    let world = World::alone(&[]);
    world.run(async {
        let (mut beside, _) = player(&world, "b").await;
        let mut quic = Quic::connect(&world).await;
        let dropped = async || world.meter("gate_datagrams_dropped_total").await;
        let input = frame(&add_of(1000));
        let unknown = b"\x06\0\x04\0none".to_vec();
        let wrong = [
            frame(&echo_of(1)),
            frame(&msg::ping::Req::default()),
            frame(&msg::login::Req::default()),
            input[..input.len() - 1].to_vec(),
            [&input[..], &input].concat(),
            [&input[..], b"x"].concat(),
            unknown,
            Vec::new(),
            vec![0],
            vec![0xff; 1000],
            b"\x03\0\0\0\0".to_vec(),
        ];
        // One at a time: of many at once the system may lose some.
        let mut count = 0.0;
        // Before the stream is used, and before the sign-in, an input is none either.
        quic.client.request(&msg::ping::Req::default()).await.unwrap();
        for signed_in in [false, true] {
            for bytes in wrong.iter().chain((!signed_in).then_some(&input)) {
                quic.connection.send_datagram(bytes.clone().into()).unwrap();
                count += 1.0;
                until("it is counted", async || dropped().await == count).await;
            }
            if !signed_in {
                plays(&world, &mut quic.client, "a").await;
            }
        }
        echoes(&mut quic.client).await;
        assert_eq!(told(&quic.client.request(&COUNT).await.unwrap()), 1, "none was executed");
        assert!(quic.client.push().is_none(), "and nothing is told");
        echoes(&mut beside.client).await;
        adds(&mut quic, 1000).await;
    });
}

/// The client's socket moves to another port in the middle of everything: no resume is needed.
#[test]
fn who_moves_to_another_address_keeps_the_stream_the_datagrams_and_the_session() {
    let world = World::alone(&[]);
    world.run(async {
        let (mut quic, _) = player(&world, "a").await;
        let mut counted = 0;
        for _ in 0..3 {
            for _ in 0..5 {
                quic.client.send(&COUNT).await.unwrap();
            }
            quic.endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            for _ in 0..5 {
                counted += 1;
                let answer = quic.client.receive().await.unwrap();
                assert_eq!(told(&decoded(&answer)), counted);
            }
            quic.client.request(&pushes_of(LATEST, 1)).await.unwrap();
            counted += 1;
            let push = datagram(&quic.connection).await;
            assert_eq!(i64::from(decoded::<msg::get_mails::Res>(&push).code), counted);
        }
        world.counts("gate_connections_quic_total", 1.0).await;
    });
}

/// A client of TCP has no datagrams: what may be lost comes by the stream, and counts.
#[test]
fn over_tcp_what_may_be_lost_comes_by_the_stream() {
    let world = World::new();
    world.run(async {
        let mut client: Client = world.player().await;
        client.send(&pushes_of(DROPPABLE, 2)).await.unwrap();
        for api in ["msg.BindPhone.Res", "msg.BindPhone.Res", "msg.GiftItems.Res"] {
            assert_eq!(client.receive().await.unwrap().api, api);
        }
    });
}
