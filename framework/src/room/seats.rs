//! Owns where the members of a room are: the connections to their players, what is on its way to
//! them, and who has been away for how long.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::{
    Seat,
    said::{Said, Saying, To},
};
use crate::{
    Code,
    link::{Batch, ConnectionId, Frames, SessionPort},
};

/// The places of a room's members, in step with those of its context.
#[derive(Debug, Default)]
pub(super) struct Seats {
    places: BTreeMap<Seat, Place>,
    connections: FxHashMap<ConnectionId, Seat>,
    /// Who has no way to it, and until when the seat is kept.
    absent: BTreeMap<Seat, Instant>,
    /// Who may have come back, or gone away, and the room was not told.
    turned: Vec<Seat>,
    /// Somebody has something on its way.
    unsent: bool,
}

#[derive(Debug, Default)]
struct Place {
    way: Option<(ConnectionId, SessionPort)>,
    outgoing: Batch,
    /// Its client is connected.
    present: bool,
}

impl Seats {
    /// Those of a room that was made again: nobody is connected.
    pub(super) fn vacant(seats: impl Iterator<Item = Seat>, until: Instant) -> Self {
        let absent: BTreeMap<_, _> = seats.map(|seat| (seat, until)).collect();
        let places = absent.keys().map(|seat| (*seat, Place::default())).collect();
        Self { places, absent, ..Self::default() }
    }

    /// Whose connection it is.
    #[inline]
    pub(super) fn of(&self, connection: ConnectionId) -> Option<Seat> {
        self.connections.get(&connection).copied()
    }

    /// A member is there, by this way; one it had before is not listened to any more.
    pub(super) fn come(&mut self, seat: Seat, connection: ConnectionId, port: SessionPort) {
        let place = self.places.entry(seat).or_default();
        if let Some((old, _)) = place.way.replace((connection, port)) {
            self.connections.remove(&old);
        }
        place.present = true;
        place.outgoing.clear();
        self.absent.remove(&seat);
        self.connections.insert(connection, seat);
    }

    /// Its client is away, or back.
    pub(super) fn turn(&mut self, connection: ConnectionId, present: bool) {
        let Some(seat) = self.of(connection) else { return };
        if let Some(place) = self.places.get_mut(&seat) {
            place.present = present;
            self.turned.push(seat);
        }
    }

    /// The way to a member is gone: its seat is kept until then.
    pub(super) fn gone(&mut self, connection: ConnectionId, until: Instant) {
        let Some(seat) = self.connections.remove(&connection) else { return };
        if let Some(place) = self.places.get_mut(&seat) {
            (place.way, place.present) = (None, false);
            place.outgoing.clear();
            self.absent.insert(seat, until);
            self.turned.push(seat);
        }
    }

    /// Who may have turned since the last time, and whether it is there.
    pub(super) fn next_turned(&mut self) -> Option<(Seat, bool)> {
        while let Some(seat) = self.turned.pop() {
            if let Some(place) = self.places.get(&seat) {
                return Some((seat, place.present));
            }
        }
        None
    }

    /// Whether the room is to be told of somebody.
    pub(super) fn is_turned(&self) -> bool {
        !self.turned.is_empty()
    }

    /// A member leaves: it has heard everything by now.
    pub(super) fn leave(&mut self, seat: Seat) {
        self.lose(seat, None);
    }

    fn lose(&mut self, seat: Seat, kick: Option<(Code, &str)>) {
        let Some(Place { way, mut outgoing, .. }) = self.places.remove(&seat) else { return };
        self.absent.remove(&seat);
        let Some((connection, port)) = way else { return };
        self.connections.remove(&connection);
        if !outgoing.is_empty() {
            port.deliver(&mut outgoing);
        }
        if let Some((code, reason)) = kick {
            port.kick(code, reason);
        }
    }

    /// Everybody loses its seat.
    pub(super) fn clear(&mut self, code: Code, reason: &str) {
        let seats: Vec<_> = self.places.keys().copied().collect();
        for seat in seats {
            self.lose(seat, Some((code, reason)));
        }
    }

    /// Puts what the room says where it belongs.
    pub(super) fn spread(&mut self, said: &mut Said) {
        for saying in said.sayings() {
            match saying {
                Saying::Frame(To::One(seat), frame) => self.say(seat, frame),
                Saying::Frame(To::All, frame) => self.say_all(None, frame),
                Saying::Frame(To::But(seat), frame) => self.say_all(Some(seat), frame),
                Saying::Lost { seat, code, reason } => self.lose(seat, Some((code, reason))),
            }
        }
        said.clear();
    }

    /// Tells a member something of the connection's own.
    pub(super) fn say(&mut self, seat: Seat, frames: Frames<'_>) {
        if let Some(place) = self.places.get_mut(&seat).filter(|place| place.way.is_some()) {
            place.outgoing.append(frames);
            self.unsent = true;
        }
    }

    fn say_all(&mut self, but: Option<Seat>, frames: Frames<'_>) {
        for (seat, place) in &mut self.places {
            if place.way.is_some() && Some(*seat) != but {
                place.outgoing.append(frames);
            }
        }
        self.unsent = true;
    }

    /// Sends what was said in this wake: once to each member.
    pub(super) fn send(&mut self) {
        if !std::mem::take(&mut self.unsent) {
            return;
        }
        for place in self.places.values_mut() {
            if let Some((_, port)) = &place.way
                && !place.outgoing.is_empty()
            {
                port.deliver(&mut place.outgoing);
            }
        }
    }

    /// Who has been away for too long.
    pub(super) fn overdue(&self, now: Instant) -> Vec<Seat> {
        let late = self.absent.iter().filter(|(_, until)| **until <= now);
        late.map(|(seat, _)| *seat).collect()
    }

    /// When the next one has been.
    pub(super) fn due(&self) -> Option<Instant> {
        self.absent.values().min().copied()
    }
}
