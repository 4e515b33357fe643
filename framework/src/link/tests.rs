//! Two nodes in one process, with a real connection between them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    envelope::{Envelope, Garbage},
    line::{Ended, Line, Side, Unsent},
    *,
};
use crate::{
    Ctx, LoadError, Named, Player, Request,
    ask::{Asker, Calls},
    chance::Chance,
    clock::Clock,
    config,
    directory::{Directory, Evicted, NodeInfo, Role},
    entity::{Classes, Host, Hosted, Kind, Table, World},
    limits::{LINK_ALIVE, LINK_BYTES_MAX, LINK_SILENCE_MAX},
    msg,
    proto::link as proto,
    store::{Cache, Store},
    telemetry::Meters,
};

// === The game server ===

struct Parrot;

impl Player for Parrot {
    fn load(_: &Account, _: Option<&[u8]>, _: i64) -> Result<Self, LoadError> {
        Ok(Self)
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn on_sign_in(&mut self, ctx: &Ctx) {
        ctx.push(&msg::kick::Res { code: 1, reason: "hello".into() });
    }
}

async fn echo(_: &mut Parrot, ask: msg::echo::Req, _: &Ctx) -> Result<msg::echo::Res, Code> {
    if ask.val == Some(SLOW) {
        std::future::pending::<()>().await;
    }
    Ok(msg::echo::Res { val: ask.val, ct: ask.ct })
}

/// What is asked for in vain.
const SLOW: i64 = -1;

/// A node with a game server and an account center, and links.
pub(super) struct Node {
    pub(super) links: Links,
    pub(super) host: Arc<Host>,
    meters: Meters,
    pub(super) info: NodeInfo,
    pub(super) tasks: Tasks,
}

pub(super) async fn node(cluster: &str, id: &str, tls: Option<Tls>) -> Node {
    let (tasks, meters, chance) = (Tasks::default(), Meters::new(), Chance::from_os());
    let mut table = Table::new();
    table.on(echo);
    let world = World {
        clock: Clock::fixed(0),
        store: Store::memory(),
        in_transit: Some(Cache::memory()),
        chance: chance.clone(),
        tasks: tasks.clone(),
    };
    let kind = Arc::new(Kind::player(table, Classes::default()));
    let (directory, game) = (Directory::alone(id, 1), config::Game::default());
    let sessions = config::Session::default();
    let host = Host::new(kind, directory, world, game, sessions, meters.entity.clone());
    let me = Me { cluster: cluster.to_owned(), node: id.to_owned() };
    let shards = vec![Handle::current()];
    let links = Links::new(me, tls, shards, tasks.clone(), chance, meters.link.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let asker = Asker::default();
    let double = async |factor: i64, ask: msg::echo::Req| match ask.val {
        Some(SLOW) => std::future::pending().await,
        val => Ok(msg::echo::Res { val: val.map(|val| val * factor), ct: None }),
    };
    let calls = Calls::default().on(&2i64, move |factor, ask| Box::pin(double(factor, ask)));
    asker.start(Role::Account, calls, &tasks);
    let hosted = Arc::new(Hosted(host.clone()));
    let served = Served { host: Some(hosted), asker, tasks: tasks.clone() };
    tasks.spawn(links.clone().accept(listener, served));
    let info = NodeInfo { id: id.to_owned(), addr: Some(addr), ..NodeInfo::default() };
    Node { links, host, meters, info, tasks }
}

impl Node {
    /// Ready when a meter shows something.
    async fn counted(&self, name: &str, value: &str) {
        let line = format!("{name} {value}");
        until(|| self.meters.page().lines().any(|l| l == line)).await;
    }
}

/// Ready when it is so.
pub(super) async fn until(mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(10), waiting).await.expect("in time");
}

// === The gate ===

/// What a session heard, in words.
#[derive(Debug, Default)]
pub(super) struct Ear {
    pub(super) heard: Mutex<Vec<String>>,
    news: Notify,
}

impl Ear {
    fn hears(&self, what: String) {
        self.heard.lock().unwrap().push(what);
        self.news.notify_one();
    }

