"""The point-in-time join, slow and obvious: what the real one is compared with.

Every label row looks at every row of the source; the rules stand there one by one. Times are
whole nanoseconds since 1970, of which nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pyarrow as pa

NANOS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


@dataclass(frozen=True)
class Source:
    """A view, as far as the join sees it.

    Args:
        rows: the rows of the source, file after file.
        keys: for each key column of `rows` the column of the label rows that it is joined with.
        features: for each column of the result the column of `rows` that it is from.
        ttl: None and zero are no limit.
        created: the column of `rows` that decides between equal event times.
    """

    rows: pa.Table
    keys: Mapping[str, str]
    features: Mapping[str, str]
    ttl: timedelta | None = None
    created: str | None = None
    time: str = "event_timestamp"
    only_created_before: bool = field(default=False, kw_only=True)


def joined(labels: pa.Table, sources: Sequence[Source], time: str = "event_timestamp") -> pa.Table:
    """`labels` as they are, and beside them the values that were known at their times."""
    result = labels
    for source in sources:
        rows = pa.array(newest_rows(labels, source, time), pa.int64())
        for name, column in source.features.items():
            result = result.append_column(name, source.rows[column].combine_chunks().take(rows))
    return result


def newest_rows(labels: pa.Table, source: Source, time: str) -> list[int | None]:
    """For each label row the row of the source that it gets."""
    moments = nanoseconds(labels[time])
    wanted = _tuples(labels, source.keys.values())
    keys = _tuples(source.rows, source.keys)
    times = nanoseconds(source.rows[source.time])
    made = nanoseconds(source.rows[source.created]) if source.created else [None] * len(times)
    ttl = None if not source.ttl else source.ttl // timedelta(microseconds=1) * 1000

    def is_candidate(label: int, row: int) -> bool:
        moment, when = moments[label], times[row]
        if moment is None or when is None or None in wanted[label]:
            return False
        if keys[row] != wanted[label] or when > moment:
            return False
        if ttl is not None and when < moment - ttl:
            return False
        if source.only_created_before and source.created:
            created = made[row]
            return created is not None and created <= moment
        return True

    def rank(row: int) -> tuple[Any, ...]:
        # No created timestamp is older than any.
        created = made[row]
        return times[row], created is not None, created or 0, row

    return [
        max((row for row in range(len(times)) if is_candidate(label, row)), key=rank, default=None)
        for label in range(len(moments))
    ]


def nanoseconds(column: pa.ChunkedArray) -> list[int | None]:
    """Times as numbers; those without a zone are UTC."""
    factor = NANOS[column.type.unit]
    numbers = column.cast(pa.int64()).to_pylist()
    return [None if number is None else number * factor for number in numbers]


def _tuples(table: pa.Table, names: Any) -> list[tuple[Any, ...]]:
    columns = [table[name].to_pylist() for name in names]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows
