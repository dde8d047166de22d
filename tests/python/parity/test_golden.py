"""The golden bytes of tests/golden, decoded and made by feastrs, compared with stock Feast."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type
from feast.value_type import ValueType

from feastrs import _native

GOLDEN = Path(__file__).parents[2] / "golden"


def golden(name: str) -> list[dict[str, Any]]:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def message(data: bytes) -> Value:
    return Value.FromString(data)


def same(ours: Any, feasts: Any) -> bool:
    """Equal in type and value, NaN equal to itself."""
    if isinstance(feasts, float) and math.isnan(feasts):
        return isinstance(ours, float) and math.isnan(ours)
    if isinstance(feasts, list):
        return isinstance(ours, list) and len(ours) == len(feasts) and all(map(same, ours, feasts))
    return type(ours) is type(feasts) and ours == feasts and repr_of(ours) == repr_of(feasts)


def repr_of(value: Any) -> str:
    """What tells apart that which is equal: -0.0, and zones of datetimes."""
    return repr(value) if not isinstance(value, (dict, set)) else ""


def written_by_feast(case: dict[str, str]) -> bool:
    """Not the explicit null, which Feast never writes, and would read as 0."""
    return case["name"] != "null_val"


@pytest.mark.parametrize(
    "case", list(filter(written_by_feast, golden("values.json"))), ids=lambda case: case["name"]
)
def test_values_are_decoded_as_feast_does(case: dict[str, str]) -> None:
    data = bytes.fromhex(case["hex"])
    expected = feast_value_type_to_python_type(message(data), ValueType[case["type"]])

    (found,) = _native.decode_values(case["type"], [data])

    assert same(found, expected), (found, expected)


def plain(case: dict[str, str]) -> bool:
    """Whether a Python object tells all: JSON is normalized, widths within maps are lost, and a
    time without a zone comes back with one."""
    shapeless = any(word in case["type"] for word in ("JSON", "MAP", "STRUCT"))
    special = ("another type", "null_val", "NaT", "NaN", "zoned_timestamp-3")
    return not shapeless and case["name"] not in special


@pytest.mark.parametrize(
    "case", list(filter(plain, golden("values.json"))), ids=lambda case: case["name"]
)
def test_python_objects_are_stored_as_they_came(case: dict[str, str]) -> None:
    (value,) = _native.decode_values(case["type"], [bytes.fromhex(case["hex"])])

    (again,) = _native.decode_values(case["type"], [_native.encode_value(case["type"], value)])

    assert same(again, value), (again, value)


@pytest.mark.parametrize("case", golden("keys.json"), ids=lambda case: case["hex"][:24])
def test_keys_are_those_of_feast(case: dict[str, Any]) -> None:
    def native(kind: str, text: str) -> Any:
        if kind == "BYTES":
            return bytes.fromhex(text)
        return text if kind == "STRING" else int(text)

    keys = [(name, kind, [native(kind, text)]) for name, kind, text in case["join_keys"]]
    if keys:
        assert _native.encode_entity_keys(keys, case["version"]) == [bytes.fromhex(case["hex"])]


def test_field_names_are_those_of_feast() -> None:
    for case in golden("fields.json"):
        assert _native.field_name(case["view"], case["feature"]).hex() == case["hex"]
