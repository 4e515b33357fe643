//! Owns what a room may ask of the world around it, and what it says to its members.

use std::collections::BTreeMap;

use super::{Member, Seat};
use crate::{Code, Named};

/// A room's view of the world: its members, its clock, its chance, and what it says.
///
/// What is said goes out when the handler, or the tick, is done.
#[derive(Debug)]
pub struct RoomCtx {
    id: Box<str>,
    options: BTreeMap<String, String>,
    members: BTreeMap<Seat, Member>,
    capacity: u32,
    now_ms: i64,
    tick: u64,
}

impl RoomCtx {
    /// The room's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it was opened with.
    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    /// Who has a seat, also those that are away, by seat.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// Who sits there.
    pub fn member(&self, seat: Seat) -> Option<&Member> {
        self.members.get(&seat)
    }

    /// Seats that there are.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The time of day when what happens now began, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Ticks that there have been.
    pub fn ticks(&self) -> u64 {
        self.tick
    }

    /// A random number, every value equally likely. Whoever has the recording of a match knows
    /// all of them: no secrets are to be made of it.
    pub fn random(&mut self) -> u64 {
        0
    }

    /// Sends a message to one member.
    pub fn push<M: Named>(&mut self, to: Seat, message: &M) {
        let _ = (to, message);
    }

    /// Sends a message to every member; it is encoded once.
    pub fn broadcast<M: Named>(&mut self, message: &M) {
        let _ = message;
    }

    /// Sends a message to every member but one; it is encoded once.
    pub fn broadcast_but<M: Named>(&mut self, but: Seat, message: &M) {
        let _ = (but, message);
    }

    /// Whether anybody may come in who has no seat yet; those who have a reservation may, in any
    /// case. A room is open at first.
    pub fn lock(&mut self, locked: bool) {
        let _ = locked;
    }

    /// What lists of rooms tell of this one.
    pub fn set_info(&mut self, key: &str, value: &str) {
        let _ = (key, value);
    }

    /// Takes a seat away; its client hears `msg.RoomClosed` with the code and the reason.
    pub fn remove(&mut self, seat: Seat, code: Code, reason: &str) {
        let _ = (seat, code, reason);
    }

    /// Ends the room when the handler, or the tick, is done: every member hears `msg.RoomClosed`
    /// (3007) with the reason.
    pub fn close(&mut self, reason: &str) {
        let _ = reason;
    }
}
