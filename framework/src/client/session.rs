//! Owns a player's session as a program sees it: one state that is up, away or over, moved on by
//! whatever call the program awaits.

use std::{
    collections::VecDeque,
    future::poll_fn,
    marker::PhantomData,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::{Duration, Instant, Sleep, sleep},
};

use super::{
    Address, ClientError, Event, Loss, Options, Push, Resumed, SessionError, SignedIn,
    SignedInAnew, WhenLost, auth,
    away::{Arrived, Away, Credentials, Goal, Turn, Way},
    event::Fate,
    line::{Line, Wake},
    record::{Due, Inbound, Record},
};
use crate::{
    Named, Request, def, msg,
    wire::{Code, Refusal, put_message},
};

/// The resume window of a gate that does not tell it.
const RESUME_WINDOW: Duration = Duration::from_secs(60);

/// How much later than the connection an answer is given up: timers have a grain of 1 ms.
const JUDGED: Duration = Duration::from_millis(10);

/// Steps of one poll. Beyond: the program's other tasks have their turn.
const STEPS_PER_POLL_MAX: usize = 64;

/// A player's session, which outlives its connections.
///
/// When the connection breaks, or the gate sends the player away for a reason that passes, it
/// connects again (to the same gate, to others it knows, to one that the account center names),
/// and the server goes on where it was: no request, input, answer or push is lost, executed twice
/// or out of order. When the server does not go on, the session is lost: every ticket without an
/// answer fails with [`SessionError::Lost`], for whether its request was done is unknown, and
/// [`WhenLost`] says whether another session follows.
///
/// # Who does the work
/// There is no task behind it: whatever call is awaited reads, writes, pings and gets back. A
/// program with thousands of sessions needs no queue and no lock for each, and a test decides
/// when something moves. For it nothing moves between calls: who has nothing to ask awaits
/// [`Session::next_event`] or [`Session::rest`], at least every 30 s, lest the gate take the
/// client for gone. A session that is dropped without [`Session::logout`] lives on at the server
/// for its resume window.
///
/// # Cancel safety
/// Every future of a session may be dropped, such as in `select!` or `timeout`: the session and
/// its tickets are as if it had not been awaited any longer. Only [`Session::request`] takes its
/// ticket with it: the request is sent or not, and its answer is thrown away.
#[derive(Debug)]
pub struct Session {
    options: Options,
    way: Way,
    record: Record<oneshot::Sender<Outcome>>,
    state: State,
    window: Duration,
    welcome: msg::login::Res,
    address: Address,
    /// Connections so far: tells one ping's connection from the next.
    lines: u64,
    events: VecDeque<Event>,
    events_dropped: u64,
}

/// The claim on the answer to a request of one session. Dropping it throws the answer away.
#[derive(Debug)]
pub struct Ticket<Q> {
    answer: oneshot::Receiver<Outcome>,
    request: PhantomData<fn(Q)>,
}

type Outcome = Result<Push, Unanswered>;

#[derive(Debug)]
enum Unanswered {
    Refused(Refusal),
    Lost(Loss),
}

#[derive(Debug)]
enum State {
    Up(Line),
    Away(Away),
    Over(Loss),
}

// === Beginning and end ===

impl Session {
    /// Signs in as the guest who owns `device_id`, at the account center `http` and at the gate
    /// that it names.
    ///
    /// # Errors
    /// [`SessionError::SignIn`] when one of the two cannot be reached, or refuses. It is not tried
    /// again: a first sign-in that fails is the program's to judge.
    pub async fn guest(
        http: &str,
        device_id: &str,
        options: Options,
    ) -> Result<Self, SessionError> {
        Self::auth(http, &[("device_id", device_id)], options).await
    }

    /// Signs in with what the account center's `/v1/account/auth` takes. The form is kept, to be
    /// sent again when the session needs a new gate or a new sign-in.
    ///
    /// # Errors
    /// As [`Session::guest`].
    pub async fn auth(
        http: &str,
        form: &[(&str, &str)],
        options: Options,
    ) -> Result<Self, SessionError> {
        let signed_in = auth(http, form).await?;
        Self::at_gate(http, form, signed_in, options).await
    }

