//! The card game alone: `cargo run -p cards`, then `cargo run -p cards -- play`.

use bastide::{App, Exit};

fn main() -> Exit {
    cards::mount(App::new("cards").player::<cards::Hero>()).play(cards::play).main()
}
