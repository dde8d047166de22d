"""Retrieval jobs as an unchanged Feast knows them, over Arrow memory of ours."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import FileSource, SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from pyarrow.fs import FileType


class ArrowJob(RetrievalJob):
    """What is common to our jobs: rows that are an Arrow table when they are asked for.

    Example:
        >>> import pyarrow as pa
        >>> from feastrs.feast.historical_job import ArrowJob
        >>> ArrowJob(lambda: pa.table({"x": [1]}), repo_path=None).to_arrow().num_rows
        1
    """

    def __init__(self, read: Callable[[], pa.Table], repo_path: Path | str | None) -> None:
        self._read = read
        self._repo_path = repo_path

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._read()

    def _to_df_internal(self, timeout: int | None = None) -> Any:
        return self._read().to_pandas()

    @property
    def full_feature_names(self) -> bool:
        """Whether columns are named `view__feature`."""
        return False

    @property
    def on_demand_feature_views(self) -> list[Any]:
        """The views that Feast computes from the rows."""
        return []

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for; None where only a source is read."""
        return None

    def persist(
        self, storage: Any, allow_overwrite: bool | None = False, timeout: int | None = None
    ) -> None:
        """Writes the rows to Parquet: to a file where the path ends so, else into a folder.

        Raises:
            feast.errors.SavedDatasetLocationAlreadyExists: something is there already.
        """
        if not isinstance(storage, SavedDatasetFileStorage):
            raise TypeError(
                f"rows are saved to a SavedDatasetFileStorage, not a {type(storage).__name__}"
            )
        options = storage.file_options
        full = FileSource.get_uri_for_file_path(repo_path=self._repo_path, uri=options.uri)
        filesystem, path = FileSource.create_filesystem_and_path(full, options.s3_endpoint_override)
        if not allow_overwrite and _is_there(filesystem, path):
            raise SavedDatasetLocationAlreadyExists(location=options.uri)
        table = self.to_arrow(timeout=timeout)
        if not path.endswith(".parquet"):
            pq.write_to_dataset(table, root_path=path, filesystem=filesystem)
        elif filesystem is None and "://" not in path:
            _write_whole(table, Path(path))
        else:
            pq.write_table(table, path, filesystem=filesystem)


class SourceJob(ArrowJob):
    """Rows of a source, read when they are asked for."""


class HistoricalJob(ArrowJob):
    """A point-in-time join by the core; on-demand views are computed from it by Feast."""

    def __init__(
        self,
        job: Any,
        references: list[str],
        on_demand: list[Any],
        repo_path: Path | str | None,
    ) -> None:
        super().__init__(job.to_arrow, repo_path)
        self._job = job
        self._references = references
        self._on_demand = on_demand

    @property
    def full_feature_names(self) -> bool:
        """Whether columns are named `view__feature`."""
        return bool(self._job.full_feature_names)

    @property
    def on_demand_feature_views(self) -> list[Any]:
        """The views that Feast computes from the rows."""
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata:
        """The features, the other columns of the label rows, and the range of their times."""
        about = self._job.metadata
        return RetrievalMetadata(
            self._references, about.keys, about.min_event_timestamp, about.max_event_timestamp
        )

    def persist(
        self, storage: Any, allow_overwrite: bool | None = False, timeout: int | None = None
    ) -> None:
        """Writes the rows to Parquet; piece by piece, where Feast has nothing to compute.

        Raises:
            feast.errors.SavedDatasetLocationAlreadyExists: something is there already.
        """
        if self._on_demand:
            super().persist(storage, allow_overwrite, timeout)
        else:
            self._job.persist(storage, bool(allow_overwrite))

    def explain(self) -> str:
        """Which files and row groups will be read, and which are passed over."""
        return str(self._job.explain())


def _is_there(filesystem: Any, path: str) -> bool:
    if filesystem is None:
        return Path(path).exists()
    return bool(filesystem.get_file_info(path).type != FileType.NotFound)


def _write_whole(table: pa.Table, path: Path) -> None:
    """Whoever looks sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        pq.write_table(table, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
