"""Progress is a line on a terminal, and nothing elsewhere."""

from io import StringIO

import pytest
import torch
from rich.console import Console

from lidar_lightning.utils import progress
from lidar_lightning.utils.progress import advance, scored, working


@pytest.fixture
def screen(monkeypatch):
    file = StringIO()
    console = Console(file=file, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    return file


def refresh():
    """At once; it does so by itself ten times a second."""
    progress._lines[-1][0].refresh()


def test_it_shows_what_is_done_what_is_left_and_the_mean_reward(screen):
    with working("lidar: 'molecule'", 20, 5):
        with working("lookaheads", 4):
            advance(4)
            refresh()
        advance(5)
        scored(torch.tensor([1.0, 2.5]))
        refresh()
    text = screen.getvalue()
    assert "lidar: 'molecule'" in text and " 50%" in text and "mean reward 1.75" in text and "lookaheads" in text
    assert progress._lines == []


def test_what_is_hidden_hides_what_is_within(screen):
    with working("outer", 3, hidden=True), working("inner", 3):
        advance(1)
        scored(torch.ones(1))
    assert screen.getvalue() == ""


def test_nothing_is_shown_in_a_file(capfd):
    with working("outer", 3):
        advance(1)
    assert capfd.readouterr().err == ""


def test_a_line_ends_with_an_error(screen):
    with pytest.raises(RuntimeError), working("outer", 3):
        raise RuntimeError
    advance(1)
    assert progress._lines == []
