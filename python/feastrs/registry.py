"""`store.registry`: the registry as programs pass it around."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from feastrs.feature_store import FeatureStore
    from feastrs.objects import DataSource, Entity, FeatureService, FeatureView, Project

_Found = TypeVar("_Found")


class Registry:
    """The registry of a store, to look things up in.

    It has the names and parameters of Feast's registries for what is read every day. Whatever
    else is asked of it, and another project than the store's own, goes to Feast's registry,
    where feast is installed.

    Args:
        store: the store whose registry it is.

    Example:
        >>> store.registry.get_feature_view("driver_stats", "driver_stats").name
        'driver_stats'
        >>> [entity.name for entity in store.registry.list_entities(store.project)]
        ['driver']
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store

    def refresh(self, project: str | None = None) -> None:
        """Reads the registry again now."""
        self._store.refresh_registry()

    def list_projects(
        self, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[Project]:
        """The projects of the registry."""
        return self._store.list_projects(allow_cache, tags)

    def get_project(self, name: str, allow_cache: bool = False) -> Project:
        """The project of that name."""
        return self._store.get_project(name)

    def list_entities(
        self, project: str, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[Entity]:
        """The entities of a project."""
        return self._of(project, self._store.list_entities, allow_cache=allow_cache, tags=tags)

    def list_data_sources(
        self, project: str, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[DataSource]:
        """The data sources of a project."""
        return self._of(project, self._store.list_data_sources, allow_cache=allow_cache, tags=tags)

    def list_all_feature_views(
        self, project: str, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[FeatureView]:
        """The views of a project, of every kind."""
        return self._of(
            project, self._store.list_all_feature_views, allow_cache=allow_cache, tags=tags
        )

    def list_feature_views(
        self, project: str, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[FeatureView]:
        """The plain feature views of a project."""
        return self._of(project, self._store.list_feature_views, allow_cache=allow_cache, tags=tags)

    def list_stream_feature_views(
        self, project: str, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[FeatureView]:
        """The stream feature views of a project."""
        return self._of(
            project, self._store.list_stream_feature_views, allow_cache=allow_cache, tags=tags
        )

    def list_on_demand_feature_views(
        self, project: str, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[FeatureView]:
        """The on-demand feature views of a project."""
        return self._of(
            project, self._store.list_on_demand_feature_views, allow_cache=allow_cache, tags=tags
        )

    def list_feature_services(
        self, project: str, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[FeatureService]:
        """The feature services of a project."""
        return self._of(
            project, self._store.list_feature_services, allow_cache=allow_cache, tags=tags
        )

    def get_entity(self, name: str, project: str, allow_cache: bool = False) -> Entity:
        """The entity of that name."""
        return self._of(project, self._store.get_entity, name, allow_registry_cache=allow_cache)

    def get_data_source(self, name: str, project: str, allow_cache: bool = False) -> DataSource:
        """The data source of that name."""
        return self._of(project, self._store.get_data_source, name)

    def get_feature_view(self, name: str, project: str, allow_cache: bool = False) -> FeatureView:
        """The plain feature view of that name."""
        return self._of(
            project, self._store.get_feature_view, name, allow_registry_cache=allow_cache
        )

    def get_stream_feature_view(
        self, name: str, project: str, allow_cache: bool = False
    ) -> FeatureView:
        """The stream feature view of that name."""
        return self._of(
            project, self._store.get_stream_feature_view, name, allow_registry_cache=allow_cache
        )

    def get_on_demand_feature_view(
        self, name: str, project: str, allow_cache: bool = False
    ) -> FeatureView:
        """The on-demand feature view of that name."""
        return self._of(project, self._store.get_on_demand_feature_view, name)

    def get_feature_service(
        self, name: str, project: str, allow_cache: bool = False
    ) -> FeatureService:
        """The feature service of that name."""
        return self._of(project, self._store.get_feature_service, name, allow_cache=allow_cache)

    def list_feature_view_versions(self, name: str, project: str) -> list[dict[str, Any]]:
        """The versions of a feature view, oldest first."""
        return self._of(project, self._store.list_feature_view_versions, name)

    def _of(self, project: str, method: Callable[..., _Found], *args: Any, **kwargs: Any) -> _Found:
        """What the store's method gives; another project is Feast's to read."""
        if project == self._store.project:
            return method(*args, **kwargs)
        if "allow_registry_cache" in kwargs:
            kwargs["allow_cache"] = kwargs.pop("allow_registry_cache")
        feasts = getattr(self._feasts(method.__name__), method.__name__)
        return cast(_Found, feasts(*args, project=project, **kwargs))

    def _feasts(self, member: str) -> Any:
        return self._store._feasts_registry(member)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"'Registry' object has no attribute '{name}'")
        return getattr(self._feasts(name), name)

    def __repr__(self) -> str:
        return f"Registry(project={self._store.project!r})"
