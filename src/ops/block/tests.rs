use super::attention::Kept;
use super::half::{Half, Inner};
use super::heads::Heads;
use super::hidden::Hidden;
use super::norm::LayerNorm::{self, BiasFree, WithBias};
use super::stream::streams;
use super::{attention, block, feed_forward};
use crate::kernels::{Mask, Precision, Sparsity};
use crate::ops::rows::Grid;
use crate::ops::testing::{
    assert_close, assert_rounded, check_cuda, check_gradient, check_gradient_where, check_masked,
    compare_cuda, flat, gradients, tensor, values, with_threads,
};
use crate::ops::{Keep, Mode, Operator, Tensor, View, conv1x1, conv3x3};
use crate::runtime::buffer::Buffer;
use candle_core::{D, DType, Device, Tensor as Values};
use half::bf16;

type Candle = candle_core::Result<Values>;

const TRAIN: Mode = Mode::Train(Keep::Projections, Precision::Full);
const INFER: Mode = Mode::Infer(Precision::Full);

/// (n, c, heads or hidden, h, w): single pixels, borders, several strips, groups that are not full.
const CASES: [(usize, usize, usize, usize, usize); 6] = [
    (1, 2, 1, 1, 1),
    (2, 4, 2, 3, 5),
    (1, 2, 2, 9, 16),
    (1, 2, 1, 2, 19),
    (1, 6, 3, 4, 3),
    (1, 17, 1, 2, 2),
];

/// Takes the first values of the parameters.
fn take(parameters: &mut Values, shape: &[usize]) -> Candle {
    let size = shape.iter().product();
    let taken = parameters.narrow(0, 0, size)?.reshape(shape)?;
    let rest = parameters.dim(0)? - size;
    *parameters = parameters.narrow(0, size, rest)?;
    Ok(taken)
}

/// β, or zeros where there is none.
fn take_beta(norm: LayerNorm, parameters: &mut Values, c: usize) -> Candle {
    match norm {
        WithBias => take(parameters, &[c]),
        BiasFree => Values::zeros(c, parameters.dtype(), parameters.device()),
    }
}

/// [n, c, h, w] by the definition, in candle's own operators: layer norm, 1×1, depthwise 3×3.
fn front(norm: LayerNorm, x: &Values, [gamma, beta, weight, taps]: [Values; 4]) -> Candle {
    let (n, c, h, w) = x.dims4()?;
    let centred = x.broadcast_sub(&x.mean_keepdim(1)?)?;
    let scale = (centred.sqr()?.mean_keepdim(1)? + 1e-5)?.sqrt()?;
    let normal = match norm {
        WithBias => centred.broadcast_div(&scale)?,
        BiasFree => x.broadcast_div(&scale)?,
    };
    let normal = normal.broadcast_mul(&gamma.reshape((1, c, 1, 1))?)?;
    let normal = normal.broadcast_add(&beta.reshape((1, c, 1, 1))?)?;
    let wide = weight.dim(0)?;
    let y = weight.broadcast_matmul(&normal.reshape((n, c, h * w))?)?;
    let padded = y.reshape((n, wide, h, w))?;
    let padded = padded.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
    let mut sum = Values::zeros((n, wide, h, w), x.dtype(), x.device())?;
    for tap in 0..9 {
        let moved = padded.narrow(2, tap / 3, h)?.narrow(3, tap % 3, w)?;
        let tap = taps.narrow(1, tap, 1)?.reshape((1, wide, 1, 1))?;
        sum = (sum + moved.broadcast_mul(&tap)?)?;
    }
    Ok(sum)
}

fn rows_of_channels(x: &Values) -> Candle {
    x.transpose(1, 2)?.contiguous()
}

