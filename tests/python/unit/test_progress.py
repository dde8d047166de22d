"""The progress of a materialization: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass

import pytest
from feastrs.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class GoneTerminal(Terminal):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@dataclass
class Report:
    view: str = "driver_stats"
    rows_read: int = 4_000
    entities_written: int = 2_000
    seconds: float = 0.5


def run_one_view(progress: Progress) -> None:
    progress.view_started("driver_stats", 4_000)
    progress.advanced("driver_stats", 1_000)
    progress.advanced("driver_stats", 3_000)
    progress.view_finished(Report())


def test_a_terminal_gets_one_line_that_ends_full(caplog: pytest.LogCaptureFixture) -> None:
    terminal = Terminal()
    with caplog.at_level(logging.INFO, "feastrs"):
        run_one_view(Progress(terminal))
    assert terminal.getvalue().count("\n") == 1
    last = terminal.getvalue().rstrip("\n").split("\r")[-1]
    assert "driver_stats" in last
    assert "100%" in last
    assert "4,000 of 4,000 rows" in last
    assert caplog.messages == []


def test_elsewhere_lines_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    with caplog.at_level(logging.INFO, "feastrs"):
        run_one_view(Progress(stream))
    assert stream.getvalue() == ""
    assert caplog.messages[0] == "materializing driver_stats: 4,000 rows in its source"
    assert "2,000 entities written" in caplog.messages[-1]


def test_a_failure_ends_the_line() -> None:
    terminal = Terminal()
    with Progress(terminal) as progress:
        progress.view_started("driver_stats", 10)  # and nothing more
    assert terminal.getvalue().endswith("\n")


def test_a_source_of_unknown_size() -> None:
    terminal = Terminal()
    progress = Progress(terminal)
    progress.view_started("driver_stats", 0)
    progress.advanced("driver_stats", 7)
    assert progress.fraction == 0.0
    progress.view_finished(Report())
    assert " of " not in terminal.getvalue()


def test_a_terminal_that_goes_away_does_not_end_the_job() -> None:
    run_one_view(Progress(GoneTerminal()))


def test_no_standard_error_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    run_one_view(Progress())
