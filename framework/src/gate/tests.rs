//! A gate and its entities on one thread and a clock that only moves when everybody waits:
//! limits of time, told to the millisecond.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::join_all};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufWriter, DuplexStream,
        ReadBuf,
    },
    sync::{
        mpsc::{Receiver, Sender, channel},
        oneshot,
    },
    time::{Instant, sleep},
};

use super::{
    Carrier, Codecs, Gate, GateSettings, Grounds, Hooks, Pages, Players, TextSide, Transport,
};
use crate::{
    Account, Code, Ctx, LoadError, Player,
    account::{Subject, TokenIssuer, new_signing_key},
    ask::{Asker, Calls},
    chance::Chance,
    client::{Client, ClientError},
    clock::Clock,
    config,
    directory::{Directory, NodeInfo, Role},
    entity::{Classes, Ended, Host, Kind, RoomSide, Table, World},
    limits::{CLOSE_LINGER, SIGN_IN_FAILED_PAUSE, SIGN_IN_FAILED_TURN, STUCK_MAX},
    msg,
    schema::Schema,
    sessions::{self, Ban, End, Marks, Outcome, Sessions},
    store::{Cache, Store},
    tasks::Tasks,
    telemetry::Meters,
    wire::{Cut, cut, put_message},
};

struct Nobody;

impl Player for Nobody {
    fn load(_: &Account, _: Option<&[u8]>, _: i64) -> Result<Self, LoadError> {
        Ok(Self)
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn user(&self, account: &Account, _: i64) -> crate::def::User {
        static SHOWN: AtomicBool = AtomicBool::new(false);
        assert!(account.id != SHY || !SHOWN.swap(true, Ordering::Relaxed), "shown once");
        if account.id == BANNED_MEANWHILE {
            let ban = Ban { until_ms: 60_000, reason: String::new() };
            let banned =
                MARKS.get().and_then(|marks| marks.ban(BANNED_MEANWHILE, &ban).now_or_never());
            assert_eq!(banned, Some(Ok(())), "a cache in memory makes nobody wait");
        }
        let items =
            if account.id == HUGE { vec![crate::def::Item::default(); 10_000] } else { Vec::new() };
        crate::def::User { id: account.id, account: account.id, items, ..Default::default() }
    }
}

/// The account whose user record is larger than a frame.
const HUGE: i64 = 8;

/// The account that is banned while it signs in: when its player is awake, and not told yet.
const BANNED_MEANWHILE: i64 = 10;

/// Where that is written.
static MARKS: OnceLock<Marks> = OnceLock::new();

/// The account that shows its user record once.
const SHY: i64 = 9;

async fn echo(_: &mut Nobody, ask: msg::echo::Req, _: &Ctx) -> Result<msg::echo::Res, Code> {
    sleep(Duration::from_secs(ask.val.unwrap_or_default().unsigned_abs())).await;
    Ok(msg::echo::Res { val: ask.val, ct: ask.ct })
}

struct Town {
    gate: Arc<Gate>,
    host: Arc<Host>,
    sessions: Sessions,
    tokens: TokenIssuer,
    token: String,
}

impl Town {
    fn new() -> Self {
        Self::with(config::Gate::default())
    }

