"""The folder of a run: one run at a time in it, and always the same."""

import errno
import json
import os

import pytest

import mirl
from lottery_run import Noise, StopError, run, stop
from mirl.lottery.folder import SETTINGS, RunFolder
from reference import SMALL


def test_initial_values_of_another_run_are_refused(tmp_path):
    with pytest.raises(StopError):
        run(tmp_path, evaluate=stop)
    mirl.PromptIR(seed=4, **SMALL).save(tmp_path / "initial.safetensors")
    with pytest.raises(mirl.errors.FormatError, match="not the values that this run began with"):
        run(tmp_path)


def test_the_checkpoint_of_another_run_is_refused(tmp_path):
    for name, seed in (("first", 1), ("second", 2)):
        with pytest.raises(StopError):
            _of_seed(tmp_path / name, seed, evaluate=stop)
    checkpoint = tmp_path / "first" / "checkpoint.safetensors"
    checkpoint.write_bytes((tmp_path / "second" / "checkpoint.safetensors").read_bytes())
    with pytest.raises(mirl.errors.FormatError, match=r"checkpoint.*began with other values"):
        _of_seed(tmp_path / "first", 1)


def _of_seed(out, seed, **settings):
    model = mirl.PromptIR(seed=seed, **SMALL)
    settings = {"rounds": 0, "out": out, "loggers": (), **settings}
    return mirl.find_ticket(model, Noise(), **settings)


def test_the_network_of_a_finished_round_that_is_missing_is_named(tmp_path):
    run(tmp_path, rounds=1, epochs=1)
    (tmp_path / "round_00.mirl.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"its round is done.*round_00\.mirl"):
        run(tmp_path, rounds=1, epochs=1)


@pytest.mark.parametrize("begun", [True, False])
def test_a_run_clears_its_own_temporary_files_alone(tmp_path, begun):
    if begun:
        run(tmp_path, rounds=0, epochs=1)
    own = [".mirl-12-0.tmp", ".mirl-12-3.tmp.json", ".tmpTayfyn"]
    others = [".my-tmp-notes.txt", ".tmp.txt", ".notes.tmp", ".tmpnotes12"]
    for name in own + others:
        (tmp_path / name).write_text("x")
    (tmp_path / ".tmpFolder").mkdir()
    run(tmp_path, rounds=0, epochs=1)
    left = {path.name for path in tmp_path.glob(".*")}
    assert left == {".lock", ".tmpFolder", *others}


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EIO])
def test_a_file_system_without_locks_has_runs_all_the_same(tmp_path, monkeypatch, code):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    if code == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(code)):
            run(tmp_path, rounds=0, epochs=1)
    else:
        assert len(run(tmp_path, rounds=0, epochs=1).rounds) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # other threads than ours
@pytest.mark.parametrize("released", [True, False])
def test_a_forked_process_does_not_keep_the_lock(tmp_path, released):
    """Neither after the run, nor where the process that was at it was killed."""
    folder = RunFolder(tmp_path)
    folder._lock()
    ready, hold = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        folder.release()  # as the end of a run does: not the child's to do
        os.write(ready[1], b"x")
        os.read(hold[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        with pytest.raises(BlockingIOError):
            RunFolder(tmp_path)._lock()
        if released:
            folder.release()
        else:
            os.close(folder._held.fileno())  # as the system does where it is killed
        other = RunFolder(tmp_path)
        other._lock()
        other.release()
    finally:
        os.write(hold[1], b"x")
        os.waitpid(child, 0)
        for end in (*ready, *hold):
            os.close(end)
        if not released:
            with pytest.raises(OSError, match="descriptor"):
                folder._held.close()


@pytest.mark.parametrize("text", ["{}", "5", '{"recipe": {}, "network": {}}', "[]", "\xff"])
def test_a_recipe_that_is_none_is_named(tmp_path, text):
    (tmp_path / "recipe.json").write_text(text, encoding="latin-1")
    for settings in ({"out": tmp_path}, {"out": None, "masks_of": tmp_path}):
        with pytest.raises(mirl.errors.FormatError, match=r"recipe\.json: no recipe of a run"):
            run(**settings)


def test_two_processes_cannot_share_a_run(whole):
    folder = mirl.lottery.folder.RunFolder(whole[0])
    folder.claim(json.loads(folder.recipe.read_text()))
    try:
        with pytest.raises(BlockingIOError, match="another process"):
            run(whole[0])
    finally:
        folder.release()
    run(whole[0])


def test_of_two_that_begin_at_once_the_second_waits_outside(tmp_path):
    """Nothing is looked at, and nothing written, before the lock is held."""
    first = RunFolder(tmp_path)
    first._lock()
    try:
        with pytest.raises(BlockingIOError, match="another process"):
            run(tmp_path)
        assert not first.recipe.exists()
    finally:
        first.release()


class Ordered(Noise):
    """Tells its tasks in an order."""

    def __init__(self, *tasks):
        self.order = tasks

    def describe(self):
        return {"seed": 5, "tasks": dict.fromkeys(self.order, 3)}


def test_the_order_of_tasks_is_of_the_run(tmp_path):
    """Samples follow it, though JSON's objects have none."""
    run(tmp_path, data=Ordered("rain", "haze"), rounds=0)
    run(tmp_path, data=Ordered("rain", "haze"), rounds=0)
    message = r"the order of data\.tasks is \['rain', 'haze'\] there and \['haze', 'rain'\] here"
    with pytest.raises(ValueError, match=message):
        run(tmp_path, data=Ordered("haze", "rain"), rounds=0)


def test_stages_that_differ_are_named_one_by_one(tmp_path):
    folder = RunFolder(tmp_path)
    stages = [{"size": 16, "tasks": {"rain": 1, "haze": 1}}, {"size": 24, "tasks": {"rain": 1}}]
    described = {"recipe": dict.fromkeys(SETTINGS) | {"rounds": 1}, "network": {}}
    folder.claim(described | {"data": {"stages": stages}})
    folder.release()
    other = [{"size": 16, "tasks": {"haze": 1, "rain": 1}}, {"size": 32, "tasks": {"rain": 1}}]
    try:
        with pytest.raises(ValueError, match="holds another run") as caught:
            folder.claim(described | {"data": {"stages": other}})
    finally:
        folder.release()
    assert "data.stages[1].size is 24 there and 32 here" in str(caught.value)
    assert "the order of data.stages[0].tasks" in str(caught.value)
