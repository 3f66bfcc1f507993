"""Restormer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirl.checks import whole
from mirl.models.network import Network
from mirl.models.sizes import checked, checked_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirl.choices import Device, LayerNorm


class Restormer(Network, architecture="Restormer"):
    """Restormer (Zamir et al., CVPR 2022, arXiv 2111.09881), which PromptIR is made of.

    An encoder and a decoder of transformer blocks over four resolutions. With the published sizes it
    has 494 tensors and 26,126,644 parameters, named as in the published checkpoints; without biases
    in its layer norms 406 and 26,111,668.

    Parameters
    ----------
    seed
        Seed of the initial values, PyTorch's defaults for each kind of layer. Every parameter draws
        from a stream of its own that follows from the seed and its name.
    dim
        Channels of the first level, an even number; each further level doubles them.
    num_blocks
        Transformer blocks of the four levels, the latent one last.
    num_refinement_blocks
        Transformer blocks after the decoder.
    heads
        Attention heads of the four levels.
    ffn_expansion_factor
        Hidden channels of the feed-forward networks: ``int(channels * factor)``.
    layer_norm
        ``"WithBias"``, γ (x - μ) / √(σ² + 1e-5) + β, as the published weights of deraining and
        deblurring have it; or ``"BiasFree"``, γ x / √(σ² + 1e-5), as those of denoising.
    device
        Where the network runs; see `mirl.devices`.

    Raises
    ------
    ValueError
        Sizes that are zero or that do not split into heads; an unknown layer norm or device.
    TypeError
        Sizes that are not whole numbers.
    mirl.errors.DeviceError
        A device that is not there.

    Examples
    --------
    >>> import numpy as np, mirl
    >>> model = mirl.Restormer(dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1)
    >>> model(np.zeros((1, 3, 20, 33), np.float32)).shape
    (1, 3, 20, 33)
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        num_refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        ffn_expansion_factor: float = 2.66,
        layer_norm: LayerNorm = "WithBias",
        device: Device = "cpu",
    ) -> None:
        sizes = checked(dim, num_blocks, heads, ffn_expansion_factor) | {
            "num_refinement_blocks": whole("num_refinement_blocks", num_refinement_blocks),
            "layer_norm": checked_norm(layer_norm),
        }
        self._initialise("Restormer", sizes, seed, device)
