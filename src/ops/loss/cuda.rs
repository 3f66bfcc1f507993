//! Losses on a GPU: the penalties of an image's errors, spectra or windows are summed up by blocks of
//! threads.

use super::{Kind, Loss, Size};
use crate::Result;
use crate::runtime::gpu::{Array, Product, Side, arguments};

/// Penalties that a block of threads sums up, as the kernels have it.
const CHUNK: usize = 4096;

/// [`Kind`]s as loss.cu numbers them. The errors of spectra are absolute ones.
fn number(kind: Kind) -> usize {
    match kind {
        Kind::L1 | Kind::FftL1 | Kind::Ssim => 0,
        Kind::L2 => 1,
        Kind::Charbonnier => 2,
    }
}

impl Loss {
    pub(super) fn on_gpu(&self, x: &Array, target: &Array, size: Size) -> Result<Array> {
        let count = self.penalties(size);
        let blocks = count.div_ceil(CHUNK);
        let parts = Array::new(x.gpu(), &[size.n, blocks])?;
        if self.kind == Kind::Ssim {
            let all = arguments![&parts, x, target, size.n, size.h, size.w, count];
            parts.blocks("image_dissimilarities", (blocks, size.n), all)?;
        } else {
            let errors = errors(x, target, self.fourier(x, size)?.as_ref())?;
            let plane = count / size.c;
            let all = arguments![&parts, &errors, number(self.kind), size.n, plane, count];
            parts.blocks("image_penalties", (blocks, size.n), all)?;
        }
        let losses = Array::new(x.gpu(), &[size.n])?;
        let all = arguments![&losses, &parts, blocks, count, self.scale as f32];
        losses.blocks("image_losses", (size.n, 1), all)?;
        Ok(losses)
    }

    /// The gradients by x and, where it is wanted, by the target.
    pub(super) fn gradients_on_gpu(
        &self,
        x: &Array,
        target: &Array,
        gradient: &Array,
        size: Size,
    ) -> Result<Vec<Array>> {
        if self.kind == Kind::Ssim {
            // Which of two images is the target is nothing to the similarity.
            let both = [(x, target), (target, x)].into_iter();
            let wanted = both.take(1 + usize::from(self.by_target));
            return wanted
                .map(|(x, y)| self.by_similarity(x, y, gradient, size))
                .collect();
        }
        let fourier = self.fourier(x, size)?;
        let errors = errors(x, target, fourier.as_ref())?;
        let (slopes, count) = (errors.like()?, self.penalties(size));
        let kind = number(self.kind);
        let (plane, scale, all) = (count / size.c, self.scale as f32, errors.len());
        let arguments = arguments![
            &slopes, &errors, gradient, kind, size.n, plane, count, scale, all
        ];
        slopes.each("penalty_slopes", all, arguments)?;
        let dx = match fourier {
            Some(fourier) => fourier.transposed(&slopes)?,
            None => slopes,
        };
        if !self.by_target {
            return Ok(vec![dx]);
        }
        let dt = dx.like()?;
        dt.each(
            "difference",
            dt.len(),
            arguments![&dt, None::<&Array>, &dx, dt.len()],
        )?;
        Ok(vec![dx, dt])
    }

    /// How many penalties make the mean of an image.
    fn penalties(&self, size: Size) -> usize {
        match self.kind {
            Kind::Ssim => Self::windows(size),
            Kind::FftL1 => 2 * size.image(),
            _ => size.image(),
        }
    }

    /// What makes spectra of errors, where the loss is one of these.
    fn fourier(&self, x: &Array, size: Size) -> Result<Option<Fourier>> {
        let wanted = self.kind == Kind::FftL1;
        wanted.then(|| Fourier::new(x, size)).transpose()
    }

