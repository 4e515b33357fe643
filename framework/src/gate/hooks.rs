//! Owns what a studio may say at the gate: who is let in, and what it hears of connections that
//! end. A hook that panics or hangs costs its own client the sign-in, and nobody else anything.

use std::{fmt, future::poll_fn, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::Transport;
use crate::{
    limits::ADMIT_DEADLINE,
    telemetry::{Panic, catch},
    wire::{Code, Refusal},
};

/// A studio's word at the gate; registered with [`App::gate`](crate::App::gate). Every method has
/// a default that changes nothing.
///
/// ```
/// use bastide::{Arrival, Closed, CloseReason, Code, GateHooks, Refusal};
///
/// struct Door;
///
/// impl GateHooks for Door {
///     async fn admit(&self, arrival: &Arrival) -> Result<(), Refusal> {
///         match arrival.version.as_deref() {
///             Some("0.9") => Err(Code(10_001).because("this version is too old")),
///             _ => Ok(()),
///         }
///     }
///
///     fn on_close(&self, closed: &Closed) {
///         if closed.reason == CloseReason::TooSlow {
///             println!("{} over {} reads too slowly", closed.address, closed.transport);
///         }
///     }
/// }
///
/// # struct Hero;
/// # impl bastide::Player for Hero {
/// #     fn load(_: &bastide::Account, _: Option<&[u8]>, _: i64) -> Result<Self, bastide::LoadError> { Ok(Hero) }
/// #     fn save(&self) -> Vec<u8> { Vec::new() }
/// # }
/// let game = bastide::App::new("town").gate(Door).player::<Hero>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no gate hooks",
    note = "implement `bastide::GateHooks` for it; both of its methods have defaults"
)]
pub trait GateHooks: Send + Sync + 'static {
    /// Whether a client is let in. Asked at sign-in, when the token is good and before the player
    /// is woken, and at each resume, when the client has shown that the session is its own.
    ///
    /// # Errors
    /// The code goes to the client in `msg.Login.Res` or `msg.Resume.Res`; the message goes into
    /// the log. A panic refuses with [`Code::INTERNAL`]; who is not admitted within 5 s is refused
    /// with [`Code::DEADLINE`].
    fn admit(&self, arrival: &Arrival) -> impl Future<Output = Result<(), Refusal>> + Send {
        let _ = arrival;
        async { Ok(()) }
    }

    /// A connection has ended, also one that never signed in. Called on the thread that serves
    /// the other connections too: it must not wait.
    fn on_close(&self, closed: &Closed) {
        let _ = closed;
    }
}

/// A client that wants to be let in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Arrival {
    /// Where it connects from.
    pub address: SocketAddr,
    /// How it is connected.
    pub transport: Transport,
    /// Who signs in.
    pub account: i64,
    /// A session goes on; what the client said of itself was said at its sign-in.
    pub resumes: bool,
    /// What the client says it runs on.
    pub platform: Option<String>,
    /// What the client says its device is.
    pub device_id: Option<String>,
    /// What the client says its version is.
    pub version: Option<String>,
}

/// A connection that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Closed {
    /// Where the client connected from.
    pub address: SocketAddr,
    /// How it was connected.
    pub transport: Transport,
    /// Who was signed in.
    pub account: Option<i64>,
    /// Why it ended.
    pub reason: CloseReason,
    /// How long it was open.
    pub open: Duration,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed, or the network did.
    Gone,
    /// The client signed out, or its session goes on over another connection.
    Left,
    /// Nothing came for `gate.idle_timeout`.
    Idle,
    /// It did not sign in within `gate.sign_in_timeout`.
    NotSignedIn,
    /// What it sent was no frame, far above the rate or out of order, or it failed to sign in too
    /// often.
    Refused,
    /// It did not read what it was sent.
    TooSlow,
    /// The session was ended, and the client told this code.
    Kicked(Code),
    /// The gate goes away.
    Drained,
}

/// The studio's hooks, if there are any. A clone is a handle to the same.
#[derive(Clone, Default)]
pub(crate) struct Hooks(Option<Arc<dyn AnyHooks>>);

/// Hooks whose type does not matter.
trait AnyHooks: Send + Sync {
    fn admit<'a>(&'a self, arrival: &'a Arrival) -> BoxFuture<'a, Result<(), Refusal>>;
    fn on_close(&self, closed: &Closed);
}

impl<H: GateHooks> AnyHooks for H {
    fn admit<'a>(&'a self, arrival: &'a Arrival) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(GateHooks::admit(self, arrival))
    }

    fn on_close(&self, closed: &Closed) {
        GateHooks::on_close(self, closed);
    }
}

impl Hooks {
    pub(crate) fn new(hooks: impl GateHooks) -> Self {
        Self(Some(Arc::new(hooks)))
    }

    /// Asks whether a client is let in; everybody is where there are no hooks.
    pub(super) async fn admit(&self, arrival: impl FnOnce() -> Arrival) -> Result<(), Refusal> {
        let Some(hooks) = &self.0 else { return Ok(()) };
        let arrival = arrival();
        let admitted = async {
            let mut asked = catch(|| hooks.admit(&arrival))?;
            poll_fn(|cx| match catch(|| asked.as_mut().poll(cx)) {
                Ok(poll) => poll.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            })
            .await
        };
        match timeout(ADMIT_DEADLINE, admitted).await {
            // A refusal without a reason would look like a success.
            Ok(Ok(Err(refusal))) if refusal.code == Code::OK => Err(Code::INTERNAL.into()),
            Ok(Ok(admitted)) => admitted,
            Ok(Err(Panic(text))) => {
                tracing::error!(target: "gate", "the hook `admit` panicked: {text}");
                Err(Code::INTERNAL.into())
            }
            Err(_) => {
                let limit = ADMIT_DEADLINE.as_secs();
                tracing::warn!(target: "gate", limit, "the hook `admit` took too long");
                Err(Code::DEADLINE.into())
            }
        }
    }

    /// Tells of a connection that has ended.
    pub(super) fn closed(&self, closed: impl FnOnce() -> Closed) {
        let Some(hooks) = &self.0 else { return };
        let closed = closed();
        if let Err(Panic(text)) = catch(|| hooks.on_close(&closed)) {
            tracing::error!(target: "gate", "the hook `on_close` panicked: {text}");
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hooks").field(&self.0.is_some()).finish()
    }
}
