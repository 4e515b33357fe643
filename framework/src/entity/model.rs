//! One client, its player, and whatever can come between: cuts, late ends of old connections,
//! resumes whose answer is lost, tries that come late, stale and forged secrets, sign-ins that are
//! given up, refusals, and the player going from node to node meanwhile. Each request is taken
//! once, each word heard once, in order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt as _;
use prost::Message as _;
use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    chance::Chance,
    clock::Clock,
    config,
    directory::Directory,
    limits::REST_AFTER,
    link::{
        Account, Arrival, Attached, Batch, ConnectionId, EntityPort, Entry, Frames, Mailbox, Mark,
        NotAttached, Secret, SessionEnd, SessionId, SessionPort,
    },
    msg,
    store::{Cache, Store},
    tasks::Tasks,
    telemetry::Meters,
    wire::{Code, put_message},
};

/// Numbers everything that it says, and knows whether its client is away.
#[derive(Default)]
struct Ledger {
    said: i64,
    away: bool,
}

impl Ledger {
    fn says(&mut self) -> Option<i64> {
        self.said += 1;
        Some(self.said)
    }

    fn turns(&mut self, away: bool, ctx: &Ctx) {
        // Out of turn: the client would miss a number.
        self.said += i64::from(self.away == away);
        self.away = away;
        ctx.push(&msg::echo::Res { val: self.says(), ct: None });
    }
}

impl Player for Ledger {
    fn load(_: &Account, saved: Option<&[u8]>, _: i64) -> Result<Self, LoadError> {
        let said = saved.map(|s| i64::from_le_bytes(s[..8].try_into().expect("8 bytes")));
        Ok(Self { said: said.unwrap_or_default(), away: saved.is_some_and(|s| s[8] == 1) })
    }

    fn save(&self) -> Vec<u8> {
        [&self.said.to_le_bytes()[..], &[u8::from(self.away)]].concat()
    }

    fn on_moved(&mut self, ctx: &Ctx) {
        ctx.push(&msg::echo::Res { val: self.says(), ct: None });
    }

    fn on_away(&mut self, ctx: &Ctx) {
        self.turns(true, ctx);
    }

    fn on_back(&mut self, ctx: &Ctx) {
        self.turns(false, ctx);
    }
}

async fn echo(me: &mut Ledger, ask: msg::echo::Req, ctx: &Ctx) -> Result<msg::echo::Res, Code> {
    ctx.push(&msg::echo::Res { val: me.says(), ct: None });
    if ask.val.is_some_and(|n| n % 3 == 0) {
        sleep(Duration::from_millis(1)).await;
    }
    Ok(msg::echo::Res { val: me.says(), ct: ask.val })
}

/// A gate's end of one connection.
#[derive(Debug, Default)]
pub(super) struct End(pub(super) Mutex<Inbox>);

#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) frames: VecDeque<(String, Vec<u8>)>,
    returned: Batch,
    kicked: bool,
    leaving: bool,
    detached: bool,
}

impl SessionEnd for End {
    fn deliver(&self, frames: Frames<'_>) {
        let mut inbox = self.0.lock().unwrap();
        let frames = frames.map(|(_, frame)| (frame.api.to_string(), frame.payload.to_vec()));
        inbox.frames.extend(frames);
    }
    fn kick(&self, _: Code, _: &str) {
        self.0.lock().unwrap().kicked = true;
    }
    fn leaving(&self) {
        self.0.lock().unwrap().leaving = true;
    }
    fn give_back(&self, frames: Frames<'_>) {
        self.0.lock().unwrap().returned.append(frames);
    }
    fn detached(&self) {
        self.0.lock().unwrap().detached = true;
    }
    fn can_follow(&self) -> bool {
        true
    }
}

/// A connection, as its gate has it; the client may have gone long ago.
struct Connection {
    id: ConnectionId,
    end: Arc<End>,
    /// What the client wrote and the gate has not read.
    up: VecDeque<Up>,
    player: Mailbox,
    follows: bool,
}

enum Up {
    Request(i64),
    Ping(u64),
}

