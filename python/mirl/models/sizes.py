"""Sizes that several networks have, looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from mirl.checks import check_choice, finite, whole, wholes
from mirl.choices import LayerNorm

if TYPE_CHECKING:
    from collections.abc import Sequence


def checked(
    dim: int, num_blocks: Sequence[int], heads: Sequence[int], ffn_expansion_factor: float
) -> dict[str, Any]:
    """The sizes by name, each of its type; raises TypeError or ValueError for one that is not."""
    return {
        "dim": whole("dim", dim),
        "num_blocks": wholes("num_blocks", num_blocks, 4),
        "heads": wholes("heads", heads, 4),
        "ffn_expansion_factor": finite("ffn_expansion_factor", ffn_expansion_factor),
    }


def checked_prompts(
    prompt_dims: Sequence[int], prompt_sizes: Sequence[int], prompt_len: int
) -> dict[str, Any]:
    """Those of prompts, in the same way."""
    return {
        "prompt_dims": wholes("prompt_dims", prompt_dims, 3),
        "prompt_sizes": wholes("prompt_sizes", prompt_sizes, 3),
        "prompt_len": whole("prompt_len", prompt_len),
    }


def checked_norm(layer_norm: LayerNorm) -> LayerNorm:
    """The layer norm; raises ValueError for one that is not known."""
    check_choice("layer_norm", layer_norm, get_args(LayerNorm))
    return layer_norm
