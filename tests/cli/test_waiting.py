"""The bar of long work: nothing for what is quick, gone when the work ends."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from gesher.base import progress
from gesher.cli import console


@pytest.fixture
def screen(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(console, "err", lambda: Console(file=text, force_terminal=True, width=80))
    return text


def test_quick_work_shows_nothing(screen):
    with progress.listening(console.Waiting(after=60)):
        progress.tell("compiling", 0, 2)
        progress.tell("compiling", 2, 2)
    assert screen.getvalue() == ""


def test_long_work_shows_a_bar_until_it_ends(screen):
    waiting = console.Waiting(after=0.01)
    with progress.listening(waiting):
        progress.tell("compiling", 0, 3)
        for _ in range(500):
            if waiting._bar is not None:
                break
            time.sleep(0.01)
        progress.tell("compiling", 1, 3)
        assert waiting._bar is not None and waiting._bar.tasks[0].completed == 1
        progress.tell("compiling", 3, 3)
    assert "compiling" in screen.getvalue() and waiting._bar is None and waiting._timer is None


def test_nobody_need_listen():
    progress.tell("compiling", 1, 2)
