//! Owns rooms: entities whose members are players. A room's own code is a function of what comes
//! in: who joins and leaves, what they say, ticks, time and chance. Sockets, placement and storage
//! are not known to it.

mod book;
mod center;
mod context;
mod kind;
mod member;
mod tickets;

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
};
