//! Owns members of rooms: each talks in a channel, is in an arena if it wants, and notes everything
//! that it hears. Leaves what happens to servers to `rooms`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bastide::{
    Code, Named as _,
    client::{Address, Event, Loss, Options, Push, Session, SessionError},
    msg,
    prost::Message as _,
};
use chat::{Line, history, say};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::nodes::{AccountCenters, PATIENCE};

/// Between two lines of one member: well below five a second.
const TALK_EVERY: Duration = Duration::from_millis(600);

/// How long a member listens before it looks what it is to do.
const LISTENS: Duration = Duration::from_millis(40);

/// What a line may be told that was not said: again, a little later.
const PASSING: [Code; 5] =
    [Code::NOT_CONNECTED, Code::NOT_READY, Code::BUSY, Code::DRAINING, Code::RATE_LIMITED];

/// Something that a member heard.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    Line(Line),
    /// The room was lost and is there again: its id, and its state.
    Back(String, Vec<u8>),
    /// One of an arena's views: its tick.
    View(u64),
    Closed(msg::RoomClosed),
}

/// What one member knows.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) account: i64,
    /// The last line that was said before it came.
    pub(crate) from: u64,
    pub(crate) heard: Vec<(Instant, Heard)>,
    /// What it said, by number.
    pub(crate) said: BTreeMap<u64, String>,
    /// Lines of which it does not know whether they were said.
    pub(crate) unsure: Vec<String>,
    pub(crate) resumed: usize,
    pub(crate) lost: Option<Loss>,
}

/// Members of the same rooms.
pub(crate) struct Party {
    accounts: AccountCenters,
    gates: Vec<Address>,
    pub(crate) chat: String,
    pub(crate) arena: Option<String>,
    pub(crate) members: Vec<Arc<Mutex<Seen>>>,
    flags: Arc<Flags>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Flags {
    quiet: AtomicBool,
    over: AtomicBool,
}

/// A seat in any room of a kind, or in a certain one.
pub(crate) fn enter(kind: &str, room_id: &str, request_id: &str) -> msg::enter_room::Req {
    let options = match kind {
        arena::KIND => HashMap::from([("robots".to_owned(), "3".to_owned())]),
        _ => HashMap::new(),
    };
    let (kind, room_id) = (kind.to_owned(), room_id.to_owned());
    msg::enter_room::Req { kind, room_id, request_id: request_id.to_owned(), options }
}

/// Takes a seat; what the room told.
pub(crate) async fn sit(session: &mut Session, kind: &str, room_id: &str) -> msg::join_room::Res {
    let entered = session.request(&enter(kind, room_id, "")).await.unwrap();
    let joins = msg::join_room::Req { ticket: entered.ticket, name: "member".to_owned() };
    session.request(&joins).await.unwrap()
}

pub(crate) async fn session(accounts: &AccountCenters, device: &str, gates: &[Address]) -> Session {
    // The machine may be busy with other tests.
    let (gates, answer_timeout) = (gates.to_vec(), PATIENCE);
    let options = Options { gates, answer_timeout, ..Options::default() };
    Session::guest(&accounts.one(), device, options).await.unwrap()
}

impl Party {
    /// Of a channel, and an arena if they want, that the first of them has opened.
    pub(crate) async fn begin(
        accounts: &AccountCenters,
        gates: Vec<Address>,
        plays: bool,
        members: usize,
    ) -> Self {
        let mut party = Self {
            accounts: accounts.clone(),
            gates,
            chat: String::new(),
            arena: plays.then(String::new),
            members: Vec::new(),
            flags: Arc::default(),
            tasks: JoinSet::new(),
        };
        party.grow(members).await;
        party
    }

    /// More of them come.
    pub(crate) async fn grow(&mut self, by: usize) {
        for _ in 0..by {
            let device = format!("member-{}", self.members.len());
            let mut session = session(&self.accounts, &device, &self.gates).await;
            let joined = sit(&mut session, chat::KIND, &self.chat).await;
            let state = chat::State::decode(joined.state.as_slice()).unwrap();
            self.chat = joined.room_id;
            if let Some(arena) = &mut self.arena {
                *arena = sit(&mut session, arena::KIND, arena).await.room_id;
            }
            let account = session.user().unwrap().account;
            let from = state.lines.last().map_or(0, |line| line.number);
            let seen = Arc::new(Mutex::new(Seen { account, from, ..Seen::default() }));
            self.members.push(seen.clone());
            let member = Member { session, seen, next: 0, sits: true };
            self.tasks.spawn(member.live(self.flags.clone()));
        }
    }

    pub(crate) fn seen(&self) -> impl Iterator<Item = MutexGuard<'_, Seen>> {
        self.members.iter().map(|seen| lock(seen))
    }

    pub(crate) fn accounts(&self) -> Vec<i64> {
        self.seen().map(|seen| seen.account).collect()
    }

    /// Nobody says anything any more; they still listen. Ready when what was said was heard.
    pub(crate) async fn be_quiet(&self) {
        self.flags.quiet.store(true, Ordering::Relaxed);
        sleep(TALK_EVERY).await;
    }

    pub(crate) fn talk(&self) {
        self.flags.quiet.store(false, Ordering::Relaxed);
    }

