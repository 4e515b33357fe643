//! Clients that speak numbered envelopes, and what they play: who one is, cards, and tables where
//! sentences are laid. Read `mount` first, then `codec`.
//!
//! Owns what a player is asked. Leaves the wire to `codec`, tables to `table`, and the bag to the
//! crate `cards`: what is drawn here is in the same bag.

mod answers;
mod codec;
mod envelope;
mod sentence;
mod table;

#[doc(hidden)]
pub mod proto {
    //! What is in `proto/jigger.proto`.
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
    pub use self::jigger::*;
}

use bastide::{App, Code, CodecKind, Ctx, Refusal, RoomKind};
use cards::{Hero, Owned};

pub use codec::Jigger;
use proto::{BackpackInfo, Card, ErrorCode, UserInfo, draw_card, get_user_info};

/// What operators know the codec by.
pub const CODEC: &str = "jigger";

/// The port for TCP that such clients know; over WebSockets they come in where all others do.
const PORT: u16 = 12345;

/// The kind of rooms that tables are.
pub const KIND: &str = "jigger";

/// Seats of a table.
const SEATS: u32 = 4;

/// Cards that a backpack shows: with some 60 bytes each they fit a frame of 64 KiB. Beyond: the
/// latest of each kind.
const BACKPACK_CARDS_MAX: usize = 500;

/// Adds the codec, the game's handlers and its tables.
pub fn mount(app: App<Hero>) -> App<Hero> {
    let table = RoomKind::<table::Table>::new(KIND)
        .capacity(SEATS)
        .on(table::get_ready)
        .on(table::game_action);
    let jigger = CodecKind::<Jigger>::new(CODEC).tcp(PORT);
    app.on(get_user_info).on(draw_card).room(table).codec(jigger)
}

/// Who one is, and what one has.
async fn get_user_info(
    hero: &mut Hero,
    ask: get_user_info::Req,
    ctx: &Ctx,
) -> Result<get_user_info::Res, Code> {
    let account = ctx.account();
    if i64::try_from(ask.uid) != Ok(account.id) {
        return Ok(get_user_info::Res { ret: ErrorCode::AuthFailed.into(), user_info: None });
    }
    let cards = hero.cards(BACKPACK_CARDS_MAX).into_iter().map(card).collect();
    let user_info = UserInfo {
        uid: ask.uid,
        name: hero.name(account),
        exp: 0,
        gold: hero.gold(),
        diamond: hero.diamond(),
        draw_card_count: i32::try_from(hero.card_count()).unwrap_or(i32::MAX),
        backpack: Some(BackpackInfo { cards }),
    };
    Ok(get_user_info::Res { ret: ErrorCode::Ok.into(), user_info: Some(user_info) })
}

/// Draws cards, for nothing. They are in the store before the client hears of them.
async fn draw_card(
    hero: &mut Hero,
    ask: draw_card::Req,
    ctx: &Ctx,
) -> Result<draw_card::Res, Refusal> {
    if i64::try_from(ask.uid) != Ok(ctx.account().id) {
        return Ok(draw_card::Res { ret: ErrorCode::InvalidCard.into(), cards: Vec::new() });
    }
    let drawn = cards::draw_free(hero, ask.count, ctx).await?;
    let cards = drawn.into_iter().map(card).collect();
    Ok(draw_card::Res { ret: ErrorCode::Ok.into(), cards })
}

fn card(owned: Owned) -> Card {
    let Owned { id, name, rarity } = owned;
    Card { id, name: name.to_owned(), rarity, ..Card::default() }
}
