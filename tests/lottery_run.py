"""A small run in a process of its own, to be killed: `python lottery_run.py FOLDER`."""

import signal
import sys

import numpy as np

import mirl
from reference import SMALL


class Noise:
    """Three batches an epoch that follow from its number."""

    def __len__(self):
        return 3

    def describe(self):
        return {"seed": 5}

    def tasks(self, epoch, batch):
        return ["rain", "haze"]

    def epoch(self, epoch, start=0):
        for step in range(start, 3):
            rng = np.random.default_rng([5, epoch, step])
            clean = rng.random((2, 3, 16, 16), np.float32)
            noise = 0.1 * rng.standard_normal(clean.shape, np.float32)
            yield np.clip(clean + noise, 0, 1), clean


class StopError(Exception):
    """What stops a run on purpose."""


def stop(_):
    raise StopError


def quality(model):
    grey = model(np.full((1, 3, 8, 8), 0.5, np.float32))
    return {"noise": {"psnr": float(np.abs(grey).mean()), "ssim": float(grey.std())}}


def run(out, data=None, **changes):
    settings = {"rounds": 2, "epochs": 2, "amount": 0.3, "lr": 1e-3, "evaluate": quality}
    settings |= {"checkpoint_seconds": 0.0, "loggers": (), "out": out}
    return mirl.find_ticket(mirl.PromptIR(seed=3, **SMALL), data or Noise(), **(settings | changes))


if __name__ == "__main__":
    # A shell starts background jobs with Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(sys.argv[1])
