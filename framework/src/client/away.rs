//! Owns the way back: which gate is tried next, after which pause, and when it is given up. A try
//! is kept while the caller waits for something else, and goes on where it was.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::time::{Duration, Instant, Sleep, sleep, timeout};

use super::{
    Client, ClientError, Loss, Options, SignedIn, auth,
    dial::{Address, Carrier, Dial},
    event::Fate,
};
use crate::{chance::Chance, msg, wire::Code};

/// Gates that are kept in mind. Beyond: the one at the end is forgotten.
const GATES_MAX: usize = 16;

/// Who signs in, and where.
#[derive(Debug)]
pub(super) enum Credentials {
    /// Asked of the account center, each time.
    Form { http: String, form: Vec<(String, String)> },
    /// A token that the program has.
    Token,
}

/// What a session knows about getting to a gate.
pub(super) struct Way {
    credentials: Credentials,
    token: String,
    /// The one that worked last comes first.
    gates: VecDeque<Address>,
    /// Which of them is next; behind the last the account center is asked.
    next: usize,
    rounds: u32,
    dial: Arc<dyn Dial>,
    try_timeout: Duration,
    pause_min: Duration,
    pause_max: Duration,
    chance: Chance,
}

/// A session without a connection.
#[derive(Debug)]
pub(super) struct Away {
    pub(super) goal: Goal,
    pub(super) since: Instant,
    until: Instant,
    pub(super) tries: u32,
    /// Why the connection was given up.
    pub(super) broke: String,
    last: Option<ClientError>,
    phase: Phase,
}

/// What is to be reached.
#[derive(Debug)]
pub(super) enum Goal {
    Resume(msg::resume::Req),
    SignIn { lost: Loss, unanswered: usize },
}

enum Phase {
    Pause(Pin<Box<Sleep>>),
    Trying(Pin<Box<dyn Future<Output = Result<Tried, ClientError>> + Send>>),
}

/// A connection to a gate that has answered the first message.
#[derive(Debug)]
pub(super) struct Arrived<A> {
    pub(super) carrier: Box<dyn Carrier>,
    pub(super) unread: BytesMut,
    pub(super) address: Address,
    pub(super) answer: A,
}

/// What a try has brought.
#[derive(Debug)]
enum Tried {
    Told(SignedIn),
    Resumed(Arrived<msg::resume::Res>),
    SignedIn(Box<Arrived<msg::login::Res>>, Option<SignedIn>),
}

/// How it went on.
#[derive(Debug)]
pub(super) enum Turn {
    Trying,
    Resumed(Arrived<msg::resume::Res>),
    SignedIn(Box<Arrived<msg::login::Res>>),
    GaveUp(Loss),
}

// === Way ===

impl Way {
    pub(super) fn new(
        credentials: Credentials,
        signed_in: SignedIn,
        options: &Options,
    ) -> Result<Self, ClientError> {
        let mut gates = VecDeque::from([parse(&signed_in.addr)?]);
        gates.extend(options.gates.iter().take(GATES_MAX - 1).cloned());
        Ok(Self {
            credentials,
            token: signed_in.token,
            gates,
            next: 0,
            rounds: 0,
            dial: options.dial.clone(),
            try_timeout: options.try_timeout,
            pause_min: options.retry_pause_min,
            pause_max: options.retry_pause_max,
            chance: Chance::from_os(),
        })
    }

    /// Signs in for the first time: each gate once, until one answers.
    pub(super) async fn sign_in(&mut self) -> Result<Arrived<msg::login::Res>, ClientError> {
        let mut last = ClientError::Closed;
        for gate in self.gates.clone() {
            let signing_in = sign_in_at(self.dial.clone(), gate, self.token.clone());
            match timeout(self.try_timeout, signing_in).await {
                Ok(Ok(arrived)) => {
                    self.reached(&arrived.address);
                    return Ok(arrived);
                }
                Ok(Err(e @ (ClientError::Refused(_) | ClientError::Kicked(_)))) => return Err(e),
                Ok(Err(e)) => last = e,
                Err(_) => last = ClientError::Late,
            }
        }
        Err(last)
    }

