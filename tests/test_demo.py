import json
import subprocess
import sys

import pytest

from mirl import demo

skimage = pytest.importorskip("skimage")


def test_no_scene_is_trained_on_and_tested():
    assert not set(demo.TRAIN_PHOTOS) & set(demo.TEST_PHOTOS)
    photos = demo.photos(demo.TRAIN_PHOTOS + demo.TEST_PHOTOS)
    contents = {photo.tobytes() for photo in photos}
    assert len(contents) == len(demo.TRAIN_PHOTOS) + len(demo.TEST_PHOTOS)


def test_photos_are_colour_and_need_no_download(monkeypatch):
    import socket

    def refuse(*_):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for photo in demo.photos(demo.TRAIN_PHOTOS + demo.TEST_PHOTOS):
        assert photo.dtype == "uint8"
        assert photo.shape[2] == 3
        assert (photo[..., 0] != photo[..., 2]).mean() > 0.5


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r"skimage.*mirl\[demo\]"):
        demo.demo(tmp_path)


def test_quick_demo_restores(tmp_path):
    command = [sys.executable, "-m", "mirl", "demo", "--quick", "--quiet", "--out", str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stderr == ""
    assert "beats the input on every task" in said.stdout
    lines = said.stdout.replace(str(tmp_path), "mirl-demo").splitlines()
    assert max(map(len, lines)) <= 80
    last = json.loads((tmp_path / "record.jsonl").read_text().splitlines()[-1])
    for task, metrics in last["metrics"].items():
        assert metrics["psnr"] > metrics["psnr_input"], task
    assert last["density"] < 0.7
    names = {path.name for path in tmp_path.iterdir()}
    assert {"ticket.mirl.safetensors", "record.jsonl", "quality.png", "pictures.png"} <= names


def test_an_untrained_network_is_not_praised():
    worse = {"derain": {"psnr": 20.0, "psnr_input": 25.0}}
    assert "no better than the input on: rain" in demo._verdict(worse)
