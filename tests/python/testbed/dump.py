"""Dumps of online stores, in a form in which two of them can be compared.

"Equal" is the design's word for it: the same keys, the same fields and value bytes, TTLs
within a second or two. Stock Feast writes the elements of maps, structs and sets in an order
that changes from run to run, so those are sorted before they are compared; every other value
is compared byte for byte.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.message import DecodeError

TTL_SLACK_SECONDS = 2

_SET_FIELDS = frozenset(
    field.name
    for field in Value.DESCRIPTOR.fields
    if field.name.endswith("_set_val") or field.name == "set_val"
)
_LIST_OF_VALUES = frozenset({"list_val", "set_val"})
_MAPS = frozenset({"map_val", "struct_val"})
_LISTS_OF_MAPS = frozenset({"map_list_val", "struct_list_val"})


def canonical(data: bytes) -> bytes:
    """The serialized `Value` with the elements of maps, structs and sets in sorted order.

    Anything else comes back as it was, byte for byte.
    """
    if not data:
        return data
    value = Value()
    try:
        value.ParseFromString(data)
    except DecodeError:
        return data  # a field that Feast never wrote
    return _sorted(value).SerializeToString(deterministic=True) if _sort(value) else data


def _sort(value: Value) -> bool:
    """Whether the value holds, at any depth, something without an order."""
    kind = value.WhichOneof("val")
    if kind in _MAPS or kind in _LISTS_OF_MAPS or kind == "scalar_map_val" or kind in _SET_FIELDS:
        return True
    return kind == "list_val" and any(_sort(inner) for inner in value.list_val.val)


def _sorted(value: Value) -> Value:
    kind = value.WhichOneof("val")
    result = Value()
    result.CopyFrom(value)
    if kind is None:
        return result
    body = getattr(result, kind)
    if kind in _LIST_OF_VALUES:
        inner = [_sorted(item) for item in body.val]
        if kind == "set_val":
            inner.sort(key=lambda item: item.SerializeToString(deterministic=True))
        del body.val[:]
        body.val.extend(inner)
    elif kind in _MAPS:
        _sort_map(body)
    elif kind in _LISTS_OF_MAPS:
        for item in body.val:
            _sort_map(item)
    elif kind == "scalar_map_val":
        for entry in body.val:
            entry.value.CopyFrom(_sorted(entry.value))
        entries = sorted(body.val, key=lambda entry: entry.SerializeToString(deterministic=True))
        copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
        del body.val[:]
        body.val.extend(copies)
    elif kind in _SET_FIELDS:
        items = sorted(body.val, key=repr)
        del body.val[:]
        body.val.extend(items)
    return result


def _sort_map(body: Any) -> None:
    for name in list(body.val):
        body.val[name].CopyFrom(_sorted(body.val[name]))


@dataclass(frozen=True)
class RedisHash:
    """One entity's hash: values in canonical form, TTL in seconds or -1 for none."""

    fields: dict[bytes, bytes]
    ttl: int


def dump_redis(client: redis.Redis) -> dict[bytes, RedisHash]:
    """Every key of the client's database."""
    hashes: dict[bytes, RedisHash] = {}
    keys = sorted(client.scan_iter(count=1000))
    for first in range(0, len(keys), 1000):
        some = keys[first : first + 1000]
        with client.pipeline(transaction=False) as pipe:
            for key in some:
                pipe.hgetall(key)
                pipe.ttl(key)
            replies = pipe.execute()
        for key, stored, ttl in zip(some, replies[::2], replies[1::2], strict=True):
            fields = {
                field: data if field.startswith(b"_ts:") else canonical(data)
                for field, data in stored.items()
            }
            hashes[key] = RedisHash(dict(sorted(fields.items())), ttl)
    return hashes


def assert_same_redis(ours: redis.Redis, stock: redis.Redis) -> dict[bytes, RedisHash]:
    """Fails with the first difference; returns the dump that both gave."""
    left, right = dump_redis(ours), dump_redis(stock)
    assert list(left) == list(right), (
        f"keys differ: only ours {sorted(set(left) - set(right))[:3]}, "
        f"only stock {sorted(set(right) - set(left))[:3]}"
    )
    for key, hash_ in left.items():
        other = right[key]
        assert hash_.fields.keys() == other.fields.keys(), f"fields of {key!r} differ"
        for field, data in hash_.fields.items():
            assert data == other.fields[field], (
                f"{key!r} {field!r}: ours {shown(data)}, stock {shown(other.fields[field])}"
            )
        assert abs(hash_.ttl - other.ttl) <= TTL_SLACK_SECONDS, f"TTLs of {key!r} differ"
    return left


def shown(data: bytes) -> str:
    """A stored value for a failure's message: bytes and, where it is one, the `Value`."""
    try:
        return f"{data.hex()} ({str(Value.FromString(data)).strip()})"
    except Exception:
        return data.hex()


def dump_sqlite(path: Path) -> dict[str, tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]]:
    """Every table of the file: its columns as declared, its rows sorted."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
            )
        ]
        return {
            name: (
                [tuple(row[1:]) for row in connection.execute(f'PRAGMA table_info("{name}")')],
                sorted(_rows(connection, name), key=repr),
            )
            for name in names
        }
    finally:
        connection.close()


def _rows(connection: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    cursor = connection.execute(f'SELECT * FROM "{table}"')
    columns = [column[0] for column in cursor.description]
    value = columns.index("value") if "value" in columns else None
    rows = []
    for row in cursor:
        cells = list(row)
        if value is not None and isinstance(cells[value], bytes):
            cells[value] = canonical(cells[value])
        rows.append(tuple(cells))
    return rows


def assert_same_sqlite(ours: Path, stock: Path) -> None:
    """Compares two files table by table."""
    left, right = dump_sqlite(ours), dump_sqlite(stock)
    assert list(left) == list(right)
    for table, (columns, rows) in left.items():
        assert columns == right[table][0], f"columns of {table} differ"
        assert len(rows) == len(right[table][1]), f"row counts of {table} differ"
        for row, other in zip(rows, right[table][1], strict=True):
            assert row == other, f"table {table}: ours {row}, stock {other}"
