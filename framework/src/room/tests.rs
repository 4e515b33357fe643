//! A room of a kind of its own, and what is around it.

mod core;
mod life;
mod records;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use prost::Message as _;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{kind::Opening, *};
use crate::{
    Code, Ctx, LoadError, Named, Player, Refusal, Request,
    chance::Chance,
    clock::Clock,
    config,
    directory::{Claim, Directory},
    entity::{Classes, EntityId, Host, Kind, Kinds, RoomSide, Table, World},
    link::{
        Account, Arrival, Attach, Attached, Batch, ConnectionId, Entry, Frames, Mail, Mailbox,
        Mark, Requests, Seating, SessionEnd, SessionPort,
    },
    msg,
    store::Store,
    tasks::Tasks,
    telemetry::Meters,
};

/// Notes all that happens in it, and tells everybody.
struct Hall {
    lines: Vec<String>,
    breaks: bool,
}

/// What the hall does for whom asks.
mod ask {
    pub(super) const PANIC: i64 = -1;
    pub(super) const REFUSE: i64 = -2;
    pub(super) const CLOSE: i64 = -3;
    pub(super) const REMOVE_ME: i64 = -4;
    pub(super) const TELL_OTHERS: i64 = -5;
    pub(super) const TELL_ME: i64 = -6;
    pub(super) const LOCK: i64 = -7;
    pub(super) const BREAK_TICK: i64 = -8;
    pub(super) const DRAW: i64 = -9;
}

/// What the hall tells, in `ct`.
mod news {
    pub(super) const JOINED: i64 = 1;
    pub(super) const LEFT: i64 = 2;
    pub(super) const AWAY: i64 = 3;
    pub(super) const BACK: i64 = 4;
    pub(super) const TICK: i64 = 5;
    pub(super) const SAID: i64 = 6;
}

fn news(what: i64, val: i64) -> msg::echo::Res {
    msg::echo::Res { val: Some(val), ct: Some(what) }
}

impl Hall {
    fn about(&mut self, what: i64, member: &Member, ctx: &mut RoomCtx) {
        self.lines.push(format!("{what} {} {} {}", member.seat.0, member.name, member.away));
        ctx.broadcast(&news(what, member.seat.0.into()));
    }
}

impl Room for Hall {
    fn open(ctx: &mut RoomCtx) -> Result<Self, Refusal> {
        match ctx.options().get("size").map(String::as_str) {
            Some("none") => Err(Code::PARAMETER.because("size")),
            Some("panic") => panic!("cannot open"),
            _ => Ok(Self { lines: vec![format!("opened {}", ctx.now_ms())], breaks: false }),
        }
    }

    fn on_join(&mut self, member: &Member, ctx: &mut RoomCtx) -> Result<(), Refusal> {
        assert_ne!(member.name, "panic");
        ctx.set_info("last", &member.name);
        self.about(news::JOINED, member, ctx);
        if member.name == "bad" { Err(Code::REMOVED.into()) } else { Ok(()) }
    }

    fn state(&self, member: &Member, ctx: &RoomCtx) -> Vec<u8> {
        format!("{} of {}", member.seat.0, ctx.members().len()).into_bytes()
    }

    fn on_leave(&mut self, member: &Member, ctx: &mut RoomCtx) {
        self.about(news::LEFT, member, ctx);
    }

    fn on_away(&mut self, member: &Member, ctx: &mut RoomCtx) {
        self.about(news::AWAY, member, ctx);
    }

    fn on_back(&mut self, member: &Member, ctx: &mut RoomCtx) {
        self.about(news::BACK, member, ctx);
    }

    fn on_tick(&mut self, dt: Duration, ctx: &mut RoomCtx) {
        assert!(!self.breaks, "as was asked for");
        let (ms, drawn) = (dt.as_millis() as i64, ctx.random());
        self.lines.push(format!("tick {} {ms} {} {drawn}", ctx.ticks(), ctx.now_ms()));
        ctx.broadcast(&news(news::TICK, ms));
    }

    fn save(&self) -> Vec<u8> {
        self.lines.join("\n").into_bytes()
    }

    fn restore(saved: &[u8], _: &mut RoomCtx) -> Result<Self, LoadError> {
        let text = String::from_utf8(saved.to_vec()).map_err(LoadError::new)?;
        Ok(Self { lines: text.lines().map(str::to_owned).collect(), breaks: false })
    }
}

