//! A card game: messages of its own, a state that is kept, pushes, and a price that must not be
//! lost. Read `mount` first: it lists every message that the game understands.

mod hero;
mod rules;

mod proto {
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}

use bastide::{App, Code, Ctx, Named as _, Play, PlayError, Refusal, Request as _, def, msg};

pub use hero::{Hero, Owned};
pub use proto::cards::{Card, draw};

/// Adds the game's handlers.
pub fn mount(app: App<Hero>) -> App<Hero> {
    app.on(get_user).on(get_items).on(get_mails).on(draw_cards)
}

/// The player's own record.
async fn get_user(
    hero: &mut Hero,
    ask: msg::get_user::Req,
    ctx: &Ctx,
) -> Result<msg::get_user::Res, Code> {
    if ask.id != ctx.account().id {
        return Err(Code::NO_SUCH_ACCOUNT);
    }
    Ok(msg::get_user::Res { code: 0, user: Some(hero.user_record(ctx.account(), ctx.now_ms())) })
}

/// The bag, or the items of one kind in it.
async fn get_items(
    hero: &mut Hero,
    ask: msg::get_items::Req,
    _: &Ctx,
) -> Result<msg::get_items::Res, Code> {
    let mut bag = hero.items();
    if let Some(kind) = ask.idx.filter(|kind| *kind != 0) {
        bag.items.retain(|item| item.idx == kind);
    }
    Ok(bag)
}

/// One letter, the same for everybody.
async fn get_mails(
    hero: &mut Hero,
    ask: msg::get_mails::Req,
    ctx: &Ctx,
) -> Result<msg::get_mails::Res, Code> {
    let welcome = def::Mail {
        id: 1,
        to: ctx.account().id,
        title: Some("Welcome to the town".to_owned()),
        content: Some("The first hundred gold are on the house.".to_owned()),
        create_time: hero.created_ms(),
        update_time: hero.created_ms(),
        ..def::Mail::default()
    };
    let asked = ask.id.filter(|id| *id != 0);
    let mails = Some(welcome).into_iter().filter(|mail| asked.is_none_or(|id| id == mail.id));
    Ok(msg::get_mails::Res { code: 0, mails: mails.collect() })
}

/// Draws 1 to 100 cards for nothing, for whoever has another price for them, or none. They are in
/// the store before anybody hears of them.
///
/// # Errors
/// 210 when that is no number of cards; what the store says.
pub async fn draw_free(hero: &mut Hero, count: i32, ctx: &Ctx) -> Result<Vec<Owned>, Refusal> {
    let before = hero.clone();
    let drawn = hero.draw_free(count, ctx.now_ms(), || ctx.random())?;
    if let Err(refusal) = ctx.save(hero).await {
        *hero = before;
        return Err(refusal);
    }
    ctx.push(&hero.items());
    Ok(drawn)
}

/// Draws cards and pays for them. What was paid for is in the store before the client hears of it.
async fn draw_cards(hero: &mut Hero, ask: draw::Req, ctx: &Ctx) -> Result<draw::Res, Refusal> {
    let before = hero.clone();
    let answer = hero.draw(ask.count, ctx.now_ms(), || ctx.random())?;
    if let Err(refusal) = ctx.save(hero).await {
        *hero = before;
        return Err(refusal);
    }
    ctx.push(&hero.items());
    Ok(answer)
}

/// What `play` does in this game.
///
/// # Errors
/// When a step is refused, or answered wrongly.
pub async fn play(play: &mut Play) -> Result<(), PlayError> {
    const COUNT: i32 = 5;
    let id = play.account_id();
    let user = play.request(&msg::get_user::Req { id }).await?.user.unwrap_or_default();
    play.expect(user.account == id, "my user is mine")?;
    play.step(format_args!("I am {}", user.name()));

    let before = cards_in(&play.request(&msg::get_items::Req { idx: None }).await?);
    play.step(format_args!("my bag: {before} cards before"));

    while play.push().is_some() {}
    let drawn = play.request(&draw::Req { count: COUNT }).await?;
    let names: Vec<_> = drawn.cards.iter().map(|card| card.name.as_str()).collect();
    play.expect(names.len() == COUNT as usize, "as many cards as asked for")?;
    play.step(format_args!("drew {}; {} gold left", names.join(", "), drawn.gold()));

    let pushed = play.push().is_some_and(|push| push.api == msg::get_items::Res::NAME);
    play.expect(pushed, "the changed bag is pushed")?;
    let after = cards_in(&play.request(&msg::get_items::Req { idx: None }).await?);
    play.expect(after == before + i64::from(COUNT), "the bag holds the new cards")?;
    play.step(format_args!("my bag: {after} cards now"));
    Ok(())
}

fn cards_in(bag: &msg::get_items::Res) -> i64 {
    bag.items.iter().filter(|item| item.idx == rules::Item::CARD).map(|item| item.num).sum()
}

const _: () = assert!(draw::Req::ANSWER.is_some());
