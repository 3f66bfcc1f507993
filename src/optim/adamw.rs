//! AdamW (Loshchilov & Hutter 2019, algorithm 2) as PyTorch computes it, on masked parameters.

use super::cuda;
use crate::kernels::Mask;
use crate::kernels::simd::dispatch;
use crate::nn::{Parameters, Shadow, StateDict};
use crate::ops::Gradients;
use crate::prune::Masks;
use crate::runtime::gpu::Array;
use crate::{Error, Result};
use rayon::prelude::*;
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    pub betas: (f64, f64),
    pub eps: f64,
    pub weight_decay: f64,
    /// Largest norm over all gradients; longer ones are scaled down to it.
    pub clip_grad_norm: Option<f64>,
}

/// Added to the norm by PyTorch's `clip_grad_norm_`.
const CLIP_EPSILON: f64 = 1e-6;

impl AdamWConfig {
    pub fn validate(&self) -> Result<()> {
        let (beta1, beta2) = self.betas;
        let unit = |value: f64| (0.0..1.0).contains(&value);
        if !unit(beta1) || !unit(beta2) {
            return Err(Error::value(format!(
                "betas must lie in [0, 1), got ({beta1}, {beta2})"
            )));
        }
        if let Some(norm) = self.clip_grad_norm
            && !(norm.is_finite() && norm > 0.0)
        {
            return Err(Error::value(format!(
                "clip_grad_norm must be positive, got {norm}"
            )));
        }
        // As float32, which steps are computed in: a gradient of 0 would be divided by 0.
        if !(self.eps as f32 > 0.0 && (self.eps as f32).is_finite()) {
            return Err(Error::value(format!(
                "eps must be positive, got {:?}",
                self.eps
            )));
        }
        if !(self.weight_decay >= 0.0 && (self.weight_decay as f32).is_finite()) {
            return Err(Error::value(format!(
                "weight_decay must be at least 0, got {:?}",
                self.weight_decay
            )));
        }
        Ok(())
    }
}

/// The running means of every parameter's gradient and of its square.
pub struct AdamW {
    config: AdamWConfig,
    steps: u64,
    exp_avg: Shadow,
    exp_avg_sq: Shadow,
    /// What a step on a GPU needs beside them.
    on_gpu: Option<cuda::State>,
    /// Those of the last step: what they leave out is zero already and need not be written again.
    masks: Masks,
}

/// The scalars of one step.
#[derive(Clone, Copy)]
pub struct Scalars {
    decay: f32,
    beta2: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    step_size: f32,
    root_correction2: f32,
    eps: f32,
    /// The largest norm of all gradients.
    clip_grad_norm: f32,
}

impl Scalars {
    pub const COUNT: usize = 8;

    /// In the order of adamw.cu.
    pub fn all(self) -> [f32; Self::COUNT] {
        [
            self.decay,
            self.beta2,
            self.one_minus_beta1,
            self.one_minus_beta2,
            self.step_size,
            self.root_correction2,
            self.eps,
            self.clip_grad_norm,
        ]
    }
}

/// Values updated by one task.
const CHUNK: usize = 1 << 14;
/// Values that share a word of a mask.
const WORD: usize = u64::BITS as usize;
/// Values that are passed at once, and running sums of a norm.
const PART: usize = 16;

