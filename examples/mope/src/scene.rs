//! Owns what one client knows of its arena: the arena tells what there is at each tick, such a
//! client wants to hear what has come, what has gone, and what has moved.

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::mope as proto;

/// Hundredths of the unit of its map that the field of such a client is wide.
const FIELD: u32 = 7500;

/// Radius that one level stands for, in units of the arena.
const RADIUS_PER_LEVEL: u32 = 10;

/// Levels that such clients have pictures for: with one above, they stand still.
const LEVEL_MAX: u32 = 13;

/// The balls and the food that a client was told of.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    field: arena::Field,
    balls: BTreeMap<u32, Ball>,
    food: BTreeMap<(u32, u32), u32>,
    next_food: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ball {
    x: i32,
    y: i32,
    angle: i32,
    level: u32,
}

/// What is new.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) scene: proto::SceneTcp,
    pub(crate) moves: proto::SceneUdp,
    /// Balls that have grown or shrunk, with what they are now.
    pub(crate) levels: Vec<(u32, u32)>,
}

impl Scene {
    pub(crate) fn new(field: arena::Field) -> Self {
        // Beyond the numbers of balls.
        Self { field, next_food: 1 << 24, ..Self::default() }
    }

    pub(crate) fn me(&self) -> u32 {
        self.field.me
    }

    /// Takes in what it sees now.
    pub(crate) fn see(&mut self, view: &arena::View) -> News {
        let mut news = News::default();
        news.moves.frame = u32::try_from(view.tick).unwrap_or(u32::MAX);
        self.see_balls(view, &mut news);
        self.see_food(&view.food, &mut news.scene);
        news
    }

    fn see_balls(&mut self, view: &arena::View, news: &mut News) {
        let seen: BTreeSet<u32> = view.balls.iter().map(|ball| ball.id).collect();
        let gone = self.balls.keys().filter(|id| !seen.contains(id));
        news.scene.remove_players = gone.copied().collect();
        self.balls.retain(|id, _| seen.contains(id));
        for &arena::Ball { id, x, y, radius, .. } in &view.balls {
            let (x, y) = self.place(x, y);
            let level = (radius / RADIUS_PER_LEVEL).clamp(1, LEVEL_MAX);
            let Some(ball) = self.balls.get_mut(&id) else {
                self.balls.insert(id, Ball { x, y, angle: 0, level });
                let hp = Some(radius);
                news.scene.add_players.push(proto::Ball { id, level, hp, x, y, angle: Some(0) });
                continue;
            };
            if ball.level != level {
                ball.level = level;
                news.levels.push((id, level));
            }
            if (ball.x, ball.y) != (x, y) {
                let (dx, dy) = (f64::from(x - ball.x), f64::from(y - ball.y));
                (ball.x, ball.y) = (x, y);
                ball.angle = (-dy).atan2(dx).to_degrees().rem_euclid(360.0) as i32;
            }
            let angle = Some(ball.angle);
            news.moves.moves.push(proto::Moved { id, x, y, state: Some(0), angle });
        }
    }

