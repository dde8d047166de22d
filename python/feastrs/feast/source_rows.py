"""Rows of a Parquet source within a window of time, and the newest of each entity, in Arrow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from feast.data_format import ParquetFormat
from feast.errors import FeastJoinKeysDuringMaterialization
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.file_source import FileSource

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NANOS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


@dataclass(frozen=True)
class Window:
    """What is read of a source: columns, under the source's names, and a range of event times.

    Example:
        >>> from feastrs.feast.source_rows import Window
        >>> Window(["driver_id"], ["conv_rate"], "event_timestamp", None, None, None).names
        ['driver_id', 'conv_rate', 'event_timestamp']
    """

    keys: list[str]
    features: list[str]
    time: str
    created: str | None
    start: datetime | None
    end: datetime | None

    @property
    def names(self) -> list[str]:
        """Each column once: keys, features, times."""
        wanted = [*self.keys, *self.features, self.time, *filter(None, [self.created])]
        return list(dict.fromkeys(wanted))

    def columns(self) -> tuple[list[str], list[str], str, str | None]:
        """As Feast's stores are given them."""
        return self.keys, self.features, self.time, self.created


def is_readable(source: Any) -> bool:
    """Whether the source is Parquet at a path; patterns and other formats are left to Feast."""
    return (
        isinstance(source, FileSource)
        and (source.file_format is None or isinstance(source.file_format, ParquetFormat))
        and not any(mark in source.path for mark in "*?[")
    )


def read(config: Any, source: Any, window: Window) -> pa.Table:
    """The rows of the window; times without a zone become UTC, all else is as the source has it.

    Raises:
        feast.errors.FeastJoinKeysDuringMaterialization: the source lacks a join key.
    """
    full = FileSource.get_uri_for_file_path(repo_path=config.repo_path, uri=source.path)
    filesystem, path = FileSource.create_filesystem_and_path(
        full, source.file_options.s3_endpoint_override, source.resolve_credentials()
    )
    rows = ds.dataset(path, filesystem=filesystem, format="parquet", partitioning="hive")
    if not set(window.keys) <= set(rows.schema.names):
        raise FeastJoinKeysDuringMaterialization(
            source.path, set(window.keys), set(rows.schema.names)
        )
    names = window.names if window.features else rows.schema.names
    table = rows.to_table(columns=names, filter=_within(rows.schema.field(window.time), window))
    for name in filter(None, [window.time, window.created]):
        table = _zoned(table, name)
    if not window.keys:
        dummy = pa.repeat(pa.scalar(DUMMY_ENTITY_VAL), table.num_rows)
        table = table.append_column(DUMMY_ENTITY_ID, dummy)
    return table


def newest(table: pa.Table, window: Window) -> pa.Table:
    """Of each entity the row with the newest event time, then created, then the last.

    Example:
        >>> import pyarrow as pa
        >>> from feastrs.feast.source_rows import Window, newest
        >>> rows = pa.table({"id": [1, 2, 1], "at": [5, 5, 4], "x": ["a", "b", "c"]})
        >>> newest(rows, Window(["id"], ["x"], "at", None, None, None))["x"].to_pylist()
        ['a', 'b']
    """
    keys = window.keys or [DUMMY_ENTITY_ID]
    sorted_by = {name: table[name] for name in keys}
    for name in filter(None, [window.time, window.created]):
        # What is null is older than all; where a sort puts it differs between versions.
        sorted_by[f"{name} is there"] = pc.is_valid(table[name])
        sorted_by[name] = table[name]
    # The sort keeps what is equal in its order.
    order = pc.sort_indices(
        pa.table(sorted_by), sort_keys=[(name, "ascending") for name in sorted_by]
    )
    if not len(order):
        return table
    is_last = None
    for key in keys:
        column = table[key].take(order).combine_chunks()
        differs = _differs(column.slice(0, len(column) - 1), column.slice(1))
        is_last = differs if is_last is None else pc.or_(is_last, differs)
    winners = pc.filter(order, pa.concat_arrays([is_last, pa.array([True])]))
    # As the source has them, one after the other.
    return table.take(winners.take(pc.sort_indices(winners)))


def _differs(left: Any, right: Any) -> Any:
    unequal = pc.fill_null(pc.not_equal(left, right), False)
    return pc.or_(unequal, pc.xor(pc.is_null(left), pc.is_null(right)))


def _within(time: pa.Field, window: Window) -> Any:
    found = None
    if window.start is not None:
        # In coarser units the window begins at the next tick, and ends at the last.
        found = pc.field(time.name) >= _tick(window.start, time.type, timedelta.resolution)
    if window.end is not None:
        until = pc.field(time.name) <= _tick(window.end, time.type, timedelta())
        found = until if found is None else found & until
    return found


def _tick(moment: datetime, kind: pa.DataType, upwards: timedelta) -> pa.Scalar:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    nanos = (aware - _EPOCH) // timedelta(microseconds=1) * 1000
    unit = _NANOS[kind.unit]
    ticks = -(-nanos // unit) if upwards else nanos // unit
    return pa.scalar(ticks, pa.int64()).cast(kind)


def _zoned(table: pa.Table, name: str) -> pa.Table:
    index = table.schema.get_field_index(name)
    kind = table.schema.field(index).type
    if not pa.types.is_timestamp(kind) or kind.tz is not None:
        return table
    column = table[name].cast(pa.timestamp(kind.unit, tz="UTC"))
    return table.set_column(index, name, column)