    /// Ready when so much was heard.
    pub(super) async fn after(&self, count: usize) -> Vec<String> {
        let waiting = async {
            loop {
                let heard = self.heard.lock().unwrap().clone();
                if heard.len() >= count {
                    return heard;
                }
                self.news.notified().await;
            }
        };
        timeout(Duration::from_secs(10), waiting).await.expect("heard")
    }
}

impl SessionEnd for Ear {
    fn deliver(&self, frames: Frames<'_>) {
        for (mark, frame) in frames {
            self.hears(format!("{mark:?} {}", frame.api));
        }
    }

    fn kick(&self, code: Code, _: &str) {
        self.hears(format!("kicked {code}"));
    }

    fn leaving(&self) {
        self.hears("leaving".into());
    }

    fn give_back(&self, frames: Frames<'_>) {
        for (_, frame) in frames {
            self.hears(format!("back {}", frame.payload[1]));
        }
    }

    fn detached(&self) {
        self.hears("detached".into());
    }
}

fn seeking(connection: u64, ear: &Arc<Ear>) -> Seeking {
    Seeking {
        connection: ConnectionId(connection),
        account: 7,
        end: ear.clone(),
        entry: Entry::SignIn { openid: "o".into(), sid: "s".into() },
        datagram_bytes_max: 0,
    }
}

pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

pub(super) fn requests(vals: &[i64]) -> Batch {
    let mut batch = Batch::default();
    for val in vals {
        let echo = msg::echo::Req { val: Some(*val), ct: None };
        batch.push_message(Mark::Request, &echo).expect("fits");
    }
    batch
}

async fn attached(gate: &Node, game: &Node, connection: u64) -> (EntityPort, Arc<Ear>) {
    let ear = Arc::new(Ear::default());
    let attached = gate.links.attach(&game.info, &seeking(connection, &ear), soon()).await;
    (attached.expect("attached").0, ear)
}

async fn ask(gate: &Node, game: &Node, val: i64, deadline: Instant) -> Result<i64, Code> {
    let request = msg::echo::Req { val: Some(val), ct: None };
    let (api, payload) = (<msg::echo::Req as Named>::NAME, request.encode_to_vec());
    let answer = gate.links.ask(&game.info, Role::Account, api, payload, deadline).await;
    let answer = answer.map_err(|refusal| refusal.code)?;
    let answer = <msg::echo::Req as Request>::Res::decode(answer.as_slice()).expect("an answer");
    Ok(answer.val.unwrap_or_default())
}

// === Sessions ===

#[tokio::test]
async fn a_session_speaks_to_its_player_at_another_node_in_order_and_leaves() {
    let (gate, game) = (node("c", "gate", None).await, node("c", "game", None).await);
    let (port, ear) = attached(&gate, &game, 1).await;
    let now = Instant::now();
    port.forward(ConnectionId(1), now, soon(), &mut requests(&[1, 2])).expect("sent");
    port.forward(ConnectionId(1), now, soon(), &mut requests(&[3])).expect("sent");
    let expected =
        ["Plain msg.Kick.Res", "Answer msg.Echo.Res", "Answer msg.Echo.Res", "Answer msg.Echo.Res"];
    assert_eq!(ear.after(4).await, expected, "what was pushed at sign-in is not lost");
    assert_eq!(game.host.count(), 1);
    port.detach(ConnectionId(1), &gate.tasks);
    port.forward(ConnectionId(1), now, soon(), &mut requests(&[4])).expect("sent");
    assert_eq!(ear.after(5).await[4], "kicked 1001", "the player has no such connection");
}

#[tokio::test]
async fn a_second_sign_in_ends_the_first_whatever_link_it_came_over() {
    let game = node("c", "game", None).await;
    let (one, two) = (node("c", "one", None).await, node("c", "two", None).await);
    let (_port, old) = attached(&one, &game, 1).await;
    let (_port, _new) = attached(&two, &game, 2).await;
    assert_eq!(old.after(2).await[1], "kicked 2005");
}

#[tokio::test]
async fn a_player_that_leaves_gives_back_what_it_had_not_begun() {
    let (gate, game) = (node("c", "gate", None).await, node("c", "game", None).await);
    let (port, ear) = attached(&gate, &game, 1).await;
    ear.after(1).await;
    let host = game.host.clone();
    game.tasks.spawn(async move { host.stop_all(Duration::from_secs(5)).await });
    assert_eq!(ear.after(2).await[1], "leaving");
    let now = Instant::now();
    port.forward(ConnectionId(1), now, soon(), &mut requests(&[1, 2])).expect("sent");
    port.detach(ConnectionId(1), &gate.tasks);
    assert_eq!(ear.after(5).await[2..], ["back 1", "back 2", "detached"]);
    until(|| game.host.count() == 0).await;
}

/// A gate may look for its player for seconds, while the client has gone on over another one: what
/// was given back to it has been sent again by then.
#[tokio::test]
async fn a_connection_that_follows_its_player_too_late_does_not_get_the_session_back() {
    let game = node("c", "game", None).await;
    let (one, two) = (node("c", "one", None).await, node("c", "two", None).await);
    let ear = Arc::new(Ear::default());
    let signed_in = one.links.attach(&game.info, &seeking(1, &ear), soon()).await;
    let (port, Attached { session, secret, .. }) = signed_in.expect("attached");
    ear.after(1).await;
    let host = game.host.clone();
    game.tasks.spawn(async move { host.evict(Evicted::These(vec!["player/7".into()])).await });
    assert_eq!(ear.after(2).await[1], "leaving");
    port.detach(ConnectionId(1), &one.tasks);
    ear.after(3).await;

    let late = Seeking { entry: Entry::Moved { session }, ..seeking(1, &ear) };
    let refused = async || match one.links.attach(&game.info, &late, soon()).await {
        Err(NotAttached::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    };
    let resume = Entry::Resume { session, secret, received: 1 };
    let there = Seeking { entry: resume, ..seeking(2, &Arc::new(Ear::default())) };
    let resumed = two.links.attach(&game.info, &there, soon()).await;
    let (port, attached) = resumed.expect("resumed");
    assert_eq!(refused().await, Code::RESUME_REFUSED, "the client is there");
    port.detach(ConnectionId(2), &two.tasks);
    // Behind it on the same link, and refused for its secret.
    let wrong = Entry::Resume { session, secret: Secret(0), received: 1 };
    let wrong = Seeking { entry: wrong, ..seeking(3, &Arc::new(Ear::default())) };
    assert!(two.links.attach(&game.info, &wrong, soon()).await.is_err());
    assert_eq!(refused().await, Code::RESUME_REFUSED, "the client was there, and comes back");
    let resume = Entry::Resume { session, secret: attached.secret, received: 1 };
    let back = Seeking { entry: resume, ..seeking(3, &Arc::new(Ear::default())) };
    two.links.attach(&game.info, &back, soon()).await.expect("it is still its client's");
}

/// A node that drains closes its links right behind its last player's last word: the gate may read
/// both at once, before the session has looked for its player elsewhere.
#[tokio::test]
async fn a_player_that_has_left_does_not_miss_the_link_to_its_old_node() {
    let (gate, game) = (node("c", "gate", None).await, node("c", "game", None).await);
    let (port, ear) = attached(&gate, &game, 1).await;
    ear.after(1).await;
    let host = game.host.clone();
    game.tasks.spawn(async move { host.stop_all(Duration::from_secs(5)).await });
    ear.after(2).await;
    port.detach(ConnectionId(1), &gate.tasks);
    assert_eq!(ear.after(3).await[1..], ["leaving", "detached"]);
    game.links.close();
    gate.counted("link_up", "0").await;
    assert_eq!(ear.heard.lock().unwrap().len(), 3, "it is not told that its player is gone");
}

#[tokio::test]
async fn when_a_link_breaks_its_sessions_end_and_its_calls_are_answered() {
    let (gate, game) = (node("c", "gate", None).await, node("c", "game", None).await);
    let (port, ear) = attached(&gate, &game, 1).await;
    ear.after(1).await;
    let asked = ask(&gate, &game, SLOW, Instant::now() + Duration::from_secs(60));
    let broken = async {
        game.links.close();
        ear.after(2).await
    };
    let (asked, heard) = tokio::join!(asked, broken);
    assert_eq!(asked, Err(Code::DEADLINE), "whether it was done is not known");
    assert_eq!(heard[1], "kicked 1001");
    let sent = port.forward(ConnectionId(1), Instant::now(), soon(), &mut requests(&[1]));
    assert_eq!(sent, Err(Code::NOT_CONNECTED));
    assert_eq!(ask(&gate, &game, 1, soon()).await, Err(Code::NOT_CONNECTED));
}

#[tokio::test]
async fn a_role_of_another_node_is_asked_like_one_of_this_node() {
    let (gate, game) = (node("c", "gate", None).await, node("c", "game", None).await);
    assert_eq!(ask(&gate, &game, 21, soon()).await, Ok(42));
    let late = Instant::now() + Duration::from_millis(20);
    assert_eq!(ask(&gate, &game, SLOW, late).await, Err(Code::DEADLINE));
    let payload = Vec::new();
    let nobody = gate.links.ask(&game.info, Role::Rooms, "a.Req", payload, soon()).await;
    assert_eq!(nobody.map_err(|r| r.code), Err(Code::NOT_READY));
}

#[tokio::test]
async fn a_node_that_is_not_there_is_told_at_once_until_it_is_tried_again() {
    let gate = node("c", "gate", None).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = NodeInfo { id: "gone".into(), addr: Some(free.to_string()), ..NodeInfo::default() };
    let asked = || gate.links.ask(&gone, Role::Account, "a.Req", Vec::new(), soon());
    for _ in 0..3 {
        assert_eq!(asked().await.map_err(|r| r.code), Err(Code::NOT_CONNECTED));
    }
    gate.counted("link_dials_failed_total", "1").await;
}

#[tokio::test]
async fn an_address_where_another_node_lives_by_now_is_not_taken_for_the_old_one() {
    let (gate, game) = (node("c", "gate", None).await, node("c", "game", None).await);
    let old = NodeInfo { id: "old".into(), ..game.info.clone() };
    let asked = gate.links.ask(&old, Role::Account, "a.Req", Vec::new(), soon()).await;
    assert_eq!(asked.map_err(|r| r.code), Err(Code::NOT_CONNECTED));
}

// === Strangers ===

#[tokio::test]
async fn a_stranger_who_speaks_garbage_is_cut_off_and_counted() {
    let game = node("c", "game", None).await;
    let mut stranger = TcpStream::connect(game.info.addr.as_deref().unwrap()).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    // Closed, or reset since it did not read everything.
    let _closed = stranger.read_to_end(&mut said).await;
    game.counted("link_strangers_total", "1").await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_cut_off_and_counted_by_both() {
    let (gate, game) = (node("one", "gate", None).await, node("two", "game", None).await);
    assert_eq!(ask(&gate, &game, 1, soon()).await, Err(Code::NOT_CONNECTED));
    game.counted("link_strangers_total", "1").await;
    gate.counted("link_dials_failed_total", "1").await;
}

#[tokio::test]
async fn a_peer_that_speaks_out_of_turn_after_its_hello_is_cut_off_and_counted() {
    let game = node("c", "game", None).await;
    let mut peer = TcpStream::connect(game.info.addr.as_deref().unwrap()).await.unwrap();
    let (cluster, node) = ("c".to_owned(), "peer".to_owned());
    let mut said = Vec::new();
    Envelope::Hello(proto::Hello { protocol: 1, cluster, node }).put(&mut said);
    Envelope::Leaving(ConnectionId(1)).put(&mut said);
    peer.write_all(&said).await.unwrap();
    game.counted("link_garbage_total", "1").await;
    game.counted("link_up", "0").await;
}

/// The gate has given up before the game server came to it.
#[tokio::test]
async fn a_session_that_leaves_while_it_is_on_its_way_to_its_player_does_not_arrive() {
    let game = node("c", "game", None).await;
    let mut peer = TcpStream::connect(game.info.addr.as_deref().unwrap()).await.unwrap();
    let (cluster, node) = ("c".to_owned(), "peer".to_owned());
    let mut said = Vec::new();
    Envelope::Hello(proto::Hello { protocol: 1, cluster, node }).put(&mut said);
    let sign_in = proto::SignIn { openid: "o".into(), sid: "s".into() };
    let attach = proto::Attach { call: 1, connection: 7, account: 7, ..Default::default() };
    let entry = Some(proto::attach::Entry::SignIn(sign_in));
    Envelope::Attach(proto::Attach { deadline_ms: 5000, entry, ..attach }).put(&mut said);
    Envelope::Detach(ConnectionId(7)).put(&mut said);
    peer.write_all(&said).await.unwrap();
    let mut bytes = Vec::new();
    let answer = async {
        loop {
            let mut rest = &bytes[..];
            while let Ok(Some((envelope, len))) = Envelope::cut(rest) {
                if let Envelope::Attached(answer) = envelope {
                    return answer;
                }
                rest = &rest[len..];
            }
            peer.read_buf(&mut bytes).await.unwrap();
        }
    };
    let answer = timeout(Duration::from_secs(10), answer).await.expect("answered");
    assert_eq!(answer.code, Code::DEADLINE.0);
    // A player without a session is let go at once when its node ends; a ghost would hold it.
    assert_eq!(game.host.stop_all(Duration::from_secs(2)).await, 0);
}

// === TLS ===

struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    /// What `[link]` of a node names.
    fn files(&self, name: &str) -> (tempfile::TempDir, config::Link) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let link = config::Link {
            cert: put("cert.pem", cert.pem()),
            key: put("key.pem", key.serialize_pem()),
            ca: put("ca.pem", self.certificate.pem()),
            ..config::Link::default()
        };
        (dir, link)
    }

    fn tls(&self, name: &str) -> Option<Tls> {
        let (_dir, link) = self.files(name);
        Tls::load(&link).expect("they go together")
    }
}

#[tokio::test]
async fn nodes_with_certificates_of_one_authority_speak_and_no_one_else_does() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let game = node("c", "game", ours.tls("bastide-node")).await;
    let friend = node("c", "friend", ours.tls("bastide-node")).await;
    assert_eq!(ask(&friend, &game, 21, soon()).await, Ok(42));
    for stranger in [theirs.tls("bastide-node"), None] {
        let stranger = node("c", "stranger", stranger).await;
        assert_eq!(ask(&stranger, &game, 1, soon()).await, Err(Code::NOT_CONNECTED));
    }
    // Nor is anybody else's machine taken for one of ours.
    let misnamed = node("c", "misnamed", ours.tls("www.example.org")).await;
    assert_eq!(ask(&friend, &misnamed, 1, soon()).await, Err(Code::NOT_CONNECTED));
}

