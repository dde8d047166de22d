"""Makes the golden bytes of this folder with stock Feast.

Run from the repository's root, with an interpreter that has Feast:

    python tests/golden/make_golden.py

- ``values.json``: for each case its value type and the serialized ``feast.types.Value``.
- ``keys.json``: join keys, their values, and the serialized entity key, versions 2 and 3.
- ``fields.json``: feature view, feature, and the name of its field in a Redis hash.
- ``served.json``: for each case its value type, the serialized value, and the text that Feast's
  server prints for it, with the members of objects sorted.
- ``columns.parquet`` and ``columns.json``: columns of many Arrow types, and what each row
  becomes when Feast materializes the column with a value type.

Bytes are hexadecimal. Protobuf writes the entries of maps, and Python the elements of sets, in
any order: readers compare those sorted. Here the hash seed is fixed, so that files change only
where Feast does.
"""

import json
import os
import pathlib
import sys
import warnings
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import feast
import pyarrow as pa
import pyarrow.parquet as pq
from feast.feature_server_utils import convert_response_to_dict
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types import Value_pb2
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

FEAST_VERSION = "0.67.0"
FOLDER = pathlib.Path(__file__).parent

NAN = float("nan")
INF = float("inf")
UTC = timezone.utc
UUIDS = [UUID("12345678-1234-5678-1234-567812345678"), UUID(int=0), UUID(int=2**128 - 1)]
TIMES = [
    datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, tzinfo=UTC),
]
INT32S = [0, 1, -1, 2**31 - 1, -(2**31), 300]
INT64S = [0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1, 300]
FLOATS = [0.0, -0.0, 1.5, -2.25, INF, -INF, 1e-45, 3.4028234663852886e38]
DOUBLES = [0.0, -0.0, 0.1, -2.5, INF, -INF, 5e-324, 1.7976931348623157e308]
STRINGS = ["", "a", "Grüße, 世界 🚕", "line\nbreak\x00zero", "x" * 200]
BYTES = [b"", b"\x00\xff", b"plain", bytes(range(200))]
DECIMALS = [
    Decimal("0"),
    Decimal("1.50"),
    Decimal("-12345678901234567890.123456789"),
    Decimal("1E+5"),
]
JSONS = ['{"a": [1, 2, {"b": null}]}', "[]", '"text"', "3.5", "null"]

SCALARS: dict[str, list[Any]] = {
    "BYTES": BYTES,
    "STRING": STRINGS,
    "INT32": INT32S,
    "INT64": INT64S,
    "DOUBLE": DOUBLES,
    "FLOAT": FLOATS,
    "BOOL": [True, False],
    "UNIX_TIMESTAMP": TIMES,
    "JSON": JSONS,
    "UUID": UUIDS,
    "TIME_UUID": UUIDS,
    "DECIMAL": DECIMALS,
}
ZONED = [
    datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=-7))),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2024, 1, 1, 12),
]
MAPS: list[dict[str, Any]] = [
    {},
    {"a": 1, "b": "text", "c": 1.5, "d": True, "e": None, "": b"bytes"},
    {"list": [1, 2, 3], "map": {"inner": {"deep": "x"}}, "maps": [{"a": 1}, {"b": "y"}]},
    {"Grüße": datetime(2024, 1, 1, tzinfo=UTC), "strings": ["a", "b"], "floats": [0.5]},
]
SCALAR_MAPS: list[dict[Any, Any]] = [
    {},
    {1: "a", -5: None, 2**40: 1.5},
    {True: 1},
    {1.5: "x"},
    {b"k": [1, 2]},
    {UUIDS[0]: "u"},
    {Decimal("1.5"): "d"},
    {datetime(2024, 1, 1, tzinfo=UTC): "t"},
]
NESTED: list[list[Any]] = [
    [],
    [[1, 2], [3]],
    [["a"], ["b", "c"]],
    [[1.5], None],
    [[[1], [2, 3]], [[4]]],
]


def encode(value_type: str, values: list[Any]) -> list[bytes]:
    """Each value, serialized as Feast does for a feature of that type."""
    protos = python_values_to_proto_values(values, ValueType[value_type])
    return [proto.SerializeToString(deterministic=True) for proto in protos]


def case(value_type: str, name: str, data: bytes) -> dict[str, str]:
    return {"type": value_type, "name": name, "hex": data.hex()}


def cases(value_type: str, values: list[Any]) -> list[dict[str, str]]:
    return [
        case(value_type, f"{value_type.lower()}-{index}", encode(value_type, [value])[0])
        for index, value in enumerate(values)
    ]


