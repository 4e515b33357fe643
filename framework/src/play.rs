//! Owns `play`: a client that does what a player does, says how long each step took, and fails
//! when one does not work. A studio adds the steps of its game.

use std::{fmt, future::Future, io::Write as _, pin::Pin, time::Duration};

use tokio::time::Instant;

use crate::{
    Named, Request,
    client::{ClientError, Event, Options, Push, Session, SessionError, guest},
};

/// A signed-in player at its game.
#[derive(Debug)]
pub struct Play {
    session: Session,
    account_id: i64,
    step_began: Instant,
    began: Instant,
}

/// Why a step did not work.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The account center could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server or the way to it failed, for longer than a session lives without a connection.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The server answered, and the answer is wrong.
    #[error("{0}")]
    Wrong(String),
}

impl Play {
    /// Signs in and sees that the gate answers.
    pub(crate) async fn begin(http: &str, device_id: &str) -> Result<Self, PlayError> {
        let began = Instant::now();
        let signed_in = guest(http, device_id).await?;
        let account_id = signed_in.account_id;
        let mut step_began = say_step(began, &format!("signed in as guest, account {account_id}"));
        let form = [("device_id", device_id)];
        let mut session = Session::at_gate(http, &form, signed_in, Options::default()).await?;
        let name = session.welcome().session_id().to_owned();
        step_began = say_step(step_began, &format!("at the gate {}, {name}", session.address()));
        session.ping().await?;
        step_began = say_step(step_began, "ping came back");
        Ok(Self { session, account_id, step_began, began })
    }

    /// Says how long all of it took.
    pub(crate) fn end(&self) {
        say_step(self.began, "all of it worked");
    }

    /// The signed-in account.
    pub fn account_id(&self) -> i64 {
        self.account_id
    }

    /// Sends a request and waits for its answer. When the connection breaks meanwhile, the session
    /// is resumed, and a line says how long that took.
    ///
    /// # Errors
    /// When it is refused, or no answer comes.
    pub async fn request<Q: Request>(&mut self, request: &Q) -> Result<Q::Res, PlayError> {
        let answer = self.session.request(request).await;
        while let Some(turn) = self.session.turn() {
            say_turn(&turn);
        }
        Ok(answer?)
    }

    /// Sends a message that gets no answer, such as where to go.
    ///
    /// # Errors
    /// When the session is over, or has no room for it for too long.
    pub async fn input<M: Named>(&mut self, message: &M) -> Result<(), PlayError> {
        Ok(self.session.input(message).await?)
    }

    /// The oldest push that nobody has looked at; waits for one for at most so long.
    ///
    /// # Errors
    /// [`PlayError::Wrong`] when none comes, or when a message that gets no answer was refused.
    pub async fn next_push(&mut self, patience: Duration) -> Result<Push, PlayError> {
        let wait = async {
            loop {
                match self.session.next_event().await? {
                    Event::Push(push) => return Ok(push),
                    Event::Refused { api, refusal } => {
                        return Err(PlayError::Wrong(format!("{api}: {refusal}")));
                    }
                    turn => say_turn(&turn),
                }
            }
        };
        let came = tokio::time::timeout(patience, wait).await;
        came.unwrap_or_else(|_| Err(PlayError::Wrong(format!("no push within {patience:?}"))))
    }

    /// The oldest push that came while waiting for an answer.
    pub fn push(&mut self) -> Option<Push> {
        self.session.push()
    }

    /// Ends the play with an error unless `true`.
    ///
    /// # Errors
    /// [`PlayError::Wrong`] with `expected` when it is not.
    pub fn expect(&self, holds: bool, expected: impl fmt::Display) -> Result<(), PlayError> {
        if holds { Ok(()) } else { Err(PlayError::Wrong(format!("not as expected: {expected}"))) }
    }

    /// Prints what has just been done, and how long it took since the last step.
    pub fn step(&mut self, done: impl fmt::Display) {
        self.step_began = say_step(self.step_began, &done.to_string());
    }
}

/// Says what happened to the session on the way; pushes are the script's.
fn say_turn(turn: &Event) {
    match turn {
        Event::Resumed(resumed) => {
            let (tries, broke) = (resumed.tries, &resumed.broke);
            say(resumed.took, &format!("resumed after {tries} tries: {broke}"));
        }
        Event::SignedInAnew(anew) => say(anew.took, &format!("signed in anew: {}", anew.lost)),
        Event::Refused { api, refusal } => say(Duration::ZERO, &format!("{api}: {refusal}")),
        Event::Push(_) => {}
    }
}

fn say_step(began: Instant, done: &str) -> Instant {
    let now = Instant::now();
    say(now - began, done);
    now
}

fn say(took: Duration, done: &str) {
    let line = writeln!(std::io::stdout(), "{:>9.1} ms  {done}", took.as_secs_f64() * 1000.0);
    if line.is_err() {
        // Nobody reads any more; the exit code still tells.
        tracing::debug!(target: "play", "standard output is closed");
    }
}

/// The steps of a studio's game: an `async fn(&mut Play) -> Result<(), PlayError>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a script to play",
    note = "write `async fn(&mut Play) -> Result<(), PlayError>`"
)]
pub trait Script<'a>: 'static {
    /// What playing it gives.
    type Future: Future<Output = Result<(), PlayError>> + 'a;

    /// Plays it.
    fn play(&self, play: &'a mut Play) -> Self::Future;
}

impl<'a, F, Fut> Script<'a> for F
where
    F: Fn(&'a mut Play) -> Fut + 'static,
    Fut: Future<Output = Result<(), PlayError>> + 'a,
{
    type Future = Fut;

    fn play(&self, play: &'a mut Play) -> Fut {
        self(play)
    }
}

type Playing<'a> = Pin<Box<dyn Future<Output = Result<(), PlayError>> + 'a>>;

/// A script whose type does not matter.
pub(crate) type AnyScript = Box<dyn for<'a> Fn(&'a mut Play) -> Playing<'a>>;

pub(crate) fn any_script(script: impl for<'a> Script<'a>) -> AnyScript {
    fn higher_ranked<F: for<'a> Fn(&'a mut Play) -> Playing<'a>>(play: F) -> F {
        play
    }
    Box::new(higher_ranked(move |play| Box::pin(script.play(play))))
}
