//! Handshakes that stop half-way, packets that are none, and QUIC clients that break off: nobody
//! else notices.

use std::time::Duration;

use bastide::{client::Client, msg};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpStream, UdpSocket},
    time::{sleep, timeout},
};

use crate::{
    hostile::{COUNT, echoes, frame, read_off, resume_of},
    transports::quic,
    world::{World, echo_of, told, until},
};

#[test]
fn web_sockets_that_stop_half_way_keep_nobody_out() {
    let world = World::with(&["gate.sign_in_timeout=2s"]);
    world.run(async {
        let upgrade =
            "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        let whole = format!(
            "{upgrade}Sec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let garbage = [whole.as_bytes(), &[0xff; 1000]].concat();
        let large = [upgrade.as_bytes(), b"X: ", &[b'x'; 100_000]].concat();
        let kinds: [&[u8]; 6] =
            [b"", b"G", upgrade.as_bytes(), b"\xff\xff\xff\xff", &garbage, &large];
        let mut half = Vec::new();
        for n in 0..120 {
            let mut socket = TcpStream::connect(world.ws()).await.unwrap();
            // It may be closed while it still speaks.
            let _sent = socket.write_all(kinds[n % kinds.len()]).await;
            half.push(socket);
        }
        let mut good = world.player().await;
        echoes(&mut good).await;
        for socket in &mut half {
            timeout(Duration::from_secs(20), read_off(socket)).await.expect("the gate closes");
        }
        echoes(&mut good).await;
    });
}

#[test]
fn packets_that_are_no_quic_leave_the_gate_as_it_was() {
    let world = World::alone(&[]);
    world.run(async {
        let mut good = world.player().await;
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(world.quic()).await.unwrap();
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for n in 0..3000_usize {
            let length = [0, 1, 20, 1200, 1472, 60_000][n % 6];
            let mut packet: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            if length >= 20 {
                // First packets by their header: of this version, of none, and short ones.
                let header: [&[u8]; 3] =
                    [b"\xc3\0\0\0\x01\x08", b"\xc3\xfa\xce\xb0\x0c\x08", b"\x40"];
                let header = header[n % 3];
                packet[..header.len()].copy_from_slice(header);
            }
            // The system may have no room for it: that is the client's loss.
            let _sent = socket.send(&packet).await;
        }
        echoes(&mut good).await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(world.meter("gate_connections_quic_total").await, 0.0);
        world.counts("gate_connections", 1.0).await;
    });
}

/// Half a frame and then: the stream is reset, the answers are refused, the connection is closed,
/// or nothing is heard of it any more.
#[test]
fn quic_clients_that_break_off_within_a_frame_end_and_their_sessions_can_be_resumed() {
    let world = World::alone(&[]);
    world.run(async {
        let mut good = world.player().await;
        let token = world.token("breaks-off").await;
        let login = msg::login::Req { token, ..Default::default() };
        for how in 0..4 {
            let (endpoint, connection) =
                quic(world.quic(), &world.certificate(), &["bastide"]).await;
            let connection = connection.unwrap();
            let (send, receive) = connection.open_bi().await.unwrap();
            let mut client = Client::over(tokio::io::join(receive, send));
            let welcome = client.request(&login).await.unwrap();
            client.send_bytes(b"\x10\0\x0c\0msg.Ec").await.unwrap();
            match how {
                0 => drop(client),
                1 => connection.close(77_u32.into(), &[b'x'; 500]),
                2 => endpoint.close(0_u32.into(), b""),
                _ => {
                    // A second stream, and one in one direction, are never granted.
                    let granted = Duration::from_millis(100);
                    assert!(timeout(granted, connection.open_bi()).await.is_err());
                    assert!(timeout(granted, connection.open_uni()).await.is_err());
                    drop(client);
                }
            }
            let mut back = world.connect().await;
            let resume = resume_of(&welcome.resume_token.unwrap(), 0);
            assert_eq!(back.request(&resume).await.unwrap().code, 0, "{how}");
        }
        until("only who is good is left", async || world.meter("gate_connections").await == 1.0)
            .await;
        echoes(&mut good).await;
    });
}

#[test]
fn datagrams_that_are_no_inputs_are_dropped_and_counted_and_the_stream_goes_on() {
    let world = World::alone(&[]);
    world.run(async {
        let (_endpoint, connection) = quic(world.quic(), &world.certificate(), &["bastide"]).await;
        let connection = connection.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        let mut client = Client::over(tokio::io::join(receive, send));
        client.sign_in(&world.token("datagrams").await).await.unwrap();
        assert_eq!(client.receive().await.unwrap().api, "msg.GetItems.Res");
        let most = connection.max_datagram_size().unwrap();
        let (ask, login) = (frame(&COUNT), frame(&msg::login::Req::default()));
        let bad: [&[u8]; 7] = [
            b"",
            b"\x02\0",
            b"\xff\xff\x0c\0msg.Echo.Req",
            &vec![0xff; most],
            &ask,
            &login,
            &[&ask[..], &ask].concat(),
        ];
        for _ in 0..4 {
            for datagram in bad {
                connection.send_datagram(datagram.to_vec().into()).unwrap();
            }
            // Behind them, so that few are lost on the way.
            client.request(&echo_of(1)).await.unwrap();
        }
        assert!(connection.send_datagram(vec![0; most + 1].into()).is_err());
        until("they are counted", async || {
            world.meter("gate_datagrams_dropped_total").await >= 7.0
        })
        .await;
        assert_eq!(told(&client.request(&COUNT).await.unwrap()), 1, "nothing was done");
    });
}