impl AdamW {
    pub fn new(config: AdamWConfig, all: &Parameters) -> Result<Self> {
        config.validate()?;
        let (exp_avg, exp_avg_sq) = (Shadow::zeros(all)?, Shadow::zeros(all)?);
        let moments = [&exp_avg, &exp_avg_sq];
        let on_gpu = all.gpu().map(|gpu| cuda::State::new(gpu, all, moments));
        Ok(Self {
            config,
            masks: Masks::default(),
            steps: 0,
            on_gpu: on_gpu.transpose()?,
            exp_avg,
            exp_avg_sq,
        })
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The means of the gradient and of its square, fetched where they lie on a GPU.
    pub fn moments(&self, all: &Parameters) -> Result<[Cow<'_, StateDict>; 2]> {
        Ok([self.exp_avg.state(all)?, self.exp_avg_sq.state(all)?])
    }

    /// Continues from saved moments.
    pub fn resume(
        &mut self,
        steps: u64,
        all: &Parameters,
        [exp_avg, exp_avg_sq]: [StateDict; 2],
    ) -> Result<()> {
        self.exp_avg.resume(all, exp_avg)?;
        self.exp_avg_sq.resume(all, exp_avg_sq)?;
        self.masks = Masks::default();
        self.steps = steps;
        Ok(())
    }

    /// Those of the next step, with learning rate `lr`.
    fn scalars(&self, lr: f64) -> Scalars {
        let (beta1, beta2) = self.config.betas;
        let steps = (self.steps + 1) as f64;
        Scalars {
            decay: (1.0 - lr * self.config.weight_decay) as f32,
            beta2: beta2 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            step_size: (lr / (1.0 - beta1.powf(steps))) as f32,
            root_correction2: (1.0 - beta2.powf(steps)).sqrt() as f32,
            eps: self.config.eps as f32,
            clip_grad_norm: self.config.clip_grad_norm.unwrap_or(f64::INFINITY) as f32,
        }
    }

    /// The norm over all gradients at living weights.
    pub fn norm(&self, all: &Parameters, masks: &Masks, gradients: &Gradients) -> Result<f64> {
        let mut squares = 0.0;
        for (name, parameter) in all.iter() {
            let mask = masks.get(name);
            let sum = parameter.gradient(gradients, |g| sum_of_squares(g, mask))?;
            squares += sum.unwrap_or(0.0);
        }
        Ok(squares.sqrt())
    }

    /// One step with learning rate `lr` by gradients of that norm, which is finite and to which they
    /// are clipped. A parameter without a gradient is left alone, decay included, as PyTorch does.
    /// Where the mask is 0, weight and moments become exactly 0.
    pub fn step(
        &mut self,
        all: &Parameters,
        masks: &Masks,
        (gradients, norm): (&Gradients, f64),
        lr: f64,
    ) -> Result<()> {
        let scalars = self.scalars(lr);
        let (Shadow::Cpu(exp_avg), Shadow::Cpu(exp_avg_sq)) =
            (&mut self.exp_avg, &mut self.exp_avg_sq)
        else {
            return Err(moved());
        };
        let largest = self.config.clip_grad_norm.unwrap_or(f64::INFINITY);
        let scale = (largest / (norm + CLIP_EPSILON)).min(1.0) as f32;
        let is_new = !masks.is(&self.masks);
        self.masks = masks.clone();
        let moments = exp_avg.values_mut().zip(exp_avg_sq.values_mut());
        for ((name, parameter), (m, v)) in all.iter().zip(moments) {
            let mask = (masks.get(name), is_new);
            let moments = (&mut m.data[..], &mut v.data[..]);
            parameter
                .gradient(gradients, |g| {
                    parameter.write(|p| update(scalars, p, (g, scale), moments, mask))
                })?
                .transpose()?;
        }
        self.steps += 1;
        Ok(())
    }

    /// What a step on a GPU needs before it. A step is recorded for one version of the parameters.
    pub fn prepare_cuda(&mut self, all: &Parameters, lr: f64) -> Result<()> {
        let (scalars, moments) = (self.scalars(lr), [&self.exp_avg, &self.exp_avg_sq]);
        match &mut self.on_gpu {
            Some(state) if all.gpu().is_some() => state.prepare(all, moments, scalars),
            _ => Err(moved()),
        }
    }

    /// [`Self::norm`] on a GPU. The loss lies first in `outcome`, the norm goes second.
    pub fn norm_cuda(
        &self,
        all: &Parameters,
        gradients: &Gradients,
        outcome: &Array,
    ) -> Result<()> {
        self.on_gpu()?.norm(all, gradients, outcome)
    }

    /// [`Self::step`] on a GPU, by the gradients of [`Self::norm_cuda`]; where loss or norm are not
    /// finite, nothing changes. The step counts once [`Self::count`] is called.
    pub fn step_cuda(&self, outcome: &Array) -> Result<()> {
        self.on_gpu()?.step(outcome)
    }

    fn on_gpu(&self) -> Result<&cuda::State> {
        self.on_gpu.as_ref().ok_or_else(moved)
    }

    pub fn count(&mut self) {
        self.steps += 1;
    }
}

/// A trainer's state does not follow its network.
pub fn moved() -> Error {
    Error::value("the network has moved to another device since its trainer was made")
}

fn update(
    s: Scalars,
    p: &mut [f32],
    (g, gradient_scale): (&[f32], f32),
    (m, v): (&mut [f32], &mut [f32]),
    (mask, is_new): (Option<&Mask>, bool),
) {
    let step = Step {
        scalars: s,
        gradient_scale,
    };
    p.par_chunks_mut(CHUNK)
        .zip(g.par_chunks(CHUNK))
        .zip(m.par_chunks_mut(CHUNK))
        .zip(v.par_chunks_mut(CHUNK))
        .enumerate()
        .for_each(|(chunk, (((p, g), m), v))| {
            let bits = Bits::of(mask, chunk);
            dispatch(
                #[inline(always)]
                || {
                    let (p, p_rest) = p.as_chunks_mut::<PART>();
                    let (g, g_rest) = g.as_chunks::<PART>();
                    let (m, m_rest) = m.as_chunks_mut::<PART>();
                    let (v, v_rest) = v.as_chunks_mut::<PART>();
                    let parts = p.iter_mut().zip(g).zip(m.iter_mut().zip(v));
                    for (part, ((p, g), (m, v))) in parts.enumerate() {
                        let bits = bits.part(part);
                        if bits != 0 || is_new {
                            step.take(bits, (p, g), (m, v));
                        }
                    }
                    step.take(bits.part(p.len()), (p_rest, g_rest), (m_rest, v_rest));
                },
            );
        });
}

/// What a step does to one value after another.
struct Step {
    scalars: Scalars,
    gradient_scale: f32,
}

impl Step {
    /// Of so many values as a part has, or fewer at the end.
    #[inline(always)]
    fn take(&self, bits: u32, (p, g): (&mut [f32], &[f32]), (m, v): (&mut [f32], &mut [f32])) {
        let s = &self.scalars;
        let moments = m.iter_mut().zip(v);
        for (lane, ((p, &g), (m, v))) in p.iter_mut().zip(g).zip(moments).enumerate() {
            let g = g * self.gradient_scale;
            let mean = (g - *m).mul_add(s.one_minus_beta1, *m);
            let square = (s.one_minus_beta2 * g).mul_add(g, *v * s.beta2);
            let denominator = square.sqrt() / s.root_correction2 + s.eps;
            let value = *p * s.decay - s.step_size * (mean / denominator);
            *p = keep(value, bits, lane);
            *m = keep(mean, bits, lane);
            *v = keep(square, bits, lane);
        }
    }
}

/// A chunk's bits of a mask.
struct Bits<'a>(Option<&'a [u64]>);