/// What a client knows.
#[derive(Default)]
struct Client {
    /// How often its player was found at rest.
    rested: usize,
    session: u64,
    secret: u128,
    /// Those before it, until the server has shown to have something that was sent since.
    stale: Vec<u128>,
    dead: Vec<u128>,
    next: i64,
    confirmed: u64,
    unconfirmed: VecDeque<i64>,
    received: u64,
    heard: i64,
    answered: i64,
    over: Option<u64>,
}

struct Town {
    seed: u64,
    dice: u64,
    world: World,
    tasks: Tasks,
    host: Arc<Host>,
    /// Where the player was, until it is free.
    before: Option<Arc<Host>>,
    nodes: i64,
    gate: Vec<Connection>,
    connections: u64,
    client: Client,
    /// Secrets handed out since the client has heard of one.
    unheard: usize,
}

const ACCOUNT: i64 = 7;

pub(super) fn host(world: &World, incarnation: i64) -> Arc<Host> {
    let mut table = Table::new();
    table.on(echo);
    let kind = Arc::new(Kind::player(table, Classes::default()));
    let directory = Directory::alone("node", incarnation);
    let (game, sessions) = (config::Game::default(), config::Session::default());
    Host::new(kind, directory, world.clone(), game, sessions, Meters::new().entity)
}

pub(super) fn world() -> World {
    World {
        clock: Clock::fixed(0),
        store: Store::memory(),
        in_transit: Some(Cache::memory()),
        chance: Chance::from_os(),
        tasks: Tasks::default(),
    }
}

impl Town {
    fn new(seed: u64) -> Self {
        let world = world();
        let tasks = world.tasks.clone();
        let (host, gate, client) = (host(&world, 1), Vec::new(), Client::default());
        let (before, nodes, connections, unheard) = (None, 1, 0, 0);
        let dice = seed.wrapping_mul(2).wrapping_add(1);
        Self { seed, dice, world, tasks, host, before, nodes, gate, connections, client, unheard }
    }

    fn dice(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        (self.dice >> 33) % sides
    }

    fn arrival(&mut self, id: Option<ConnectionId>, entry: Entry) -> (Arrival, Arc<End>) {
        self.connections += u64::from(id.is_none());
        let known = id.and_then(|id| self.gate.iter().find(|c| c.id == id));
        let end = known.map(|c| c.end.clone()).unwrap_or_default();
        let (account, port) = (ACCOUNT, SessionPort::Local(end.clone()));
        let connection = id.unwrap_or(ConnectionId(self.connections));
        (Arrival { connection, account, port, entry, datagram_bytes_max: 0 }, end)
    }

    /// Whether the player's new node may claim it.
    async fn free(&mut self) -> bool {
        let Some(before) = &self.before else { return true };
        let id = EntityId { kind: PLAYER, key: ACCOUNT.to_string().into() };
        let cache = self.world.in_transit.as_ref().expect("there is one");
        let lies = cache.get(&carried_key(&id), 0).await.expect("in memory").is_some();
        if lies || before.count() == 0 {
            self.before = None;
        }
        self.before.is_none()
    }

    async fn attach(&mut self, entry: Entry) -> Result<Attached, Code> {
        if !self.free().await {
            return Err(Code::DRAINING);
        }
        let (arrival, end) = self.arrival(None, entry);
        let id = arrival.connection;
        match self.host.attach(arrival).await {
            Ok((player, attached)) => {
                let up = VecDeque::new();
                self.gate.push(Connection { id, end, up, player, follows: false });
                Ok(attached)
            }
            Err(NotAttached::Refused(refusal)) => Err(refusal.code),
            Err(NotAttached::Elsewhere(_)) => Err(Code::DRAINING),
        }
    }

    async fn sign_in(&mut self) {
        let entry = Entry::SignIn { openid: "o".into(), sid: "s".into() };
        let attached = self.attach(entry).await.expect("signed in");
        let Client { session, secret, over, .. } = &mut self.client;
        (*session, *secret) = (attached.session.0, attached.secret.0);
        *over = Some(self.connections);
    }

    fn resume_with(&self, secret: u128, received: u64) -> Entry {
        let session = SessionId(self.client.session);
        Entry::Resume { session, secret: Secret(secret), received }
    }