    /// The gradient of 1 − SSIM by x.
    fn by_similarity(&self, x: &Array, y: &Array, gradient: &Array, size: Size) -> Result<Array> {
        let (n, h, w) = (size.n, size.h, size.w);
        let windows = Self::windows(size);
        let slopes = Array::new(x.gpu(), &[n * windows, 3, 2])?; // three f64 a window
        let all = arguments![&slopes, x, y, h, w, n * windows];
        slopes.each("similarity_slopes", n * windows, all)?;
        let (dx, scale) = (x.like()?, -self.scale as f32 / windows as f32);
        let all = arguments![&dx, &slopes, x, y, gradient, n, h, w, scale, dx.len()];
        dx.each("similarity_gradient", dx.len(), all)?;
        Ok(dx)
    }
}

/// x − target, or its spectrum.
fn errors(x: &Array, target: &Array, fourier: Option<&Fourier>) -> Result<Array> {
    let errors = x.like()?;
    let all = arguments![&errors, x, target, x.len()];
    errors.each("difference", x.len(), all)?;
    match fourier {
        Some(fourier) => fourier.of(&errors),
        None => Ok(errors),
    }
}

/// The discrete Fourier transform of planes as matrix products: few against those of a network.
struct Fourier {
    size: Size,
    /// C and S of the rows, [2][w][w].
    rows: Array,
    /// [2h][2h]
    columns: Array,
}

impl Fourier {
    /// # Errors
    /// A launch fails, or images are too large for a GPU.
    fn new(like: &Array, size: Size) -> Result<Self> {
        let (gpu, h, w) = (like.gpu(), size.h, size.w);
        let rows = Array::new(gpu, &[2, w, w])?;
        rows.each("fourier_rows", rows.len(), arguments![&rows, w])?;
        let columns = Array::new(gpu, &[2 * h, 2 * h])?;
        columns.each("fourier_columns", columns.len(), arguments![&columns, h])?;
        Ok(Self {
            size,
            rows,
            columns,
        })
    }

    /// The spectrum: of each plane the real parts [h][w], and the negative imaginary ones.
    fn of(&self, planes: &Array) -> Result<Array> {
        let Size { n, h, c, w } = self.size;
        let (gpu, batch) = (planes.gpu(), n * c);
        let (half, spectrum) = (self.parts(planes)?, self.parts(planes)?);
        for part in 0..2 {
            let to = Side::rows(half.at(part * h * w), w).every(2 * h * w);
            let from = Side::rows(planes, w).every(h * w);
            let rows = Side::rows(self.rows.at(part * w * w), w);
            gpu.product(&Product::new((h, w, w), to, from, rows).batch(batch).exact())?;
        }
        let [to, from] = [&spectrum, &half].map(|array| Side::rows(array, w).every(2 * h * w));
        let columns = Side::rows(&self.columns, 2 * h);
        let size = (2 * h, w, 2 * h);
        gpu.product(&Product::new(size, to, columns, from).batch(batch).exact())?;
        Ok(spectrum)
    }

    /// The gradient by the planes, from that by their spectrum.
    fn transposed(&self, spectrum: &Array) -> Result<Array> {
        let Size { n, h, c, w } = self.size;
        let (gpu, batch) = (spectrum.gpu(), n * c);
        let half = spectrum.like()?;
        let [to, from] = [&half, spectrum].map(|array| Side::rows(array, w).every(2 * h * w));
        let columns = Side::rows(&self.columns, 2 * h).t();
        let size = (2 * h, w, 2 * h);
        gpu.product(&Product::new(size, to, columns, from).batch(batch).exact())?;
        let planes = Array::new(gpu, &[n, h, c, w])?;
        for part in 0..2 {
            let to = Side::rows(&planes, w).every(h * w);
            let from = Side::rows(half.at(part * h * w), w).every(2 * h * w);
            let rows = Side::rows(self.rows.at(part * w * w), w); // symmetric
            let product = Product::new((h, w, w), to, from, rows).batch(batch).exact();
            gpu.product(&if part == 0 {
                product
            } else {
                product.accumulate()
            })?;
        }
        Ok(planes)
    }

    /// Both parts of a spectrum, to be written.
    fn parts(&self, planes: &Array) -> Result<Array> {
        let Size { n, h, c, w } = self.size;
        Array::new(planes.gpu(), &[n, 2 * h, c, w])
    }
}
