//! Products of operands rounded to bfloat16, summed up in f32, whose results may be rounded, too.
//!
//! Where the processor is faster so, both sides lie in pairs along the depth, the even element in the low half
//! of 32 bits; of an odd depth, the last pair ends with a zero. Others multiply in f32 ([`wide`]).

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod pairs;
pub mod wide;

pub use self::pairs::{Line, Pairs, round, round_row, round_row_f32};

use self::pairs::BLOCK;
use super::Real;
use super::tiles::{GROUP, TILE, Target, tiled_at, tiled_len};
use crate::runtime::cpu;
use half::bf16;

/// Whether products of pairs are faster than those of full precision.
pub fn has_pairs() -> bool {
    cpu::multiplies_tiles() || cpu::multiplies_pairs()
}

/// Time of an element beside that of one of a product in full precision.
pub fn cost() -> f64 {
    match (cpu::multiplies_tiles(), cpu::multiplies_pairs()) {
        (true, _) => 0.2,
        (false, true) => 0.5,
        (false, false) => 1.0,
    }
}

/// C = A·B, or C += A·B where `accumulate`, as [`super::tiles::product_steps`] but with A and B rounded.
///
/// # Panics
/// When an element would lie outside its slice.
pub fn product<T: Real>(left: &Pairs, accumulate: bool, target: Target<T>, tiles: &[T]) {
    run(left, To::Full { target, accumulate }, tiles);
}

/// The same, with C rounded, too, once it is summed up.
///
/// # Panics
/// When an element would lie outside its slice.
pub fn product_rounded<T: Real>(left: &Pairs, target: Target<bf16>, tiles: &[T]) {
    run(left, To::BFloat16(target), tiles);
}

fn run<T: Real>(left: &Pairs, to: To<T>, tiles: &[T]) {
    let groups = to.groups();
    if left.m == 0 || groups.is_empty() {
        return;
    }
    let last = (left.steps.count - 1) * left.steps.tiles;
    let columns = groups.len() * GROUP;
    assert!(to.holds(left.m) && tiles.len() >= last + tiled_len(left.k, columns));
    assert!(left.data.len() == left.m.next_multiple_of(BLOCK) * left.row() && left.k > 0);
    T::rounded_product(Rounded { left, to, tiles });
}

/// Where results go: sums, added to what is there where `accumulate`, or these rounded.
enum To<'a, T> {
    Full {
        target: Target<'a, T>,
        accumulate: bool,
    },
    BFloat16(Target<'a, bf16>),
}

impl<'a, T> To<'a, T> {
    fn groups(&self) -> &'a [usize] {
        match self {
            Self::Full { target, .. } => target.groups,
            Self::BFloat16(target) => target.groups,
        }
    }

    fn holds(&self, rows: usize) -> bool {
        match self {
            Self::Full { target, .. } => target.holds(rows),
            Self::BFloat16(target) => target.holds(rows),
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl To<'_, f32> {
    /// What some rows from row i on are added to, if to anything.
    fn fetch(&self, i: usize, groups: &[usize], rows: &mut [[f32; TILE]]) -> bool {
        let Self::Full { target, accumulate } = self else {
            return false;
        };
        if *accumulate {
            for (i, row) in (i..).zip(rows) {
                for (values, place) in row.chunks_exact_mut(GROUP).zip(groups) {
                    values.copy_from_slice(&target.data[i * target.row + place..][..GROUP]);
                }
            }
        }
        *accumulate
    }

    /// Writes some rows from row i on.
    ///
    /// # Safety
    /// [`cpu::has_bf16`].
    unsafe fn put(&mut self, i: usize, groups: &[usize], rows: &[[f32; TILE]]) {
        match self {
            Self::Full { target, .. } => {
                for (i, row) in (i..).zip(rows) {
                    for (values, place) in row.chunks_exact(GROUP).zip(groups) {
                        target.data[i * target.row + place..][..GROUP].copy_from_slice(values);
                    }
                }
            }
            Self::BFloat16(target) => {
                let to = &mut target.data[i * target.row..];
                // SAFETY: as the caller promises.
                unsafe { avx512::round_groups(rows, groups, to, target.row) };
            }
        }
    }
}

/// A product whose bounds are checked.
pub struct Rounded<'a, T> {
    left: &'a Pairs,
    to: To<'a, T>,
    tiles: &'a [T],
}