fn attention_reference(norm: LayerNorm, x: &Tensor, parameters: &Tensor, heads: usize) -> Candle {
    let (x, parameters) = (x.cpu(), parameters.cpu());
    let x = rows_of_channels(x)?;
    let (n, c, h, w) = x.dims4()?;
    let mut p = parameters.clone();
    let (gamma, beta) = (take(&mut p, &[c])?, take_beta(norm, &mut p, c)?);
    let temperature = take(&mut p, &[heads, 1, 1])?;
    let (weight, taps) = (take(&mut p, &[3 * c, c])?, take(&mut p, &[3 * c, 9])?);
    let out = take(&mut p, &[c, c])?;
    let qkv =
        front(norm, &x, [gamma, beta, weight, taps])?.reshape((n, 3, heads, c / heads, h * w))?;
    let part = |i: usize| qkv.narrow(1, i, 1)?.squeeze(1)?.contiguous();
    let unit = |x: Values| {
        let norm = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        x.broadcast_div(&norm.clamp(1e-12, f64::INFINITY)?)
    };
    let (q, k, v) = (unit(part(0)?)?, unit(part(1)?)?, part(2)?);
    let scores = q.matmul(&k.transpose(2, 3)?)?;
    let scores = scores.broadcast_mul(&temperature)?.exp()?;
    let weights = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
    let y = out.broadcast_matmul(&weights.matmul(&v)?.reshape((n, c, h * w))?)?;
    rows_of_channels(&(x + y.reshape((n, c, h, w))?)?)
}

fn feed_forward_reference(
    norm: LayerNorm,
    x: &Tensor,
    parameters: &Tensor,
    hidden: usize,
) -> Candle {
    let (x, parameters) = (x.cpu(), parameters.cpu());
    let x = rows_of_channels(x)?;
    let (n, c, h, w) = x.dims4()?;
    let mut p = parameters.clone();
    let (gamma, beta) = (take(&mut p, &[c])?, take_beta(norm, &mut p, c)?);
    let weight = take(&mut p, &[2 * hidden, c])?;
    let taps = take(&mut p, &[2 * hidden, 9])?;
    let out = take(&mut p, &[c, hidden])?;
    let both = front(norm, &x, [gamma, beta, weight, taps])?;
    let (a, b) = (both.narrow(1, 0, hidden)?, both.narrow(1, hidden, hidden)?);
    let cdf = ((&a / 2f64.sqrt())?.erf()? + 1.0)?.affine(0.5, 0.0)?;
    let gated = ((a * cdf)? * b)?.reshape((n, hidden, h * w))?;
    let y = out.broadcast_matmul(&gated)?.reshape((n, c, h, w))?;
    rows_of_channels(&(x + y)?)
}

const NORMS: [LayerNorm; 2] = [WithBias, BiasFree];

/// How many β there are.
fn betas(norm: LayerNorm, c: usize) -> usize {
    match norm {
        WithBias => c,
        BiasFree => 0,
    }
}

/// Images. Without bias every other channel lies apart: where they hardly differ, x/σ is too steep for differences.
fn images(norm: LayerNorm, [n, h, c, w]: [usize; 4], key: u64) -> Tensor {
    let images = values(&[n, h, c, w], key);
    match norm {
        WithBias => images,
        BiasFree => {
            let apart = (0..c).map(|channel| 3.0 * (channel % 2) as f64).collect();
            let apart = Values::from_vec::<_, f64>(apart, (1, 1, c, 1), &Device::Cpu).unwrap();
            Tensor::constant(images.cpu().broadcast_add(&apart).unwrap())
        }
    }
}

fn attention_inputs(
    norm: LayerNorm,
    (n, c, heads, h, w): (usize, usize, usize, usize, usize),
) -> [Tensor; 2] {
    let parameters = values(&[4 * c * c + 28 * c + betas(norm, c) + heads], 3);
    let parameters = (parameters.cpu() + 0.2).unwrap();
    [images(norm, [n, h, c, w], 1), Tensor::constant(parameters)]
}

fn feed_forward_inputs(
    norm: LayerNorm,
    (n, c, hidden, h, w): (usize, usize, usize, usize, usize),
) -> [Tensor; 2] {
    let parameters = 3 * hidden * c + 18 * hidden + c + betas(norm, c);
    [images(norm, [n, h, c, w], 5), values(&[parameters], 7)]
}

fn block_inputs(
    norm: LayerNorm,
    (n, c, heads, hidden, h, w): (usize, usize, usize, usize, usize, usize),
) -> [Tensor; 3] {
    let [x, attention] = attention_inputs(norm, (n, c, heads, h, w));
    let [_, feed_forward] = feed_forward_inputs(norm, (n, c, hidden, h, w));
    [x, attention, feed_forward]
}

fn single(x: &Tensor) -> Tensor {
    Tensor::constant(x.cpu().to_dtype(DType::F32).unwrap())
}

