//! What a studio says at the gate, and what it hears there.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bastide::{
    Arrival, CloseReason, Closed, Code, GateHooks, Refusal, Transport, client::ClientError, msg,
};

use crate::world::{World, echo_of};

const WRONG_PLATFORM: Code = Code(10_001);
const WRONG_ADDRESS: Code = Code(10_002);

/// Refuses by platform, and by address when it is told to; remembers how connections ended.
#[derive(Clone, Default)]
struct Door {
    closes: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Closed>>>,
}

impl GateHooks for Door {
    async fn admit(&self, arrival: &Arrival) -> Result<(), Refusal> {
        assert!(arrival.account > 10_000 && arrival.transport == Transport::Tcp);
        if self.closes.load(Ordering::Relaxed) && arrival.address.ip() == Ipv4Addr::LOCALHOST {
            return Err(WRONG_ADDRESS.into());
        }
        match arrival.platform.as_deref() {
            Some("toaster") => Err(WRONG_PLATFORM.because("no toasters")),
            Some("panics") => panic!("asked to"),
            Some("hangs") => std::future::pending().await,
            _ => Ok(()),
        }
    }

    fn on_close(&self, closed: &Closed) {
        self.seen.lock().unwrap().push(closed.clone());
        assert!(closed.reason != CloseReason::Left, "a panic here harms nobody");
    }
}

impl Door {
    fn take(&self, reason: CloseReason) -> Option<Closed> {
        let mut seen = self.seen.lock().unwrap();
        let at = seen.iter().position(|closed| closed.reason == reason)?;
        Some(seen.swap_remove(at))
    }

    /// The end of a connection for this reason.
    async fn closed(&self, reason: CloseReason) -> Closed {
        for _ in 0..500 {
            if let Some(closed) = self.take(reason) {
                return closed;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no connection ended like that: {:?}", self.seen.lock().unwrap())
    }
}

fn world() -> (World, Door) {
    let door = Door::default();
    let world = World::with_door(door.clone(), &["gate.idle_timeout=2s"]);
    (world, door)
}

async fn sign_in_on(world: &World, platform: &str) -> Code {
    let (token, mut client) = (world.token("a").await, world.connect().await);
    let platform = Some(platform.to_owned());
    let login = msg::login::Req { token, platform, ..Default::default() };
    Code(client.request(&login).await.unwrap().code)
}

#[test]
fn a_studio_refuses_a_platform_with_its_own_code_and_a_bug_of_it_is_code_1() {
    let (world, door) = world();
    world.run(async {
        assert_eq!(sign_in_on(&world, "toaster").await, WRONG_PLATFORM);
        assert_eq!(sign_in_on(&world, "panics").await, Code::INTERNAL);
        assert_eq!(sign_in_on(&world, "hangs").await, Code::DEADLINE);
        assert_eq!(sign_in_on(&world, "phone").await, Code::OK);
        let closed = door.closed(CloseReason::Gone).await;
        assert_eq!(closed.transport, Transport::Tcp);
    });
}

#[test]
fn a_studio_refuses_an_address_at_sign_in_and_at_resume() {
    let (world, door) = world();
    world.run(async {
        let mut client = world.connect().await;
        let session = client.sign_in(&world.token("a").await).await.unwrap();
        client.receive().await.unwrap();
        drop(client);
        let resume = async || {
            let resume_token = session.resume_token.clone().unwrap();
            let mut client = world.connect().await;
            let request = msg::resume::Req { resume_token, received: 1 };
            Code(client.request(&request).await.unwrap().code)
        };
        door.closes.store(true, Ordering::Relaxed);
        assert_eq!(sign_in_on(&world, "phone").await, WRONG_ADDRESS);
        assert_eq!(resume().await, WRONG_ADDRESS);
        door.closes.store(false, Ordering::Relaxed);
        assert_eq!(resume().await, Code::OK, "the session is still there");
    });
}

#[test]
fn a_studio_hears_why_a_connection_ended() {
    let (world, door) = world();
    world.run(async {
        let mut client = world.player_on("a").await;
        let mut other = world.player_on("a").await;
        assert!(matches!(client.receive().await, Err(ClientError::Kicked(_))));
        let closed = door.closed(CloseReason::Kicked(Code::SIGNED_IN_ELSEWHERE)).await;
        assert!(closed.account.is_some() && closed.open > Duration::ZERO);

        other.request(&msg::logout::Req { account: closed.account.unwrap() }).await.unwrap();
        assert_eq!(door.closed(CloseReason::Left).await.account, closed.account);

        let mut stranger = world.connect().await;
        stranger.send_bytes(&[0, 0, 0, 0]).await.unwrap();
        assert_eq!(door.closed(CloseReason::Refused).await.account, None);

        let mut idle = world.player_on("a").await;
        idle.request(&echo_of(1)).await.unwrap();
        assert!(door.closed(CloseReason::Idle).await.open >= Duration::from_secs(2));
    });
}
