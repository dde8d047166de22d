"""The job that `get_historical_features` gives: forms of the entity frame and of the answer."""

from __future__ import annotations

import io
import shutil
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import feastrs
from feastrs import errors, retrieval_job

ROOT = Path(__file__).parents[3]
FEATURES = ["driver_stats:avg_daily_trips", "driver_stats:conv_rate"]
NAMES = ["avg_daily_trips", "conv_rate"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> feastrs.FeatureStore:
    folder = tmp_path_factory.mktemp("example") / "driver_stats"
    shutil.copytree(ROOT / "examples" / "driver_stats", folder)
    return feastrs.FeatureStore(repo_path=str(folder))


def labels() -> pd.DataFrame:
    """Two drivers, one of them twice, and one that nobody knows."""
    times = ["2026-01-20", "2026-01-20", "2026-01-10", "2026-01-20"]
    return pd.DataFrame(
        {
            "label": [1, 0, 1, 0],
            "driver_id": [1001, 1002, 1001, -1],
            "event_timestamp": pd.to_datetime(times, utc=True),
        },
        index=pd.Index([9, 8, 7, 6], name="row"),
    )


def test_a_pandas_frame_comes_back_as_it_was(store: feastrs.FeatureStore) -> None:
    frame = labels()
    joined = store.get_historical_features(frame, FEATURES).to_df()
    assert list(joined.columns) == [*frame.columns, *NAMES]
    pd.testing.assert_frame_equal(joined[list(frame.columns)], frame)
    assert joined["avg_daily_trips"].dtype == pd.Int64Dtype()
    assert joined["avg_daily_trips"].isna().tolist() == [False, False, False, True]
    known = store.get_historical_features(frame[:3], FEATURES).to_df()
    assert known["avg_daily_trips"].dtype == "int64"
    assert known["conv_rate"].dtype == "float32"


def test_every_form_of_the_frame_gives_the_same(store: feastrs.FeatureStore) -> None:
    table = pa.Table.from_pandas(labels(), preserve_index=False)
    expected = store.get_historical_features(table, FEATURES).to_arrow()
    assert expected.column_names == [*table.column_names, *NAMES]
    assert expected.select(table.column_names).equals(table)
    halves = pa.concat_tables([table[:1], table[1:]])
    frames: list[Any] = [labels(), pl.from_arrow(table), halves, table.to_reader(max_chunksize=3)]
    for frame in frames:
        joined = store.get_historical_features(frame, FEATURES).to_arrow()
        assert joined.select(NAMES).to_pydict() == expected.select(NAMES).to_pydict()
        assert joined["driver_id"].to_pylist() == table["driver_id"].to_pylist()


def test_every_form_of_the_answer_has_the_same(store: feastrs.FeatureStore) -> None:
    job = store.get_historical_features(pl.from_pandas(labels()), FEATURES)
    expected = job.to_arrow().to_pydict()
    assert pa.table(job).to_pydict() == expected
    assert job.to_polars().to_dict(as_series=False) == expected
    assert job.to_df()["conv_rate"].tolist()[:3] == expected["conv_rate"][:3]
    assert repr(job) == "RetrievalJob(driver_stats:avg_daily_trips, driver_stats:conv_rate)"


def test_names_and_metadata(store: feastrs.FeatureStore) -> None:
    job = store.get_historical_features(labels(), FEATURES, full_feature_names=True)
    assert job.full_feature_names
    assert job.on_demand_feature_views == []
    assert list(job.to_df())[-1] == "driver_stats__conv_rate"
    metadata = job.metadata
    assert metadata.features == FEATURES
    assert metadata.keys == ["label", "driver_id"]
    assert metadata.min_event_timestamp == datetime(2026, 1, 10, tzinfo=timezone.utc)
    assert metadata.max_event_timestamp == datetime(2026, 1, 20, tzinfo=timezone.utc)


def test_the_time_column_may_have_another_name_or_be_text(store: feastrs.FeatureStore) -> None:
    expected = store.get_historical_features(labels(), FEATURES).to_df()[NAMES]
    renamed = labels().rename(columns={"event_timestamp": "when"})
    pd.testing.assert_frame_equal(
        store.get_historical_features(renamed, FEATURES).to_df()[NAMES], expected
    )
    text = labels().assign(event_timestamp=lambda frame: frame["event_timestamp"].astype(str))
    pd.testing.assert_frame_equal(
        store.get_historical_features(text, FEATURES).to_df()[NAMES], expected
    )


def test_an_empty_frame_is_an_empty_answer(store: feastrs.FeatureStore) -> None:
    joined = store.get_historical_features(labels()[:0], FEATURES)
    assert joined.to_df().shape == (0, 5)
    assert str(joined.to_arrow().schema.field("avg_daily_trips").type) == "int64"


def test_what_can_not_be_joined_is_refused(store: feastrs.FeatureStore) -> None:
    def refused(frame: Any, features: Any = FEATURES, **options: Any) -> str:
        with pytest.raises((errors.FeastrsError, TypeError, ValueError)) as caught:
            store.get_historical_features(frame, features, **options).to_arrow()
        return f"{type(caught.value).__name__}: {caught.value}"

    frame = labels()
    assert "EntityTimestampInference" in refused(frame.drop(columns="event_timestamp"))
    twice = frame.assign(other=frame["event_timestamp"]).rename(columns={"event_timestamp": "a"})
    assert "2 others of a timestamp type: a, other" in refused(twice)
    assert "JoinKeyMissingError" in refused(frame.drop(columns="driver_id"))
    assert "TypeMismatchError" in refused(frame.assign(driver_id=["a", "b", "c", "d"]))
    assert "TypeMismatchError" in refused(frame.assign(event_timestamp=1))
    assert "FeatureNotFoundError" in refused(frame, ["driver_stats:nothing"])
    assert "FeatureViewNotFound" in refused(frame, ["nothing:conv_rate"])
    assert "FeatureNameCollisionError" in refused(frame, [FEATURES[0], FEATURES[0]])
    assert "the entity frame has a column 'conv_rate'" in refused(frame.assign(conv_rate=1.0))
    assert "no features asked for" in refused(frame, [])
    assert "TypeError" in refused(object())
    assert "times of its own" in refused(frame, start_date=datetime(2026, 1, 1))


def test_a_frame_may_be_in_files(store: feastrs.FeatureStore, tmp_path: Path) -> None:
    table = pa.Table.from_pandas(labels(), preserve_index=False)
    expected = store.get_historical_features(table, FEATURES).to_arrow()
    pq.write_table(table, tmp_path / "labels.parquet", row_group_size=1)
    (tmp_path / "folder").mkdir()
    for part in range(4):
        pq.write_table(table[part : part + 1], tmp_path / "folder" / f"{part}.parquet")
    for path in [
        tmp_path / "labels.parquet",
        str(tmp_path / "labels.parquet"),
        tmp_path / "folder",
    ]:
        joined = store.get_historical_features(path, FEATURES)
        assert joined.to_arrow().to_pydict() == expected.to_pydict()
        assert joined.metadata.keys == ["label", "driver_id"]
        pieces = list(joined.to_record_batches(rows=1))
        assert [piece.num_rows for piece in pieces] == [1] * 4
        assert pa.Table.from_batches(pieces).to_pydict() == expected.to_pydict()
    with pytest.raises(FileNotFoundError):
        store.get_historical_features(str(tmp_path / "no.parquet"), FEATURES)


def test_sql_is_for_stores_that_speak_it(store: feastrs.FeatureStore) -> None:
    with pytest.raises(ValueError, match="reads files, not SQL"):
        store.get_historical_features("SELECT * FROM labels", FEATURES)


def test_rows_come_piece_by_piece(store: feastrs.FeatureStore) -> None:
    job = store.get_historical_features(labels(), FEATURES)
    pieces = list(job.to_record_batches(rows=3))
    assert [piece.num_rows for piece in pieces] == [3, 1]
    assert pa.Table.from_batches(pieces).to_pydict() == job.to_arrow().to_pydict()


def test_rows_are_written_to_parquet(store: feastrs.FeatureStore, tmp_path: Path) -> None:
    table = pa.Table.from_pandas(labels(), preserve_index=False)
    for frame in [labels(), table]:
        job = store.get_historical_features(frame, FEATURES)
        file = tmp_path / "joined.parquet"
        assert job.to_parquet(file, allow_overwrite=True) == str(file)
        assert pq.read_table(file).to_pydict() == job.to_arrow().to_pydict()
        with pytest.raises(errors.SavedDatasetLocationAlreadyExists, match="allow_overwrite"):
            job.to_parquet(file)
    written = job.to_parquet(tmp_path / "set")
    assert written == str(tmp_path / "set" / "part-0.parquet")
    job.persist(
        SimpleNamespace(file_options=SimpleNamespace(uri=str(file), s3_endpoint_override="")), True
    )
    assert pq.read_table(file).num_rows == 4
    with pytest.raises(TypeError, match="SavedDatasetFileStorage"):
        job.persist(object())
    with pytest.raises(NotImplementedError, match="give a path"):
        job.to_remote_storage()


def test_without_a_frame_entities_are_those_of_the_time_range(store: feastrs.FeatureStore) -> None:
    start, end = datetime(2026, 1, 1), datetime(2026, 1, 20)
    job = store.get_historical_features(features=FEATURES, start_date=start, end_date=end)
    found = job.to_arrow()
    assert found.column_names == ["driver_id", "event_timestamp", *NAMES]
    assert set(found["event_timestamp"].to_pylist()) == {end.replace(tzinfo=timezone.utc)}
    ids = found["driver_id"].to_pylist()
    assert len(set(ids)) == len(ids) > 10
    again = store.get_historical_features(found.select(["driver_id", "event_timestamp"]), FEATURES)
    assert again.to_arrow().to_pydict() == found.to_pydict()
    with pytest.raises(
        ValueError, match=r"start_date, 2026-01-20.* lies after end_date, 2026-01-01"
    ):
        store.get_historical_features(features=FEATURES, start_date=end, end_date=start)
    none = store.get_historical_features(
        features=FEATURES, start_date=datetime(1999, 1, 1), end_date=datetime(1999, 1, 2)
    )
    assert none.to_df().shape == (0, 4)


def test_it_explains_what_is_read(store: feastrs.FeatureStore) -> None:
    explained = store.get_historical_features(labels(), FEATURES).explain()
    assert explained.startswith("4 rows of the entity frame\nview 'driver_stats':\n  file ")
    assert "first pass, to find each label's row: driver_id, event_timestamp, created" in explained
    assert "second pass, of rows that some label has: avg_daily_trips, conv_rate" in explained
    early = labels().assign(event_timestamp=pd.Timestamp("1999-01-01", tz="UTC"))
    assert "row groups: 0 of" in store.get_historical_features(early, FEATURES).explain()
    strangers = labels().assign(driver_id=-5)
    assert "row groups: 0 of" in store.get_historical_features(strangers, FEATURES).explain()


def test_other_forms(store: feastrs.FeatureStore) -> None:
    job = store.get_historical_features(labels(), FEATURES)
    assert job.to_feast_df().metadata["features"] == FEATURES
    assert not job.supports_remote_storage_export()
    with pytest.raises(NotImplementedError):
        job.to_sql()


def test_a_bar_is_drawn_on_long_work(
    store: feastrs.FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(retrieval_job, "_BAR_AFTER_SECONDS", 0.0)
    with retrieval_job._Bar() as advanced:
        assert advanced is not None
        advanced(0.25)
    assert "historical features  [######" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


def test_what_a_bar_raises_ends_the_work(store: feastrs.FeatureStore) -> None:
    native = store.get_historical_features(labels(), FEATURES)._native

    def raises(fraction: float) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        native.run(raises)