    fn with(gate: config::Gate) -> Self {
        let (tasks, meters) = (Tasks::default(), Meters::new());
        let directory = Directory::alone("here", 1);
        let world = World {
            clock: Clock::fixed(0),
            store: Store::memory(),
            in_transit: None,
            chance: Chance::from_os(),
            tasks: tasks.clone(),
        };
        let mut table = Table::new();
        table.on(echo);
        let kind = Arc::new(Kind::player(table, Classes::default()));
        let host = Host::new(
            kind,
            directory.clone(),
            world,
            config::Game::default(),
            config::Session::default(),
            meters.entity,
        );
        let settings = GateSettings {
            gate,
            cluster: "test".to_owned(),
            request_timeout: Duration::from_secs(5),
            resume_window: Duration::from_secs(60),
            replay_bytes_max: 1 << 20,
        };
        let tokens = TokenIssuer::new(&new_signing_key(), "test", Duration::from_secs(60));
        let tokens = tokens.expect("a fresh key");
        let apis = host.apis();
        let ran = host.clone();
        let players = Players { here: Some(host), links: None, directory: directory.clone() };
        let asker = Asker::default();
        asker.start(Role::Game, sessions::calls(&ran, Calls::default()), &tasks);
        let text = TextSide { schema: Arc::new(Schema::new(&[])), asker: asker.clone() };
        let ends = Sessions::new(directory.clone(), asker, Cache::memory(), Clock::fixed(0));
        let grounds = Grounds {
            players,
            text,
            sessions: ends.clone(),
            tickets: RoomSide::alone().tickets,
            hooks: Hooks::default(),
            pages: Pages::default(),
            codecs: Codecs::default(),
            clock: Clock::fixed(0),
            chance: Chance::from_os(),
            meters: meters.gate,
            tasks,
        };
        let gate = Gate::new(settings, grounds);
        let (id, roles, keys) = ("here".to_owned(), [Role::Game].into(), vec![tokens.jwk()]);
        directory.register(NodeInfo { id, roles, apis, keys, ..NodeInfo::default() });
        gate.learn(&directory.nodes());
        let token = tokens.issue(&Subject::player(7, "openid"), 0).0;
        Self { gate, host: ran, sessions: ends, tokens, token }
    }

    fn connect(&self) -> Client<DuplexStream> {
        self.connect_over(|far| far)
    }

    /// Connects over a carrier that is made of the gate's side of a pipe.
    fn connect_over<C>(&self, carrier: impl FnOnce(DuplexStream) -> C) -> Client<DuplexStream>
    where
        C: Carrier,
    {
        Client::over(self.pipe(carrier))
    }

    fn pipe<C>(&self, carrier: impl FnOnce(DuplexStream) -> C) -> DuplexStream
    where
        C: Carrier,
    {
        let (near, far) = tokio::io::duplex(4096);
        let far = carrier(far);
        let peer: SocketAddr = ([127, 0, 0, 1], 1).into();
        let seat = self.gate.admit(peer.ip()).expect("a seat");
        self.gate.tasks.spawn(self.gate.clone().serve(far, peer, seat));
        near
    }

