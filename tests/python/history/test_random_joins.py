"""Point-in-time joins of made-up rows: against a slow reference, and against Feast's duckdb store.

Times lie around whole seconds, and a view's `ttl` is three of them, so that what is exactly as
old as it may be, and a microsecond or nanosecond older, comes up all the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.history import FILES, VIEWS, Asked, Row, label_rows, reference, source_rows
from testbed.point_in_time import joined

SECOND = 10**9
NOON = 1_717_243_200 * SECOND

KEYS = {
    "driver_id": st.none() | st.integers(1, 3),
    "customer_id": st.sampled_from([None, "a", "b"]),
}
SECONDS = st.integers(-4, 4).map(lambda seconds: NOON + seconds * SECOND)
MICROS = st.builds(lambda time, off: time + off * 1000, SECONDS, st.integers(-1, 1))
NANOS = st.builds(lambda time, off: time + off, MICROS, st.integers(-1, 1))
KINDS = [
    pa.timestamp("us", tz="UTC"),
    pa.timestamp("us"),
    pa.timestamp("ns"),
    pa.timestamp("ns", tz="UTC"),
    pa.timestamp("ms"),
    pa.timestamp("us", tz="Europe/Prague"),
    pa.timestamp("ns", tz="-03:30"),
]
ASKED_VIEWS = st.lists(st.sampled_from(sorted(VIEWS)), min_size=1, max_size=5, unique=True)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked.make(tmp_path_factory.mktemp("history"))


def rows(times: st.SearchStrategy[int], max_size: int, **more: Any) -> st.SearchStrategy[Any]:
    return st.lists(st.builds(Row, **KEYS, time=times, **more), max_size=max_size)


def written(
    asked: Asked,
    views: Sequence[str],
    cases: Mapping[str, list[Row]],
    kind: pa.TimestampType,
    row_group_size: int,
) -> dict[str, pa.Table]:
    names = {VIEWS[view].file for view in views}
    files = {name: source_rows(FILES[name], cases[name], kind) for name in names}
    asked.write(files, row_group_size)
    return files


@settings(max_examples=500)
@given(
    labels=rows(st.none() | NANOS, 10),
    cases=st.fixed_dictionaries(
        {file: rows(st.none() | NANOS, 12, made=st.none() | SECONDS) for file in FILES}
    ),
    views=ASKED_VIEWS,
    label_kind=st.sampled_from(KINDS),
    kind=st.sampled_from(KINDS),
    row_group_size=st.integers(1, 6),
    only_created_before=st.booleans(),
)
def test_joins_are_those_of_the_reference(
    asked: Asked,
    labels: list[Row],
    cases: dict[str, list[Row]],
    views: list[str],
    label_kind: pa.TimestampType,
    kind: pa.TimestampType,
    row_group_size: int,
    only_created_before: bool,
) -> None:
    files = written(asked, views, cases, kind, row_group_size)
    table = label_rows(labels, label_kind)

    ours = asked.ours(table, views, filter_by_created_timestamp=only_created_before)

    options = {"only_created_before": only_created_before}
    expected = joined(table, reference(views, files, **options))
    assert ours.schema.equals(expected.schema), ours.schema
    assert ours.to_pylist() == expected.to_pylist()


# Where neither time decides Feast's store takes any of the rows: here one of them does.
@st.composite
def decided(draw: st.DrawFn) -> list[Row]:
    found = draw(rows(MICROS, 12))
    made = draw(st.permutations(range(len(found))))
    return [
        Row(row.driver_id, row.customer_id, row.time, NOON + number * SECOND // 2)
        for row, number in zip(found, made, strict=True)
    ]


CREATED = sorted(name for name, view in VIEWS.items() if view.created)


@settings(max_examples=80)
@given(
    labels=rows(NANOS, 10).filter(bool),
    cases=st.fixed_dictionaries({file: rows(MICROS, 12, made=SECONDS) for file in FILES}),
    views=ASKED_VIEWS,
    piece=st.integers(1, 4),
)
def test_pieces_are_those_of_the_whole(
    asked: Asked, labels: list[Row], cases: dict[str, list[Row]], views: list[str], piece: int
) -> None:
    written(asked, views, cases, KINDS[0], 5)
    table = label_rows(labels)
    assert asked.ours(table, views, piece).equals(asked.ours(table, views))


@settings(max_examples=60)
@given(
    # Its frames are pandas', whose integers are no integers beside a null.
    labels=st.lists(st.builds(Row, st.integers(1, 3), KEYS["customer_id"], MICROS), min_size=1),
    cases=st.fixed_dictionaries({file: decided() for file in FILES}),
    views=st.lists(st.sampled_from(CREATED), min_size=1, max_size=3, unique=True),
    kind=st.sampled_from([kind for kind in KINDS if kind.unit == "us"]),
    only_created_before=st.booleans(),
)
def test_joins_are_those_of_feasts_duckdb_store(
    asked: Asked,
    labels: list[Row],
    cases: dict[str, list[Row]],
    views: list[str],
    kind: pa.TimestampType,
    only_created_before: bool,
) -> None:
    files = written(asked, views, cases, kind, 5)
    table = label_rows(labels)
    options: dict[str, Any] = {"filter_by_created_timestamp": only_created_before}

    feasts = asked.feasts(table, views, **options)
    expected = joined(table, reference(views, files, only_created_before=only_created_before))
    names = [name for name in expected.column_names if "__" in name]
    assert feasts.select(names).to_pylist() == expected.select(names).to_pylist()

    ours = asked.ours(table, views, **options)
    assert ours.select(names).to_pylist() == feasts.select(names).to_pylist()
