//! Owns the field: balls and food, and what a tick does to them. Leaves who is told what to the
//! arena; knows no messages but those it is saved as.

use bastide::LoadError;
use prost::Message as _;

use crate::{
    ball::{Ball, FIELD, FOOD_AREA, Heading, Owner, UNIT},
    grid::{Grid, Spot, square},
    proto::arena as proto,
    robot::{self, Around},
};

/// Pieces of food; one that is eaten comes again elsewhere. A new ball sees about eighty.
pub(crate) const FOOD: usize = 1200;

/// Robots of one arena at most.
pub(crate) const ROBOTS_MAX: u32 = 500;

pub(crate) const TICKS_PER_S: u32 = 20;

/// Of one tick: after a pause of the server nobody jumps further than a quarter of a second.
const SPAN_MS_MAX: u32 = 250;

/// A robot makes up its mind every so many ticks, a fifth of them at each.
const ROBOT_TICKS: u64 = 5;

/// Places that are tried for a ball that comes in.
const PLACES_TRIED: usize = 8;

/// From the border of a ball that could eat it to one that comes in.
const PLACE_FREE: i32 = 150 * UNIT;

/// Somebody was eaten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Eaten {
    /// Whose ball.
    pub(crate) seat: u32,
    pub(crate) by: (u32, Owner),
    pub(crate) score: u32,
}

/// The field and everything in it.
#[derive(Debug)]
pub(crate) struct World {
    tick: u64,
    next_id: u32,
    /// By number; also those that were eaten.
    balls: Vec<Ball>,
    food: Vec<(i32, i32)>,
    /// Those below follow from the balls and the food at each tick.
    near: Grid,
    near_food: Grid,
    /// The radius of the largest ball.
    largest: i32,
    /// In this tick.
    eaten: Vec<Eaten>,
}

impl World {
    pub(crate) fn new(robots: u32, random: &mut dyn FnMut() -> u64) -> Self {
        let food = (0..FOOD).map(|_| anywhere(random)).collect();
        let mut world = Self::of(0, 1, Vec::new(), food);
        for _ in 0..robots.min(ROBOTS_MAX) {
            world.add(Owner::Robot, random);
        }
        world.look();
        world
    }

    fn of(tick: u64, next_id: u32, balls: Vec<Ball>, food: Vec<(i32, i32)>) -> Self {
        let (near, near_food) = (Grid::new(), Grid::new());
        Self { tick, next_id, balls, food, near, near_food, largest: 0, eaten: Vec::new() }
    }

    /// A ball for whoever takes a seat: its number.
    pub(crate) fn join(&mut self, seat: u32, random: &mut dyn FnMut() -> u64) -> u32 {
        self.add(Owner::Seat(seat), random)
    }

    /// Takes its ball away.
    pub(crate) fn leave(&mut self, seat: u32) {
        self.balls.retain(|ball| ball.owner != Owner::Seat(seat));
        self.look();
    }

    pub(crate) fn steer(&mut self, id: u32, heading: Heading) {
        if let Some(ball) = self.index(id).and_then(|at| self.balls.get_mut(at)) {
            ball.heading = heading;
        }
    }

    /// Lets it in again if it was eaten.
    pub(crate) fn respawn(&mut self, id: u32, random: &mut dyn FnMut() -> u64) {
        let Some(at) = self.index(id) else { return };
        if !self.balls[at].lives() {
            let place = free_place(&self.balls, random);
            self.balls[at].come_in(place);
        }
    }

    /// So much time passes.
    pub(crate) fn tick(&mut self, span_ms: u32, random: &mut dyn FnMut() -> u64) {
        self.tick += 1;
        for ball in self.balls.iter_mut().filter(|ball| ball.lives()) {
            ball.step(span_ms.min(SPAN_MS_MAX));
        }
        self.look();
        self.eat_food(random);
        self.eat_balls();
        self.let_robots_in(random);
        if self.tick.is_multiple_of(TICKS_PER_S.into()) {
            self.balls.iter_mut().for_each(Ball::shrink);
        }
        self.look();
        self.steer_robots(random);
    }

    pub(crate) fn ticks(&self) -> u64 {
        self.tick
    }

    pub(crate) fn balls(&self) -> &[Ball] {
        &self.balls
    }

    pub(crate) fn ball(&self, id: u32) -> Option<&Ball> {
        self.index(id).map(|at| &self.balls[at])
    }

    /// Members whose balls were eaten in the last tick.
    pub(crate) fn eaten(&self) -> &[Eaten] {
        &self.eaten
    }