    // === The client ===

    fn line(&mut self) -> Option<&mut Connection> {
        let over = self.client.over?;
        self.gate.iter_mut().find(|c| c.id.0 == over)
    }

    fn asks(&mut self) {
        self.client.next += 1;
        let n = self.client.next;
        self.client.unconfirmed.push_back(n);
        if let Some(line) = self.line() {
            line.up.push_back(Up::Request(n));
        }
    }

    fn pings(&mut self) {
        let received = self.client.received;
        if let Some(line) = self.line() {
            line.up.push_back(Up::Ping(received));
        }
    }

    fn reads(&mut self, count: u64) {
        for _ in 0..count {
            let frame = self.line().and_then(|c| c.end.0.lock().unwrap().frames.pop_front());
            match frame {
                Some((api, payload)) => self.hears(&api, &payload),
                None => break,
            }
        }
        let closed = self.line().is_none_or(|line| {
            let inbox = line.end.0.lock().unwrap();
            inbox.kicked && inbox.frames.is_empty()
        });
        if closed {
            self.client.over = None;
        }
    }

    fn hears(&mut self, api: &str, payload: &[u8]) {
        let seed = self.seed;
        if let "msg.Ping.Res" = api {
            let pong = msg::ping::Res::decode(payload).expect("a pong");
            return self.confirmed(pong.received);
        }
        let client = &mut self.client;
        client.received += 1;
        let answered = if let "msg.Error.Res" = api {
            let error = msg::error::Res::decode(payload).expect("an error");
            let n = error.api.strip_prefix('x').and_then(|n| n.parse().ok());
            Some(n.unwrap_or_else(|| panic!("seed {seed}: {error:?}")))
        } else {
            let echo = msg::echo::Res::decode(payload).expect("an echo");
            client.heard += 1;
            assert_eq!(echo.val, Some(client.heard), "seed {seed}: heard once, in order");
            echo.ct
        };
        if let Some(n) = answered {
            client.answered += 1;
            assert_eq!(n, client.answered, "seed {seed}: one answer each, in order");
        }
    }

    fn confirmed(&mut self, received: u64) {
        let client = &mut self.client;
        let all = client.confirmed + client.unconfirmed.len() as u64;
        let within = (client.confirmed..=all).contains(&received);
        assert!(within, "seed {}: {received} of {}..={all}", self.seed, client.confirmed);
        if received > client.confirmed {
            client.dead.append(&mut client.stale);
            self.unheard = 0;
        }
        client.unconfirmed.drain(..(received - client.confirmed) as usize);
        client.confirmed = received;
    }

    /// The client goes on over another connection; the answer may be lost with it.
    async fn resumes(&mut self, answer_is_lost: bool) {
        let entry = self.resume_with(self.client.secret, self.client.received);
        match self.attach(entry).await {
            Ok(_) if answer_is_lost => self.unheard += 1,
            Ok(Attached { secret, received, .. }) => {
                let before = std::mem::replace(&mut self.client.secret, secret.0);
                let client = &mut self.client;
                client.unconfirmed.drain(..(received - client.confirmed) as usize);
                client.confirmed = received;
                client.stale.push(before);
                client.over = Some(self.connections);
                self.unheard = 0;
                let again: Vec<_> = self.client.unconfirmed.iter().copied().collect();
                let line = self.line().expect("just made");
                line.up.extend(again.into_iter().map(Up::Request));
            }
            Err(code) => assert_eq!(code, Code::DRAINING, "seed {}", self.seed),
        }
    }

    // === Between ===

    /// Forwards what one read brought; some of it the gate refuses.
    fn forwards(&mut self, at: usize, count: u64) {
        let mut batch = Batch::default();
        for _ in 0..count {
            let refuses = self.dice(5) == 0;
            let mark = if self.dice(4) == 0 { Mark::Plain } else { Mark::Request };
            match self.gate[at].up.pop_front() {
                None => break,
                Some(Up::Request(n)) if refuses => {
                    batch.push_error(Mark::Refused, &format!("x{n}"), Code::RATE_LIMITED, "");
                }
                Some(Up::Request(n)) => {
                    let ask = msg::echo::Req { val: Some(n), ct: None };
                    batch.push_message(mark, &ask).expect("fits");
                }
                Some(Up::Ping(received)) => {
                    let ping = msg::ping::Req { ct: 1, received };
                    batch.push_message(Mark::Ping, &ping).expect("fits");
                }
            }
        }
        self.forward(at, batch);
    }

