//! What the operators' tests share: numbers without a pattern and the gradient check.

use super::Tensor;
use candle_core::{DType, Device};

/// Values in (−1, 1) that follow from `key` alone.
pub fn values(shape: &[usize], key: u64) -> Tensor {
    let count: usize = shape.iter().product();
    let mut state = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let data: Vec<f64> = (0..count)
        .map(|_| {
            // xorshift64 (Marsaglia 2003)
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect();
    tensor(data, shape)
}

pub fn tensor(data: Vec<f64>, shape: &[usize]) -> Tensor {
    Tensor::constant(candle_core::Tensor::from_vec(data, shape, &Device::Cpu).unwrap())
}

pub fn flat(tensor: &Tensor) -> Vec<f64> {
    let values = tensor.values().to_dtype(DType::F64).unwrap();
    values.flatten_all().unwrap().to_vec1().unwrap()
}

pub fn assert_close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() <= tolerance * (1.0 + expected.abs()),
            "{what}[{index}]: {got} instead of {expected}"
        );
    }
}

/// The gradient of Σ weight·f(inputs) by every element of every input, the weights being `values` of
/// `key`.
pub fn gradients(
    f: impl Fn(&[Tensor]) -> crate::Result<Tensor>,
    inputs: &[Tensor],
    key: u64,
) -> Vec<Vec<f64>> {
    let variables: Vec<Tensor> = inputs
        .iter()
        .map(|input| Tensor::variable(input.values().clone()))
        .collect();
    let out = f(&variables).unwrap();
    let weights = values(out.dims(), key);
    let weights = weights.values().to_dtype(out.values().dtype()).unwrap();
    let all = out.backward(weights).unwrap();
    let of = |v: &Tensor| flat(&Tensor::constant(all.get(v).unwrap().clone()));
    variables.iter().map(of).collect()
}

/// Holds the analytic gradient of Σ weight·f(inputs) against central differences of fourth
/// order, for every element of every input.
pub fn check_gradient(
    what: &str,
    f: impl Fn(&[Tensor]) -> crate::Result<Tensor>,
    inputs: &[Tensor],
) {
    check_gradient_where(what, f, inputs, |_, _| true);
}

/// The same for the elements that `wanted` picks by input and place.
pub fn check_gradient_where(
    what: &str,
    f: impl Fn(&[Tensor]) -> crate::Result<Tensor>,
    inputs: &[Tensor],
    wanted: impl Fn(usize, usize) -> bool,
) {
    const STEP: f64 = 1e-4;
    const TOLERANCE: f64 = 1e-7;
    let value = |inputs: &[Tensor]| -> f64 {
        let out = f(inputs).unwrap();
        let weighed = flat(&out).into_iter().zip(flat(&values(out.dims(), 77)));
        weighed.map(|(out, weight)| out * weight).sum()
    };
    for (index, analytic) in gradients(&f, inputs, 77).iter().enumerate() {
        let base = flat(&inputs[index]);
        let elements: Vec<usize> = (0..base.len()).filter(|&at| wanted(index, at)).collect();
        let analytic: Vec<f64> = elements.iter().map(|&at| analytic[at]).collect();
        let numeric = elements.iter().map(|&element| {
            let at = |delta: f64| {
                let mut moved = base.clone();
                moved[element] += delta;
                let mut inputs = inputs.to_vec();
                inputs[index] = tensor(moved, inputs[index].dims());
                value(&inputs)
            };
            let near = at(STEP) - at(-STEP);
            let far = at(2.0 * STEP) - at(-2.0 * STEP);
            (8.0 * near - far) / (12.0 * STEP)
        });
        let what = format!("{what}: gradient of input {index}");
        assert_close(&analytic, &numeric.collect::<Vec<_>>(), TOLERANCE, &what);
    }
}
