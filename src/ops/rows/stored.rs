//! What rows are stored in between a 1×1 convolution and the windows on its results: numbers of full
//! precision, or bfloat16, which take half the memory.

use super::window::Window;
use crate::kernels::tiles::Target;
use crate::kernels::{Matrix, Real};
use half::bf16;
use num_traits::Float;

/// A form of numbers that are computed with as `T`.
pub trait Stored<T>: Float + Default + Send + Sync + 'static {
    fn load(self) -> T;

    /// C = A·B, stored so.
    fn product(matrix: &Matrix<T>, target: Target<Self>, tiles: &[T]);

    /// Results of a 3×3 window at N pixels, whole groups of them: `taps` on three rows, the first window's
    /// centre at `at`.
    fn window<const N: usize>(taps: &[T; 9], rows: &[&[Self]; 3], at: usize, to: &mut [T; N]);

    /// What `of` makes of the results of two windows, in one loop, so that these stay in registers.
    fn windows<const N: usize>(
        taps: [&[T; 9]; 2],
        rows: &[&[Self]; 3],
        at: [usize; 2],
        of: impl Fn(T, T) -> T,
        to: &mut [T; N],
    );
}

impl<T: Real> Stored<T> for T {
    #[inline(always)]
    fn load(self) -> T {
        self
    }

    fn product(matrix: &Matrix<T>, target: Target<T>, tiles: &[T]) {
        matrix.product(false, target, tiles);
    }

    /// By way of an array of its own: the compiler does not see that `to` overlaps no row, and the loop does not
    /// become vectors.
    #[inline(always)]
    fn window<const N: usize>(taps: &[T; 9], rows: &[&[T]; 3], at: usize, to: &mut [T; N]) {
        let window = Window::of::<N>(taps, rows, at);
        let mut results = [T::zero(); N];
        for (i, result) in results.iter_mut().enumerate() {
            *result = window.at(i);
        }
        *to = results;
    }

    #[inline(always)]
    fn windows<const N: usize>(
        taps: [&[T; 9]; 2],
        rows: &[&[T]; 3],
        at: [usize; 2],
        of: impl Fn(T, T) -> T,
        to: &mut [T; N],
    ) {
        let a = Window::of::<N>(taps[0], rows, at[0]);
        let b = Window::of::<N>(taps[1], rows, at[1]);
        let mut results = [T::zero(); N];
        for (i, result) in results.iter_mut().enumerate() {
            *result = of(a.at(i), b.at(i));
        }
        *to = results;
    }
}

/// Pixels whose windows are taken together: half of them, at even places, in one vector, and half in another.
const LONG: usize = 32;
const SHORT: usize = 16;

impl<T: Real> Stored<T> for bf16 {
    #[inline(always)]
    fn load(self) -> T {
        low(u32::from(self.to_bits()))
    }

    fn product(matrix: &Matrix<T>, target: Target<Self>, tiles: &[T]) {
        matrix.product_rounded(target, tiles);
    }

    #[inline(always)]
    fn window<const N: usize>(taps: &[T; 9], rows: &[&[Self]; 3], at: usize, to: &mut [T; N]) {
        let (long, short) = to.as_chunks_mut::<LONG>();
        let mut at = at;
        for to in long {
            one::<T, { LONG / 2 }>(taps, rows, at, to);
            at += LONG;
        }
        for to in short.as_chunks_mut::<SHORT>().0 {
            one::<T, { SHORT / 2 }>(taps, rows, at, to);
        }
    }

    #[inline(always)]
    fn windows<const N: usize>(
        taps: [&[T; 9]; 2],
        rows: &[&[Self]; 3],
        at: [usize; 2],
        of: impl Fn(T, T) -> T,
        to: &mut [T; N],
    ) {
        let (long, short) = to.as_chunks_mut::<LONG>();
        let [mut a, mut b] = at;
        for to in long {
            two::<T, { LONG / 2 }>(taps, rows, [a, b], &of, to);
            a += LONG;
            b += LONG;
        }
        for to in short.as_chunks_mut::<SHORT>().0 {
            two::<T, { SHORT / 2 }>(taps, rows, [a, b], &of, to);
        }
    }
}

/// Results of a window at 2·P pixels.
#[inline(always)]
fn one<T: Real, const P: usize>(taps: &[T; 9], rows: &[&[bf16]; 3], at: usize, to: &mut [T]) {
    let (even, odd) = slide::<T, P>(taps, rows, at);
    interleave(even, odd, to);
}

/// What `of` makes of the results of two windows at 2·P pixels.
#[inline(always)]
fn two<T: Real, const P: usize>(
    taps: [&[T; 9]; 2],
    rows: &[&[bf16]; 3],
    at: [usize; 2],
    of: &impl Fn(T, T) -> T,
    to: &mut [T],
) {
    let (a_even, a_odd) = slide::<T, P>(taps[0], rows, at[0]);
    let (b_even, b_odd) = slide::<T, P>(taps[1], rows, at[1]);
    interleave(join(a_even, b_even, of), join(a_odd, b_odd, of), to);
}