    /// The gate that was reached goes to the front, and is the first to be tried next time.
    pub(super) fn reached(&mut self, address: &Address) {
        self.gates.retain(|gate| gate != address);
        self.gates.push_front(address.clone());
        self.gates.truncate(GATES_MAX);
        (self.next, self.rounds) = (0, 0);
    }

    /// The gate that was reached last is going away: the others first.
    pub(super) fn avoid_last(&mut self) {
        match self.gates.len() {
            1 => self.next = 1,
            _ => self.gates.rotate_left(1),
        }
    }

    fn learn(&mut self, signed_in: SignedIn) {
        self.token = signed_in.token;
        if let Ok(address) = parse(&signed_in.addr)
            && !self.gates.contains(&address)
        {
            self.gates.push_front(address);
            self.gates.truncate(GATES_MAX);
        }
    }

    /// Begins the next try.
    fn begin(&mut self, goal: &Goal, time_left: Duration) -> Phase {
        let patience = self.try_timeout.min(time_left);
        let asks = matches!(self.credentials, Credentials::Form { .. });
        let dial = self.dial.clone();
        match goal {
            Goal::SignIn { .. } if asks => {
                let asked = self.ask();
                bounded(patience, async move {
                    let signed_in = asked.await?;
                    let gate = parse(&signed_in.addr)?;
                    let arrived = sign_in_at(dial, gate, signed_in.token.clone()).await?;
                    Ok(Tried::SignedIn(Box::new(arrived), Some(signed_in)))
                })
            }
            Goal::SignIn { .. } => {
                let (gate, token) = (self.next_gate(), self.token.clone());
                bounded(patience, async move {
                    Ok(Tried::SignedIn(Box::new(sign_in_at(dial, gate, token).await?), None))
                })
            }
            Goal::Resume(_) if asks && self.next == self.gates.len() => {
                (self.next, self.rounds) = (0, self.rounds + 1);
                let asked = self.ask();
                bounded(patience, async move { Ok(Tried::Told(asked.await?)) })
            }
            Goal::Resume(request) => {
                let (gate, request) = (self.next_gate(), request.clone());
                bounded(patience, async move {
                    Ok(Tried::Resumed(resume_at(dial, gate, request).await?))
                })
            }
        }
    }

    fn next_gate(&mut self) -> Address {
        if self.next >= self.gates.len() {
            (self.next, self.rounds) = (0, self.rounds + 1);
        }
        let gate = self.gates[self.next].clone();
        self.next += 1;
        gate
    }

    fn ask(&self) -> impl Future<Output = Result<SignedIn, ClientError>> + Send + use<> {
        let (http, form) = match &self.credentials {
            Credentials::Form { http, form } => (http.clone(), form.clone()),
            Credentials::Token => (String::new(), Vec::new()),
        };
        async move {
            let form: Vec<_> = form.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            auth(&http, &form).await
        }
    }

    /// Half of it is chance: clients that lost the same gate do not come back all at once.
    fn pause(&self) -> Duration {
        let longest = self.pause_min.saturating_mul(1 << self.rounds.min(16)).min(self.pause_max);
        longest.mul_f64(0.5 + 0.5 * self.part())
    }

    /// From 0 to 1.
    fn part(&self) -> f64 {
        f64::from(u32::try_from(self.chance.next_u64() >> 32).unwrap_or_default())
            / f64::from(u32::MAX)
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the token nor the form: they are secrets.
        f.debug_struct("Way").field("gates", &self.gates).finish_non_exhaustive()
    }
}

// === Away ===