    /// Signs in at a gate of a given address with a token of the account center.
    ///
    /// # Errors
    /// As [`Session::guest`].
    pub async fn with_token(
        token: &str,
        gate: &str,
        options: Options,
    ) -> Result<Self, SessionError> {
        let signed_in = SignedIn { token: token.to_owned(), addr: gate.to_owned(), account_id: 0 };
        Self::begin(Credentials::Token, signed_in, options).await
    }

    /// Signs in at the gate, the account center having been asked already.
    pub(crate) async fn at_gate(
        http: &str,
        form: &[(&str, &str)],
        signed_in: SignedIn,
        options: Options,
    ) -> Result<Self, SessionError> {
        let form = form.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self::begin(Credentials::Form { http: http.to_owned(), form }, signed_in, options).await
    }

    async fn begin(
        credentials: Credentials,
        signed_in: SignedIn,
        options: Options,
    ) -> Result<Self, SessionError> {
        let mut way = Way::new(credentials, signed_in, &options)?;
        let Arrived { carrier, unread, address, answer } = way.sign_in().await?;
        let mut session = Self {
            record: Record::new(Vec::new()),
            state: State::Up(Line::new(carrier, unread, &options)),
            window: RESUME_WINDOW,
            welcome: msg::login::Res::default(),
            address,
            lines: 1,
            events: VecDeque::new(),
            events_dropped: 0,
            options,
            way,
        };
        session.welcomed(answer);
        Ok(session)
    }

