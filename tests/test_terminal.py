"""Bars and what is said beside them, where there is a terminal and where there is none."""

import sys

from mirl.terminal import bar, say


def test_a_bar_in_a_file_is_seldom_drawn(capsys):
    with bar(True, total=1000, desc="all") as done:
        for _ in range(1000):
            done.update()
    assert capsys.readouterr().err.count("all:") == 2  # at first and in the end


def test_what_is_said_stands_above_the_bars(capsys, monkeypatch):
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)
    with bar(True, total=2, desc="all") as done:
        done.update()
        say("warning: dark")
    assert "\rwarning: dark\n\rall:" in capsys.readouterr().err
