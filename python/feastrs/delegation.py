"""What only Feast can do goes to a real `feast.FeatureStore`, made on first need."""

from __future__ import annotations

import copy
import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from feastrs import errors
from feastrs.objects import (
    DataSource,
    Entity,
    FeatureService,
    FeatureView,
    LabelView,
    OnDemandFeatureView,
    StreamFeatureView,
)

# Members of feast.FeatureStore that are Feast's own, whatever the repository.
_FEAST_ONLY = frozenset(
    {
        "create_dataset_from_retrieval",
        "create_saved_dataset",
        "delete_feature_service",
        "delete_feature_view",
        "delete_project",
        "disable_feature_view",
        "enable_feature_view",
        "get_feature_server_endpoint",
        "get_label_view",
        "get_permission",
        "get_saved_dataset",
        "get_validation_reference",
        "list_label_views",
        "list_permissions",
        "list_saved_datasets",
        "list_validation_references",
        "mlflow",
        "openai_search",
        "openlineage_emitter",
        "plan",
        "precompute_feature_service",
        "provider",
        "retrieve_dataset_data",
        "retrieve_online_documents",
        "retrieve_online_documents_v2",
        "serve_offline",
        "serve_registry",
        "serve_transformations",
        "serve_ui",
        "set_feature_view_state",
        "update_online_store",
        "validate_logged_features",
        "write_logged_features",
        "write_to_offline_store",
    }
)

# Settings of ours in sections of Feast's, where Feast refuses what it does not know.
_OURS = {
    "online_store": {
        "online_statuses",
        "enforce_online_ttl",
        "equal_timestamps",
        "read_command",
        "field_ttl",
    },
    "materialization": {"max_memory_mb", "on_null_key"},
    "offline_store": {"s3_region", "s3_profile", "anonymous"},
}

# How Feast gives what our registry gives as objects of ours, which Feast does not know.
_GETTERS: dict[type, str] = {
    FeatureService: "get_feature_service",
    OnDemandFeatureView: "get_on_demand_feature_view",
    StreamFeatureView: "get_stream_feature_view",
    LabelView: "get_label_view",
    FeatureView: "get_feature_view",
    Entity: "get_entity",
    DataSource: "get_data_source",
}

_PLUG_INS = "feastrs.feast."
_FEASTS_REDIS = ("redis", "feast.infra.online_stores.redis.RedisOnlineStore")
_FEASTS_SQLITE = (None, "sqlite", "feast.infra.online_stores.sqlite.SqliteOnlineStore")
_KNOWN_STORES = (*_FEASTS_REDIS, *_FEASTS_SQLITE)

# What Feast has of its own and we do better, by section: the names that it goes by, and ours.
_BETTER = {
    "online_store": (_FEASTS_REDIS, "feastrs.feast.RedisOnlineStore"),
    "offline_store": (
        (None, "file", "dask", "feast.infra.offline_stores.dask.DaskOfflineStore"),
        "feastrs.feast.FileOfflineStore",
    ),
    "batch_engine": ((None, "local"), "feastrs.feast.MaterializationEngine"),
}

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Store = TypeVar("_Store", bound="FeastBacked")


class FeastBacked:
    """Something with the arguments of a ``feast.FeatureStore``, which makes one when it must.

    Args:
        arguments: those of ``feast.FeatureStore``; None is left out.

    Example:
        >>> from feastrs.delegation import FeastBacked
        >>> callable(FeastBacked({"repo_path": "examples/driver_stats"}).apply)
        True
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = {name: value for name, value in arguments.items() if value is not None}
        self._feast: Any = None

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """``feast.FeatureStore.apply``, by Feast itself; the registry is read again after it.

        Rows in Redis of views that are gone are deleted by the core, as in :meth:`teardown`.

        Raises:
            feastrs.errors.NeedsFeastError: feast is not installed.
        """
        feast = self._feast_store(errors.NeedsFeastError("FeatureStore.apply"))
        named = {name: _all_as_feasts(feast, value) for name, value in kwargs.items()}
        result = feast.apply(*(_all_as_feasts(feast, value) for value in args), **named)
        self.refresh_registry()
        return result

    def teardown(self, *args: Any, **kwargs: Any) -> Any:
        """``feast.FeatureStore.teardown``, by Feast itself; rows in Redis are deleted by the core.

        Keys in Redis are read back, and only those of this project go, in steps that are small
        for the server.

        Raises:
            feastrs.errors.NeedsFeastError: feast is not installed.
        """
        feast = self._feast_store(errors.NeedsFeastError("FeatureStore.teardown"))
        return feast.teardown(*args, **kwargs)

    def refresh_registry(self) -> None:
        """Reads the registry again now; here there is nothing to read."""

    def _by_feast(
        self, reason: errors.NeedsFeastError, method: str, /, *args: Any, **kwargs: Any
    ) -> Any:
        """Feast's ``method`` does what ours can't for ``reason``."""
        feast = self._feast_store(reason)
        feasts = getattr(feast, method)
        # `allow_cache` is a parameter of more methods here than there.
        known = inspect.signature(feasts).parameters
        named = {name: value for name, value in kwargs.items() if name in known}
        return _with_feasts_arguments(feast, feasts)(*args, **named)

    def _feasts_registry(self, member: str) -> Any:
        return self._feast_store(errors.NeedsFeastError(f"FeatureStore.registry.{member}")).registry

    def _feasts_config(self, member: str) -> Any:
        return self._feast_store(errors.NeedsFeastError(f"FeatureStore.config.{member}")).config

    def _feast_store(self, reason: errors.NeedsFeastError) -> Any:
        if self._feast is None:
            try:
                import feast
            except ImportError as missing:
                raise errors.NeedsFeastError(
                    f"{reason}: only Feast itself can do this; install it with "
                    "pip install 'feastrs[feast]'"
                ) from missing
            self._feast = feast.FeatureStore(**_feasts(self._arguments))
        return self._feast


class _FeastsOwn:
    """A member that is Feast's own.

    One descriptor for each: a `__getattr__` of the class would make every call of any method
    of a store dearer.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, store: FeastBacked | None, owner: type | None = None) -> Any:
        if store is None:
            return self
        feast = store._feast_store(errors.NeedsFeastError(f"FeatureStore.{self._name}"))
        member = getattr(feast, self._name)
        return _with_feasts_arguments(feast, member) if inspect.ismethod(member) else member


