"""SymUNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirl.models.network import Network
from mirl.models.sizes import checked, checked_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirl.choices import Device, LayerNorm


class SymUNet(Network, architecture="SymUNet"):
    """SymUNet (Jiao et al. 2025, arXiv 2512.10581): Restormer's blocks in a symmetric U-Net.

    The decoder has the widths and depths of the encoder, and adds to its features those of the
    encoder. With the published sizes it has 453 tensors and 22,288,827 parameters, named
    as in the published code. Of the paper's two networks it is the one without CLIP.

    Parameters
    ----------
    seed
        Seed of the initial values, PyTorch's defaults for each kind of layer. Every parameter draws
        from a stream of its own that follows from the seed and its name.
    dim
        Channels of the first level, the published ``width``; each further level doubles them.
    num_blocks
        Transformer blocks of the three levels, for the encoder as for the decoder, and in the middle:
        the published ``enc_blk_nums`` and ``middle_blk_num``.
    heads
        Attention heads of the three levels, and in the middle: ``restormer_heads`` and
        ``restormer_middle_heads``.
    ffn_expansion_factor
        Hidden channels of the feed-forward networks: ``int(channels * factor)``.
    layer_norm
        As in `mirl.Restormer`; the published one is ``"WithBias"``.
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

    Notes
    -----
    The published code pads images to multiples of 32, four times as much as its levels halve, and so
    does this one (`multiple`).

    Examples
    --------
    >>> import numpy as np, mirl
    >>> model = mirl.SymUNet(dim=8, num_blocks=(1, 1, 1, 1))
    >>> model(np.zeros((1, 3, 20, 33), np.float32)).shape
    (1, 3, 20, 33)
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        heads: Sequence[int] = (1, 2, 4, 8),
        ffn_expansion_factor: float = 2.66,
        layer_norm: LayerNorm = "WithBias",
        device: Device = "cpu",
    ) -> None:
        sizes = checked(dim, num_blocks, heads, ffn_expansion_factor)
        self._initialise("SymUNet", sizes | {"layer_norm": checked_norm(layer_norm)}, seed, device)
