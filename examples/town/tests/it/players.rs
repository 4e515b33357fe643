//! Owns the players of a cluster: one that a test leads by the hand, and a load of many that
//! count what becomes of each request. Leaves the processes to `nodes`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bastide::{
    Code, Named as _,
    client::{Client, ClientError, Push, guest},
    def, msg,
    prost::Message as _,
};
use bastide_testkit::secret;
use cards::draw;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::nodes::{AccountCenters, PATIENCE, until};

/// The cards' own code, and their kind in the bag.
const NOT_ENOUGH_GOLD: Code = Code(10_001);
const GOLD: i32 = 100;
const CARD: i32 = 102;

/// Between two tries to sign in.
const SIGN_IN_PAUSE: Duration = Duration::from_millis(100);

/// Between two requests of a player under load.
const REQUEST_PAUSE: Duration = Duration::from_millis(25);

/// One request in so many draws a card; a new player has gold for a hundred.
const DRAW_EVERY: usize = 16;

/// Requests under way of a player who streams, and how many of them draw: each such waits for the
/// store, so that others wait behind it when a game server drains.
const STREAM_DEPTH: usize = 32;
const STREAM_DRAW_EVERY: i64 = 20;

/// A player, and what it knows of its bag.
pub(crate) struct Player {
    accounts: AccountCenters,
    device: String,
    token: String,
    gate: String,
    pub(crate) account: i64,
    client: Option<Client>,
    /// Cards it was told of.
    sure: i64,
    /// Draws of which it does not know whether they were done.
    unsure: i64,
}

impl Player {
    pub(crate) fn new(accounts: &AccountCenters, device: &str) -> Self {
        Self {
            accounts: accounts.clone(),
            device: device.to_owned(),
            token: String::new(),
            gate: String::new(),
            account: 0,
            client: None,
            sure: 0,
            unsure: 0,
        }
    }

    /// Signs in at the account center and at the gate it names.
    pub(crate) async fn sign_in(&mut self) -> Result<(), ClientError> {
        self.client = None;
        let signed_in = guest(&self.accounts.one(), &self.device).await?;
        (self.token, self.gate) = (secret(signed_in.token), signed_in.addr);
        self.account = signed_in.account_id;
        self.sign_in_at_gate().await
    }

    /// Signs in with the token it has, at the gate it had.
    pub(crate) async fn sign_in_at_gate(&mut self) -> Result<(), ClientError> {
        let mut client = Client::connect(&self.gate).await?;
        client.sign_in(&self.token).await?;
        self.client = Some(client);
        Ok(())
    }

