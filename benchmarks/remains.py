"""What masks leave of a network, counted and not timed, as shares of the dense network's.

By dead channels alone, when the rest is computed densely as on a GPU: multiplications of the
blocks' products, and values that kernels and products read and write there. And by every weight:
multiplications of the whole network where each living weight of a 1x1 or 3x3 convolution takes one
for each pixel, and scores, attention times values and taps are dense. Tickets are those of
full_ticket.py; without them initial weights are pruned.

    python benchmarks/remains.py --tickets /tmp/tickets
    python benchmarks/remains.py
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mirl
from full_ticket import DENSITIES
from sparse import SCOPES, network

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

HALVINGS = {
    "encoder_level1": 0,
    "decoder_level1": 0,
    "refinement": 0,
    "encoder_level2": 1,
    "decoder_level2": 1,
    "noise_level1": 1,
    "encoder_level3": 2,
    "decoder_level3": 2,
    "noise_level2": 2,
    "latent": 3,
    "noise_level3": 3,
    # SymUNet's
    "encoders.0": 0,
    "decoders.2": 0,
    "encoders.1": 1,
    "decoders.1": 1,
    "encoders.2": 2,
    "decoders.0": 2,
    "middle_blks": 3,
}
"""Of height and width, where a level's blocks work."""
BESIDES = {
    "patch_embed": 0,
    "down1_2": 0,
    "output": 0,
    "down2_3": 1,
    "up2_1": 1,
    "prompt1": 1,
    "reduce_noise_level1": 1,
    "reduce_chan_level2": 1,
    "down3_4": 2,
    "up3_2": 2,
    "prompt2": 2,
    "reduce_noise_level2": 2,
    "reduce_chan_level3": 2,
    "up4_3": 3,
    "prompt3": 3,
    "reduce_noise_level3": 3,
    # SymUNet's
    "intro": 0,
    "ending": 0,
    "downs.0": 1,
    "ups.2": 1,
    "downs.1": 2,
    "ups.1": 2,
    "downs.2": 3,
    "ups.0": 3,
}
"""The same of the convolutions beside the blocks that the forward uses."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tickets", type=Path)
    arguments = parser.parse_args()
    for scope in SCOPES:
        for density in DENSITIES[1:]:
            if arguments.tickets is None:
                model = mirl.PromptIR(seed=1)
                mirl.prune(model, 1 - density, scope)
            else:
                model = network(arguments.tickets, f"{scope} {density}")
            dense = type(model)(**model.config)
            products, moved = remains(model) / remains(dense)
            by_weight = multiplications(model) / multiplications(dense)
            print(
                f"{scope:10}{density:7.2%}  by channels: products {products:.2f},"
                f" values moved {moved:.2f}  by weights: {by_weight:.2f}"
            )


def level_of(name: str, halvings: dict[str, int]) -> int | None:
    """How often the place of a parameter is halved; none where the forward never uses it."""
    first, second, *_ = name.split(".")
    return halvings.get(first, halvings.get(f"{first}.{second}"))


def multiplications(model: mirl.Network) -> float:
    """Those of the whole network by living weights, for each pixel of the image."""
    masks, halvings = model.mask, HALVINGS | BESIDES
    total = 0.0
    for name, shape in model.shapes.items():
        level = level_of(name, halvings)
        if level is None:
            continue
        count = 0
        if name.endswith(".attn.temperature"):
            # Scores and attention times values, head by head.
            dim = model.shapes[name.replace("temperature", "project_out.weight")][0]
            count = 2 * dim * dim // shape[0]
        elif len(shape) == 4 and name.endswith("weight"):
            alive = name in masks and "dwconv" not in name
            count = int(masks[name].sum()) if alive else math.prod(shape)
        total += count * times(model, name) / 4**level
    return total


def remains(model: mirl.Network) -> NDArray[np.float64]:
    """Multiplications and values moved in all blocks, for each pixel of the image."""
    masks = model.mask

    def part(name: str) -> NDArray[np.bool_]:
        mask = masks.get(name)
        return np.ones(model.shapes[name], bool) if mask is None else mask

    suffix = ".ffn.project_in.weight"
    total = np.zeros(2)
    for name in model.shapes:
        if name.endswith(suffix):
            block = name.removesuffix(suffix)
            found = block_remains(lambda key, block=block: part(f"{block}.{key}.weight"))
            total += found * times(model, name) / 4 ** level_of(name, HALVINGS)
    return total


def times(model: mirl.Network, name: str) -> int:
    """How often a parameter is applied: in DyNet as often as its level has its block."""
    level = name.split(".")[0]
    shared = level.startswith(("encoder", "decoder", "latent"))
    if not (isinstance(model, mirl.DyNet) and shared):
        return 1
    return model.num_blocks[HALVINGS[level]]


def block_remains(part: Callable[[str], NDArray[np.bool_]]) -> NDArray[np.float64]:
    """The same of one block, for each of its pixels."""

    def alive(expand: str, taps: str) -> NDArray[np.bool_]:
        return part(expand).any((1, 2, 3)) & part(taps).any((1, 2, 3))

    dim = part("attn.project_out").shape[0]
    v = int(alive("attn.qkv", "attn.qkv_dwconv")[2 * dim :].sum())
    v *= int(part("attn.project_out").any())
    first, second = np.split(alive("ffn.project_in", "ffn.dwconv"), 2)
    hidden = int((first & second & part("ffn.project_out").any((0, 2, 3))).sum())
    products = 3 * hidden * dim
    moved = 6 * hidden + 2 * dim * (hidden > 0)
    if v > 0:
        products += (2 * dim + v) * dim + dim * dim + dim * v
        moved += 3 * (2 * dim + v) + 2 * dim
    return np.array([products, moved], float)


if __name__ == "__main__":
    main()