    fn forward(&mut self, at: usize, mut batch: Batch) {
        let Connection { id, player, .. } = &self.gate[at];
        let (port, now) = (EntityPort::Local(player.clone()), Instant::now());
        if port.forward(*id, now, now + Duration::from_secs(5), &mut batch).is_err() {
            self.closes(at);
        }
    }

    fn closes(&mut self, at: usize) {
        let Connection { id, player, .. } = self.gate.remove(at);
        let _told = player.detach(id, &self.tasks);
        if self.client.over == Some(id.0) {
            self.client.over = None;
        }
    }

    /// A gate looks after one of its connections.
    async fn looks_after(&mut self, at: usize) {
        let Connection { id, end, player, follows, .. } = &mut self.gate[at];
        let (id, end) = (*id, end.clone());
        let (kicked, leaving, detached) = {
            let inbox = end.0.lock().unwrap();
            (inbox.kicked && inbox.frames.is_empty(), inbox.leaving, inbox.detached)
        };
        match (leaving, *follows) {
            _ if kicked => self.closes(at),
            (false, _) => {
                let count = 1 + self.dice(4);
                self.forwards(at, count);
            }
            (true, false) => {
                *follows = true;
                let _told = player.detach(id, &self.tasks);
            }
            (true, true) if detached => self.follow(at, id, &end).await,
            (true, true) => {}
        }
    }

    async fn follow(&mut self, at: usize, id: ConnectionId, end: &End) {
        if !self.free().await {
            return;
        }
        let entry = Entry::Moved { session: SessionId(self.client.session) };
        let (arrival, _) = self.arrival(Some(id), entry);
        let Ok((player, _)) = self.host.attach(arrival).await else { return self.closes(at) };
        let returned = {
            let mut inbox = end.0.lock().unwrap();
            (inbox.leaving, inbox.detached) = (false, false);
            std::mem::take(&mut inbox.returned)
        };
        (self.gate[at].player, self.gate[at].follows) = (player, false);
        self.forward(at, returned);
    }

    /// The player's node goes away, and another takes its place.
    async fn moves(&mut self) {
        if !self.free().await {
            return;
        }
        self.nodes += 1;
        let next = host(&self.world, self.nodes);
        let old = std::mem::replace(&mut self.host, next);
        self.before = Some(old.clone());
        self.tasks.spawn(async move { old.stop_all(Duration::from_secs(60)).await });
    }

    /// Somebody knocks who must not be let in.
    async fn intrudes(&mut self) {
        let secret = self.client.dead.last().copied().unwrap_or(1);
        let refused = self.attach(self.resume_with(secret, 0)).await.map(drop);
        let ok = matches!(refused, Err(Code::RESUME_REFUSED | Code::DRAINING));
        assert!(ok, "seed {}: {refused:?}", self.seed);
    }

    /// A try that the client has given up comes late.
    async fn comes_late(&mut self) {
        if let Some(secret) = self.client.stale.last().copied()
            && self.unheard < 3
            && self.attach(self.resume_with(secret, self.client.received)).await.is_ok()
        {
            self.unheard += 1;
        }
    }

    /// Nothing happens for so long that the player is saved, and then rests.
    async fn naps(&mut self) {
        let leaving = self.gate.iter().any(|c| c.end.0.lock().unwrap().leaving);
        if leaving || self.line().is_none() || !self.free().await {
            // Who stays away for so long, or does not follow, has no session.
            return;
        }
        sleep(self.host.settings().save_interval + 3 * REST_AFTER).await;
        let rests = self.gate.iter().any(|connection| connection.player.is_resting());
        self.client.rested += usize::from(rests);
    }

