"""Training data of a time range, without label rows, beside Feast's file store."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import Entity, FeatureView, Field, FileSource
from feast.types import Int64
from feast.value_type import ValueType

from testbed.repo import Repo, apply

START, END = datetime(2024, 1, 1), datetime(2024, 3, 1)


def _view(folder: Path, name: str, feature: str, rows: dict[str, list[Any]]) -> FeatureView:
    path = folder / f"{name}.parquet"
    frame = pd.DataFrame(rows)
    frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], utc=True)
    frame.to_parquet(path)
    entity = Entity(name="a", join_keys=["a"], value_type=ValueType.INT64)
    source = FileSource(name=name, path=str(path), timestamp_field="event_timestamp")
    field = Field(name=feature, dtype=Int64)
    return FeatureView(name=name, entities=[entity], schema=[field], source=source)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("range")
    dates = ["2024-01-01", "2024-02-01", "2023-01-01"]
    first = _view(folder, "v", "x", {"a": [1, 1, 2], "event_timestamp": dates, "x": [1, 2, 3]})
    dates = ["2024-01-01", "2024-02-01", "2024-01-15"]
    second = _view(folder, "w", "y", {"a": [1, 2, 3], "event_timestamp": dates, "y": [10, 20, 30]})
    entity = Entity(name="a", join_keys=["a"], value_type=ValueType.INT64)
    applied = apply(folder / "applied", [entity, first, second])
    (folder / "repo").mkdir()
    return applied.open(folder / "repo")


def _both(repo: Repo, features: list[str]) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    asked: dict[str, Any] = {"features": features, "start_date": START, "end_date": END}
    ours = repo.ours().get_historical_features(**asked).to_arrow()
    return repo.stock().get_historical_features(**asked).to_df(), ours.to_pylist()


def test_entities_are_those_of_the_range(repo: Repo) -> None:
    feasts, ours = _both(repo, ["v:x"])
    # Entity 2 has no row in the range.
    assert sorted(feasts["a"]) == [1, 2]
    assert [(row["a"], row["x"]) for row in ours] == [(1, 2)]


def test_each_view_gives_its_own_entities_values(repo: Repo) -> None:
    feasts, ours = _both(repo, ["v:x", "w:y"])
    # What entity 2 has in the second view.
    assert set(feasts["y"]) == {20}
    found = {row["a"]: (row["x"], row["y"]) for row in ours}
    assert found == {1: (2, 10), 2: (3, 20), 3: (None, 30)}
