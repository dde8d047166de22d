"""`RetrievalJob`: features as they were known, read when they are asked for."""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from feastrs import _native, errors, on_demand
from feastrs._native import ParquetFile
from feastrs.progress_bar import bars_for

if TYPE_CHECKING:
    import pandas
    import polars
    import torch

    from feastrs._native import HistoricalJob, HistoricalResult, Store

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# What is over sooner needs no bar.
_BAR_AFTER_SECONDS = 1.0


@dataclass(frozen=True)
class RetrievalMetadata:
    """What a job is about.

    Attributes:
        features: references of the features, those that on-demand views need included.
        keys: columns of the entity frame besides its event timestamp.
        min_event_timestamp: the first time of the entity frame; None if it has none.
        max_event_timestamp: the last.
    """

    features: list[str]
    keys: list[str]
    min_event_timestamp: datetime | None
    max_event_timestamp: datetime | None


class RetrievalJob:
    """Rows of an entity frame with the features that were known at each row's time.

    Nothing is read before a method asks for it; each reads anew. Every row of the entity frame
    is there once, in its place, with its own columns as they were; features follow in the order
    asked, null where nothing was known.

    It is an Arrow stream (the PyCapsule interface), so ``pyarrow.table(job)`` and
    ``polars.DataFrame(job)`` take it as it is.

    Example:
        >>> import pandas as pd
        >>> drivers = pd.DataFrame({
        ...     "driver_id": [1001], "event_timestamp": [pd.Timestamp("2026-01-02", tz="UTC")]
        ... })
        >>> job = store.get_historical_features(drivers, ["driver_stats:conv_rate"])
        >>> list(job.to_df())
        ['driver_id', 'event_timestamp', 'conv_rate']
    """

    def __init__(self, native: HistoricalJob, frame: Any, store: Store | None = None) -> None:
        self._native = native
        self._store = store
        # A pandas frame, whose index and dtypes an answer keeps; None for Arrow memory.
        self._frame = frame if _is_pandas(frame) else None
        self._columns = list(frame.columns) if self._frame is not None else None

    def to_df(
        self, validation_reference: Any = None, timeout: int | None = None
    ) -> pandas.DataFrame:
        """The rows as a pandas DataFrame.

        A pandas entity frame comes back as it is, index and dtypes included, with the features as
        further columns. Integers and booleans with nulls have pandas' nullable dtypes, so that
        none is rounded.

        Args:
            validation_reference: Feast's; the rows are checked against it, by Feast.
            timeout: accepted as in Feast, and not needed.

        Raises:
            ImportError: pandas or pyarrow is not installed.
        """
        pyarrow = _pyarrow("to_df")
        if self._frame is None:
            frame = _to_pandas(self._table(pyarrow))
        else:
            frame = _to_pandas(self._features(pyarrow))
            frame.index = self._frame.index
            # Into the features, and not both into a new frame: those are many, and copied there.
            for place, name in enumerate(self._frame.columns):
                frame.insert(place, name, self._frame.iloc[:, place], allow_duplicates=True)
        _validate(validation_reference, frame)
        return frame

    def to_arrow(self, validation_reference: Any = None, timeout: int | None = None) -> Any:
        """The rows as an Arrow table.

        Args:
            validation_reference: as in :meth:`to_df`.
            timeout: as in :meth:`to_df`.

        Returns:
            A ``pyarrow.Table`` where pyarrow is installed; otherwise an object with
            ``__arrow_c_stream__``, which every Arrow library takes.
        """
        try:
            import pyarrow
        except ImportError:
            if self._frame is not None or self._native.on_demand:
                raise
            return _Stream(self._run())
        table = self._table(pyarrow)
        if validation_reference is not None:
            _validate(validation_reference, _to_pandas(table))
        return table

    def to_polars(self) -> polars.DataFrame:
        """The rows as a polars DataFrame.

        Raises:
            ImportError: polars is not installed.
        """
        import polars

        return polars.DataFrame(self.to_arrow())

    def to_tensor(
        self, kind: str = "torch", default_value: Any = math.nan, timeout: int | None = None
    ) -> dict[str, torch.Tensor | list[Any]]:
        """The columns as PyTorch tensors.

        Args:
            kind: ``torch``, the only one there is.
            default_value: stands where a value is null.
            timeout: as in :meth:`to_df`.

        Returns:
            Column name to a tensor (integers, floats and booleans) or a list (everything else).

        Raises:
            ValueError: ``kind`` is another one.
            ImportError: PyTorch is not installed (``pip install 'feastrs[torch]'``).
        """
        from feastrs.online_response import tensors

        return tensors(self.to_arrow().to_pydict(), kind, default_value)

    def to_record_batches(self, rows: int | None = None) -> Any:
        """The rows as a ``pyarrow.RecordBatchReader``, joined piece by piece while it is read.

        What is in memory at once is one piece: at most ``rows`` rows, and not more than
        ``materialization.max_memory_mb`` is for.

        Args:
            rows: at most so many rows at once.

        Raises:
            ImportError: pyarrow is not installed.
        """
        pyarrow = _pyarrow("to_record_batches")
        tables = map(pyarrow.table, self._pieces(pyarrow, rows))
        # There is always one, which may have no rows.
        first = next(tables)
        batches = (
            batch
            for table in itertools.chain([first], tables)
            for batch in table.to_batches(max_chunksize=rows)
        )
        return pyarrow.RecordBatchReader.from_batches(first.schema, batches)

    def to_parquet(self, path: str | os.PathLike[str], allow_overwrite: bool = False) -> str:
        """Writes the rows to a Parquet file, piece by piece.

        Args:
            path: a file, or a folder, which gets one; on disk, at ``s3://`` or at ``gs://``,
                where the file is in memory until it is complete.
            allow_overwrite: replace what is there.

        Returns:
            Where the file is.

        Raises:
            feastrs.errors.SavedDatasetLocationAlreadyExists: something is there.
        """
        target = os.fspath(path)
        if "://" not in target:
            target = str(Path(target).absolute())
        return self._write(target, allow_overwrite, None)

    def persist(
        self, storage: Any, allow_overwrite: bool = False, timeout: int | None = None
    ) -> None:
        """Writes the rows to where a saved dataset is kept.

        Args:
            storage: a ``SavedDatasetFileStorage`` of Feast.
            allow_overwrite: replace what is there.
            timeout: as in :meth:`to_df`.

        Raises:
            feastrs.errors.SavedDatasetLocationAlreadyExists: something is there.
            TypeError: the storage is not of files.
        """
        options = getattr(storage, "file_options", None)
        if options is None:
            raise TypeError(
                f"the storage is a {type(storage).__name__}; rows are persisted to files: give a "
                "SavedDatasetFileStorage"
            )
        self._write(options.uri, bool(allow_overwrite), options.s3_endpoint_override or None)

    def supports_remote_storage_export(self) -> bool:
        """Whether :meth:`to_remote_storage` works without a path: it does not."""
        return False

    def to_remote_storage(self, path: str | None = None) -> list[str]:
        """Writes the rows to an object store.

        Args:
            path: a folder or a file at ``s3://`` or ``gs://``.

        Returns:
            The URLs of what was written.

        Raises:
            NotImplementedError: no path is given; file sources have no place of their own.
        """
        if path is None:
            raise NotImplementedError("file sources have no remote storage: give a path")
        return [self.to_parquet(path)]

    def to_feast_df(self, validation_reference: Any = None, timeout: int | None = None) -> Any:
        """The rows as Feast's ``FeastDataFrame``. Arguments as in :meth:`to_df`.

        Raises:
            feastrs.errors.NeedsFeastError: feast is not installed.
        """
        try:
            from feast.dataframe import DataFrameEngine, FeastDataFrame
        except ImportError as missing:
            raise errors.NeedsFeastError(
                "FeastDataFrame is Feast's; install it with pip install 'feastrs[feast]'"
            ) from missing
        metadata = {
            "features": list(self._native.references),
            "on_demand_feature_views": [name for name, *_ in self._native.on_demand],
        }
        table = self.to_arrow(validation_reference)
        return FeastDataFrame(data=table, engine=DataFrameEngine.ARROW, metadata=metadata)

    def to_sql(self) -> str:
        """Files are read without SQL.

        Raises:
            NotImplementedError: always, as Feast's file stores do.
        """
        raise NotImplementedError("Parquet files are joined without SQL: there is no statement")

    def to_ray_dataset(self) -> Any:
        """The rows as a Ray dataset.

        Raises:
            ImportError: ray is not installed.
        """
        try:
            import ray.data  # type: ignore[import-not-found,unused-ignore]
        except ImportError as missing:
            raise ImportError(
                "to_ray_dataset needs ray; install it with pip install ray"
            ) from missing
        return ray.data.from_arrow(self.to_arrow())

    def explain(self) -> str:
        """What will be read, in words: files, row groups and those passed over, columns.

        Example:
            >>> import pandas as pd
            >>> drivers = pd.DataFrame({
            ...     "driver_id": [1001], "event_timestamp": [pd.Timestamp("2026-01-02", tz="UTC")]
            ... })
            >>> job = store.get_historical_features(drivers, ["driver_stats:conv_rate"])
            >>> job.explain().splitlines()[0]
            '1 rows of the entity frame'
        """
        return self._native.explain()

    @property
    def full_feature_names(self) -> bool:
        """Whether columns are named ``view__feature``."""
        return self._native.full_feature_names

    @property
    def on_demand_feature_views(self) -> list[Any]:
        """The on-demand views that are computed, as Feast's objects.

        Raises:
            feastrs.errors.NeedsFeastError: there are some, and feast is not installed.
        """
        return [on_demand.view(name, wire) for name, _, wire, _ in self._native.on_demand]

    @property
    def metadata(self) -> RetrievalMetadata:
        """What the job is about."""
        first, last = self._native.time_range() or (None, None)
        time_column = self._native.time_column
        keys = [name for name in self._native.frame_columns if name != time_column]
        return RetrievalMetadata(self._native.references, keys, _moment(first), _moment(last))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        if self._frame is None and not self._native.on_demand:
            return self._run().arrow_c_stream(requested_schema)
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"RetrievalJob({', '.join(self._native.references)})"

    def _run(self) -> HistoricalResult:
        started, rows = time.perf_counter(), None
        try:
            with _Bar() as bar:
                result = self._native.run(bar)
            rows = len(result)
            return result
        finally:
            elapsed = time.perf_counter() - started
            _native.count_retrieval(rows is not None, elapsed, rows or 0)

    def _pieces(self, pyarrow: Any, rows: int | None) -> Iterator[Any]:
        """The rows, some at a time, as what has an Arrow stream."""
        if self._native.on_demand:
            # A function that is given some of the rows may infer other types from them.
            yield self._table(pyarrow)
            return
        native = self._native
        if self._frame is not None:
            native = native.with_frame(pyarrow.Table.from_pandas(self._frame, preserve_index=False))
        with _Bar() as bar:
            for piece in native.pieces(rows, bar):
                yield _Stream(piece)

    def _write(self, path: str, allow_overwrite: bool, s3_endpoint: str | None) -> str:
        if self._store is None:
            raise errors.NeedsFeastError("writing without a store")
        file = ParquetFile(self._store, path, allow_overwrite, s3_endpoint)
        is_plain = self._frame is None and not self._native.on_demand
        for piece in self._pieces(None if is_plain else _pyarrow("to_parquet"), None):
            file.write(piece)
        return file.finish()

    def _table(self, pyarrow: Any) -> Any:
        """Everything: the frame's columns, features, what is computed."""
        table = pyarrow.table(_Stream(self._run()))
        if self._frame is not None:
            table = _beside(pyarrow.Table.from_pandas(self._frame, preserve_index=False), table)
        return self._with_computed(table)

    def _features(self, pyarrow: Any) -> Any:
        """What follows the frame's columns."""
        if not self._native.on_demand:
            return pyarrow.table(_Stream(self._run()))
        table = self._table(pyarrow)
        return table.select(table.column_names[len(self._native.frame_columns) :])

    def _with_computed(self, table: Any) -> Any:
        read = table
        for name, request_name, wire, columns in self._native.on_demand:
            computed = on_demand.columns(
                on_demand.view(name, wire), read, request_name, columns, self.full_feature_names
            )
            for column, values in computed.items():
                table = table.append_column(column, values)
        return table


