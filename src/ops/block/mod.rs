//! The halves of a transformer block (Restormer, Zamir et al. 2022), each one operator over all its
//! parameters, so that strips of an image stay in cache from the layer norm to the residual sum.
//!
//! Images are in rows of channels, [n, h, c, w]; the parameters of a half are one vector.
//! - [`attention`] (eq. 1): y = x + W_o·A·v with [q, k, v] = D(W·LN(x)), q̂ = q/max(‖q‖, ε) over all
//!   pixels, k̂ likewise, A = softmax(τ·q̂·k̂ᵀ) per head, ε = 1e-12. Parameters [γ c, β c, τ heads,
//!   W 3c·c, taps 3c·9, W_o c·c].
//! - [`feed_forward`] (eq. 3): y = x + W_o·(gelu(a)·b) with [a, b] = D(W·LN(x)) and the exact
//!   gelu(a) = a·Φ(a). Parameters [γ c, β c, W 2e·c, taps 2e·9, W_o c·e].
//!
//! D is a depthwise 3×3 convolution with padding 1; LN the layer norm over channels (Ba et al. 2016,
//! eq. 4), ε = 1e-5.
//!
//! In bfloat16 the results of W are rounded to it as well, as they are most of what goes from one loop to the next.
//!
//! Backward: v is kept from the forward, and the results of W where they stay in the last cache; all else is
//! computed again, strip by strip. With M = W_o·A:
//! dv = Mᵀ·dy, E = Σ dy·vᵀ, dW_o = E·Aᵀ, dA = W_oᵀ·E, dZ = softmax's of dA, dτ = Σ dZ·S, dS = τ·dZ,
//! dq = (dS·k̂ − q̂·rowsum(dS·S))/‖q‖, dk = (dSᵀ·q̂ − k̂·colsum(dS·S))/‖k‖; and
//! da = dg·b·(Φ(a) + a·φ(a)), db = dg·gelu(a) with dg = W_oᵀ·dy. A q or k channel with ‖·‖ ≤ ε is
//! dead: its direction is undefined, so it gets the gradient 0. (The quotient's derivative there is
//! 1/ε = 1e12; PyTorch returns it, and where masks keep a channel dead it meets masked weights only.)

mod attention;
mod back;
mod compact;
mod cuda;
mod expand;
mod feed_forward;
mod layout;
mod places;
mod stream;
#[cfg(test)]
mod tests;
mod whole;

use self::attention::{Attention, Kept};
use self::compact::{Part, Remains, living_columns};
use self::feed_forward::FeedForward;
use self::layout::Layout;
use self::stream::held;
use self::whole::BlockOp;
use super::rows::{Grid, Stored};
use super::{Knowledge, Mode, Operator, Tensor, View, apply, sizes};
use crate::kernels::{Mask, Precision, Real};
use crate::runtime::buffer::{Buffer, copy, zeros};
use crate::runtime::gpu::Array;
use crate::{Error, Result};
use half::bf16;
use std::any::Any;
use std::iter;
use std::sync::Arc;

/// The attention half: x [n, h, c, w], parameters [4c² + 29c + heads].
pub fn attention(x: &Tensor, parameters: &Tensor, heads: usize, mode: Mode) -> Result<Tensor> {
    let half = Half::new(parameters, mode);
    apply(AttentionOp { heads, half }, &[x, parameters])
}

/// The feed-forward half: x [n, h, c, w], parameters [3ec + 18e + 2c] for e hidden channels.
pub fn feed_forward(x: &Tensor, parameters: &Tensor, hidden: usize, mode: Mode) -> Result<Tensor> {
    let half = Half::new(parameters, mode);
    apply(FeedForwardOp { hidden, half }, &[x, parameters])
}

/// Both halves, of which `attention` is the parameters and the number of heads, `feed_forward` the parameters
/// and the number of hidden channels.
pub fn block(
    x: &Tensor,
    attention: (&Tensor, usize),
    feed_forward: (&Tensor, usize),
    mode: Mode,
) -> Result<Tensor> {
    let ((p, heads), (q, hidden)) = (attention, feed_forward);
    if mode.keeps() {
        let x = self::attention(x, p, heads, mode)?;
        return self::feed_forward(&x, q, hidden, mode);
    }
    let half = Half::new(p, mode);
    let attention = AttentionOp { heads, half };
    let half = Half::new(q, mode);
    let feed_forward = FeedForwardOp { hidden, half };
    let block = BlockOp {
        attention,
        feed_forward,
    };
    apply(block, &[x, p, q])
}

