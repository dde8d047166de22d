"""What long work tells while it runs: log lines, and bars where somebody watches."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TextIO

from feastrs.progress_bar import bars_for

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


@dataclass
class _View:
    """A view that is under way."""

    total_rows: int
    started: float
    shown: float
    rows: int = 0

    @property
    def fraction(self) -> float:
        """0 to 1; 0 where its size is not known."""
        return min(self.rows / self.total_rows, 1.0) if self.total_rows else 0.0

    def share(self, rows: int) -> str:
        """That many of its rows, in words."""
        if not self.total_rows:
            return f"{rows:,} rows"
        return f"{rows:,} of {self.total_rows:,} rows ({rows / self.total_rows:.0%})"

    def numbers(self) -> str:
        """How far it is, and how fast."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        return f"{self.share(self.rows)}, {self.rows / seconds:,.0f} rows/s"


class Progress:
    """Progress of the views of one materialization.

    The Rust core calls the methods, in this order for each view, now and then and from the
    thread that called ``materialize``; some views may be under way at once. Begin and end of each
    view are logged to the logger ``feastrs.materialization``. In between bars are drawn on a
    terminal and in a notebook; elsewhere a line for each view is logged every few seconds. As a
    context manager it ends the line that a failure left half drawn.

    Args:
        stream: where a terminal's bars go; standard error by default.

    Example:
        >>> import io
        >>> progress = Progress(io.StringIO())
        >>> progress.view_started("driver_stats", 200)
        >>> progress.advanced("driver_stats", 100)
        >>> progress.fraction
        0.5
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._bars = bars_for(stream if stream is not None else sys.stderr)
        self._every_seconds = self._bars.every_seconds if self._bars else _LOG_EVERY_SECONDS
        self._views: dict[str, _View] = {}

    @property
    def fraction(self) -> float:
        """How much of the views under way is done, 0 to 1; 0 where their size is not known."""
        total_rows = sum(view.total_rows for view in self._views.values())
        rows = sum(view.rows for view in self._views.values())
        return min(rows / total_rows, 1.0) if total_rows else 0.0

    doing = "materializing"
    """What is done, in log lines."""

    log = _LOG

    def view_started(self, view: str, total_rows: int) -> None:
        """A view begins.

        Args:
            view: its name.
            total_rows: rows of its source, outside the window included; 0 if not known.
        """
        now = time.monotonic()
        self._views[view] = _View(total_rows, started=now, shown=now)
        self.log.info("%s %s: %s rows in its source", self.doing, view, f"{total_rows:,}")

    def waiting(self, view: str, searched: int) -> None:
        """Nothing was written for a moment.

        Args:
            view: its name.
            searched: rows of the source that the search for the newest row of each entity has
                passed. It comes before the writes.
        """
        state = self._views[view]
        if not self._is_due(state):
            return
        if state.rows == 0:
            self._show(view, f"finding the newest rows: {state.share(searched)}")
        else:
            self._show(view, state.numbers())

    def advanced(self, view: str, rows: int) -> None:
        """More rows of a view are done.

        Args:
            view: its name.
            rows: how many, since the last call.
        """
        state = self._views[view]
        state.rows += rows
        if self._is_due(state):
            self._show(view, state.numbers())

    def view_finished(self, report: ViewReport) -> None:
        """A view is written and recorded.

        Args:
            report: what was done.
        """
        self._views.pop(report.view, None)
        if self._bars:
            self._bars.draw(report.view, 1.0, f"{report.entities_written:,} entities written")
            self._bars.end(report.view)
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

    def view_failed(self, view: str, message: str) -> None:
        """A view has failed, or is given up.

        Args:
            view: its name.
            message: why.
        """
        # One that could not even begin is not known.
        state = self._views.pop(view, None) or _View(0, 0.0, 0.0)
        if self._bars:
            self._bars.end(view)
        done = state.share(state.rows)
        self.log.error("%s %s failed after %s: %s", self.doing, view, done, message)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *failure: object) -> None:
        # What follows (a traceback, a shell's prompt) must not stand behind a half bar.
        if self._bars:
            self._bars.close()

    def _is_due(self, state: _View) -> bool:
        now = time.monotonic()
        if now - state.shown < self._every_seconds:
            return False
        state.shown = now
        return True

    def _show(self, view: str, text: str) -> None:
        if self._bars:
            self._bars.draw(view, self._views[view].fraction, text)
        else:
            self.log.info("%s %s: %s", self.doing, view, text)


class VerificationProgress(Progress):
    """Progress of the views of one verification.

    Like :class:`Progress`, to the logger ``feastrs.verification``.

    Example:
        >>> import io
        >>> progress = VerificationProgress(io.StringIO())
        >>> progress.view_started("driver_stats", 200)
        >>> progress.view_verified("driver_stats", 100, 0, 0.5)
    """

    doing = "verifying"
    log = logging.getLogger("feastrs.verification")

    def view_verified(self, view: str, compared: int, findings: int, seconds: float) -> None:
        """A view is verified.

        Args:
            view: its name.
            compared: entities that were compared.
            findings: those of them that are not as they should be.
            seconds: how long it took.
        """
        self._views.pop(view, None)
        if self._bars:
            self._bars.draw(view, 1.0, f"{compared:,} entities compared, {findings:,} findings")
            self._bars.end(view)
        self.log.log(
            logging.WARNING if findings else logging.INFO,
            "verified %s: %s entities compared, %s findings, %.1f s",
            view,
            f"{compared:,}",
            f"{findings:,}",
            seconds,
        )
