//! Rooms that outlive servers: game servers, gates and room centers are killed, frozen and drained
//! under members who number everything that they say and hear.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use arena::Steer;
use bastide::{
    Code,
    client::{Address, Client, ClientError, Session, SessionError},
    msg,
    prost::Message as _,
};
use bastide_testkit::{Redis, shared};
use chat::Line;
use tokio::{
    task::{JoinSet, block_in_place},
    time::{Instant, sleep},
};

use crate::{
    members::{Heard, Party, Seen, enter, session, sit},
    nodes::{Cluster, Node, until},
    town::run,
};

/// Members at the server of the rooms, and elsewhere.
const NEAR: usize = 3;
const FAR: usize = 5;

/// A room, as `admin rooms` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    kind: String,
    id: String,
    node: String,
    /// `members+reserved/capacity`
    seats: String,
}

/// Every room of a cluster, as its operator sees it.
async fn rooms(cluster: &Cluster, asked: &Node) -> Vec<Row> {
    let (code, said) = cluster.admin(asked, &["rooms"]).await;
    assert_eq!(code, Some(0), "{said}");
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let [kind, id, node, seats] = words.get(..4)?.to_vec().try_into().ok()?;
        Some(Row { kind, id, node, seats })
    };
    said.lines().skip(1).filter_map(row).collect()
}

/// A cluster with rooms at one game server, and members there and at two others.
struct Scene {
    cluster: Cluster,
    /// Account center, gate, room center.
    front: Node,
    /// Runs the rooms.
    home: Node,
    others: [Node; 2],
    party: Party,
    /// Members whose players run beside the rooms.
    near: BTreeSet<i64>,
}

impl Scene {
    async fn begin() -> Self {
        let cluster = Cluster::shared();
        // Alone, so that the rooms and the first members come to it.
        let [front, home] = cluster.nodes(["account,gate,rooms", "game"]).await;
        let mut party = Party::begin(&cluster.accounts, Vec::new(), true, NEAR).await;
        let others = cluster.nodes(["game", "game"]).await;
        party.grow(FAR).await;
        let near = party.accounts().into_iter();
        let near: BTreeSet<_> =
            near.filter(|a| cluster.owner(&shared().redis, *a) == home.id).collect();
        assert!((1..NEAR + FAR).contains(&near.len()), "both cases occur: {near:?}");
        let scene = Self { cluster, front, home, others, party, near };
        for room in scene.rooms() {
            assert_eq!(scene.cluster.runner(&shared().redis, &room), scene.home.id);
        }
        until("everybody hears others", async || {
            scene.party.seen().all(|seen| {
                let lines = seen.heard.iter().filter(|(_, h)| matches!(h, Heard::Line(_)));
                lines.count() > NEAR + FAR && seen.said.len() > 1
            })
        })
        .await;
        scene
    }

    /// The channel and the arena, by their names.
    fn rooms(&self) -> [String; 2] {
        [format!("chat/{}", self.party.chat), format!("arena/{}", self.arena())]
    }

    fn arena(&self) -> &str {
        self.party.arena.as_ref().unwrap()
    }

    /// Waits until everything that was said so far is in the store.
    async fn saved(&self) {
        self.party.be_quiet().await;
        let said = self.party.seen().filter_map(|seen| seen.said.keys().max().copied()).max();
        let said = said.unwrap();
        let last = self.party.seen().find_map(|seen| seen.lines().get(&said).cloned()).unwrap();
        until("it is saved", async || {
            let saved = self.cluster.stored(&shared().postgres, &self.party.chat, "updated_ms");
            saved.parse::<i64>().unwrap() > last.st
        })
        .await;
    }

    /// Waits until every member that is left is in both rooms again; when the first heard
    /// something of each, counted from a moment.
    async fn is_back(&self, since: Instant) -> [Duration; 2] {
        let went_on = |seen: &Seen| {
            let line = |h: &Heard| matches!(h, Heard::Line(_));
            let view = |h: &Heard| matches!(h, Heard::View(_));
            let chat = seen.goes_on(since, &self.party.chat, line)?;
            Some([chat, seen.goes_on(since, self.arena(), view)?])
        };
        let left = || self.party.seen().filter(|seen| seen.lost.is_none());
        until("the rooms go on elsewhere", async || left().all(|seen| went_on(&seen).is_some()))
            .await;
        let first = |at: usize| left().filter_map(|seen| went_on(&seen).map(|w| w[at])).min();
        [0, 1].map(|at| first(at).unwrap() - since)
    }

