"""The part of the store that looks back: `get_historical_features`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from feastrs import errors
from feastrs.delegation import FeastBacked
from feastrs.retrieval_job import RetrievalJob

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
                DataFrame, a pyarrow table, or anything else with ``__arrow_c_stream__``.
            features: references ``"view:feature"``, or a feature service (of feastrs or of
                feast).
            full_feature_names: name columns ``view__feature`` instead of ``feature``.
            start_date: without ``entity_df``, where the time range begins.
            end_date: without ``entity_df``, where it ends.
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
        try:
            if entity_df is None:
                raise errors.NeedsFeastError("retrieval without an entity frame")
            if isinstance(entity_df, str):
                raise errors.NeedsFeastError("an entity frame given as SQL")
            native = self._native.historical(
                entity_df, features, bool(full_feature_names), bool(filter_by_created_timestamp)
            )
        except errors.NeedsFeastError as reason:
            job: RetrievalJob = self._by_feast(
                reason,
                "get_historical_features",
                entity_df=entity_df,
                features=features,
                full_feature_names=full_feature_names,
                start_date=start_date,
                end_date=end_date,
                filter_by_created_timestamp=filter_by_created_timestamp,
            )
            return job
        return RetrievalJob(native, entity_df)
