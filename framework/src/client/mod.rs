//! Owns the Rust client: signs in at the account center, then speaks frames with a gate.
//! `play`, the tests and a studio's bots stand on it; it knows the wire and nothing of the
//! server's inside.
//!
//! - [`guest`] and [`auth`] ask the account center for a token and a gate.
//! - [`Client`] is one connection, one request at a time: for tests of what a gate does.
//! - [`Session`] is a player's session: it outlives its connections.
//!
//! ```no_run
//! use bastide::{client::{Event, Options, Session}, msg};
//!
//! # async fn play() -> Result<(), Box<dyn std::error::Error>> {
//! let mut session = Session::guest("127.0.0.1:8080", "my-bot", Options::default()).await?;
//! let echo = session.request(&msg::echo::Req { val: Some(7), ct: None }).await?;
//! assert_eq!(echo.val, Some(7));
//! // The server restarts, the network changes: the session goes on, and says so.
//! match session.next_event().await? {
//!     Event::Push(push) => println!("{} came", push.api),
//!     Event::Resumed(resumed) => println!("away for {:?}", resumed.took),
//!     other => println!("{other:?}"),
//! }
//! session.logout().await?;
//! # Ok(())
//! # }
//! ```

mod account;
mod away;
mod connection;
mod dial;
mod drive;
mod event;
mod line;
mod net;
mod options;
mod record;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use self::account::{auth_over, connections};
use self::connection::ANSWER_TIMEOUT;
pub use self::{
    account::{SignedIn, auth, guest},
    connection::{Client, ClientError, Push},
    dial::{Address, AddressError, Carrier, Dial, Dialing, Scheme},
    event::{Event, Loss, Resumed, SessionError, SignedInAnew},
    net::{Net, Trust, TrustError},
    options::{Options, WhenLost},
    session::{Session, Ticket},
};