def value_cases() -> list[dict[str, str]]:
    """One list of cases for every value type."""
    found = []
    for scalar, values in SCALARS.items():
        found += cases(scalar, values)
        found += cases(f"{scalar}_LIST", [values, values[:1], []])
        if scalar != "JSON":
            found += cases(f"{scalar}_SET", [set(values), set(values[:1]), set()])
    found += cases("DOUBLE_LIST", [[NAN, 1.0]])
    found += cases("FLOAT_LIST", [[NAN, 1.0]])
    found += cases("STRING_LIST", [["a", None]])
    found += cases("ZONED_TIMESTAMP", ZONED)
    for map_type in ("MAP", "STRUCT"):
        found += cases(map_type, MAPS)
        found += cases(f"{map_type}_LIST", [MAPS[1:3], [{}], []])
    found += cases("SCALAR_MAP", SCALAR_MAPS)
    found += cases("VALUE_LIST", NESTED)
    found += cases("VALUE_SET", NESTED[:3])
    found.append(case("INT64", "unset", Value().SerializeToString()))
    found.append(case("INT64", "null_val", Value(null_val=Value_pb2.NULL).SerializeToString()))
    found.append(case("INT64", "another type", Value(string_val="x").SerializeToString()))
    found.append(
        case("UNIX_TIMESTAMP", "NaT", Value(unix_timestamp_val=-(2**63)).SerializeToString())
    )
    found.append(case("DOUBLE", "NaN", Value(double_val=NAN).SerializeToString()))
    return found


NUMBERS = [
    *(100.0, 1e15, 9999999999999998.0, 1e16, 1.2345678901234568e17, 1e21, 1e22, 1.5e300),
    *(0.0001, 0.00012345, 0.00009999, 1e-05, -1.5e-07, 3.141592653589793, 16777217.0, 1e10, 1e17),
]


def served_cases() -> list[dict[str, str]]:
    """The values of `value_cases`, and more numbers, as the server prints them."""
    numbers = [
        case(f"{kind}_LIST", f"{kind.lower()}s", encode(f"{kind}_LIST", [NUMBERS])[0])
        for kind in ("DOUBLE", "FLOAT")
    ]
    found = []
    for one in value_cases() + numbers:
        value = Value.FromString(bytes.fromhex(one["hex"]))
        response = GetOnlineFeaturesResponse(results=[{"values": [value]}])
        [vector] = convert_response_to_dict(response)["results"]
        text = json.dumps(
            vector["values"][0], ensure_ascii=False, separators=(",", ":"), sort_keys=True
        )
        found.append({**one, "json": text})
    return found


KEYS: list[list[tuple[str, str, Any]]] = [
    [],
    [("driver_id", "INT64", 1001)],
    [("driver_id", "INT64", -(2**63))],
    [("driver_id", "INT32", -1)],
    [("name", "STRING", "")],
    [("name", "STRING", "Grüße 🚕")],
    [("raw", "BYTES", b"\x00\xff")],
    [("at", "UNIX_TIMESTAMP", 1_700_000_000)],
    [("at", "UNIX_TIMESTAMP", -1)],
    [("zone", "STRING", "b"), ("driver_id", "INT64", 7)],
    [("b", "INT32", 2**31 - 1), ("B", "STRING", "x"), ("ä", "INT64", 3), ("a", "BYTES", b"")],
]


def key_cases() -> list[dict[str, Any]]:
    found = []
    for parts in KEYS:
        key = EntityKey(
            join_keys=[name for name, _, _ in parts],
            entity_values=[Value(**{f"{kind.lower()}_val": value}) for _, kind, value in parts],
        )
        join_keys = [
            [name, kind, value.hex() if kind == "BYTES" else str(value)]
            for name, kind, value in parts
        ]
        found += [
            {
                "version": version,
                "join_keys": join_keys,
                "hex": serialize_entity_key(key, version).hex(),
            }
            for version in (2, 3)
        ]
    return found


def field_cases() -> list[dict[str, str]]:
    views = ["v", "driver_stats", "driver_stats_v2", "Grüße"]
    features = ["f", "conv_rate", "acc_rate", "avg_daily_trips", "世界"]
    return [
        {"view": view, "feature": feature, "hex": _mmh3(f"{view}:{feature}").hex()}
        for view in views
        for feature in features
    ]


