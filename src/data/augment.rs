//! Flips and rotations of square patches.

use rand::{Rng, RngExt};

/// Bytes of a pixel.
const PIXEL: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Augment {
    /// All eight symmetries of the square.
    All,
    /// The published code's seven: never the identity.
    PaperCode,
    None,
}

/// One symmetry of the square: a flip of the rows, then quarter turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symmetry {
    flip: bool,
    turns: u8,
}

impl Augment {
    pub fn draw(self, rng: &mut impl Rng) -> Symmetry {
        let mode = match self {
            Self::All => rng.random_range(0..8u8),
            Self::PaperCode => rng.random_range(1..8u8),
            Self::None => 0,
        };
        Symmetry {
            flip: mode % 2 == 1,
            turns: mode / 2,
        }
    }
}

impl Symmetry {
    /// Moves the pixels of a `size`×`size` patch.
    pub fn apply(self, patch: &[u8], size: usize) -> Vec<u8> {
        let mut moved = Vec::with_capacity(patch.len());
        for row in 0..size {
            for col in 0..size {
                let (row, col) = (0..self.turns).fold((row, col), |(r, c), _| (c, size - 1 - r));
                let row = if self.flip { size - 1 - row } else { row };
                moved.extend_from_slice(&patch[(row * size + col) * PIXEL..][..PIXEL]);
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::rng;
    use std::collections::HashSet;

    #[test]
    fn the_eight_symmetries_are_distinct() {
        let patch: Vec<u8> = (0..2 * 2 * 3).collect();
        let all: HashSet<Vec<u8>> = (0..8)
            .map(|mode| {
                Symmetry {
                    flip: mode % 2 == 1,
                    turns: mode / 2,
                }
                .apply(&patch, 2)
            })
            .collect();
        assert_eq!(all.len(), 8);
        let turned = Symmetry {
            flip: false,
            turns: 1,
        }
        .apply(&patch, 2);
        // A quarter turn anticlockwise, as numpy.rot90: the right column becomes the upper row.
        assert_eq!(turned[..6], [3, 4, 5, 9, 10, 11]);
    }

    #[test]
    fn the_published_choice_leaves_out_the_identity() {
        let mut rng = rng::stream(1, "test", [0, 0]);
        let identity = Symmetry {
            flip: false,
            turns: 0,
        };
        let mut drawn = |augment: Augment| (0..200).any(|_| augment.draw(&mut rng) == identity);
        assert!(drawn(Augment::All));
        assert!(!drawn(Augment::PaperCode));
        assert!(drawn(Augment::None));
    }
}
