"""What a materialization did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from feastrs._native import ViewReport

__all__ = ["MaterializationReport", "ViewReport"]


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