/// What both halves have.
struct Half {
    mode: Mode,
    knowledge: Knowledge,
    /// What the forward leaves to the backward, of the number type that it ran in.
    kept: Option<Box<dyn Any + Send>>,
}

impl Half {
    fn new(parameters: &Tensor, mode: Mode) -> Self {
        Self {
            mode,
            knowledge: mode.knowledge(parameters),
            kept: None,
        }
    }

    /// What the mask leaves of the inner channels, found once.
    fn remains(&self, find: impl FnOnce(&Mask) -> Remains) -> Arc<Remains> {
        match &self.knowledge.sparsity {
            Some(sparsity) => sparsity.derive(("channels", [0; 5]), || find(sparsity.mask())),
            None => Arc::new(Remains::All),
        }
    }

    fn part<'a, T: Real>(&'a self, remains: &'a Remains, parameters: &'a [T]) -> Part<'a, T> {
        remains.part(parameters, self.knowledge.known())
    }

    fn put<V: Any + Send>(&mut self, value: V) {
        if self.mode.keeps() {
            self.kept = Some(Box::new(value));
        }
    }

    fn take<V: Any>(&mut self) -> Option<V> {
        Some(*self.kept.take()?.downcast().ok()?)
    }
}

struct AttentionOp {
    heads: usize,
    half: Half,
}

impl AttentionOp {
    fn check(&self, x: &[usize], parameters: &[usize]) -> Result<[usize; 4]> {
        let shape @ [_, _, c, _] = sizes(x, "attention input")?;
        let expected = 4 * c * c + 29 * c + self.heads;
        check_parameters("attention", parameters, expected)?;
        if self.heads == 0 || !c.is_multiple_of(self.heads) {
            return Err(Error::value(format!(
                "attention: {c} channels do not split into {} heads",
                self.heads
            )));
        }
        Ok(shape)
    }

    /// Nothing where the half passes its input on.
    fn of_cuda(&self, inputs: &[&Array]) -> Result<Option<cuda::Attention>> {
        let (x, parameters) = (inputs[0].cast(self.half.mode.dtype())?, inputs[1]);
        let shape = self.check(x.shape(), parameters.shape())?;
        let part = self.remains(shape[2]).part_cuda(parameters)?;
        Ok(part.map(|part| cuda::Attention::new((x, part), shape, self.heads)))
    }

    /// What the mask leaves of the channels of v.
    fn remains(&self, c: usize) -> Arc<Remains> {
        self.half.remains(|mask| {
            let layout = Layout::attention(c, self.heads, c);
            let out = layout.out()..mask.len();
            let mut living: Vec<usize> = (0..c).filter(|v| layout.lives(mask, 2 * c + v)).collect();
            if mask.count(out.start, out.len()) == 0 {
                living.clear();
            }
            Remains::of((living, c), mask, |living| {
                let values = living.iter().map(|v| 2 * c + v);
                let channels: Vec<usize> = (0..2 * c).chain(values).collect();
                layout.front(channels).chain(iter::once(out))
            })
        })
    }

