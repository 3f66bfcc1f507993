"""Networks: what all have in common, and a file for each."""

from mirl.models.dynet import DyNet
from mirl.models.network import (
    NETWORKS,
    PACKED_SUFFIX,
    Density,
    Network,
    Snapshot,
    check_model,
    preset_choice,
)
from mirl.models.promptir import PromptIR
from mirl.models.restormer import Restormer
from mirl.models.symunet import SymUNet

__all__ = [
    "NETWORKS",
    "PACKED_SUFFIX",
    "Density",
    "DyNet",
    "Network",
    "PromptIR",
    "Restormer",
    "Snapshot",
    "SymUNet",
    "check_model",
    "preset_choice",
]
