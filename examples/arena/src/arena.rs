//! Owns one arena: its field, who plays in it, and what each of them is told. Leaves seats, ticks
//! and sending to the room around it.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use bastide::{Code, LoadError, Named, Refusal, Seat};
use prost::Message as _;

use crate::{
    ball::{FIELD_UNITS, Heading, Owner},
    proto::arena as proto,
    view::Eye,
    world::{ROBOTS_MAX, TICKS_PER_S, World},
};

/// Robots of an arena that was opened without saying.
const ROBOTS: u32 = 12;

/// Longest match, in seconds.
const SECONDS_MAX: u32 = 24 * 3600;

/// Places that everybody is told of.
const TOP: usize = 10;

/// Balls whose names a member was told, before those that are gone are forgotten: with
/// [`ROBOTS_MAX`] robots and all seats taken there are fewer.
const KNOWN_MAX: usize = 1024;

/// What the robots are called.
const NAMES: [&str; 16] = [
    "Aldous", "Berta", "Cosimo", "Dunja", "Edgar", "Fatima", "Gustav", "Hedwig", "Ivo", "Jolanda",
    "Kasimir", "Lavinia", "Magnus", "Nerea", "Oswin", "Petra",
];

/// What an arena needs of the room around it; a test brings its own.
pub(crate) trait Stage {
    fn random(&mut self) -> u64;
    fn now_ms(&self) -> i64;
    fn push<M: Named>(&mut self, to: Seat, message: &M);
    fn broadcast<M: Named>(&mut self, message: &M);
    fn close(&mut self, reason: &str);
}

/// One arena.
#[derive(Debug)]
pub struct Arena {
    world: World,
    /// The tick at which the match is over; `None`: it goes on for ever.
    ends: Option<u64>,
    guests: BTreeMap<Seat, Guest>,
    /// Balls whose names each member was told, by number.
    known: BTreeMap<Seat, Vec<u32>>,
    eye: Eye,
    /// Kept for their memory, as is the eye: written anew for each member at each tick.
    view: proto::View,
    names: proto::Names,
    largest: Vec<usize>,
}

/// Somebody who plays.
#[derive(Debug)]
struct Guest {
    name: String,
    ball: u32,
    /// Nothing is told to it.
    away: bool,
}

impl Arena {
    /// Opens one; `robots` and `seconds` are what was asked for.
    pub(crate) fn open(
        robots: Option<&str>,
        seconds: Option<&str>,
        stage: &mut impl Stage,
    ) -> Result<Self, Refusal> {
        let robots = match robots.map(str::parse) {
            None => ROBOTS,
            Some(Ok(robots)) if robots <= ROBOTS_MAX => robots,
            Some(_) => return Err(Code::PARAMETER.because("robots: 0 to 500")),
        };
        let ends = ends(seconds).ok_or(Code::PARAMETER.because("seconds: 1 to 86400"))?;
        Ok(Self::of(World::new(robots, &mut || stage.random()), ends))
    }

    /// As it was saved; `seconds` is what it was opened with.
    pub(crate) fn restored(saved: &[u8], seconds: Option<&str>) -> Result<Self, LoadError> {
        Ok(Self::of(World::restore(saved)?, ends(seconds).flatten()))
    }

    fn of(world: World, ends: Option<u64>) -> Self {
        Self {
            world,
            ends,
            guests: BTreeMap::new(),
            known: BTreeMap::new(),
            eye: Eye::default(),
            view: proto::View::default(),
            names: proto::Names::default(),
            largest: Vec::new(),
        }
    }

    /// Somebody takes a seat; after a restore it has a ball already.
    pub(crate) fn join(&mut self, seat: Seat, name: &str, away: bool, stage: &mut impl Stage) {
        let owner = Owner::Seat(seat.0);
        let had = self.world.balls().iter().find(|ball| ball.owner == owner).map(|ball| ball.id);
        let ball = had.unwrap_or_else(|| self.world.join(seat.0, &mut || stage.random()));
        let guest = Guest { name: name.to_owned(), ball, away };
        self.guests.insert(seat, guest);
    }

    pub(crate) fn leave(&mut self, seat: Seat) {
        self.guests.remove(&seat);
        self.known.remove(&seat);
        self.world.leave(seat.0);
    }

    /// The ball stays where it is, and can be eaten.
    pub(crate) fn away(&mut self, seat: Seat) {
        if let Some(guest) = self.guests.get_mut(&seat) {
            guest.away = true;
            self.world.steer(guest.ball, Heading::default());
        }
    }

    /// Whoever is back may know nothing of what was told before: names are told again.
    pub(crate) fn back(&mut self, seat: Seat) {
        if let Some(guest) = self.guests.get_mut(&seat) {
            guest.away = false;
            self.known.remove(&seat);
        }
    }

    pub(crate) fn steer(&mut self, seat: Seat, dx: i32, dy: i32) {
        if let Some(guest) = self.guests.get(&seat) {
            self.world.steer(guest.ball, Heading::new(dx, dy));
        }
    }