/// Of the results of two windows what they make together, by pixel.
#[inline(always)]
fn join<T: Real, const P: usize>(a: [T; P], b: [T; P], of: &impl Fn(T, T) -> T) -> [T; P] {
    let mut joined = [T::zero(); P];
    for p in 0..P {
        joined[p] = of(a[p], b[p]);
    }
    joined
}

#[inline(always)]
fn interleave<T: Real, const P: usize>(even: [T; P], odd: [T; P], to: &mut [T]) {
    for (p, to) in to.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        *to = [even[p], odd[p]];
    }
}

/// Results at even and at odd pixels.
#[inline(always)]
fn slide<T: Real, const P: usize>(
    taps: &[T; 9],
    rows: &[&[bf16]; 3],
    at: usize,
) -> ([T; P], [T; P]) {
    let (mut even, mut odd) = ([T::zero(); P], [T::zero(); P]);
    for (taps, row) in taps.as_chunks::<3>().0.iter().zip(rows) {
        let row = &row[at - 1..][..2 * P + 2];
        let left: [u32; P] = pairs(row);
        let centre: [u32; P] = pairs(&row[1..]);
        let right: [u32; P] = pairs(&row[2..]);
        for p in 0..P {
            even[p] = taps[0].mul_add(low(left[p]), even[p]);
            even[p] = taps[1].mul_add(low(centre[p]), even[p]);
            even[p] = taps[2].mul_add(high(centre[p]), even[p]);
            odd[p] = taps[0].mul_add(low(centre[p]), odd[p]);
            odd[p] = taps[1].mul_add(high(centre[p]), odd[p]);
            odd[p] = taps[2].mul_add(high(right[p]), odd[p]);
        }
    }
    (even, odd)
}

/// Two numbers each, the first in the low half.
#[inline(always)]
fn pairs<const P: usize>(row: &[bf16]) -> [u32; P] {
    let mut pairs = [0; P];
    for (pair, two) in pairs.iter_mut().zip(row.as_chunks::<2>().0) {
        *pair = u32::from(two[0].to_bits()) | u32::from(two[1].to_bits()) << 16;
    }
    pairs
}

#[inline(always)]
fn low<T: Real>(pair: u32) -> T {
    f32::from_bits(pair << 16).into()
}

#[inline(always)]
fn high<T: Real>(pair: u32) -> T {
    f32::from_bits(pair & 0xffff_0000).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::on_every_instruction_set;
    use crate::kernels::tiles::TILE;
    use crate::ops::rows::{of_length, window, window_sums};

    /// So many windows from `at` on.
    #[derive(Clone, Copy)]
    struct Windows {
        at: usize,
        length: usize,
    }

    impl Windows {
        /// Results of a window, of two together, and the sums of taps, on rows of numbers that bfloat16 holds.
        #[inline(always)]
        fn of<T: Real, R: Stored<T>>(self, load: impl Fn(bf16) -> R) -> [Vec<T>; 3] {
            let row =
                |first: i32| (first..first + 100).map(|i| load(bf16::from_f64((i as f64).sin())));
            let rows: [Vec<R>; 3] = [0, 200, 400].map(|first| row(first).collect());
            let rows = rows.each_ref().map(|row| &row[..]);
            let taps = [3, 5].map(|of| std::array::from_fn(|i| T::c(((of * i) as f64).cos())));
            let Self { at, length } = self;
            let (mut one, mut two) = ([T::nan(); TILE], [T::nan(); TILE]);
            window(&taps[0], &rows, at, &mut one[..length]);
            let to = &mut two[..length];
            of_length!(to, N => R::windows::<N>(
                taps.each_ref(),
                &rows,
                [at, at + 1],
                #[inline(always)]
                |a, b| a * b,
                to,
            ));
            let d: Vec<T> = (0..100).map(|i| T::c((i as f64).cos())).collect();
            let sums = window_sums(&[(rows, &d[..]), (rows, &d[..])], at, length);
            [
                one[..length].to_vec(),
                two[..length].to_vec(),
                sums.concat(),
            ]
        }
    }

    impl pulp::WithSimd for Windows {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) {
            assert_eq!(
                self.of::<f32, bf16>(|x| x),
                self.of::<f32, f32>(bf16::to_f32)
            );
            assert_eq!(
                self.of::<f64, bf16>(|x| x),
                self.of::<f64, f64>(bf16::to_f64)
            );
        }
    }

    #[test]
    fn bfloat16_has_the_results_of_its_values() {
        for length in [16, 32, 48, 64] {
            for at in [1, 16, 34] {
                let windows = Windows { at, length };
                on_every_instruction_set!(|run: &dyn Fn(Windows)| run(windows));
            }
        }
    }
}
