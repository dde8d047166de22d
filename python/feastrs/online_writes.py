"""Rows written to the online store as they come: `write_to_online_store` and `push`."""

from __future__ import annotations

import enum
import functools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from feastrs import errors, tracing
from feastrs.delegation import FeastBacked

if TYPE_CHECKING:
    from feastrs._native import Store


# Views that the core writes, those that only Feast can, each with the reason, services whose
# vectors are to be computed anew, and views whose source the core can append to.
_Targets: TypeAlias = tuple[list[str], dict[str, str], list[str], list[str]]


class PushMode(enum.Enum):
    """Which stores a push is for.

    Feast's ``PushMode``, and these names in any case as strings, do as well.

    Example:
        >>> from feastrs import PushMode
        >>> PushMode["ONLINE"].value
        1
    """

    ONLINE = 1
    OFFLINE = 2
    ONLINE_AND_OFFLINE = 3


@dataclass(frozen=True)
class WrittenView:
    """What became of the rows of one view."""

    view: str
    """Its name."""

    rows: int
    """Rows that were given."""

    entities_written: int
    """Entities whose row the store took."""

    rows_older: int
    """Entities left alone because the store has a newer row."""

    null_keys: int
    """Rows left out because a join key is null."""

    def __str__(self) -> str:
        text = f"{self.view}: {self.rows:,} rows, {self.entities_written:,} entities written"
        if self.rows_older:
            text += f", {self.rows_older:,} older than the store"
        if self.null_keys:
            text += f", {self.null_keys:,} rows without key skipped"
        return text


@dataclass(frozen=True)
class WriteReport:
    """The views that rows were written to.

    Example:
        >>> from feastrs import WriteReport
        >>> WriteReport().entities_written
        0
    """

    views: list[WrittenView] = field(default_factory=list)
    """One for each view that feastrs wrote to the online store."""

    delegated: dict[str, str] = field(default_factory=dict)
    """Views that Feast itself wrote, each with the reason."""

    appended: dict[str, int] = field(default_factory=dict)
    """Rows added to the offline source of each view; views that share a source get them once."""

    @property
    def entities_written(self) -> int:
        """Entities written, all views together."""
        return sum(view.entities_written for view in self.views)

    def __iter__(self) -> Iterator[WrittenView]:
        return iter(self.views)

    def __str__(self) -> str:
        lines = [str(view) for view in self.views]
        lines += [f"{view}: {rows:,} rows added offline" for view, rows in self.appended.items()]
        lines += [f"{view}: by Feast ({reason})" for view, reason in self.delegated.items()]
        return "\n".join(lines) or "nothing written"


