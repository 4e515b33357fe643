//! Owns rooms: entities whose members are players. A room's own code is a function of what comes
//! in: who joins and leaves, what they say, ticks, time and chance. Sockets, placement and storage
//! are not known to it.

mod book;
mod center;
mod context;
mod core;
mod kind;
mod life;
mod member;
mod pace;
mod record;
mod remains;
mod said;
mod seating;
mod seats;
mod table;
#[cfg(test)]
mod tests;
mod tickets;
mod upkeep;

pub(crate) use self::{
    book::Book,
    center::{CenterGround, RoomCenter},
    kind::{AnyRoomKind, Opening},
    tickets::Tickets,
};
pub use self::{
    context::RoomCtx,
    kind::{Overrun, Room, RoomHandler, RoomKind},
    member::{Member, Seat},
    record::{Recording, ReplayError, Replayed},
};
