"""`offline_store: {type: feastrs.feast.FileOfflineStore}` in an unchanged Feast."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import dask.dataframe as dask
from feast import FeatureService, StreamFeatureView
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.infra.offline_stores.dask import DaskOfflineStore, DaskOfflineStoreConfig
from feast.infra.offline_stores.offline_store import RetrievalJob as FeastsJob
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.protos.feast.core.Registry_pb2 import Registry

from feastrs import errors
from feastrs._native import HistoricalJob as NativeJob
from feastrs.feast import source_rows
from feastrs.feast.historical_job import HistoricalJob, SourceJob
from feastrs.feast.opening import open_store
from feastrs.retrieval_job import RetrievalJob
from feastrs.times import micros

_LOG = logging.getLogger("feastrs")

# The service that is made of the views when they come from one, by another name or other keys.
_ASKED = "__asked__"


class FileOfflineStoreConfig(DaskOfflineStoreConfig):
    """Settings of the store.

    Example:
        >>> from feastrs.feast import FileOfflineStoreConfig
        >>> FileOfflineStoreConfig(anonymous=True).s3_region is None
        True
    """

    type: str = "feastrs.feast.FileOfflineStore"
    """How `feature_store.yaml` names the store."""

    s3_region: str | None = None
    """The region of sources on S3; by default what the environment says."""

    s3_profile: str | None = None
    """The profile of AWS's files that has the credentials of sources on S3."""

    anonymous: bool = False
    """Whether sources on S3 and Google Cloud Storage are public: no credentials are sent."""


