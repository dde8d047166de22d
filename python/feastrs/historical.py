"""The part of the store that looks back: `get_historical_features`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feastrs import errors
from feastrs._native import HistoricalJob
from feastrs.delegation import FeastBacked
from feastrs.retrieval_job import RetrievalJob
from feastrs.times import micros

if TYPE_CHECKING:
    from feastrs._native import Store


class HistoricalReads(FeastBacked):
    """The part of :class:`feastrs.FeatureStore` that joins features to labels.

    Example:
        >>> from feastrs.historical import HistoricalReads
        >>> isinstance(store, HistoricalReads)
        True
    """

    _native: Store

    def get_historical_features(
        self,
        entity_df: Any = None,
        features: Sequence[str] | Any = (),
        full_feature_names: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """Joins features to rows of an entity frame, as they were known at each row's time.

        For each row and view that is the newest row of its key whose event timestamp is at or
        before the row's, and not older than the view's ``ttl`` if it has one; among rows of one
        event timestamp the one that was created last, then the later one.

        Args:
            entity_df: the rows: join keys, a column ``event_timestamp`` (or a single one of a
                timestamp type under another name), and whatever else; a pandas or polars
                DataFrame, a pyarrow table, anything else with ``__arrow_c_stream__``, or the
                path of Parquet files (a file, a folder, a glob; on disk, S3 or GCS). Without
                it: the entities that have rows between ``start_date`` and ``end_date``, as they
                were known at ``end_date``.
            features: references ``"view:feature"``, or a feature service (of feastrs or of
                feast).
            full_feature_names: name columns ``view__feature`` instead of ``feature``.
            start_date: without ``entity_df``, where the time range begins; the longest ``ttl``
                of the views before its end by default, else thirty days.
            end_date: without ``entity_df``, where it ends; now by default.
            filter_by_created_timestamp: leave out feature rows that were created after the
                row's time.

        Returns:
            A job, which reads when it is asked for rows.

        Raises:
            feastrs.errors.FeatureViewNotFoundException: a view is not in the registry.
            feastrs.errors.FeatureNameCollisionError: two columns would have one name.
            feastrs.errors.EntityTimestampInferenceException: which column has the times can't
                be told.
            KeyError: a feature is not in its view, or a join key is not in the frame.
            ValueError: the arguments can't be used together.
        """
        if entity_df is not None and (start_date is not None or end_date is not None):
            raise ValueError(
                "give entity_df, or start_date and end_date: a frame has times of its own"
            )
        asked = (features, bool(full_feature_names), bool(filter_by_created_timestamp))
        try:
            if entity_df is None:
                start, end = _micros("start_date", start_date), _micros("end_date", end_date)
                native = HistoricalJob.of_range(self._native, start, end, *asked)
            elif _is_path(entity_df):
                native = HistoricalJob.of_files(self._native, _path(entity_df), *asked)
            elif isinstance(entity_df, str):
                self._refuse_sql()
                raise errors.NeedsFeastError("an entity frame given as SQL")
            else:
                native = self._native.historical(entity_df, *asked)
        except errors.NeedsFeastError as reason:
            job: RetrievalJob = self._by_feast(
                reason,
                "get_historical_features",
                entity_df=_as_feast_takes_it(entity_df),
                features=features,
                full_feature_names=full_feature_names,
                start_date=start_date,
                end_date=end_date,
                filter_by_created_timestamp=filter_by_created_timestamp,
            )
            return job
        return RetrievalJob(native, entity_df, self._native)

    def _refuse_sql(self) -> None:
        """SQL is for stores that speak it: those of Feast that do not read files."""
        kind = str(self._native.config()["offline_store"]["type"])
        if kind in ("file", "dask", "duckdb") or kind.startswith("feastrs."):
            raise ValueError(
                f"entity_df is text that names no Parquet file, and the offline store "
                f"'{kind}' reads files, not SQL: give a frame, or a path that ends in '.parquet'"
            )


def _is_path(frame: Any) -> bool:
    if isinstance(frame, os.PathLike):
        return True
    if not isinstance(frame, str) or "\n" in frame:
        return False
    is_named = frame.endswith((".parquet", ".parq", ".pq"))
    return is_named or frame.startswith(("s3://", "gs://")) or Path(frame).exists()


def _path(frame: str | os.PathLike[str]) -> str:
    text = os.fspath(frame)
    return text if "://" in text else str(Path(text).absolute())


def _as_feast_takes_it(frame: Any) -> Any:
    """An Arrow frame as a pandas one, which Feast knows."""
    if hasattr(frame, "__arrow_c_stream__") and not hasattr(frame, "iloc"):
        import pyarrow

        return pyarrow.table(frame).to_pandas()
    return frame


def _micros(name: str, moment: datetime | None) -> int | None:
    return None if moment is None else micros(name, moment)