    /// One room of each kind, at its claim's node, and this many in each; the same in lists.
    async fn is_there_once(&self, members: usize) {
        let seats = [(200, "chat"), (50, "arena")];
        until("operators see it", async || {
            let rows = rooms(&self.cluster, &self.front).await;
            assert_eq!(rows.len(), 2, "{rows:?}");
            seats.iter().all(|(capacity, kind)| {
                let row = rows.iter().find(|row| row.kind == *kind).unwrap();
                let name = format!("{kind}/{}", row.id);
                assert!(self.rooms().contains(&name));
                row.node == self.cluster.runner(&shared().redis, &name)
                    && row.seats == format!("{members}+0/{capacity}")
            })
        })
        .await;
        let mut looks = session(&self.cluster.accounts, "looks", &[]).await;
        for (capacity, kind) in seats {
            let listed = list(&mut looks, kind).await;
            assert_eq!(listed.len(), 1, "{listed:?}");
            let shown = (listed[0].members as usize, listed[0].capacity);
            assert_eq!(shown, (members, capacity), "{listed:?}");
        }
    }
}

async fn list(session: &mut Session, kind: &str) -> Vec<msg::list_rooms::Room> {
    let kind = kind.to_owned();
    session.request(&msg::list_rooms::Req { kind, ..Default::default() }).await.unwrap().rooms
}

/// Whatever members know of a channel is the same, and holds what each of them said, once.
fn is_whole(all: &[Seen]) -> BTreeMap<u64, Line> {
    let mut whole = BTreeMap::new();
    for seen in all {
        for (number, line) in seen.lines() {
            let known = whole.entry(number).or_insert_with(|| line.clone());
            assert_eq!(*known, line, "two lines of one number");
        }
    }
    let texts: BTreeSet<&str> = whole.values().map(|line: &Line| line.text.as_str()).collect();
    assert_eq!(texts.len(), whole.len(), "a line was said twice");
    for seen in all {
        for (number, text) in &seen.said {
            assert_eq!(whole.get(number).map(|line| &line.text), Some(text), "{}", seen.account);
        }
    }
    whole
}

// === Game servers ===

#[tokio::test]
async fn rooms_of_a_killed_game_server_go_on_elsewhere_with_their_members_from_what_was_saved() {
    let mut scene = Scene::begin().await;
    scene.saved().await;
    let tick = |seen: &Seen| {
        seen.heard.iter().rev().find_map(|(_, h)| match h {
            Heard::View(tick) => Some(*tick),
            _ => None,
        })
    };
    let before = scene.party.seen().filter_map(|seen| tick(&seen)).max().unwrap();
    scene.home.kill();
    let killed = Instant::now();
    scene.party.talk();
    until("who was at it has lost its session", async || {
        scene.party.seen().filter(|seen| seen.lost.is_some()).count() == scene.near.len()
    })
    .await;
    let [chat, arena] = scene.is_back(killed).await;
    tell(&format!("from kill -9 of a game server to a line: {chat:?}, to a tick: {arena:?}"));

    // Those who were with it sign in anew, and find their seats.
    scene.party.be_quiet().await;
    let numbered: Vec<_> = scene.party.accounts().into_iter().enumerate().collect();
    let mut again = Vec::new();
    for (number, account) in numbered {
        if scene.near.contains(&account) {
            let device = format!("member-{number}");
            let mut one = session(&scene.cluster.accounts, &device, &[]).await;
            let joined = sit(&mut one, chat::KIND, &scene.party.chat).await;
            let state = chat::State::decode(joined.state.as_slice()).unwrap();
            let present: BTreeSet<_> = state.present.iter().map(|p| p.account).collect();
            assert_eq!(present, scene.party.accounts().into_iter().collect());
            assert_eq!(state.present.len(), NEAR + FAR, "nobody is seated twice");
            sit(&mut one, arena::KIND, scene.arena()).await;
            again.push(one);
        }
    }
    scene.is_there_once(NEAR + FAR).await;
    let (near, Scene { party, .. }) = (scene.near.clone(), scene);
    let all = party.end().await;
    for seen in &all {
        assert_eq!(seen.lost.is_some(), near.contains(&seen.account), "{:?}", seen.lost);
        assert!(seen.closed().is_empty(), "{:?}", seen.closed());
        let times = if seen.lost.is_some() { 0 } else { 2 };
        assert_eq!(seen.backs(), times, "each room is back once");
        if seen.lost.is_none() {
            let after = seen.goes_on(
                killed,
                &party_arena(seen),
                |h| matches!(h, Heard::View(tick) if *tick + 60 > before),
            );
            assert!(after.is_some(), "it goes on about where it was: {before}");
        }
    }
    is_whole(&all);
}

