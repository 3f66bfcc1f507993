//! 3×3 windows on padded rows, and the gradient of their taps.

use super::Stored;
use crate::kernels::Real;
use crate::kernels::tiles::{GROUP, TILE};

/// Does `$work` with a slice as long as a place, whole groups up to a tile, as an array of the constant `$n`.
macro_rules! of_length {
    ($to:ident, $n:ident => $work:expr) => {
        of_length!($to, $n => $work; 64 48 32 16)
    };
    ($to:ident, $n:ident => $work:expr; $($each:literal)*) => {
        match $to.len() {
            $($each => {
                const $n: usize = $each;
                let ([$to], _) = $to.as_chunks_mut::<$each>() else { unreachable!() };
                $work
            })*
            _ => unreachable!("a place has whole groups of one tile"),
        }
    };
}

pub(crate) use of_length;

/// Results of a 3×3 window, whole groups of them up to a tile: `taps` on three padded rows, the first
/// window's centre at `at`.
#[inline(always)]
pub fn window<T: Real, R: Stored<T>>(taps: &[T; 9], rows: &[&[R]; 3], at: usize, to: &mut [T]) {
    of_length!(to, N => R::window::<N>(taps, rows, at, to));
}

/// Taps on three rows, from the pixel before the first centre on.
pub struct Window<'a, T> {
    taps: &'a [T; 9],
    rows: [&'a [T]; 3],
}

impl<'a, T: Real> Window<'a, T> {
    /// That of N centres from `at` on. Where N is a constant, loops check no bounds.
    #[inline(always)]
    pub fn of<const N: usize>(taps: &'a [T; 9], rows: &[&'a [T]; 3], at: usize) -> Self {
        let [above, row, below] = rows;
        let above = &above[at - 1..][..N + 2];
        let row = &row[at - 1..][..N + 2];
        let below = &below[at - 1..][..N + 2];
        Self {
            taps,
            rows: [above, row, below],
        }
    }

    /// The result at centre i.
    #[inline(always)]
    pub fn at(&self, i: usize) -> T {
        let (taps, [above, row, below]) = (self.taps, self.rows);
        let mut sum = taps[0].mul_add(above[i], T::zero());
        sum = taps[1].mul_add(above[i + 1], sum);
        sum = taps[2].mul_add(above[i + 2], sum);
        sum = taps[3].mul_add(row[i], sum);
        sum = taps[4].mul_add(row[i + 1], sum);
        sum = taps[5].mul_add(row[i + 2], sum);
        sum = taps[6].mul_add(below[i], sum);
        sum = taps[7].mul_add(below[i + 1], sum);
        taps[8].mul_add(below[i + 2], sum)
    }
}

/// Copies so few elements that a call would take as long.
#[inline(always)]
pub fn put<T: Real>(from: &[T; TILE], to: &mut [T]) {
    let (groups, rest) = to.as_chunks_mut::<GROUP>();
    let (from, tail) = from.split_at(groups.len() * GROUP);
    for (to, from) in groups.iter_mut().zip(from.as_chunks::<GROUP>().0) {
        *to = *from;
    }
    if !rest.is_empty() {
        rest.copy_from_slice(&tail[..rest.len()]);
    }
}

/// Σ d·x of each of the nine taps over some rows, each with the rows around it, in running sums of sixteen
/// lanes: `columns` values of d, whole groups of them, lie at `at`, and zeros on both sides of all rows.
#[inline(always)]
pub fn window_sums<T: Real, R: Stored<T>>(
    rows: &[([&[R]; 3], &[T])],
    at: usize,
    columns: usize,
) -> [[T; GROUP]; 9] {
    // Nine sums hide the latency of one; by name they stay in registers, an array of them does not.
    let [
        mut a,
        mut b,
        mut c,
        mut d,
        mut e,
        mut f,
        mut g,
        mut h,
        mut i,
    ] = [[T::zero(); GROUP]; 9];
    for (around, dy) in rows {
        let [above, row, below] = around.map(|row| groups(row, at, columns));
        // Rows of x begin with cache lines, and d is what is shifted: two loads of six cross a line, where
        // shifts of x took six of ten.
        let [left, centre, right] = [at - 1, at, at + 1].map(|at| groups(dy, at, columns));
        let rows = above.iter().zip(row).zip(below);
        let shifts = left.iter().zip(centre).zip(right);
        for (((above, row), below), ((left, centre), right)) in rows.zip(shifts) {
            let (above, row, below) = (load(above), load(row), load(below));
            for p in 0..GROUP {
                a[p] = right[p].mul_add(above[p], a[p]);
                b[p] = centre[p].mul_add(above[p], b[p]);
                c[p] = left[p].mul_add(above[p], c[p]);
                d[p] = right[p].mul_add(row[p], d[p]);
                e[p] = centre[p].mul_add(row[p], e[p]);
                f[p] = left[p].mul_add(row[p], f[p]);
                g[p] = right[p].mul_add(below[p], g[p]);
                h[p] = centre[p].mul_add(below[p], h[p]);
                i[p] = left[p].mul_add(below[p], i[p]);
            }
        }
    }
    [a, b, c, d, e, f, g, h, i]
}

#[inline(always)]
fn load<T: Real, R: Stored<T>>(group: &[R; GROUP]) -> [T; GROUP] {
    let mut values = [T::zero(); GROUP];
    for p in 0..GROUP {
        values[p] = group[p].load();
    }
    values
}

#[inline(always)]
fn groups<T>(row: &[T], at: usize, columns: usize) -> &[[T; GROUP]] {
    row[at..at + columns].as_chunks().0
}
