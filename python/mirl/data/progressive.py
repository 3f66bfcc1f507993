"""Patches that grow during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mirl.checks import whole
from mirl.data.loader import Loader

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray


class Progressive:
    """Loaders that follow each other: larger patches in smaller batches towards the end.

    Progressive learning (Zamir et al., Restormer, CVPR 2022, section 3.3).

    Parameters
    ----------
    stages
        Each a number of epochs and the `Loader` that they take. After the last stage the first
        follows, so that every round of `mirl.find_ticket` goes through all of them where its
        `epochs` are their sum.

    Raises
    ------
    ValueError
        No stage, or one without an epoch.
    TypeError
        Epochs that are not a whole number, or not a `Loader`.
    """

    def __init__(self, stages: Sequence[tuple[int, Loader]]) -> None:
        if not stages:
            raise ValueError("stages must be one or more")
        self.stages: list[tuple[int, Loader]] = []
        for epochs, loader in stages:
            if not isinstance(loader, Loader):
                raise TypeError(f"a stage needs a mirl.Loader, got {type(loader).__name__}")
            self.stages.append((whole("epochs of a stage", epochs, 1), loader))

    def __repr__(self) -> str:
        return f"Progressive({self.stages!r})"

    @classmethod
    def from_folder(
        cls, root: str | os.PathLike[str], stages: Sequence[Mapping[str, Any]], **settings: Any
    ) -> Progressive:
        """Stages of one folder in the published layout.

        Parameters
        ----------
        root
            See `Loader.from_folder`.
        stages
            Of each its ``epochs``, and what differs: ``{"epochs": 2, "patch_size": 128,
            "batch_size": 4}``.
        **settings
            What `Loader.from_folder` takes, of all stages.

        Returns
        -------
        Progressive
            A loader for each stage.

        Raises
        ------
        ValueError
            A stage without epochs, and whatever `Loader.from_folder` refuses.
        """
        return cls._of(Loader.from_folder, root, stages, settings)

    @classmethod
    def from_images(
        cls,
        images: Iterable[NDArray[np.uint8]],
        stages: Sequence[Mapping[str, Any]],
        **settings: Any,
    ) -> Progressive:
        """Stages of clean images in memory: as `from_folder`, with `Loader.from_images`.

        Parameters
        ----------
        images
            uint8 arrays (H, W, 3).
        stages, **settings
            See `from_folder`.

        Returns
        -------
        Progressive
            A loader for each stage.

        Raises
        ------
        TypeError, ValueError
            A stage without epochs, and whatever `Loader.from_images` refuses.
        """
        return cls._of(Loader.from_images, list(images), stages, settings)

    @classmethod
    def _of(
        cls,
        make: Callable[..., Loader],
        source: Any,
        stages: Sequence[Mapping[str, Any]],
        settings: dict[str, Any],
    ) -> Progressive:
        made = []
        for index, stage in enumerate(stages):
            if "epochs" not in stage:
                raise ValueError(f"stage {index} of stages has no epochs")
            differing = {name: value for name, value in stage.items() if name != "epochs"}
            made.append((stage["epochs"], make(source, **settings | differing)))
        return cls(made)

    @property
    def epochs(self) -> int:
        """The epochs of all stages."""
        return sum(epochs for epochs, _ in self.stages)

    def __len__(self) -> int:
        """Batches of an epoch, the same in all stages.

        Returns
        -------
        int
            Those of the loader that has the fewest, mostly the one of the largest batches; of the
            others the rest of the epoch is left out.
        """
        return min(len(loader) for _, loader in self.stages)

    def epoch(
        self, epoch: int, start: int = 0
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Go through one epoch of its stage.

        Parameters
        ----------
        epoch, start
            Numbers from 0; after the last stage the first follows.

        Yields
        ------
        degraded, clean : numpy.ndarray
            As of `Loader.epoch`.

        Raises
        ------
        ValueError, OSError
            Those of `Loader.epoch`.
        """
        batches = self._loader(epoch).epoch(epoch, start)
        for _, batch in zip(range(start, len(self)), batches, strict=False):
            yield batch

    def tasks(self, epoch: int, batch: int) -> list[str]:
        """The task of each patch of a batch.

        Parameters
        ----------
        epoch, batch
            Numbers from 0.

        Returns
        -------
        list of str
            As of `Loader.tasks`.

        Raises
        ------
        ValueError
            No such batch.
        """
        return self._loader(epoch).tasks(epoch, batch)

    def describe(self) -> dict[str, Any]:
        """Tell what determines the patches, for the record of a run.

        Returns
        -------
        dict
            The seed of the first stage, and ``"stages"``: of each its epochs and what `Loader.describe`
            tells.
        """
        stages = [{"epochs": epochs, **loader.describe()} for epochs, loader in self.stages]
        return {"seed": stages[0]["seed"], "stages": stages}

    def _loader(self, epoch: int) -> Loader:
        place = epoch % self.epochs
        for epochs, loader in self.stages:
            if place < epochs:
                return loader
            place -= epochs
        raise AssertionError("an epoch lies in a stage")
