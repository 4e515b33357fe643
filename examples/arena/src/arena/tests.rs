//! Holds an arena to what it tells its members, and a match to being the same twice.

use std::collections::BTreeSet;

use super::*;
use crate::{ball::Ball, measure::Match};

const SPAN: Duration = Duration::from_millis(50);

/// A room that keeps what is said in it.
#[derive(Debug, Default)]
struct Told {
    dice: u64,
    closed: bool,
    /// To whom (`None`: everybody), what, and its bytes.
    said: Vec<(Option<Seat>, &'static str, Vec<u8>)>,
}

impl Stage for Told {
    fn random(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 31)
    }

    fn now_ms(&self) -> i64 {
        7
    }

    fn push<M: Named>(&mut self, to: Seat, message: &M) {
        self.said.push((Some(to), M::NAME, message.encode_to_vec()));
    }

    fn broadcast<M: Named>(&mut self, message: &M) {
        self.said.push((None, M::NAME, message.encode_to_vec()));
    }

    fn close(&mut self, _: &str) {
        self.closed = true;
    }
}

impl Told {
    /// What of one kind one member was told; it is forgotten.
    fn take<M: Named>(&mut self, seat: u32) -> Vec<M> {
        let mine = |(to, name, _): &mut (Option<Seat>, &'static str, Vec<u8>)| {
            to.is_none_or(|to| to == Seat(seat)) && *name == M::NAME
        };
        let taken = self.said.extract_if(.., mine);
        taken.map(|(_, _, bytes)| M::decode(bytes.as_slice()).expect("its own bytes")).collect()
    }
}

/// An arena with two members and so many robots.
fn arena(robots: &str) -> (Arena, Told) {
    let mut told = Told::default();
    let mut arena = Arena::open(Some(robots), None, &mut told).expect("a number of robots");
    arena.join(Seat(1), "Anna", false, &mut told);
    arena.join(Seat(2), "Bert", false, &mut told);
    (arena, told)
}

#[test]
fn an_arena_has_as_many_robots_as_were_asked_for_or_twelve() {
    let mut told = Told::default();
    let mut open =
        |robots| Arena::open(robots, None, &mut told).map(|arena| arena.world.balls().len());
    assert_eq!(open(None).expect("by default"), 12);
    assert_eq!(open(Some("0")).expect("none"), 0);
    assert_eq!(open(Some("500")).expect("the most"), 500);
    for wrong in ["501", "-1", "", "many"] {
        assert_eq!(open(Some(wrong)).expect_err("no number").code, Code::PARAMETER, "{wrong}");
    }
}

#[test]
fn each_member_is_told_each_tick_what_it_sees_and_which_ball_is_its_own() {
    let (mut arena, mut told) = arena("12");
    let field = |seat| proto::Field::decode(arena.field(Seat(seat)).as_slice()).expect("a field");
    assert_eq!((field(1).me, field(2).me), (13, 14));
    assert_eq!((field(1).width, field(1).height, field(1).ticks_per_s), (4000, 4000, 20));
    for tick in 1..=3 {
        arena.tick(SPAN, &mut told);
        for (seat, me) in [(1, 13), (2, 14)] {
            let views: Vec<proto::View> = told.take(seat);
            assert_eq!(views.len(), 1);
            let view = &views[0];
            assert_eq!((view.tick, view.st, view.players, view.score), (tick, 7, 14, 100));
            assert!(view.balls.iter().any(|ball| ball.id == me && !ball.robot));
        }
    }
}

