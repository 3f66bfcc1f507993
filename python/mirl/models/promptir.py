"""PromptIR, the network of MIR-L."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirl.checks import whole
from mirl.models.network import Network
from mirl.models.sizes import checked, checked_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirl.choices import Device


class PromptIR(Network, architecture="PromptIR"):
    """PromptIR (Potlapalli et al., NeurIPS 2023, arXiv 2306.13090), the network of MIR-L.

    Restormer's encoder and decoder with prompts that the decoder's features pick. With the published
    sizes it has 548 tensors and 35,592,263 parameters, named as in the published checkpoints.

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
        Attention heads of the four levels. The blocks on the prompts use those of level 3.
    ffn_expansion_factor
        Hidden channels of the feed-forward networks: ``int(channels * factor)``.
    prompt_dims, prompt_sizes
        Channels, and height and width, of the prompts of levels 1 to 3.
    prompt_len
        Prompts of each level.
    device
        Where the network runs; see `mirl.devices`.

    Raises
    ------
    ValueError
        Sizes that are zero or that do not split into heads; an unknown device.
    TypeError
        Sizes that are not whole numbers.
    mirl.errors.DeviceError
        A device that is not there.

    Examples
    --------
    >>> import numpy as np, mirl
    >>> model = mirl.PromptIR(
    ...     dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1,
    ...     prompt_dims=(8, 16, 40), prompt_sizes=(8, 4, 2),
    ... )
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
        prompt_dims: Sequence[int] = (64, 128, 320),
        prompt_sizes: Sequence[int] = (64, 32, 16),
        prompt_len: int = 5,
        device: Device = "cpu",
    ) -> None:
        sizes = checked(dim, num_blocks, heads, ffn_expansion_factor)
        sizes["num_refinement_blocks"] = whole("num_refinement_blocks", num_refinement_blocks)
        sizes |= checked_prompts(prompt_dims, prompt_sizes, prompt_len)
        self._initialise("PromptIR", sizes, seed, device)