#[test]
fn attention_forward_and_gradient() {
    for (norm, (n, c, heads, h, w)) in NORMS.into_iter().flat_map(|n| CASES.map(|case| (n, case))) {
        let inputs = attention_inputs(norm, (n, c, heads, h, w));
        let [x, p] = &inputs;
        let expected = flat(&Tensor::constant(
            attention_reference(norm, x, p, heads).unwrap(),
        ));
        let what = format!("attention {:?}", (norm, n, c, heads, h, w));
        assert_close(
            &flat(&attention(x, p, heads, norm, TRAIN).unwrap()),
            &expected,
            1e-11,
            &what,
        );
        let y = attention(&single(x), &single(p), heads, norm, TRAIN).unwrap();
        assert_close(&flat(&y), &expected, 2e-4, &what);
        if c < 17 {
            check_gradient(
                &what,
                |t| attention(&t[0], &t[1], heads, norm, TRAIN),
                &inputs,
            );
        }
    }
}

#[test]
fn feed_forward_forward_and_gradient() {
    for (norm, (n, c, hidden, h, w)) in NORMS.into_iter().flat_map(|n| CASES.map(|case| (n, case)))
    {
        let inputs = feed_forward_inputs(norm, (n, c, hidden, h, w));
        let [x, p] = &inputs;
        let expected = flat(&Tensor::constant(
            feed_forward_reference(norm, x, p, hidden).unwrap(),
        ));
        let what = format!("feed_forward {:?}", (norm, n, c, hidden, h, w));
        assert_close(
            &flat(&feed_forward(x, p, hidden, norm, TRAIN).unwrap()),
            &expected,
            1e-6,
            &what,
        );
        let y = feed_forward(&single(x), &single(p), hidden, norm, TRAIN).unwrap();
        assert_close(&flat(&y), &expected, 2e-5, &what);
        check_gradient(
            &what,
            |t| feed_forward(&t[0], &t[1], hidden, norm, TRAIN),
            &inputs,
        );
    }
}

type Run = dyn Fn(&[Tensor]) -> crate::Result<Tensor> + Sync;