impl<'a, T: Real> Rounded<'a, T> {
    /// The definition, element by element.
    pub fn portable(mut self) {
        for (g, &place) in self.to.groups().iter().enumerate() {
            for i in 0..self.left.m {
                for column in 0..GROUP {
                    let products = self.products(i, g * GROUP + column);
                    let sum = |first| products.fold(first, |sum, (a, b)| a.mul_add(b, sum));
                    match &mut self.to {
                        To::Full { target, accumulate } => {
                            let c = &mut target.data[i * target.row + place + column];
                            *c = sum(if *accumulate { *c } else { T::zero() });
                        }
                        To::BFloat16(target) => {
                            target.data[i * target.row + place + column] = round(sum(T::zero()));
                        }
                    }
                }
            }
        }
    }

    /// What is multiplied for an element of the result, rounded.
    fn products(&self, i: usize, column: usize) -> impl Iterator<Item = (T, T)> + use<'a, T> {
        let (left, tiles) = (self.left, self.tiles);
        let value = |rounded: bf16| T::c(rounded.to_f64());
        let columns = |step: usize| (0..left.k).map(move |k| (step, k));
        (0..left.steps.count)
            .flat_map(columns)
            .map(move |(step, k)| {
                let tile = step * left.steps.tiles + tiled_at(left.k, column);
                (
                    value(left.at(step, i, k)),
                    value(round(tiles[tile + k * TILE])),
                )
            })
    }
}

