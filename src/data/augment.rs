//! Flips and rotations of square patches.

use crate::io::image::{PIXEL, Rgb8};
use rand::{Rng, RngExt};

/// What each byte stands for.
const UNIT: [f32; 256] = {
    let mut unit = [0.0; 256];
    let mut byte = 0;
    while byte < unit.len() {
        unit[byte] = byte as f32 / 255.0;
        byte += 1;
    }
    unit
};

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
    /// Where the pixel at a place of the moved patch comes from.
    fn source(self, row: usize, col: usize, size: usize) -> (usize, usize) {
        let (row, col) = (0..self.turns).fold((row, col), |(r, c), _| (c, size - 1 - r));
        (if self.flip { size - 1 - row } else { row }, col)
    }

    /// Moves the pixels of a `size`×`size` patch to three planes of values in [0, 1].
    pub fn planes(self, patch: Pixels, size: usize, planes: &mut [f32]) {
        let (red, rest) = planes.split_at_mut(size * size);
        let (green, blue) = rest.split_at_mut(size * size);
        let rows = red
            .chunks_exact_mut(size)
            .zip(green.chunks_exact_mut(size))
            .zip(blue.chunks_exact_mut(size));
        for (row, ((red, green), blue)) in rows.enumerate() {
            // A row comes from a row or a column, forwards or backwards.
            let at = |col| {
                let (row, col) = self.source(row, col, size);
                patch.at(row, col)
            };
            let first = at(0);
            let step = if size > 1 {
                at(1).wrapping_sub(first)
            } else {
                0
            };
            for col in 0..size {
                let from = first.wrapping_add(col.wrapping_mul(step));
                let pixel = &patch.data[from..from + PIXEL];
                red[col] = UNIT[usize::from(pixel[0])];
                green[col] = UNIT[usize::from(pixel[1])];
                blue[col] = UNIT[usize::from(pixel[2])];
            }
        }
    }
}

/// Pixels of a photo from one on: rows that begin `row` bytes apart.
#[derive(Clone, Copy, Debug)]
pub struct Pixels<'a> {
    data: &'a [u8],
    row: usize,
}

impl<'a> Pixels<'a> {
    pub fn of(photo: &'a Rgb8) -> Self {
        Self::rows(&photo.data, photo.width)
    }

    /// Rows of `width` pixels.
    pub fn rows(data: &'a [u8], width: usize) -> Self {
        let row = width * PIXEL;
        Self { data, row }
    }

    fn at(&self, row: usize, col: usize) -> usize {
        row * self.row + col * PIXEL
    }

    pub fn from(self, row: usize, col: usize) -> Self {
        let data = &self.data[self.at(row, col)..];
        Self { data, ..self }
    }

    /// A copy of the first `size`×`size` pixels.
    pub fn crop(self, size: usize) -> Vec<u8> {
        let rows = (0..size).map(|row| &self.data[self.at(row, 0)..][..size * PIXEL]);
        rows.collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::rng;
    use std::collections::HashSet;

    /// The planes of a symmetry of the 2×2 pixels in the middle of a photo.
    fn moved(mode: u8) -> [u8; 12] {
        let photo: Vec<u8> = (0..4 * 4 * 3).collect();
        let symmetry = Symmetry {
            flip: mode % 2 == 1,
            turns: mode / 2,
        };
        let mut planes = [0.0; 12];
        symmetry.planes(Pixels::rows(&photo, 4).from(1, 1), 2, &mut planes);
        planes.map(|value| (value * 255.0).round() as u8)
    }

    #[test]
    fn the_eight_symmetries_are_distinct() {
        let all: HashSet<_> = (0..8).map(moved).collect();
        assert_eq!(all.len(), 8);
        assert_eq!(moved(0), [15, 18, 27, 30, 16, 19, 28, 31, 17, 20, 29, 32]);
        // A quarter turn anticlockwise, as numpy.rot90: the right column becomes the upper row.
        assert_eq!(moved(2)[..4], [18, 30, 15, 27]);
    }

    #[test]
    fn a_crop_is_a_part_of_the_photo() {
        let photo: Vec<u8> = (0..4 * 4 * 3).collect();
        let crop = Pixels::rows(&photo, 4).from(1, 2).crop(2);
        assert_eq!(crop, [18, 19, 20, 21, 22, 23, 30, 31, 32, 33, 34, 35]);
    }

    #[test]
    fn bytes_are_divided_as_ever() {
        assert!((0..=255u8).all(|byte| UNIT[usize::from(byte)] == f32::from(byte) / 255.0));
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
