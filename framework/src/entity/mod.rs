//! Owns entities: actors with a kind, a key, a state and typed handlers. An entity knows its
//! session only as a port; sockets, frames on the wire and placement are not known here.

mod actor;
mod attach;
mod call;
mod classes;
mod context;
mod host;
mod kind;
#[cfg(test)]
mod model;
mod place;
mod player;
mod rest;
mod rooms;
mod seats;
mod session;
mod table;
mod transit;
mod upkeep;
mod writer;

use std::fmt;

pub(crate) use classes::Classes;
pub use context::Ctx;
pub(crate) use context::World;
pub(crate) use host::{Ended, Host, Hosted, Kinds};
pub(crate) use kind::{AnyKind, Kind, PLAYER};
pub use player::{LoadError, Player};
pub(crate) use rooms::{Homes, RoomSide, calls, open_here};
pub(crate) use session::ReplayRoom;
pub use table::Handler;
pub(crate) use table::Table;
pub(crate) use transit::carried_key;

/// Names one entity in the cluster.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct EntityId {
    pub(crate) kind: &'static str,
    pub(crate) key: Box<str>,
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.key)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
