"""`OnlineResponse`: the forms in which an answer can be had."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from testbed.repo import Repo

FEATURES = [
    "driver_stats:trips",
    "driver_stats:conv_rate",
    "driver_stats:label",
    "driver_stats:embedding",
    "driver_profile:joined",
    "driver_profile:vip",
    "driver_profile:tags",
]
NUMBERS = ["driver_stats:trips", "driver_stats:conv_rate", "driver_stats:acc_rate"]
ROWS = [{"driver_id": 1000}, {"driver_id": 1001}, {"driver_id": 1}]


@pytest.fixture(scope="module")
def response(repo: Repo) -> Any:
    return repo.ours().get_online_features(FEATURES, ROWS)


@pytest.fixture(scope="module")
def numbers(repo: Repo) -> Any:
    return repo.ours().get_online_features(NUMBERS, ROWS)


def test_dict_has_a_list_for_each_column(response: Any) -> None:
    columns = response.to_dict()
    assert list(columns) == ["driver_id", *(name.split(":")[1] for name in FEATURES)]
    assert columns["driver_id"] == [1000, 1001, 1]
    assert columns["trips"] == [None, 41, None]
    assert columns["label"] == ["dř-40", "dř-41", None]
    assert columns["embedding"][1] == [41.0, 0.5, -41.0]
    assert columns["joined"][0] == datetime(2024, 3, 1, 12, tzinfo=timezone.utc)
    assert columns["vip"] == [True, False, None]
    assert columns["tags"] == [[], ["a"], None]


def test_two_calls_give_two_lists(response: Any) -> None:
    first = response.to_dict()
    first["trips"].append("mine")
    assert len(response.to_dict()["trips"]) == 3


def test_answers_share_nothing(repo: Repo) -> None:
    store = repo.ours()
    first = store.get_online_features(NUMBERS, [{"driver_id": 1001}]).to_dict()
    first["trips"].append("mine")
    first["more"] = []

    second = store.get_online_features(NUMBERS, [{"driver_id": 1001}]).to_dict()

    assert list(second) == ["driver_id", "trips", "conv_rate", "acc_rate"]
    assert second["trips"] == [41]


def test_a_list_of_references_may_change_between_calls(repo: Repo) -> None:
    store, references = repo.ours(), list(NUMBERS)
    rows = [{"driver_id": 1001}]
    assert list(store.get_online_features(references, rows).to_dict())[1:] == [
        "trips",
        "conv_rate",
        "acc_rate",
    ]

    references[0] = "driver_stats:label"
    assert list(store.get_online_features(references, rows).to_dict())[1] == "label"
    references.pop()
    assert list(store.get_online_features(references, rows).to_dict())[1:] == ["label", "conv_rate"]
    full = store.get_online_features(references, rows, full_feature_names=True)
    assert list(full.to_dict())[1] == "driver_stats__label"


def test_event_timestamps_stand_beside_their_column(response: Any) -> None:
    columns = response.to_dict(include_event_timestamps=True)
    assert list(columns)[:4] == ["driver_id", "driver_id__ts", "trips", "trips__ts"]
    assert columns["driver_id__ts"] == [0, 0, 0]
    assert columns["trips__ts"][2] == 0
    assert all(isinstance(second, int) for second in columns["trips__ts"])


def test_data_frame(response: Any) -> None:
    frame = response.to_df()
    pd.testing.assert_frame_equal(frame, pd.DataFrame(response.to_dict()))
    assert "trips__ts" in response.to_df(include_event_timestamps=True).columns


def test_arrow(response: Any) -> None:
    table = response.to_arrow()
    assert isinstance(table, pa.Table)
    assert table.column_names == list(response.to_dict())
    assert table.schema.field("trips").type == pa.int64()
    assert table.schema.field("conv_rate").type == pa.float32()
    assert table.schema.field("embedding").type.value_type == pa.float32()
    assert table["trips"].to_pylist() == [None, 41, None]
    assert table["label"].to_pylist() == ["dř-40", "dř-41", None]
    assert table["embedding"].to_pylist()[1] == [41.0, 0.5, -41.0]
    assert table["joined"].to_pylist() == response.to_dict()["joined"]
    assert table["tags"].to_pylist() == [[], ["a"], None]
    table.validate(full=True)


def test_arrow_with_event_timestamps(response: Any) -> None:
    table = response.to_arrow(include_event_timestamps=True)
    expected = response.to_dict(include_event_timestamps=True)
    assert table.column_names == list(expected)
    table.validate(full=True)


def test_arrow_by_protocol(response: Any) -> None:
    """Any library that speaks the PyCapsule interface takes the response itself."""
    assert hasattr(response, "__arrow_c_stream__")
    assert pa.table(response)["trips"].to_pylist() == [None, 41, None]
    frame = pl.DataFrame(response)
    assert frame.columns == list(response.to_dict())
    assert frame["trips"].to_list() == [None, 41, None]
    assert frame["label"].to_list() == ["dř-40", "dř-41", None]
    # A stream is made anew for each taker.
    assert pl.DataFrame(response).equals(frame)


def test_arrow_outlives_the_response(repo: Repo) -> None:
    table = pa.table(repo.ours().get_online_features(FEATURES, ROWS))
    assert table["label"].to_pylist() == ["dř-40", "dř-41", None]


def test_numpy(numbers: Any) -> None:
    matrix = numbers.to_numpy()
    assert matrix.shape == (3, 3)
    assert matrix.dtype == np.float64
    columns = numbers.to_dict()
    for position, name in enumerate(("trips", "conv_rate", "acc_rate")):
        expected = [math.nan if value is None else float(value) for value in columns[name]]
        np.testing.assert_array_equal(matrix[:, position], expected)


def test_numpy_options(numbers: Any) -> None:
    single = numbers.to_numpy(dtype="float32", missing=-1.0)
    assert single.dtype == np.float32
    assert single[2].tolist() == [-1.0, -1.0, -1.0]
    assert numbers.to_numpy(dtype=np.float32).dtype == np.float32
    assert single.flags.writeable


def test_numpy_refuses_what_is_no_number(response: Any) -> None:
    with pytest.raises(TypeError, match="label"):
        response.to_numpy()


def test_length_names_and_repr(response: Any) -> None:
    assert len(response) == 3
    assert response.feature_names == [name.split(":")[1] for name in FEATURES]
    assert "trips" in repr(response)
    assert "dř-40" not in repr(response)


def test_many_rows(repo: Repo) -> None:
    """More keys than one command or one statement takes."""
    rows = [{"driver_id": 1000 + i % 30} for i in range(20_000)]
    columns = repo.ours().get_online_features(["driver_stats:label"], rows).to_dict()
    assert len(columns["label"]) == 20_000
    assert columns["label"][:30] * 10 == columns["label"][:300]
    assert columns["label"][25] is None


def test_many_distinct_rows(repo: Repo) -> None:
    rows = [{"driver_id": i} for i in range(70_000)]
    columns = repo.ours().get_online_features(["driver_stats:label"], rows).to_dict()
    assert sum(label is not None for label in columns["label"]) == 20


def test_references_may_be_strings_with_python_code(repo: Repo) -> None:
    store = repo.ours()

    class Reference(str):
        """Compares and hashes by code that reads features itself."""

        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            store.get_online_features(NUMBERS[:1], ROWS[:1])
            return str.__eq__(self, other)

        def __hash__(self) -> int:
            return 7

    asked = [store.get_online_features([Reference(name)], ROWS[:1]) for name in NUMBERS * 2]

    names = [name.split(":")[1] for name in NUMBERS * 2]
    assert [answer.feature_names for answer in asked] == [[name] for name in names]
