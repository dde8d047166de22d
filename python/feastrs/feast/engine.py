"""`batch_engine: {type: feastrs.feast.MaterializationEngine}` in an unchanged Feast."""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Literal

from feast import StreamFeatureView
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine, LocalComputeEngineConfig
from feast.infra.compute_engines.local.feature_builder import LocalFeatureBuilder
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.protos.feast.core.Registry_pb2 import Registry

from feastrs._native import Store
from feastrs.feast.opening import open_store
from feastrs.progress import Progress
from feastrs.times import micros

_LOG = logging.getLogger("feastrs")


class MaterializationEngineConfig(LocalComputeEngineConfig):
    """Settings of the engine, beside those of Feast's local engine.

    Example:
        >>> from feastrs.feast import MaterializationEngineConfig
        >>> MaterializationEngineConfig(on_null_key="skip").max_memory_mb
        256
    """

    type: str = "feastrs.feast.MaterializationEngine"
    """How `feature_store.yaml` names the engine."""

    max_memory_mb: int = 256
    """About how much memory a materialization may take, whatever the size of its source."""

    on_null_key: Literal["error", "skip"] = "error"
    """What becomes of rows whose join key is null: an error that counts them, or they are
    counted and left out."""


class MaterializationEngine(LocalComputeEngine):
    """Feast's local engine, with materialization by the core.

    ```yaml
    batch_engine:
      type: feastrs.feast.MaterializationEngine
    ```

    `feast materialize`, `feast materialize-incremental` and the server's `/materialize` then
    write views as `feastrs.FeatureStore.materialize` does. What only Feast's offline store can
    read is given to the core as Arrow memory. Views that the core can't do, such as those with
    transformations, go through Feast's local engine, with a line in the log of `feastrs` that
    says why. Feast itself keeps the views' states and intervals, as ever.
    """

    def __init__(
        self,
        max_memory_mb: int | None = None,
        on_null_key: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        ours = {"max_memory_mb": max_memory_mb, "on_null_key": on_null_key}
        self._materialization = {name: value for name, value in ours.items() if value is not None}

    def _materialize_one(
        self, registry: Any, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        view = task.feature_view
        try:
            obstacle = self._obstacle_of_store() or self._write(registry, task)
        except Exception as error:
            status = MaterializationJobStatus.ERROR
            return LocalMaterializationJob(_job_id(task), status, error)
        if obstacle is None:
            return LocalMaterializationJob(_job_id(task), MaterializationJobStatus.SUCCEEDED)
        _LOG.info("materializing %s by Feast's local engine: %s", view.name, obstacle)
        return super()._materialize_one(registry, task, **kwargs)

    def _write(self, registry: Any, task: MaterializationTask) -> str | None:
        """Writes the rows of `task`, or says why only Feast can."""
        name = task.feature_view.name
        start, end = micros("start_time", task.start_time), micros("end_time", task.end_time)
        if end < start:
            # An incremental run up to a time before the last one's.
            _LOG.info("%s: %s lies after %s, nothing to materialize", name, *_window(task))
            return None
        native = self._open(task)
        ours, obstacles = native.materialization_plan([name])
        if not ours:
            obstacle = native.source_rows_obstacle(name)
            if obstacle is None:
                _LOG.info("reading the rows of %s by Feast: %s", name, obstacles[name])
                self._write_source_rows(native, registry, task)
            return obstacle
        with self._turn(), Progress() as progress:
            _, failed = native.materialize(ours, start, end, 0, False, progress)
        for _, error in failed:
            raise error
        return None

    def _write_source_rows(self, native: Store, registry: Any, task: MaterializationTask) -> None:
        """Writes what the offline store gives, as Arrow memory from beginning to end."""
        context = self.get_execution_context(registry, task)
        builder = LocalFeatureBuilder(registry, task, backend=self._get_backend(context))
        table = builder.build_source_node(task.feature_view).execute(context).data
        with self._turn():
            [(view, rows, entities, *_)] = native.write_source_rows(task.feature_view.name, table)
        _LOG.info("materialized %s: %s rows, %s entities written", view, rows, entities)

    def _open(self, task: MaterializationTask) -> Store:
        """The core's store with a registry of the one view."""
        # As the task has it, which may be another version than the registry's.
        message = Registry(version_id="given")
        is_stream = isinstance(task.feature_view, StreamFeatureView)
        views = message.stream_feature_views if is_stream else message.feature_views
        view = views.add()
        view.CopyFrom(task.feature_view.to_proto())
        view.spec.project = task.project
        view.meta.current_version_number = _version_of(task.feature_view)
        serialized = message.SerializeToString(deterministic=True)
        return open_store(self.repo_config, serialized, self._materialization)

    def _obstacle_of_store(self) -> str | None:
        from feast.infra.online_stores.sqlite import SqliteOnlineStore

        if isinstance(self.online_store, SqliteOnlineStore) and not hasattr(
            self.online_store, "turn"
        ):
            # Two copies of the SQLite library on one file: see `feastrs.feast.sqlite`.
            return "the online store is Feast's SQLite, not feastrs.feast.SqliteOnlineStore"
        return None

    def _turn(self) -> contextlib.AbstractContextManager[Any]:
        turn = getattr(self.online_store, "turn", None)
        return turn(self.repo_config) if turn else contextlib.nullcontext()


def _version_of(view: Any) -> int:
    """The version that the view's rows are stored under, 0 for a name without one."""
    stored = compute_versioned_name(view, enable_versioning=True)
    return int(stored.removeprefix(f"{view.name}_v")) if stored != view.name else 0


def _window(task: MaterializationTask) -> tuple[str, str]:
    return task.start_time.isoformat(), task.end_time.isoformat()


def _job_id(task: MaterializationTask) -> str:
    return f"{task.feature_view.name}-{task.start_time}-{task.end_time}"