    /// Signs in until it works, and sees that its bag is what it was.
    #[track_caller]
    pub(crate) fn play_again(&mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let until = Instant::now() + PATIENCE;
            loop {
                let signed_in = self.sign_in().await;
                let looked = match signed_in {
                    Ok(()) => self.look().await,
                    Err(e) => Err(e),
                };
                match looked {
                    Ok(Bag::AsKnown) => return,
                    Ok(Bag::Wrong(why)) => panic!("{caller}: {why}"),
                    Err(e) => assert!(Instant::now() < until, "{caller}: never again: {e}"),
                }
                sleep(SIGN_IN_PAUSE).await;
            }
        }
    }

    /// Leaves without a word.
    pub(crate) fn hang_up(&mut self) {
        self.client = None;
    }

    /// Draws cards.
    pub(crate) async fn draw(&mut self, count: i32) -> Result<(), ClientError> {
        let answer = self.request(&draw::Req { count }).await;
        match &answer {
            Ok(_) => self.sure += i64::from(count),
            // 2007 is said when everything that was read is answered, so it was not read; after
            // the other two the game has put the cards back.
            Err(ClientError::Refused(why) | ClientError::Kicked(why))
                if [NOT_ENOUGH_GOLD, Code::NOT_READY, Code::DRAINING].contains(&why.code) => {}
            Err(_) => self.unsure += i64::from(count),
        }
        answer.map(|_| ())
    }

    /// Sends a draw and does not wait for what comes of it.
    pub(crate) async fn draw_blindly(&mut self) {
        self.client.as_mut().unwrap().send(&draw::Req { count: 1 }).await.unwrap();
        self.client = None;
    }

    /// Asks one thing behind the other without waiting for answers, and draws now and then, until
    /// it is told that it is over, or is sent away by a gate that drains. How many answers came;
    /// each must be the next one due, and what was not answered must not have been done.
    pub(crate) async fn stream(mut self, over: Arc<AtomicBool>) -> usize {
        let (mut asked, mut answered, mut due) = (0, 0, VecDeque::new());
        let mut client = self.client.take().unwrap();
        while !over.load(Ordering::Relaxed) || !due.is_empty() {
            if !over.load(Ordering::Relaxed) && due.len() < STREAM_DEPTH {
                asked += 1;
                due.push_back(asked);
                // Where the gate has closed by now, its last words are still to be read.
                let _sent = match asked % STREAM_DRAW_EVERY {
                    0 => client.send(&draw::Req { count: 1 }).await,
                    _ => client.send(&echo(asked)).await,
                };
                continue;
            }
            let frame = match client.receive().await {
                Err(ClientError::Kicked(why)) if why.code == Code::DRAINING => {
                    self.play_again().await;
                    return answered;
                }
                frame => frame.unwrap(),
            };
            if frame.api == msg::get_items::Res::NAME {
                continue;
            }
            let asked = due.pop_front().unwrap();
            answered += 1;
            if asked % STREAM_DRAW_EVERY == 0 {
                assert!(frame.api == draw::Res::NAME || no_gold(&frame), "{asked}: {frame:?}");
                self.sure += i64::from(frame.api == draw::Res::NAME);
            } else {
                assert_eq!(frame.api, msg::echo::Res::NAME, "{asked}: {frame:?}");
                let echo = msg::echo::Res::decode(frame.payload.as_slice()).unwrap();
                assert_eq!(echo.val, Some(asked));
            }
        }
        self.client = Some(client);
        self.look_sure().await;
        answered
    }

    /// Looks into the bag, and knows from then on what is in it.
    pub(crate) async fn look(&mut self) -> Result<Bag, ClientError> {
        let items = self.items().await?;
        let cards: i64 = items.iter().filter(|item| item.idx == CARD).map(|item| item.num).sum();
        let (least, most) = (self.sure, self.sure + self.unsure);
        (self.sure, self.unsure) = (cards, 0);
        if (least..=most).contains(&cards) {
            return Ok(Bag::AsKnown);
        }
        let who = &self.device;
        Ok(Bag::Wrong(format!("{who} has {cards} cards, and drew {least} to {most}")))
    }

    /// Looks into the bag, which must hold what was drawn.
    pub(crate) async fn look_sure(&mut self) {
        if let Bag::Wrong(why) = self.look().await.unwrap() {
            panic!("{why}");
        }
    }

    /// Gold, and when it changed last.
    pub(crate) async fn gold(&mut self) -> Result<(i64, i64), ClientError> {
        let items = self.items().await?;
        let gold = items.into_iter().find(|item| item.idx == GOLD).unwrap();
        Ok((gold.num, gold.update_time))
    }

    async fn items(&mut self) -> Result<Vec<def::Item>, ClientError> {
        Ok(self.request(&msg::get_items::Req { idx: None }).await?.items)
    }

    async fn request<Q: bastide::Request>(&mut self, request: &Q) -> Result<Q::Res, ClientError> {
        let client = self.client.as_mut().ok_or(ClientError::Closed)?;
        let answer = client.request(request).await;
        while client.push().is_some() {}
        if !matches!(answer, Ok(_) | Err(ClientError::Refused(_))) {
            self.client = None;
        }
        answer
    }
}

fn echo(val: i64) -> msg::echo::Req {
    msg::echo::Req { val: Some(val), ct: None }
}

fn no_gold(frame: &Push) -> bool {
    let error = msg::error::Res::decode(frame.payload.as_slice());
    frame.api == msg::error::Res::NAME && error.is_ok_and(|e| e.code == NOT_ENOUGH_GOLD.0)
}

/// What a look into the bag showed.
pub(crate) enum Bag {
    /// Every card that was drawn, and none twice.
    AsKnown,
    Wrong(String),
}

/// What became of the requests of a load.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) answered: usize,
    /// By code.
    pub(crate) refused: BTreeMap<i32, usize>,
    /// Sessions that were ended, by code.
    pub(crate) kicked: BTreeMap<i32, usize>,
    /// Connections that ended without a word while a request had no answer.
    pub(crate) cut: usize,
    /// Requests and sign-ins without any answer, on a connection that stood.
    pub(crate) lost: usize,
    pub(crate) sign_ins: usize,
    /// By code.
    pub(crate) sign_ins_refused: BTreeMap<i32, usize>,
    /// Account centers and gates that were not there.
    pub(crate) sign_ins_nowhere: usize,
    /// What must never be.
    pub(crate) wrong: Vec<String>,
}

impl Record {
    /// Whatever happens to servers: each request is answered or its connection ends, no update is
    /// lost or done twice, and nobody is locked out for good.
    #[track_caller]
    pub(crate) fn is_sound(&self) -> &Self {
        assert!(self.lost == 0 && self.wrong.is_empty() && self.answered > 0, "{self:#?}");
        self
    }

    /// And nobody was refused anything, or noticed anything.
    #[track_caller]
    pub(crate) fn is_unharmed(&self) -> &Self {
        self.is_sound();
        assert!(self.refused.is_empty() && self.kicked.is_empty() && self.cut == 0, "{self:#?}");
        self
    }