/// The arena that a member was told is there again.
fn party_arena(seen: &Seen) -> String {
    let arena = |heard: &Heard| match heard {
        Heard::Back(id, state) if chat::State::decode(state.as_slice()).is_err() => {
            Some(id.clone())
        }
        _ => None,
    };
    seen.heard.iter().find_map(|(_, heard)| arena(heard)).unwrap()
}

#[tokio::test]
async fn a_game_server_that_wakes_after_its_lease_says_nothing_more_in_rooms_that_run_elsewhere() {
    let scene = Scene::begin().await;
    scene.saved().await;
    scene.home.freeze().await;
    let frozen = Instant::now();
    scene.party.talk();
    let [chat, arena] = scene.is_back(frozen).await;
    tell(&format!("from SIGSTOP of a game server to a line: {chat:?}, to a tick: {arena:?}"));
    let names = scene.rooms();
    let owners = || names.each_ref().map(|room| scene.cluster.runner(&shared().redis, room));
    let now = owners();
    assert!(now.iter().all(|owner| scene.others.iter().any(|other| other.id == *owner)));
    let epochs = || {
        let keys = [&scene.party.chat, scene.party.arena.as_ref().unwrap()];
        keys.map(|key| scene.cluster.stored(&shared().postgres, key, "owner_epoch"))
    };
    let written = epochs();
    // A tick that it begins is one too many.
    let ticked = async || scene.home.counted("room_tick_seconds_count").await;

    scene.home.signal("-CONT");
    let thawed = Instant::now();
    until("it knows what happened", async || scene.home.logged(&["it begins anew"]) == 1).await;
    until("it runs no room", async || scene.home.counted("room_running").await == 0).await;
    let ticks = ticked().await;
    until("it is ready", async || scene.home.ready().await).await;
    scene.is_back_quietly(thawed).await;
    assert_eq!(ticked().await, ticks, "a room without a claim does not tick");
    assert_eq!((owners(), epochs()), (now, written), "its late words change nothing");
    scene.party.be_quiet().await;
    let there = rooms(&scene.cluster, &scene.front).await;
    assert!(there.len() == 2 && there.iter().all(|row| row.node != scene.home.id), "{there:?}");
    let all = scene.party.end().await;
    for seen in &all {
        assert!(seen.lost.is_some() || seen.backs() == 2, "nothing happens twice: {seen:?}");
        let ticks = seen.heard.iter().filter(|(at, _)| *at > thawed);
        let ticks = ticks.filter_map(|(_, heard)| match heard {
            Heard::View(tick) => Some(*tick),
            _ => None,
        });
        assert!(ticks.is_sorted_by(|a, b| a < b), "two rooms speak to {}", seen.account);
    }
    is_whole(&all);
}

impl Scene {
    /// Waits until those who are left have heard lines for some time after a moment.
    async fn is_back_quietly(&self, since: Instant) {
        let later = since + Duration::from_secs(2);
        until("they go on", async || {
            let mut left = self.party.seen().filter(|seen| seen.lost.is_none());
            left.all(|seen| seen.first_after(later, |h| matches!(h, Heard::Line(_))).is_some())
        })
        .await;
    }
}

