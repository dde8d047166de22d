"""Label rows that Feast's file store loses, merges or gives the wrong values, and what we give.

Each test shows how many rows Feast gives back, or which of them are wrong, and that ours are those
of the slow reference. `label` is the number of a label row.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from testbed.history import FILES, Asked, Row, features, label_rows, reference, source_rows
from testbed.point_in_time import joined

SECOND = 10**9
NOON = 1_717_243_200 * SECOND


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked.make(tmp_path_factory.mktemp("history"))


@dataclass
class Both:
    """The same labels joined by Feast's file store and by us."""

    feasts: pd.DataFrame
    ours: list[dict[str, Any]]

    def labels_of_feast(self) -> list[int]:
        return sorted(self.feasts["label"])


def both(asked: Asked, labels: list[Row], views: Sequence[str], **sources: list[Row]) -> Both:
    """Both sides' rows; ours are seen to be the reference's, one for each label, in their order."""
    files = {file: source_rows(FILES[file], rows) for file, rows in sources.items()}
    asked.write(files, row_group_size=1000)
    table = label_rows(labels)
    job = asked.repo.stock().get_historical_features(
        table.to_pandas(), features(views), full_feature_names=True
    )
    ours = asked.ours(table, views)
    assert ours["label"].to_pylist() == list(range(len(labels)))
    expected = joined(table, reference(views, files))
    assert ours.equals(expected), ours.to_pylist()
    return Both(job.to_df(), ours.to_pylist())


def test_labels_without_a_valid_match_stay(asked: Asked) -> None:
    rows = [Row(1, None, NOON), Row(2, None, NOON + 5 * SECOND)]
    before, after, late = NOON - SECOND, NOON + SECOND, NOON + 4 * SECOND
    labels = [Row(1, "a", after), Row(1, "a", before), Row(1, "a", late), Row(2, "a", after)]
    found = both(asked, labels, ["short"], driver=rows)

    # The future is left out, and with it the label; only an unknown key comes back with nulls.
    assert found.labels_of_feast() == [0]
    assert [row["short__value"] for row in found.ours] == [0, None, None, None]


def test_labels_with_equal_key_and_time_stay_apart(asked: Asked) -> None:
    labels = [Row(1, "a", NOON), Row(1, "b", NOON), Row(1, "a", NOON), Row(7, "a", NOON)]
    found = both(asked, [*labels, labels[-1]], ["unlimited"], driver=[Row(1, None, NOON)])

    assert found.labels_of_feast() == [2, 4]
    assert [row["customer_id"] for row in found.ours] == ["a", "b", "a", "a", "a"]
    assert [row["unlimited__value"] for row in found.ours] == [0, 0, 0, None, None]


def test_labels_that_differ_in_the_key_of_a_later_view_stay_apart(asked: Asked) -> None:
    labels = [Row(1, "a", NOON), Row(1, "b", NOON)]
    customers = [Row(None, "a", NOON, NOON), Row(None, "b", NOON, NOON)]
    views = ["unlimited", "customers"]
    found = both(asked, labels, views, driver=[Row(1, None, NOON)], customer=customers)

    assert found.labels_of_feast() == [1]
    assert [row["customers__value"] for row in found.ours] == [0, 1]


def test_labels_of_one_time_without_entities_stay_apart(asked: Asked) -> None:
    labels = [Row(1, "a", NOON), Row(2, "b", NOON), Row(3, "c", NOON - SECOND)]
    found = both(asked, labels, ["world"], world=[Row(None, None, NOON, NOON)])

    assert found.labels_of_feast() == [1]
    assert [row["world__value"] for row in found.ours] == [0, 0, None]


def test_labels_keep_their_order(asked: Asked) -> None:
    labels = [Row(1 + i % 3, "a", NOON + (97 * i % 50) * SECOND) for i in range(50)]
    rows = [Row(1, None, NOON), Row(2, None, NOON), Row(3, None, NOON)]
    found = both(asked, labels, ["unlimited"], driver=rows)

    assert len(found.feasts) == len(labels)
    assert list(found.feasts["label"]) != list(range(50))


def test_labels_without_a_time_stay(asked: Asked) -> None:
    labels = [Row(1, "a", None), Row(1, "a", NOON)]
    found = both(asked, labels, ["short"], driver=[Row(1, None, NOON)])

    assert found.labels_of_feast() == [1]
    assert [row["short__value"] for row in found.ours] == [None, 0]


def test_a_key_that_is_null_matches_nothing(asked: Asked) -> None:
    labels = [Row(1, None, NOON), Row(2, None, NOON)]
    found = both(asked, labels, ["customers"], customer=[Row(None, None, NOON, NOON)])

    assert list(found.feasts["customers__value"]) == [0]
    assert [row["customers__value"] for row in found.ours] == [None, None]


def test_a_row_without_an_event_time_matches_nothing(asked: Asked) -> None:
    rows = [Row(1, None, NOON), Row(2, None, None)]
    labels = [Row(1, "a", NOON), Row(2, "a", NOON)]
    found = both(asked, labels, ["short"], driver=rows)

    assert sorted(found.feasts["short__value"]) == [0, 1]
    assert [row["short__value"] for row in found.ours] == [0, None]


def test_of_equal_event_times_the_newest_created_is_taken(asked: Asked) -> None:
    made = list(range(200))
    random.Random(3).shuffle(made)
    rows = [
        Row(1 + i % 3, None, NOON + i % 5 * SECOND, NOON + made[i] * SECOND) for i in range(200)
    ]
    labels = [Row(driver, "a", NOON + 100 * SECOND) for driver in (1, 2, 3)]
    found = both(asked, labels, ["created"], created=rows)

    ours = [row["created__value"] for row in found.ours]
    newest = {driver: max(_made(rows, driver)) for driver in (1, 2, 3)}
    assert [rows[value].made for value in ours] == list(newest.values())
    # Sorted twice, by a sort that does not keep what was equal in its order.
    feasts = found.feasts.sort_values("label")["created__value"]
    assert list(feasts) != ours


def _made(rows: list[Row], driver: int) -> list[int]:
    last = max(row.time or 0 for row in rows if row.driver_id == driver)
    return [row.made or 0 for row in rows if row.driver_id == driver and row.time == last]


def test_integers_beside_nulls_stay_integers(asked: Asked) -> None:
    files = {
        "driver": source_rows(FILES["driver"], [Row(1, None, NOON)]).set_column(
            2, "value", pa.array([2**53 + 1], pa.int64())
        )
    }
    asked.write(files)
    labels = label_rows([Row(1, "a", NOON), Row(2, "a", NOON)])
    job = asked.repo.stock().get_historical_features(
        labels.to_pandas(), features(["unlimited"]), full_feature_names=True
    )
    feasts = sorted(job.to_df()["unlimited__value"].dropna())

    assert feasts == [2.0**53]
    ours = asked.ours(labels, ["unlimited"])["unlimited__value"]
    assert ours.type == pa.int64()
    assert ours.to_pylist() == [2**53 + 1, None]


def test_a_nanosecond_of_the_future_is_the_future(asked: Asked) -> None:
    rows = [Row(1, None, NOON + 1, NOON)]
    files = {"created": source_rows(FILES["created"], rows, pa.timestamp("ns"))}
    asked.write(files)
    labels = label_rows([Row(1, "a", NOON)])

    # Feast's duckdb store has microseconds only.
    assert asked.feasts(labels, ["created"])["created__value"].to_pylist() == [0]
    assert asked.ours(labels, ["created"])["created__value"].to_pylist() == [None]