#[tokio::test]
async fn a_certificate_that_no_node_would_accept_is_found_before_a_node_starts() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    ours.tls("bastide-node").unwrap().check().await.expect("fine");
    let misnamed = ours.tls("www.example.org").unwrap().check().await.unwrap_err().to_string();
    assert!(misnamed.contains("bastide-node") && misnamed.contains("link.cert"), "{misnamed}");
    let (_dir, mut link) = ours.files("bastide-node");
    let (_other, other) = theirs.files("bastide-node");
    link.ca = other.ca;
    let foreign = Tls::load(&link).unwrap().unwrap().check().await.unwrap_err().to_string();
    assert!(foreign.contains("link.ca"), "{foreign}");
}

#[test]
fn files_that_do_not_go_together_are_named_with_the_remedy() {
    let (one, two) = (Authority::new(), Authority::new());
    let (dir, link) = one.files("bastide-node");
    let (_other, other) = two.files("bastide-node");
    let said = |link: config::Link| Tls::load(&link).map(|_| ()).unwrap_err().to_string();
    let mixed = said(config::Link { key: other.key, ..link.clone() });
    assert!(mixed.contains("link.key") && mixed.contains("bastide-node"), "{mixed}");
    let missing = said(config::Link { ca: Some(dir.path().join("no.pem")), ..link.clone() });
    assert!(missing.contains("link.ca = ") && missing.contains("no.pem"), "{missing}");
    let wrong = said(config::Link { cert: link.key.clone(), ..link });
    assert!(wrong.contains("link.cert = ") && wrong.contains("no certificate"), "{wrong}");
}