/// Players and rooms move at the same time.
#[tokio::test]
async fn rooms_of_a_game_server_that_drains_move_at_once_and_every_line_is_there_once() {
    let Scene { cluster, front, mut home, others, party, near } = Scene::begin().await;
    let drains = Instant::now();
    assert_eq!(home.leave().await.code(), Some(0));
    let drained = drains.elapsed();
    let scene = Scene { cluster, front, home, others, party, near };
    let [chat, arena] = scene.is_back(drains).await;
    tell(&format!(
        "from SIGTERM to a line elsewhere: {chat:?}, to a tick: {arena:?}, to the end: {drained:?}"
    ));
    scene.party.be_quiet().await;
    scene.is_there_once(NEAR + FAR).await;
    let mut reads = session(&scene.cluster.accounts, "reads", &[]).await;
    sit(&mut reads, chat::KIND, &scene.party.chat).await;
    let history = scene.party.history(&mut reads).await;
    let all = scene.party.end().await;
    for seen in &all {
        assert!(seen.lost.is_none() && seen.closed().is_empty(), "{seen:?}");
    }
    let whole = is_whole(&all);
    let remembered: Vec<_> = history.iter().map(|line| line.number).collect();
    let said: Vec<_> = whole.keys().copied().filter(|n| remembered.contains(n)).collect();
    assert_eq!(remembered, said, "what is remembered is what was heard");
    assert!(remembered.is_sorted() && remembered.last() == whole.keys().last());
}

// === Gates and room centers ===

#[tokio::test]
async fn members_of_a_killed_gate_resume_and_hear_each_line_once_and_in_order() {
    let cluster = Cluster::shared();
    let roles = ["account,rooms", "gate", "gate", "game", "game"];
    let [_front, mut one, other, _game, _game_too] = cluster.nodes(roles).await;
    let gates = [&one, &other].map(|gate| Address::parse(&gate.gate()).unwrap()).to_vec();
    let party = Party::begin(&cluster.accounts, gates, false, 8).await;
    sleep(Duration::from_secs(1)).await;
    let cut = one.counted("gate_sessions").await as usize;
    assert!((1..8).contains(&cut), "they are spread: {cut}");
    one.kill();
    let lines = |seen: &Seen| seen.lines().len();
    let before: Vec<_> = party.seen().map(|seen| lines(&seen)).collect();
    until("all go on", async || {
        let now: Vec<_> = party.seen().map(|seen| lines(&seen)).collect();
        now.iter().zip(&before).all(|(now, before)| *now > before + 16)
    })
    .await;
    party.be_quiet().await;
    let all = party.end().await;
    assert_eq!(all.iter().filter(|seen| seen.resumed > 0).count(), cut);
    for seen in &all {
        assert!(seen.lost.is_none() && seen.closed().is_empty() && seen.unsure.is_empty());
        assert_eq!(seen.backs(), 0, "the room notices nothing");
    }
    let whole = is_whole(&all);
    let last = |seen: &Seen| seen.lines().keys().last().copied();
    assert!(all.iter().all(|seen| last(seen) == whole.keys().last().copied()), "all of it");
}

/// Accounts that ask at once, and rooms of its own that each asks for.
const ASKERS: usize = 8;
const ASKED: usize = 6;

#[tokio::test]
async fn room_centers_are_killed_and_no_request_leads_to_two_rooms_and_no_seat_stays_taken() {
    let cluster = Cluster::shared();
    let roles = ["account,gate", "game", "game", "rooms", "rooms"];
    let [front, _game, _game_too, mut one, mut other] = cluster.nodes(roles).await;
    let mut askers = JoinSet::new();
    for asker in 0..ASKERS {
        let mut session = session(&cluster.accounts, &format!("asker-{asker}"), &[]).await;
        askers.spawn(async move {
            let mut rooms = Vec::new();
            for number in 0..ASKED {
                let first = ask_until_answered(&mut session, number).await;
                let again = ask_until_answered(&mut session, number).await;
                assert_eq!(first.room_id, again.room_id, "one request, one room");
                rooms.push(first.room_id);
            }
            let joined = sit_until_it_works(&mut session).await;
            (session, rooms, joined.room_id)
        });
    }
    for _ in 0..2 {
        sleep(Duration::from_millis(150)).await;
        one.kill();
        one = cluster.node("rooms").await;
        sleep(Duration::from_millis(150)).await;
        other.kill();
        other = cluster.node("rooms").await;
    }
    let asked = askers.join_all().await;
    let asked_for: BTreeSet<_> = asked.iter().flat_map(|(_, rooms, _)| rooms.clone()).collect();
    assert_eq!(asked_for.len(), ASKERS * ASKED);
    let sat_in: BTreeSet<_> = asked.iter().map(|(_, _, room)| room.clone()).collect();
    let there: BTreeSet<_> = rooms(&cluster, &front).await.into_iter().map(|row| row.id).collect();
    assert!(there.is_superset(&asked_for) && there.is_superset(&sat_in), "{there:?}");
    // One room beside those that were asked for may be a center's that died over it, and is gone
    // with the others.
    until("no seat is kept, and rooms that nobody came to are gone", async || {
        let rows = rooms(&cluster, &front).await;
        let ids: BTreeSet<_> = rows.iter().map(|row| row.id.clone()).collect();
        ids == sat_in && rows.iter().all(|row| row.seats.contains("+0/"))
    })
    .await;
    let members: u32 = rooms(&cluster, &front).await.iter().map(|row| members(&row.seats)).sum();
    assert_eq!(members as usize, ASKERS, "each has one seat");
}