    fn see_food(&mut self, food: &[u32], scene: &mut proto::SceneTcp) {
        let seen: BTreeSet<(u32, u32)> =
            food.chunks_exact(2).map(|place| (place[0], place[1])).collect();
        scene.removes =
            self.food.iter().filter(|(at, _)| !seen.contains(at)).map(|(_, id)| *id).collect();
        self.food.retain(|at, _| seen.contains(at));
        for at in seen {
            if self.food.contains_key(&at) {
                continue;
            }
            let id = self.next_food;
            self.next_food = id.checked_add(1).unwrap_or(1 << 24);
            self.food.insert(at, id);
            let (x, y) = self.place(at.0, at.1);
            scene.adds.push(proto::Food { id, r#type: 1, x, y });
        }
    }

    /// The client was not told of any food.
    pub(crate) fn forget_food(&mut self) {
        self.food.clear();
    }

    /// The client has forgotten everything.
    pub(crate) fn forget(&mut self) {
        self.balls.clear();
        self.food.clear();
    }

    /// Where its own ball is, as a client hears it when it comes in again.
    pub(crate) fn snap(&self, account: u64) -> proto::Snap {
        let hundredths = |of: i32| of as f32 / 100.0;
        let ball = self.balls.get(&self.field.me).copied();
        let Ball { x, y, angle, .. } = ball.unwrap_or(Ball { x: 0, y: 0, angle: 0, level: 1 });
        proto::Snap { x: hundredths(x), y: hundredths(y), angle: angle as f32, id: account }
    }

    fn place(&self, x: u32, y: u32) -> (i32, i32) {
        let scaled = |of: u32, whole: u32| {
            let scaled = u64::from(of) * u64::from(FIELD) / u64::from(whole.max(1));
            i32::try_from(scaled).unwrap_or(i32::MAX)
        };
        (scaled(x, self.field.width), scaled(y, self.field.height))
    }
}

/// Where somebody wants to go, as the arena understands it: `angle` in degrees, against the clock, `power`
/// in percent.
pub(crate) fn steer(angle: i32, power: i32) -> arena::Steer {
    let (sin, cos) = f64::from(angle.rem_euclid(360)).to_radians().sin_cos();
    let power = f64::from(power.clamp(0, 100));
    arena::Steer { dx: (cos * power).round() as i32, dy: (-sin * power).round() as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(balls: &[(u32, u32)], food: &[u32]) -> arena::View {
        let ball = |&(id, x)| arena::Ball { id, x, y: 40, radius: 20, robot: false };
        let balls = balls.iter().map(ball).collect();
        arena::View { tick: 9, balls, food: food.to_vec(), ..arena::View::default() }
    }

    #[test]
    fn a_client_hears_what_has_come_what_has_gone_and_what_has_moved() {
        let field = arena::Field { width: 4000, height: 4000, me: 1, ..arena::Field::default() };
        let mut scene = Scene::new(field);
        let first = scene.see(&view(&[(1, 4000), (2, 0)], &[8, 16]));
        let added: Vec<_> = first.scene.add_players.iter().map(|b| (b.id, b.x, b.y)).collect();
        assert_eq!(added, [(1, 7500, 75), (2, 0, 75)]);
        let food = first.scene.adds[0];
        assert_eq!((food.x, food.y, first.moves.moves.len()), (15, 30, 0));

        let next = scene.see(&view(&[(1, 2000)], &[8, 16, 24, 8]));
        assert_eq!(next.scene.remove_players, [2]);
        assert_eq!((next.scene.adds.len(), next.scene.removes.len()), (1, 0));
        let moved = &next.moves.moves[0];
        assert_eq!((moved.id, moved.x, moved.angle, next.moves.frame), (1, 3750, Some(180), 9));

        let last = scene.see(&view(&[], &[]));
        assert_eq!((last.scene.remove_players, last.scene.removes.len()), (vec![1], 2));
        assert!(last.scene.removes.contains(&food.id));
    }

    #[test]
    fn no_ball_has_a_level_that_such_clients_have_no_picture_for() {
        let mut scene = Scene::new(arena::Field::default());
        let ball = |radius| arena::Ball { id: 1, x: 0, y: 0, radius, robot: false };
        let view = |radius| arena::View { balls: vec![ball(radius)], ..arena::View::default() };
        assert_eq!(scene.see(&view(3)).scene.add_players[0].level, 1);
        assert_eq!(scene.see(&view(5000)).levels, [(1, LEVEL_MAX)]);
    }

    #[test]
    fn an_angle_and_a_power_are_a_direction() {
        let steer = |angle, power| {
            let arena::Steer { dx, dy } = steer(angle, power);
            (dx, dy)
        };
        assert_eq!(
            (steer(0, 100), steer(90, 50), steer(-180, 900)),
            ((100, 0), (0, -50), (-100, 0))
        );
        assert_eq!(steer(i32::MIN, i32::MIN), (0, 0));
    }
}
