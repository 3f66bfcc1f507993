"""What dead channels leave of a pruned network's blocks when the rest is computed densely, as on a GPU.

Counted from the masks, not timed: multiplications of the products, and values that kernels and products
read and write, each as a share of the dense network's. Tickets are those of full_ticket.py.

    python benchmarks/remains.py --tickets /tmp/tickets
"""

from __future__ import annotations

import argparse
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
}
"""Of height and width, where a level's blocks work."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tickets", type=Path, required=True)
    arguments = parser.parse_args()
    for scope in SCOPES:
        for density in DENSITIES[1:]:
            model = network(arguments.tickets, f"{scope} {density}")
            products, moved = remains(model) / remains(mirl.PromptIR(**model.config))
            print(f"{scope:10}{density:7.2%}  products {products:.2f}  values moved {moved:.2f}")


def remains(model: mirl.PromptIR) -> NDArray[np.float64]:
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
            total += found / 4 ** HALVINGS[block.split(".")[0]]
    return total


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
