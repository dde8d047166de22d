"""Feast repos in temporary folders, made by stock Feast.

Definitions are applied once (`apply`); each `Repo` made of the result has a folder, a
`feature_store.yaml`, a copy of the registry and an online store of its own, and can be opened
through every door: `stock()`, `ours()`, and `plugged()`, which is stock Feast with our store.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import feast
import redis
import yaml
from feast.data_format import ParquetFormat
from feast.feature_view import DUMMY_ENTITY_NAME

from testbed.redis_server import RedisServer

EARLY = datetime(2000, 1, 1, tzinfo=timezone.utc)
LATE = datetime(2040, 1, 1, tzinfo=timezone.utc)

PLUG_INS = {
    "redis": "feastrs.feast.RedisOnlineStore",
    "sqlite": "feastrs.feast.SqliteOnlineStore",
}


@dataclass
class Repo:
    """One folder with a `feature_store.yaml`, as a user of Feast has it."""

    folder: Path
    config: dict[str, Any]
    server: RedisServer | None = None
    database: int = 0
    _opened: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.write_config()

    def write_config(self) -> None:
        """Writes `config` to `feature_store.yaml`."""
        (self.folder / "feature_store.yaml").write_text(yaml.safe_dump(self.config))

    @cached_property
    def _stock(self) -> feast.FeatureStore:
        store = feast.FeatureStore(repo_path=str(self.folder))
        if self.config["online_store"]["type"] == "sqlite":
            _make_tables(store)
        return store

    @cached_property
    def _ours(self) -> Any:
        import feastrs

        return feastrs.FeatureStore(repo_path=str(self.folder))

    def stock(self) -> feast.FeatureStore:
        """Stock Feast's store of this repo."""
        return self._stock

    def ours(self) -> Any:
        """The `feastrs.FeatureStore` of this repo."""
        return self._ours

    @cached_property
    def _plugged(self) -> feast.FeatureStore:
        online_store = dict(self.config["online_store"])
        online_store["type"] = PLUG_INS[online_store["type"]]
        file = self.folder / "plugged.yaml"
        file.write_text(yaml.safe_dump(self.config | {"online_store": online_store}))
        store = feast.FeatureStore(repo_path=str(self.folder), fs_yaml_file=file)
        if self.config["online_store"]["type"] == "sqlite":
            _make_tables(store)
        return store

    def plugged(self) -> feast.FeatureStore:
        """Stock Feast's store of this repo, its online store being ours."""
        return self._plugged

    @property
    def registry_path(self) -> Path:
        """The registry file."""
        return self.folder / "registry.db"

    @property
    def sqlite_path(self) -> Path:
        """The file of the SQLite online store."""
        return self.folder / "online.db"

    def redis(self) -> redis.Redis:
        """A client of this repo's Redis database."""
        assert self.server is not None
        return self.server.client(self.database)


def _make_tables(store: feast.FeatureStore) -> None:
    on_demand = store.list_on_demand_feature_views()
    views = store.list_feature_views() + [view for view in on_demand if view.write_to_online_store]
    store._get_provider().update_infra(  # type: ignore[attr-defined]
        store.project, [], views, [], store.list_entities(), partial=False
    )


@dataclass(frozen=True)
class Applied:
    """A registry that stock Feast has applied definitions to."""

    folder: Path
    project: str

    def open(
        self,
        folder: Path,
        server: RedisServer | None = None,
        *,
        key_version: int = 3,
        online_store: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Repo:
        """A repo with its own copy of the registry; Redis if a server is given, else SQLite."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / "registry.db", folder / "registry.db")
        database = 0
        online: dict[str, Any] = {"type": "sqlite", "path": "online.db"}
        if server is not None:
            database = server.fresh_database()
            online = {"type": "redis", "connection_string": server.connection_string(database)}
        config = {
            "project": self.project,
            "provider": "local",
            "registry": "registry.db",
            "online_store": online | dict(online_store or {}),
            "offline_store": {"type": "file"},
            "entity_key_serialization_version": key_version,
            **(settings or {}),
        }
        return Repo(folder, config, server, database)

    def twins(
        self, folder: Path, server: RedisServer | None = None, **options: Any
    ) -> tuple[Repo, Repo]:
        """Two equal repos with a store each: one for us to write to, one for stock Feast."""
        return (
            self.open(folder / "ours", server, **options),
            self.open(folder / "stock", server, **options),
        )


def apply(folder: Path, objects: Sequence[Any], project: str = "demo") -> Applied:
    """Applies `objects` with stock Feast to a registry in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text(
        yaml.safe_dump(
            {
                "project": project,
                "provider": "local",
                "registry": "registry.db",
                # No online store: what applying does to one is not wanted here.
                "online_store": None,
                "offline_store": {"type": "file"},
                "entity_key_serialization_version": 3,
            }
        )
    )
    store = feast.FeatureStore(repo_path=str(folder))
    store.apply(list(objects))
    return Applied(folder, project)


def file_source(path: Path | str, **options: Any) -> feast.FileSource:
    """A Parquet source with the column names that the tests use."""
    options.setdefault("timestamp_field", "event_timestamp")
    return feast.FileSource(path=str(path), file_format=ParquetFormat(), **options)


__all__ = ["DUMMY_ENTITY_NAME", "EARLY", "LATE", "Applied", "Repo", "apply", "file_source"]