    fn of<'a, T: Real>(&self, [_, h, c, w]: [usize; 4], part: &'a Part<T>) -> Attention<'a, T> {
        let values = match part.channels {
            Some(channels) => channels.to_vec(),
            None => (0..c).collect(),
        };
        let parameters = (part.values(), part.known);
        let (grid, precision) = (Grid::new(h, w), self.half.mode.precision());
        Attention::new(grid, (c, self.heads), values, parameters, precision)
    }

    fn forward_stored<T: Real, R: Stored<T>>(
        &mut self,
        inputs: &[View<T>],
    ) -> Result<(Vec<T>, Vec<usize>)> {
        let (x, shape, parameters) = (inputs[0].data, inputs[0].shape, inputs[1]);
        let sizes = self.check(shape, parameters.shape)?;
        let remains = self.remains(sizes[2]);
        if let Remains::Nothing = *remains {
            return Ok((copy(x), shape.to_vec()));
        }
        let part = self.half.part(&remains, parameters.data);
        let op = self.of(sizes, &part);
        let (y, kept) = op.forward::<R>(x);
        self.half.put(kept);
        Ok((y, shape.to_vec()))
    }

    fn backward_stored<T: Real, R: Stored<T>>(
        mut self,
        inputs: &[View<T>],
        gradient: View<T>,
    ) -> Result<Vec<Vec<T>>> {
        let (x, parameters) = (inputs[0].data, inputs[1]);
        let sizes = self.check(inputs[0].shape, parameters.shape)?;
        let remains = self.remains(sizes[2]);
        if let Remains::Nothing = *remains {
            return Ok(passed_on(inputs, gradient));
        }
        let kept: Option<Kept<T, R>> = self.half.take();
        let part = self.half.part(&remains, parameters.data);
        let op = self.of(sizes, &part);
        let kept = kept.unwrap_or_else(|| op.forward(x).1);
        let (dx, dp) = op.backward(x, kept, gradient.data);
        Ok(vec![dx, remains.expand(dp)])
    }
}

impl Operator for AttentionOp {
    const NAME: &'static str = "attention";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        match self.half.mode.precision() {
            Precision::Full => self.forward_stored::<T, T>(inputs),
            Precision::BFloat16 => self.forward_stored::<T, bf16>(inputs),
        }
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        match self.half.mode.precision() {
            Precision::Full => self.backward_stored::<T, T>(inputs, gradient),
            Precision::BFloat16 => self.backward_stored::<T, bf16>(inputs, gradient),
        }
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let Some(op) = self.of_cuda(inputs)? else {
            return inputs[0].cast(self.half.mode.dtype());
        };
        let (y, kept) = op.forward()?;
        self.half.put(kept);
        Ok(y)
    }

    fn backward_cuda(mut self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let Some(op) = self.of_cuda(inputs)? else {
            return passed_on_cuda(inputs, gradient);
        };
        let remains = self.remains(op.dim());
        let kept: Option<(Array, cuda::Scores)> = self.half.take();
        let (projected, scores) = match kept {
            Some(kept) => kept,
            None => op.forward()?.1,
        };
        let [dx, dp] = op.backward(projected, &scores, gradient)?;
        Ok(vec![dx.cast(inputs[0].dtype())?, remains.expand_cuda(dp)?])
    }
}

struct FeedForwardOp {
    hidden: usize,
    half: Half,
}

impl FeedForwardOp {
    fn check(&self, x: &[usize], parameters: &[usize]) -> Result<[usize; 4]> {
        let shape @ [_, _, c, _] = sizes(x, "feed_forward input")?;
        let expected = 3 * self.hidden * c + 18 * self.hidden + 2 * c;
        check_parameters("feed_forward", parameters, expected)?;
        Ok(shape)
    }

    /// Nothing where the half passes its input on.
    fn of_cuda(&self, inputs: &[&Array]) -> Result<Option<cuda::FeedForward>> {
        let (x, parameters) = (inputs[0].cast(self.half.mode.dtype())?, inputs[1]);
        let shape = self.check(x.shape(), parameters.shape())?;
        let part = self.remains(shape[2]).part_cuda(parameters)?;
        Ok(part.map(|part| cuda::FeedForward::new((x, part), shape, self.hidden)))
    }

    /// What the mask leaves of the hidden channels.
    fn remains(&self, c: usize) -> Arc<Remains> {
        self.half.remains(|mask| {
            let hidden = self.hidden;
            let layout = Layout::feed_forward(c, hidden);
            let used = living_columns(mask, layout.out(), c, hidden);
            let lives =
                |&i: &usize| used[i] && layout.lives(mask, i) && layout.lives(mask, hidden + i);
            let living = (0..hidden).filter(lives).collect();
            Remains::of((living, hidden), mask, |living| {
                let second = living.iter().map(|i| hidden + i);
                let columns = living.to_vec();
                let out = (0..c).flat_map(move |row| {
                    let first = layout.out() + row * hidden;
                    let columns = columns.clone().into_iter();
                    columns.map(move |i| first + i..first + i + 1)
                });
                layout
                    .front(living.iter().copied().chain(second).collect())
                    .chain(out)
            })
        })
    }

