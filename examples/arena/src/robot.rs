//! Owns what robots want: away from who can eat them, to what they can eat, else to food. Leaves
//! moving them to the world.

use crate::{
    ball::{Ball, Heading, UNIT},
    grid::Grid,
};

/// How far a robot looks for something to eat.
const SIGHT: i32 = 400 * UNIT;

/// A robot runs from whoever comes so near, from border to centre.
const FEAR: i32 = 200 * UNIT;

/// One in so many turns without anything to do, a robot goes somewhere else.
const RESTLESS: u64 = 8;

/// What a robot knows of the field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    pub(crate) balls: &'a [Ball],
    pub(crate) near: &'a Grid,
    pub(crate) food: &'a Grid,
    /// The radius of the largest ball.
    pub(crate) largest: i32,
}

/// Where a robot wants to go now.
pub(crate) fn decide(me: &Ball, around: Around<'_>, random: &mut dyn FnMut() -> u64) -> Heading {
    let mut threat: Option<(i64, &Ball)> = None;
    let mut prey: Option<(i64, &Ball)> = None;
    let sight_square = i64::from(SIGHT) * i64::from(SIGHT);
    around.near.within((me.x, me.y), SIGHT.max(FEAR + around.largest), |spot, square| {
        let other = &around.balls[spot.at as usize];
        let fear = i64::from(FEAR + other.radius());
        if other.outgrows(me) && square <= fear * fear {
            nearer(&mut threat, square, other);
        } else if me.outgrows(other) && square <= sight_square {
            nearer(&mut prey, square, other);
        }
    });
    let way = |x: i32, y: i32| (i64::from(x) - i64::from(me.x), i64::from(y) - i64::from(me.y));
    if let Some((_, threat)) = threat {
        let (x, y) = way(threat.x, threat.y);
        return Heading::along(-x, -y);
    }
    if let Some((_, prey)) = prey {
        let (x, y) = way(prey.x, prey.y);
        return Heading::along(x, y);
    }
    let mut food = None;
    around.food.within((me.x, me.y), SIGHT, |spot, square| nearer(&mut food, square, spot));
    if let Some((_, food)) = food {
        let (x, y) = way(food.x, food.y);
        return Heading::along(x, y);
    }
    let dice = random();
    if me.heading != Heading::default() && !dice.is_multiple_of(RESTLESS) {
        return me.heading;
    }
    let part = |shift: u32| ((dice >> shift) & 0xff) as i64 - 128;
    Heading::along(part(16), part(32))
}

/// Of two that are as near as each other, the one that was found first.
fn nearer<T>(nearest: &mut Option<(i64, T)>, square: i64, found: T) {
    if nearest.as_ref().is_none_or(|(least, _)| square < *least) {
        *nearest = Some((square, found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ball::{FIELD, Owner},
        grid::Spot,
    };

    const MIDDLE: i32 = FIELD / 2;

    fn at(x: i32, y: i32, area: u32) -> Ball {
        let place = (MIDDLE + x * UNIT, MIDDLE + y * UNIT);
        Ball::new(1, Owner::Robot).placed(place, area)
    }

    fn heading(balls: &[Ball], food: &[(i32, i32)]) -> Heading {
        let (mut near, mut grid) = (Grid::new(), Grid::new());
        near.fill(balls.iter().zip(0..).map(|(ball, at)| Spot { x: ball.x, y: ball.y, at }));
        let spots = food.iter().zip(0..);
        grid.fill(spots.map(|((x, y), at)| {
            let (x, y) = (MIDDLE + x * UNIT, MIDDLE + y * UNIT);
            Spot { x, y, at }
        }));
        let largest = balls.iter().map(Ball::radius).max().unwrap_or(0);
        let around = Around { balls, near: &near, food: &grid, largest };
        decide(&balls[0], around, &mut || 0x0000_00ff_00ff_0000)
    }

    #[test]
    fn a_robot_runs_from_a_larger_ball_also_when_it_could_eat() {
        let larger = at(300, 0, 40_000);
        assert_eq!(heading(&[at(0, 0, 400), larger, at(50, 0, 100)], &[]).dx, -100);
        let far = at(0, 500, 40_000);
        assert_eq!(heading(&[at(0, 0, 400), far, at(50, 0, 100)], &[]), Heading { dx: 100, dy: 0 });
    }

    #[test]
    fn a_robot_goes_to_the_nearest_that_it_can_eat_rather_than_to_food() {
        let balls = [at(0, 0, 1000), at(300, 0, 400), at(0, -200, 400), at(20, 0, 900)];
        assert_eq!(heading(&balls, &[(0, 10)]), Heading { dx: 0, dy: -100 });
    }

    #[test]
    fn a_robot_goes_to_the_nearest_food_else_anywhere() {
        assert_eq!(heading(&[at(0, 0, 400)], &[(90, 0), (0, 80)]), Heading { dx: 0, dy: 100 });
        let anywhere = heading(&[at(0, 0, 400)], &[(401, 0)]);
        assert!(anywhere.dx > 60 && anywhere.dy > 60, "as the dice say: {anywhere:?}");
    }
}
