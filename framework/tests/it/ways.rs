//! The ways of a session to its gate: it goes on over another one, from another address, and
//! believes no gate that it was not told to believe.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bastide::{
    client::{Address, Dial, Dialing, Event, Net, Options, Session, Trust},
    msg,
};
use prost::Message as _;

use crate::world::{DROPPABLE, World, echo_of, slow_of, told};

const COUNT: msg::get_items::Req = msg::get_items::Req { idx: None };

/// Takes one way after the other, each time from another address of this machine, as a phone that
/// leaves the house.
#[derive(Debug)]
struct InTurn {
    ways: Vec<Address>,
    trust: Trust,
    dialed: AtomicUsize,
}

impl Dial for InTurn {
    fn dial(&self, _: &Address) -> Dialing {
        let nth = self.dialed.fetch_add(1, Ordering::Relaxed);
        let from = [127, 0, 0, u8::try_from(2 + nth % 200).unwrap()];
        let net = Net { trust: self.trust.clone(), from: Some(from.into()) };
        net.dial(&self.ways[nth % self.ways.len()])
    }
}

fn world() -> World {
    // One process: nodes of a cluster have no certificate here.
    let encrypted = ["gate.tcp_tls=127.0.0.1:0", "gate.ws_tls=127.0.0.1:0"];
    World::alone(&[encrypted[0], encrypted[1], "gate.rate_frames_per_s=0"])
}

async fn player(world: &World, device: &str, ways: &[String]) -> Session {
    let dial = Arc::new(InTurn {
        ways: ways.iter().map(|way| Address::parse(way).unwrap()).collect(),
        trust: Trust::der(&world.certificate()).unwrap(),
        dialed: AtomicUsize::new(0),
    });
    let options = Options { dial, ..Options::default() };
    let token = world.token(device).await;
    let mut session = Session::with_token(&token, &ways[0], options).await.unwrap();
    let Event::Push(greeting) = session.next_event().await.unwrap() else { panic!() };
    assert_eq!(greeting.api, "msg.GetItems.Res");
    session
}

fn pushes(item_idx: i32, item_num: i32) -> msg::gift_items::Req {
    msg::gift_items::Req { item_idx, item_num, ..Default::default() }
}

/// The server counts, so a request that is lost or done twice shows in every answer behind it;
/// pushes tell the count, too.
#[test]
fn a_session_goes_from_each_way_to_the_next_with_requests_and_pushes_under_way() {
    const ROUNDS: usize = 15;
    let world = world();
    world.run(async {
        let (tls, quic) = (format!("tls://{}", world.tls()), format!("quic://{}", world.quic()));
        let (ws, wss) = (format!("ws://{}/ws", world.ws()), format!("wss://{}", world.wss()));
        let ways = [world.gate().to_string(), tls, quic, ws, wss];
        let mut session = player(&world, "walker", &ways).await;
        let mut count = 0;
        for round in 0..ROUNDS {
            let mut slow = session.send(&slow_of(20)).await.unwrap();
            let mut pushing = session.send(&pushes(0, 5)).await.unwrap();
            let mut counting = Vec::new();
            for nth in 0..10 {
                counting.push(session.send(&COUNT).await.unwrap());
                if nth == round % 10 {
                    session.hang_up();
                }
            }
            session.answer(&mut slow).await.unwrap();
            session.answer(&mut pushing).await.unwrap();
            let pushed = std::iter::from_fn(|| session.push())
                .map(|push| told(&msg::get_items::Res::decode(push.payload.as_slice()).unwrap()));
            assert_eq!(pushed.collect::<Vec<_>>(), [count; 5], "round {round}");
            for mut ticket in counting {
                count += 1;
                assert_eq!(told(&session.answer(&mut ticket).await.unwrap()), count);
            }
            session.ping().await.unwrap();
            let turns = std::iter::from_fn(|| session.turn()).collect::<Vec<_>>();
            assert!(matches!(turns[..], [Event::Resumed(_)]), "{turns:?}");
        }
        let each = [("tcp", 4.0), ("tcp_tls", 3.0), ("quic", 3.0), ("ws", 3.0), ("ws_tls", 3.0)];
        for (way, connections) in each {
            let counted = world.meter(&format!("gate_connections_{way}_total")).await;
            assert_eq!(counted, connections, "{way}");
        }
        session.logout().await.unwrap();
    });
}

/// The gate puts what waits into messages that are larger than the largest frame.
#[test]
fn a_client_over_web_sockets_takes_in_any_backlog_at_once_and_after_a_resume() {
    const PUSHES: i32 = 5000;
    let world = world();
    world.run(async {
        let mut session = player(&world, "backlog", &[format!("ws://{}", world.ws())]).await;
        for hangs_up in [false, true] {
            let mut pushing = session.send(&pushes(0, PUSHES)).await.unwrap();
            if hangs_up {
                session.hang_up();
            }
            let mut heard = 0;
            while heard < PUSHES {
                match session.next_event().await.unwrap() {
                    Event::Push(_) => heard += 1,
                    event => assert!(hangs_up && matches!(event, Event::Resumed(_)), "{event:?}"),
                }
            }
            session.answer(&mut pushing).await.unwrap();
            assert_eq!(session.push(), None);
        }
    });
}

/// A datagram that were counted would make the next resume miss, or be refused.
#[test]
fn what_comes_beside_the_stream_is_a_push_that_does_not_count() {
    let world = world();
    world.run(async {
        let way = format!("quic://{}", world.quic());
        let mut session = player(&world, "beside", &[way]).await;
        let mut heard = 0;
        for round in 1..=3 {
            session.request(&pushes(DROPPABLE, 10)).await.unwrap();
            session.ping().await.unwrap();
            let mut last = (round - 1) * 10;
            while let Some(push) = session.push() {
                assert_eq!(push.api, "msg.BindPhone.Res");
                let number = msg::bind_phone::Res::decode(push.payload.as_slice()).unwrap().code;
                assert!(number > last, "{number} comes behind {last}");
                last = number;
                heard += 1;
            }
            session.hang_up();
            assert_eq!(session.request(&echo_of(7)).await.unwrap().val, Some(7));
            assert!(matches!(session.turn(), Some(Event::Resumed(_))));
        }
        assert!(heard > 0, "datagrams arrive");
        assert_eq!(told(&session.request(&COUNT).await.unwrap()), 31);
    });
}

#[test]
fn a_gate_that_is_not_trusted_is_not_spoken_to() {
    let world = world();
    world.run(async {
        let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        for trust in [Trust::system(), Trust::pem(other.cert.pem().as_bytes()).unwrap()] {
            let net = Net { trust, ..Net::default() };
            for way in [format!("tls://{}", world.tls()), format!("quic://{}", world.quic())] {
                let refused: io::Error =
                    net.dial(&Address::parse(&way).unwrap()).await.unwrap_err();
                assert!(refused.to_string().contains("see Net::trust"), "{refused}");
            }
        }
        let net = Net { trust: Trust::danger_anyone(), ..Net::default() };
        for way in [format!("tls://{}", world.tls()), format!("quic://{}", world.quic())] {
            net.dial(&Address::parse(&way).unwrap()).await.unwrap();
        }
    });
}
