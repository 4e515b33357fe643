//! Holds a view to what there is to be seen.

use std::collections::BTreeSet;

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    ball::{FIELD, FIELD_UNITS},
    grid::square,
    world::FOOD,
};

/// Whether a ball reaches into what another sees.
fn sees(from: &Ball, other: &Ball) -> bool {
    let reach = i64::from(from.view()) + i64::from(other.radius());
    other.lives() && square((from.x, from.y), (other.x, other.y)) <= reach * reach
}

fn view(world: &World, from: &Ball) -> proto::View {
    let mut view = proto::View::default();
    Eye::default().look(world, from, &mut view);
    view
}

fn ids(view: &proto::View) -> BTreeSet<u32> {
    view.balls.iter().map(|ball| ball.id).collect()
}

/// So many robots, all food, and the ball of seat 1, of this area.
fn world(robots: u32, seed: u64, ticks: u32) -> World {
    let mut seed = seed;
    let mut dice = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed ^ (seed >> 29)
    };
    let mut world = World::new(robots, &mut dice);
    world.join(1, &mut dice);
    for _ in 0..ticks {
        world.tick(50, &mut dice);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_member_sees_exactly_what_is_within_its_view(seed: u64, ticks in 1_u32..40) {
        let world = world(60, seed, ticks);
        for from in world.balls() {
            let all = world.balls().iter().filter(|ball| sees(from, ball));
            let seen = view(&world, from);
            prop_assert_eq!(ids(&seen), all.map(|ball| ball.id).collect::<BTreeSet<_>>());
            let mut food = 0;
            world.around().food.within((from.x, from.y), from.view(), |_, _| food += 1);
            prop_assert_eq!(seen.food.len(), 2 * food);
        }
    }
}

#[test]
fn of_too_much_a_member_sees_the_nearest_and_always_itself() {
    let world = world(500, 1, 1);
    let me = world.balls().last().expect("seat 1");
    // As large as the field, it sees half of it each way.
    let from = me.clone().placed((FIELD / 2, FIELD / 2), 4_000_000);
    let seen = view(&world, &from);
    assert_eq!((seen.balls.len(), seen.food.len()), (BALLS_MAX, 2 * FOOD_MAX));
    let far = |id: u32| {
        let ball = world.ball(id).expect("it is seen");
        square((from.x, from.y), (ball.x, ball.y))
    };
    let seen = ids(&seen);
    assert!(seen.contains(&me.id));
    let others = || seen.iter().filter(|id| **id != me.id);
    let farthest = others().map(|id| far(*id)).max();
    let left_out = world.balls().iter().filter(|ball| !seen.contains(&ball.id));
    assert!(left_out.map(|ball| far(ball.id)).min() >= farthest);
}

#[test]
fn the_largest_view_is_below_its_bound_in_bytes() {
    let ball =
        proto::Ball { id: u32::MAX, x: FIELD_UNITS, y: FIELD_UNITS, radius: u32::MAX, robot: true };
    let view = proto::View {
        tick: u64::MAX,
        st: i64::MAX,
        balls: vec![ball; BALLS_MAX],
        food: vec![FIELD_UNITS; 2 * FOOD_MAX],
        score: u32::MAX,
        players: u32::MAX,
    };
    assert!(view.encoded_len() < 8 * 1024, "{}", view.encoded_len());
    const { assert!(FOOD > FOOD_MAX, "the bound is of use") };
}

#[test]
fn who_was_eaten_sees_what_is_around_and_not_itself() {
    let world = world(60, 3, 10);
    let me = world.balls().last().expect("seat 1");
    let mut eaten = World::restore(&world.save()).expect("its own bytes");
    assert!(ids(&view(&world, me)).contains(&me.id));
    eaten.leave(1);
    let mut gone = me.clone();
    gone.end();
    let seen = view(&eaten, &gone);
    assert!(!ids(&seen).contains(&me.id) && !seen.food.is_empty());
}
