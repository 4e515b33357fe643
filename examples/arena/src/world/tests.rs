//! Holds the field to its rules.

use super::*;
use crate::ball::{FULL, START_AREA};

const MIDDLE: (i32, i32) = (FIELD / 2, FIELD / 2);

/// SplitMix64: the same numbers on every machine.
fn fixed(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Members' balls, each so far right of the middle, in units; all the food lies in a corner.
fn world(balls: &[(i32, u32)]) -> World {
    let balls = balls.iter().zip(1..).map(|((right, area), id)| {
        let place = (MIDDLE.0 + right * UNIT, MIDDLE.1);
        Ball::new(id, Owner::Seat(id)).placed(place, *area)
    });
    let balls: Vec<_> = balls.collect();
    World::of(0, balls.len() as u32 + 1, balls, vec![(0, 0); FOOD])
}

fn areas(world: &World) -> Vec<u32> {
    world.balls.iter().map(Ball::area).collect()
}

/// Food that is eaten comes again in the corner, where it lay.
fn corner() -> u64 {
    0
}

#[test]
fn who_covers_the_centre_of_a_smaller_ball_eats_it_and_has_its_area() {
    // A radius of 40 units: at 40 the centre is covered, at 41 it is not.
    let mut world = world(&[(0, 1600), (40, 1280), (-41, 400)]);
    world.tick(50, &mut corner);
    assert_eq!(areas(&world), [2880, 0, 400]);
    let eaten = Eaten { seat: 2, by: (1, Owner::Seat(1)), score: 320 };
    assert_eq!(world.eaten(), [eaten]);
    assert_eq!(world.ball(2).map(Ball::score), Some(320), "it keeps its score");

    // It has grown: now the other one is covered, too, and the news is told once.
    world.tick(50, &mut corner);
    assert_eq!(areas(&world), [3280, 0, 0]);
    assert_eq!(world.eaten().iter().map(|eaten| eaten.seat).collect::<Vec<_>>(), [3]);
    world.tick(50, &mut corner);
    assert!(world.eaten().is_empty());
}

#[test]
fn balls_of_about_the_same_size_do_nothing_to_each_other() {
    let mut world = world(&[(0, 1000), (1, 1249), (2, 1100)]);
    for _ in 0..10 {
        world.tick(50, &mut corner);
    }
    assert_eq!(areas(&world), [1000, 1249, 1100]);
}

#[test]
fn who_was_eaten_in_a_tick_eats_nobody_in_it() {
    // The largest covers the second, which covers the third; the largest does not cover that.
    let mut world = world(&[(0, 10_000), (99, 4000), (150, 400)]);
    world.tick(50, &mut corner);
    assert_eq!(areas(&world), [14_000, 0, 400]);
}

#[test]
fn food_is_eaten_once_and_comes_again_elsewhere() {
    let mut world = world(&[(0, 400), (0, 400)]);
    for piece in world.food.iter_mut().take(3) {
        *piece = (MIDDLE.0 + 20 * UNIT, MIDDLE.1);
    }
    world.food[3] = (MIDDLE.0 + 20 * UNIT + 1, MIDDLE.1);
    world.tick(50, &mut corner);
    assert_eq!(areas(&world), [400 + 3 * FOOD_AREA, 400], "the lower number has all of it");
    assert_eq!(world.food.len(), FOOD);
    assert_eq!(world.food.iter().filter(|piece| **piece == (0, 0)).count(), FOOD - 1);
}

#[test]
fn what_is_eaten_is_neither_lost_nor_made() {
    let mut dice = fixed(3);
    let mut world = World::new(200, &mut dice);
    let before = |world: &World| world.balls.iter().map(|ball| u64::from(ball.area())).sum::<u64>();
    let mut seen = 0;
    for _ in 0..200 {
        let area = before(&world);
        let food = world.food.clone();
        world.look();
        world.eat_food(&mut dice);
        let pieces = world.food.iter().zip(&food).filter(|(now, then)| now != then).count() as u64;
        assert_eq!(before(&world), area + pieces * u64::from(FOOD_AREA));
        world.eat_balls();
        assert_eq!(before(&world), area + pieces * u64::from(FOOD_AREA));
        seen += world.balls.iter().filter(|ball| !ball.lives()).count();
        world.let_robots_in(&mut dice);
        world.steer_robots(&mut dice);
        world.tick(50, &mut dice);
    }
    assert!(seen > 0, "somebody was eaten");
}

#[test]
fn a_member_that_was_eaten_comes_in_again_when_it_asks_and_a_robot_by_itself() {
    let mut dice = fixed(1);
    let mut world = world(&[(0, 40_000), (50, 400), (60, 400)]);
    world.balls[2].owner = Owner::Robot;
    world.tick(50, &mut dice);
    assert_eq!(areas(&world)[1..], [0, START_AREA]);
    world.respawn(2, &mut dice);
    assert_eq!(areas(&world)[1..], [START_AREA, START_AREA]);
    world.balls[1].grow(1);
    world.respawn(2, &mut dice);
    assert_eq!(world.balls[1].area(), START_AREA + 1, "who has a ball keeps it");
}

#[test]
fn who_comes_in_is_not_put_beside_a_large_ball() {
    let mut dice = fixed(9);
    let world = World::new(20, &mut dice);
    for _ in 0..100 {
        let place = free_place(&world.balls, &mut dice);
        let near = world.balls.iter().map(|ball| square((ball.x, ball.y), place)).min();
        let free = i64::from(PLACE_FREE + 20 * UNIT);
        assert!(near.is_some_and(|near| near >= free * free));
    }
}

#[test]
fn a_ball_leaves_with_its_member_and_its_number_is_not_given_again() {
    let mut dice = fixed(2);
    let mut world = World::new(3, &mut dice);
    assert_eq!(world.join(7, &mut dice), 4);
    world.leave(7);
    assert_eq!(world.balls.len(), 3);
    assert_eq!(world.ball(4), None);
    assert_eq!(world.join(8, &mut dice), 5);
}

#[test]
fn robots_eat_and_grow_and_keep_their_number() {
    let mut dice = fixed(4);
    let mut world = World::new(50, &mut dice);
    for _ in 0..20 * 30 {
        world.tick(50, &mut dice);
    }
    assert_eq!(world.balls.len(), 50);
    assert!(world.balls.iter().all(Ball::lives));
    let grown = world.balls.iter().filter(|ball| ball.area() > 2 * START_AREA).count();
    assert!(grown > 25, "in half a minute most have eaten: {grown}");
}

#[test]
fn after_a_pause_of_the_server_nobody_jumps() {
    let mut world = world(&[(0, START_AREA)]);
    world.steer(1, Heading::new(FULL, 0));
    world.tick(u32::MAX, &mut corner);
    assert_eq!(world.balls[0].x - MIDDLE.0, 50 * UNIT, "a quarter of a second at 200 a second");
}

#[test]
fn a_world_that_was_saved_goes_on_as_the_one_that_was_not() {
    let mut world = World::new(100, &mut fixed(5));
    world.join(1, &mut fixed(6));
    let mut dice = fixed(7);
    for _ in 0..101 {
        world.tick(50, &mut dice);
    }
    let mut back = World::restore(&world.save()).expect("its own bytes");
    assert_eq!(back.save(), world.save());
    let (mut one, mut two) = (fixed(8), fixed(8));
    for _ in 0..100 {
        world.tick(50, &mut one);
        back.tick(50, &mut two);
        assert_eq!(back.balls, world.balls);
    }
    assert_eq!(back.save(), world.save());
}

#[test]
fn bytes_that_are_no_world_are_refused() {
    let world = World::new(2, &mut fixed(5));
    let saved = || proto::SavedWorld::decode(world.save().as_slice()).expect("its own");
    let refused = |saved: proto::SavedWorld| World::restore(&saved.encode_to_vec()).is_err();
    assert!(!refused(saved()));
    assert!(World::restore(&[0xff]).is_err());
    assert!(refused(proto::SavedWorld { food: Vec::new(), ..saved() }));
    assert!(refused(proto::SavedWorld { next_id: 2, ..saved() }));
    let mut twice = saved();
    twice.balls[1].id = 1;
    assert!(refused(twice));
    let mut outside = saved();
    outside.balls[0].x = FIELD.unsigned_abs() + 1;
    assert!(refused(outside));
}
