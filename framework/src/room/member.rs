//! Owns who is in a room.

/// A seat in a room. Its number is given out once in the life of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat(pub u32);

/// Who has a seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it sits.
    pub seat: Seat,
    /// The account's number.
    pub account: i64,
    /// What it wants to be called, at most 14 characters.
    pub name: String,
    /// Its client has no connection; the seat is kept for `session.resume_window`.
    pub away: bool,
}
