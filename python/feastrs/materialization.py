"""What a materialization did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

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

    def __str__(self) -> str:
        text = (
            f"{self.view}: {self.rows_read:,} rows read, {self.entities_written:,} entities "
            f"written in {self.seconds:.1f} s"
        )
        if self.rows_older:
            text += f", {self.rows_older:,} older than the store"
        if self.null_keys:
            text += f", {self.null_keys:,} rows without key skipped"
        return text


@dataclass(frozen=True)
class MaterializationReport:
    """The views that were materialized, in the order in which it was done.

    Example:
        >>> from feastrs import MaterializationReport
        >>> MaterializationReport().entities_written
        0
    """

    views: list[ViewReport] = field(default_factory=list)
    """One report for each view that feastrs wrote."""

    delegated: dict[str, str] = field(default_factory=dict)
    """Views that Feast itself materialized, each with the reason."""

    @property
    def entities_written(self) -> int:
        """Entities written, all views together."""
        return sum(view.entities_written for view in self.views)

    def __iter__(self) -> Iterator[ViewReport]:
        return iter(self.views)

    def __str__(self) -> str:
        lines = [str(view) for view in self.views]
        lines += [f"{view}: by Feast ({reason})" for view, reason in self.delegated.items()]
        return "\n".join(lines) or "nothing to materialize"
