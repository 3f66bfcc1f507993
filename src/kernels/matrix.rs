//! The left side of products, in the form that is fastest for what is alive of it, and in the
//! precision that is asked for.

use super::bf16::{self, Pairs, wide};
use super::simd::dispatch;
use super::sparse::{self, Pattern, Sparse};
use super::tiles::{self, GROUP, Panels, Steps, Target};
use super::{Known, Real, Strided};
use crate::runtime::buffer::Buffer;
use std::sync::Arc;

/// What the operands of matrix products are rounded to, and rows between a product and its windows; sums are of
/// full precision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Precision {
    #[default]
    Full,
    BFloat16,
}

impl Precision {
    /// [`tiles::product_steps`] in this precision, of sides that are [ready](Self::make_ready), with contiguous rows
    /// of the left one.
    pub fn product_steps<T: Real>(
        self,
        size: (usize, usize),
        steps: Steps,
        accumulate: bool,
        target: Target<T>,
        left: Strided<T>,
        tiles: &[T],
    ) {
        match self {
            Self::BFloat16 if bf16::has_pairs() => {
                let left = Pairs::steps(size, steps, left);
                bf16::product(&left, accumulate, target, tiles);
            }
            _ => tiles::product_steps(size, steps, accumulate, target, left, tiles),
        }
    }

    /// Rounds a side of [`Self::product_steps`] where that does not: once, whatever it will meet.
    pub fn make_ready<T: Real>(self, side: &mut [T]) {
        if self == Self::BFloat16 && !bf16::has_pairs() {
            wide::round_all(side);
        }
    }
}

/// `size` = (rows, columns) of a matrix that meets many tiles.
#[derive(Debug)]
pub struct Matrix<'a, T> {
    size: (usize, usize),
    left: Strided<'a, T>,
    known: Known<'a>,
    precision: Precision,
    /// About as many columns of tiles as it will meet.
    columns: usize,
    form: Arc<Form<T>>,
}

#[derive(Debug)]
enum Form<T> {
    Dense,
    Panels(Panels<T>),
    Pairs(Pairs),
    /// Of rounded numbers, which meet such.
    Wide(Panels<T>),
    Sparse(Sparse<T>),
}

impl<'a, T: Real> Matrix<'a, T> {
    /// `known` is what is known of the matrix: where a mask tells what is alive, all else is zero. `columns` is about
    /// how many columns of tiles it will meet.
    pub fn new(
        precision: Precision,
        size: (usize, usize),
        left: Strided<'a, T>,
        known: Known<'a>,
        columns: usize,
    ) -> Self {
        let count = size.0 * size.1;
        let dense = Self::dense_cost(precision, count);
        let alive = known.alive();
        let alive = alive.filter(|alive| sparse::cost(size, alive.count(count)) < dense);
        let numbers = [known.first, size.0, size.1, left.row, 0];
        let form = match (alive, precision) {
            (Some(alive), _) => known.make(("lists", numbers), || {
                Form::Sparse(Sparse::new(Pattern::of(size, left, alive), left))
            }),
            (None, Precision::BFloat16) if bf16::has_pairs() => {
                known.make(("pairs", numbers), || Form::Pairs(Pairs::new(size, left)))
            }
            (None, Precision::BFloat16) => Arc::new(Form::Wide(wide::panels(size, left))),
            // As large as what they are made of, and soon made.
            (None, Precision::Full) if count >= FAR && columns >= MANY => {
                Arc::new(Form::Panels(Panels::new(size, left)))
            }
            (None, Precision::Full) => Arc::new(Form::Dense),
        };
        Self {
            size,
            left,
            known,
            precision,
            columns,
            form,
        }
    }

    /// The transposed matrix.
    pub fn t(&self) -> Self {
        let (m, k) = self.size;
        let left = self.left.t();
        Self::new(self.precision, (k, m), left, self.known, self.columns)
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// As it was before rounding.
    pub fn left(&self) -> Strided<'a, T> {
        self.left
    }

    /// Time of a product beside that of one element of a dense one.
    pub fn cost(&self) -> f64 {
        let (m, k) = self.size;
        match &*self.form {
            Form::Sparse(sparse) => sparse::cost(self.size, sparse.pattern().alive()),
            _ => Self::dense_cost(self.precision, m * k),
        }
    }

    /// That of a dense matrix of so many elements.
    pub fn dense_cost(precision: Precision, elements: usize) -> f64 {
        match precision {
            Precision::Full => elements as f64,
            Precision::BFloat16 => bf16::cost() * elements as f64,
        }
    }