    async fn player(&self) -> Client<DuplexStream> {
        let mut client = self.connect();
        client.sign_in(&self.token).await.expect("signed in");
        client
    }
}

/// What is rare must not lie in what every connection keeps: see `Connection::run`.
#[tokio::test]
async fn an_idle_connection_costs_little_memory() {
    let (town, (_near, far)) = (Town::new(), tokio::io::duplex(1));
    let peer: SocketAddr = ([127, 0, 0, 1], 1).into();
    let seat = town.gate.admit(peer.ip()).expect("a seat");
    let bytes = size_of_val(&*town.gate.clone().serve(far, peer, seat));
    assert!(bytes <= 560, "{bytes} bytes");
}

/// Waits for the end without the client's own patience in the way.
async fn closed_after(client: &mut Client<DuplexStream>) -> Duration {
    let began = Instant::now();
    loop {
        match client.receive().await {
            Err(ClientError::Late) | Ok(_) => {}
            Err(_) => return began.elapsed(),
        }
    }
}

fn about(elapsed: Duration, seconds: u64) {
    let expected = Duration::from_secs(seconds);
    assert!(elapsed >= expected && elapsed < expected + Duration::from_secs(3), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_sign_in_is_closed_after_30_seconds_however_busy_it_is() {
    let world = Town::new();
    let mut client = world.connect();
    let began = Instant::now();
    while client.request(&msg::ping::Req::default()).await.is_ok() {
        sleep(Duration::from_secs(1)).await;
    }
    about(began.elapsed(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_signed_in_client_is_closed_after_60_silent_seconds_and_a_ping_counts() {
    let world = Town::new();
    let mut client = world.player().await;
    for _ in 0..10 {
        sleep(Duration::from_secs(50)).await;
        client.request(&msg::ping::Req::default()).await.expect("still there");
    }
    about(closed_after(&mut client).await, 60);
}

#[tokio::test(start_paused = true)]
async fn half_a_frame_a_byte_at_a_time_does_not_keep_a_connection_open() {
    let world = Town::new();
    let mut client = world.player().await;
    let began = Instant::now();
    client.send_bytes(&[0xff, 0xff, 12, 0]).await.expect("open");
    while client.send_bytes(b"m").await.is_ok() && began.elapsed() < Duration::from_secs(200) {
        sleep(Duration::from_secs(1)).await;
    }
    about(began.elapsed(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_1003_at_its_deadline_and_the_ones_behind_it_are_too_late() {
    let world = Town::new();
    let mut client = world.player().await;
    let began = Instant::now();
    let slow = msg::echo::Req { val: Some(100), ct: None };
    client.send(&slow).await.expect("open");
    sleep(Duration::from_secs(1)).await;
    for _ in 0..2 {
        client.send(&msg::echo::Req { val: Some(6), ct: None }).await.expect("open");
    }
    for deadline in [5, 6, 6] {
        assert_eq!(client.receive().await.expect("answered").api, "msg.Error.Res");
        about(began.elapsed(), deadline);
    }
    let quick = msg::echo::Req { val: Some(1), ct: None };
    client.request(&quick).await.expect("the player goes on");
}

/// Whoever removes a player does not wait for what its handler waits for.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_ended_while_a_handler_runs_is_closed_at_once() {
    let world = Town::new();
    let mut client = world.player().await;
    let began = Instant::now();
    client.send(&msg::echo::Req { val: Some(4), ct: None }).await.expect("open");
    client.send(&msg::echo::Req { val: Some(4), ct: None }).await.expect("open");
    sleep(Duration::from_millis(100)).await;
    let end = |sid: Option<&str>| End {
        sid: sid.map(str::to_owned),
        code: Code::REMOVED,
        reason: "for a reason".to_owned(),
    };
    assert_eq!(world.host.end_session(7, end(Some("another"))).await, Ended::NoSession);
    sleep(Duration::from_millis(100)).await;
    let host = world.host.clone();
    world.gate.tasks.spawn(async move { host.end_session(7, end(None)).await });
    let kicked = client.receive().await;
    assert!(
        matches!(&kicked, Err(ClientError::Kicked(r)) if r.code == Code::REMOVED),
        "{kicked:?}"
    );
    assert_eq!(began.elapsed(), Duration::from_millis(200));
    // And the player is there for the next one.
    let mut next = world.player().await;
    next.request(&msg::echo::Req::default()).await.expect("signed in");
}

#[tokio::test(start_paused = true)]
async fn a_token_past_its_time_is_told_apart_from_one_that_is_none() {
    let world = Town::new();
    let mut client = world.connect();
    let refused = client.sign_in("nonsense").await;
    assert!(matches!(refused, Err(ClientError::Refused(r)) if r.code == Code::TOKEN_INVALID));
    world.gate.clock.set(61_000);
    let refused = client.sign_in(&world.token).await;
    assert!(matches!(refused, Err(ClientError::Refused(r)) if r.code == Code::TOKEN_EXPIRED));
}

/// To look at a token costs more than to send it: who has a bad one is not served as fast as it
/// asks.
#[tokio::test(start_paused = true)]
async fn after_its_first_failure_a_client_waits_for_each_answer_to_a_sign_in_or_resume() {
    let town = Town::new();
    let bad = msg::login::Req { token: "nonsense".to_owned(), ..msg::login::Req::default() };
    let made_up = msg::resume::Req { resume_token: vec![7; 32], received: 0 };
    let mut client = town.connect();
    let began = Instant::now();
    assert_eq!(client.request(&bad).await.expect("answered").code, 2001);
    assert_eq!(began.elapsed(), Duration::ZERO, "anybody's token may be too old");
    for tries in 1..9 {
        assert_eq!(client.request(&made_up).await.expect("answered").code, 2004);
        assert_eq!(began.elapsed(), (SIGN_IN_FAILED_PAUSE + SIGN_IN_FAILED_TURN) * tries);
    }
    let failed = began.elapsed();
    client.sign_in(&town.token).await.expect("a good one is let in at once");
    assert_eq!(began.elapsed(), failed);
}

/// Many that fail get no more of a gate between them than one that is always next would.
#[tokio::test(start_paused = true)]
async fn those_who_fail_more_than_once_have_their_turn_one_after_the_other() {
    let town = Town::new();
    let bad = msg::login::Req { token: "nonsense".to_owned(), ..msg::login::Req::default() };
    let began = Instant::now();
    let fails = async |mut client: Client<DuplexStream>| {
        for _ in 0..2 {
            assert_eq!(client.request(&bad).await.expect("answered").code, 2001);
        }
        began.elapsed()
    };
    let all = (0..50).map(|_| fails(town.connect()));
    let mut times = join_all(all).await;
    times.sort();
    let turns = (1..=50).map(|nth| SIGN_IN_FAILED_PAUSE + SIGN_IN_FAILED_TURN * nth);
    assert_eq!(times, turns.collect::<Vec<_>>());
}

/// Who takes in its answers slowly is held back; who takes in none is sent away, and soon.
#[tokio::test(start_paused = true)]
async fn who_asks_and_does_not_read_is_not_read_and_is_closed_after_5_seconds_of_taking_nothing() {
    let outbox_bytes_max = 256 * 1024;
    let gate = config::Gate { outbox_bytes_max, rate_frames_per_s: 0, ..config::Gate::default() };
    let town = Town::with(gate);
    let mut asks = Vec::new();
    let login = msg::login::Req { token: town.token.clone(), ..msg::login::Req::default() };
    put_message(&mut asks, &login).expect("small");
    let ask = msg::echo::Req { val: Some(0), ct: Some(i64::MAX) };
    (0..20_000).for_each(|_| put_message(&mut asks, &ask).expect("small"));
    let (mut read, mut write) = tokio::io::split(town.pipe(|far| far));
    let (tell, mut asked) = oneshot::channel();
    town.gate.tasks.spawn(async move { tell.send(write.write_all(&asks).await) });
    for _ in 0..20 {
        sleep(Duration::from_secs(4)).await;
        read.read_exact(&mut [0; 4096]).await.expect("open");
    }
    assert!(asked.try_recv().is_err(), "it is read no faster than it reads");
    sleep(STUCK_MAX - Duration::from_millis(10)).await;
    assert_eq!(*town.gate.count.borrow(), 1);
    // The last of its 4096 bytes may have made room for a few more that were written later.
    sleep(STUCK_MAX + CLOSE_LINGER).await;
    assert_eq!(*town.gate.count.borrow(), 0);
    assert!(asked.await.expect("told").is_err());
}

impl Carrier for BufWriter<DuplexStream> {
    fn transport(&self) -> Transport {
        Transport::TcpTls
    }
}

/// As TLS does, and texts: the rest of what was said last waits where the connection does not
/// see it.
#[tokio::test(start_paused = true)]
async fn what_a_carrier_keeps_back_reaches_a_client_that_reads_late() {
    let town = Town::with(config::Gate { rate_frames_per_s: 0, ..config::Gate::default() });
    let mut client = town.connect_over(|far| BufWriter::with_capacity(64 * 1024, far));
    client.sign_in(&town.token).await.expect("signed in");
    for _ in 0..500 {
        client.send(&msg::echo::Req { val: Some(0), ct: Some(i64::MAX) }).await.expect("open");
    }
    sleep(Duration::from_secs(1)).await;
    for _ in 0..500 {
        assert_eq!(client.receive().await.expect("answered").api, "msg.Echo.Res");
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_record_that_fits_into_no_frame_is_refused_and_hurts_nobody() {
    let town = Town::new();
    let mut client = town.connect();
    let refused = client.sign_in(&town.tokens.issue(&Subject::player(HUGE, "openid"), 0).0).await;
    assert!(matches!(refused, Err(ClientError::Refused(r)) if r.code == Code::USER_NOT_CREATED));
    client.sign_in(&town.token).await.expect("another account signs in on the same connection");
}

/// The newer session is known to the player before it is refused: the one that is signed in must
/// go on as if nothing had been.
#[tokio::test(start_paused = true)]
async fn a_sign_in_that_is_refused_leaves_the_session_that_is_there() {
    let town = Town::new();
    let mut here = town.connect();
    here.sign_in(&town.tokens.issue(&Subject::player(SHY, "openid"), 0).0)
        .await
        .expect("signed in");
    for _ in 0..3 {
        let mut refused = town.connect();
        let token = town.tokens.issue(&Subject::player(SHY, "openid"), 0).0;
        let answer = refused.sign_in(&token).await;
        assert!(matches!(answer, Err(ClientError::Refused(_))), "{answer:?}");
        here.request(&msg::echo::Req::default()).await.expect("still signed in");
    }
}

/// The look at the marks before the player is woken finds nothing: only the one after it can.
#[tokio::test(start_paused = true)]
async fn a_ban_in_the_middle_of_a_sign_in_leaves_no_session() {
    let town = Town::new();
    MARKS.set(town.sessions.marks()).expect("set once");
    let token = town.tokens.issue(&Subject::player(BANNED_MEANWHILE, "openid"), 0).0;
    let mut client = town.connect();
    let refused = client.sign_in(&token).await;
    assert!(
        matches!(&refused, Err(ClientError::Refused(why)) if why.code == Code::BANNED),
        "{refused:?}"
    );
    assert!(matches!(client.receive().await, Err(ClientError::Closed)), "nothing else is told");
    sleep(Duration::from_secs(1)).await;
    let end = End { sid: None, code: Code::REMOVED, reason: String::new() };
    assert_eq!(town.sessions.end(BANNED_MEANWHILE, &end).await, Outcome::None);
    assert_eq!(town.sessions.end(1, &end).await, Outcome::None, "who never played has none");
}

/// A pipe with datagrams beside it.
struct Beside {
    stream: DuplexStream,
    datagrams: Receiver<Bytes>,
    sent: Sender<Bytes>,
}

impl Carrier for Beside {
    fn transport(&self) -> Transport {
        Transport::Quic
    }

    fn datagram_bytes_max(&self) -> Option<usize> {
        Some(1200)
    }

    fn send_datagram(&mut self, frame: &[u8]) {
        self.sent.try_send(Bytes::copy_from_slice(frame)).expect("room");
    }

    fn poll_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        match self.datagrams.poll_recv(cx) {
            Poll::Ready(Some(datagram)) => Poll::Ready(datagram),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Beside {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Beside {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The player has no handler for it, and says so: that is how it is seen to have arrived.
#[tokio::test(start_paused = true)]
async fn who_sends_nothing_but_datagrams_hears_of_a_new_input_too() {
    let town = Town::new();
    let ((say, datagrams), (sent, mut hear)) = (channel(8), channel(8));
    let mut client = town.connect_over(|stream| Beside { stream, datagrams, sent });
    client.sign_in(&town.token).await.expect("signed in");
    let mut input = Vec::new();
    put_message(&mut input, &crate::def::Item::default()).expect("small");
    let input = Bytes::from(input);
    say.send(input.clone()).await.expect("open");
    sleep(Duration::from_millis(10)).await;
    assert!(hear.try_recv().is_err(), "nobody announces it");

    let apis = vec![<crate::def::Item as crate::Named>::NAME.to_owned()];
    let newer = NodeInfo { id: "newer".to_owned(), apis, ..NodeInfo::default() };
    town.gate.learn(&Arc::new(vec![Arc::new(newer)]));
    say.send(input).await.expect("open");
    sleep(Duration::from_millis(10)).await;
    let told = hear.try_recv().expect("told");
    let Ok(Cut::Frame(told)) = cut(&told, 1200) else { panic!("a frame") };
    let error = <msg::error::Res as prost::Message>::decode(told.payload).expect("an error");
    assert_eq!((error.code, error.api.as_str()), (1004, "def.Item"));
}
