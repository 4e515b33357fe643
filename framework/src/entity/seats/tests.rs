//! What a player hears of what it waits for, on a clock of its own.

use std::sync::Mutex;

use prost::Message as _;

use super::*;
use crate::{
    LoadError, Named as _, Player, Room, RoomCtx, RoomKind,
    ask::Calls,
    chance::Chance,
    clock::Clock,
    config,
    directory::{Directory, Role},
    entity::{Classes, Kind, Kinds, RoomSide, Table, World},
    limits::WISH_MAX,
    link::{Account, Arrival, Frames, SessionEnd, SessionPort},
    proto::link::seek_match,
    store::Store,
    tasks::Tasks,
    telemetry::Meters,
};

struct Nobody;

impl Player for Nobody {
    fn load(_: &Account, _: Option<&[u8]>, _: i64) -> Result<Self, LoadError> {
        Ok(Self)
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }
}

struct Hall;

impl Room for Hall {
    fn open(_: &mut RoomCtx) -> Result<Self, Refusal> {
        Ok(Self)
    }
}

/// What the client of a player hears.
#[derive(Debug, Default)]
struct Ear(Mutex<Vec<(String, Vec<u8>)>>);

impl SessionEnd for Ear {
    fn deliver(&self, frames: Frames<'_>) {
        let heard = frames.map(|(_, frame)| (frame.api.to_string(), frame.payload.to_vec()));
        self.0.lock().unwrap().extend(heard);
    }

    fn kick(&self, code: Code, reason: &str) {
        panic!("{code}: {reason}");
    }

    fn leaving(&self) {}
    fn give_back(&self, _: Frames<'_>) {}
    fn detached(&self) {}
}

impl Ear {
    fn hears(&self) -> Option<(String, Vec<u8>)> {
        let mut heard = self.0.lock().unwrap();
        (!heard.is_empty()).then(|| heard.remove(0))
    }
}

/// A room center that finds nobody to play with, and notes whom it forgets.
#[derive(Clone, Default)]
struct Lonely(Arc<Mutex<Vec<bool>>>);

impl Lonely {
    async fn seek(self, request: seek_match::Req) -> Result<seek_match::Res, Refusal> {
        self.0.lock().unwrap().push(request.cancel);
        Ok(seek_match::Res {})
    }
}

fn host(center: &Lonely, tasks: &Tasks) -> Arc<Host> {
    let side = RoomSide::alone();
    side.asker.start(Role::Rooms, Calls::default().on(center, Lonely::seek), tasks);
    let rooms: Vec<Arc<dyn AnyRoomKind>> = vec![Arc::new(RoomKind::<Hall>::new("hall"))];
    let player = Kind::<Nobody>::player(Table::new(), Classes::default()).with_rooms(&rooms);
    let world = World {
        clock: Clock::fixed(0),
        store: Store::memory(),
        in_transit: None,
        chance: Chance::from_os(),
        tasks: tasks.clone(),
    };
    let kinds = Kinds { player: Arc::new(player), rooms, side };
    let (game, sessions) = (config::Game::default(), config::Session::default());
    Host::new(kinds, Directory::alone("game", 1), world, game, sessions, Meters::new().entity)
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_for_a_match_long_enough_is_told_so() {
    let (center, tasks, ear) = (Lonely::default(), Tasks::default(), Arc::new(Ear::default()));
    let host = host(&center, &tasks);
    let connection = ConnectionId(1);
    let arrival = Arrival {
        connection,
        account: 7,
        port: SessionPort::Local(ear.clone()),
        entry: Entry::SignIn { openid: "o".into(), sid: "s".into() },
        datagram_bytes_max: 0,
    };
    let (player, _) = host.attach(arrival).await.unwrap();
    let mut asks = Batch::default();
    let wish = msg::match_room::Req { kind: "hall".into(), ..Default::default() };
    asks.push_message(Mark::Request, &wish).unwrap();
    let now = Instant::now();
    EntityPort::Local(player).forward(connection, now, now + WISH_MAX, &mut asks).unwrap();
    sleep(WISH_MAX - Duration::from_secs(1)).await;
    assert_eq!(ear.hears().unwrap().0, msg::match_room::Res::NAME);
    assert_eq!(ear.hears(), None);
    sleep(Duration::from_secs(10)).await;
    let (api, payload) = ear.hears().expect("it waits no more");
    assert_eq!(api, msg::Matched::NAME);
    let told = msg::Matched::decode(payload.as_slice()).unwrap();
    assert_eq!((told.kind.as_str(), told.code), ("hall", Code::DEADLINE.0));
    let last = center.0.lock().unwrap().last().copied();
    assert_eq!(last, Some(true), "the room center knows");
    tasks.stop();
}
