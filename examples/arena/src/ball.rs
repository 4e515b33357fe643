//! Owns a ball: how large it is, how fast, how far it sees, and whom it can eat. Leaves who is
//! near whom to the world.
//!
//! All of it is whole numbers: the same match is the same on every machine.

/// Positions and radii are in these parts of a unit.
pub(crate) const UNIT: i32 = 256;

/// Units of the field, on each side.
pub(crate) const FIELD_UNITS: u32 = 4000;

/// The field, on each side.
pub(crate) const FIELD: i32 = FIELD_UNITS.cast_signed() * UNIT;

/// Of a new ball: a radius of 20 units. Areas are squares of units, without π.
pub(crate) const START_AREA: u32 = START_RADIUS * START_RADIUS;

/// Of one piece of food: 33 of them double a new ball.
pub(crate) const FOOD_AREA: u32 = 12;

/// Larger balls shrink: from a radius of 60 units, three times that of a new one.
pub(crate) const SHRINKS_FROM_AREA: u32 = 60 * 60;

/// Steering at full speed.
pub(crate) const FULL: i32 = 100;

const START_RADIUS: u32 = 20;

/// A large ball loses this part of its area each second: 0.4 %.
const SHRINKS_BY: u32 = 250;

/// How far a new ball comes in a second: the whole field in 20 s.
const START_SPEED: u64 = 200 * UNIT as u64;

/// What a ball sees beyond five times its radius.
const VIEW: i32 = 500 * UNIT;

/// More than half of the field is never seen.
const VIEW_MAX: i32 = FIELD / 2;

/// One number for the points of a score; a new ball has 100.
const AREA_PER_POINT: u32 = 4;

const _: () = assert!(FIELD_UNITS < i32::MAX as u32 / UNIT as u32);

/// Whose a ball is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The room steers it.
    Robot,
    /// Whoever has this seat.
    Seat(u32),
}

/// Where a ball wants to go: each from -100 to 100; the length, at most 100, is how fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heading {
    pub(crate) dx: i32,
    pub(crate) dy: i32,
}

impl Heading {
    /// What a client says, made short enough.
    pub(crate) fn new(dx: i32, dy: i32) -> Self {
        let (dx, dy) = (dx.clamp(-FULL, FULL), dy.clamp(-FULL, FULL));
        if dx * dx + dy * dy <= FULL * FULL {
            return Self { dx, dy };
        }
        Self::along(i64::from(dx), i64::from(dy))
    }

    /// At full speed along a line; nowhere when it has no length.
    pub(crate) fn along(x: i64, y: i64) -> Self {
        let length = (x * x + y * y).isqrt().max(1);
        let part = |of: i64| (of * i64::from(FULL) / length).clamp(-100, 100) as i32;
        Self { dx: part(x), dy: part(y) }
    }
}

/// A ball; also one that was eaten and may come in again, under the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ball {
    /// 1 and up, and no other's ever.
    pub(crate) id: u32,
    pub(crate) owner: Owner,
    /// Its centre; where it was eaten, once it was.
    pub(crate) x: i32,
    pub(crate) y: i32,
    pub(crate) heading: Heading,
    area: u32,
    /// Follows from the area.
    radius: i32,
    /// What it had when it was eaten; 0 while it lives.
    score_eaten: u32,
}

impl Ball {
    /// One that is not in the field yet.
    pub(crate) fn new(id: u32, owner: Owner) -> Self {
        let heading = Heading::default();
        Self { id, owner, x: 0, y: 0, heading, area: 0, radius: 0, score_eaten: 0 }
    }

    /// One of this size, at this place.
    pub(crate) fn placed(self, (x, y): (i32, i32), area: u32) -> Self {
        Self { x, y, area, radius: radius(area), ..self }
    }

    /// One that was eaten, and had this score.
    pub(crate) fn scored(self, score_eaten: u32) -> Self {
        Self { score_eaten, ..self }
    }

    /// Comes in, small and at rest.
    pub(crate) fn come_in(&mut self, (x, y): (i32, i32)) {
        (self.x, self.y, self.heading, self.score_eaten) = (x, y, Heading::default(), 0);
        self.set_area(START_AREA);
    }

    pub(crate) fn grow(&mut self, area: u32) {
        self.set_area(self.area.saturating_add(area));
    }

    /// A second has passed.
    pub(crate) fn shrink(&mut self) {
        if self.area > SHRINKS_FROM_AREA {
            self.set_area((self.area - self.area / SHRINKS_BY).max(SHRINKS_FROM_AREA));
        }
    }

    /// It is eaten: what area it had.
    pub(crate) fn end(&mut self) -> u32 {
        self.score_eaten = self.area / AREA_PER_POINT;
        self.heading = Heading::default();
        let area = self.area;
        self.set_area(0);
        area
    }

    pub(crate) fn step(&mut self, span_ms: u32) {
        let way = self.speed() * i64::from(span_ms) / 1000;
        let part = |of: i32| (i64::from(of) * way / i64::from(FULL)) as i32;
        self.x = (self.x + part(self.heading.dx)).clamp(0, FIELD);
        self.y = (self.y + part(self.heading.dy)).clamp(0, FIELD);
    }

