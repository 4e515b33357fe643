//! Owns what one member sees: the balls and the food within its view, so many that a frame holds
//! them. Leaves when and to whom it is sent to the arena.

use crate::{
    ball::{Ball, Owner, UNIT},
    proto::arena as proto,
    world::World,
};

/// Balls in one view; of more, the nearest.
pub(crate) const BALLS_MAX: usize = 128;

/// Pieces of food in one view; of more, the nearest.
pub(crate) const FOOD_MAX: usize = 512;

/// Of a ball: its key, its length, and five fields of at most a key and five bytes.
const BALL_BYTES_MAX: usize = 2 + 5 * 6;

/// Of a piece of food: two numbers, each at most 4000.
const FOOD_BYTES_MAX: usize = 2 * 2;

// With everything else of a view well below what one frame holds (64 KiB); as it is, below the
// 8 KiB that a client reads in one go.
const _: () = assert!(BALLS_MAX * BALL_BYTES_MAX + FOOD_MAX * FOOD_BYTES_MAX < 8 * 1024);

/// Finds what is seen; keeps its memory from one view to the next.
#[derive(Debug, Default)]
pub(crate) struct Eye {
    balls: Vec<Sight>,
    food: Vec<Sight>,
}

/// What is seen: the square of how far it is, which of its like it is, and where.
type Sight = (i64, u32, (i32, i32));

impl Eye {
    /// Writes what a ball sees, or what is seen from where it was eaten.
    pub(crate) fn look(&mut self, world: &World, from: &Ball, view: &mut proto::View) {
        let Self { balls, food } = self;
        let around = world.around();
        let (center, reach) = ((from.x, from.y), from.view());

        balls.clear();
        around.near.within(center, reach.saturating_add(around.largest), |spot, square| {
            let ball = &around.balls[spot.at as usize];
            let seen = i64::from(reach) + i64::from(ball.radius());
            if square <= seen * seen {
                // Its own is never the one left out.
                let square = if ball.id == from.id { -1 } else { square };
                balls.push((square, spot.at, (spot.x, spot.y)));
            }
        });
        keep_nearest(balls, BALLS_MAX);
        view.balls.clear();
        view.balls.extend(balls.iter().map(|(_, at, _)| shown(&around.balls[*at as usize])));

        food.clear();
        around.food.within(center, reach, |spot, square| {
            food.push((square, spot.at, (spot.x, spot.y)));
        });
        keep_nearest(food, FOOD_MAX);
        view.food.clear();
        view.food.extend(food.iter().flat_map(|(_, _, (x, y))| [units(*x), units(*y)]));
    }
}

/// The same ones on every machine, in any order.
fn keep_nearest(seen: &mut Vec<Sight>, most: usize) {
    if seen.len() > most {
        seen.select_nth_unstable(most);
        seen.truncate(most);
    }
}

fn shown(ball: &Ball) -> proto::Ball {
    proto::Ball {
        id: ball.id,
        x: units(ball.x),
        y: units(ball.y),
        radius: units(ball.radius()),
        robot: ball.owner == Owner::Robot,
    }
}

fn units(of: i32) -> u32 {
    (of / UNIT).unsigned_abs()
}

#[cfg(test)]
mod tests;
