//! Owns players of one session each: everything that they ask and hear has a number, so that what
//! is lost, done twice or out of order shows at once. Leaves what happens to servers to `sessions`.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bastide::{
    Code,
    client::{Address, Event, Loss, Options, Session, SessionError, Ticket, WhenLost},
    def, msg,
    prost::Message as _,
};
use cards::draw;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::nodes::PATIENCE;

/// The kind of a card in the bag.
const CARD: i32 = 102;

/// What a new player has; a card costs one.
const GOLD: i64 = 100;

/// Requests under way, and answers that are taken before more are asked for.
const DEPTH: usize = 8;
const ANSWERS_AT_ONCE: usize = 4;

/// One request in so many draws a card, as long as there is gold.
const DRAW_EVERY: i64 = 16;

/// Between two helpings of answers.
const PAUSE: Duration = Duration::from_millis(60);

/// How long a client that is sent away does nothing at all.
const AWAY: Duration = Duration::from_secs(3);

/// What became of all sessions together.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answered: usize,
    pub(crate) drawn: i64,
    /// From noticing a break to the resume.
    pub(crate) resumed: Vec<Duration>,
    /// Resumes of those who did nothing at all for a while before.
    pub(crate) came_back: usize,
    /// Frames that servers did not have, and that were sent again.
    pub(crate) resent: usize,
    /// Why sessions could not go on.
    pub(crate) lost: Vec<Loss>,
    /// Draws that were refused because the store was too slow: they were not done.
    pub(crate) refused: usize,
    /// Draws of which nobody knows whether they were done.
    pub(crate) unsure: i64,
}

/// Players that never stop asking.
pub(crate) struct Steady {
    shared: Arc<Shared>,
    /// Their accounts, by number.
    pub(crate) accounts: Vec<i64>,
    players: JoinSet<Seen>,
}

struct Shared {
    answers: Vec<AtomicUsize>,
    /// Who is to be away for a while, one bit each.
    away: AtomicU64,
    cut: AtomicU64,
    over: AtomicBool,
}

impl Steady {
    /// Signs in so many; returns when each has had answers.
    pub(crate) async fn begin(
        http: &str,
        gates: &[Address],
        when_lost: WhenLost,
        players: usize,
    ) -> Self {
        let shared = Arc::new(Shared {
            answers: (0..players).map(|_| AtomicUsize::new(0)).collect(),
            away: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let mut steady = Self { shared, accounts: Vec::new(), players: JoinSet::new() };
        for number in 0..players {
            let options = Options {
                gates: gates.to_vec(),
                when_lost,
                // The machine may be busy with other tests.
                answer_timeout: PATIENCE,
                ..Options::default()
            };
            let device = format!("steady-{number}");
            let session = Session::guest(http, &device, options).await.unwrap();
            let player = Player::new(session);
            steady.accounts.push(player.account);
            steady.players.spawn(player.play(number, steady.shared.clone()));
        }
        steady.go_on().await;
        steady
    }

    /// Returns when each has had several answers since this was called.
    pub(crate) async fn go_on(&mut self) {
        let answers = |shared: &Shared| -> Vec<_> {
            shared.answers.iter().map(|n| n.load(Ordering::Relaxed)).collect()
        };
        let before = answers(&self.shared);
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(ended) = self.players.try_join_next() {
                panic!("no player ends by itself: {ended:?}");
            }
            let now = answers(&self.shared);
            if now.iter().zip(&before).all(|(now, before)| now >= &(before + 4 * DEPTH)) {
                return;
            }
            assert!(Instant::now() < until, "not all go on: {before:?} {now:?}");
            sleep(PAUSE).await;
        }
    }

    /// Breaks connections, one bit for each player; their clients notice at once.
    pub(crate) fn cut(&self, whose: u64) {
        self.shared.cut.fetch_or(whose, Ordering::Relaxed);
    }

    /// Takes clients away from the network for [`AWAY`], one bit each.
    pub(crate) fn send_away(&self, whom: u64) {
        self.shared.away.fetch_or(whom, Ordering::Relaxed);
    }

    /// Ends it: whatever was asked is answered, and each bag holds what was drawn.
    pub(crate) async fn end(self) -> Seen {
        self.shared.over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for seen in self.players.join_all().await {
            let Seen { answered, drawn, resumed, came_back, resent, lost, refused, unsure } = seen;
            all.answered += answered;
            all.drawn += drawn;
            all.resumed.extend(resumed);
            all.came_back += came_back;
            all.resent += resent;
            all.lost.extend(lost);
            all.refused += refused;
            all.unsure += unsure;
        }
        all
    }
}

impl Shared {
    fn takes(bits: &AtomicU64, number: usize) -> bool {
        bits.fetch_and(!(1 << number), Ordering::Relaxed) >> number & 1 == 1
    }
}

/// One of them.
struct Player {
    session: Session,
    account: i64,
    due: VecDeque<Due>,
    asked: i64,
    draws_asked: i64,
    /// Cards that pushes told of.
    pushed: i64,
    /// The session was lost, so that the count of pushes begins anew.
    anew: bool,
    seen: Seen,
}

/// A request under way, and its number.
enum Due {
    Echo(i64, Ticket<msg::echo::Req>),
    Draw(Ticket<draw::Req>),
}

impl Player {
    fn new(session: Session) -> Self {
        let account = session.user().unwrap().account;
        Self {
            session,
            account,
            due: VecDeque::new(),
            asked: 0,
            draws_asked: 0,
            pushed: 0,
            anew: false,
            seen: Seen::default(),
        }
    }

