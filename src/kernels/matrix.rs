//! The left side of products, in the form that is fastest for what is alive of it, and in the
//! precision that is asked for.

use super::bf16::{self, Pairs};
use super::sparse::{self, Alive, Sparse};
use super::tiles::{self, Target};
use super::{Real, Strided};

/// What the operands of matrix products are rounded to; sums are of full precision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Precision {
    #[default]
    Full,
    BFloat16,
}

/// `size` = (rows, columns) of a matrix that meets many tiles.
#[derive(Debug)]
pub struct Matrix<'a, T> {
    size: (usize, usize),
    left: Strided<'a, T>,
    alive: Option<Alive<'a>>,
    precision: Precision,
    form: Form<T>,
}

#[derive(Debug)]
enum Form<T> {
    Dense,
    Rounded(Pairs),
    Sparse(Sparse<T>),
}

impl<'a, T: Real> Matrix<'a, T> {
    /// Where `alive` is given, all other elements are zero.
    pub fn new(
        precision: Precision,
        size: (usize, usize),
        left: Strided<'a, T>,
        alive: Option<Alive<'a>>,
    ) -> Self {
        let form = match (alive, precision) {
            (Some(alive), _) if is_sparse(precision, size, alive) => {
                Form::Sparse(Sparse::new(size, left, alive))
            }
            (_, Precision::Full) => Form::Dense,
            (_, Precision::BFloat16) => Form::Rounded(Pairs::new(size, left)),
        };
        Self {
            size,
            left,
            alive,
            precision,
            form,
        }
    }

    /// The transposed matrix.
    pub fn t(&self) -> Self {
        let (m, k) = self.size;
        Self::new(self.precision, (k, m), self.left.t(), self.alive)
    }

    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// The places of the gradient, where it is wanted at some only.
    pub fn places(&self) -> Option<Sparse<T>> {
        let (m, k) = self.size;
        let alive = self.alive?;
        let sampled = alive.count(m * k) as f64 * SAMPLE < (m * k) as f64;
        sampled.then(|| Sparse::places(self.size, self.left, alive))
    }

    /// Columns that hold anything; all where that is not known.
    pub fn columns(&self) -> Vec<bool> {
        match &self.form {
            Form::Sparse(sparse) => sparse.columns(),
            _ => vec![true; self.size.1],
        }
    }

    /// C = A·B, or C += A·B where `accumulate`; see [`tiles::product`].
    ///
    /// # Panics
    /// When an element would lie outside its slice.
    pub fn product(&self, accumulate: bool, target: Target<T>, tiles: &[T]) {
        match &self.form {
            Form::Dense => tiles::product(self.size, accumulate, target, self.left, tiles),
            Form::Rounded(pairs) => bf16::product(pairs, accumulate, target, tiles),
            Form::Sparse(sparse) => sparse::product(sparse, accumulate, target, tiles),
        }
    }
}

/// Time of a living element beside that of an element of a dense product (benchmarks/sparse_products.rs).
const ENTRY: f64 = 1.75;
/// Time of a row, whose results are loaded and stored, in a block of columns.
const LIST: f64 = 5.0;
/// Time of a living element of a gradient beside that of an element of a dense one.
const SAMPLE: f64 = 2.5;
/// Dense products of operands rounded to bfloat16 take half the time.
const ROUNDED: f64 = 0.5;

/// Whether a product is faster when it leaves out what is not alive.
fn is_sparse(precision: Precision, (m, k): (usize, usize), alive: Alive) -> bool {
    let dense = (m * k) as f64;
    let entries = alive.count(m * k) as f64;
    let sparse = ENTRY * entries + LIST * (m * k.div_ceil(sparse::DEPTH)) as f64;
    let dense = match precision {
        Precision::Full => dense,
        Precision::BFloat16 => ROUNDED * dense,
    };
    sparse < dense
}
