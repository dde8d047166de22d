"""The core's store for a configuration and a registry of Feast's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from feastrs._native import Store
from feastrs.config import config_json


def open_store(config: Any, registry: bytes, materialization: Mapping[str, Any] = {}) -> Store:
    """Opens what `config` describes; nothing is connected to yet.

    Args:
        config: a `feast.RepoConfig`, whose online store is Feast's own or one of ours.
        registry: a serialized `feast.core.Registry`, which the core does not write.
        materialization: settings of ours that Feast's section `materialization` has no place for.

    Example:
        >>> import feast
        >>> from feast.protos.feast.core.Registry_pb2 import Registry
        >>> from feastrs.feast.opening import open_store
        >>> config = feast.FeatureStore("examples/driver_stats").config
        >>> open_store(config, Registry(version_id="1").SerializeToString()).list_entities(True)
        []
    """
    text, repo_path = config_json(config)
    settings = json.loads(text)
    # With the defaults of this door, which are not those of `feastrs.FeatureStore`.
    if config.online_store is not None:
        settings["online_store"] = config.online_store.model_dump(mode="json")
    settings["materialization"] = (settings["materialization"] or {}) | dict(materialization)
    return Store.with_registry(json.dumps(settings), registry, repo_path)
