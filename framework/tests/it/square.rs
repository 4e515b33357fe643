//! Owns the room of the fixture: a square where everybody hears what anybody says, numbered.

use bastide::{Code, LoadError, Member, Named, Refusal, Room, RoomCtx, RoomKind, def, msg};

/// Numbers what is said; everything else it does is told to it by the request.
pub(crate) struct Square {
    said: i64,
}

/// Three have room there.
pub(crate) fn square() -> RoomKind<Square> {
    RoomKind::new("square").capacity(3).match_size(2).on(say).on(number).on(does)
}

impl Room for Square {
    fn open(ctx: &mut RoomCtx) -> Result<Self, Refusal> {
        match ctx.options().get("refuse") {
            Some(why) => Err(Code::PARAMETER.because(why.clone())),
            None => Ok(Self { said: 0 }),
        }
    }

    fn on_join(&mut self, member: &Member, ctx: &mut RoomCtx) -> Result<(), Refusal> {
        if member.name == "nobody" {
            return Err(Code::PARAMETER.because("nobody may not come"));
        }
        ctx.broadcast_but(member.seat, &news("joins", member, 0));
        Ok(())
    }

    fn state(&self, _: &Member, ctx: &RoomCtx) -> Vec<u8> {
        [&self.said.to_le_bytes()[..], &[u8::try_from(ctx.members().len()).unwrap()]].concat()
    }

    fn on_leave(&mut self, member: &Member, ctx: &mut RoomCtx) {
        ctx.broadcast(&news("leaves", member, 0));
    }

    fn on_away(&mut self, member: &Member, ctx: &mut RoomCtx) {
        ctx.broadcast_but(member.seat, &news("is away", member, 0));
    }

    fn on_back(&mut self, member: &Member, ctx: &mut RoomCtx) {
        ctx.broadcast_but(member.seat, &news("is back", member, 0));
    }

    fn save(&self) -> Vec<u8> {
        self.said.to_le_bytes().to_vec()
    }

    fn restore(saved: &[u8], _: &mut RoomCtx) -> Result<Self, LoadError> {
        Ok(Self { said: i64::from_le_bytes(saved.try_into().map_err(LoadError::new)?) })
    }
}

/// An input: everybody hears it, its speaker too. What has no words is refused.
fn say(
    square: &mut Square,
    mail: def::Mail,
    member: &Member,
    ctx: &mut RoomCtx,
) -> Result<(), Code> {
    let Some(title) = mail.title else { return Err(Code::PARAMETER) };
    square.said += 1;
    ctx.broadcast(&news(&title, member, square.said));
    Ok(())
}

/// The number of what was said last.
fn number(
    square: &mut Square,
    _: msg::bind_account::Req,
    _: &Member,
    _: &mut RoomCtx,
) -> Result<msg::bind_account::Res, Code> {
    Ok(msg::bind_account::Res { code: i32::try_from(square.said).map_err(|_| Code::PARAMETER)? })
}

/// Does what the password says.
fn does(
    _: &mut Square,
    order: msg::registry::Req,
    member: &Member,
    ctx: &mut RoomCtx,
) -> Result<msg::registry::Res, Refusal> {
    match order.password.as_str() {
        "panic" => panic!("asked to"),
        "lock" => ctx.lock(true),
        "unlock" => ctx.lock(false),
        "info" => ctx.set_info("colour", &order.username),
        "remove me" => ctx.remove(member.seat, Code(10_001), "as asked"),
        "shout at me" => {
            // More than a player keeps of what its room has said at once.
            for _ in 0..5 {
                ctx.push(member.seat, &news(&"!".repeat(60_000), member, 0));
            }
        }
        "close" => ctx.close("the square is closed for the night"),
        other => return Err(Code(10_002).because(format!("what is {other}?"))),
    }
    Ok(msg::registry::Res::default())
}

fn news(title: &str, member: &Member, id: i64) -> def::Mail {
    let title = Some(title.to_owned());
    def::Mail {
        id,
        from: member.account,
        title,
        content: Some(member.name.clone()),
        ..def::Mail::default()
    }
}

/// What to say.
pub(crate) fn words(title: &str) -> def::Mail {
    def::Mail { title: Some(title.to_owned()), ..def::Mail::default() }
}

pub(crate) fn number_of() -> msg::bind_account::Req {
    msg::bind_account::Req::default()
}

pub(crate) fn order(order: &str, with: &str) -> msg::registry::Req {
    let (username, password) = (with.to_owned(), order.to_owned());
    msg::registry::Req { username, password, client_ip: None }
}

/// News of a square, as `name title` or, when it was said, `number name title`.
pub(crate) fn heard(api: &str, payload: &[u8]) -> String {
    assert_eq!(api, def::Mail::NAME);
    let mail = <def::Mail as prost::Message>::decode(payload).unwrap();
    let (name, title) = (mail.content.unwrap(), mail.title.unwrap());
    match mail.id {
        0 => format!("{name} {title}"),
        id => format!("{id} {name} {title}"),
    }
}
