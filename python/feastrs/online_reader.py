"""Reads that are prepared once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from feastrs import tracing
from feastrs.online_response import OnlineResponse

if TYPE_CHECKING:
    from feastrs import _native
    from feastrs.online_writes import OnlineWrites


class OnlineReader:
    """Reads the same features for ever other entities.

    Names, types and the order of the answer are settled once for each state of the registry:
    when the registry changes, the reader follows. Many threads may use one reader.

    Made by :meth:`feastrs.FeatureStore.online_reader`.

    Example:
        >>> reader = store.online_reader(["driver_stats:conv_rate"])
        >>> len(reader.read([{"driver_id": 1001}, {"driver_id": 1002}]))
        2
    """

    __slots__ = ("_native", "_store")

    def __init__(self, native: _native.OnlineReader, store: OnlineWrites) -> None:
        self._native, self._store = native, store

    def read(self, entities: list[dict[str, Any]] | Mapping[str, Sequence[Any]]) -> OnlineResponse:
        """The newest values of the features for some entities.

        Args:
            entities: as ``entity_rows`` of :meth:`feastrs.FeatureStore.get_online_features`: a
                list of dicts, one for each row, or a dict of columns.

        Returns:
            Join keys first, then the features in the order asked; one row for each row of
            ``entities``, in its order.

        Raises:
            Those of :meth:`feastrs.FeatureStore.get_online_features`.
        """
        if tracing.API in tracing.MODULES and (
            span := tracing.read(self._store, "read", self.feature_names, entities)
        ):
            with span:
                return self.read(entities)
        return OnlineResponse(self._native.read(entities))

    async def read_async(
        self, entities: list[dict[str, Any]] | Mapping[str, Sequence[Any]]
    ) -> OnlineResponse:
        """Like :meth:`read`, without blocking the event loop.

        Example:
            >>> import asyncio
            >>> reader = store.online_reader(["driver_stats:conv_rate"])
            >>> len(asyncio.run(reader.read_async([{"driver_id": 1001}])))
            1
        """
        from feastrs import event_loop

        if tracing.API in tracing.MODULES and (
            span := tracing.read(self._store, "read_async", self.feature_names, entities)
        ):
            with span:
                return await self.read_async(entities)
        return OnlineResponse(await event_loop.answer(self._native.start, entities))

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in the order asked."""
        return self._native.feature_names

    def __repr__(self) -> str:
        return f"OnlineReader({', '.join(self.feature_names)})"
