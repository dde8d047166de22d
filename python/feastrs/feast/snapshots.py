"""What Feast knows of its registry, as bytes for the core: again only when it has changed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from feast.protos.feast.core.Registry_pb2 import Registry

_LOG = logging.getLogger("feastrs")

# After a refresh that failed, how long the old snapshot is used before the next try, seconds.
_RETRY_AFTER = 1.0


class Snapshots(Protocol):
    """The states of one registry, one after the other."""

    def refresh(self, give: Callable[[bytes], None]) -> None:
        """Calls `give` with the serialized `feast.core.Registry`, if it is another than before.

        A state that `give` does not take (it raises) is given again at the next call.
        """


def snapshots_of(registry: Any, project: str, ttl_seconds: float) -> Snapshots:
    """The snapshots of a registry object of Feast's.

    Args:
        registry: a `feast.infra.registry.base_registry.BaseRegistry`.
        project: the project whose definitions are asked for.
        ttl_seconds: how long a snapshot of a registry without a cache of its own is used;
            0 is for ever.

    Example:
        >>> from feastrs.feast.snapshots import snapshots_of
        >>> from feast import FeatureStore
        >>> feasts = FeatureStore("examples/driver_stats")
        >>> given = []
        >>> snapshots = snapshots_of(feasts.registry, feasts.project, ttl_seconds=600)
        >>> snapshots.refresh(given.append)
        >>> snapshots.refresh(given.append)
        >>> len(given)
        1
    """
    if hasattr(registry, "cached_registry_proto"):
        return CachedSnapshots(registry, project)
    return FetchedSnapshots(registry, project, ttl_seconds)


class CachedSnapshots:
    """A registry that caches its message: files, object stores, SQL, Snowflake.

    Feast keeps the cache fresh by its own rules, and what this process writes goes into it.
    """

    def __init__(self, registry: Any, project: str) -> None:
        self._registry = registry
        self._project = project
        self._seen: tuple[Any, str] = (None, "")
        self._given = b""

    def refresh(self, give: Callable[[bytes], None]) -> None:
        """See :meth:`Snapshots.refresh`."""
        # Any question that the cache may answer makes Feast look whether the cache is due. Of
        # these a registry has fewest, so the answer costs least.
        self._registry.list_validation_references(self._project, allow_cache=True)
        message = self._registry.cached_registry_proto
        seen, version_id = self._seen
        # A refresh brings another message; a change of Feast's own renews this one's version.
        if message is seen and message.version_id == version_id:
            return
        # No lock, which a fork could inherit: two threads may both give what is new, and if the
        # older comes last, it is another than the registry's at the next look.
        now_seen = (message, message.version_id)
        serialized = message.SerializeToString(deterministic=True)
        if serialized != self._given:
            give(serialized)
            self._given = serialized
        self._seen = now_seen


class FetchedSnapshots:
    """A registry behind a server, which is asked for its definitions, and tells no change.

    Asked again after a time: one caller waits for the answer, the others go on meanwhile.
    """

    def __init__(self, registry: Any, project: str, ttl_seconds: float) -> None:
        self._registry = registry
        self._project = project
        self._ttl_seconds = ttl_seconds or float("inf")
        self._due_at = 0.0
        self._given = b""

    def refresh(self, give: Callable[[bytes], None]) -> None:
        """See :meth:`Snapshots.refresh`."""
        now = time.monotonic()
        if now < self._due_at:
            return
        if self._given:
            # Others stay away while this one asks, and for a moment if the answer is an error.
            self._due_at = now + _RETRY_AFTER
        try:
            serialized = self._message().SerializeToString(deterministic=True)
            if serialized != self._given:
                give(serialized)
        except Exception as error:
            if not self._given:
                raise
            _LOG.warning("the registry is not refreshed, the old one is used: %s", error)
        else:
            self._given = serialized
            self._due_at = time.monotonic() + self._ttl_seconds

    def _message(self) -> Any:
        """All that a read may need. The server's own message doesn't say what is whose project."""
        registry = self._registry
        project = registry.get_project(self._project, allow_cache=True)
        # Every registry has a version; that of the server is not known here.
        message = Registry(projects=[project.to_proto()], version_id="unknown")
        for listed, into in (
            (registry.list_entities, message.entities),
            (registry.list_feature_views, message.feature_views),
            (registry.list_stream_feature_views, message.stream_feature_views),
            (registry.list_on_demand_feature_views, message.on_demand_feature_views),
            (registry.list_feature_services, message.feature_services),
        ):
            for definition in listed(self._project, allow_cache=True):
                into.append(definition.to_proto())
                into[-1].spec.project = self._project
        return message