fn members(seats: &str) -> u32 {
    seats.split('+').next().unwrap().parse().unwrap()
}

/// A room of its own, for a request that is asked until it is answered.
async fn ask_until_answered(session: &mut Session, number: usize) -> msg::enter_room::Res {
    let mut asks = enter(chat::KIND, "", &format!("request-{number}"));
    asks.options.insert("private".to_owned(), "1".to_owned());
    patiently(session, &asks).await
}

async fn sit_until_it_works(session: &mut Session) -> msg::join_room::Res {
    let entered = patiently(session, &enter(chat::KIND, "", "sits")).await;
    let joins = msg::join_room::Req { ticket: entered.ticket, name: "sits".to_owned() };
    session.request(&joins).await.unwrap()
}

async fn patiently(session: &mut Session, asks: &msg::enter_room::Req) -> msg::enter_room::Res {
    const PASSING: [Code; 5] =
        [Code::NOT_CONNECTED, Code::NOT_READY, Code::BUSY, Code::DEADLINE, Code::NO_ROOM_SERVER];
    loop {
        match session.request(asks).await {
            Ok(entered) => return entered,
            Err(SessionError::Refused(why)) if PASSING.contains(&why.code) => {
                sleep(Duration::from_millis(50)).await;
            }
            Err(e) => panic!("{e}"),
        }
    }
}

// === Tickets ===

/// The old flow: sign in, ask for a room, connect to its address with the ticket.
#[tokio::test]
async fn a_ticket_signs_in_at_the_address_it_came_with_once_and_not_after_thirty_seconds() {
    let cluster = Cluster::shared();
    let [_front, _game, _game_too, _gate] =
        cluster.nodes(["account,gate,rooms", "game", "game", "gate"]).await;
    let mut old = session(&cluster.accounts, "late", &[]).await;
    let expires = old.request(&enter(chat::KIND, "", "")).await.unwrap();
    let issued = Instant::now();
    let joins = async |entered: &msg::enter_room::Res| {
        let mut fresh = Client::connect(&entered.addr).await?;
        let ticket = entered.ticket.clone();
        let name = "a name that is too long".to_owned();
        let joined = fresh.request(&msg::join_room::Req { ticket, name }).await?;
        Ok::<_, ClientError>((fresh, joined))
    };
    for number in 0..4 {
        let mut signed_in = session(&cluster.accounts, &format!("s1-{number}"), &[]).await;
        let account = signed_in.user().unwrap().account;
        let entered = signed_in.request(&enter(chat::KIND, "", "")).await.unwrap();
        let (mut fresh, joined) = joins(&entered).await.unwrap();
        assert_eq!(joined.room_id, entered.room_id);
        let state = chat::State::decode(joined.state.as_slice()).unwrap();
        let me = state.present.iter().find(|present| present.account == account).unwrap();
        assert_eq!(me.name, "a name that is");
        let said = fresh.request(&chat::say::Req { text: "hello".to_owned() }).await.unwrap();
        assert_eq!(said.number, number + 1);
        assert_eq!(code(joins(&entered).await), Code::TICKET_INVALID, "used");
    }
    sleep(Duration::from_secs(30).saturating_sub(issued.elapsed())).await;
    assert_eq!(code(joins(&expires).await), Code::TICKET_INVALID, "too old");
}

