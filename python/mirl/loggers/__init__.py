"""What is told about a run while it runs."""

from mirl.loggers.base import Logger, default_loggers
from mirl.loggers.jsonl import JsonLines
from mirl.loggers.progress import ProgressBars
from mirl.loggers.tensorboard import TensorBoard
from mirl.loggers.wandb import WeightsAndBiases

__all__ = [
    "JsonLines",
    "Logger",
    "ProgressBars",
    "TensorBoard",
    "WeightsAndBiases",
    "default_loggers",
]