class OnlineWrites(FeastBacked):
    """The part of :class:`feastrs.FeatureStore` that takes rows.

    Example:
        >>> from feastrs.online_writes import OnlineWrites
        >>> isinstance(store, OnlineWrites)
        True
    """

    _native: Store

    def write_to_online_store(
        self,
        feature_view_name: str,
        df: Any = None,
        inputs: Any = None,
        allow_registry_cache: bool = True,
        transform_on_write: bool = True,
    ) -> WriteReport:
        """Writes rows of one view to the online store: of each entity the newest.

        Args:
            feature_view_name: the view.
            df: the rows, with the view's join keys, timestamps and features as columns: a
                pandas or polars DataFrame, a pyarrow table or record batches, anything else
                with ``__arrow_c_stream__``, a dict of columns, or a list of dicts. Other
                columns are left out. Times without a zone are UTC.
            inputs: the same under Feast's other name; give one of the two.
            allow_registry_cache: take the registry as last read; otherwise it is read again.
            transform_on_write: as in Feast; concerns on-demand views, which go through Feast.

        Returns:
            What was done. A frame without rows or without any value is not written, with a
            warning.

        Raises:
            feastrs.errors.FeatureViewNotFoundException: there is no such view.
            KeyError: a column is missing (the error is a ``ValueError``, too).
            ValueError: the rows can't be used; a join key or an event timestamp is null.
            TypeError: a value has another type than its feature; the message names it.
            ConnectionError, TimeoutError: the online store did not answer.

        Example:
            >>> report = store.write_to_online_store(
            ...     "driver_profile",
            ...     {
            ...         "driver_id": [1001],
            ...         "event_timestamp": ["2026-03-01T12:00:00Z"],
            ...         "city": ["Prague"],
            ...         "vehicle": ["van"],
            ...         "is_licensed": [True],
            ...         "languages": [["cs", "en"]],
            ...     },
            ... )
            >>> report.entities_written
            1
        """
        frame = _given(df, inputs)
        write = self._view_write(feature_view_name, frame, allow_registry_cache, transform_on_write)
        return write.run(
            tracing.span(self, "write_to_online_store", feature_views=[feature_view_name])
        )

    async def write_to_online_store_async(
        self,
        feature_view_name: str,
        df: Any = None,
        inputs: Any = None,
        allow_registry_cache: bool = True,
    ) -> WriteReport:
        """Like :meth:`write_to_online_store`, without blocking the event loop.

        One that is cancelled ends soon; what it has written by then stays.

        Example:
            >>> import asyncio
            >>> from datetime import datetime, timezone
            >>> row = {"driver_id": 1001, "event_timestamp": datetime.now(timezone.utc)}
            >>> row |= {"city": "Brno", "vehicle": "van", "is_licensed": True, "languages": ["cs"]}
            >>> write = store.write_to_online_store_async("driver_profile", [row])
            >>> asyncio.run(write).entities_written
            1
        """
        frame = _given(df, inputs)
        write = self._view_write(feature_view_name, frame, allow_registry_cache, True)
        return await write.run_async(
            tracing.span(self, "write_to_online_store_async", feature_views=[feature_view_name])
        )

    def push(
        self,
        push_source_name: str,
        df: Any,
        allow_registry_cache: bool = True,
        to: PushMode | Any = PushMode.ONLINE,
        transform_on_write: bool = True,
    ) -> WriteReport:
        """Writes rows to every view that is fed by a push source.

        Args:
            push_source_name: the push source.
            df: the rows, as in :meth:`write_to_online_store`.
            allow_registry_cache: take the registry as last read; otherwise it is read again.
            to: the online store, the offline store, or both.
            transform_on_write: as in Feast.

        Returns:
            What was done.

        Raises:
            feastrs.errors.PushSourceNotFoundException: no view is fed by such a source.
            Otherwise as in :meth:`write_to_online_store`.

        Example:
            >>> from feastrs.errors import PushSourceNotFoundException
            >>> try:
            ...     store.push("clicks", [{"driver_id": 1001}])
            ... except PushSourceNotFoundException as error:
            ...     print(error)
            no feature view has the push source 'clicks'; the project has none
        """
        write = self._push(push_source_name, df, allow_registry_cache, to, transform_on_write)
        return write.run(tracing.span(self, "push", push_source=push_source_name))

    async def push_async(
        self,
        push_source_name: str,
        df: Any,
        allow_registry_cache: bool = True,
        to: PushMode | Any = PushMode.ONLINE,
        **kwargs: Any,
    ) -> WriteReport:
        """Like :meth:`push`, without blocking the event loop.

        One that is cancelled ends soon; what it has written by then stays.

        Example:
            >>> import asyncio
            >>> from feastrs.errors import PushSourceNotFoundException
            >>> async def pushed() -> None:
            ...     try:
            ...         await store.push_async("clicks", [{"driver_id": 1001}])
            ...     except PushSourceNotFoundException as error:
            ...         print(error)
            >>> asyncio.run(pushed())
            no feature view has the push source 'clicks'; the project has none
        """
        transforms = bool(kwargs.get("transform_on_write", True))
        write = self._push(push_source_name, df, allow_registry_cache, to, transforms)
        return await write.run_async(tracing.span(self, "push_async", push_source=push_source_name))

    def _view_write(
        self, view: str, frame: Any, allow_registry_cache: bool, transform_on_write: bool
    ) -> _Write:
        allow_cache, transforms = bool(allow_registry_cache), bool(transform_on_write)
        try:
            targets = self._native.view_targets(view, allow_cache)
        except errors.NeedsFeastError as reason:
            targets = [], {view: str(reason)}, [], []
        return _Write(self, frame, targets, PushMode.ONLINE, allow_cache, transforms)

    def _push(
        self,
        push_source: str,
        frame: Any,
        allow_registry_cache: bool,
        to: Any,
        transform_on_write: bool,
    ) -> _Write:
        mode = _push_mode(to)
        allow_cache, transforms = bool(allow_registry_cache), bool(transform_on_write)
        try:
            targets = self._native.push_targets(push_source, allow_cache)
        except errors.NeedsFeastError as reason:
            fed = self._feast_store(reason)._fvs_for_push_source_or_raise(push_source, allow_cache)
            targets = [], {view.name: str(reason) for view in fed}, [], []
        return _Write(self, frame, targets, mode, allow_cache, transforms)


