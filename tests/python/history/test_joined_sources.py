"""Sources of many forms under a point-in-time join: what is passed over is never what is wanted."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, Int64, String

from testbed.point_in_time import Source, joined
from testbed.repo import Repo, apply, file_source

UTC = timezone.utc
NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
MICROS = pa.timestamp("us", tz="UTC")
SECOND = timedelta(seconds=1)
INT64 = pa.int64()
KEY_TYPES = {
    pa.int64(): (Int64, ValueType.INT64),
    pa.int32(): (Int64, ValueType.INT64),
    pa.uint64(): (Int64, ValueType.INT64),
    pa.string(): (String, ValueType.STRING),
    pa.large_string(): (String, ValueType.STRING),
}


def table(keys: pa.Array, times: pa.Array, first: int = 0) -> pa.Table:
    values = pa.array(range(first, first + len(keys)), pa.int64())
    return pa.table({"id": keys, "event_timestamp": times, "x": values})


def view(
    path: Path, kind: pa.DataType = INT64, ttl: timedelta | None = None, **source: Any
) -> list[Any]:
    dtype, value_type = KEY_TYPES[kind]
    entity = Entity(name="thing", join_keys=["id"], value_type=value_type)
    found = FeatureView(
        name="v",
        entities=[entity],
        ttl=ttl,
        schema=[Field(name="id", dtype=dtype), Field(name="x", dtype=Int64)],
        source=file_source(path, **source),
    )
    return [entity, found]


def ours(repo: Repo, labels: pa.Table, features: Any = ("v:x",), **options: Any) -> pa.Table:
    asked = list(features) if isinstance(features, tuple) else features
    return pa.table(repo.ours().get_historical_features(labels, asked, **options).to_arrow())


def check(repo: Repo, labels: pa.Table, rows: pa.Table, **limits: Any) -> pa.Table:
    """Ours is what the reference says."""
    found = ours(repo, labels)
    expected = joined(labels, [Source(rows, {"id": "id"}, {"x": "x"}, **limits)])
    assert found["x"].to_pylist() == expected["x"].to_pylist()
    assert found.equals(expected)
    return found


def times(*seconds: float, kind: pa.DataType = MICROS) -> pa.Array:
    return pa.array([NOON + one * SECOND for one in seconds], kind)


def some_keys(kind: pa.DataType, pool: list[Any], count: int, seed: int) -> pa.Array:
    chosen = random.Random(seed)
    return pa.array([chosen.choice([None, *pool]) for _ in range(count)], kind)


POOLS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int64": (pa.int64(), [-(2**63), -5, 0, 7, 2**53, 2**53 + 1, 2**63 - 1]),
    "int32": (pa.int32(), [-(2**31), -1, 0, 3, 2**31 - 1]),
    "uint64": (pa.uint64(), [0, 1, 2**63, 2**64 - 1]),
    "string": (pa.string(), ["", "a", "a\x00", "ž", "\U0010ffff", "\uffff"]),
    # Statistics of long texts are cut, and so are larger or smaller than any.
    "long": (pa.string(), ["a" * 100, "a" * 100 + "b", "\U0010ffff" * 70, "ž" * 65, "a" * 64]),
    "large": (pa.large_string(), ["", "x" * 80, "y"]),
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("statistics", [True, False])
def test_row_groups_are_passed_over_by_keys(name: str, statistics: bool, tmp_path: Path) -> None:
    kind, pool = POOLS[name]
    count = 120
    keys = some_keys(kind, pool, count, 1)
    order = sorted(
        range(count), key=lambda row: (keys[row].as_py() is None, keys[row].as_py() or pool[0])
    )
    seconds = [random.Random(row).uniform(-50, 50) for row in range(count)]
    rows = table(keys.take(pa.array(order)), times(*seconds))
    path = tmp_path / "v.parquet"
    pq.write_table(rows, path, row_group_size=7, write_statistics=statistics)
    repo = apply(tmp_path / "applied", view(path, kind)).open(tmp_path / "ours")
    # All keys at once, then one alone, so that most row groups are of no use.
    for some in ([None, *pool], *([one] for one in pool)):
        labels = pa.table(
            {
                "id": pa.array(some * 3, kind),
                "event_timestamp": times(*range(-40, -40 + 3 * len(some))),
            }
        )
        check(repo, labels, rows)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("ttl", [None, 2 * SECOND, timedelta(microseconds=1)])
@pytest.mark.parametrize("is_indexed", [True, False])
def test_row_groups_are_passed_over_by_times(
    unit: str, ttl: timedelta | None, is_indexed: bool, tmp_path: Path
) -> None:
    kind = pa.timestamp(unit, tz="UTC")
    seconds = [float(second) for second in range(-60, 60)]
    rows = table(pa.array([1, 2, 3] * 40, pa.int64()), times(*seconds, kind=kind))
    path = tmp_path / "v.parquet"
    pq.write_table(rows, path, row_group_size=10, write_page_index=is_indexed, data_page_size=64)
    repo = apply(tmp_path / "applied", view(path, ttl=ttl)).open(tmp_path / "ours")
    for around in (-61, -60, -20.000001, -20, 59, 60, 10_000):
        moments = [around, around + 1e-6, around + 2]
        labels = pa.table(
            {"id": pa.array([1, 2, 3], pa.int64()), "event_timestamp": times(*moments)}
        )
        check(repo, labels, rows, ttl=ttl)


def test_what_is_passed_over_is_told(tmp_path: Path) -> None:
    rows = table(pa.array(range(1000)), times(*range(1000)))
    path = tmp_path / "v.parquet"
    pq.write_table(rows, path, row_group_size=100)
    repo = apply(tmp_path / "applied", view(path, ttl=5 * SECOND)).open(tmp_path / "ours")
    labels = pa.table({"id": pa.array([700, 701]), "event_timestamp": times(702, 702)})
    check(repo, labels, rows, ttl=5 * SECOND)
    told = repo.ours().get_historical_features(labels, ["v:x"]).explain()
    assert "v.parquet" in told
    assert "1 of 10" in told


def test_of_equal_rows_the_last_of_the_last_file_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    folder.mkdir()
    parts = []
    for number in range(4):
        keys = pa.array([1, 2, 1, 2], pa.int64())
        parts.append(table(keys, times(0, 0, 0, 0), first=10 * number))
        pq.write_table(parts[-1], folder / f"part-{number}.parquet", row_group_size=1)
    labels = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "event_timestamp": times(0, 9, 9)})
    repo = apply(tmp_path / "applied", view(folder)).open(tmp_path / "ours")
    assert check(repo, labels, pa.concat_tables(parts))["x"].to_pylist() == [32, 33, None]


@pytest.mark.parametrize("count", [1, 3, 500])
def test_of_equal_rows_the_last_is_taken_among_many(count: int, tmp_path: Path) -> None:
    chosen = random.Random(count)
    rows = table(
        pa.array([chosen.randrange(3) for _ in range(count)], pa.int64()),
        times(*(chosen.randrange(4) for _ in range(count))),
    )
    path = tmp_path / "v.parquet"
    pq.write_table(rows, path, row_group_size=33)
    repo = apply(tmp_path / "applied", view(path)).open(tmp_path / "ours")
    keys = pa.array([0, 1, 2] * 6, pa.int64())
    labels = pa.table({"id": keys, "event_timestamp": times(*(i // 3 - 1 for i in range(18)))})
    check(repo, labels, rows)


def test_a_partition_of_folders_is_a_key(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    for key in (1, 2, 30):
        part = folder / f"id={key}"
        part.mkdir(parents=True)
        rows = table(pa.array([key] * 3), times(0, 1, 2), first=100 * key)
        pq.write_table(rows.drop_columns(["id"]), part / "a.parquet")
    labels = pa.table(
        {"id": pa.array([30, 2, 1, 4], pa.int64()), "event_timestamp": times(1, 9, -1, 1)}
    )
    repo = apply(tmp_path / "applied", view(folder)).open(tmp_path / "ours")
    assert ours(repo, labels)["x"].to_pylist() == [3001, 202, None, None]


EXTREMES = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1677, 9, 21, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2262, 4, 12, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
]


@pytest.mark.parametrize(
    "ttl", [None, timedelta(0), timedelta(days=106_751), timedelta(days=10**6)]
)
@pytest.mark.parametrize("nanos", [False, True])
def test_the_ends_of_time(ttl: timedelta | None, nanos: bool, tmp_path: Path) -> None:
    rows = table(pa.array([1] * 5, pa.int64()), pa.array(EXTREMES, MICROS))
    path = tmp_path / "v.parquet"
    pq.write_table(rows, path, row_group_size=2)
    repo = apply(tmp_path / "applied", view(path, ttl=ttl)).open(tmp_path / "ours")
    moments = pa.array(EXTREMES, MICROS)
    if nanos:
        # What nanoseconds can hold.
        numbers = [-(2**63), -1, 0, 1, 2**63 - 1]
        moments = pa.array(numbers, pa.int64()).cast(pa.timestamp("ns", tz="UTC"))
    labels = pa.table({"id": pa.array([1] * 5, pa.int64()), "event_timestamp": moments})
    check(repo, labels, rows, ttl=ttl)


def test_field_mappings(tmp_path: Path) -> None:
    rows = table(pa.array([1, 2], pa.int64()), times(0, 0)).append_column("made_at", times(5, 5))
    path = tmp_path / "v.parquet"
    pq.write_table(rows.rename_columns(["thing_no", "at", "value", "made_at"]), path)
    mapping = {"thing_no": "id", "value": "x"}
    definitions = view(
        path,
        field_mapping=mapping,
        timestamp_field="at",
        created_timestamp_column="made_at",
    )
    repo = apply(tmp_path / "applied", definitions).open(tmp_path / "ours")
    labels = pa.table({"id": pa.array([2, 1, 1], pa.int64()), "event_timestamp": times(1, 1, -1)})
    assert ours(repo, labels)["x"].to_pylist() == [1, 0, None]
    early = ours(repo, labels, filter_by_created_timestamp=True)
    assert early["x"].to_pylist() == [None, None, None]


def test_old_files_with_96_bit_times(tmp_path: Path) -> None:
    rows = table(pa.array([1, 1, 2], pa.int64()), times(0, 1, 2, kind=pa.timestamp("ns")))
    path = tmp_path / "v.parquet"
    pq.write_table(rows, path, use_deprecated_int96_timestamps=True, row_group_size=1)
    repo = apply(tmp_path / "applied", view(path)).open(tmp_path / "ours")
    labels = pa.table({"id": pa.array([1, 2, 1], pa.int64()), "event_timestamp": times(0, 2, 5)})
    assert ours(repo, labels)["x"].to_pylist() == [0, 2, 1]


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"compression": "none", "use_dictionary": False},
        {"compression": "gzip", "data_page_version": "2.0", "write_page_index": True},
        {"compression": "lz4", "use_dictionary": False, "column_encoding": "DELTA_BINARY_PACKED"},
        {"compression": "brotli", "store_schema": False},
    ],
    ids=lambda options: options["compression"],
)
def test_encodings(options: dict[str, Any], tmp_path: Path) -> None:
    chosen = random.Random(5)
    rows = table(
        pa.array([chosen.randrange(9) for _ in range(300)], pa.int64()),
        times(*(chosen.randrange(-50, 50) for _ in range(300))),
    )
    path = tmp_path / "v.parquet"
    pq.write_table(rows, path, row_group_size=64, data_page_size=128, **options)
    repo = apply(tmp_path / "applied", view(path)).open(tmp_path / "ours")
    keys = pa.array([chosen.randrange(10) for _ in range(60)], pa.int64())
    labels = pa.table(
        {"id": keys, "event_timestamp": times(*(chosen.randrange(-60, 60) for _ in range(60)))}
    )
    check(repo, labels, rows)


class TestServices:
    """A service's order, other names of views, and other names of keys."""

    @pytest.fixture
    def repo(self, tmp_path: Path) -> Repo:
        rows = table(pa.array([1, 2, 3], pa.int64()), times(0, 0, 0))
        path = tmp_path / "v.parquet"
        pq.write_table(rows.append_column("y", pa.array([0.5, 1.5, 2.5])), path)
        entity = Entity(name="thing", join_keys=["id"], value_type=ValueType.INT64)
        fields = [("id", Int64), ("x", Int64), ("y", Float64)]
        place = FeatureView(
            name="place",
            entities=[entity],
            ttl=None,
            schema=[Field(name=name, dtype=dtype) for name, dtype in fields],
            source=file_source(path),
        )
        route = FeatureService(
            name="route",
            features=[
                place.with_name("target").with_join_key_map({"id": "target_id"})[["y"]],
                place.with_name("origin").with_join_key_map({"id": "origin_id"}),
            ],
        )
        objects = [entity, place, route]
        return apply(tmp_path / "applied", objects).open(tmp_path / "ours")

    def test_one_view_twice(self, repo: Repo) -> None:
        labels = pa.table(
            {
                "origin_id": pa.array([1, 3, None], pa.int64()),
                "target_id": pa.array([2, 9, 1], pa.int64()),
                "event_timestamp": times(0, 1, 2),
            }
        )
        service = repo.ours().get_feature_service("route")
        found = ours(repo, labels, service, full_feature_names=True)
        assert found.column_names == [
            *labels.column_names,
            *("target__y", "origin__x", "origin__y"),
        ]
        assert found["origin__x"].to_pylist() == [0, 2, None]
        assert found["target__y"].to_pylist() == [1.5, None, 0.5]
        # Feast's own service object is taken, too.
        again = ours(
            repo, labels, repo.stock().get_feature_service("route"), full_feature_names=True
        )
        assert again.equals(found)

    def test_order_is_the_requests(self, repo: Repo) -> None:
        labels = pa.table({"id": pa.array([2], pa.int64()), "event_timestamp": times(1)})
        found = ours(repo, labels, ["place:y", "place:x"])
        assert found.column_names == ["id", "event_timestamp", "y", "x"]


def test_a_thousand_features(tmp_path: Path) -> None:
    count = 1000
    entity = Entity(name="thing", join_keys=["id"], value_type=ValueType.INT64)
    names = [f"f{number}" for number in range(count)]
    rows: dict[str, Any] = {
        "id": pa.array([1, 2, 1], pa.int64()),
        "event_timestamp": times(0, 0, 5),
    }
    rows |= {name: pa.array([number, -number, 0.5]) for number, name in enumerate(names)}
    path = tmp_path / "wide.parquet"
    pq.write_table(pa.table(rows), path, row_group_size=2)
    wide = FeatureView(
        name="wide",
        entities=[entity],
        ttl=None,
        schema=[Field(name="id", dtype=Int64), *(Field(name=n, dtype=Float64) for n in names)],
        source=file_source(path),
    )
    repo = apply(tmp_path / "applied", [entity, wide]).open(tmp_path / "ours")
    labels = pa.table(
        {"id": pa.array([2, 1, 1, 3], pa.int64()), "event_timestamp": times(1, 1, 9, 9)}
    )
    found = ours(repo, labels, [f"wide:{name}" for name in names])
    for number, name in enumerate(names):
        assert found[name].to_pylist() == [-number, number, 0.5, None]
