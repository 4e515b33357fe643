//! The bundled town: echo, cards, channels, arenas and tables in one server, for clients of three
//! wires; and a client that plays what the first of them can.

use bastide::{App, Exit, Play, PlayError, msg};

// A server is a file: the echo example, as it stands.
#[expect(dead_code, unreachable_pub, reason = "it is a program of its own, too")]
#[path = "../../echo/src/main.rs"]
mod echo;
mod gamerpc;
mod pages;
mod two_step;
mod wx;

fn main() -> Exit {
    let town = App::new("town")
        .validator("wx", wx::Wx)
        .validator("auth2step", two_step::TwoStep)
        .validator("authpwd", gamerpc::Password)
        .validator("authwx", gamerpc::Platform);
    let town = town.player::<cards::Hero>().on(echo::echo);
    let town = arena::mount(chat::mount(cards::mount(town)));
    let town = jigger::mount(mope::mount(town));
    pages::mount(town).play(play).main()
}

/// What `town play` does after it has signed in.
async fn play(play: &mut Play) -> Result<(), PlayError> {
    let answer = play.request(&msg::echo::Req { val: Some(7), ct: None }).await?;
    play.expect(answer.val == Some(7), "the echo of 7 is 7")?;
    play.step("echo: 7 came back");
    cards::play(play).await?;
    chat::play(play).await?;
    arena::play(play).await
}
