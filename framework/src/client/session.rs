//! Owns a player's session as a program sees it: beginning, asking, listening, ending. How it moves
//! on lies in `drive`.

use std::{collections::VecDeque, marker::PhantomData};

use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::{Duration, Instant},
};

use super::{
    Address, Event, Loss, Options, Push, SessionError, SignedIn, WhenLost, auth,
    away::{Arrived, Away, Credentials, Goal, Way},
    line::Line,
    record::{Due, Record},
};
use crate::{
    Named, Request, def, msg,
    wire::{Refusal, put_message},
};

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
    pub(super) options: Options,
    pub(super) way: Way,
    pub(super) record: Record<oneshot::Sender<Outcome>>,
    pub(super) state: State,
    pub(super) window: Duration,
    pub(super) welcome: msg::login::Res,
    pub(super) address: Address,
    /// Connections so far: tells one ping's connection from the next.
    pub(super) lines: u64,
    pub(super) events: VecDeque<Event>,
    pub(super) events_dropped: u64,
}

/// The claim on the answer to a request of one session. Dropping it throws the answer away.
#[derive(Debug)]
pub struct Ticket<Q> {
    answer: oneshot::Receiver<Outcome>,
    request: PhantomData<fn(Q)>,
}

pub(super) type Outcome = Result<Push, Unanswered>;

#[derive(Debug)]
pub(super) enum Unanswered {
    Refused(Refusal),
    Lost(Loss),
}

#[derive(Debug)]
pub(super) enum State {
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
            window: Duration::ZERO,
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
