"""`get_online_features` by the core, for the online stores of Feast that our classes extend."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feast import FeatureService

from feastrs import errors, event_loop, on_demand
from feastrs.feast.metrics import count_read
from feastrs.feast.online_response import OnlineResponse
from feastrs.feast.opening import open_store
from feastrs.feast.snapshots import FetchedSnapshots, Snapshots, snapshots_of


@dataclass
class _Opened:
    """The core's store for one configuration and one registry object of Feast's."""

    config: Any
    registry: Any
    snapshots: Snapshots
    native: Any = None
    # Registered feature services, as `_shape` sees them, of the snapshot that they are from.
    services: dict[str, Any] = field(default_factory=dict)

    def give(self, serialized: bytes) -> None:
        if self.native is None:
            self.native = open_store(self.config, serialized)
        else:
            self.native.give_registry(serialized)
        self.services = {}

    def is_for_feast(self, error: errors.FeastrsError) -> bool:
        """Whether Feast shall answer where the core did not."""
        # What a server's registry does not have may have been applied since it was asked.
        is_perhaps_new = isinstance(self.snapshots, FetchedSnapshots)
        return is_perhaps_new or isinstance(error, errors.NeedsFeastError)


class NativeReads:
    """Mixed in before an online store class of Feast's: reads go through the core.

    What the core leaves to Feast the class behind it does, as it always did. Registries are
    those of Feast: the core is given what Feast has cached, whenever that changes.
    """

    _opened: _Opened | None = None

    def get_online_features(
        self,
        config: Any,
        features: list[str] | FeatureService,
        entity_rows: list[dict[str, Any]] | Mapping[str, Sequence[Any]],
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> Any:
        """Feast's method of that name; see `feast.FeatureStore.get_online_features`.

        Returns:
            A `feast.online_response.OnlineResponse` whose message is made only when touched.
        """
        options = bool(full_feature_names), bool(include_feature_view_version_metadata)
        opened = self._ready(config, features, registry, project)
        if opened is not None:
            started = time.monotonic()
            try:
                result = opened.native.get_online_features(features, entity_rows, *options)
                return _response(result, features, started)
            except errors.FeastrsError as error:
                if not opened.is_for_feast(error):
                    raise
        return super().get_online_features(  # type: ignore[misc]
            config, features, entity_rows, registry, project, *options
        )

    async def get_online_features_async(
        self,
        config: Any,
        features: list[str] | FeatureService,
        entity_rows: list[dict[str, Any]] | Mapping[str, Sequence[Any]],
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> Any:
        """Feast's method of that name; the loop goes on while the store is read.

        Returns:
            As :meth:`get_online_features`.
        """
        options = bool(full_feature_names), bool(include_feature_view_version_metadata)
        opened = self._ready(config, features, registry, project)
        if opened is not None:
            started = time.monotonic()
            try:
                start = opened.native.start_online_features
                result = await event_loop.answer(start, features, entity_rows, *options)
                return _response(result, features, started)
            except errors.FeastrsError as error:
                if not opened.is_for_feast(error):
                    raise
        return await super().get_online_features_async(  # type: ignore[misc]
            config, features, entity_rows, registry, project, *options
        )

    def _ready(
        self, config: Any, features: list[str] | FeatureService, registry: Any, project: str
    ) -> _Opened | None:
        """What reads natively; None where Feast has to."""
        if project != config.project:
            return None
        opened = self._opened
        if opened is None or opened.registry is not registry or opened.config is not config:
            ttl_seconds = config.registry.cache_ttl_seconds
            snapshots = snapshots_of(registry, config.project, ttl_seconds)
            opened = self._opened = _Opened(config, registry, snapshots)
        opened.snapshots.refresh(opened.give)
        if isinstance(features, FeatureService) and not _is_registered(opened, features, project):
            return None
        return opened


def _response(result: Any, features: list[str] | FeatureService, started: float) -> OnlineResponse:
    seconds = time.monotonic() - started
    finished = on_demand.finish(result)
    count_read(finished, features, seconds)
    return OnlineResponse(finished)


def _is_registered(opened: _Opened, service: FeatureService, project: str) -> bool:
    """Whether the service is as it was applied: the core reads the one in the registry."""
    if getattr(service, "_pending_feature_refs", None):
        return True  # views named by text are resolved in the registry
    services = opened.services
    if service.name not in services:
        registered = opened.registry.get_feature_service(service.name, project, allow_cache=True)
        services[service.name] = _shape(registered)
    return bool(services[service.name] == _shape(service))


def _shape(service: FeatureService) -> Any:
    """All of a service that a read depends on."""
    return service.precompute_online, [
        (
            projection.name,
            projection.name_alias,
            projection.version_tag,
            projection.join_key_map,
            [feature.name for feature in projection.features],
        )
        for projection in service.feature_view_projections
    ]
