"""What only Feast can do goes to a real `feast.FeatureStore`, made on first need."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from feastrs import errors
from feastrs.feast_arguments import feast_arguments
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
            self._feast = feast.FeatureStore(**feast_arguments(self._arguments))
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


def _with_feasts_arguments(feast: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        named = {name: _as_feasts(feast, value) for name, value in kwargs.items()}
        return method(*(_as_feasts(feast, value) for value in args), **named)

    return wrapper


def _as_feasts(feast: Any, value: Any) -> Any:
    getters = (getter for ours, getter in _GETTERS.items() if isinstance(value, ours))
    if getter := next(getters, None):
        return getattr(feast, getter)(value.name)
    # References may be a tuple here; Feast wants a list.
    return list(value) if isinstance(value, tuple) else value


def _all_as_feasts(feast: Any, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_feasts(feast, one) for one in value]
    return _as_feasts(feast, value)