impl Away {
    /// The first try comes at once, but for a little chance.
    pub(super) fn new(goal: Goal, broke: String, patience: Duration, way: &Way) -> Self {
        let since = Instant::now();
        let pause = way.pause_min.mul_f64(way.part());
        let phase = Phase::Pause(Box::pin(sleep(pause)));
        Self { goal, since, until: since + patience, tries: 0, broke, last: None, phase }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, way: &mut Way) -> Poll<Turn> {
        let tried = match &mut self.phase {
            Phase::Pause(pause) => {
                ready!(pause.as_mut().poll(cx));
                return Poll::Ready(self.try_next(way));
            }
            Phase::Trying(trying) => ready!(trying.as_mut().poll(cx)),
        };
        Poll::Ready(match tried {
            Ok(Tried::Told(signed_in)) => {
                way.learn(signed_in);
                self.try_next(way)
            }
            Ok(Tried::Resumed(arrived)) => {
                way.reached(&arrived.address);
                Turn::Resumed(arrived)
            }
            Ok(Tried::SignedIn(arrived, signed_in)) => {
                if let Some(signed_in) = signed_in {
                    way.learn(signed_in);
                }
                way.reached(&arrived.address);
                Turn::SignedIn(arrived)
            }
            Err(e) => self.failed(e, way),
        })
    }

    fn try_next(&mut self, way: &mut Way) -> Turn {
        let time_left = self.until.saturating_duration_since(Instant::now());
        if time_left.is_zero() {
            return Turn::GaveUp(self.give_up());
        }
        self.tries += 1;
        self.phase = way.begin(&self.goal, time_left);
        Turn::Trying
    }

    fn failed(&mut self, error: ClientError, way: &Way) -> Turn {
        tracing::debug!(target: "client", "a try to get back failed: {error}");
        let fate = match &error {
            ClientError::Refused(refusal) | ClientError::Kicked(refusal) => Fate::of(refusal.code),
            ClientError::Http { .. }
            | ClientError::Io(_)
            | ClientError::Frame(_)
            | ClientError::Payload(_)
            | ClientError::Closed
            | ClientError::Late => Fate::Again,
        };
        match (fate, &self.goal, error) {
            (Fate::Again, _, error) => {
                self.last = Some(error);
                self.phase = Phase::Pause(Box::pin(sleep(way.pause())));
                Turn::Trying
            }
            (_, Goal::Resume(_), ClientError::Kicked(refusal)) => {
                Turn::GaveUp(Loss::Kicked(refusal))
            }
            (_, Goal::Resume(_), ClientError::Refused(refusal)) => {
                Turn::GaveUp(Loss::ResumeRefused(refusal))
            }
            (_, _, error) => Turn::GaveUp(Loss::SignIn(Arc::new(error))),
        }
    }

    fn give_up(&mut self) -> Loss {
        let last = self.last.take();
        match self.goal {
            Goal::Resume(_) => Loss::WindowOver {
                window: self.until - self.since,
                why: last.map_or_else(|| self.broke.clone(), |e| e.to_string()),
            },
            Goal::SignIn { .. } => Loss::SignIn(Arc::new(last.unwrap_or(ClientError::Late))),
        }
    }
}

impl fmt::Debug for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause(_) => "Pause",
            Self::Trying(_) => "Trying",
        })
    }
}

// === Tries ===

fn bounded<F>(patience: Duration, tried: F) -> Phase
where
    F: Future<Output = Result<Tried, ClientError>> + Send + 'static,
{
    Phase::Trying(Box::pin(async move {
        timeout(patience, tried).await.unwrap_or(Err(ClientError::Late))
    }))
}

async fn resume_at(
    dial: Arc<dyn Dial>,
    address: Address,
    request: msg::resume::Req,
) -> Result<Arrived<msg::resume::Res>, ClientError> {
    let mut client = Client::over(dial.dial(&address).await?);
    let answer = client.request(&request).await?;
    if answer.code != Code::OK.0 {
        return Err(ClientError::Refused(Code(answer.code).into()));
    }
    let (carrier, unread) = client.into_parts();
    Ok(Arrived { carrier, unread, address, answer })
}

async fn sign_in_at(
    dial: Arc<dyn Dial>,
    address: Address,
    token: String,
) -> Result<Arrived<msg::login::Res>, ClientError> {
    let mut client = Client::over(dial.dial(&address).await?);
    let answer = client.sign_in(&token).await?;
    let (carrier, unread) = client.into_parts();
    Ok(Arrived { carrier, unread, address, answer })
}

fn parse(address: &str) -> Result<Address, ClientError> {
    Address::parse(address)
        .map_err(|e| ClientError::Io(io::Error::new(io::ErrorKind::InvalidInput, e)))
}
