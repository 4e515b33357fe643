//! Owns what this repository's benchmarks need to see of the inside. Not for studios.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::runtime::Handle;

use crate::{
    App, Ctx, Player, Refusal, Room, RoomKind,
    account::{Subject, TokenIssuer, TokenVerifier, new_signing_key},
    ask::{Asker, Calls},
    chance::Chance,
    clock::Clock,
    directory::{Claim, Directory, NodeInfo, Role},
    entity::{EntityId, Table, World},
    link::Mark,
    proto::link::{Asking, RoomRecord, enter, open_room},
    room::{AnyRoomKind, Book, CenterGround, RoomCenter},
    store::{Cache, Redis, Store},
    tasks::Tasks,
    wire::{Cut, FRAME_BYTES_MAX, cut},
};

/// Runs handlers on a state, without a mailbox or a session around them.
#[derive(Debug)]
pub struct Dispatcher<P> {
    table: Table<P>,
    state: P,
    ctx: Ctx,
}

impl<P: Player> Dispatcher<P> {
    /// A dispatcher with the handlers of a game.
    pub fn new(game: App<P>, state: P) -> Self {
        let world = World {
            clock: Clock::system(),
            store: Store::memory(),
            in_transit: None,
            chance: Chance::from_os(),
            tasks: Tasks::default(),
        };
        let id = EntityId { kind: "player", key: "1".into() };
        Self { table: game.into_table(), state, ctx: Ctx::alone(id, Claim { epoch: 1 }, world) }
    }

    /// Looks up, decodes, handles and encodes each frame; says how many were answered.
    pub fn dispatch(&mut self, frames: &[u8]) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut rest, mut answered) = (frames, 0);
        while let Ok(Cut::Frame(frame)) = cut(rest, FRAME_BYTES_MAX) {
            let call = self.table.call(
                frame.api,
                &mut self.state,
                Mark::Request,
                frame.payload,
                &self.ctx,
            );
            if let Some(call) = call
                && pin!(call).as_mut().poll(&mut cx) == Poll::Ready(Ok(()))
            {
                answered += 1;
            }
            rest = &rest[frame.bytes.len()..];
        }
        self.ctx.flush();
        answered
    }
}

/// What a gate does to know whose an access token is.
#[derive(Debug)]
pub struct TokenCheck {
    verifier: TokenVerifier,
    token: String,
    now_ms: i64,
}

impl TokenCheck {
    /// With a key and a token of its own.
    ///
    /// # Panics
    /// When the system has no source of randomness.
    #[expect(clippy::new_without_default, reason = "nothing about it is a default")]
    pub fn new() -> Self {
        let ttl = Duration::from_secs(7200);
        let issuer = TokenIssuer::new(&new_signing_key(), "bench", ttl).expect("a fresh key");
        let now_ms = Clock::system().now_ms();
        let openid = "0123456789abcdef0123456789abcdef";
        let subject = Subject { account_id: 10_001, openid, ..Subject::default() };
        let token = issuer.issue(&subject, now_ms).0;
        Self { verifier: TokenVerifier::new(&[issuer.jwk()], "bench"), token, now_ms }
    }

    /// Checks it; whether it is good.
    pub fn check(&self) -> bool {
        self.verifier.verify(&self.token, self.now_ms).is_ok()
    }
}

/// A room center on a Redis, and a game server beside it that does nothing but tell of the rooms
/// it was asked to open.
#[derive(Debug)]
pub struct Allocator(RoomCenter);

/// Which room somebody asks for.
#[derive(Clone, Debug)]
pub enum Wish {
    /// Any with space.
    Any,
    /// This one.
    Certain(String),
    /// One of its own.
    Private,
}

impl Allocator {
    /// Of a cluster of its own, with rooms of so many seats. Within a runtime.
    ///
    /// # Panics
    /// When that is no address.
    pub fn new<R: Room>(redis: &str, cluster: &str, kind: RoomKind<R>) -> Self {
        let redis = Redis::open(redis, cluster, Handle::current()).expect("an address");
        let (cache, directory) = (Cache::redis(redis), Directory::alone("bench", 1));
        directory.register(NodeInfo {
            id: "bench".into(),
            roles: [Role::Game, Role::Gate, Role::Rooms].into(),
            gate: Some("127.0.0.1:3017".into()),
            incarnation: 1,
            ..NodeInfo::default()
        });
        let (asker, tasks, clock) = (Asker::default(), Tasks::default(), Clock::system());
        let capacity = AnyRoomKind::capacity(&kind);
        let opens = (Book::new(cache.clone(), clock.clone()), tasks.clone(), capacity);
        asker.start(Role::Game, Calls::default().on(&opens, open), &tasks);
        let chance = Chance::from_os();
        let ground = CenterGround { cache, clock, chance, directory, asker, tasks };
        Self(RoomCenter::new(&[std::sync::Arc::new(kind)], ground))
    }

    /// A seat and a ticket; the room's id.
    ///
    /// # Errors
    /// The center's.
    pub async fn enter(&self, account: i64, kind: &str, wish: Wish) -> Result<String, Refusal> {
        let who = Asking { account, openid: format!("openid-{account}"), sid: "bench".into() };
        let mut ask = enter::Req { who: Some(who), kind: kind.into(), ..enter::Req::default() };
        ask.request_id = format!("{account}");
        match wish {
            Wish::Any => {}
            Wish::Certain(id) => ask.room_id = id,
            Wish::Private => drop(ask.options.insert("private".into(), "1".into())),
        }
        self.0.clone().enter(ask).await.map(|entered| entered.room_id)
    }
}

/// As a room does, it tells of itself a little later.
async fn open(
    (book, tasks, capacity): (Book, Tasks, u32),
    request: open_room::Req,
) -> Result<open_room::Res, Refusal> {
    let open_room::Req { kind, room_id, options, again: _ } = request;
    let private = options.contains_key("private");
    let (node, incarnation) = ("bench".to_owned(), 1);
    let room = RoomRecord {
        room_id,
        kind,
        node,
        incarnation,
        capacity,
        private,
        options,
        ..RoomRecord::default()
    };
    tasks.spawn(async move { book.report(room).await });
    Ok(open_room::Res {})
}
