"""What a materialization tells while it runs: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from datetime import datetime
from typing import Protocol, TextIO

_LOG = logging.getLogger("feastrs")
_DRAW_EVERY_SECONDS = 0.1
_LOG_EVERY_SECONDS = 5.0
_BAR_WIDTH = 24


class ViewReport(Protocol):
    """The part of a view's report that the last line names."""

    @property
    def rows_read(self) -> int:
        """Rows of the source within the window."""

    @property
    def entities_written(self) -> int:
        """Entities whose newest row was written."""

    @property
    def rows_older(self) -> int:
        """Entities left alone because the store has a newer row."""

    @property
    def null_keys(self) -> int:
        """Rows left out because a join key is null."""

    @property
    def seconds(self) -> float:
        """Wall-clock time of the view."""

    @property
    def start(self) -> datetime:
        """Begin of the window."""

    @property
    def end(self) -> datetime:
        """End of the window."""

    @property
    def is_empty(self) -> bool:
        """Whether the source has no rows within the window."""


class Progress:
    """Progress of the views of one materialization.

    The Rust core calls the three methods, in this order for each view, now and then and from
    the thread that called ``materialize``. On a terminal a bar is drawn on one line of
    ``stream``; elsewhere a line is logged to the logger ``feastrs`` every few seconds. As a
    context manager it ends the line that a failure left half drawn.

    Args:
        stream: where the bar goes; standard error by default.

    Example:
        >>> import io
        >>> progress = Progress(io.StringIO())
        >>> progress.view_started("driver_stats", 200)
        >>> progress.advanced("driver_stats", 100)
        >>> progress.fraction
        0.5
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        # A process may have closed its standard error, or have none (pythonw).
        self._is_terminal = bool(self._stream and not self._stream.closed and self._stream.isatty())
        self._is_drawn = False
        self._total_rows = 0
        self._rows = 0
        self._started = 0.0
        self._shown = 0.0

    @property
    def fraction(self) -> float:
        """How much of the current view is done, 0 to 1; 0 where its size is not known."""
        return min(self._rows / self._total_rows, 1.0) if self._total_rows else 0.0

    def view_started(self, view: str, total_rows: int) -> None:
        """A view begins.

        Args:
            view: its name.
            total_rows: rows of its source, outside the window included; 0 if not known.
        """
        self._total_rows, self._rows = total_rows, 0
        self._started = self._shown = time.monotonic()
        if self._is_terminal:
            self._draw(view)
        else:
            _LOG.info("materializing %s: %s rows in its source", view, f"{total_rows:,}")

    def advanced(self, view: str, rows: int) -> None:
        """More rows of the current view are done.

        Args:
            view: its name.
            rows: how many, since the last call.
        """
        self._rows += rows
        now = time.monotonic()
        if now - self._shown < (_DRAW_EVERY_SECONDS if self._is_terminal else _LOG_EVERY_SECONDS):
            return
        self._shown = now
        if self._is_terminal:
            self._draw(view)
        else:
            _LOG.info("materializing %s: %s", view, self._numbers())

    def view_finished(self, report: ViewReport) -> None:
        """The current view is written and recorded.

        Args:
            report: what was done.
        """
        view = getattr(report, "view", "")
        if self._is_terminal:
            self._rows = max(self._rows, self._total_rows)
            self._draw(view)
            self._end_line()
        else:
            _LOG.info(
                "materialized %s: %s rows read, %s entities written%s, %.1f s",
                view,
                f"{report.rows_read:,}",
                f"{report.entities_written:,}",
                _left_out(report),
                report.seconds,
            )
        # What is said next is about another view.
        self._total_rows = self._rows = 0
        if report.is_empty:
            _LOG.warning(
                "%s: its source has no rows between %s and %s; the interval is recorded",
                view,
                report.start,
                report.end,
            )

    def view_failed(self, view: str, message: str) -> None:
        """The current view has failed, or is given up.

        Args:
            view: its name.
            message: why.
        """
        self._end_line()
        _LOG.error("materializing %s failed after %s: %s", view, self._numbers(), message)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *failure: object) -> None:
        # What follows (a traceback, a shell's prompt) must not stand behind a half bar.
        self._end_line()

    def _numbers(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        of_total = f" of {self._total_rows:,}" if self._total_rows else ""
        return f"{self._rows:,}{of_total} rows, {self._rows / seconds:,.0f} rows/s"

    def _draw(self, view: str) -> None:
        filled = round(self.fraction * _BAR_WIDTH)
        bar = "#" * filled + "." * (_BAR_WIDTH - filled)
        line = f"{view}  [{bar}] {self.fraction:4.0%}  {self._numbers()}"
        width = shutil.get_terminal_size().columns - 1
        # \x1b[K: clear what a longer line left behind.
        self._is_drawn = True
        self._write(f"\r{line[:width]}\x1b[K")

    def _end_line(self) -> None:
        if self._is_drawn:
            self._is_drawn = False
            self._write("\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal went away: the job matters more
            self._is_terminal = False


def _left_out(report: ViewReport) -> str:
    older = f", {report.rows_older:,} older than the store" if report.rows_older else ""
    return older + (f", {report.null_keys:,} without a key" if report.null_keys else "")