    fn failed(&mut self, error: &ClientError) {
        match error {
            ClientError::Refused(why) => *self.refused.entry(why.code.0).or_default() += 1,
            ClientError::Kicked(why) => *self.kicked.entry(why.code.0).or_default() += 1,
            ClientError::Late => self.lost += 1,
            ClientError::Io(_) | ClientError::Closed => self.cut += 1,
            ClientError::Frame(_) | ClientError::Payload(_) | ClientError::Http { .. } => {
                self.wrong.push(error.to_string());
            }
        }
    }

    fn not_signed_in(&mut self, error: &ClientError) {
        match error {
            ClientError::Refused(why) | ClientError::Kicked(why) => {
                *self.sign_ins_refused.entry(why.code.0).or_default() += 1;
            }
            ClientError::Late => self.lost += 1,
            _ => self.sign_ins_nowhere += 1,
        }
    }
}

/// Players that never stop asking, and sign in again when they are sent away.
pub(crate) struct Load {
    shared: Arc<Shared>,
    players: JoinSet<()>,
}

struct Shared {
    record: Mutex<Record>,
    /// Answers, by player.
    answers: Vec<AtomicUsize>,
    over: AtomicBool,
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// Returns when each of them has had an answer.
    pub(crate) async fn begin(accounts: &AccountCenters, players: usize) -> Self {
        let shared = Arc::new(Shared {
            record: Mutex::default(),
            answers: (0..players).map(|_| AtomicUsize::new(0)).collect(),
            over: AtomicBool::new(false),
        });
        let mut load = Self { shared, players: JoinSet::new() };
        for number in 0..players {
            let player = Player::new(accounts, &format!("load-{number}"));
            load.players.spawn(play(player, number, load.shared.clone()));
        }
        load.goes_on().await;
        load
    }

    /// Returns when each of them has had several answers since this was called.
    pub(crate) async fn goes_on(&self) {
        let answers = || self.shared.answers.iter().map(|n| n.load(Ordering::Relaxed));
        let before: Vec<_> = answers().collect();
        let on = || answers().zip(&before).all(|(now, before)| now >= before + 2 * DRAW_EVERY);
        let until = Instant::now() + PATIENCE;
        while !on() {
            assert!(Instant::now() < until, "not all play on: {:#?}", self.shared.record());
            sleep(REQUEST_PAUSE).await;
        }
    }

    /// Ends it, after a last look into each bag.
    pub(crate) async fn end(mut self) -> Record {
        self.shared.over.store(true, Ordering::Relaxed);
        while self.players.join_next().await.is_some() {}
        std::mem::take(&mut self.shared.record())
    }
}

async fn play(mut player: Player, number: usize, shared: Arc<Shared>) {
    let (mut asked, mut left_out) = (0, None::<Instant>);
    loop {
        let last = shared.over.load(Ordering::Relaxed);
        if player.client.is_none() {
            match player.sign_in().await {
                Ok(()) => shared.record().sign_ins += 1,
                Err(e) => {
                    let since = *left_out.get_or_insert_with(Instant::now);
                    shared.record().not_signed_in(&e);
                    if since.elapsed() > PATIENCE {
                        let wrong = format!("{} never comes back: {e}", player.device);
                        return shared.record().wrong.push(wrong);
                    }
                    sleep(SIGN_IN_PAUSE).await;
                    continue;
                }
            }
        }
        asked += 1;
        let answer = match asked % DRAW_EVERY {
            0 if !last => player.draw(1).await.map(|()| Bag::AsKnown),
            _ => player.look().await,
        };
        match answer {
            Ok(bag) => {
                left_out = None;
                shared.answers[number].fetch_add(1, Ordering::Relaxed);
                let mut record = shared.record();
                record.answered += 1;
                if let Bag::Wrong(why) = bag {
                    record.wrong.push(why);
                }
                if last {
                    return;
                }
            }
            // It has no more gold, and has been told so.
            Err(ClientError::Refused(why)) if why.code == NOT_ENOUGH_GOLD => {}
            Err(e) => {
                left_out.get_or_insert_with(Instant::now);
                shared.record().failed(&e);
            }
        }
        sleep(REQUEST_PAUSE).await;
    }
}

/// As many players as wanted, signed in, with a card each.
pub(crate) async fn players(accounts: &AccountCenters, names: &str, count: usize) -> Vec<Player> {
    let mut players = Vec::new();
    for number in 0..count {
        let mut player = Player::new(accounts, &format!("{names}-{number}"));
        player.play_again().await;
        player.draw(1).await.unwrap();
        players.push(player);
    }
    players
}

/// Waits until a stranger's sign-in works.
pub(crate) async fn anybody_signs_in(accounts: &AccountCenters, name: &str) {
    let mut player = Player::new(accounts, name);
    until("somebody new can sign in", async || player.sign_in().await.is_ok()).await;
}