    /// Ends the session at the server. Without it the server waits for the client to come back.
    ///
    /// # Errors
    /// As [`Session::request`]; a session that is lost already counts as ended.
    pub async fn logout(&mut self) -> Result<(), SessionError> {
        // Whatever becomes of it, no other session is wanted.
        self.options.when_lost = WhenLost::End;
        let account = self.account();
        let sent = self.put(&msg::logout::Req { account }, Some(msg::logout::Res::NAME)).await;
        let answered = match sent {
            Ok(answer) => {
                let mut ticket = Ticket::<msg::logout::Req> { answer, request: PhantomData };
                self.answer(&mut ticket).await.map(|_| ())
            }
            Err(e) => Err(e),
        };
        match answered {
            Ok(()) | Err(SessionError::Lost(_)) => {
                self.lose(Loss::LoggedOut);
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Breaks the connection as a bad network does, for tests and load: the session gets back.
    pub fn hang_up(&mut self) {
        if let State::Up(_) = self.state {
            self.break_off("hung up".to_owned());
        }
    }
}

// === Asking ===

impl Session {
    /// Sends a request and waits for its answer, however many connections that takes.
    ///
    /// # Errors
    /// [`SessionError::Refused`] when the answer is `msg.Error.Res`; [`SessionError::Lost`] when
    /// the session ended before the answer came, and whether it was done is unknown.
    pub async fn request<Q: Request>(&mut self, request: &Q) -> Result<Q::Res, SessionError> {
        let mut ticket = self.send(request).await?;
        self.answer(&mut ticket).await
    }

    /// Sends a request and does not wait for its answer: several may be under way. Returns when
    /// the session has taken it; while away it is kept, and sent after the resume.
    ///
    /// # Errors
    /// [`SessionError::Late`] when there was no room for too long; then nothing was sent.
    ///
    /// # Cancel safety
    /// When it is dropped, nothing was sent.
    ///
    /// ```no_run
    /// # use bastide::{client::{Session, SessionError}, msg};
    /// # async fn two(session: &mut Session) -> Result<(), SessionError> {
    /// let mut first = session.send(&msg::echo::Req { val: Some(1), ct: None }).await?;
    /// let mut second = session.send(&msg::echo::Req { val: Some(2), ct: None }).await?;
    /// assert_eq!(session.answer(&mut second).await?.val, Some(2));
    /// assert_eq!(session.answer(&mut first).await?.val, Some(1));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send<Q: Request>(&mut self, request: &Q) -> Result<Ticket<Q>, SessionError> {
        reserved::<Q>()?;
        let answer = self.put(request, Q::ANSWER).await?;
        Ok(Ticket { answer, request: PhantomData })
    }

    /// Waits for the answer to a request that was sent.
    ///
    /// # Errors
    /// As [`Session::request`]; [`SessionError::Late`] after [`Options::answer_timeout`] on a
    /// connection that stood, and then the answer may be waited for once more.
    pub async fn answer<Q: Request>(
        &mut self,
        ticket: &mut Ticket<Q>,
    ) -> Result<Q::Res, SessionError> {
        let came =
            self.until(Some(self.options.answer_timeout), |_| match ticket.answer.try_recv() {
                Ok(outcome) => Some(Ok(outcome)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Closed) => Some(Err(SessionError::NoAnswer)),
            });
        match came.await?? {
            Ok(Push { api, payload }) => <Q::Res as prost::Message>::decode(payload.as_slice())
                .map_err(|_| SessionError::Payload(api)),
            Err(Unanswered::Refused(refusal)) => Err(SessionError::Refused(refusal)),
            Err(Unanswered::Lost(loss)) => Err(SessionError::Lost(loss)),
        }
    }

    /// Sends a message that gets no answer, such as a move. When it is refused, an
    /// [`Event::Refused`] says so.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub async fn input<M: Named>(&mut self, message: &M) -> Result<(), SessionError> {
        reserved::<M>()?;
        self.put(message, None).await.map(|_| ())
    }

    /// Says what was received and hears what the server has; how long that took. The session
    /// pings by itself: this is for who wants to know the time, or that everything has arrived.
    ///
    /// # Errors
    /// As [`Session::answer`].
    pub async fn ping(&mut self) -> Result<Duration, SessionError> {
        let mut asked = None;
        let mut began = Instant::now();
        self.until(Some(self.options.answer_timeout), |session| {
            let lines = session.lines;
            let State::Up(line) = &mut session.state else { return None };
            match asked {
                Some((on, ct)) if on == lines => (line.ponged() >= ct).then_some(()),
                _ => {
                    began = Instant::now();
                    asked = Some((lines, line.ping(&mut session.record, &session.options)));
                    None
                }
            }
        })
        .await?;
        Ok(began.elapsed())
    }

    async fn put<M: Named>(
        &mut self,
        message: &M,
        answer: Option<&'static str>,
    ) -> Result<oneshot::Receiver<Outcome>, SessionError> {
        let mut frame = Vec::new();
        put_message(&mut frame, message)?;
        self.until(Some(self.options.answer_timeout), |session| session.room(&frame).then_some(()))
            .await?;
        if let State::Over(loss) = &self.state {
            return Err(SessionError::Lost(loss.clone()));
        }
        let (waits, outcome) = oneshot::channel();
        self.record.send(frame, answer.map(|answer| Due { api: M::NAME, answer, waits }));
        self.nudge().await;
        Ok(outcome)
    }

    fn room(&self, frame: &[u8]) -> bool {
        if let State::Away(Away { goal: Goal::SignIn { .. }, .. }) = &self.state {
            // What is sent now is for the next session.
            return false;
        }
        let options = &self.options;
        let (frames, bytes) = self.record.unconfirmed();
        let fits = frames == 0
            || (frames < options.unconfirmed_frames_max
                && bytes + frame.len() <= options.unconfirmed_bytes_max);
        fits && self.record.due() < options.requests_max
    }
}

// === Listening ===

impl Session {
    /// The next push or turn of the session, waiting for it as long as it takes.
    ///
    /// # Errors
    /// [`SessionError::Lost`] when the session is over and everything it had was handed out.
    pub async fn next_event(&mut self) -> Result<Event, SessionError> {
        self.until(None, |session| session.events.pop_front()).await
    }

    /// Does nothing for a while but keep the session alive.
    ///
    /// # Errors
    /// [`SessionError::Lost`] when the session is over.
    pub async fn rest(&mut self, time: Duration) -> Result<(), SessionError> {
        match tokio::time::timeout(time, self.until(None, |_| None::<()>)).await {
            Ok(ended) => ended,
            Err(_) => Ok(()),
        }
    }

    /// The oldest event that waits, if one does.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The oldest push that waits; other events stay where they are.
    pub fn push(&mut self) -> Option<Push> {
        let at = self.events.iter().position(|event| matches!(event, Event::Push(_)))?;
        match self.events.remove(at) {
            Some(Event::Push(push)) => Some(push),
            _ => None,
        }
    }