for _name in _FEAST_ONLY:
    setattr(FeastBacked, _name, _FeastsOwn(_name))


def or_by_feast(
    method: Callable[Concatenate[_Store, _Parameters], _Result],
) -> Callable[Concatenate[_Store, _Parameters], _Result]:
    """Decorator: where ``method`` can't, Feast's method of the same name does it.

    Its result is then Feast's, whose attributes ours has too.

    Raises:
        feastrs.errors.NeedsFeastError: feast is not installed; the message says why it is
            needed and how to install it.

    Example:
        >>> from feastrs.delegation import or_by_feast
        >>> @or_by_feast
        ... def list_entities(store, tags=None):
        ...     return ["driver"]
        >>> list_entities(None)
        ['driver']
    """

    @functools.wraps(method)
    def wrapper(self: _Store, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return method(self, *args, **kwargs)
        except errors.NeedsFeastError as reason:
            return cast(_Result, self._by_feast(reason, method.__name__, *args, **kwargs))

    return wrapper


def _feasts(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as Feast takes them: with our stores and engine, else without our settings.

    What Feast writes, reads and deletes then goes through the core, too: its own deletion in
    Redis would also match keys of projects with a longer name, its own engine make rows of
    Python of what an offline store gives as Arrow memory.
    """
    from feast import RepoConfig

    given = arguments.get("config")
    if isinstance(given, Mapping):
        settings = _without_ours(_with_better(given))
    elif given is None:
        written = _in_file(arguments)
        settings = _without_ours(_with_better(written))
        if settings == written:
            return arguments
    else:
        # Feast takes relative paths from its argument alone.
        folder = {"repo_path": given.repo_path} if given.repo_path else {}
        return folder | arguments | {"config": _config_with_better(given)}
    settings.setdefault("repo_path", Path(arguments.get("repo_path", ".")))
    others = {name: value for name, value in arguments.items() if name != "fs_yaml_file"}
    return {"repo_path": settings["repo_path"]} | others | {"config": RepoConfig(**settings)}


def _with_better(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings with what is ours in place of what is Feast's, if the core knows the store."""
    store = _type_of(settings, "online_store")
    if store not in _KNOWN_STORES and not str(store).startswith(_PLUG_INS):
        return settings
    better = dict(settings)
    for name, (feasts, ours) in _BETTER.items():
        if _type_of(settings, name) in feasts and f"{name}_config" not in settings:
            section = settings.get(name)
            given = section if isinstance(section, Mapping) else {}
            better[name] = {**_for_engine(name, settings), **given, "type": ours}
    return better


def _type_of(settings: Mapping[str, Any], name: str) -> Any:
    section = settings.get(name)
    return section.get("type") if isinstance(section, Mapping) else section


def _for_engine(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine takes from the section of materializations."""
    given = settings.get("materialization") if name == "batch_engine" else None
    return {key: given[key] for key in _OURS["materialization"] if key in given} if given else {}


def _config_with_better(config: Any) -> Any:
    """The same for a `feast.RepoConfig`, which stays as it is."""
    places = {
        "online_store": "online_config",
        "offline_store": "offline_config",
        "batch_engine": "batch_engine_config",
    }
    given = {}
    for name, attribute in places.items():
        section = getattr(config, attribute)
        if hasattr(section, "model_dump"):
            section = section.model_dump(exclude_unset=True) | {"type": section.type}
        given[name] = section
    config = copy.copy(config)
    for name, section in _with_better(given).items():
        if section is not given[name]:
            setattr(config, places[name], section)
            setattr(config, f"_{name}", None)
    return config


def _in_file(arguments: dict[str, Any]) -> dict[str, Any]:
    """The settings in the file, as Feast reads them."""
    import yaml
    from feast.utils import get_default_yaml_file_path

    path = arguments.get("fs_yaml_file")
    if path is None:
        path = get_default_yaml_file_path(Path(arguments.get("repo_path", ".")))
    settings: dict[str, Any] = yaml.safe_load(os.path.expandvars(Path(path).read_text()))
    return settings


def _without_ours(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {key: kept for key, kept in value.items() if key not in _OURS[name]}
        if name in _OURS and isinstance(value, Mapping) and not _is_plug_in(value)
        else value
        for name, value in settings.items()
    }


def _is_plug_in(section: Mapping[str, Any]) -> bool:
    # A class of ours that Feast loads knows our settings.
    return str(section.get("type")).startswith(_PLUG_INS)


def _with_feasts_arguments(feast: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        named = {name: _as_feasts(feast, value) for name, value in kwargs.items()}
        return method(*(_as_feasts(feast, value) for value in args), **named)

    return wrapper


def _as_feasts(feast: Any, value: Any) -> Any:
    for ours, getter in _GETTERS.items():
        if isinstance(value, ours):
            return getattr(feast, getter)(value.name)
    # References may be a tuple here; Feast wants a list.
    return list(value) if isinstance(value, tuple) else value


def _all_as_feasts(feast: Any, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_feasts(feast, one) for one in value]
    return _as_feasts(feast, value)
