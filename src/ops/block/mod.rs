//! The halves of a transformer block (Restormer, Zamir et al. 2022), each one operator over all its
//! parameters, so that strips of an image stay in cache from the layer norm to the residual sum.
//!
//! Images are in rows of channels, [n, h, c, w]; the parameters of a half are one vector.
//! - [`attention`] (eq. 1): y = x + W_o·A·v with [q, k, v] = D(W·LN(x)), q̂ = q/max(‖q‖, ε) over all
//!   pixels, k̂ likewise, A = softmax(τ·q̂·k̂ᵀ) per head, ε = 1e-12. Parameters [γ c, β c, τ heads,
//!   W 3c·c, taps 3c·9, W_o c·c]; no β where the layer norm has none.
//! - [`feed_forward`] (eq. 3): y = x + W_o·(gelu(a)·b) with [a, b] = D(W·LN(x)) and the exact
//!   gelu(a) = a·Φ(a). Parameters [γ c, β c, W 2e·c, taps 2e·9, W_o c·e].
//!
//! D is a depthwise 3×3 convolution with padding 1; LN the layer norm over channels, one of two
//! ([`LayerNorm`]), ε = 1e-5.
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
mod half;
mod heads;
mod hidden;
mod layout;
mod norm;
mod places;
mod stream;
#[cfg(test)]
mod tests;
mod whole;

use self::half::Half;
use self::heads::Heads;
use self::hidden::Hidden;
pub use self::norm::LayerNorm;
use self::whole::BlockOp;
use super::{Mode, Tensor, apply};
use crate::Result;

/// The attention half: x [n, h, c, w], parameters [4c² + 29c + heads], or c less.
pub fn attention(
    x: &Tensor,
    parameters: &Tensor,
    heads: usize,
    norm: LayerNorm,
    mode: Mode,
) -> Result<Tensor> {
    let half = Half::new(Heads(heads, norm), parameters, mode);
    apply(half, &[x, parameters])
}

/// The feed-forward half: x [n, h, c, w], parameters [3ec + 18e + 2c], or c less, for e hidden channels.
pub fn feed_forward(
    x: &Tensor,
    parameters: &Tensor,
    hidden: usize,
    norm: LayerNorm,
    mode: Mode,
) -> Result<Tensor> {
    let half = Half::new(Hidden(hidden, norm), parameters, mode);
    apply(half, &[x, parameters])
}

/// Both halves, of which `attention` is the parameters and the number of heads, `feed_forward` the parameters
/// and the number of hidden channels.
pub fn block(
    x: &Tensor,
    attention: (&Tensor, usize),
    feed_forward: (&Tensor, usize),
    norm: LayerNorm,
    mode: Mode,
) -> Result<Tensor> {
    let ((p, heads), (q, hidden)) = (attention, feed_forward);
    if mode.keeps() {
        let x = self::attention(x, p, heads, norm, mode)?;
        return self::feed_forward(&x, q, hidden, norm, mode);
    }
    let block = BlockOp {
        attention: Half::new(Heads(heads, norm), p, mode),
        feed_forward: Half::new(Hidden(hidden, norm), q, mode),
    };
    apply(block, &[x, p, q])
}