    /// Where the balls and the food are, and how large the largest ball is.
    pub(crate) fn around(&self) -> Around<'_> {
        let Self { balls, near, near_food, largest, .. } = self;
        Around { balls, near, food: near_food, largest: *largest }
    }

    fn index(&self, id: u32) -> Option<usize> {
        self.balls.binary_search_by_key(&id, |ball| ball.id).ok()
    }

    fn add(&mut self, owner: Owner, random: &mut dyn FnMut() -> u64) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        let mut ball = Ball::new(id, owner);
        ball.come_in(free_place(&self.balls, random));
        self.balls.push(ball);
        id
    }

    fn look(&mut self) {
        let Self { balls, food, near, near_food, largest, .. } = self;
        let living = balls.iter().zip(0..).filter(|(ball, _)| ball.lives());
        near.fill(living.map(|(ball, at)| Spot { x: ball.x, y: ball.y, at }));
        near_food.fill(food.iter().zip(0..).map(|((x, y), at)| Spot { x: *x, y: *y, at }));
        *largest = balls.iter().map(Ball::radius).max().unwrap_or(0);
    }

    fn eat_food(&mut self, random: &mut dyn FnMut() -> u64) {
        let Self { balls, food, near_food, .. } = self;
        for ball in balls.iter_mut().filter(|ball| ball.lives()) {
            let mut area = 0;
            near_food.within((ball.x, ball.y), ball.radius(), |spot, _| {
                let piece = &mut food[spot.at as usize];
                // Else somebody ate it in this tick, and it lies elsewhere already.
                if *piece == (spot.x, spot.y) {
                    *piece = anywhere(random);
                    area += FOOD_AREA;
                }
            });
            if area > 0 {
                ball.grow(area);
            }
        }
    }

    /// Who covers the centre of a ball that is enough smaller eats it; of several who do, the one
    /// with the lowest number.
    fn eat_balls(&mut self) {
        let Self { balls, near, eaten, .. } = self;
        eaten.clear();
        for eater in 0..balls.len() {
            if !balls[eater].lives() {
                continue;
            }
            let Ball { id, owner, x, y, .. } = balls[eater];
            let mut area = 0_u32;
            near.within((x, y), balls[eater].radius(), |spot, _| {
                let at = spot.at as usize;
                if !balls[at].lives() || at == eater || !balls[eater].outgrows(&balls[at]) {
                    return;
                }
                area = area.saturating_add(balls[at].end());
                if let Owner::Seat(seat) = balls[at].owner {
                    eaten.push(Eaten { seat, by: (id, owner), score: balls[at].score() });
                }
            });
            if area > 0 {
                balls[eater].grow(area);
            }
        }
    }

    fn let_robots_in(&mut self, random: &mut dyn FnMut() -> u64) {
        for at in 0..self.balls.len() {
            if self.balls[at].owner == Owner::Robot && !self.balls[at].lives() {
                let place = free_place(&self.balls, random);
                self.balls[at].come_in(place);
            }
        }
    }

    fn steer_robots(&mut self, random: &mut dyn FnMut() -> u64) {
        for at in 0..self.balls.len() {
            let ball = &self.balls[at];
            let turn = (self.tick + u64::from(ball.id)).is_multiple_of(ROBOT_TICKS);
            if turn && ball.owner == Owner::Robot {
                self.balls[at].heading = robot::decide(ball, self.around(), random);
            }
        }
    }
}

// === Saved ===

impl World {
    pub(crate) fn save(&self) -> Vec<u8> {
        let food = self.food.iter().flat_map(|(x, y)| [x.unsigned_abs(), y.unsigned_abs()]);
        let balls = self.balls.iter().map(|ball| proto::SavedBall {
            id: ball.id,
            seat: match ball.owner {
                Owner::Robot => None,
                Owner::Seat(seat) => Some(seat),
            },
            x: ball.x.unsigned_abs(),
            y: ball.y.unsigned_abs(),
            area: ball.area(),
            dx: ball.heading.dx,
            dy: ball.heading.dy,
            score: if ball.lives() { 0 } else { ball.score() },
        });
        proto::SavedWorld {
            tick: self.tick,
            next_id: self.next_id,
            food: food.collect(),
            balls: balls.collect(),
        }
        .encode_to_vec()
    }

    pub(crate) fn restore(saved: &[u8]) -> Result<Self, LoadError> {
        let proto::SavedWorld { tick, next_id, food, balls } = proto::SavedWorld::decode(saved)?;
        let food = food.chunks_exact(2).map(|place| in_field(place[0], place[1]));
        let food = food.collect::<Result<Vec<_>, _>>()?;
        if food.len() != FOOD {
            return Err(LoadError::new("not all of the food is there"));
        }
        let balls = balls.iter().map(|saved| {
            let owner = saved.seat.map_or(Owner::Robot, Owner::Seat);
            let place = in_field(saved.x, saved.y)?;
            let mut ball = Ball::new(saved.id, owner).placed(place, saved.area).scored(saved.score);
            ball.heading = Heading::new(saved.dx, saved.dy);
            Ok(ball)
        });
        let balls = balls.collect::<Result<Vec<_>, LoadError>>()?;
        let ids = || balls.iter().map(|ball| ball.id);
        if !ids().is_sorted_by(|a, b| a < b) || ids().any(|id| id >= next_id) {
            return Err(LoadError::new("the numbers of the balls are out of order"));
        }
        let mut world = Self::of(tick, next_id, balls, food);
        world.look();
        Ok(world)
    }
}

fn in_field(x: u32, y: u32) -> Result<(i32, i32), LoadError> {
    let inside = |of: u32| i32::try_from(of).ok().filter(|of| *of <= FIELD);
    inside(x).zip(inside(y)).ok_or_else(|| LoadError::new("a place outside of the field"))
}

fn anywhere(random: &mut dyn FnMut() -> u64) -> (i32, i32) {
    let dice = random();
    // Both halves of the number, each spread over the field.
    let part = |half: u64| ((half * (FIELD as u64 + 1)) >> 32) as i32;
    (part(dice & 0xffff_ffff), part(dice >> 32))
}

/// A place that no large ball is near, if one is soon found.
fn free_place(balls: &[Ball], random: &mut dyn FnMut() -> u64) -> (i32, i32) {
    let mut place = anywhere(random);
    for _ in 1..PLACES_TRIED {
        let taken = balls.iter().filter(|ball| ball.lives()).any(|ball| {
            let reach = i64::from(ball.radius() + PLACE_FREE);
            square((ball.x, ball.y), place) < reach * reach
        });
        if !taken {
            break;
        }
        place = anywhere(random);
    }
    place
}

#[cfg(test)]
mod tests;