    async fn play(mut self, number: usize, shared: Arc<Shared>) -> Seen {
        let name = self.session.welcome().session_id().to_owned();
        while !shared.over.load(Ordering::Relaxed) {
            self.ask().await;
            if Shared::takes(&shared.cut, number) {
                self.session.hang_up();
            }
            if Shared::takes(&shared.away, number) {
                self.session.hang_up();
                sleep(AWAY).await;
            }
            for _ in 0..ANSWERS_AT_ONCE {
                self.take_answer().await;
            }
            self.listen();
            shared.answers[number].store(self.seen.answered, Ordering::Relaxed);
            // Whoever is lost here hears of it with the next answer.
            let _rested = self.session.rest(PAUSE).await;
        }
        while !self.due.is_empty() {
            self.take_answer().await;
        }
        if self.seen.lost.is_empty() {
            assert_eq!(self.session.welcome().session_id(), name);
        }
        self.look().await;
        self.seen
    }

    /// Asks until as much is under way as may be.
    async fn ask(&mut self) {
        while self.due.len() < DEPTH {
            self.asked += 1;
            let draws = self.asked % DRAW_EVERY == 0 && self.draws_asked < GOLD;
            let sent = match draws {
                true => self.session.send(&draw::Req { count: 1 }).await.map(Due::Draw),
                false => {
                    let echo = msg::echo::Req { val: Some(self.asked), ct: None };
                    self.session.send(&echo).await.map(|ticket| Due::Echo(self.asked, ticket))
                }
            };
            self.draws_asked += i64::from(draws);
            self.due.push_back(sent.unwrap_or_else(|e| panic!("{}: {e}", self.account)));
        }
    }

    /// The next answer must be that to the oldest request, and tell what it must.
    async fn take_answer(&mut self) {
        let Some(due) = self.due.pop_front() else { return };
        let lost = match due {
            Due::Echo(number, mut ticket) => match self.session.answer(&mut ticket).await {
                Ok(echo) => {
                    assert_eq!(echo.val, Some(number));
                    None
                }
                Err(e) => Some((e, 0)),
            },
            Due::Draw(mut ticket) => match self.session.answer(&mut ticket).await {
                Ok(drawn) => {
                    self.seen.drawn += 1;
                    let (least, most) = (self.seen.drawn, self.seen.drawn + self.seen.unsure);
                    let paid = GOLD - drawn.gold();
                    assert!((least..=most).contains(&paid), "{paid} of {least} to {most}");
                    None
                }
                Err(e) => Some((e, 1)),
            },
        };
        match lost {
            None => self.seen.answered += 1,
            Some((SessionError::Lost(_), draws)) if self.session.lost().is_none() => {
                self.seen.unsure += draws;
            }
            // On a machine that has too much to do; the bag says whether it was done.
            Some((SessionError::Refused(why), 1)) if why.code == Code::NOT_READY => {
                self.seen.refused += 1;
            }
            Some((e, _)) => panic!("{}: {e}", self.account),
        }
    }

    /// Each push tells of one card more than the one before it.
    fn listen(&mut self) {
        while let Some(event) = self.session.event() {
            match event {
                Event::Push(push) => {
                    assert_eq!(push.api, "msg.GetItems.Res");
                    let bag = msg::get_items::Res::decode(push.payload.as_slice()).unwrap();
                    let cards = cards(&bag.items);
                    let next = self.pushed + 1;
                    assert!(
                        cards == next || (self.anew && cards >= self.seen.drawn),
                        "{cards} {next}"
                    );
                    (self.pushed, self.anew) = (cards, false);
                }
                Event::Resumed(resumed) => {
                    match resumed.took >= AWAY {
                        true => self.seen.came_back += 1,
                        false => self.seen.resumed.push(resumed.took),
                    }
                    self.seen.resent += resumed.resent;
                }
                Event::SignedInAnew(anew) => {
                    self.seen.lost.push(anew.lost);
                    self.anew = true;
                }
                Event::Refused { api, refusal } => panic!("{api}: {refusal}"),
            }
        }
    }

    /// The bag holds every card that was drawn, and none twice; every push has come.
    async fn look(&mut self) {
        self.session.ping().await.unwrap();
        self.listen();
        let bag = self.session.request(&msg::get_items::Req { idx: None }).await.unwrap();
        let (cards, seen) = (cards(&bag.items), &self.seen);
        let known = seen.drawn..=seen.drawn + seen.unsure;
        assert!(known.contains(&cards), "{cards} of {known:?}");
        assert!(self.anew || self.pushed == cards, "{} {cards}", self.pushed);
        assert_eq!(self.session.events_dropped(), 0);
        self.session.logout().await.unwrap();
    }
}

fn cards(items: &[def::Item]) -> i64 {
    items.iter().filter(|item| item.idx == CARD).map(|item| item.num).sum()
}