    /// What is remembered of the channel, by one of them.
    pub(crate) async fn history(&self, session: &mut Session) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        loop {
            let before = lines.first().map_or(0, |line| line.number);
            let mut page = session.request(&history::Req { before }).await.unwrap().lines;
            if page.is_empty() {
                return lines;
            }
            page.append(&mut lines);
            lines = page;
        }
    }

    /// Ends it; what each has seen. Whoever failed is told of.
    pub(crate) async fn end(mut self) -> Vec<Seen> {
        self.flags.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let taken = |seen: &Arc<Mutex<Seen>>| std::mem::take(&mut *lock(seen));
        self.members.iter().map(taken).collect()
    }
}

impl Seen {
    /// When something was heard for the first time after a moment.
    pub(crate) fn first_after(
        &self,
        moment: Instant,
        what: impl Fn(&Heard) -> bool,
    ) -> Option<Instant> {
        let mut heard = self.heard.iter().filter(|(at, _)| *at > moment);
        heard.find(|(_, heard)| what(heard)).map(|(at, _)| *at)
    }

    /// Whether a room came back after a moment, and was heard of since.
    pub(crate) fn goes_on(
        &self,
        moment: Instant,
        room: &str,
        what: impl Fn(&Heard) -> bool,
    ) -> Option<Instant> {
        let is_back = |heard: &Heard| matches!(heard, Heard::Back(id, _) if id == room);
        self.first_after(moment, is_back).and_then(|back| self.first_after(back, what))
    }

    /// How often it was told that a room is there again.
    pub(crate) fn backs(&self) -> usize {
        self.heard.iter().filter(|(_, heard)| matches!(heard, Heard::Back(..))).count()
    }

    pub(crate) fn closed(&self) -> Vec<&msg::RoomClosed> {
        let closed = |heard| match heard {
            &(_, Heard::Closed(ref closed)) => Some(closed),
            _ => None,
        };
        self.heard.iter().filter_map(closed).collect()
    }

    /// The lines that it knows, by number: each heard once and in order, with no gap but those that
    /// the room's state has filled.
    pub(crate) fn lines(&self) -> BTreeMap<u64, Line> {
        let (mut known, mut last) = (BTreeMap::new(), self.from);
        for (_, heard) in &self.heard {
            match heard {
                Heard::Line(line) => {
                    assert_eq!(line.number, last + 1, "{}", self.account);
                    last = line.number;
                    assert!(known.insert(line.number, line.clone()).is_none_or(|l| l == *line));
                }
                Heard::Back(_, state) => {
                    let Ok(state) = chat::State::decode(state.as_slice()) else { continue };
                    for line in state.lines {
                        assert!(line.number <= last + 1 || last == 0, "{}", self.account);
                        last = last.max(line.number);
                        known.insert(line.number, line);
                    }
                }
                Heard::View(_) | Heard::Closed(_) => {}
            }
        }
        known
    }
}

/// One of them, alive.
struct Member {
    session: Session,
    seen: Arc<Mutex<Seen>>,
    /// Of its next line.
    next: usize,
    /// It has a seat in the channel.
    sits: bool,
}

impl Member {
    async fn live(mut self, flags: Arc<Flags>) {
        let mut talks_at = Instant::now();
        while !flags.over.load(Ordering::Relaxed) {
            let quiet = flags.quiet.load(Ordering::Relaxed) || !self.sits;
            if !quiet && talks_at <= Instant::now() {
                talks_at = Instant::now() + TALK_EVERY;
                self.say().await;
            }
            // Whoever is lost is told below.
            let _rested = self.session.rest(LISTENS).await;
            self.listen();
            if let Some(loss) = self.session.lost() {
                lock(&self.seen).lost = Some(loss.clone());
                return;
            }
        }
    }

    async fn say(&mut self) {
        let account = lock(&self.seen).account;
        let text = format!("{account}: {}", self.next);
        let answer = self.session.request(&say::Req { text: text.clone() }).await;
        let mut seen = lock(&self.seen);
        match answer {
            Ok(said) => {
                self.next += 1;
                seen.said.insert(said.number, text);
            }
            Err(SessionError::Refused(why)) if PASSING.contains(&why.code) => {}
            Err(SessionError::Refused(why)) if why.code == Code::DEADLINE => {
                self.next += 1;
                seen.unsure.push(text);
            }
            Err(SessionError::Refused(why)) if why.code == Code::NOT_IN_ROOM => self.sits = false,
            Err(SessionError::Lost(_)) => seen.unsure.push(text),
            Err(e) => panic!("{account}: {e}"),
        }
    }

    fn listen(&mut self) {
        let mut seen = lock(&self.seen);
        while let Some(event) = self.session.event() {
            match event {
                Event::Push(push) => seen.heard.extend(hear(&push).map(|h| (Instant::now(), h))),
                Event::Resumed(_) => seen.resumed += 1,
                Event::SignedInAnew(_) | Event::Refused { .. } => panic!("{event:?}"),
            }
        }
    }
}

fn hear(push: &Push) -> Option<Heard> {
    let bytes = push.payload.as_slice();
    Some(match push.api.as_str() {
        Line::NAME => Heard::Line(Line::decode(bytes).unwrap()),
        arena::View::NAME => Heard::View(arena::View::decode(bytes).unwrap().tick),
        msg::join_room::Res::NAME => {
            let back = msg::join_room::Res::decode(bytes).unwrap();
            Heard::Back(back.room_id, back.state)
        }
        msg::RoomClosed::NAME => Heard::Closed(msg::RoomClosed::decode(bytes).unwrap()),
        _ => return None,
    })
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