class _Stream:
    """The rows, ready for any Arrow library."""

    __slots__ = ("_result",)

    def __init__(self, result: HistoricalResult) -> None:
        self._result = result

    def __len__(self) -> int:
        return len(self._result)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._result.arrow_c_stream(requested_schema)


class _Bar:
    """A bar on long work, where somebody watches."""

    _NAME = "historical features"

    def __init__(self) -> None:
        self._bars = bars_for(sys.stderr)
        self._started = self._shown = time.monotonic()
        self._is_drawn = False

    def __enter__(self) -> Callable[[float], None] | None:
        return self._advanced if self._bars is not None else None

    def _advanced(self, fraction: float) -> None:
        now = time.monotonic()
        bars = self._bars
        if bars is None or now - self._started < _BAR_AFTER_SECONDS:
            return
        if not self._is_drawn or now - self._shown >= bars.every_seconds:
            self._is_drawn, self._shown = True, now
            bars.draw(self._NAME, fraction, f"{now - self._started:.0f} s")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None and self._is_drawn:
            if error is None:
                seconds = time.monotonic() - self._started
                self._bars.draw(self._NAME, 1.0, f"{seconds:.1f} s")
            self._bars.close()


def _is_pandas(frame: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(frame, pandas.DataFrame)


def _pyarrow(method: str) -> Any:
    try:
        import pyarrow
    except ImportError as missing:
        raise ImportError(
            f"{method} needs pyarrow; install it with pip install 'feastrs[pyarrow]'"
        ) from missing
    return pyarrow


def _beside(table: Any, features: Any) -> Any:
    for name in features.column_names:
        table = table.append_column(features.field(name), features.column(name))
    return table


def _to_pandas(table: Any) -> pandas.DataFrame:
    """The table as a DataFrame in which no integer becomes a float."""
    import pandas

    places = range(table.num_columns)
    nullable = [
        place
        for place in places
        if table.column(place).null_count and _nullable(table.schema.field(place).type)
    ]
    plain = [place for place in places if place not in set(nullable)]
    frame = table.select(plain).to_pandas(ignore_metadata=True)
    if nullable:
        frame.columns = pandas.Index(plain)
        others = table.select(nullable).to_pandas(types_mapper=_nullable, ignore_metadata=True)
        others.columns = pandas.Index(nullable)
        frame = pandas.concat([frame, others], axis=1)[list(places)]
    frame.columns = pandas.Index(table.column_names)
    return frame


def _nullable(data_type: Any) -> Any:
    """The dtype of pandas for such values and nulls, where its plain one has no room for nulls."""
    import pandas

    return {
        "int8": pandas.Int8Dtype(),
        "int16": pandas.Int16Dtype(),
        "int32": pandas.Int32Dtype(),
        "int64": pandas.Int64Dtype(),
        "uint8": pandas.UInt8Dtype(),
        "uint16": pandas.UInt16Dtype(),
        "uint32": pandas.UInt32Dtype(),
        "uint64": pandas.UInt64Dtype(),
        "bool": pandas.BooleanDtype(),
    }.get(str(data_type))


def _validate(reference: Any, frame: pandas.DataFrame) -> None:
    if reference is None:
        return
    try:
        from feast.dqm.errors import ValidationFailed
    except ImportError as missing:
        raise errors.NeedsFeastError(
            "rows are validated by Feast; install it with pip install 'feastrs[feast]'"
        ) from missing
    result = reference.profile.validate(frame)
    if not result.is_success:
        raise ValidationFailed(result)


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else _EPOCH + timedelta(microseconds=micros)
