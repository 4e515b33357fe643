//! Owns a match without a room around it: what the benchmark `arena` measures, and what tests
//! compare with itself. Everything follows from its seed.

use std::time::Duration;

use bastide::{Named, Seat};

use crate::arena::{Arena, Stage};

/// One tick.
const SPAN: Duration = Duration::from_millis(50);

/// An arena with members who steer at random.
#[derive(Debug)]
pub struct Match {
    arena: Arena,
    members: u32,
    dice: Dice,
}

/// Where its chance comes from, and where what it says goes.
#[derive(Debug)]
struct Dice {
    /// SplitMix64: the same numbers on every machine.
    seed: u64,
    now_ms: i64,
    /// The last message; it is encoded, as a room does.
    out: Vec<u8>,
    bytes: u64,
    largest: usize,
}

impl Match {
    /// Opens it, and seats the members.
    ///
    /// # Panics
    /// With more than 500 robots.
    pub fn new(robots: u32, members: u32, seed: u64) -> Self {
        let mut dice = Dice { seed, now_ms: 0, out: Vec::new(), bytes: 0, largest: 0 };
        let mut arena =
            Arena::open(Some(&robots.to_string()), None, &mut dice).expect("at most 500 robots");
        for seat in 0..members {
            arena.join(Seat(seat), &format!("Member {seat}"), false, &mut dice);
        }
        Self { arena, members, dice }
    }

    /// One member in ten steers elsewhere and comes in again if it was eaten; then everything
    /// moves, and everybody is told. Gives the bytes of what was said.
    pub fn tick(&mut self) -> u64 {
        let Self { arena, members, dice } = self;
        for seat in 0..*members {
            let roll = dice.random();
            if roll.is_multiple_of(10) {
                let part = |shift: u32| ((roll >> shift) % 201) as i32 - 100;
                arena.steer(Seat(seat), part(8), part(24));
                arena.respawn(Seat(seat), dice);
            }
        }
        let before = dice.bytes;
        dice.now_ms += 50;
        arena.tick(SPAN, dice);
        dice.bytes - before
    }

    /// The whole state.
    pub fn save(&self) -> Vec<u8> {
        self.arena.save()
    }

    /// The bytes of the longest message there was.
    pub fn largest(&self) -> usize {
        self.dice.largest
    }
}

impl Dice {
    fn say<M: Named>(&mut self, message: &M) {
        self.out.clear();
        message.encode(&mut self.out).expect("a vector grows");
        self.largest = self.largest.max(self.out.len());
        self.bytes += self.out.len() as u64;
    }
}

impl Stage for Dice {
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn now_ms(&self) -> i64 {
        self.now_ms
    }

    fn push<M: Named>(&mut self, _: Seat, message: &M) {
        self.say(message);
    }

    fn broadcast<M: Named>(&mut self, message: &M) {
        self.say(message);
    }

    fn close(&mut self, _: &str) {}
}
