//! Structural similarity (Wang et al. 2004, eq. 13) of one window of two images, with uniform weights,
//! sample covariance and a range of 1.

/// Height and width of a window.
pub const WINDOW: usize = 7;
/// Pixels of a window.
pub const COUNT: f64 = (WINDOW * WINDOW) as f64;

/// (K₁·L)² and (K₂·L)² with K₁ = 0.01, K₂ = 0.03, L = 1 (Wang et al. 2004, section III-B).
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;
/// The sample covariance divides by one less than the number of pixels.
const SAMPLE: f64 = COUNT / (COUNT - 1.0);

/// The means of x, y, x², y² and x·y over a window.
pub type Means = [f64; 5];

/// Calls `f` with column and means of each window of a band, seven rows of two images.
pub fn each_window(x: &[f64], y: &[f64], width: usize, mut f: impl FnMut(usize, Means)) {
    let add = |sums: &mut Means, terms: Means| {
        for (sum, term) in sums.iter_mut().zip(terms) {
            *sum += term;
        }
    };
    let mut columns = vec![Means::default(); width];
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact(width)) {
        for ((column, &x), &y) in columns.iter_mut().zip(x).zip(y) {
            add(column, [x, y, x * x, y * y, x * y]);
        }
    }
    for (col, columns) in columns.windows(WINDOW).enumerate() {
        let mut sums = Means::default();
        for &column in columns {
            add(&mut sums, column);
        }
        f(col, sums.map(|sum| sum / COUNT));
    }
}

/// The four factors of the similarity: luminance and structure, above and below the line.
fn factors([x, y, xx, yy, xy]: Means) -> [f64; 4] {
    let (vx, vy, vxy) = (
        SAMPLE * (xx - x * x),
        SAMPLE * (yy - y * y),
        SAMPLE * (xy - x * y),
    );
    [
        2.0 * x * y + C1,
        2.0 * vxy + C2,
        x * x + y * y + C1,
        vx + vy + C2,
    ]
}

pub fn similarity(means: Means) -> f64 {
    let [a, b, c, d] = factors(means);
    a * b / (c * d)
}

/// Its derivatives by the means of x, x² and x·y.
pub fn slopes(means: Means) -> [f64; 3] {
    let [x, y, ..] = means;
    let [a, b, c, d] = factors(means);
    let below = c * d;
    let by_structure = 2.0 * SAMPLE * a / below;
    let by_variance = -SAMPLE * a * b / (below * d);
    let by_mean = 2.0 * y * b / below - 2.0 * x * a * b / (below * c);
    [
        by_mean - y * by_structure - 2.0 * x * by_variance,
        by_variance,
        by_structure,
    ]
}