impl Rounded<'_, f32> {
    /// The fastest path that this processor has.
    pub fn run(self) {
        // SAFETY: the processor has what either wants; `product` has checked the bounds.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            if cpu::multiplies_tiles() {
                return amx::run(self);
            }
            if cpu::has_bf16() {
                return avx512::run(self);
            }
        }
        self.portable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Strided;
    use crate::kernels::testing::check_products;
    use crate::kernels::tiles::Steps;

    /// As [`super::super::tiles::product`] is called.
    fn rounded_product<T: Real>(
        size: (usize, usize),
        accumulate: bool,
        target: Target<T>,
        left: Strided<T>,
        tiles: &[T],
    ) {
        product(&Pairs::new(size, left), accumulate, target, tiles);
    }

    fn wide_product<T: Real>(
        size: (usize, usize),
        accumulate: bool,
        target: Target<T>,
        left: Strided<T>,
        tiles: &[T],
    ) {
        wide::product(&wide::panels(size, left), accumulate, target, tiles);
    }

    fn rounded<T: Real>(value: T) -> f64 {
        round(value).to_f64()
    }

    #[test]
    fn products_equal_the_definition() {
        check_products(rounded_product::<f64>, rounded, 1e-12);
        check_products(rounded_product::<f32>, rounded, 3e-5);
        check_products(wide_product::<f64>, rounded, 1e-12);
        check_products(wide_product::<f32>, rounded, 3e-5);
    }

    /// Both add up in the same order.
    #[test]
    fn wide_products_have_the_bits_of_the_definition() {
        let (m, n, k) = (13, 80, 200);
        let number = |i: usize| (i as f32 * 0.7).sin();
        let a: Vec<f32> = (0..m * k).map(number).collect();
        let tiles: Vec<f32> = (0..tiled_len(k, n)).map(|i| number(i + 5)).collect();
        let groups: Vec<usize> = (0..n).step_by(GROUP).collect();
        let left = Strided::rows(&a[..], k);
        let with = |product: &dyn Fn(Target<f32>)| {
            let mut c = vec![0.0; m * n];
            product(Target {
                data: &mut c,
                row: n,
                groups: &groups,
            });
            c
        };
        let pairs = &Pairs::new((m, k), left);
        let definition = with(&|target| {
            let to = To::Full {
                target,
                accumulate: false,
            };
            let tiles = &tiles[..];
            Rounded {
                left: pairs,
                to,
                tiles,
            }
            .portable();
        });
        let wide = with(&|target| wide_product((m, k), false, target, left, &tiles));
        assert_eq!(wide, definition);
    }

    /// The portable path serves no user, but says in f32 what the processor's should do.
    #[test]
    fn the_paths_agree() {
        type Path = fn(Rounded<f32>);
        #[cfg(target_arch = "x86_64")]
        let others: [(bool, Path); 2] = [
            // SAFETY: run where the processor has what they want, with the bounds of below.
            (cpu::has_bf16(), |r| unsafe { avx512::run(r) }),
            // SAFETY: as above.
            (cpu::multiplies_tiles(), |r| unsafe { amx::run(r) }),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let others: [(bool, Path); 0] = [];
        let widest: (bool, Path) = (true, |r| r.run());
        let all = others.into_iter().chain([widest]);
        let paths = all.filter_map(|(is_there, path)| is_there.then_some(path));
        let paths: Vec<Path> = paths.collect();
        let portable: Path = |r| r.portable();
        // No whole registers, whole ones, more than one.
        for (m, k) in [(7, 33), (16, 32), (35, 250)] {
            for n in [16, 32, 48, 64, 176] {
                for (count, accumulate) in [(1, false), (1, true), (3, false), (3, true)] {
                    let with = |path| product_by(path, (m, n, k), count, Some(accumulate)).0;
                    let portable = with(portable);
                    for &path in &paths {
                        for (a, b) in portable.iter().zip(with(path)) {
                            assert!((a - b).abs() < 5e-5, "{m}x{k}x{n}, {count}: {a} {b}");
                        }
                    }
                }
                for path in paths.iter().copied().chain([portable]) {
                    let with = |accumulate| product_by(path, (m, n, k), 2, accumulate);
                    let expected: Vec<bf16> = with(Some(false)).0.into_iter().map(round).collect();
                    assert!(with(None).1 == expected, "{m}x{k}x{n}, rounded");
                }
            }
        }
    }

    /// A product of so many steps, in rows as those of an image's second row and its first, which has as many
    /// channels: sums, or these rounded where nothing says whether to `accumulate`.
    fn product_by(
        path: fn(Rounded<f32>),
        (m, n, k): (usize, usize, usize),
        count: usize,
        accumulate: Option<bool>,
    ) -> (Vec<f32>, Vec<bf16>) {
        let (row, step) = (n + 5, tiled_len(k, n) + 3);
        let a: Vec<f32> = (0..count * m * k).map(|i| (i as f32 * 0.7).sin()).collect();
        let tiles: Vec<f32> = (0..count * step).map(|i| (i as f32).cos()).collect();
        let groups = (0..n).step_by(GROUP);
        let groups: Vec<usize> = groups.map(|g| g + (g / GROUP + 1) % 2 * m * row).collect();
        let mut full: Vec<f32> = (0..2 * m * row).map(|i| (i % 7) as f32).collect();
        let mut half: Vec<bf16> = full.iter().copied().map(round).collect();
        fn to<'a, R>(data: &'a mut [R], row: usize, groups: &'a [usize]) -> Target<'a, R> {
            Target { data, row, groups }
        }
        let steps = Steps {
            count,
            left: m * k,
            tiles: step,
        };
        path(Rounded {
            left: &Pairs::steps((m, k), steps, Strided::rows(&a, k)),
            to: match accumulate {
                Some(accumulate) => {
                    let target = to(&mut full, row, &groups);
                    To::Full { target, accumulate }
                }
                None => To::BFloat16(to(&mut half, row, &groups)),
            },
            tiles: &tiles,
        });
        (full, half)
    }

    #[test]
    fn not_a_number_stays_one() {
        let left = Pairs::new((1, 1), Strided::rows(&[1.0f32], 1));
        let tiles = vec![f32::from_bits(0x7fff_ffff); TILE];
        let mut c = vec![0.0; GROUP];
        let target = Target {
            data: &mut c,
            row: GROUP,
            groups: &[0],
        };
        product(&left, false, target, &tiles);
        assert!(c.iter().all(|c| c.is_nan()));
    }
}
