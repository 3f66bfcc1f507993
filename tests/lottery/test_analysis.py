"""Overlap, connectivity, and dense networks of equal size."""

import numpy as np
import pytest

import mirl
from mirl.lottery import (
    dense_sizes,
    linear_connectivity,
    mask_overlap,
    mask_stability,
    overlap_matrix,
)
from reference import SMALL


def ticket(initial, amount=0.5, **settings):
    model = mirl.PromptIR(seed=initial, **SMALL)
    mirl.prune(model, amount, **settings)
    return model


def test_overlap_counts_shared_survivors():
    first, second = ticket(1), ticket(1, 0.75)
    found = mask_overlap(first, second)
    # What survives the harder pruning of the same weights survives the softer one.
    assert found.jaccard == pytest.approx(0.5, abs=1e-4)
    name = "latent.0.attn.qkv.weight"
    a, b = first.mask[name], second.mask[name]
    assert found.layers[name] == (a & b).sum() / (a | b).sum()
    assert mask_overlap(first, first).jaccard == 1
    unused = ticket(1, 0.5, include=("dead",), exclude=())
    for layers in (found.layers, mask_overlap(unused, unused).layers):
        assert not any(first._network.is_unused(name) for name in layers)
    # Σ n d² / Σ n (2 d - d²), whatever the masks share.
    alike = mirl.prune(first, 1e-9).layers
    expected = sum(layer.total * layer.density**2 for layer in alike)
    either = sum(layer.total * (2 * layer.density - layer.density**2) for layer in alike)
    assert mask_overlap(first, first).chance == pytest.approx(expected / either, rel=1e-6)


def test_masks_that_are_drawn_overlap_by_chance():
    first, second = (ticket(1, criterion="random", seed=seed) for seed in (1, 2))
    found = mask_overlap(first, second)
    assert found.jaccard == pytest.approx(found.chance, abs=0.005)
    assert found.chance == pytest.approx(1 / 3, abs=0.005)
    with pytest.raises(ValueError, match="different sizes"):
        mask_overlap(first, mirl.PromptIR(**(SMALL | {"dim": 16})))


def test_whatever_is_pruned_is_compared():
    first, second = (mirl.PromptIR(seed=1, **SMALL) for _ in range(2))
    weights = mask_overlap(first, second).layers
    mirl.prune(first, 0.9, include=("prompts", "biases"), criterion="random", seed=1)
    whole = mask_overlap(first, second)
    mirl.prune(second, 0.9, include=("prompts", "biases"), criterion="random", seed=2)
    found = mask_overlap(first, second)
    pruned = [found.layers[name] for name in first.mask]
    assert len(pruned) == len(found.layers) - len(weights) > 0
    assert np.mean(pruned) < 0.3
    assert whole.jaccard == pytest.approx(whole.chance)
    assert found.jaccard == pytest.approx(found.chance, abs=0.005)
    assert whole.jaccard < 1 > found.jaccard
    assert overlap_matrix({"a": first, "b": second})[0, 1] == found.jaccard


def test_the_matrix_is_symmetric():
    networks = {"a": ticket(1), "b": ticket(2), "c": ticket(1, 0.75)}
    matrix = overlap_matrix(networks)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 1)
    assert matrix[0, 2] == mask_overlap(networks["a"], networks["c"]).jaccard
    with pytest.raises(ValueError, match="different sizes"):
        overlap_matrix(networks | {"d": mirl.PromptIR(**(SMALL | {"dim": 16}))})


def test_connectivity_is_the_loss_on_the_line(batch):
    first, second = mirl.PromptIR(seed=1, **SMALL), mirl.PromptIR(seed=2, **SMALL)
    found = linear_connectivity(first, second, [batch, batch], points=5)
    np.testing.assert_array_equal(found.positions, [0, 0.25, 0.5, 0.75, 1])
    state = {
        name: (0.75 * a.astype(np.float64) + 0.25 * second.state_dict()[name]).astype(np.float32)
        for name, a in first.state_dict().items()
    }
    between = mirl.PromptIR.from_state_dict(state, {})
    loss = np.abs(between(batch[0]) - batch[1]).mean(dtype=np.float64)
    assert found.losses[1] == pytest.approx(loss, rel=1e-6)
    line = found.losses[0] + found.positions * (found.losses[-1] - found.losses[0])
    assert found.barrier == pytest.approx(max(found.losses - line), abs=1e-12)
    pruned = ticket(1)
    there, back = (
        linear_connectivity(*ends, [batch], points=2).losses
        for ends in ((first, pruned), (pruned, first))
    )
    np.testing.assert_array_equal(there, back[::-1])
    same = linear_connectivity(first, first, [batch], points=3)
    assert same.barrier == pytest.approx(0, abs=1e-7)
    with pytest.raises(ValueError, match="points"):
        linear_connectivity(first, second, [batch], points=1)
    with pytest.raises(ValueError, match="no batch"):
        linear_connectivity(first, second, [])
    with pytest.raises(ValueError, match="different sizes"):
        linear_connectivity(first, mirl.PromptIR(**(SMALL | {"dim": 16})), [batch])


@pytest.mark.parametrize("amount", [0.8, 0.97])
def test_a_dense_network_of_equal_size(amount):
    model = mirl.PromptIR(
        dim=24,
        num_blocks=(1, 1, 1, 1),
        num_refinement_blocks=1,
        prompt_dims=(32, 64, 160),
        prompt_sizes=(8, 4, 2),
    )
    mirl.prune(model, amount)
    wanted = model.density().all * model.num_parameters
    sizes = dense_sizes(model)
    dense = mirl.PromptIR(**sizes)
    assert sizes["num_blocks"] == [1, 1, 1, 1]
    assert sizes["dim"] < 24
    for dim in (sizes["dim"] - 2, sizes["dim"] + 2):
        prompts = [8 * round(dim / 24 * width / 8) for width in (32, 64, 160)]
        beside = mirl.PromptIR(**(sizes | {"dim": dim, "prompt_dims": prompts}))
        assert abs(dense.num_parameters - wanted) < abs(beside.num_parameters - wanted)
    assert dense(np.zeros((1, 3, 16, 16), np.float32)).shape == (1, 3, 16, 16)


def test_widths_that_do_not_split_into_heads_are_passed_over():
    sizes = {"dim": 16, "heads": (4, 4, 4, 8), "prompt_dims": (8, 16, 32)}
    model = mirl.PromptIR(**(SMALL | sizes))
    mirl.prune(model, 0.9)
    assert mirl.PromptIR(**dense_sizes(model)).num_parameters < model.num_parameters


def test_masks_are_compared_round_by_round(swept):
    ticket, control, other = (
        swept / name for name in ("mir-l-seed0", "reinit-seed0", "mir-l-seed1")
    )
    same = mask_stability(ticket, control)
    assert list(same) == [1, 2]
    assert all(overlap.jaccard == 1 for overlap in same.values())
    for overlap in mask_stability(ticket, other).values():
        assert overlap.jaccard == pytest.approx(overlap.chance, abs=0.05)
    with pytest.raises(FileNotFoundError, match="nothing"):
        mask_stability(ticket, swept / "nothing")
