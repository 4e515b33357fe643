//! The smallest server: what a client sends comes back.

use bastide::{Account, App, Code, Ctx, LoadError, Player, msg};

struct Hero;

impl Player for Hero {
    fn load(_: &Account, _: Option<&[u8]>, _: i64) -> Result<Self, LoadError> {
        Ok(Self)
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// Answers with what it was asked.
pub async fn echo<S>(_: &mut S, ask: msg::echo::Req, _: &Ctx) -> Result<msg::echo::Res, Code> {
    Ok(msg::echo::Res { val: ask.val, ct: ask.ct })
}

fn main() -> bastide::Exit {
    App::new("echo").player::<Hero>().on(echo).main()
}
