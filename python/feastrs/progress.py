"""What a materialization tells while it runs: log lines, and a bar where somebody watches."""

from __future__ import annotations

import logging
import sys
import time
from datetime import datetime
from typing import Protocol, TextIO

from feastrs.progress_bar import bar_for

_LOG = logging.getLogger("feastrs.materialization")
_LOG_EVERY_SECONDS = 5.0


class ViewReport(Protocol):
    """The part of a view's report that is told."""

    @property
    def view(self) -> str:
        """The view's name."""

    @property
    def start(self) -> datetime:
        """Begin of the window."""

    @property
    def end(self) -> datetime:
        """End of the window."""

    @property
    def rows_read(self) -> int:
        """Rows of the source within the window."""

    @property
    def entities_written(self) -> int:
        """Entities whose newest row was written."""

    @property
    def rows_older(self) -> int:
        """Entities that the store has a newer row of."""

    @property
    def null_keys(self) -> int:
        """Rows left out because a join key is null."""

    @property
    def is_empty(self) -> bool:
        """Whether the source has no rows within the window."""

    @property
    def seconds(self) -> float:
        """Wall-clock time of the view."""


class Progress:
    """Progress of the views of one materialization.

    The Rust core calls the methods, in this order for each view, now and then and from the
    thread that called ``materialize``. Begin and end of each view are logged to the logger
    ``feastrs.materialization``. In between a bar is drawn on a terminal and in a notebook;
    elsewhere a line is logged every few seconds. As a context manager it ends the line that a
    failure left half drawn.

    Args:
        stream: where a terminal's bar goes; standard error by default.

    Example:
        >>> import io
        >>> progress = Progress(io.StringIO())
        >>> progress.view_started("driver_stats", 200)
        >>> progress.advanced("driver_stats", 100)
        >>> progress.fraction
        0.5
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._bar = bar_for(stream if stream is not None else sys.stderr)
        self._every_seconds = self._bar.every_seconds if self._bar else _LOG_EVERY_SECONDS
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
        _LOG.info("materializing %s: %s rows in its source", view, f"{total_rows:,}")

    def waiting(self, view: str, searched: int) -> None:
        """Nothing was written for a moment.

        Args:
            view: its name.
            searched: rows of the source that the search for the newest row of each entity has
                passed. It comes before the writes.
        """
        if not self._is_due():
            return
        if self._rows == 0:
            self._show(view, f"finding the newest rows: {self._share(searched)}")
        else:
            self._show(view, self._numbers())

    def advanced(self, view: str, rows: int) -> None:
        """More rows of the current view are done.

        Args:
            view: its name.
            rows: how many, since the last call.
        """
        self._rows += rows
        if self._is_due():
            self._show(view, self._numbers())

    def view_finished(self, report: ViewReport) -> None:
        """The current view is written and recorded.

        Args:
            report: what was done.
        """
        if self._bar:
            self._bar.draw(report.view, 1.0, f"{report.entities_written:,} entities written")
        self._end_bar()
        _LOG.info(
            "materialized %s, %s to %s: %s rows read, %s entities written, "
            "%s older than the store, %s null keys, %.1f s",
            report.view,
            report.start,
            report.end,
            f"{report.rows_read:,}",
            f"{report.entities_written:,}",
            f"{report.rows_older:,}",
            f"{report.null_keys:,}",
            report.seconds,
        )
        if report.is_empty:
            _LOG.warning(
                "%s: its source has no rows between %s and %s; the interval is recorded",
                report.view,
                report.start,
                report.end,
            )
        if report.null_keys:
            _LOG.warning(
                "%s: %s rows are left out because a join key is null",
                report.view,
                f"{report.null_keys:,}",
            )
        # What is said next is about another view.
        self._total_rows = self._rows = 0

    def view_failed(self, view: str, message: str) -> None:
        """The current view has failed, or is given up.

        Args:
            view: its name.
            message: why.
        """
        self._end_bar()
        _LOG.error("materializing %s failed after %s: %s", view, self._share(self._rows), message)
        self._total_rows = self._rows = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *failure: object) -> None:
        # What follows (a traceback, a shell's prompt) must not stand behind a half bar.
        self._end_bar()

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now - self._shown < self._every_seconds:
            return False
        self._shown = now
        return True

    def _show(self, view: str, text: str) -> None:
        if self._bar:
            self._bar.draw(view, self.fraction, text)
        else:
            _LOG.info("materializing %s: %s", view, text)

    def _end_bar(self) -> None:
        if self._bar:
            self._bar.end()

    def _numbers(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        return f"{self._share(self._rows)}, {self._rows / seconds:,.0f} rows/s"

    def _share(self, rows: int) -> str:
        if not self._total_rows:
            return f"{rows:,} rows"
        return f"{rows:,} of {self._total_rows:,} rows ({rows / self._total_rows:.0%})"