/// Both halves of n × 24 channels × h × 40, and what they are run on.
fn halves(n: usize, h: usize) -> [([Tensor; 2], &'static Run); 4] {
    [
        (attention_inputs(WithBias, (n, 24, 2, h, 40)), &|t| {
            attention(&t[0], &t[1], 2, WithBias, TRAIN)
        }),
        (attention_inputs(BiasFree, (n, 24, 2, h, 40)), &|t| {
            attention(&t[0], &t[1], 2, BiasFree, TRAIN)
        }),
        (feed_forward_inputs(WithBias, (n, 24, 37, h, 40)), &|t| {
            feed_forward(&t[0], &t[1], 37, WithBias, TRAIN)
        }),
        (feed_forward_inputs(BiasFree, (n, 24, 37, h, 40)), &|t| {
            feed_forward(&t[0], &t[1], 37, BiasFree, TRAIN)
        }),
    ]
}

/// Every channel of the f32 path's gradient, at sizes where tiles are full and several, and where parts
/// have several strips.
#[test]
fn gradients_in_f32_follow_f64() {
    for (inputs, f) in halves(2, 11).into_iter().chain(halves(1, 67)) {
        let expected = gradients(f, &inputs, 9);
        let got = gradients(f, &inputs.each_ref().map(single), 9);
        for (got, expected) in got.iter().zip(&expected) {
            let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            for (got, expected) in got.iter().zip(expected) {
                assert!(
                    (got - expected).abs() < 2e-4 * largest,
                    "{got} {expected} of {largest}"
                );
            }
        }
    }
}

/// Tasks are others with other threads; parts and their order are not.
#[test]
fn gradients_do_not_depend_on_threads() {
    for (inputs, f) in halves(1, 67) {
        let inputs = inputs.each_ref().map(single);
        let with = |threads| with_threads(threads, || gradients(f, &inputs, 9));
        let one = with(1);
        assert!([2, 3, 12].iter().all(|&threads| with(threads) == one));
    }
}

/// Rounded operands change the results by about their relative error of 2⁻⁹, and do change them.
#[test]
fn rounding_is_small() {
    let (n, c, heads, hidden, h, w) = (1, 24, 2, 37, 11, 40);
    let rounded = Mode::Infer(Precision::BFloat16);
    let inputs = attention_inputs(WithBias, (n, c, heads, h, w)).map(|t| single(&t));
    let run = |mode| flat(&attention(&inputs[0], &inputs[1], heads, WithBias, mode).unwrap());
    let attention = (run(INFER), run(rounded));
    let inputs = feed_forward_inputs(WithBias, (n, c, hidden, h, w)).map(|t| single(&t));
    let run = |mode| flat(&feed_forward(&inputs[0], &inputs[1], hidden, WithBias, mode).unwrap());
    for (full, rounded) in [attention, (run(INFER), run(rounded))] {
        let rms = |x: &[f64]| (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt();
        let errors: Vec<f64> = full.iter().zip(&rounded).map(|(a, b)| a - b).collect();
        let error = rms(&errors) / rms(&full);
        assert!(error > 1e-5 && error < 1e-2, "{error}");
    }
}

/// Training in bfloat16: sums over channels and pixels keep the errors near those of single values, 2⁻⁹.
#[test]
fn rounding_in_training_is_small() {
    let (n, c, heads, hidden, h, w) = (2, 24, 2, 37, 11, 40);
    for norm in NORMS {
        let inputs = attention_inputs(norm, (n, c, heads, h, w));
        let run = |t: &[Tensor], mode| attention(&t[0], &t[1], heads, norm, mode);
        check_rounding("attention", run, &inputs);
        let inputs = feed_forward_inputs(norm, (n, c, hidden, h, w));
        let run = |t: &[Tensor], mode| feed_forward(&t[0], &t[1], hidden, norm, mode);
        check_rounding("feed_forward", run, &inputs);
    }
    let inputs = [values(&[n, h, c, w], 1), values(&[hidden, c, 3, 3], 2)];
    check_rounding("conv3x3", |t, mode| conv3x3(&t[0], &t[1], mode), &inputs);
    let inputs = [values(&[n, h, c, w], 1), values(&[hidden, c, 1, 1], 2)];
    check_rounding("conv1x1", |t, mode| conv1x1(&t[0], &t[1], mode), &inputs);
}

/// The result and all gradients on a GPU, and on the processor, where no number of threads changes them, nor
/// whether projections are kept.
fn check_rounding(
    what: &str,
    f: impl Fn(&[Tensor], Mode) -> crate::Result<Tensor> + Sync,
    inputs: &[Tensor; 2],
) {
    let rounded = Mode::Train(Keep::Projections, Precision::BFloat16);
    let run = |mode| {
        let f = &f;
        move |t: &[Tensor]| f(t, mode)
    };
    compare_cuda(what, (run(rounded), run(TRAIN)), inputs, assert_rounded);
    let inputs = inputs.each_ref().map(single);
    let result = |mode| flat(&f(&inputs, mode).unwrap());
    assert_rounded(&result(rounded), &result(TRAIN), what);
    let with = |threads| with_threads(threads, || gradients(run(rounded), &inputs, 9));
    let got = with(1);
    for (got, expected) in got.iter().zip(gradients(run(TRAIN), &inputs, 9)) {
        assert_rounded(got, &expected, what);
    }
    assert!([2, 3].iter().all(|&threads| with(threads) == got));
    let nothing = Mode::Train(Keep::Nothing, Precision::BFloat16);
    assert_eq!(gradients(run(nothing), &inputs, 9), got, "{what}");
}

/// Where a GPU sums up a channel's pixels in several blocks, and the products of a weight in parts.
#[test]
#[cfg_attr(not(feature = "gpu"), ignore = "this build has no GPU")]
fn gradients_over_many_pixels_agree_on_a_gpu() {
    for norm in NORMS {
        let (n, c, heads, hidden, h, w) = (2, 3, 1, 2, 96, 172);
        let inputs = attention_inputs(norm, (n, c, heads, h, w));
        check_cuda(
            "attention of many pixels",
            |t| attention(&t[0], &t[1], heads, norm, TRAIN),
            &inputs,
        );
        let inputs = feed_forward_inputs(norm, (n, c, hidden, h, w));
        check_cuda(
            "feed_forward of many pixels",
            |t| feed_forward(&t[0], &t[1], hidden, norm, TRAIN),
            &inputs,
        );
    }
}

/// The results of W, where they stay in the last cache, in as many bytes as the precision has.
#[test]
fn what_is_kept_has_the_precision() {
    fn run<I: Inner>(inner: I, precision: Precision, inputs: &[Tensor]) -> Half<I> {
        let mode = Mode::Train(Keep::Projections, precision);
        let mut half = Half::new(inner, &inputs[1], mode);
        let parts: Vec<_> = inputs.iter().map(|t| (flat(t), t.dims())).collect();
        let views = parts.iter().map(|(data, shape)| View { data, shape });
        half.forward(&views.collect::<Vec<_>>()).unwrap();
        half
    }
    let (n, c, heads, hidden, h, w) = (1, 4, 2, 5, 9, 19);
    let inputs = attention_inputs(WithBias, (n, c, heads, h, w));
    let attention = |precision| run(Heads(heads, WithBias), precision, &inputs);
    let (mut full, mut rounded) = (attention(Precision::Full), attention(Precision::BFloat16));
    assert!(full.take::<Kept<f64, f64>>().is_some());
    assert!(rounded.take::<Kept<f64, bf16>>().is_some());
    let inputs = feed_forward_inputs(WithBias, (n, c, hidden, h, w));
    let feed_forward = |precision| run(Hidden(hidden, WithBias), precision, &inputs);
    let mut full = feed_forward(Precision::Full);
    assert!(!full.take::<Buffer<f64>>().unwrap().is_empty());
    let mut rounded = feed_forward(Precision::BFloat16);
    assert!(!rounded.take::<Buffer<bf16>>().unwrap().is_empty());
    // None of a large image.
    let inputs = feed_forward_inputs(WithBias, (1, 16, 25, 40, 1100));
    let mut large = with_threads(3, || run(Hidden(25, WithBias), Precision::Full, &inputs));
    assert!(large.take::<Buffer<f64>>().unwrap().is_empty());
}

/// What backward computes again is what forward would have kept.
#[test]
fn recomputing_changes_nothing() {
    for norm in NORMS {
        let (n, c, heads, hidden, h, w) = (2, 4, 2, 5, 9, 19);
        let inputs = attention_inputs(norm, (n, c, heads, h, w)).map(|t| single(&t));
        let with = |mode| gradients(|t| attention(&t[0], &t[1], heads, norm, mode), &inputs, 3);
        assert_eq!(
            with(Mode::Train(Keep::Nothing, Precision::Full)),
            with(TRAIN)
        );
        let inputs = feed_forward_inputs(norm, (n, c, hidden, h, w)).map(|t| single(&t));
        let with = |mode| {
            gradients(
                |t| feed_forward(&t[0], &t[1], hidden, norm, mode),
                &inputs,
                3,
            )
        };
        assert_eq!(
            with(Mode::Train(Keep::Nothing, Precision::Full)),
            with(TRAIN)
        );
        let inputs = block_inputs(norm, (n, c, heads, hidden, h, w));
        let run =
            |mode| move |t: &[Tensor]| block(&t[0], (&t[1], heads), (&t[2], hidden), norm, mode);
        let nothing = Mode::Train(Keep::Nothing, Precision::Full);
        let with = |mode| gradients(run(mode), &inputs.each_ref().map(single), 3);
        assert!(
            [nothing, INFER]
                .iter()
                .all(|&mode| with(mode) == with(TRAIN))
        );
        check_cuda("block", run(nothing), &inputs);
    }
}

/// Few threads go through large images strip by strip, forward and backward, and many hold W's results: the
/// same bits, whatever is rounded or left out.
#[test]
fn streaming_changes_nothing() {
    let (c, heads, hidden) = (16, 2, 25);
    let parts = [c, c, heads, 3 * c * c, 27 * c, c * c];
    let attention_mask = mask_of(&parts, 5, 6, |_| true);
    let parts = [c, c, 2 * hidden * c, 18 * hidden, c * hidden];
    let feed_forward_mask = mask_of(&parts, 5, 5, |_| true);
    for (n, h, w) in [(1, 40, 1100), (2, 180, 120), (1, 1400, 3)] {
        for (threads, streamed) in [(3, true), (40, false)] {
            let streams = |wide| with_threads(threads, || streams(Grid::new(h, w), n, wide));
            assert_eq!(streams(3 * c), streamed);
            assert_eq!(streams(2 * hidden), streamed);
        }
        for precision in [Precision::Full, Precision::BFloat16] {
            let mode = Mode::Train(Keep::Projections, precision);
            let run = |t: &[Tensor]| attention(&t[0], &t[1], heads, WithBias, mode);
            let inputs = attention_inputs(WithBias, (n, c, heads, h, w));
            check_threads(run, &inputs, &attention_mask);
            let run = |t: &[Tensor]| feed_forward(&t[0], &t[1], hidden, WithBias, mode);
            let inputs = feed_forward_inputs(WithBias, (n, c, hidden, h, w));
            check_threads(run, &inputs, &feed_forward_mask);
        }
    }
}

/// No number of threads changes a bit of the results and gradients, with the mask and without.
fn check_threads(
    f: impl Fn(&[Tensor]) -> crate::Result<Tensor> + Sync,
    inputs: &[Tensor; 2],
    mask: &Mask,
) {
    let [x, p] = inputs.each_ref().map(single);
    let masked = {
        let mut values = flat(&p);
        mask.apply(&mut values);
        single(&tensor(values, p.dims())).masked(Some(Sparsity::new(mask.clone())))
    };
    for p in [p, masked] {
        let inputs = [x.clone(), p];
        let work = || (bits(&f(&inputs).unwrap()), gradients(&f, &inputs, 9));
        let with = |threads| with_threads(threads, work);
        let many = with(40);
        assert!([1, 2, 3].iter().all(|&threads| with(threads) == many));
    }
}

/// Both halves at once, for any number of threads and with channels of v and hidden ones left out.
#[test]
fn sweeping_changes_nothing() {
    let (c, heads, hidden) = (8, 2, 13);
    for (n, h, w) in [(1, 70, 1250), (2, 700, 120), (1, 5600, 3)] {
        let [x, p, q] = block_inputs(WithBias, (n, c, heads, hidden, h, w)).map(|t| single(&t));
        let halves = |p: &Tensor, q: &Tensor| {
            let y = attention(&x, p, heads, WithBias, TRAIN).unwrap();
            feed_forward(&y, q, hidden, WithBias, TRAIN).unwrap()
        };
        let kill = |t: &Tensor, (first, dead): (usize, usize)| {
            let mask = Mask::from_fn(t.dims()[0], |i| !(first..first + dead).contains(&i));
            let mut values = flat(t);
            mask.apply(&mut values);
            single(&tensor(values, t.dims())).masked(Some(Sparsity::new(mask)))
        };
        // Rows of W of three channels of v, and of five hidden ones.
        let pruned = (
            kill(&p, (2 * c + heads + (2 * c + 1) * c, 3 * c)),
            kill(&q, (2 * c + 4 * c, 5 * c)),
        );
        for (p, q) in [(p, q), pruned] {
            let expected = bits(&halves(&p, &q));
            // Many hold the rows, and go through them in two sweeps.
            for threads in [1, 2, 5, 40] {
                let run = || block(&x, (&p, heads), (&q, hidden), WithBias, INFER).unwrap();
                let got = bits(&with_threads(threads, run));
                assert!(got == expected, "{threads} threads, {n} of {h}x{w}");
            }
        }
    }
}

fn bits(x: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = x.cpu().flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// q channel 0 and k channel 2 of three are dead, their rows of W being zero: the output follows the
/// formula, the gradient of everything else agrees with finite differences, that of their taps is 0.
#[test]
fn dead_channels_are_defined() {
    let (c, h, w) = (3, 2, 3);
    let [x, p] = attention_inputs(WithBias, (1, c, 1, h, w));
    let mut data = flat(&p);
    let weight = 2 * c + 1;
    let dead = [0, c + 2];
    for channel in dead {
        data[weight + channel * c..][..c].fill(0.0);
    }
    let length = data.len();
    let p = tensor(data, &[length]);
    let y = attention(&x, &p, 1, WithBias, TRAIN).unwrap();
    let expected = Tensor::constant(attention_reference(WithBias, &x, &p, 1).unwrap());
    assert_close(&flat(&y), &flat(&expected), 1e-11, "dead channels");

    let f = |t: &[Tensor]| attention(&t[0], &t[1], 1, WithBias, TRAIN);
    let inputs = [x, p];
    let projection = weight..weight + 3 * c * c;
    check_gradient_where("dead channels", f, &inputs, |input, element| {
        input == 0 || !projection.contains(&element)
    });
    let gradient = gradients(f, &inputs, 77).remove(1);
    assert!(gradient.iter().all(|g| g.is_finite()));
    for channel in dead {
        assert!(
            gradient[weight + channel * c..][..c]
                .iter()
                .all(|&g| g == 0.0)
        );
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let [x, p] = attention_inputs(WithBias, (1, 4, 2, 2, 2));
    assert!(attention(&x, &p, 3, WithBias, TRAIN).is_err());
    assert!(attention(&x, &values(&[5], 3), 2, WithBias, TRAIN).is_err());
    assert!(feed_forward(&x, &p, 2, WithBias, TRAIN).is_err());
}

/// Of parameters whose parts have these lengths: one of `every` is alive, and of part `dead` none of
/// the elements that `wanted` does not pick.
fn mask_of(parts: &[usize], every: usize, dead: usize, wanted: impl Fn(usize) -> bool) -> Mask {
    let starts: Vec<usize> = parts
        .iter()
        .scan(0, |end, len| {
            *end += len;
            Some(*end - len)
        })
        .collect();
    Mask::from_fn(parts.iter().sum(), |i| {
        let part = starts.iter().rposition(|&start| start <= i).unwrap();
        i * i % every == 0 && (part != dead || wanted(i - starts[part]))
    })
}

/// Masks under which some, all or none of the inner channels are dead, at several densities.
#[test]
fn masked_weights_are_left_out_of_attention() {
    for norm in NORMS {
        for (c, heads, h, w) in [(4, 2, 3, 5), (6, 3, 2, 19), (40, 2, 5, 16), (40, 4, 2, 16)] {
            let inputs = attention_inputs(norm, (2, c, heads, h, w));
            let parts = [c, betas(norm, c), heads, 3 * c * c, 27 * c, c * c];
            for every in [1, 2, 5] {
                let masks = [
                    mask_of(&parts, every, 6, |_| true),
                    mask_of(&parts, every, 3, |i| i < 2 * c * c || i / c % 3 == 0),
                    mask_of(&parts, every, 4, |i| i < 18 * c || i / 9 % 2 == 1),
                    mask_of(&parts, every, 3, |i| i < 2 * c * c),
                    // No values in the first head.
                    mask_of(&parts, every, 3, |i| {
                        i < 2 * c * c || i / c % c >= c / heads
                    }),
                    mask_of(&parts, every, 5, |_| false),
                ];
                for (number, mask) in masks.into_iter().enumerate() {
                    let what = format!(
                        "attention {:?}, mask {number} of {every}",
                        (norm, c, heads, h, w)
                    );
                    let run = |t: &[Tensor], mode| attention(&t[0], &t[1], heads, norm, mode);
                    check_masked(&what, run, &inputs, mask);
                }
            }
        }
    }
}

#[test]
fn masked_weights_are_left_out_of_the_feed_forward() {
    for norm in NORMS {
        for (c, hidden, h, w) in [(4, 9, 3, 5), (6, 16, 2, 19), (30, 40, 5, 16)] {
            let inputs = feed_forward_inputs(norm, (2, c, hidden, h, w));
            let parts = [c, betas(norm, c), 2 * hidden * c, 18 * hidden, c * hidden];
            for every in [1, 2, 5] {
                let masks = [
                    mask_of(&parts, every, 5, |_| true),
                    mask_of(&parts, every, 2, |i| i / c % 3 != 0),
                    mask_of(&parts, every, 3, |i| i / 9 % 4 != 1),
                    mask_of(&parts, every, 4, |i| i % hidden % 2 == 0),
                    mask_of(&parts, every, 2, |i| i < hidden * c),
                    mask_of(&parts, every, 4, |_| false),
                ];
                for (number, mask) in masks.into_iter().enumerate() {
                    let what = format!(
                        "feed_forward {:?}, mask {number} of {every}",
                        (norm, c, hidden, h, w)
                    );
                    let run = |t: &[Tensor], mode| feed_forward(&t[0], &t[1], hidden, norm, mode);
                    check_masked(&what, run, &inputs, mask);
                }
            }
        }
    }
}