    /// The places of the gradient, where it is wanted at some only.
    pub fn places(&self) -> Option<Arc<Pattern>> {
        let (m, k) = self.size;
        let alive = self.known.alive()?;
        let dense = Self::dense_cost(self.precision, m * k);
        let sampled = alive.count(m * k) as f64 * SAMPLE < dense;
        sampled.then(|| Pattern::to_sample(self.size, self.left, alive))
    }

    /// Columns that hold anything, in order; all where that is not known.
    pub fn columns(&self) -> Vec<usize> {
        match &*self.form {
            Form::Sparse(sparse) => sparse.pattern().columns(),
            _ => (0..self.size.1).collect(),
        }
    }

    /// C = A·B, or C += A·B where `accumulate`; see [`tiles::product`].
    ///
    /// # Panics
    /// When an element would lie outside its slice.
    pub fn product(&self, accumulate: bool, target: Target<T>, tiles: &[T]) {
        match &*self.form {
            Form::Dense => tiles::product(self.size, accumulate, target, self.left, tiles),
            Form::Panels(panels) => panels.product(accumulate, target, tiles),
            Form::Pairs(pairs) => bf16::product(pairs, accumulate, target, tiles),
            Form::Wide(panels) => wide::product(panels, accumulate, target, tiles),
            Form::Sparse(sparse) => sparse::product(sparse, accumulate, target, tiles),
        }
    }

    /// C = A·B, rounded to bfloat16.
    ///
    /// # Panics
    /// When an element would lie outside its slice.
    pub fn product_rounded(&self, target: Target<half::bf16>, tiles: &[T]) {
        if let Form::Pairs(pairs) = &*self.form {
            return bf16::product_rounded(pairs, target, tiles);
        }
        // The others add up in the target, cut by cut.
        let (m, columns) = (self.size.0, target.columns());
        let mut sums = Buffer::new(m * columns);
        let groups: Vec<usize> = (0..columns).step_by(GROUP).collect();
        let aside = Target {
            data: &mut sums,
            row: columns,
            groups: &groups,
        };
        self.product(false, aside, tiles);
        let runs: Vec<&[usize]> = target.groups.chunk_by(|a, b| a + GROUP == *b).collect();
        dispatch(
            #[inline(always)]
            || {
                for (i, mut sums) in sums.chunks_exact(columns.max(1)).enumerate() {
                    for run in &runs {
                        let from;
                        (from, sums) = sums.split_at(run.len() * GROUP);
                        let to = &mut target.data[i * target.row + run[0]..][..from.len()];
                        for (to, &from) in to.iter_mut().zip(from) {
                            *to = bf16::round(from);
                        }
                    }
                }
            },
        );
    }
}

/// Time of a living element of a gradient beside that of an element of a dense one.
const SAMPLE: f64 = 1.8;

/// Elements of a matrix that the second cache does not hold: read row by row, six at a time, they come
/// from too far away.
const FAR: usize = 1 << 18;
/// Columns from which on panels cost less than they save.
const MANY: usize = 512;

#[cfg(test)]
mod tests {
    use super::tiles::{GROUP, tiled_len};
    use super::*;
    use crate::kernels::{Derived, Mask, Sparsity};

    /// Where a tenth is alive, with any instruction set; not where all is, or nothing is known.
    #[test]
    fn what_is_mostly_zero_is_not_multiplied() {
        let (m, k) = (96, 96);
        let weights = vec![0.0f32; m * k];
        let left = Strided::rows(&weights[..], k);
        let full = [(0, false), (1, false), (10, true), (50, true)].map(|of| (Precision::Full, of));
        let rounded = [(0, false), (50, true)].map(|of| (Precision::BFloat16, of));
        // Dense products of pairs take less time of their own.
        let pairs = bf16::has_pairs().then_some((Precision::BFloat16, (2, false)));
        for (precision, (every, sparse)) in full.into_iter().chain(rounded).chain(pairs) {
            let of = &Sparsity::new(Mask::from_fn(m * k, |i| every == 0 || i % every == 0));
            let known = Known {
                sparsity: (every > 0).then_some(of),
                ..Known::default()
            };
            let matrix = Matrix::new(precision, (m, k), left, known, 512);
            for matrix in [matrix.t(), matrix] {
                let what = format!("one of {every}, {precision:?}");
                assert_eq!(matches!(*matrix.form, Form::Sparse(_)), sparse, "{what}");
                let dense = Matrix::<f32>::dense_cost(precision, m * k);
                assert_eq!(matrix.cost() < dense, sparse, "{what}");
            }
        }
    }