    pub(crate) fn lives(&self) -> bool {
        self.area > 0
    }

    pub(crate) fn area(&self) -> u32 {
        self.area
    }

    pub(crate) fn radius(&self) -> i32 {
        self.radius
    }

    pub(crate) fn score(&self) -> u32 {
        if self.lives() { self.area / AREA_PER_POINT } else { self.score_eaten }
    }

    /// How far it sees from its centre.
    pub(crate) fn view(&self) -> i32 {
        (VIEW + 5 * self.radius).min(VIEW_MAX)
    }

    /// Whether it is large enough to eat another: by a quarter of its area, that is, by 12 % of
    /// its radius.
    pub(crate) fn outgrows(&self, other: &Self) -> bool {
        u64::from(self.area) * 4 >= u64::from(other.area) * 5
    }

    /// Of its full speed, in a second: four times the radius is half the speed.
    pub(crate) fn speed(&self) -> i64 {
        let start_radius = u64::from(START_RADIUS) * UNIT as u64;
        let square = START_SPEED * START_SPEED * start_radius;
        let radius = self.radius.unsigned_abs().max(1);
        (square / u64::from(radius)).isqrt().cast_signed()
    }

    fn set_area(&mut self, area: u32) {
        self.area = area;
        self.radius = radius(area);
    }
}

/// √area, in parts of a unit.
fn radius(area: u32) -> i32 {
    (u64::from(area) * (UNIT as u64 * UNIT as u64)).isqrt() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(area: u32) -> Ball {
        Ball::new(1, Owner::Robot).placed((0, 0), area)
    }

    #[test]
    fn a_ball_eats_what_is_12_percent_smaller_in_radius_and_nothing_larger() {
        assert!(of(500).outgrows(&of(400)));
        assert!(!of(499).outgrows(&of(400)));
        assert!(!of(400).outgrows(&of(400)));
        let (large, small) = (of(12_544), of(10_000));
        assert!(large.outgrows(&small));
        assert_eq!((large.radius(), small.radius()), (112 * UNIT, 100 * UNIT));
        assert!(of(u32::MAX).outgrows(&of(u32::MAX / 2)));
    }

    #[test]
    fn a_larger_ball_is_slower_and_sees_more() {
        let balls = [of(400), of(1600), of(6400), of(1_000_000)];
        assert_eq!(balls[0].speed(), i64::from(200 * UNIT));
        assert_eq!(balls[2].speed(), i64::from(100 * UNIT));
        assert!(balls.windows(2).all(|two| two[0].speed() > two[1].speed()));
        assert!(balls.windows(2).all(|two| two[0].view() < two[1].view()));
        assert_eq!(balls[3].view(), FIELD / 2);
    }

    #[test]
    fn a_step_is_as_long_as_time_and_steering_say_and_ends_at_the_border() {
        let mut ball = Ball { x: FIELD / 2, y: FIELD / 2, ..of(START_AREA) };
        ball.heading = Heading::new(50, 0);
        ball.step(50);
        assert_eq!((ball.x - FIELD / 2, ball.y), (5 * UNIT, FIELD / 2));
        ball.heading = Heading::new(-100, 100);
        for _ in 0..10_000 {
            ball.step(50);
        }
        assert_eq!((ball.x, ball.y), (0, FIELD));
    }

    #[test]
    fn nobody_is_faster_by_steering_further() {
        for (dx, dy) in [(i32::MIN, i32::MAX), (100, 100), (-100, 99), (1000, 0)] {
            let heading = Heading::new(dx, dy);
            let square = heading.dx * heading.dx + heading.dy * heading.dy;
            assert!(square <= FULL * FULL, "{heading:?}");
            assert!(square > 98 * 98, "{heading:?}");
            assert_eq!((heading.dx.signum(), heading.dy.signum()), (dx.signum(), dy.signum()));
        }
        assert_eq!(Heading::along(0, 0), Heading::default());
    }

    #[test]
    fn only_a_large_ball_shrinks_and_never_below_that() {
        let after = |area| {
            let mut ball = of(area);
            ball.shrink();
            ball.area()
        };
        assert_eq!(after(START_AREA), START_AREA);
        assert_eq!(after(SHRINKS_FROM_AREA), SHRINKS_FROM_AREA);
        assert_eq!(after(SHRINKS_FROM_AREA + 1), SHRINKS_FROM_AREA);
        assert_eq!(after(100_000), 99_600);
    }

    #[test]
    fn who_is_eaten_keeps_its_score_until_it_comes_in_again() {
        let mut ball = of(4000);
        assert_eq!((ball.end(), ball.lives(), ball.score()), (4000, false, 1000));
        ball.come_in((UNIT, UNIT));
        assert_eq!((ball.lives(), ball.score(), ball.radius()), (true, 100, 20 * UNIT));
    }
}
