//! What the operators' tests share: numbers without a pattern and the gradient check.

use super::{Keep, Mode, Tensor, Values, sizes};
use crate::kernels::{Mask, Precision, Sparsity};
use crate::runtime::gpu::{self, Array, Gpu};
use candle_core::{DType, Device};
use std::sync::Arc;

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
    let values = tensor.cpu().to_dtype(DType::F64).unwrap();
    values.flatten_all().unwrap().to_vec1().unwrap()
}

/// Runs `work` with so many threads.
pub fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap().install(work)
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
        .map(|input| Tensor::variable(input.cpu().clone()))
        .collect();
    let out = f(&variables).unwrap();
    let weights = values(out.dims(), key);
    let weights = weights.cpu().to_dtype(out.cpu().dtype()).unwrap();
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
    check_cuda(what, &f, inputs);
    check_differences(what, f, inputs, wanted);
}

/// The same on the processor alone.
fn check_differences(
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

/// Holds an operator that leaves out what a mask leaves out of its weights, the second input, against the
/// one that does not: the result, and the gradients, of the weights where they are alive.
pub fn check_masked(
    what: &str,
    f: impl Fn(&[Tensor], Mode) -> crate::Result<Tensor>,
    [x, weights]: &[Tensor; 2],
    mask: Mask,
) {
    let mut values = flat(weights);
    mask.apply(&mut values);
    let zeroed = tensor(values, weights.dims());
    let sparsity = Sparsity::new(mask.clone());
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
        let run = |mode: Mode, mask: Option<&Arc<Sparsity>>| {
            let of = |t: &Tensor| Tensor::variable(t.cpu().to_dtype(dtype).unwrap());
            let inputs = [of(x), of(&zeroed).masked(mask.cloned())];
            let y = f(&inputs, mode).unwrap();
            let result = flat(&y);
            let ones = y.cpu().ones_like().unwrap();
            let all = y.backward(ones).unwrap();
            let gradient = |v: &Tensor| flat(&Tensor::constant(all.get(v).unwrap().clone()));
            (result, gradient(&inputs[0]), gradient(&inputs[1]))
        };
        let train = |keep| Mode::Train(keep, Precision::Full);
        let (y, dx, dw) = run(train(Keep::Projections), None);
        let living = |dw: &[f64]| -> Vec<f64> {
            (0..dw.len())
                .filter(|&i| mask.get(i))
                .map(|i| dw[i])
                .collect()
        };
        for mode in [train(Keep::Projections), train(Keep::Nothing)] {
            let (y_of, dx_of, dw_of) = run(mode, Some(&sparsity));
            let what = format!("{what} in {dtype:?} with a mask, {mode:?}");
            assert_close(&y_of, &y, tolerance, &what);
            assert_close(&dx_of, &dx, tolerance, &format!("{what}: dx"));
            assert_close(
                &living(&dw_of),
                &living(&dw),
                tolerance,
                &format!("{what}: dw"),
            );
        }
        let (_, dx_of, dw_of) = run(Mode::Differentiate, Some(&sparsity));
        assert_eq!((dx_of, dw_of), (dx, dw), "{what}: all gradients");
    }
    let train = Mode::Train(Keep::Nothing, Precision::Full);
    let on_gpu = |t: &[Tensor]| f(&[t[0].clone(), t[1].masked(Some(sparsity.clone()))], train);
    let living = |all: &[f64]| -> Vec<f64> {
        let of_weights = all.len() == mask.len();
        let at = (0..all.len()).filter(|&i| !of_weights || mask.get(i));
        at.map(|i| all[i]).collect()
    };
    compare_cuda(
        what,
        (on_gpu, |t: &[Tensor]| f(t, train)),
        &[x.clone(), zeroed],
        |got, expected, what| assert_near(&living(got), &living(expected), what),
    );
}