    /// The oldest event that is not a push; pushes stay where they are.
    pub fn turn(&mut self) -> Option<Event> {
        let at = self.events.iter().position(|event| !matches!(event, Event::Push(_)))?;
        self.events.remove(at)
    }

    /// Events that nobody looked at in time, and that are gone.
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped
    }

    /// What the gate said at sign-in; its resume token is taken out.
    pub fn welcome(&self) -> &msg::login::Res {
        &self.welcome
    }

    /// The player's own record, as the gate told it at sign-in.
    pub fn user(&self) -> Option<&def::User> {
        self.welcome.user.as_ref()
    }

    /// The gate that the session was with last.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Why the session is over, if it is.
    pub fn lost(&self) -> Option<&Loss> {
        match &self.state {
            State::Over(loss) => Some(loss),
            State::Up(_) | State::Away(_) => None,
        }
    }

    fn account(&self) -> i64 {
        self.user().map(|user| user.account).unwrap_or_default()
    }
}

// === Moving on ===

impl Session {
    /// Moves the session on until `check` finds what it wants, the session is over, or `patience`
    /// has passed on a connection that stood.
    async fn until<T>(
        &mut self,
        patience: Option<Duration>,
        mut check: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, SessionError> {
        let began = Instant::now();
        let mut timer = pin!(sleep(patience.unwrap_or_default()));
        poll_fn(|cx| {
            for _ in 0..STEPS_PER_POLL_MAX {
                if let Some(found) = check(self) {
                    return Poll::Ready(Ok(found));
                }
                if let State::Over(loss) = &self.state {
                    return Poll::Ready(Err(SessionError::Lost(loss.clone())));
                }
                if self.step(cx).is_pending() {
                    let Some(patience) = patience else { return Poll::Pending };
                    ready!(self.poll_patience(cx, timer.as_mut(), began, patience));
                    return Poll::Ready(Err(SessionError::Late(patience)));
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    fn poll_patience(
        &self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
        began: Instant,
        patience: Duration,
    ) -> Poll<()> {
        let State::Up(line) = &self.state else { return Poll::Pending };
        // A connection that may be dead is judged before the answer is.
        let judged = line.silent_since().map(|since| since + self.options.silence_max + JUDGED);
        let until = (began.max(line.began) + patience).max(judged.unwrap_or(began));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.poll(cx)
    }

    /// Moves on as far as that needs no waiting.
    async fn nudge(&mut self) {
        poll_fn(|cx| {
            for _ in 0..STEPS_PER_POLL_MAX {
                if matches!(self.state, State::Over(_)) || self.step(cx).is_pending() {
                    break;
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// One step; pending when there is none to take now.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { options, record, .. } = self;
        match &mut self.state {
            State::Up(line) => {
                line.ping_if_due(record, options);
                if line.poll_write(cx, record).is_ready() {
                    return Poll::Ready(());
                }
                match line.poll_frame(cx) {
                    Poll::Ready(Ok(frame)) => self.take_in(frame),
                    Poll::Ready(Err(why)) => self.break_off(why),
                    Poll::Pending => match ready!(line.poll_time(cx, record, options)) {
                        Wake::Pinged => {}
                        Wake::Broken(why) => self.break_off(why),
                    },
                }
            }
            State::Away(away) => match ready!(away.poll(cx, &mut self.way)) {
                Turn::Trying => {}
                Turn::Resumed(arrived) => self.resumed(arrived),
                Turn::SignedIn(arrived) => self.signed_in_anew(arrived),
                Turn::GaveUp(loss) => self.lose(loss),
            },
            State::Over(_) => {}
        }
        Poll::Ready(())
    }

    fn take_in(&mut self, frame: Push) {
        match self.record.receive(frame) {
            // Who waited may have gone.
            Inbound::Answer(waits, answer) => {
                drop(waits.send(answer.map_err(Unanswered::Refused)));
            }
            Inbound::Push(push) => self.tell(Event::Push(push)),
            Inbound::Refused { api, refusal } => self.tell(Event::Refused { api, refusal }),
            Inbound::Pong(pong) => {
                if let State::Up(line) = &mut self.state {
                    line.pong(pong.ct);
                }
                if let Err(loss) = self.record.confirm(pong.received) {
                    self.lose(loss);
                }
            }
            Inbound::Kicked(refusal) if Fate::of(refusal.code) == Fate::Again => {
                if refusal.code == Code::DRAINING {
                    self.way.avoid_last();
                }
                self.break_off(refusal.to_string());
            }
            Inbound::Kicked(refusal) => self.lose(Loss::Kicked(refusal)),
            Inbound::Unreadable(refusal) => self.lose(Loss::Unreadable(refusal)),
            Inbound::Nothing => {}
            Inbound::Undecodable(api) => {
                self.break_off(format!("the gate sent an undecodable {api}"));
            }
        }
    }

    fn break_off(&mut self, why: String) {
        tracing::debug!(target: "client", gate = %self.address, "the connection broke: {why}");
        if !self.record.resumable() {
            return self.lose(Loss::NotResumable(why));
        }
        let goal = Goal::Resume(self.record.resume());
        self.state = State::Away(Away::new(goal, why, self.window, &self.way));
    }

    fn resumed(&mut self, arrived: Arrived<msg::resume::Res>) {
        let Arrived { carrier, unread, address, answer } = arrived;
        let resent = match self.record.resumed(answer) {
            Ok(resent) => resent,
            Err(loss) => return self.lose(loss),
        };
        self.address = address;
        let line = Line::new(carrier, unread, &self.options);
        if let State::Away(away) = self.connected(line) {
            let (took, tries, broke) = (away.since.elapsed(), away.tries, away.broke);
            self.tell(Event::Resumed(Resumed { took, tries, resent, broke }));
        }
    }

    fn signed_in_anew(&mut self, arrived: Arrived<msg::login::Res>) {
        let Arrived { carrier, unread, address, answer } = arrived;
        self.address = address;
        self.welcomed(answer);
        let line = Line::new(carrier, unread, &self.options);
        if let State::Away(away) = self.connected(line)
            && let Goal::SignIn { lost, unanswered } = away.goal
        {
            let took = away.since.elapsed();
            self.tell(Event::SignedInAnew(SignedInAnew { took, lost, unanswered }));
        }
    }

    fn connected(&mut self, line: Line) -> State {
        self.lines += 1;
        std::mem::replace(&mut self.state, State::Up(line))
    }

    fn welcomed(&mut self, mut welcome: msg::login::Res) {
        self.record = Record::new(welcome.resume_token.take().unwrap_or_default());
        let told = welcome.resume_window_s.map(|s| Duration::from_secs(s.into()));
        self.window = told.unwrap_or(RESUME_WINDOW);
        self.welcome = welcome;
    }

    /// The session cannot go on: whoever waits is told, and another begins if that is wanted.
    fn lose(&mut self, loss: Loss) {
        let mut unanswered = 0;
        for waits in self.record.end() {
            unanswered += 1;
            drop(waits.send(Err(Unanswered::Lost(loss.clone()))));
        }
        let anew = self.options.when_lost == WhenLost::SignInAnew && loss.fate() != Fate::Final;
        if !anew {
            tracing::debug!(target: "client", "the session is over: {loss}");
            self.state = State::Over(loss);
            return;
        }
        let (broke, patience) = (loss.to_string(), self.options.sign_in_patience);
        let goal = Goal::SignIn { lost: loss, unanswered };
        let mut away = Away::new(goal, broke, patience, &self.way);
        if let State::Away(before) = &self.state {
            away.since = before.since;
        }
        self.state = State::Away(away);
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= self.options.events_max {
            self.events.pop_front();
            self.events_dropped += 1;
        }
        self.events.push_back(event);
    }
}

/// The session's own messages are not counted, or begin and end it: nobody else sends them.
fn reserved<M: Named>() -> Result<(), SessionError> {
    match M::NAME {
        msg::ping::Req::NAME
        | msg::login::Req::NAME
        | msg::resume::Req::NAME
        | msg::logout::Req::NAME => Err(SessionError::Reserved(M::NAME)),
        _ => Ok(()),
    }
}

#[expect(dead_code, reason = "a bot on a multi-threaded runtime moves its session")]
fn sessions_may_cross_threads(session: Session) -> impl Send {
    session
}

#[expect(dead_code, reason = "as above, for the error")]
fn errors_may_cross_threads(error: ClientError) -> impl Send + Sync {
    error
}
