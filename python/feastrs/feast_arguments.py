"""The arguments of the `feast.FeatureStore` that does for ours what only Feast can."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def feast_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as Feast takes them: with our stores and engine, else without our settings.

    What Feast writes, reads and deletes then goes through the core, too: its own deletion in
    Redis would also match keys of projects with a longer name, its own engine make rows of
    Python of what an offline store gives as Arrow memory.

    Args:
        arguments: of ours, those that are not None.

    Example:
        >>> from feastrs.feast_arguments import feast_arguments
        >>> given = feast_arguments({"repo_path": "examples/driver_stats"})
        >>> given["config"].batch_engine_config["type"]
        'feastrs.feast.MaterializationEngine'
    """
    from feast import RepoConfig

    given = arguments.get("config")
    if isinstance(given, Mapping):
        settings = _without_ours(_with_better(given))
    elif given is None:
        written = _in_file(arguments)
        settings = _without_ours(_with_better(written))
        if settings == written:
            return dict(arguments)
    else:
        # Feast takes relative paths from its argument alone.
        folder = {"repo_path": given.repo_path} if given.repo_path else {}
        return folder | dict(arguments) | {"config": _config_with_better(given)}
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


def _in_file(arguments: Mapping[str, Any]) -> dict[str, Any]:
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
