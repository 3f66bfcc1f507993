"""The lottery-ticket lab: runs, their controls, sweeps of them, and what they say."""

from mirl.lottery.analysis import (
    Connectivity,
    Overlap,
    dense_sizes,
    linear_connectivity,
    mask_overlap,
    mask_stability,
    overlap_matrix,
)
from mirl.lottery.experiment import Experiment
from mirl.lottery.loop import Result, find_ticket
from mirl.lottery.recipe import Recipe
from mirl.lottery.report import report
from mirl.lottery.results import differences, results, save_results, summary
from mirl.lottery.sweep import Sweep

__all__ = [
    "Connectivity",
    "Experiment",
    "Overlap",
    "Recipe",
    "Result",
    "Sweep",
    "dense_sizes",
    "differences",
    "find_ticket",
    "linear_connectivity",
    "mask_overlap",
    "mask_stability",
    "overlap_matrix",
    "report",
    "results",
    "save_results",
    "summary",
]