    /// Each precision, side and place has a form of its own, which is made anew when the weights change; copies as
    /// large as the weights are not kept.
    #[test]
    fn what_was_made_of_weights_is_used_again() {
        let (m, k) = (96, 96);
        let weights = vec![1.0f32; 2 * m * k];
        let of = &Sparsity::new(Mask::from_fn(2 * m * k, |i| i % 50 == 0));
        let made = Derived::default();
        let matrices = || {
            let known = |sparsity, first| Known {
                sparsity,
                made: Some(&made),
                first,
            };
            let rows = |first: usize| Strided::rows(&weights[first..], k);
            let matrix = |precision, sparsity, first| {
                Matrix::new(precision, (m, k), rows(first), known(sparsity, first), m)
            };
            let sparse = matrix(Precision::Full, Some(of), 0);
            let below = matrix(Precision::Full, Some(of), m * k);
            let rounded = matrix(Precision::BFloat16, None, 0);
            [rounded.t(), sparse.t(), sparse, below, rounded]
        };
        let (first, second) = (matrices(), matrices());
        made.clear();
        let third = matrices();
        for (i, a) in first.iter().enumerate() {
            for (j, b) in second.iter().enumerate() {
                let is_kept = !matches!(*a.form, Form::Wide(_));
                assert_eq!(Arc::ptr_eq(&a.form, &b.form), i == j && is_kept, "{i} {j}");
            }
            assert!(third.iter().all(|c| !Arc::ptr_eq(&a.form, &c.form)));
        }
    }

    /// Whatever form a matrix has, and its elements' type.
    #[test]
    fn results_are_rounded_once_summed_up() {
        fn check<T: Real>() {
            let (m, k, n) = (96, 96, 5 * GROUP);
            let number = |i: usize| T::c((i as f64 * 0.7).sin());
            let tiles: Vec<T> = (0..tiled_len(k, n)).map(number).collect();
            // Groups side by side, and not.
            let forwards: Vec<usize> = (0..n).step_by(GROUP).collect();
            let backwards = forwards.iter().rev().copied().collect();
            for (precision, every, groups) in [
                (Precision::Full, 1, &forwards),
                (Precision::Full, 20, &backwards),
                (Precision::BFloat16, 1, &forwards),
                (Precision::BFloat16, 1, &backwards),
                (Precision::BFloat16, 50, &forwards),
            ] {
                let lives = |i: usize| i.is_multiple_of(every);
                let of = &Sparsity::new(Mask::from_fn(m * k, lives));
                let weight = |i: usize| if lives(i) { number(i) } else { T::zero() };
                let weights: Vec<T> = (0..m * k).map(weight).collect();
                let known = Known {
                    sparsity: Some(of),
                    ..Known::default()
                };
                let left = Strided::rows(&weights[..], k);
                let matrix = Matrix::new(precision, (m, k), left, known, n);
                let mut full = vec![T::one(); m * (n + 3)];
                let mut rounded = vec![bf16::round(T::one()); full.len()];
                fn to<'a, R>(data: &'a mut [R], groups: &'a [usize]) -> Target<'a, R> {
                    let row = groups.len() * GROUP + 3;
                    Target { data, row, groups }
                }
                matrix.product(false, to(&mut full, groups), &tiles);
                matrix.product_rounded(to(&mut rounded, groups), &tiles);
                let expected: Vec<half::bf16> = full.into_iter().map(bf16::round).collect();
                assert_eq!(rounded, expected, "{precision:?}, one of {every}");
            }
        }
        check::<f32>();
        check::<f64>();
    }

    /// However many columns a matrix is told that it will meet.
    #[test]
    fn forms_agree_to_the_bit() {
        let (m, k, n) = (FAR / 500 + 1, 500, 2 * GROUP);
        let number = |i: usize| (i as f32 * 0.7).sin();
        let weights: Vec<f32> = (0..m * k).map(number).collect();
        let tiles: Vec<f32> = (0..tiled_len(k, n)).map(number).collect();
        let product = |columns: usize| {
            let left = Strided::rows(&weights[..], k);
            let matrix = Matrix::new(Precision::Full, (m, k), left, Known::default(), columns);
            assert_eq!(matches!(*matrix.form, Form::Panels(_)), columns >= MANY);
            let mut c = vec![0.0; m * n];
            let target = Target {
                data: &mut c,
                row: n,
                groups: &[0, GROUP],
            };
            matrix.product(false, target, &tiles);
            c
        };
        assert_eq!(product(MANY - 1), product(MANY));
    }
}
