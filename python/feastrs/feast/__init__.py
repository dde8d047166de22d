"""Plug-ins for an unchanged Feast: named in `feature_store.yaml`, loaded by Feast itself.

```yaml
online_store:
  type: feastrs.feast.RedisOnlineStore
  connection_string: localhost:6379
```

`feast.FeatureStore`, `feast serve` and the command `feast` then read and write through the core;
what it leaves to Feast is done by the class of Feast's that ours extends. The only package of
feastrs that imports feast; a store's own client (redis-py) is imported with the store.

Example:
    >>> from feast import RepoConfig
    >>> config = RepoConfig(
    ...     project="demo",
    ...     registry="registry.db",
    ...     provider="local",
    ...     online_store={"type": "feastrs.feast.SqliteOnlineStore", "path": "online.db"},
    ... )
    >>> config.online_store.online_statuses
    'feast'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feastrs.feast.engine import MaterializationEngine, MaterializationEngineConfig
    from feastrs.feast.files import FileOfflineStore, FileOfflineStoreConfig
    from feastrs.feast.redis import RedisOnlineStore, RedisOnlineStoreConfig
    from feastrs.feast.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig

__all__ = [
    "FileOfflineStore",
    "FileOfflineStoreConfig",
    "MaterializationEngine",
    "MaterializationEngineConfig",
    "RedisOnlineStore",
    "RedisOnlineStoreConfig",
    "SqliteOnlineStore",
    "SqliteOnlineStoreConfig",
]

_MODULES = {
    "FileOfflineStore": "feastrs.feast.files",
    "FileOfflineStoreConfig": "feastrs.feast.files",
    "MaterializationEngine": "feastrs.feast.engine",
    "MaterializationEngineConfig": "feastrs.feast.engine",
    "RedisOnlineStore": "feastrs.feast.redis",
    "RedisOnlineStoreConfig": "feastrs.feast.redis",
    "SqliteOnlineStore": "feastrs.feast.sqlite",
    "SqliteOnlineStoreConfig": "feastrs.feast.sqlite",
}


def __getattr__(name: str) -> Any:
    # Not imported above: who uses SQLite may have no redis-py.
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)
