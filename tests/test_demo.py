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


def test_quick_demo_restores(tmp_path, capsys):
    result = demo.demo(tmp_path, quick=True, progress=False)
    for task, metrics in result.rounds[-1]["metrics"].items():
        assert metrics["psnr"] > metrics["psnr_input"], task
    assert result.rounds[-1]["density"] < 0.7
    said = capsys.readouterr()
    assert said.err == ""
    assert "beats the input on every task" in said.out
    assert max(map(len, said.out.replace(str(tmp_path), "mirl-demo").splitlines())) <= 80
    names = {path.name for path in tmp_path.iterdir()}
    assert {"ticket.mirl.safetensors", "record.jsonl", "quality.png", "pictures.png"} <= names


def test_an_untrained_network_is_not_praised():
    worse = {"derain": {"psnr": 20.0, "psnr_input": 25.0}}
    assert "no better than the input on: rain" in demo._verdict(worse)
