"""`type: feastrs.feast.SqliteOnlineStore` in an unchanged Feast.

The process then has two copies of the SQLite library, Python's and the core's, and POSIX locks
don't tell them apart: one could read what the other is writing. So the two take turns. In
between neither holds a lock on the file.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from feast.infra.online_stores import sqlite

from feastrs.feast.reads import NativeReads
from feastrs.feast.settings import ServingSettings
from feastrs.feast.writes import NativeWrites

# The turns of each database file, by its path.
_TURNS: defaultdict[str, Any] = defaultdict(threading.RLock)
# A child of a fork has none of the threads that hold one.
os.register_at_fork(after_in_child=_TURNS.clear)


class SqliteOnlineStoreConfig(ServingSettings, sqlite.SqliteOnlineStoreConfig):
    """Feast's SQLite settings, and ours.

    Example:
        >>> from feastrs.feast import SqliteOnlineStoreConfig
        >>> SqliteOnlineStoreConfig(enforce_online_ttl=True).path
        'data/online.db'
    """

    type: str = "feastrs.feast.SqliteOnlineStore"
    """How `feature_store.yaml` names the store."""


def _in_turn(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(self: SqliteOnlineStore, config: Any, *args: Any, **kwargs: Any) -> Any:
        with self.turn(config):
            return method(self, config, *args, **kwargs)

    return wrapper


class SqliteOnlineStore(NativeReads, NativeWrites, sqlite.SqliteOnlineStore):
    """Feast's SQLite store, read and written by the core; see :class:`SqliteOnlineStoreConfig`."""

    def turn(self, config: Any) -> AbstractContextManager[Any]:
        """The turn to use the file; while one thread has it, no other does."""
        turn: AbstractContextManager[Any] = _TURNS[self._get_db_path(config)]
        return turn

    get_online_features = _in_turn(NativeReads.get_online_features)
    online_read = _in_turn(sqlite.SqliteOnlineStore.online_read)
    retrieve_online_documents = _in_turn(sqlite.SqliteOnlineStore.retrieve_online_documents)
    retrieve_online_documents_v2 = _in_turn(sqlite.SqliteOnlineStore.retrieve_online_documents_v2)
    update = _in_turn(sqlite.SqliteOnlineStore.update)
    plan = _in_turn(sqlite.SqliteOnlineStore.plan)
    teardown = _in_turn(sqlite.SqliteOnlineStore.teardown)

    def online_write_batch(self, config: Any, table: Any, data: Any, progress: Any) -> None:
        """Feast's method of that name; vectors and texts to search are written by Feast."""
        settings = config.online_store
        is_searched = (
            settings.vector_enabled
            or settings.text_search_enabled
            or settings.enable_openai_compatible_store
        )
        writer = sqlite.SqliteOnlineStore if is_searched else NativeWrites
        with self.turn(config):
            writer.online_write_batch(self, config, table, data, progress)

    async def get_online_features_async(self, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`get_online_features`, which runs on a thread of its own."""
        return await asyncio.to_thread(self.get_online_features, *args, **kwargs)
