//! The arena: balls that move, eat, grow and are eaten, twenty times a second. The server decides
//! everything; a client says where it wants to go. Read `mount` first, then `arena`.
//!
//! Owns what of the game is told to the outside. Leaves the rules to `world` and `ball`, robots to
//! `robot`, what a member sees to `view`, and what it is told to `arena`.

mod arena;
mod ball;
mod grid;
pub mod measure;
mod robot;
mod room;
mod script;
mod view;
mod world;

mod proto {
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}

use std::time::Duration;

use bastide::{App, Player, RoomKind};

pub use arena::Arena;
pub use proto::arena::{Ball, Eaten, Field, Names, Steer, Top, View, names, respawn, top};
pub use script::play;

/// The kind of rooms that arenas are.
pub const KIND: &str = "arena";

/// Seats of one arena.
const SEATS: u32 = 50;

/// Adds arenas to a game.
pub fn mount<P: Player>(app: App<P>) -> App<P> {
    let arena = RoomKind::<Arena>::new(KIND)
        .capacity(SEATS)
        .ticks(world::TICKS_PER_S)
        .snapshots(Duration::from_secs(1))
        .recorded()
        .on(room::steer)
        .on(room::respawn);
    app.latest::<View>(|_| 0).droppable::<Top>().room(arena)
}