#[test]
fn names_are_told_once_of_every_ball_that_is_seen() {
    let (mut arena, mut told) = arena("200");
    let (mut known, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..100 {
        arena.steer(Seat(1), 100, 30);
        arena.tick(SPAN, &mut told);
        for name in told.take::<proto::Names>(1).into_iter().flat_map(|names| names.names) {
            assert!(known.insert(name.id), "{} is told once", name.name);
            let right = if name.id == 201 { "Anna" } else { NAMES[name.id as usize % 16] };
            assert!(name.name.starts_with(right) || name.id == 202, "{name:?}");
        }
        let views: Vec<proto::View> = told.take(1);
        seen.extend(views[0].balls.iter().map(|ball| ball.id));
        assert_eq!(known, seen);
    }
    assert!(seen.len() > 10, "{}", seen.len());

    arena.away(Seat(1));
    arena.back(Seat(1));
    arena.tick(SPAN, &mut told);
    let again = told.take::<proto::Names>(1).into_iter().flat_map(|names| names.names).count();
    assert_eq!(again, told.take::<proto::View>(1)[0].balls.len(), "all of them");
}

#[test]
fn who_is_away_stays_where_it_is_and_is_told_nothing_and_can_be_eaten() {
    let (mut arena, mut told) = arena("0");
    let at = |arena: &Arena| arena.world.ball(1).map(|ball| (ball.x, ball.y));
    arena.steer(Seat(1), 100, 0);
    arena.steer(Seat(2), 100, 0);
    arena.away(Seat(1));
    let before = at(&arena);
    arena.tick(SPAN, &mut told);
    assert_eq!(at(&arena), before);
    assert!(told.take::<proto::View>(1).is_empty());
    assert_eq!(told.take::<proto::View>(2).len(), 1);

    // The other one is put upon it, much larger, and all the food into a corner.
    let mut saved = proto::SavedWorld::decode(arena.save().as_slice()).expect("its own");
    saved.food.fill(0);
    let (x, y) = (saved.balls[0].x, saved.balls[0].y);
    let large = &mut saved.balls[1];
    (large.x, large.y, large.area) = (x, y, 40_000);
    let score = saved.balls[0].area / 4;
    let mut arena = Arena::restored(&saved.encode_to_vec(), None).expect("a world");
    arena.join(Seat(1), "Anna", true, &mut told);
    arena.join(Seat(2), "Bert", false, &mut told);
    arena.tick(SPAN, &mut told);
    let eaten: Vec<proto::Eaten> = told.take(1);
    assert_eq!((eaten[0].by.as_str(), eaten[0].score), ("Bert", score));

    arena.back(Seat(1));
    arena.tick(SPAN, &mut told);
    let view = &told.take::<proto::View>(1)[0];
    assert!(view.balls.iter().any(|ball| ball.id == 2), "it sees who ate it");
    assert!(view.balls.iter().all(|ball| ball.id != 1), "and not itself");
    arena.respawn(Seat(1), &mut told);
    arena.tick(SPAN, &mut told);
    assert!(told.take::<proto::View>(1)[0].balls.iter().any(|ball| ball.id == 1));
}

#[test]
fn the_ten_largest_are_told_each_second_largest_first() {
    let (mut arena, mut told) = arena("30");
    for _ in 0..19 {
        arena.tick(SPAN, &mut told);
    }
    assert!(told.take::<proto::Top>(1).is_empty());
    arena.tick(SPAN, &mut told);
    let tops: Vec<proto::Top> = told.take(1);
    let scores: Vec<_> = tops[0].places.iter().map(|place| place.score).collect();
    let mut all: Vec<_> = arena.world.balls().iter().map(Ball::score).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(scores, all[..10]);
}

#[test]
fn who_leaves_takes_its_ball_along() {
    let (mut arena, mut told) = arena("0");
    arena.leave(Seat(1));
    arena.tick(SPAN, &mut told);
    assert!(told.take::<proto::View>(1).is_empty());
    assert_eq!(told.take::<proto::View>(2)[0].players, 1);
}

#[test]
fn who_was_in_it_when_it_was_saved_has_the_same_ball_afterwards() {
    let (mut arena, mut told) = arena("12");
    arena.tick(SPAN, &mut told);
    let saved = arena.save();
    let mut back = Arena::restored(&saved, None).expect("its own bytes");
    back.join(Seat(1), "Anna", true, &mut told);
    back.join(Seat(2), "Bert", true, &mut told);
    assert_eq!(back.save(), saved);
    assert_eq!(back.field(Seat(2)), arena.field(Seat(2)));
}

#[test]
fn the_same_match_ends_the_same() {
    let play = |seed| {
        let mut game = Match::new(100, 10, seed);
        let bytes: u64 = (0..300).map(|_| game.tick()).sum();
        (game.save(), bytes, game.largest())
    };
    let first = play(1);
    assert_eq!(first, play(1));
    assert_ne!(first.0, play(2).0);
    assert!(first.2 < 8 * 1024, "the longest message has {} bytes", first.2);
}

#[test]
fn a_match_of_so_many_seconds_is_over_then_also_when_it_came_back_meanwhile() {
    let mut told = Told::default();
    let open = |seconds, told: &mut Told| Arena::open(Some("0"), Some(seconds), told);
    for wrong in ["0", "86401", "-1", "soon", ""] {
        assert!(open(wrong, &mut told).is_err(), "{wrong}");
    }
    let mut arena = open("2", &mut told).expect("two seconds");
    arena.join(Seat(1), "Anna", false, &mut told);
    let left = |arena: &Arena| {
        let field = proto::Field::decode(&*arena.field(Seat(1))).expect("its own bytes");
        field.seconds_left
    };
    assert_eq!(left(&arena), 2);
    (0..25).for_each(|_| arena.tick(SPAN, &mut told));
    assert_eq!((left(&arena), told.closed), (1, false));
    let mut back = Arena::restored(&arena.save(), Some("2")).expect("its own bytes");
    (0..15).for_each(|_| back.tick(SPAN, &mut told));
    assert!(told.closed);
    let endless = Arena::restored(&arena.save(), None).expect("its own bytes");
    assert_eq!(left(&endless), 0);
}
