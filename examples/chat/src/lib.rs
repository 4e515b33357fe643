//! Channels to talk in: a room each, with a history and who is there. Read `mount` first.
//!
//! Owns what of the chat is told to the outside. Leaves the room to `channel`, and what may be
//! said to `talk`.

mod channel;
mod talk;

mod proto {
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}

use std::{collections::HashMap, time::Duration};

use bastide::{App, Named as _, Play, PlayError, Player, RoomKind, msg};
use prost::Message as _;

pub use channel::Channel;
pub use proto::chat::{Channel as State, Line, Present, history, say};

/// The code of the page for studios compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/ROOMS.md")]
struct Rooms;

/// The kind of rooms that channels are.
pub const KIND: &str = "chat";

/// Seats of one channel.
const SEATS: u32 = 200;

/// Adds channels to a game.
pub fn mount<P: Player>(app: App<P>) -> App<P> {
    let channel = RoomKind::<Channel>::new(KIND)
        .capacity(SEATS)
        .snapshots(Duration::from_secs(1))
        .recorded()
        .on(channel::say)
        .on(channel::history);
    app.room(channel)
}

/// Enters a channel, says something, hears it, reads it in the history, and leaves.
///
/// # Errors
/// When a step is refused, or answered wrongly.
pub async fn play(play: &mut Play) -> Result<(), PlayError> {
    const TEXT: &str = "hello";
    let options = HashMap::from([("channel".to_owned(), "lobby".to_owned())]);
    let ask =
        msg::enter_room::Req { kind: KIND.to_owned(), options, ..msg::enter_room::Req::default() };
    let entered = play.request(&ask).await?;
    let join = msg::join_room::Req { ticket: entered.ticket, name: "Player".to_owned() };
    let joined = play.request(&join).await?;
    let state = State::decode(joined.state.as_slice()).unwrap_or_default();
    let account = play.account_id();
    let here = state.present.iter().any(|present| present.account == account);
    play.expect(here, "who comes in is among those who are there")?;
    let (members, lines) = (state.present.len(), state.lines.len());
    play.step(format_args!("joined a channel: {members} here, {lines} lines before"));

    let said = play.request(&say::Req { text: TEXT.to_owned() }).await?;
    let mut heard = false;
    while let Some(push) = play.push() {
        let line = (push.api == Line::NAME).then(|| Line::decode(push.payload.as_slice()));
        heard |= line.is_some_and(|line| line.is_ok_and(|line| line.number == said.number));
    }
    play.expect(heard, "what I say is told to me, too")?;
    let lines = play.request(&history::Req { before: 0 }).await?.lines;
    let mine = lines.iter().find(|line| line.number == said.number);
    let kept = mine.is_some_and(|line| line.text == TEXT && line.account == account);
    play.expect(kept, "what I said is remembered")?;
    play.step(format_args!("said \"{TEXT}\": line {}", said.number));

    play.request(&msg::leave_room::Req { room_id: joined.room_id }).await?;
    play.step("left the channel");
    Ok(())
}
