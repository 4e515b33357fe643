//! Owns what a program may set about its session: limits, patience, addresses.

use std::{sync::Arc, time::Duration};

use super::{
    dial::{Address, Dial},
    net::Net,
};

/// What becomes of a session that cannot be resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenLost {
    /// It is over: every call says so. What a program does that must know what was done.
    #[default]
    End,
    /// A new one is begun with the same account. Requests without an answer fail, and are never
    /// sent again: whether they were done is unknown. What a bot does that plays on whatever
    /// happens. A session that was ended on purpose (signed in elsewhere, removed, banned) stays
    /// over.
    SignInAnew,
}

/// How a session behaves; the defaults fit a server with its own defaults.
///
/// ```
/// use std::time::Duration;
/// use bastide::client::{Address, Options, WhenLost};
///
/// let options = Options {
///     gates: vec![Address::parse("gate-2.example:3017")?],
///     when_lost: WhenLost::SignInAnew,
///     answer_timeout: Duration::from_secs(3),
///     ..Options::default()
/// };
/// # Ok::<(), bastide::client::AddressError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Gates to try beside the one that the account center names; they may speak different
    /// schemes. None by default.
    pub gates: Vec<Address>,
    /// How a gate is reached, and whom to believe to be one: [`Net`] by default.
    pub dial: Arc<dyn Dial>,
    /// What to do when the session cannot be resumed. By default it is over.
    pub when_lost: WhenLost,
    /// How long an answer may take on a connection that stands; 10 s, twice what the server
    /// allows itself. Time without a connection does not count, for the resume window bounds it;
    /// and on one that says nothing at all, `silence_max` decides first. Who wants a limit
    /// whatever happens puts `tokio::time::timeout` around the call: it may be dropped.
    /// Sending waits as long for room.
    pub answer_timeout: Duration,
    /// How long one try to get back may take, from connecting to `msg.Resume.Res`; 10 s.
    pub try_timeout: Duration,
    /// How long to try to sign in anew after a session was lost; 60 s.
    pub sign_in_patience: Duration,
    /// The pause after the first try to get back that failed, 100 ms. It doubles with each round
    /// through the gates, and a random part of up to a half is taken off.
    pub retry_pause_min: Duration,
    /// The longest such pause; 5 s.
    pub retry_pause_max: Duration,
    /// How often to say what was received, at the latest; 5 s. A gate that has offered no resume is
    /// pinged as often: it closes a silent connection after 60 s.
    pub ping_interval: Duration,
    /// A connection on which nothing came for so long, though a ping is under way, counts as
    /// broken; 15 s. More than a request may take at the server: the ping's answer may have to wait
    /// for it.
    pub silence_max: Duration,
    /// Frames that the server has not said it has; 128, less than the burst of 200 that a gate
    /// lets through, for after a break they are sent again at once. Beyond: sending waits until a
    /// ping has asked.
    pub unconfirmed_frames_max: usize,
    /// Their bytes; 256 KiB. A single larger frame passes when nothing else waits. Beyond: as above.
    pub unconfirmed_bytes_max: usize,
    /// Requests without an answer; 512. Beyond: sending waits for an answer.
    pub requests_max: usize,
    /// Events that wait to be looked at; 1024. Beyond: the oldest is dropped and counted
    /// ([`Session::events_dropped`](super::Session::events_dropped)).
    pub events_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gates: Vec::new(),
            dial: Arc::new(Net::default()),
            when_lost: WhenLost::End,
            answer_timeout: Duration::from_secs(10),
            try_timeout: Duration::from_secs(10),
            sign_in_patience: Duration::from_secs(60),
            retry_pause_min: Duration::from_millis(100),
            retry_pause_max: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            silence_max: Duration::from_secs(15),
            unconfirmed_frames_max: 128,
            unconfirmed_bytes_max: 256 * 1024,
            requests_max: 512,
            events_max: 1024,
        }
    }
}
