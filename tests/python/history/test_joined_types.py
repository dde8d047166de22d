"""Every type comes out of a point-in-time join as the source's Parquet has it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testbed.case_views import AT, DRIVER, ROWS, view_of
from testbed.repo import Applied, Repo, apply
from testbed.values import CASES, MENDED, Case

ALL = [*CASES, *MENDED]
# Drivers that the sources have, in the future of their labels for the last of them, and others.
KNOWN = ROWS // 2
LABELS = pa.table(
    {
        "driver_id": pa.array(list(reversed(range(ROWS + 3))), pa.int64()),
        "event_timestamp": pa.array(
            [AT + timedelta(seconds=KNOWN - 1)] * (ROWS + 3), pa.timestamp("us", tz="UTC")
        ),
        "label": pa.array(range(ROWS + 3), pa.int64()),
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("types")


@pytest.fixture(scope="module")
def applied(folder: Path) -> Applied:
    return apply(folder / "applied", [DRIVER, *(view_of(case, folder) for case in ALL)])


@pytest.fixture(scope="module")
def repo(applied: Applied, folder: Path) -> Repo:
    return applied.open(folder / "ours")


@pytest.fixture(scope="module")
def ours(repo: Repo) -> pa.Table:
    """All types in one call."""
    references = [f"v_{case.name}:{case.name}" for case in ALL]
    return pa.table(repo.ours().get_historical_features(LABELS, references).to_arrow())


@pytest.fixture(scope="module")
def duckdb(applied: Applied, folder: Path) -> Repo:
    return applied.open(folder / "duckdb", settings={"offline_store": {"type": "duckdb"}})


def expected(folder: Path, case: Case) -> pa.ChunkedArray:
    source = pq.read_table(folder / f"{case.name}.parquet")[case.name].combine_chunks()
    if pa.types.is_dictionary(source.type):
        source = source.dictionary_decode()  # an encoding, not a type of Parquet
    found = [row if row < KNOWN else None for row in LABELS["driver_id"].to_pylist()]
    return pa.chunked_array([source.take(pa.array(found, pa.int64()))])


def plain(column: Any) -> list[str]:
    """Values that can be compared where one is NaN."""
    return [repr(value) for value in column.to_pylist()]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_type_and_values_are_the_sources(case: Case, ours: pa.Table, folder: Path) -> None:
    column = ours[case.name]
    assert column.type.equals(expected(folder, case).type), column.type
    assert plain(column) == plain(expected(folder, case))


def test_labels_are_as_they_were(ours: pa.Table) -> None:
    assert ours.select(LABELS.column_names).equals(LABELS)
    assert ours.column_names == [*LABELS.column_names, *(case.name for case in ALL)]


# What DuckDB has one type for where Arrow has several.
OF_ANOTHER_TYPE = {
    *("timestamp_ms", "timestamp_ns", "large_string"),
    *("int64_large_list", "float32_fixed_list"),
}


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_values_are_those_of_feasts_duckdb_store(
    case: Case, ours: pa.Table, duckdb: Repo, folder: Path
) -> None:
    job = duckdb.stock().get_historical_features(LABELS.to_pandas(), [f"v_{case.name}:{case.name}"])
    feasts = job.to_arrow().sort_by("label")[case.name]
    kind = ours[case.name].type
    assert feasts.type.equals(kind) or case.name in OF_ANOTHER_TYPE, (feasts.type, kind)
    if pa.types.is_timestamp(kind):
        feasts = feasts.cast(kind)
    assert plain(feasts) == plain(ours[case.name])
