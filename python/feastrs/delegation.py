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
from feastrs.objects import FeatureService

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

# Feast's Redis store under the names that its settings know.
_FEASTS_REDIS = ("redis", "feast.infra.online_stores.redis.RedisOnlineStore")

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
        result = feast.apply(*args, **kwargs)
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
    """The arguments as Feast takes them: with our Redis store, else without our settings.

    What Feast writes, reads and deletes in Redis then goes through the core, too: its own
    deletion would also match keys of projects with a longer name.
    """
    from feast import RepoConfig

    given = arguments.get("config")
    if isinstance(given, Mapping):
        settings = _without_ours(_with_our_redis(given))
    elif given is None:
        written = _in_file(arguments)
        settings = _without_ours(_with_our_redis(written))
        if settings == written:
            return arguments
    else:
        # Feast takes relative paths from its argument alone.
        folder = {"repo_path": given.repo_path} if given.repo_path else {}
        return folder | arguments | {"config": _config_with_our_redis(given)}
    settings.setdefault("repo_path", Path(arguments.get("repo_path", ".")))
    others = {name: value for name, value in arguments.items() if name != "fs_yaml_file"}
    return {"repo_path": settings["repo_path"]} | others | {"config": RepoConfig(**settings)}


def _with_our_redis(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    section = settings.get("online_store")
    if not isinstance(section, Mapping):
        section = {"type": section}
    if section.get("type") not in _FEASTS_REDIS:
        return settings
    return {**settings, "online_store": {**section, "type": "feastrs.feast.RedisOnlineStore"}}


def _config_with_our_redis(config: Any) -> Any:
    """The same for a `feast.RepoConfig`, which stays as it is."""
    section = config.online_config
    if hasattr(section, "model_dump"):
        section = section.model_dump(exclude_unset=True) | {"type": section.type}
    settings = _with_our_redis({"online_store": section})
    if settings["online_store"] is section:
        return config
    config = copy.copy(config)
    config.online_config, config._online_store = settings["online_store"], None
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
    return str(section.get("type")).startswith("feastrs.feast.")


def _with_feasts_arguments(feast: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        named = {name: _as_feasts(feast, value) for name, value in kwargs.items()}
        return method(*(_as_feasts(feast, value) for value in args), **named)

    return wrapper


def _as_feasts(feast: Any, value: Any) -> Any:
    if isinstance(value, FeatureService):
        return feast.get_feature_service(value.name)
    # References may be a tuple here; Feast wants a list.
    return list(value) if isinstance(value, tuple) else value
