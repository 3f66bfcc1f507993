//! The mean absolute error of spectra: of real and imaginary parts of the two-dimensional discrete
//! Fourier transform, not normalised (Cho et al., ICCV 2021, section 3.4).

use rustfft::num_complex::Complex64;
use rustfft::{FftDirection, FftPlannerScalar};

/// The sum over the parts of the spectrum of a plane of errors.
pub fn sum(errors: &[f64], size: (usize, usize)) -> f64 {
    let spectrum = transformed(errors, size);
    spectrum.iter().map(|c| c.re.abs() + c.im.abs()).sum()
}

/// Its gradient by the errors: the transform back of the parts' signs.
pub fn gradient(errors: &[f64], size: (usize, usize)) -> Vec<f64> {
    let sign = |part: f64| if part == 0.0 { 0.0 } else { part.signum() };
    let mut signs = transformed(errors, size);
    for part in &mut signs {
        *part = Complex64::new(sign(part.re), sign(part.im));
    }
    transform(&mut signs, size, FftDirection::Inverse);
    signs.into_iter().map(|part| part.re).collect()
}

fn transformed(errors: &[f64], size: (usize, usize)) -> Vec<Complex64> {
    let mut spectrum: Vec<Complex64> = errors.iter().map(|&error| error.into()).collect();
    transform(&mut spectrum, size, FftDirection::Forward);
    spectrum
}

/// Along the rows, then along the columns. Without SIMD, so that bits do not depend on the processor.
fn transform(plane: &mut [Complex64], (height, width): (usize, usize), direction: FftDirection) {
    let mut planner = FftPlannerScalar::new();
    planner.plan_fft(width, direction).process(plane);
    let columns = planner.plan_fft(height, direction);
    let mut column = vec![Complex64::default(); height];
    for col in 0..width {
        for (row, value) in column.iter_mut().enumerate() {
            *value = plane[row * width + col];
        }
        columns.process(&mut column);
        for (row, value) in column.iter().enumerate() {
            plane[row * width + col] = *value;
        }
    }
}