fn code<T>(joined: Result<T, ClientError>) -> Code {
    match joined {
        Ok(_) => Code::OK,
        Err(ClientError::Refused(why) | ClientError::Kicked(why)) => why.code,
        Err(e) => panic!("{e}"),
    }
}

// === Services ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_are_in_the_lists_again_when_redis_came_back_empty_and_members_notice_nothing() {
    let mut redis = block_in_place(Redis::start);
    let cluster = Cluster::on(&shared().etcd, &redis, &shared().postgres);
    let [front, _game, _game_too] = cluster.nodes(["account,gate,rooms", "game", "game"]).await;
    let party = Party::begin(&cluster.accounts, Vec::new(), true, 4).await;
    let mut looks = session(&cluster.accounts, "looks", &[]).await;
    let mut before = Vec::new();
    until("rooms have told who sits in them", async || {
        before = rooms(&cluster, &front).await;
        before.len() == 2 && before.iter().all(|row| row.seats.starts_with("4+0/"))
    })
    .await;
    block_in_place(|| redis.stop());
    block_in_place(|| redis.restart());
    let restarted = Instant::now();
    until("the rooms are listed again", async || {
        let (code, _) = cluster.admin(&front, &["rooms"]).await;
        code == Some(0) && rooms(&cluster, &front).await.len() == 2
    })
    .await;
    tell(&format!("from an empty Redis to the last room in the lists: {:?}", restarted.elapsed()));
    assert_eq!(list(&mut looks, chat::KIND).await[0].members, 4);
    assert_eq!(rooms(&cluster, &front).await, before);
    // Whoever wants to come in comes in, to the same room.
    until("rooms are entered again", async || {
        let entered = looks.request(&enter(chat::KIND, "", "")).await;
        entered.is_ok_and(|entered| entered.room_id == party.chat)
    })
    .await;
    party.be_quiet().await;
    let all = party.end().await;
    for seen in &all {
        assert!(seen.lost.is_none() && seen.closed().is_empty() && seen.backs() == 0, "{seen:?}");
    }
    is_whole(&all);
}

// === Recordings ===

#[tokio::test]
async fn a_recorded_match_is_played_again_to_the_same_state_and_a_changed_one_is_not() {
    let cluster = Cluster::shared();
    let record = ["--set".to_owned(), "rooms.record=matches".to_owned()].to_vec();
    let [town] = cluster.nodes_with([("account,gate,game,rooms", record)]).await;
    let mut one = session(&cluster.accounts, "one", &[]).await;
    sit(&mut one, arena::KIND, "").await;
    sit(&mut one, chat::KIND, "").await;
    one.request(&chat::say::Req { text: "hello".to_owned() }).await.unwrap();
    for dx in [100, -100, 40] {
        one.input(&Steer { dx, dy: 10 }).await.unwrap();
        one.rest(Duration::from_millis(400)).await.unwrap();
    }
    assert_eq!(town.drain().await.code(), Some(0));
    let folder = cluster.folder.path();
    let files: Vec<PathBuf> =
        fs::read_dir(folder.join("matches")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        let (code, said) = replay(folder, &file);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("the same as recorded"), "{said}");
        let bytes = fs::read(&file).unwrap();
        let changed = folder.join("changed.rec");
        for at in (0..8).map(|part| bytes.len() * part / 8 + 3) {
            let mut other = bytes.clone();
            other[at] ^= 1;
            fs::write(&changed, other).unwrap();
            let (code, said) = replay(folder, &changed);
            assert!(matches!(code, Some(1 | 2)), "byte {at} of {}: {said}", bytes.len());
            assert!(!said.is_empty() && !said.contains("panicked"), "{said}");
        }
    }
}

fn replay(folder: &Path, file: &Path) -> (Option<i32>, String) {
    let output = run(folder, &["replay", file.to_str().unwrap()]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[expect(clippy::print_stderr, reason = "a measured time, for whoever runs the test")]
fn tell(what: &str) {
    eprintln!("measured: {what}");
}
