"""What a materialization did, and the error that tells what it did not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from feastrs import errors

if TYPE_CHECKING:
    from feastrs import _native


@dataclass(frozen=True)
class ViewReport:
    """What became of one view."""

    view: str
    """Its name."""

    start: datetime
    """Begin of the recorded interval, UTC."""

    end: datetime
    """End of the recorded interval, UTC."""

    rows_read: int
    """Rows of the source that were looked at; row groups outside the interval are not."""

    entities_written: int
    """Entities whose row the store took."""

    rows_older: int
    """Entities left alone because the store has a newer row."""

    null_keys: int
    """Rows left out because a join key is null."""

    seconds: float
    """How long it took."""

    @classmethod
    def of(cls, report: _native.ViewReport) -> ViewReport:
        """The report of the core, as a value that can be pickled and compared."""
        return cls(
            report.view,
            report.start,
            report.end,
            report.rows_read,
            report.entities_written,
            report.rows_older,
            report.null_keys,
            report.seconds,
        )

    @property
    def is_empty(self) -> bool:
        """Whether the source has no rows within the window; the interval is recorded."""
        return not (self.entities_written or self.rows_older or self.null_keys)

    def __str__(self) -> str:
        text = (
            f"{self.view}: {self.rows_read:,} rows read, {self.entities_written:,} entities "
            f"written in {self.seconds:.1f} s"
        )
        if self.is_empty:
            text += ", none within the window"
        if self.rows_older:
            text += f", {self.rows_older:,} older than the store"
        if self.null_keys:
            text += f", {self.null_keys:,} rows without key skipped"
        return text


@dataclass(frozen=True)
class MaterializationReport:
    """The views that were materialized, in the order in which they were chosen.

    Example:
        >>> from feastrs import MaterializationReport
        >>> MaterializationReport().entities_written
        0
    """

    views: list[ViewReport] = field(default_factory=list)
    """One report for each view that feastrs wrote."""

    delegated: dict[str, str] = field(default_factory=dict)
    """Views that Feast itself materialized, each with the reason."""

    failures: dict[str, Exception] = field(default_factory=dict)
    """Views that failed, each with its error. What was written of them stays, and their
    interval is not recorded. A report that is returned has none."""

    @property
    def entities_written(self) -> int:
        """Entities written, all views together."""
        return sum(view.entities_written for view in self.views)

    def __iter__(self) -> Iterator[ViewReport]:
        return iter(self.views)

    def __str__(self) -> str:
        lines = [str(view) for view in self.views]
        lines += [f"{view}: by Feast ({reason})" for view, reason in self.delegated.items()]
        lines += [f"{view}: FAILED, {_of(view, error)}" for view, error in self.failures.items()]
        return "\n".join(lines) or "nothing to materialize"


class MaterializationError(errors.FeastrsError):
    """Views could not be materialized; those that could are written and recorded.

    It is also of the class that the errors of all failed views have in common, so
    ``except FileNotFoundError`` catches it where a source is missing.

    Example:
        >>> from feastrs import MaterializationError, MaterializationReport
        >>> report = MaterializationReport(failures={"v": ValueError("no rows")})
        >>> error = MaterializationError.of(report)
        >>> str(error), error.report.failures["v"]
        ("view 'v': no rows", ValueError('no rows'))
    """

    report: MaterializationReport
    """What was done, and the errors of the views that failed."""

    @classmethod
    def of(cls, report: MaterializationReport) -> MaterializationError:
        """The error of a report with failures."""
        failed = [f"view '{view}': {_of(view, error)}" for view, error in report.failures.items()]
        message = failed[0]
        if len(failed) > 1:
            total = len(report.views) + len(report.delegated) + len(failed)
            message = f"{len(failed)} of {total} views failed: {'; '.join(failed)}"
        error = _error_class({type(error) for error in report.failures.values()})(message)
        error.report = report
        error.__cause__ = next(iter(report.failures.values()))
        return error

    def __reduce__(self) -> tuple[object, ...]:
        return MaterializationError.of, (self.report,)


def _error_class(causes: set[type[Exception]]) -> type[MaterializationError]:
    common = causes.pop() if len(causes) == 1 else errors.FeastrsError
    if common is errors.FeastrsError or not issubclass(common, errors.FeastrsError):
        return MaterializationError
    return type("MaterializationError", (MaterializationError, common), {"__module__": __name__})


def _of(view: str, error: Exception) -> str:
    # An error of the core names the view itself.
    return str(error).removeprefix(f"view '{view}': ") or type(error).__name__