fn echo(
    hall: &mut Hall,
    request: msg::echo::Req,
    member: &Member,
    ctx: &mut RoomCtx,
) -> Result<msg::echo::Res, Code> {
    let mut val = request.val.unwrap_or_default();
    hall.lines.push(format!("{} says {val}", member.seat.0));
    match val {
        ask::PANIC => panic!("as was asked for"),
        ask::REFUSE => return Err(Code::BUSY),
        ask::CLOSE => ctx.close("it was asked for"),
        ask::REMOVE_ME => ctx.remove(member.seat, Code::REMOVED, "it wanted to"),
        ask::TELL_OTHERS => ctx.broadcast_but(member.seat, &news(news::SAID, val)),
        ask::TELL_ME => ctx.push(member.seat, &news(news::SAID, val)),
        ask::LOCK => ctx.lock(true),
        ask::BREAK_TICK => hall.breaks = true,
        ask::DRAW => val = (ctx.random() >> 1) as i64,
        said => ctx.broadcast(&news(news::SAID, said)),
    }
    Ok(msg::echo::Res { val: Some(val), ct: None })
}

/// An input: nobody waits for an answer.
#[derive(Clone, PartialEq, prost::Message)]
struct Step {
    #[prost(int64, tag = "1")]
    val: i64,
}

impl Named for Step {
    const NAME: &'static str = "test.Step";
}

impl Request for Step {
    type Res = ();
    const ANSWER: Option<&'static str> = None;
}

fn step(hall: &mut Hall, step: Step, member: &Member, ctx: &mut RoomCtx) -> Result<(), Code> {
    hall.lines.push(format!("{} steps {}", member.seat.0, step.val));
    if step.val < 0 {
        return Err(Code::PARAMETER);
    }
    // Of a class that may be dropped.
    ctx.broadcast(&step);
    Ok(())
}

fn hall() -> RoomKind<Hall> {
    RoomKind::new("hall").capacity(3).on(echo).on(step)
}

// === Around it ===

struct Nobody;

impl Player for Nobody {
    fn load(_: &Account, _: Option<&[u8]>, _: i64) -> Result<Self, LoadError> {
        Ok(Self)
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn on_sign_in(&mut self, _: &Ctx) {}
}

/// A game server, for rooms.
struct Server {
    host: Arc<Host>,
    meters: Meters,
    tasks: Tasks,
    store: Store,
    /// The claim of the next room.
    epoch: i64,
}

impl Server {
    fn new(store: &Store, recordings: Option<&std::path::Path>) -> Self {
        let (tasks, meters) = (Tasks::default(), Meters::new());
        let world = World {
            clock: Clock::fixed(7),
            store: store.clone(),
            in_transit: None,
            chance: Chance::from_os(),
            tasks: tasks.clone(),
        };
        let kinds = Kinds {
            player: Arc::new(Kind::<Nobody>::player(Table::new(), Classes::default())),
            rooms: Vec::new(),
            side: RoomSide { recordings: recordings.map(Into::into), ..RoomSide::alone() },
        };
        let (game, sessions) = (config::Game::default(), config::Session::default());
        let directory = Directory::alone("game", 1);
        let host = Host::new(kinds, directory, world, game, sessions, meters.entity.clone());
        Self { host, meters, tasks, store: store.clone(), epoch: 1 }
    }

    fn alone() -> Self {
        Self::new(&Store::memory(), None)
    }

    fn try_open(
        &self,
        kind: RoomKind<Hall>,
        options: &[(&str, &str)],
        saved: Option<Vec<u8>>,
    ) -> Result<Mailbox, Refusal> {
        let mut classes = Classes::default();
        classes.droppable::<Step>();
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Arc::new(kind).open(Opening {
            host: self.host.clone(),
            id: EntityId { kind: "hall", key: "r1".into() },
            claim: Claim { epoch: self.epoch },
            options: options.collect(),
            saved,
            classes: Arc::new(classes),
        })
    }

    fn open(&self, kind: RoomKind<Hall>) -> Mailbox {
        self.try_open(kind, &[], None).expect("it opens")
    }

    /// What it can be made again from.
    async fn kept(&self, epoch: i64) -> Option<Vec<u8>> {
        self.store.load_record("hall", "r1", epoch).await.expect("the newest owner")
    }

