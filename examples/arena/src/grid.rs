//! Owns who is near whom: points by the cell that they lie in. It is made anew when they have
//! moved, in the order of their numbers, so that nothing hangs on what was before.

use crate::ball::{FIELD, UNIT};

/// Cells on each side: of 250 units, about half of what a new ball sees.
const SIDE: usize = 16;

const CELL: i32 = 250 * UNIT;

const _: () = assert!(CELL * SIDE as i32 == FIELD);

/// A point, and whose it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) x: i32,
    pub(crate) y: i32,
    /// Where it stands among those that it is one of.
    pub(crate) at: u32,
}

/// Points by cell.
#[derive(Debug)]
pub(crate) struct Grid {
    /// Where the spots of each cell begin, row by row; one more for the end.
    begins: [u32; SIDE * SIDE + 1],
    spots: Vec<Spot>,
}

impl Grid {
    pub(crate) fn new() -> Self {
        Self { begins: [0; SIDE * SIDE + 1], spots: Vec::new() }
    }

    /// Takes in where everything is now.
    pub(crate) fn fill(&mut self, spots: impl Iterator<Item = Spot> + Clone) {
        let mut counts = [0_u32; SIDE * SIDE];
        for spot in spots.clone() {
            counts[cell(spot.x, spot.y)] += 1;
        }
        let mut next = [0_u32; SIDE * SIDE];
        let mut begin = 0;
        for (cell, count) in counts.into_iter().enumerate() {
            (self.begins[cell], next[cell]) = (begin, begin);
            begin += count;
        }
        self.begins[SIDE * SIDE] = begin;
        self.spots.resize(begin as usize, Spot::default());
        for spot in spots {
            let place = &mut next[cell(spot.x, spot.y)];
            self.spots[*place as usize] = spot;
            *place += 1;
        }
    }

    /// Calls `found` with everything that is at most so far away, and the square of how far.
    pub(crate) fn within(&self, (x, y): (i32, i32), reach: i32, mut found: impl FnMut(Spot, i64)) {
        let (left, right) = (line(x.saturating_sub(reach)), line(x.saturating_add(reach)));
        let (top, bottom) = (line(y.saturating_sub(reach)), line(y.saturating_add(reach)));
        let reach_square = i64::from(reach) * i64::from(reach);
        for row in top..=bottom {
            // The cells of a row lie side by side.
            let begin = self.begins[row * SIDE + left] as usize;
            let end = self.begins[row * SIDE + right + 1] as usize;
            for spot in &self.spots[begin..end] {
                let square = square((x, y), (spot.x, spot.y));
                if square <= reach_square {
                    found(*spot, square);
                }
            }
        }
    }
}

/// The square of how far two points are from each other.
pub(crate) fn square(a: (i32, i32), b: (i32, i32)) -> i64 {
    let (x, y) = (i64::from(a.0) - i64::from(b.0), i64::from(a.1) - i64::from(b.1));
    x * x + y * y
}

fn cell(x: i32, y: i32) -> usize {
    line(y) * SIDE + line(x)
}

/// The row or column of a coordinate; the outermost also for what lies outside.
fn line(of: i32) -> usize {
    ((of.max(0) / CELL) as usize).min(SIDE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn place() -> impl Strategy<Value = (i32, i32)> {
        // The borders of cells, too.
        let coordinate = || prop_oneof![0..=FIELD, (0..=SIDE as i32).prop_map(|n| n * CELL)];
        (coordinate(), coordinate())
    }

    proptest! {
        #[test]
        fn the_grid_finds_what_a_search_of_everything_finds(
            places in vec(place(), 0..200),
            before in vec(place(), 0..50),
            center in place(),
            reach in prop_oneof![0..=FIELD, Just(CELL), Just(i32::MAX)],
        ) {
            let mut grid = Grid::new();
            let spots = |of: &[(i32, i32)]| -> Vec<Spot> {
                of.iter().zip(0..).map(|((x, y), at)| Spot { x: *x, y: *y, at }).collect()
            };
            // What it held before leaves no trace.
            grid.fill(spots(&before).into_iter());
            grid.fill(spots(&places).into_iter());

            let mut found = Vec::new();
            grid.within(center, reach, |spot, square| found.push((spot.at, square)));
            found.sort_unstable();
            let of_reach = i64::from(reach) * i64::from(reach);
            let all: Vec<_> = places
                .iter()
                .zip(0..)
                .map(|(place, at)| (at, square(center, *place)))
                .filter(|(_, square)| *square <= of_reach)
                .collect();
            prop_assert_eq!(found, all);
        }
    }
}