impl<'a> Bits<'a> {
    fn of(mask: Option<&'a Mask>, chunk: usize) -> Self {
        Self(mask.map(|mask| &mask.words()[chunk * CHUNK / WORD..]))
    }

    /// Those of a part, the lowest first; none beyond the last.
    #[inline(always)]
    fn part(&self, part: usize) -> u32 {
        let word = |words: &[u64]| words.get(part * PART / WORD).copied().unwrap_or(0);
        let bits = self.0.map_or(u64::MAX, word) >> (part * PART % WORD);
        bits as u32 & ((1 << PART) - 1)
    }
}

/// The value, or 0 where its bit is not set. In registers: zeroes that are stored later by themselves
/// become masked stores, of which AVX2 has slow ones.
#[inline(always)]
fn keep(value: f32, bits: u32, lane: usize) -> f32 {
    f32::from_bits(value.to_bits() & (bits >> lane & 1).wrapping_neg())
}

fn sum_of_squares(g: &[f32], mask: Option<&Mask>) -> f64 {
    let sums: Vec<f64> = g
        .par_chunks(CHUNK)
        .enumerate()
        .map(|(chunk, g)| {
            let bits = Bits::of(mask, chunk);
            let mut lanes = [0.0; PART];
            dispatch(
                #[inline(always)]
                || {
                    let (parts, rest) = g.as_chunks::<PART>();
                    for (part, g) in parts.iter().enumerate() {
                        let bits = bits.part(part);
                        if bits != 0 {
                            add_squares(&mut lanes, g, bits);
                        }
                    }
                    add_squares(&mut lanes, rest, bits.part(parts.len()));
                },
            );
            lanes.iter().sum()
        })
        .collect();
    sums.iter().sum()
}

#[inline(always)]
fn add_squares(lanes: &mut [f64; PART], g: &[f32], bits: u32) {
    for (lane, (sum, &g)) in lanes.iter_mut().zip(g).enumerate() {
        let g = f64::from(keep(g, bits, lane));
        *sum = g.mul_add(g, *sum);
    }
}