    fn of<'a, T: Real>(&self, c: usize, grid: Grid, part: &'a Part<T>) -> FeedForward<'a, T> {
        let hidden = part.channels.map_or(self.hidden, <[usize]>::len);
        let parameters = (part.values(), part.known);
        let precision = self.half.mode.precision();
        FeedForward::new(grid, (c, hidden), parameters, precision)
    }

    fn forward_stored<T: Real, R: Stored<T>>(
        &mut self,
        inputs: &[View<T>],
    ) -> Result<(Vec<T>, Vec<usize>)> {
        let (x, shape, parameters) = (inputs[0].data, inputs[0].shape, inputs[1]);
        let [n, h, c, w] = self.check(shape, parameters.shape)?;
        let remains = self.remains(c);
        if let Remains::Nothing = *remains {
            return Ok((copy(x), shape.to_vec()));
        }
        let part = self.half.part(&remains, parameters.data);
        let op = self.of(c, Grid::new(h, w).for_threads(n), &part);
        let (y, projected) = op.forward::<R>(x);
        self.half.put(projected);
        Ok((y, shape.to_vec()))
    }

    fn backward_stored<T: Real, R: Stored<T>>(
        mut self,
        inputs: &[View<T>],
        gradient: View<T>,
    ) -> Result<Vec<Vec<T>>> {
        let (x, parameters) = (inputs[0].data, inputs[1]);
        let [_, h, c, w] = self.check(inputs[0].shape, parameters.shape)?;
        let remains = self.remains(c);
        if let Remains::Nothing = *remains {
            return Ok(passed_on(inputs, gradient));
        }
        let kept: Option<Buffer<R>> = self.half.take();
        let part = self.half.part(&remains, parameters.data);
        let op = self.of(c, Grid::new(h, w), &part);
        let projected = kept.unwrap_or_else(|| held(&op.expand, x));
        let (dx, dp) = op.backward(x, projected, gradient.data);
        Ok(vec![dx, remains.expand(dp)])
    }
}

impl Operator for FeedForwardOp {
    const NAME: &'static str = "feed_forward";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        match self.half.mode.precision() {
            Precision::Full => self.forward_stored::<T, T>(inputs),
            Precision::BFloat16 => self.forward_stored::<T, bf16>(inputs),
        }
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        match self.half.mode.precision() {
            Precision::Full => self.backward_stored::<T, T>(inputs, gradient),
            Precision::BFloat16 => self.backward_stored::<T, bf16>(inputs, gradient),
        }
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let Some(op) = self.of_cuda(inputs)? else {
            return inputs[0].cast(self.half.mode.dtype());
        };
        let [y, projected] = op.forward()?;
        self.half.put(projected);
        Ok(y)
    }

    fn backward_cuda(mut self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let Some(op) = self.of_cuda(inputs)? else {
            return passed_on_cuda(inputs, gradient);
        };
        let remains = self.remains(op.dim());
        let projected = self.half.take().map_or_else(|| op.project(), Ok)?;
        let [dx, dp] = op.backward(projected, gradient)?;
        Ok(vec![dx.cast(inputs[0].dtype())?, remains.expand_cuda(dp)?])
    }
}

/// The gradients of a half that passes its input on.
fn passed_on<T: Real>(inputs: &[View<T>], gradient: View<T>) -> Vec<Vec<T>> {
    let parameters = inputs[1].data;
    vec![copy(gradient.data), zeros(parameters.len())]
}

/// The same on a GPU.
fn passed_on_cuda(inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
    let [x, parameters] = [inputs[0], inputs[1]];
    Ok(vec![
        gradient.cast(x.dtype())?,
        Array::zeros(x.gpu(), parameters.shape())?,
    ])
}

fn check_parameters(name: &str, shape: &[usize], expected: usize) -> Result<()> {
    if shape == [expected] {
        return Ok(());
    }
    Err(Error::value(format!(
        "{name}: parameters of shape {shape:?} instead of [{expected}]"
    )))
}
