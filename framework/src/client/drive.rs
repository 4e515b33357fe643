//! Owns how a session moves on: up, away, over, and what each step between them does. Every step
//! is a poll, so that a caller may stop waiting at any moment.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::time::{Duration, Instant, Sleep, sleep};

use super::{
    Event, Loss, Push, Resumed, Session, SessionError, SignedInAnew, WhenLost,
    away::{Arrived, Away, Goal, Turn},
    event::Fate,
    line::{Line, Wake},
    record::{Inbound, Record},
    session::{State, Unanswered},
};
use crate::{msg, wire::Code};

/// The resume window of a gate that does not tell it.
const RESUME_WINDOW: Duration = Duration::from_secs(60);

/// How much later than the connection an answer is given up: timers have a grain of 1 ms.
const JUDGED: Duration = Duration::from_millis(10);

/// Steps of one poll. Beyond: the program's other tasks have their turn.
const STEPS_PER_POLL_MAX: usize = 64;

impl Session {
    /// Moves the session on until `check` finds what it wants, the session is over, or `patience`
    /// has passed on a connection that stood.
    pub(super) async fn until<T>(
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
    pub(super) async fn nudge(&mut self) {
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
                    Poll::Pending => return self.step_beside(cx),
                }
            }
            State::Away(away) => match ready!(away.poll(cx, &mut self.way)) {
                Turn::Trying => {}
                Turn::Resumed(arrived) => self.resumed(arrived),
                Turn::SignedIn(arrived) => self.signed_in_anew(*arrived),
                Turn::GaveUp(loss) => self.lose(loss),
            },
            State::Over(_) => {}
        }
        Poll::Ready(())
    }

    /// Whatever is not on the stream: what came beside it does not count, and time passes.
    fn step_beside(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { options, record, state, .. } = self;
        let State::Up(line) = state else { return Poll::Pending };
        if let Poll::Ready(came) = line.poll_datagram(cx) {
            if let Some(push) = came {
                self.tell(Event::Push(push));
            }
            return Poll::Ready(());
        }
        match ready!(line.poll_time(cx, record, options)) {
            Wake::Pinged => {}
            Wake::Broken(why) => self.break_off(why),
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

    pub(super) fn break_off(&mut self, why: String) {
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

    pub(super) fn welcomed(&mut self, mut welcome: msg::login::Res) {
        self.record = Record::new(welcome.resume_token.take().unwrap_or_default());
        let told = welcome.resume_window_s.map(|s| Duration::from_secs(s.into()));
        self.window = told.unwrap_or(RESUME_WINDOW);
        self.welcome = welcome;
    }

    /// The session cannot go on: whoever waits is told, and another begins if that is wanted.
    pub(super) fn lose(&mut self, loss: Loss) {
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