def columns() -> list[tuple[str, pa.Array, str]]:
    """Columns that stock Feast materializes without loss: name, rows, value type."""
    us, ns, s = pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("s")
    ticks = [1_700_000_000_123_456, -1, None]
    instants = [1_700_000_000, -1, None]
    cents = [Decimal("1.50"), Decimal("-0.01"), None]
    return [
        ("int64", pa.array([1, -(2**63), 2**63 - 1], pa.int64()), "INT64"),
        ("int64_null", pa.array([1, None, -300], pa.int64()), "INT64"),
        ("int8_as_int64", pa.array([1, -1, 127], pa.int8()), "INT64"),
        ("uint32_as_int64", pa.array([1, 2**32 - 1, 0], pa.uint32()), "INT64"),
        ("float_as_int64", pa.array([1.9, -1.9, None], pa.float64()), "INT64"),
        ("text_as_int64", pa.array(["7", " -8 ", None]), "INT64"),
        ("bool_as_int64", pa.array([True, False, None]), "INT64"),
        ("ns_as_int64", pa.array([5, -5, 0], ns), "INT64"),
        ("int32", pa.array([1, None, -5], pa.int32()), "INT32"),
        ("int64_as_int32", pa.array([1, 2, -5], pa.int64()), "INT32"),
        ("double", pa.array([0.1, NAN, None], pa.float64()), "DOUBLE"),
        ("double_extreme", pa.array([INF, -INF, -0.0], pa.float64()), "DOUBLE"),
        ("int64_as_double", pa.array([1, 2, -5], pa.int64()), "DOUBLE"),
        ("decimal_as_double", pa.array(cents, pa.decimal128(10, 2)), "DOUBLE"),
        ("float", pa.array([0.1, NAN, None], pa.float32()), "FLOAT"),
        ("double_as_float", pa.array([0.1, 1e300, None], pa.float64()), "FLOAT"),
        ("text_as_float", pa.array(["1.5", "-2", None]), "FLOAT"),
        ("bool", pa.array([True, False, None]), "BOOL"),
        ("int64_as_bool", pa.array([0, 1, 7], pa.int64()), "BOOL"),
        ("string", pa.array(["a", "", None]), "STRING"),
        ("large_string", pa.array(["Grüße", "b", None], pa.large_string()), "STRING"),
        ("dictionary", pa.array(["a", "b", None]).dictionary_encode(), "STRING"),
        ("int64_as_string", pa.array([1, -1, 0], pa.int64()), "STRING"),
        ("double_as_string", pa.array([1.5, 1e22, 1e-5], pa.float64()), "STRING"),
        ("float_as_string", pa.array([1.1, 1e22, None], pa.float32()), "STRING"),
        ("bool_as_string", pa.array([True, False, None]), "STRING"),
        ("time_as_string", pa.array(ticks, us), "STRING"),
        ("date_as_string", pa.array([date(2024, 2, 29), None, date(1969, 1, 1)]), "STRING"),
        ("decimal_as_string", pa.array(cents, pa.decimal128(10, 2)), "STRING"),
        ("binary_as_string", pa.array([b"a'\xff", b"\n\\", None]), "STRING"),
        ("binary", pa.array([b"a", b"\x00\xff", None]), "BYTES"),
        ("time_us", pa.array(ticks, us), "UNIX_TIMESTAMP"),
        ("time_ns", pa.array(ticks, ns), "UNIX_TIMESTAMP"),
        ("time_s", pa.array(instants, s), "UNIX_TIMESTAMP"),
        ("time_zone", pa.array(ticks, pa.timestamp("us", "Europe/Berlin")), "UNIX_TIMESTAMP"),
        ("date_as_time", pa.array([date(2024, 2, 29), date(1969, 1, 1), None]), "UNIX_TIMESTAMP"),
        ("int64_as_time", pa.array([5, -5, 0], pa.int64()), "UNIX_TIMESTAMP"),
        ("text_as_time", pa.array(["5", None, "-5"]), "UNIX_TIMESTAMP"),
        ("decimal", pa.array(cents, pa.decimal128(10, 2)), "DECIMAL"),
        (
            "decimal_zero",
            pa.array([Decimal(0), Decimal(1), None], pa.decimal128(20, 10)),
            "DECIMAL",
        ),
        ("text_as_decimal", pa.array(["1.50", "NaN", None]), "DECIMAL"),
        ("uuid", pa.array([str(UUIDS[0]), str(UUIDS[1]), None]), "UUID"),
        ("time_uuid", pa.array([str(UUIDS[0]), str(UUIDS[1]), None]), "TIME_UUID"),
        ("json", pa.array(['{"a": 1}', '{"a": NaN}', None]), "JSON"),
        ("json_list", pa.array([["1", '"a"'], [], None]), "JSON_LIST"),
        ("int64_list", pa.array([[1, -1], [], None], pa.list_(pa.int64())), "INT64_LIST"),
        ("int8_list", pa.array([[1, -1], [], None], pa.list_(pa.int8())), "INT64_LIST"),
        ("int32_list", pa.array([[1, -1], [], None], pa.list_(pa.int32())), "INT32_LIST"),
        ("double_list", pa.array([[0.1, None, NAN], [], None]), "DOUBLE_LIST"),
        (
            "float_as_double_list",
            pa.array([[0.5], [], None], pa.list_(pa.float32())),
            "DOUBLE_LIST",
        ),
        ("float_list", pa.array([[0.1, None], [], None], pa.list_(pa.float32())), "FLOAT_LIST"),
        (
            "fixed_list",
            pa.array([[0.1, 2.0], [3.0, 4.0], None], pa.list_(pa.float32(), 2)),
            "FLOAT_LIST",
        ),
        ("large_list", pa.array([["a"], [], None], pa.large_list(pa.string())), "STRING_LIST"),
        ("string_list", pa.array([["a", None, ""], [], None]), "STRING_LIST"),
        ("bytes_list", pa.array([[b"a", None], [], None]), "BYTES_LIST"),
        ("bool_list", pa.array([[True, None], [False], None]), "BOOL_LIST"),
        (
            "time_list",
            pa.array([[1_700_000_000_123_456, None], [], None], pa.list_(us)),
            "UNIX_TIMESTAMP_LIST",
        ),
        ("uuid_list", pa.array([[str(UUIDS[0])], [], None]), "UUID_LIST"),
        ("decimal_list", pa.array([[Decimal("1.50")], [], None]), "DECIMAL_LIST"),
        ("json_bytes_as_list", pa.array([b"[1, 2]", b"[]", b"[-3]"]), "INT64_LIST"),
        ("int64_set", pa.array([[3, 1, 3], [], None]), "INT64_SET"),
        ("double_set", pa.array([[1.5, NAN, NAN, -1.0], [], None]), "DOUBLE_SET"),
        ("string_set", pa.array([["b", "a", "b"], [], None]), "STRING_SET"),
        (
            "time_set",
            pa.array([[-1, 1_000_000, 2_500_000], [], None], pa.list_(us)),
            "UNIX_TIMESTAMP_SET",
        ),
        (
            "struct",
            pa.array([{"a": 1, "b": "x", "c": [1, 2]}, {"a": 2, "b": None, "c": [3]}, None]),
            "MAP",
        ),
        (
            "struct32",
            pa.array(
                [{"a": 1, "c": [1]}, {"a": 2, "c": [2]}, None],
                pa.struct([("a", pa.int32()), ("c", pa.list_(pa.int32()))]),
            ),
            "STRUCT",
        ),
        ("struct_deep", pa.array([{"a": {"b": {"c": 1.5}}}, {"a": None}, None]), "STRUCT"),
        ("struct_list", pa.array([[{"a": 1}, {"a": 2}], [], None]), "STRUCT_LIST"),
        ("json_as_map", pa.array(['{"b": [1.5], "a": {"x": null}}', "{}", None]), "MAP"),
        ("json_as_maps", pa.array(['[{"a": 1}]', "[]", None]), "MAP_LIST"),
        ("nested", pa.array([[[1], [2, 3]], [], None]), "VALUE_LIST"),
        (
            "nested_float",
            pa.array([[[0.5]], [], None], pa.list_(pa.list_(pa.float32()))),
            "VALUE_LIST",
        ),
        ("nested_deep", pa.array([[[["a"]], [["b"], ["c"]]], [], None]), "VALUE_LIST"),
        ("nested_set", pa.array([[[True], [False]], [], None]), "VALUE_SET"),
    ]


def write_columns() -> None:
    names, arrays, expected = [], [], {}
    for name, array, value_type in columns():
        names.append(name)
        arrays.append(array)
        rows = encode(value_type, array.to_numpy(zero_copy_only=False))
        expected[name] = {"type": value_type, "hex": [row.hex() for row in rows]}
    pq.write_table(pa.Table.from_arrays(arrays, names=names), FOLDER / "columns.parquet")
    write("columns.json", expected)


def write(name: str, content: Any) -> None:
    if isinstance(content, dict):
        lines = [f"{json.dumps(key)}: {json.dumps(item)}" for key, item in content.items()]
        text = "{\n" + ",\n".join(lines) + "\n}\n"
    else:
        text = (
            "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in content) + "\n]\n"
        )
    (FOLDER / name).write_text(text, encoding="utf-8")


def main() -> None:
    assert feast.__version__ == FEAST_VERSION, feast.__version__
    warnings.simplefilter("ignore")
    write("values.json", value_cases())
    write("served.json", served_cases())
    write("keys.json", key_cases())
    write("fields.json", field_cases())
    write_columns()


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"}
        )
    main()