    fn meter(&self, name: &str) -> u64 {
        let page = self.meters.page();
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {page}"))
    }
}

/// A player that has, or wants, a seat.
struct Guest {
    account: i64,
    connection: ConnectionId,
    ear: Arc<Ear>,
    room: Mailbox,
}

/// What a player hears from a room.
#[derive(Debug, Default)]
struct Ear {
    /// Each with how many frames it had.
    deliveries: Mutex<Vec<usize>>,
    frames: Mutex<Vec<(Mark, String, Vec<u8>)>>,
    kicks: Mutex<Vec<(Code, String)>>,
}

impl SessionEnd for Ear {
    fn deliver(&self, frames: Frames<'_>) {
        let heard: Vec<_> =
            frames.map(|(mark, f)| (mark, f.api.to_string(), f.payload.to_vec())).collect();
        self.deliveries.lock().unwrap().push(heard.len());
        self.frames.lock().unwrap().extend(heard);
    }

    fn kick(&self, code: Code, reason: &str) {
        self.kicks.lock().unwrap().push((code, reason.to_owned()));
    }

    fn leaving(&self) {}

    fn give_back(&self, _: Frames<'_>) {}

    fn detached(&self) {}
}

impl Guest {
    fn new(account: i64, connection: u64, room: &Mailbox) -> Self {
        let (connection, ear) = (ConnectionId(connection), Arc::default());
        Self { account, connection, ear, room: room.clone() }
    }

    /// One with a ticket.
    async fn joined(account: i64, room: &Mailbox) -> Self {
        let guest = Self::new(account, account.unsigned_abs(), room);
        guest.attach(true).await.expect("there is a seat");
        rest().await;
        guest.ear.frames.lock().unwrap().clear();
        guest.ear.deliveries.lock().unwrap().clear();
        guest
    }

    async fn attach(&self, joins: bool) -> Result<Attached, Refusal> {
        self.attach_as(&format!("guest {}", self.account), "r1", joins).await
    }

    async fn attach_as(&self, name: &str, room: &str, joins: bool) -> Result<Attached, Refusal> {
        let (kind, room_id, name) = ("hall".to_owned(), room.to_owned(), name.to_owned());
        let arrival = Arrival {
            connection: self.connection,
            account: self.account,
            port: SessionPort::Local(self.ear.clone()),
            entry: Entry::Seat(Box::new(Seating { kind, room_id, name, joins })),
            datagram_bytes_max: 0,
        };
        let (reply, answer) = oneshot::channel();
        self.room.send(Mail::Attach(Attach { arrival, reply })).expect("it runs");
        answer.await.unwrap_or_else(|_| Err(Code::NOT_CONNECTED.into()))
    }

    fn send(&self, fill: impl FnOnce(&mut Batch)) {
        self.send_until(Instant::now() + Duration::from_secs(5), fill);
    }

    fn send_until(&self, deadline: Instant, fill: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::default();
        fill(&mut batch);
        let requests = Requests { connection: self.connection, deadline, batch };
        self.room.requests(requests).expect("it runs");
    }

    fn ask(&self, val: i64) {
        self.send(|batch| push(batch, Mark::Request, &msg::echo::Req { val: Some(val), ct: None }));
    }

    fn leave(&self) {
        self.send(|batch| push(batch, Mark::Logout, &msg::leave_room::Req::default()));
    }

    fn tell(&self, mail: Mail) {
        self.room.send(mail).expect("it runs");
    }

    /// What it has heard since the last time: news as `(what, value)`, other frames by name.
    fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.ear.frames.lock().unwrap()).iter().map(heard).collect()
    }

    fn deliveries(&self) -> Vec<usize> {
        std::mem::take(&mut *self.ear.deliveries.lock().unwrap())
    }

    fn kicks(&self) -> Vec<(Code, String)> {
        self.ear.kicks.lock().unwrap().clone()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    News(i64, i64),
    Answer(i64),
    Refused(Mark, i32),
    Other(Mark, String),
}

fn heard((mark, api, payload): &(Mark, String, Vec<u8>)) -> Heard {
    match (mark, api.as_str()) {
        (_, "msg.Error.Res") => {
            let error = msg::error::Res::decode(payload.as_slice()).expect("whole");
            Heard::Refused(*mark, error.code)
        }
        (_, "msg.Echo.Res") => {
            let echo = msg::echo::Res::decode(payload.as_slice()).expect("whole");
            let val = echo.val.expect("always there");
            match (mark, echo.ct) {
                (Mark::Plain, Some(what)) => Heard::News(what, val),
                (Mark::Answer, None) => Heard::Answer(val),
                other => panic!("{other:?}"),
            }
        }
        (_, other) => Heard::Other(*mark, other.to_owned()),
    }
}

fn push<M: Named>(batch: &mut Batch, mark: Mark, message: &M) {
    batch.push_message(mark, message).expect("it fits");
}

/// Everybody does what there is to do now. Within the first tick of any room.
async fn rest() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}