class FileOfflineStore(DaskOfflineStore):
    """Feast's file store, with point-in-time joins by the core.

    Every label row comes back once, in the order given, beside the values known at its time.
    Ranges of a source are read, and its newest rows found, in Arrow memory, and rows are added to
    a source so that its readers see the old ones or all. What the core can't read, such as
    sources in Delta format, is left to Feast's file store, which the class extends.
    """

    @staticmethod
    def get_historical_features(
        config: Any,
        feature_views: list[Any],
        feature_refs: list[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **dates: Any,
    ) -> FeastsJob:
        """Feast's method of that name; `dates` are `start_date` and `end_date`.

        Returns:
            A job that joins when it is asked for its rows.
        """
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        asked = _without(on_demand, feature_refs)
        frame: Any = entity_df
        if isinstance(frame, dask.DataFrame):
            frame = frame.compute()  # type: ignore[no-untyped-call]
        options = bool(full_feature_names), bool(filter_by_created_timestamp)
        try:
            if isinstance(frame, str):
                raise errors.NeedsFeastError("label rows are given as SQL")
            serialized, names = _registry(feature_views, asked, project)
            native = open_store(config, serialized)
            if frame is None:
                start, end = (_micros(name, dates.get(name)) for name in ("start_date", "end_date"))
                job = NativeJob.of_range(native, start, end, names, *options)
            else:
                job = native.historical(frame, names, *options)
        except errors.NeedsFeastError as reason:
            _LOG.info("joining by Feast's file store: %s", reason)
            if filter_by_created_timestamp:
                dates["filter_by_created_timestamp"] = True
            given = (config, feature_views, feature_refs, entity_df, registry, project)
            return DaskOfflineStore.get_historical_features(*given, full_feature_names, **dates)
        return HistoricalJob(
            RetrievalJob(job, frame, native), feature_refs, on_demand, config.repo_path
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: Any,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> FeastsJob:
        """The newest row of each entity within a window, both ends inclusive.

        Of equal event times the newest created is taken, then the last row.
        """
        window = source_rows.Window(
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
            start_date,
            end_date,
        )
        by_feast = DaskOfflineStore.pull_latest_from_table_or_query
        return _pull(config, data_source, window, by_feast, source_rows.newest)

    @staticmethod
    def pull_all_from_table_or_query(
        config: Any,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> FeastsJob:
        """All rows within a window, both ends inclusive, as the source has them."""
        window = source_rows.Window(
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
            start_date,
            end_date,
        )
        by_feast = DaskOfflineStore.pull_all_from_table_or_query
        return _pull(config, data_source, window, by_feast, lambda rows, _: rows)

    @staticmethod
    def offline_write_batch(
        config: Any, feature_view: Any, table: Any, progress: Callable[[int], Any] | None
    ) -> None:
        """Adds the rows of `table` to the view's source, which stays whole whatever happens.

        Raises:
            ValueError: columns are missing or unknown.
        """
        try:
            serialized, _ = _registry([feature_view], [], config.project)
            native = open_store(config, serialized)
            native.append_frame([feature_view.name], table)
        except errors.NeedsFeastError as reason:
            _LOG.info("writing by Feast's file store: %s", reason)
            DaskOfflineStore.offline_write_batch(config, feature_view, table, progress)
            return
        if progress is not None:
            progress(table.num_rows)


def _pull(
    config: Any,
    source: Any,
    window: source_rows.Window,
    by_feast: Callable[..., FeastsJob],
    choose: Callable[[Any, source_rows.Window], Any],
) -> FeastsJob:
    """A job for those rows of a window that `choose` takes, or Feast's where it must read them."""
    if not source_rows.is_readable(source):
        return by_feast(config, source, *window.columns(), window.start, window.end)
    return SourceJob(
        lambda: choose(source_rows.read(config, source, window), window), config.repo_path
    )


def _micros(name: str, moment: datetime | None) -> int | None:
    return None if moment is None else micros(name, moment)


def _without(on_demand: Sequence[Any], references: list[str]) -> list[str]:
    """The references that are not of on-demand views: those Feast computes from the others."""
    names = {view.projection.name_to_use() for view in on_demand}
    return [one for one in references if one.split(":")[0] not in names]


def _registry(
    views: Sequence[Any], references: list[str], project: str
) -> tuple[bytes, list[str] | FeatureService]:
    """A registry of these views alone, and what it is asked for.

    That is the references as they are, or where views come by other names, with other keys or in
    other versions, a service: there each view has a name of its own.
    """
    message = Registry(version_id="given")
    is_plain = not any("@" in one for one in references) and not any(
        view.projection.name_alias or view.projection.join_key_map for view in views
    )
    for number, view in enumerate(views):
        name = view.name if is_plain else f"{_ASKED}{number}"
        _add_view(message, view, name, project)
    if is_plain:
        return bytes(message.SerializeToString(deterministic=True)), references
    service = message.feature_services.add()
    service.spec.name, service.spec.project = _ASKED, project
    for number, view in enumerate(views):
        projection = service.spec.features.add()
        projection.CopyFrom(_projection(view, references))
        projection.feature_view_name = f"{_ASKED}{number}"
        projection.feature_view_name_alias = view.projection.name_alias or view.name
        projection.ClearField("version_tag")
    serialized = bytes(message.SerializeToString(deterministic=True))
    return serialized, FeatureService(name=_ASKED, features=[])


def _add_view(message: Any, view: Any, name: str, project: str) -> None:
    is_stream = isinstance(view, StreamFeatureView)
    added = (message.stream_feature_views if is_stream else message.feature_views).add()
    added.CopyFrom(view.to_proto())
    added.spec.name, added.spec.project = name, project
    if not added.spec.entities:
        # As it is written where it is applied.
        added.spec.entities.append(DUMMY_ENTITY_NAME)


def _projection(view: Any, references: list[str]) -> Any:
    """The view's part of a service, with those features that are asked of it."""
    prefix = f"{view.projection.name_to_use()}:"
    by_name = {feature.name: feature for feature in view.features}
    asked = (one.removeprefix(prefix) for one in references if one.startswith(prefix))
    projection = copy.copy(view.projection)
    projection.features = [by_name[name] for name in asked]
    return projection.to_proto()
