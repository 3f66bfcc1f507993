"""Training patches and test sets, from folders in the published layout or from arrays."""

from mirl.data.degrade import SIGMAS, TASKS, degrade
from mirl.data.loader import PAPER_CODE_REPEATS, Loader
from mirl.data.pairs import write_pairs
from mirl.data.progressive import Progressive
from mirl.data.sets import Pair, TestSet, test_sets

__all__ = [
    "PAPER_CODE_REPEATS",
    "SIGMAS",
    "TASKS",
    "Loader",
    "Pair",
    "Progressive",
    "TestSet",
    "degrade",
    "test_sets",
    "write_pairs",
]
