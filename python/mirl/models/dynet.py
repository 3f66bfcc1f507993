"""DyNet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mirl.checks import whole, wholes
from mirl.models.network import Network
from mirl.models.sizes import checked, checked_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirl.choices import Device


class DyNet(Network, architecture="DyNet"):
    """DyNet (Dudhane et al. 2024, arXiv 2404.02154): PromptIR with shared blocks.

    Each level of the encoder and of the decoder has one transformer block, applied as often as the
    level is deep; prompts go to what the encoder passes on to the decoder. With the published sizes
    it has 182 tensors and 16,726,031 parameters, named as in the published code.

    Parameters
    ----------
    seed
        Seed of the initial values, PyTorch's defaults for each kind of layer. Every parameter draws
        from a stream of its own that follows from the seed and its name.
    dim
        Channels of the first level, an even number; each further level doubles them.
    num_blocks
        How often each of the four levels applies its block, the latent one last: the published
        ``reuse_freq``. By default that of the large network, DyNet-L; the small one, DyNet-S, has
        ``(2, 3, 3, 4)``.
    num_refinement_blocks
        Transformer blocks after the decoder, each with weights of its own.
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

    Notes
    -----
    No parameter depends on `num_blocks`: the large and the small network have the same state dict. One
    that is read, of a published checkpoint say, is taken for the large one's. Checkpoints of a
    `Trainer` and ``masks_of`` of `mirl.find_ticket` are for one of them: set `num_blocks` before.

    Examples
    --------
    >>> import mirl
    >>> model = mirl.DyNet(dim=8, prompt_dims=(8, 16, 40), prompt_sizes=(8, 4, 2))
    >>> model.num_blocks
    (4, 6, 6, 8)
    >>> model.num_blocks = (2, 3, 3, 4)  # the small one from here on
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
        self._initialise("DyNet", sizes, seed, device)

    @property
    def num_blocks(self) -> tuple[int, ...]:
        """How often each of the four levels applies its block, the latent one last.

        May be set at any time, between two steps of a `Trainer`, too: parameters and masks stay.

        Raises
        ------
        ValueError, TypeError
            Set to something else than four whole numbers from 1. Nothing is changed then.
        """
        return tuple(self.config["num_blocks"])

    @num_blocks.setter
    def num_blocks(self, num_blocks: Sequence[int]) -> None:
        sizes = {"num_blocks": wholes("num_blocks", num_blocks, 4)}
        self._network.resize(json.dumps(self.config | sizes))