/// Holds what a GPU computes in f32, where this build has one or an emulated one, against the processor's
/// f64: the result and the gradient of every element.
pub fn check_cuda(what: &str, f: impl Fn(&[Tensor]) -> crate::Result<Tensor>, inputs: &[Tensor]) {
    compare_cuda(what, (&f, &f), inputs, assert_near);
}

/// The same of two functions, the first of which runs on the GPU.
pub fn compare_cuda(
    what: &str,
    (on_gpu, on_cpu): (
        impl Fn(&[Tensor]) -> crate::Result<Tensor>,
        impl Fn(&[Tensor]) -> crate::Result<Tensor>,
    ),
    inputs: &[Tensor],
    compare: impl Fn(&[f64], &[f64], &str),
) {
    if cfg!(not(feature = "gpu")) {
        return;
    }
    let gpu = Gpu::open().unwrap();
    gpu::set_tf32(false);
    let first = inputs[0].dims();
    let upload = |values: &Tensor, is_images: bool| {
        let values = values.cpu().to_dtype(DType::F32).unwrap();
        if is_images {
            return Values::images(values, Some(&gpu)).unwrap();
        }
        let data: Vec<f32> = values.flatten_all().unwrap().to_vec1().unwrap();
        Array::from_slice(&gpu, values.dims(), &data)
            .unwrap()
            .into()
    };
    let variables: Vec<Tensor> = inputs
        .iter()
        .map(|input| Tensor::variable(upload(input, are_images(input.dims(), first))))
        .collect();
    let out = on_gpu(&variables).unwrap();
    let is_images = out.dims().len() == 4;
    let expected = flat(&on_cpu(inputs).unwrap());
    compare(&fetched(out.values(), is_images), &expected, what);
    let weights = match (upload(&values(out.dims(), 77), is_images), out.values()) {
        (Values::Cuda(weights), Values::Cuda(out)) => weights.cast(out.dtype()).unwrap(),
        _ => panic!("left the GPU"),
    };
    let all = out.backward(weights).unwrap();
    for (index, expected) in gradients(&on_cpu, inputs, 77).iter().enumerate() {
        let is_images = are_images(inputs[index].dims(), first);
        let got = fetched(all.get(&variables[index]).unwrap(), is_images);
        let what = format!("{what}: gradient of input {index} on a GPU");
        compare(&got, expected, &what);
    }
}

/// Whether an input is images like the first one, or parameters.
fn are_images(shape: &[usize], first: &[usize]) -> bool {
    match (shape, first) {
        ([n, h, _, w], [m, k, _, v]) => (n, h, w) == (m, k, v),
        _ => false,
    }
}

fn fetched(values: &Values, is_images: bool) -> Vec<f64> {
    let array = values.cuda().unwrap().cast(gpu::DType::F32).unwrap();
    let all: Vec<f64> = array.to_vec().unwrap().into_iter().map(f64::from).collect();
    if !is_images {
        return all;
    }
    let [n, h, c, w] = sizes(array.shape(), "images").unwrap();
    let planes = candle_core::Tensor::from_vec(all, (c, n, h, w), &Device::Cpu).unwrap();
    let images = planes.permute((1, 2, 0, 3)).unwrap();
    flat(&Tensor::constant(images.contiguous().unwrap()))
}

/// All values near the expected, as f32 sums leave them.
fn assert_near(got: &[f64], expected: &[f64], what: &str) {
    const TOLERANCE: f64 = 1e-4;
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let largest = expected
        .iter()
        .fold(0.0, |most: f64, value| most.max(value.abs()));
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() <= TOLERANCE * largest,
            "{what}[{index}]: {got} instead of {expected} of {largest}"
        );
    }
}

/// Root-mean-square error as rounding to bfloat16 leaves it, and no less.
pub fn assert_rounded(got: &[f64], expected: &[f64], what: &str) {
    let rms = |x: &[f64]| (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt();
    let errors: Vec<f64> = got.iter().zip(expected).map(|(a, b)| a - b).collect();
    let error = rms(&errors) / rms(expected);
    assert!((1e-4..2e-2).contains(&error), "{what}: {error}");
}
