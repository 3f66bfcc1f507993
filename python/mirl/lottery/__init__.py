"""The lottery-ticket experiment: rounds of training, pruning and rewinding."""

from mirl.lottery.loop import Result, find_ticket
from mirl.lottery.recipe import Recipe

__all__ = ["Recipe", "Result", "find_ticket"]