class _Write:
    """One write: what the core does, what Feast does, and what is told of both."""

    def __init__(
        self,
        store: OnlineWrites,
        frame: Any,
        targets: _Targets,
        mode: PushMode,
        allow_cache: bool,
        transforms: bool,
    ) -> None:
        ours, feasts, precomputed, appendable = targets
        is_online, is_offline = mode is not PushMode.OFFLINE, mode is not PushMode.ONLINE
        views = [*ours, *feasts] if is_offline else []
        self.store, self.frame, self.table = store, frame, None
        self.ours = ours if is_online else []
        self.appended = [view for view in views if view in appendable]
        self.report = WriteReport()
        # What Feast does after us, in this order. Made now: without Feast nothing is written.
        self.by_feast: list[Callable[[], Any]] = []
        online = feasts if is_online else {}
        offline = [view for view in views if view not in appendable]
        # Feast itself renews them after a push alone.
        renewed = precomputed if is_online else []
        if online or offline or renewed:
            self._leave_to_feast(online, offline, renewed, allow_cache, transforms)
        if self.appended:
            self.table = self.frame = _as_table(self.frame)

    def _leave_to_feast(
        self,
        online: dict[str, str],
        offline: list[str],
        renewed: list[str],
        allow_cache: bool,
        transforms: bool,
    ) -> None:
        reasons = {
            view: online.get(view) or "its source is Feast's" for view in (*online, *offline)
        }
        why = "; ".join(f"view '{view}': {reason}" for view, reason in reasons.items())
        why = why or f"the vectors of {', '.join(renewed)} have to be computed anew"
        feast = self.store._feast_store(errors.NeedsFeastError(why))
        self.report.delegated.update(reasons)
        cache = {"allow_registry_cache": allow_cache}
        add = self.by_feast.append
        if reasons:
            self.frame, given = _for_both(self.frame)
            for view in online:
                write = functools.partial(feast.write_to_online_store, view, given, **cache)
                add(functools.partial(write, transform_on_write=transforms))
            for view in offline:
                add(
                    functools.partial(feast.write_to_offline_store, view, _as_frame(given), **cache)
                )
        for service in renewed:
            add(functools.partial(feast.precompute_feature_service, service))

    def run(self, span: tracing.Span | None) -> WriteReport:
        if span is not None:
            with span:
                return self.told(span, self.run(None))
        if self.ours:
            self.tell(self.store._native.write_frame(self.ours, self.frame))
        if self.appended:
            self.append()
        for call in self.by_feast:
            call()
        return self.report

    async def run_async(self, span: tracing.Span | None) -> WriteReport:
        import asyncio

        from feastrs import event_loop

        if span is not None:
            with span:
                return self.told(span, await self.run_async(None))
        if self.ours:
            start = self.store._native.start_write_frame
            self.tell(await event_loop.answer(start, self.ours, self.frame))
        if self.appended:
            await asyncio.to_thread(self.append)
        for call in self.by_feast:
            await asyncio.to_thread(call)
        return self.report

    def told(self, span: tracing.Span, report: WriteReport) -> WriteReport:
        span.set("feast.rows", sum(view.rows for view in report))
        span.set("feast.entities_written", report.entities_written)
        return report

    def append(self) -> None:
        self.report.appended.update(self.store._native.append_frame(self.appended, self.table))

    def tell(self, written: Sequence[tuple[str, int, int, int, int, str | None]]) -> None:
        for view, rows, entities, older, null_keys, nothing in written:
            self.report.views.append(WrittenView(view, rows, entities, older, null_keys))
            if nothing:
                message = f"view '{view}': nothing is written of the frame, for {nothing}"
                warnings.warn(message, stacklevel=4)


def _given(df: Any, inputs: Any) -> Any:
    if df is not None and inputs is not None:
        raise ValueError("give df or inputs, not both")
    if df is None and inputs is None:
        raise ValueError("there are no rows: give df or inputs")
    return inputs if df is None else df


def _push_mode(to: Any) -> PushMode:
    name = to if isinstance(to, str) else getattr(to, "name", None)
    try:
        return PushMode[str(name).upper()]
    except KeyError:
        modes = ", ".join(mode.name for mode in PushMode)
        raise ValueError(f"to is {to!r}; give one of {modes}") from None


def _for_both(frame: Any) -> tuple[Any, Any]:
    """The frame for the core, and as Feast takes it. A stream can be read only once."""
    pandas = sys.modules.get("pandas")
    is_pandas = pandas is not None and isinstance(frame, pandas.DataFrame)
    if is_pandas or isinstance(frame, (dict, list)):
        return frame, frame
    if isinstance(frame, Mapping):
        return frame, dict(frame)
    import pyarrow

    table = pyarrow.table(frame)
    return table, table.to_pandas()


def _as_table(frame: Any) -> Any:
    """Something with an Arrow capsule that can be read more than once."""
    try:
        import pyarrow
    except ImportError as missing:
        raise errors.NeedsFeastError(
            "rows for the offline store are made a table by pyarrow, which is not installed; "
            "install it with pip install 'feastrs[pyarrow]'"
        ) from missing
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        return pyarrow.Table.from_pandas(frame, preserve_index=False)
    if isinstance(frame, list):
        return pyarrow.Table.from_pylist(frame)
    return pyarrow.table(dict(frame) if isinstance(frame, Mapping) else frame)


def _as_frame(frame: Any) -> Any:
    """Feast's offline writes take frames alone."""
    import pandas

    return pandas.DataFrame(frame) if isinstance(frame, (dict, list)) else frame
