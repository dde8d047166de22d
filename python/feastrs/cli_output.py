"""What the command prints: tables for people, JSON for programs."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feastrs import FeatureStore

REPORT_ATTRIBUTES = (
    "view",
    "start",
    "end",
    "rows_read",
    "entities_written",
    "rows_older",
    "null_keys",
    "seconds",
)


@dataclass(frozen=True)
class Kind:
    """One kind of registry object, and how it is shown."""

    command: str
    """Name of the command, such as ``feature-views``."""
    list_method: str
    """Method of the feature store that lists them; takes ``tags``."""
    find: Callable[[FeatureStore, str], Any]
    """The one of that name."""
    headers: tuple[str, ...]
    row: Callable[[Any], Sequence[object]]
    """The cells of one of them, as many as ``headers``."""
    attributes: tuple[str, ...]
    """What ``describe`` and ``--json`` show, as far as the object has it."""

    @property
    def plural(self) -> str:
        """Its name in a sentence."""
        return self.command.replace("-", " ")


def _find_view(store: FeatureStore, name: str) -> Any:
    for view in store.list_all_feature_views():
        if view.name == name:
            return view
    return store.get_feature_view(name)  # raises: there is none


def _view_row(view: Any) -> Sequence[object]:
    return (view.name, ", ".join(getattr(view, "entities", ())) or "n/a", type(view).__name__)


def _service_row(service: Any) -> Sequence[object]:
    features = [
        f"{projection.name}:{feature.name}"
        for projection in service.feature_view_projections
        for feature in projection.features
    ]
    return (service.name, ", ".join(features))


def _entity_row(entity: Any) -> Sequence[object]:
    return (entity.name, entity.join_key, entity.description, entity.value_type)


KINDS = (
    Kind(
        "feature-views",
        "list_all_feature_views",
        _find_view,
        ("NAME", "ENTITIES", "TYPE"),
        _view_row,
        (
            "name",
            "entities",
            "features",
            "ttl",
            "online",
            "source",
            "batch_source",
            "stream_source",
            "materialization_intervals",
            "description",
            "tags",
            "owner",
        ),
    ),
    Kind(
        "entities",
        "list_entities",
        lambda store, name: store.get_entity(name),
        ("NAME", "JOIN KEY", "DESCRIPTION", "TYPE"),
        _entity_row,
        ("name", "join_key", "value_type", "description", "tags", "owner"),
    ),
    Kind(
        "feature-services",
        "list_feature_services",
        lambda store, name: store.get_feature_service(name),
        ("NAME", "FEATURES"),
        _service_row,
        ("name", "feature_view_projections", "description", "tags", "owner"),
    ),
    Kind(
        "data-sources",
        "list_data_sources",
        lambda store, name: store.get_data_source(name),
        ("NAME", "TYPE", "PATH"),
        lambda source: (source.name, type(source).__name__, getattr(source, "path", None)),
        (
            "name",
            "path",
            "timestamp_field",
            "created_timestamp_column",
            "field_mapping",
            "description",
            "tags",
            "owner",
        ),
    ),
)

# What is shown of an object inside another one.
_NESTED = ("name", "name_alias", "path", "dtype", "features", "join_key_map")


def attributes(one: Any, names: Iterable[str]) -> dict[str, Any]:
    """Those attributes that the object has, as plain values; empty ones are left out."""
    found = {name: plain(getattr(one, name)) for name in names if hasattr(one, name)}
    return {name: value for name, value in found.items() if value not in (None, "", [], {})}


def plain(value: Any) -> Any:
    """A value in the terms of JSON.

    Bytes in base64, times in ISO 8601, durations in seconds; infinities and NaN, which JSON
    has not, as strings.
    """
    if value is None or (isinstance(value, (bool, int, str)) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _name_of(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(one) for key, one in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(one) for one in value), key=str)
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, Enum):
        return value.name
    return attributes(value, _NESTED) if hasattr(value, "name") else str(value)


def _name_of(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def print_json(value: Any) -> None:
    """One JSON document."""
    print(json_text(value))


def json_text(value: Any) -> str:
    """The same as text."""
    return json.dumps(plain(value), indent=4, ensure_ascii=False, allow_nan=False)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns two spaces apart, as wide as their widest cell; null is ``-``."""
    table = [list(headers), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def print_described(described: Mapping[str, Any], indent: str = "") -> None:
    """``name: value`` lines, what is inside an object deeper."""
    for name, value in described.items():
        if isinstance(value, Mapping):
            print(f"{indent}{name}:")
            print_described(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            print(f"{indent}{name}:")
            for one in value:
                _print_item(one, indent + "  ")
        else:
            print(f"{indent}{name}: {_cell(value)}")


def _print_item(item: Mapping[str, Any], indent: str) -> None:
    simple = {k: v for k, v in item.items() if not isinstance(v, (Mapping, list))}
    print(f"{indent}- " + "  ".join(f"{name}: {_cell(value)}" for name, value in simple.items()))
    print_described({k: v for k, v in item.items() if k not in simple}, indent + "  ")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:.6g}"
    value = plain(value)
    if isinstance(value, list):
        return ", ".join(map(_cell, value)) or "[]"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value).replace("\n", "\\n")