    /// A sign-in that is given up at once.
    fn signs_in_in_vain(&mut self) {
        // A player that is asleep would be woken without its session.
        if self.before.is_none() && self.host.count() > 0 {
            let entry = Entry::SignIn { openid: "o".into(), sid: "s".into() };
            let (arrival, _) = self.arrival(None, entry);
            assert!(self.host.attach(arrival).now_or_never().is_none(), "seed {}", self.seed);
        }
    }
}

impl Town {
    async fn step(&mut self) {
        let any = self.gate.len() as u64;
        match self.dice(40) {
            0..8 => self.asks(),
            8..10 => self.pings(),
            10..22 if any > 0 => {
                let at = self.dice(any) as usize;
                self.looks_after(at).await;
            }
            22..30 => {
                let count = self.dice(6);
                self.reads(count);
            }
            30 => self.client.over = None,
            31 if any > 0 => {
                let at = self.dice(any) as usize;
                self.closes(at);
            }
            32..35 if self.client.over.is_none() => {
                let lost = self.unheard < 3 && self.dice(4) == 0;
                self.resumes(lost).await;
            }
            35 => self.moves().await,
            36 => self.intrudes().await,
            37 => self.comes_late().await,
            38 => self.signs_in_in_vain(),
            _ if self.dice(6) == 0 => self.naps().await,
            _ => sleep(Duration::from_millis(1)).await,
        }
        for _ in 0..self.dice(3) {
            tokio::task::yield_now().await;
        }
    }

    /// From now on nothing goes wrong.
    async fn settle(&mut self) {
        for _ in 0..500 {
            if self.client.over.is_none() {
                self.resumes(false).await;
            }
            for at in (0..self.gate.len()).rev() {
                self.looks_after(at).await;
            }
            self.reads(100);
            sleep(Duration::from_millis(2)).await;
        }
        self.pings();
        for _ in 0..10 {
            for at in (0..self.gate.len()).rev() {
                self.looks_after(at).await;
            }
            sleep(Duration::from_millis(2)).await;
            self.reads(100);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_comes_between_each_request_is_taken_once_and_each_word_heard_once() {
    let seeds = std::env::var("MODEL_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut rested = 0;
    for seed in 0..seeds {
        let mut world = Town::new(seed);
        world.sign_in().await;
        for _ in 0..400 {
            world.step().await;
        }
        world.settle().await;
        let Client { next, answered, confirmed, unconfirmed, .. } = &world.client;
        let (all, left) = ((*next, *next as u64, 0), unconfirmed.len());
        assert_eq!((*answered, *confirmed, left), all, "seed {seed}");
        while !world.gate.is_empty() {
            world.closes(0);
        }
        sleep(Duration::from_secs(200)).await;
        assert_eq!(world.host.count(), 0, "seed {seed}: nobody needs the player");
        rested += world.client.rested;
    }
    assert!(rested > 0, "no player was ever at rest");
}

/// A room is found again sooner than the connection comes after its player.
#[tokio::test(start_paused = true)]
async fn what_is_said_on_arrival_before_the_connection_is_there_reaches_the_client() {
    let mut town = Town::new(0);
    town.sign_in().await;
    let id = town.gate[0].id;
    town.moves().await;
    sleep(Duration::from_millis(1)).await;
    assert!(town.free().await && town.gate[0].end.0.lock().unwrap().leaving);
    let entry = Entry::Moved { session: SessionId(town.client.session) };
    let (arrival, end) = town.arrival(Some(id), entry);
    end.0.lock().unwrap().frames.clear();
    let (host, mut frame) = (town.host.clone(), Vec::new());
    let word = msg::echo::Res { val: Some(77), ct: None };
    put_message(&mut frame, &word).expect("fits");
    let mut attach = Box::pin(host.attach(arrival));
    while !host.tell(ACCOUNT, frame.clone()) {
        assert!((&mut attach).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    let _attached = attach.await.expect("it goes on");
    let frames = end.0.lock().unwrap().frames.clone();
    let heard = frames.iter().filter(|(_, payload)| *payload == word.encode_to_vec());
    assert_eq!(heard.count(), 1, "{frames:?}");
}
