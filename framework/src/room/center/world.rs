//! Owns what room centers are tested in: caches, game servers that run what they are asked to, and
//! a way to die.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    task::Poll,
};

use tokio::{runtime::Handle, sync::Semaphore};

use super::*;
use crate::{
    directory::NodeInfo,
    msg,
    proto::link::{enter, open_room, tell},
    room::{Room, RoomCtx, RoomKind, book::List},
    store::Redis,
    wire::{Cut, FRAME_BYTES_MAX, cut},
};

/// Centers, caches and game servers of one cluster. A clone is a handle to the same.
#[derive(Clone)]
pub(super) struct World {
    pub(super) ground: CenterGround,
    pub(super) servers: Arc<Mutex<Servers>>,
}

/// All game servers: a claim would let one of them run a room.
#[derive(Default)]
pub(super) struct Servers {
    /// By room, whether it was opened again.
    pub(super) runs: BTreeMap<String, bool>,
    /// What they answer first.
    pub(super) refusals: VecDeque<Code>,
    pub(super) told: Vec<(i64, msg::Matched)>,
}

struct Nothing;

impl Room for Nothing {
    fn open(_: &mut RoomCtx) -> Result<Self, Refusal> {
        Ok(Self)
    }
}

pub(super) const ME: &str = "a";

impl World {
    pub(super) fn new(cache: Cache) -> Self {
        let directory = Directory::alone(ME, 1);
        let roles = [Role::Game, Role::Gate, Role::Rooms].into();
        let gate = Some("1.2.3.4:3017".to_owned());
        directory.register(NodeInfo {
            id: ME.into(),
            roles,
            gate,
            incarnation: 1,
            ..NodeInfo::default()
        });
        let (asker, tasks) = (Asker::default(), Tasks::default());
        let (clock, chance) = (Clock::fixed(1_000_000), Chance::from_os());
        let ground = CenterGround { cache, clock, chance, directory, asker, tasks };
        let world = Self { ground, servers: Arc::default() };
        let calls = Calls::default().on(&world, Self::open).on(&world, Self::hear);
        world.ground.asker.start(Role::Game, calls, &world.ground.tasks);
        world
    }

    pub(super) fn in_steps() -> Self {
        Self::new(Cache::in_steps())
    }

    pub(super) fn both() -> [Self; 2] {
        let url = bastide_testkit::shared().redis.url();
        let redis = Redis::open(&url, &bastide_testkit::cluster_name(), Handle::current()).unwrap();
        [Cache::in_steps(), Cache::redis(redis)].map(Self::new)
    }

    /// One of several centers.
    pub(super) fn center(&self) -> RoomCenter {
        let arena = RoomKind::<Nothing>::new("arena").capacity(4).match_size(3);
        let saved = RoomKind::<Nothing>::new("saved").snapshots(std::time::Duration::from_secs(1));
        RoomCenter::new(&[Arc::new(arena), Arc::new(saved)], self.ground.clone())
    }

    pub(super) fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap()
    }

    pub(super) fn book(&self) -> Book {
        Book::new(self.ground.cache.clone(), self.ground.clock.clone())
    }

    pub(super) fn tickets(&self) -> Tickets {
        let CenterGround { cache, chance, clock, .. } = self.ground.clone();
        Tickets::new(cache, chance, clock)
    }

    pub(super) fn pass(&self, span: std::time::Duration) {
        let clock = &self.ground.clock;
        clock.set(clock.now_ms() + super::super::book::ms(span));
    }

    /// Every record that there is.
    pub(super) async fn rooms(&self) -> Vec<RoomRecord> {
        let listed = self.book().list(List::All, 0, 100).await.unwrap();
        listed.into_iter().filter_map(|listed| listed.seen.record).collect()
    }

    /// One look of a reaper, and what comes of it.
    pub(super) async fn sweep(&self, center: &RoomCenter) -> bool {
        center.sweep(false, &Arc::new(Semaphore::new(8))).await.unwrap()
    }

    async fn open(self, request: open_room::Req) -> Result<open_room::Res, Refusal> {
        let open_room::Req { kind, room_id, options, again } = request;
        {
            let mut servers = self.servers();
            if let Some(code) = servers.refusals.pop_front() {
                return Err(code.into());
            }
            servers.runs.entry(room_id.clone()).or_insert(again);
        }
        let saved = kind == "saved";
        let node = ME.to_owned();
        let private = wants_private(&options);
        let room = RoomRecord {
            room_id,
            kind,
            node,
            incarnation: 1,
            capacity: 4,
            private,
            options,
            saved,
            ..RoomRecord::default()
        };
        self.book().report(room).await.map_err(away)?;
        Ok(open_room::Res {})
    }

    async fn hear(self, request: tell::Req) -> Result<tell::Res, Refusal> {
        let Ok(Cut::Frame(frame)) = cut(&request.frame, FRAME_BYTES_MAX) else {
            return Err(Code::PROTOCOL.into());
        };
        let matched = prost::Message::decode(frame.payload).unwrap();
        self.servers().told.push((request.account, matched));
        Ok(tell::Res { told: true })
    }
}

pub(super) fn asking(account: i64) -> Asking {
    Asking { account, openid: format!("o{account}"), sid: "s".into() }
}

/// Of account 1 a request for any arena.
pub(super) fn any(account: i64, request_id: &str) -> enter::Req {
    enter::Req {
        who: Some(asking(account)),
        kind: "arena".into(),
        request_id: request_id.into(),
        ..enter::Req::default()
    }
}

pub(super) fn private(request: enter::Req) -> enter::Req {
    enter::Req { options: [("private".into(), "1".into())].into(), ..request }
}

/// What a future does in so many steps; `None`: it died before its end.
pub(super) async fn in_steps<F: Future>(steps: usize, future: F) -> Option<F::Output> {
    let (mut future, mut left) = (pin!(future), steps);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Lets everything happen that can without time passing.
pub(super) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