    /// Whoever has a ball keeps it: a request that comes twice does no harm.
    pub(crate) fn respawn(&mut self, seat: Seat, stage: &mut impl Stage) {
        if let Some(guest) = self.guests.get(&seat) {
            self.world.respawn(guest.ball, &mut || stage.random());
        }
    }

    /// One tick: the world goes on, and everybody is told what it sees.
    pub(crate) fn tick(&mut self, dt: Duration, stage: &mut impl Stage) {
        let span_ms = u32::try_from(dt.as_millis()).unwrap_or(u32::MAX);
        self.world.tick(span_ms, &mut || stage.random());
        self.tell_eaten(stage);
        self.tell_views(stage);
        if self.world.ticks().is_multiple_of(TICKS_PER_S.into()) {
            self.tell_top(stage);
        }
        if self.ends.is_some_and(|ends| self.world.ticks() >= ends) {
            stage.close("the match is over");
        }
    }

    /// Rounded up, so that 0 means for ever.
    fn seconds_left(&self) -> u32 {
        let Some(ends) = self.ends else { return 0 };
        let ticks = ends.saturating_sub(self.world.ticks());
        u32::try_from(ticks.div_ceil(TICKS_PER_S.into())).unwrap_or(u32::MAX).max(1)
    }

    /// What whoever takes a seat must know.
    pub(crate) fn field(&self, seat: Seat) -> Vec<u8> {
        proto::Field {
            width: FIELD_UNITS,
            height: FIELD_UNITS,
            ticks_per_s: TICKS_PER_S,
            me: self.guests.get(&seat).map_or(0, |guest| guest.ball),
            seconds_left: self.seconds_left(),
        }
        .encode_to_vec()
    }

    /// What members were told is not in it: they are told again.
    pub(crate) fn save(&self) -> Vec<u8> {
        self.world.save()
    }

    fn tell_eaten(&self, stage: &mut impl Stage) {
        for eaten in self.world.eaten() {
            let by = name(&self.guests, eaten.by).into_owned();
            stage.push(Seat(eaten.seat), &proto::Eaten { by, score: eaten.score });
        }
    }

    fn tell_views(&mut self, stage: &mut impl Stage) {
        let Self { world, guests, known, eye, view, names, .. } = self;
        view.tick = world.ticks();
        view.st = stage.now_ms();
        view.players = u32::try_from(world.balls().len()).unwrap_or(u32::MAX);
        for (seat, guest) in guests.iter() {
            let Some(ball) = world.ball(guest.ball).filter(|_| !guest.away) else { continue };
            eye.look(world, ball, view);
            view.score = ball.score();

            names.names.clear();
            let known = known.entry(*seat).or_default();
            for &proto::Ball { id, .. } in &view.balls {
                let Err(place) = known.binary_search(&id) else { continue };
                known.insert(place, id);
                let owner = world.ball(id).map_or(Owner::Robot, |ball| ball.owner);
                let name = name(guests, (id, owner)).into_owned();
                names.names.push(proto::names::Name { id, name });
            }
            if !names.names.is_empty() {
                stage.push(*seat, names);
            }
            if known.len() > KNOWN_MAX {
                known.retain(|id| world.ball(*id).is_some());
            }
            stage.push(*seat, view);
        }
    }

    /// The ten largest, to everybody at once.
    fn tell_top(&mut self, stage: &mut impl Stage) {
        let Self { world, guests, largest, .. } = self;
        let balls = world.balls();
        largest.clear();
        largest.extend((0..balls.len()).filter(|at| balls[*at].lives()));
        // Of two that are as large as each other, the older one.
        let by_size = |at: &usize| (std::cmp::Reverse(balls[*at].area()), balls[*at].id);
        if largest.len() > TOP {
            largest.select_nth_unstable_by_key(TOP, by_size);
            largest.truncate(TOP);
        }
        largest.sort_unstable_by_key(by_size);
        let places = largest.iter().map(|at| &balls[*at]).map(|ball| proto::top::Place {
            name: name(guests, (ball.id, ball.owner)).into_owned(),
            score: ball.score(),
        });
        stage.broadcast(&proto::Top { places: places.collect() });
    }
}

/// The tick at which a match of so many seconds is over; `None`: there is none such.
#[expect(clippy::option_option, reason = "no end, and no such end")]
fn ends(seconds: Option<&str>) -> Option<Option<u64>> {
    let Some(seconds) = seconds else { return Some(None) };
    let seconds = seconds.parse().ok().filter(|seconds| (1..=SECONDS_MAX).contains(seconds))?;
    Some(Some(u64::from(seconds) * u64::from(TICKS_PER_S)))
}

fn name(guests: &BTreeMap<Seat, Guest>, (id, owner): (u32, Owner)) -> Cow<'_, str> {
    match owner {
        Owner::Seat(seat) => {
            guests.get(&Seat(seat)).map_or(Cow::Borrowed(""), |guest| guest.name.as_str().into())
        }
        Owner::Robot => format!("{} {id}", NAMES[id as usize % NAMES.len()]).into(),
    }
}

#[cfg(test)]
mod tests;
