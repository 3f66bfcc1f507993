"""Words that settings may be: a type checker knows them, and refuses others."""

from typing import get_args

import pytest

from mirl.choices import CriterionName
from mirl.criteria import CRITERIA

CALLS = {
    "mirl.PromptIR(device={})": ("cpu", "gpu"),
    "mirl.Trainer(model, loss={})": ("fft-l1", "fft_l1"),
    "mirl.Trainer(model, loss={{{}: 1.0}})": ("ssim", "sim"),
    "mirl.Trainer(model, recompute={})": ("block", "blocks"),
    "mirl.Trainer(model, precision={})": ("bfloat16", "bf16"),
    "mirl.Loader.from_images([], augment={})": ("paper-code", "some"),
    "mirl.Loader.from_images([], on_error={})": ("skip", "ignore"),
    "mirl.prune(model, 0.5, {})": ("erk", "local"),
    "mirl.prune(model, criterion={})": ("snip", "snipe"),
    "mirl.prune(model, of={})": ("all", "both"),
    "mirl.rewind(model, {{}}, preset={})": ("paper-code", "paper"),
    "mirl.find_ticket(model, [], criterion={})": ("movement", "move"),
    "mirl.find_ticket(model, [], pruning={})": ("one-shot", "oneshot"),
    "mirl.find_ticket(model, [], rewind={})": ("fine-tune", "finetune"),
    "mirl.find_ticket(model, [], control={})": ("shuffle", "shuffled"),
    "mirl.find_ticket(model, [], schedule={})": ("epoch", "epochs"),
    "mirl.set_float32_matmul_precision({})": ("high", "medium"),
}
"""Calls, and a word that is one and one that is none."""


def test_misspelt_words_are_refused(tmp_path):
    api = pytest.importorskip("mypy.api")
    path = tmp_path / "script.py"
    before = ["import mirl", "model = mirl.PromptIR()"]
    right, wrong = ([call.format(repr(pair[i])) for call, pair in CALLS.items()] for i in (0, 1))
    path.write_text("\n".join([*before, *right, *wrong]))
    settings = ["--strict", "--config-file=", "--follow-imports=silent", "--no-error-summary"]
    said, failed, _ = api.run([*settings, f"--cache-dir={tmp_path / 'cache'}", str(path)])
    assert not failed, failed
    refused = {int(line.split(":")[1]) for line in said.splitlines() if ": error:" in line}
    first = len(before) + len(right) + 1
    assert refused == set(range(first, first + len(wrong))), said


def test_types_name_all_criteria():
    assert get_args(CriterionName) == tuple(CRITERIA)
