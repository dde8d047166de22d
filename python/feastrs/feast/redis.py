"""`type: feastrs.feast.RedisOnlineStore` in an unchanged Feast."""

from __future__ import annotations

from typing import Literal

from feast.infra.online_stores import redis

from feastrs.feast.reads import NativeReads
from feastrs.feast.settings import ServingSettings
from feastrs.feast.writes import NativeAsyncWrites, NativeDeletion


class RedisOnlineStoreConfig(ServingSettings, redis.RedisOnlineStoreConfig):
    """Feast's Redis settings, and ours.

    Example:
        >>> from feastrs.feast import RedisOnlineStoreConfig
        >>> RedisOnlineStoreConfig(read_command="hmget").connection_string
        'localhost:6379'
    """

    type: str = "feastrs.feast.RedisOnlineStore"
    """How `feature_store.yaml` names the store."""

    read_command: Literal["auto", "hgetall", "hmget"] = "auto"
    """How a hash is read: `auto` takes it whole where that costs Redis less."""

    field_ttl: bool = False
    """Whether the fields of a row expire with its view's `ttl` (Redis 7.4, Valkey 9)."""


class RedisOnlineStore(NativeReads, NativeAsyncWrites, NativeDeletion, redis.RedisOnlineStore):
    """Feast's Redis store, read, written and emptied by the core.

    See :class:`RedisOnlineStoreConfig`.
    """