// === One line, on a clock of its own ===

/// Takes everything.
struct Anything;

impl Side for Anything {
    fn take(&self, _: Envelope<'_>) -> Result<(), Garbage> {
        Ok(())
    }
}

fn line() -> (Arc<Line>, DuplexStream, DuplexStream) {
    let (near, far) = duplex(1024);
    (Arc::new(Line::new(Meters::new().link)), near, far)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_not_heard_is_given_up_and_hears_meanwhile_that_we_live() {
    let (line, near, mut far) = line();
    let began = Instant::now();
    let heard = async {
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.map(|_| bytes)
    };
    let (ended, bytes) = tokio::join!(line.run(near, Vec::new(), &Anything), heard);
    assert!(matches!(ended, Ended::Silent), "{ended}");
    assert!(began.elapsed() >= LINK_SILENCE_MAX && began.elapsed() < LINK_SILENCE_MAX * 2);
    let mut alive = Vec::new();
    Envelope::Alive.put(&mut alive);
    let times = LINK_SILENCE_MAX.as_secs() / LINK_ALIVE.as_secs() - 1;
    assert_eq!(bytes.unwrap(), alive.repeat(usize::try_from(times).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_does_not_read_is_bounded_and_then_the_line_is_cut() {
    let (line, near, _far) = line();
    let frames = vec![0; 1000 * 1000];
    let fill = async {
        let envelope = Envelope::Requests(ConnectionId(1), 0, Frames(&frames));
        let mut sent = 0;
        while line.post(&envelope).is_ok() {
            sent += frames.len();
        }
        assert!(sent <= LINK_BYTES_MAX + 2 * frames.len(), "{sent}");
        assert_eq!(line.post(&envelope), Err(Unsent::Full));
        line.must_post(&Envelope::Detached(ConnectionId(1)));
    };
    let (ended, ()) = tokio::join!(line.run(near, Vec::new(), &Anything), fill);
    assert!(matches!(ended, Ended::Overflown), "{ended}");
    assert_eq!(line.post(&Envelope::Alive), Err(Unsent::Closed));
}

#[tokio::test]
async fn a_line_that_is_closed_writes_first_what_was_posted() {
    let (line, near, mut far) = line();
    let mut expected = Vec::new();
    for session in 0..1000 {
        line.must_post(&Envelope::Detach(ConnectionId(session)));
        Envelope::Detach(ConnectionId(session)).put(&mut expected);
    }
    line.close();
    let heard = async {
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.map(|_| bytes)
    };
    let (ended, bytes) = tokio::join!(line.run(near, Vec::new(), &Anything), heard);
    assert!(matches!(ended, Ended::Closed), "{ended}");
    assert_eq!(bytes.unwrap(), expected);
}
