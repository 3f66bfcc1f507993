"""Patches that grow by stages."""

import json

import pytest

import mirl
from mirl.data import Progressive
from planes import bits


def test_patches_grow_by_stages(images):
    def loader(size, batch):
        return mirl.Loader.from_images(
            images, tasks=("denoise",), patch_size=size, batch_size=batch
        )

    stages = [(2, loader(8, 4)), (1, loader(16, 2))]
    data = Progressive(stages)
    assert (data.epochs, len(data)) == (3, min(len(one) for _, one in stages))
    sizes = [[degraded.shape[0::2] for degraded, _ in data.epoch(epoch)] for epoch in range(4)]
    assert sizes == [len(data) * [shape] for shape in ((4, 8), (4, 8), (2, 16), (4, 8))]
    assert bits(data.epoch(2, 1)) == bits(list(stages[1][1].epoch(2))[1 : len(data)])
    # The second time through the stages other patches are drawn.
    assert bits(data.epoch(3)) == bits(list(stages[0][1].epoch(3))[: len(data)])
    assert data.tasks(2, 0) == ["denoise", "denoise"]
    assert json.loads(json.dumps(data.describe())) == data.describe()
    assert repr(data).startswith("Progressive([(2, Loader(")
    settings = [{"epochs": 2, "patch_size": 8, "batch_size": 4}, {"epochs": 1, "patch_size": 16}]
    made = Progressive.from_images(images, settings, tasks=("denoise",), batch_size=2)
    assert bits(made.epoch(2)) == bits(data.epoch(2))
    for wrong, error, message in (
        ([], ValueError, "stages must be one or more"),
        ([(0, stages[0][1])], ValueError, "epochs of a stage must be at least 1, got 0"),
        ([(1, images)], TypeError, r"a stage needs a mirl\.Loader, got list"),
    ):
        with pytest.raises(error, match=message):
            Progressive(wrong)


def test_epochs_that_are_not_whole_are_refused_at_once(images):
    loader = mirl.Loader.from_images(images, tasks=("denoise",), patch_size=8)
    for epochs in (1.5, "1"):
        with pytest.raises(TypeError, match=f"epochs of a stage .* {epochs!r}"):
            Progressive([(epochs, loader)])
