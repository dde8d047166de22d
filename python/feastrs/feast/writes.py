"""Writes and deletion by the core, for the online stores of Feast that our classes extend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from feast.infra.online_stores.helpers import compute_versioned_name
from feast.protos.feast.core.Registry_pb2 import Registry

from feastrs._native import Store
from feastrs.feast.opening import open_store

# What is written comes with its names and types: the registry is not asked.
_NO_REGISTRY = Registry(version_id="none").SerializeToString()


class NativeWrites:
    """Mixed in before an online store class of Feast's: rows are written by the core.

    What Feast pushes, materializes by an engine of its own, or is given with
    `write_to_online_store`, comes here as messages. Of each entity the newest row wins,
    atomically, whoever else writes.
    """

    _writing: tuple[Any, Store] | None = None

    def online_write_batch(
        self,
        config: Any,
        table: Any,
        data: Sequence[tuple[Any, Any, Any, Any]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Feast's method of that name; `progress` is told once, when all rows are written."""
        if data:
            ttl = getattr(table, "ttl", None)
            self._store(config).write_rows(stored_name(table, config), data, ttl)
        if progress:
            progress(len(data))

    def _store(self, config: Any) -> Store:
        writing = self._writing
        if writing is None or writing[0] is not config:
            writing = self._writing = (config, open_store(config, _NO_REGISTRY))
        return writing[1]


class NativeAsyncWrites(NativeWrites):
    """The same for a store that also writes asynchronously."""

    async def online_write_batch_async(
        self,
        config: Any,
        table: Any,
        data: Sequence[tuple[Any, Any, Any, Any]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Feast's method of that name; the loop goes on while the store is written."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, None)
        if progress:
            progress(len(data))


class NativeDeletion(NativeWrites):
    """Mixed in before Feast's Redis store: deletion by the core.

    Keys are read back and taken apart, so only rows of this project go, whatever the names of
    others; in steps that are small for the server.
    """

    def delete_table(self, config: Any, table: Any) -> None:
        """Deletes the rows of a view; those of other views stay."""
        self._delete(config, [table], whole_entities=False)

    def delete_entity_values(self, config: Any, join_keys: list[str]) -> None:
        """Deletes everything that the project has for entities with these join keys."""
        self._store(config).delete_rows([("", [], list(join_keys))], True)

    def update(
        self,
        config: Any,
        tables_to_delete: Sequence[Any],
        tables_to_keep: Sequence[Any],
        entities_to_delete: Sequence[Any],
        entities_to_keep: Sequence[Any],
        partial: bool,
    ) -> None:
        """Feast's method of that name: deletes the rows of views that are gone, in one pass."""
        if config.online_store.full_scan_for_deletion:
            self._delete(config, tables_to_delete, whole_entities=False)

    def teardown(self, config: Any, tables: Sequence[Any], entities: Sequence[Any]) -> None:
        """Feast's method of that name: deletes all rows of the views' entities, in one pass."""
        self._delete(config, tables, whole_entities=True)
        super().teardown(config, [], entities)  # type: ignore[misc]

    def _delete(self, config: Any, tables: Iterable[Any], *, whole_entities: bool) -> None:
        views = [
            (stored_name(table, config), [feature.name for feature in table.features], join_keys)
            for table in tables
            # On-demand views have none.
            if (join_keys := list(getattr(table, "join_keys", ())))
        ]
        if views:
            self._store(config).delete_rows(views, whole_entities)


def stored_name(table: Any, config: Any) -> str:
    """The name that a view's rows are stored under.

    Example:
        >>> import feast
        >>> from feastrs.feast.writes import stored_name
        >>> feasts = feast.FeatureStore("examples/driver_stats")
        >>> stored_name(feasts.get_feature_view("driver_stats"), feasts.config)
        'driver_stats'
    """
    name = compute_versioned_name(table, config.registry.enable_online_feature_view_versioning)
    return str(name)
