//! What the operators' tests share: numbers without a pattern and the gradient check.

use candle_core::{Device, Tensor, Var};

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
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

pub fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
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

/// Holds the analytic gradient of Σ weight·f(inputs) against central differences of fourth
/// order, for every element of every input.
pub fn check_gradient(
    what: &str,
    f: impl Fn(&[Tensor]) -> crate::Result<Tensor>,
    inputs: &[Tensor],
) {
    const STEP: f64 = 1e-4;
    const TOLERANCE: f64 = 1e-7;
    let weigh = |out: &Tensor| out.mul(&values(out.dims(), 77)).unwrap().sum_all().unwrap();
    let value = |inputs: &[Tensor]| weigh(&f(inputs).unwrap()).to_scalar::<f64>().unwrap();

    let vars: Vec<Var> = inputs
        .iter()
        .map(|t| Var::from_tensor(t).unwrap())
        .collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let gradients = weigh(&f(&tensors).unwrap()).backward().unwrap();
    for (index, var) in vars.iter().enumerate() {
        let analytic = flat(gradients.get(var).unwrap());
        let base = flat(&inputs[index]);
        let numeric: Vec<f64> = (0..base.len())
            .map(|element| {
                let at = |delta: f64| {
                    let mut moved = base.clone();
                    moved[element] += delta;
                    let mut inputs = inputs.to_vec();
                    inputs[index] =
                        Tensor::from_vec(moved, inputs[index].shape(), &Device::Cpu).unwrap();
                    value(&inputs)
                };
                let near = at(STEP) - at(-STEP);
                let far = at(2.0 * STEP) - at(-2.0 * STEP);
                (8.0 * near - far) / (12.0 * STEP)
            })
            .collect();
        assert_close(
            &analytic,
            &numeric,
            TOLERANCE,
            &format!("{what}: gradient of input {index}"),
        );
    }
}
