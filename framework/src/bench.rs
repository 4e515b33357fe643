//! Owns what this repository's benchmarks need to see of the inside. Not for studios.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{runtime::Handle, sync::oneshot, time::Instant};

use crate::{
    App, Code, Ctx, Named, Player, Refusal, Room, RoomKind,
    account::{Subject, TokenIssuer, TokenVerifier, new_signing_key},
    ask::{Asker, Calls},
    chance::Chance,
    clock::Clock,
    config,
    directory::{Claim, Directory, NodeInfo, Role},
    entity::{Classes, EntityId, Homes, Host, Kind, Kinds, RoomSide, Table, World, open_here},
    gate::{Outbox, Routes, Target},
    link::{
        Arrival, Batch, ConnectionId, End, Entry, Frames, Mail, Mailbox, Mark, SendError,
        SessionEnd, SessionPort,
    },
    proto::link::{Asking, RoomRecord, enter, open_room},
    room::{AnyRoomKind, Book, CenterGround, RoomCenter, Tickets},
    store::{Cache, Redis, Store},
    tasks::Tasks,
    telemetry::Meters,
    wire::{ApiName, Cut, FRAME_BYTES_MAX, cut},
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
        let id = EntityId { kind: "player", key: "1".into() };
        Self { table: game.into_table(), state, ctx: Ctx::alone(id, Claim { epoch: 1 }, world()) }
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

/// Of a node that keeps nothing.
fn world() -> World {
    World {
        clock: Clock::system(),
        store: Store::memory(),
        in_transit: None,
        chance: Chance::from_os(),
        tasks: Tasks::default(),
    }
}

/// A gate's table of names.
#[derive(Debug)]
pub struct RouteTable(Routes);

impl RouteTable {
    /// With the names that a game server announces.
    pub fn new(apis: &[&str]) -> Self {
        let apis = apis.iter().map(|&api| api.to_owned()).collect();
        Self(Routes::new().with_nodes(&[Arc::new(NodeInfo { apis, ..NodeInfo::default() })]))
    }

    /// Looks each name up; how many of them are for the player.
    pub fn find(&self, apis: &[ApiName<'_>]) -> usize {
        apis.iter().filter(|api| self.0.find(**api) == Some(Target::Player)).count()
    }
}

/// What waits to be written to one client, and what its player says each time.
#[derive(Debug)]
pub struct Outgoing {
    outbox: Outbox,
    answers: Batch,
    count: usize,
    deadline: Instant,
    writing: Vec<u8>,
}

impl Outgoing {
    /// For so many answers at a time.
    ///
    /// # Panics
    /// When an answer does not fit into a frame.
    pub fn new<M: Named>(count: usize, answer: &M) -> Self {
        let mut answers = Batch::default();
        for _ in 0..count {
            answers.push_message(Mark::Answer, answer).expect("fits");
        }
        let outbox = Outbox::new(2 * answers.bytes_len() + 1, 0);
        Self { outbox, answers, count, deadline: Instant::now(), writing: Vec::new() }
    }

    /// Awaits the answers, puts them in and takes them for writing; how many bytes there are.
    pub fn pass(&mut self) -> usize {
        self.outbox.await_answers(self.count, self.deadline);
        self.outbox.deliver(self.answers.frames());
        let taken = self.outbox.take(&mut self.writing, 0);
        debug_assert_eq!((taken.kicked, taken.in_flight), (None, 0));
        self.writing.len()
    }
}

/// An entity's mailbox, as an actor of numbers has it.
#[derive(Clone, Debug, Default)]
pub struct Post(Mailbox);

/// What was in it.
#[derive(Debug)]
pub enum Letter {
    /// A number.
    Number(u64),
    /// Is that the sum?
    Question(i32, oneshot::Sender<bool>),
}

impl Post {
    /// Tells a number; waits for a place when there is none.
    pub async fn tell(&self, number: u64) {
        self.post(Mail::Detach(ConnectionId(number))).await;
    }

    /// Asks whether that is the sum of what was told before.
    pub async fn ask(&self, sum: i32) -> bool {
        let (reply, answer) = oneshot::channel();
        let end = End { sid: None, code: Code(sum), reason: String::new() };
        self.post(Mail::End(end, reply)).await;
        answer.await.unwrap_or(false)
    }

    async fn post(&self, mail: Mail) {
        if let Err(SendError::Full(mail)) = self.0.send(mail) {
            self.0.deliver(mail).await;
        }
    }

    /// Takes the next letter.
    ///
    /// # Panics
    /// When there is other mail: nobody has any.
    pub async fn take(&self) -> Letter {
        match poll_fn(|cx| self.0.poll_take(cx)).await {
            Mail::Detach(ConnectionId(number)) => Letter::Number(number),
            Mail::End(End { code, .. }, reply) => Letter::Question(code.0, reply),
            other => panic!("{other:?}"),
        }
    }
}

/// Players of a game whose clients say nothing.
#[derive(Debug)]
pub struct Idlers(Arc<Host>);

impl Idlers {
    /// In this process. Within a runtime.
    pub fn new<P: Player>(game: App<P>) -> Self {
        Self::with_rooms(game, Vec::new())
    }

    /// The same, beside rooms of some kind.
    pub fn beside<P: Player, R: Room>(game: App<P>, kind: RoomKind<R>) -> Self {
        Self::with_rooms(game, vec![Arc::new(kind)])
    }

    fn with_rooms<P: Player>(game: App<P>, rooms: Vec<Arc<dyn AnyRoomKind>>) -> Self {
        let player = Arc::new(Kind::player(game.into_table(), Classes::default()));
        let (cache, clock, chance) = (Cache::memory(), Clock::system(), Chance::from_os());
        let side = RoomSide {
            book: Book::new(cache.clone(), clock.clone()),
            tickets: Tickets::new(cache, chance, clock),
            asker: Asker::default(),
            links: None,
            recordings: None,
            homes: Homes::default(),
        };
        let kinds = Kinds { player, rooms, side };
        let (game, sessions) = (config::Game::default(), config::Session::default());
        let (directory, meters) = (Directory::alone("bench", 1), Meters::new().entity);
        Self(Host::new(kinds, directory, world(), game, sessions, meters))
    }

    /// Signs somebody in, who then says nothing.
    ///
    /// # Errors
    /// The host's.
    pub async fn sign_in(&self, account: i64) -> Result<(), String> {
        let entry = Entry::SignIn { openid: format!("openid-{account}"), sid: "bench".into() };
        let (connection, port) = (ConnectionId(account as u64), SessionPort::Local(Arc::new(Deaf)));
        let arrival = Arrival { connection, account, port, entry, datagram_bytes_max: 0 };
        self.0.attach(arrival).await.map(|_| ()).map_err(|e| format!("{e:?}"))
    }
}

impl Idlers {
    /// Opens a room, which nobody comes into.
    ///
    /// # Errors
    /// The host's.
    pub async fn open(&self, kind: &str, id: usize) -> Result<(), Refusal> {
        let request =
            open_room::Req { kind: kind.into(), room_id: id.to_string(), ..Default::default() };
        open_here(self.0.clone(), request).await.map(|_| ())
    }
}

/// A session's end that nobody listens at.
#[derive(Debug)]
struct Deaf;

impl SessionEnd for Deaf {
    fn deliver(&self, _: Frames<'_>) {}
    fn kick(&self, _: Code, _: &str) {}
    fn leaving(&self) {}
    fn give_back(&self, _: Frames<'_>) {}
    fn detached(&self) {}
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
        Self(RoomCenter::new(&[Arc::new(kind)], ground))
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
