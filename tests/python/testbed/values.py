"""Listed cases: for every value type of Feast, a Parquet column and values worth trying.

`CASES` are the columns that stock Feast can materialize. `MENDED` are those on which stock
Feast fails or loses something and feastrs does not. `PROTO_ONLY` are types that reach a store
only by `online_write_batch`, as ready-made protobuf values.
"""

from __future__ import annotations

import decimal
import math
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
from feast.protos.feast.types.Value_pb2 import (
    BytesList,
    Int64List,
    Map,
    MapKey,
    MapList,
    RepeatedValue,
    ScalarMap,
    ScalarMapEntry,
    StringList,
    StringSet,
    Value,
    ZonedTimestamp,
)
from feast.types import (
    Array,
    Bool,
    Bytes,
    Decimal,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    Set,
    String,
    Struct,
    TimeUuid,
    UnixTimestamp,
    Uuid,
)
from feast.types import (
    Map as MapType,
)
from feast.types import (
    ScalarMap as ScalarMapType,
)
from feast.types import (
    ZonedTimestamp as ZonedTimestampType,
)

NAN, INF = math.nan, math.inf
# A NaN with its sign bit set, as x86 makes it.
MINUS_NAN = math.copysign(math.nan, -1)
UTC = timezone.utc
U1, U2 = str(uuid.UUID(int=1)), "6f1c1c3e-8f0b-4b1a-9a49-0e6b8f5d2c11"
T1 = "c9aec822-6a1b-11ee-8c99-0242ac120002"
UNICODE = ["", "a", "žluťoučký kůň", "日本語", "🦀🐍", "\x00", "a\x00b", "line\nbreak", "'\"\\"]


@dataclass(frozen=True)
class Case:
    """A column: Feast's type, how Parquet has it, its values."""

    name: str
    dtype: FeastType
    arrow: pa.DataType
    values: list[Any]

    def column(self, rows: int) -> pa.Array:
        """The values, repeated or cut to `rows`."""
        cycled = [self.values[i % len(self.values)] for i in range(rows)]
        return pa.array(cycled, type=self.arrow)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


TIMES = [
    _time("1970-01-01T00:00:00"),
    _time("2024-02-29T23:59:59.999999"),
    _time("1969-12-31T23:59:58.5"),
]
POINT = pa.struct([("lat", pa.float64()), ("name", pa.string())])

CASES: list[Case] = [
    Case("bytes", Bytes, pa.binary(), [b"", b"\x00\xff", None, b"abc"]),
    Case("string", String, pa.string(), [*UNICODE, None]),
    Case("large_string", String, pa.large_string(), [*UNICODE, None]),
    Case(
        "string_dictionary", String, pa.dictionary(pa.int32(), pa.string()), ["a", "b", "a", None]
    ),
    Case("int32", Int32, pa.int32(), [0, 1, -1, 2**31 - 1, -(2**31)]),
    Case("int32_of_int8", Int32, pa.int8(), [0, 127, -128]),
    Case("int32_of_int16", Int32, pa.int16(), [0, 32767, -32768]),
    Case("int64", Int64, pa.int64(), [0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1]),
    Case("int64_of_int32", Int64, pa.int32(), [0, -5, 2**31 - 1]),
    Case("int64_with_null", Int64, pa.int64(), [0, None, -7, 2**31]),
    Case("int32_with_null", Int32, pa.int32(), [0, None, -7, 2**31 - 1]),
    Case(
        "float32",
        Float32,
        pa.float32(),
        [0.0, -0.0, 1.5, 3.4028234663852886e38, 1e-45, INF, -INF, NAN, None],
    ),
    Case("float32_of_double", Float32, pa.float64(), [0.1, 1e-45, -2.5, NAN, None]),
    Case(
        "float64",
        Float64,
        pa.float64(),
        [0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, INF, -INF, NAN, None],
    ),
    Case("float64_of_int", Float64, pa.int64(), [0, -3, 9]),
    Case("bool", Bool, pa.bool_(), [True, False]),
    Case("bool_with_null", Bool, pa.bool_(), [True, None, False]),
    Case("timestamp_us", UnixTimestamp, pa.timestamp("us", tz="UTC"), [*TIMES, None]),
    Case("timestamp_ns", UnixTimestamp, pa.timestamp("ns"), [TIMES[0], TIMES[1]]),
    Case("timestamp_ms", UnixTimestamp, pa.timestamp("ms", tz="Europe/Prague"), [TIMES[0], None]),
    Case("bytes_list", Array(Bytes), pa.list_(pa.binary()), [[b"a", b""], [], None, [b"\xff"]]),
    Case(
        "string_list", Array(String), pa.list_(pa.string()), [["a", "ž", ""], [], None, ["x", None]]
    ),
    Case("int32_list", Array(Int32), pa.list_(pa.int32()), [[1, -2, 2**31 - 1], [], None]),
    Case(
        "int64_list", Array(Int64), pa.list_(pa.int64()), [[1, -2, 2**63 - 1, 2**53 + 1], [], None]
    ),
    Case("int64_large_list", Array(Int64), pa.large_list(pa.int64()), [[1, -2], [], None]),
    Case(
        "float32_list",
        Array(Float32),
        pa.list_(pa.float32()),
        [[0.5, NAN, INF, MINUS_NAN], [], None, [1.0, None]],
    ),
    Case(
        "float64_list",
        Array(Float64),
        pa.list_(pa.float64()),
        [[0.1, NAN, MINUS_NAN], [], None, [1.0, None]],
    ),
    Case(
        "float32_fixed_list",
        Array(Float32),
        pa.list_(pa.float32(), 3),
        [[0.5, 1.0, 2.0], [3.0, 4.0, 5.0]],
    ),
    Case("bool_list", Array(Bool), pa.list_(pa.bool_()), [[True, False], [], None, [True, None]]),
    Case(
        "timestamp_list",
        Array(UnixTimestamp),
        pa.list_(pa.timestamp("us", tz="UTC")),
        [[TIMES[0], _time("2024-01-01T00:00:00")], [], None],
    ),
    Case("bytes_set", Set(Bytes), pa.list_(pa.binary()), [[b"a", b"b"], [], None]),
    Case("string_set", Set(String), pa.list_(pa.string()), [["a", "b", "a"], [], None]),
    Case("int32_set", Set(Int32), pa.list_(pa.int32()), [[3, 1, 2, 1], [], None]),
    Case("int64_set", Set(Int64), pa.list_(pa.int64()), [[3, 2**40, 2], [], None]),
    Case("float32_set", Set(Float32), pa.list_(pa.float32()), [[0.5, 1.5, 0.5], [], None]),
    Case("float64_set", Set(Float64), pa.list_(pa.float64()), [[0.5, 0.1], [], None]),
    Case("bool_set", Set(Bool), pa.list_(pa.bool_()), [[True, False, True], [], None]),
    Case(
        "timestamp_set",
        Set(UnixTimestamp),
        pa.list_(pa.timestamp("us", tz="UTC")),
        [[TIMES[0], _time("2024-01-01T00:00:00")], [], None],
    ),
    Case("json", Json, pa.string(), ['{"a": [1, 2.5, null]}', "[]", '"x"', "3", None]),
    Case("json_list", Array(Json), pa.list_(pa.string()), [['{"a": 1}', "2"], [], None]),
    Case(
        "map_of_json",
        MapType,
        pa.string(),
        ['{"a": 1, "b": "x", "c": [1, 2], "d": {"e": 2.5}}', "{}", None],
    ),
    Case("map_list_of_json", Array(MapType), pa.string(), ['[{"a": 1}, {"b": true}]', "[]", None]),
    Case(
        "struct",
        Struct({"lat": Float64, "name": String}),
        POINT,
        [{"lat": 0.5, "name": "ž"}, None, {"lat": None, "name": None}],
    ),
    Case("struct_of_json", Struct({"lat": Float64}), pa.string(), ['{"lat": 1.5}', None]),
    Case(
        "struct_list",
        Array(Struct({"lat": Float64, "name": String})),
        pa.list_(POINT),
        [[{"lat": 0.5, "name": "a"}], [], None],
    ),
    Case("uuid", Uuid, pa.string(), [U1, U2, None]),
    Case("time_uuid", TimeUuid, pa.string(), [T1, None]),
    Case("uuid_list", Array(Uuid), pa.list_(pa.string()), [[U1, U2], [], None]),
    Case("time_uuid_list", Array(TimeUuid), pa.list_(pa.string()), [[T1], [], None]),
    Case("uuid_set", Set(Uuid), pa.list_(pa.string()), [[U1, U2, U1], [], None]),
    Case("time_uuid_set", Set(TimeUuid), pa.list_(pa.string()), [[T1], [], None]),
    Case(
        "decimal",
        Decimal,
        pa.decimal128(20, 5),
        [decimal.Decimal("1.50000"), decimal.Decimal("-99999.12345"), None],
    ),
    Case("decimal_of_string", Decimal, pa.string(), ["1.5", "-1E+10", None]),
    Case(
        "decimal_list",
        Array(Decimal),
        pa.list_(pa.decimal128(10, 2)),
        [[decimal.Decimal("1.50")], [], None],
    ),
    Case(
        "decimal_set",
        Set(Decimal),
        pa.list_(pa.decimal128(10, 2)),
        [[decimal.Decimal("1.50"), decimal.Decimal("2.00")], [], None],
    ),
    Case(
        "list_of_lists",
        Array(Array(Int64)),
        pa.list_(pa.list_(pa.int64())),
        [[[1, 2], [3]], [], None],
    ),
    Case(
        "list_of_string_lists",
        Array(Array(String)),
        pa.list_(pa.list_(pa.string())),
        [[["a"], ["b", ""]], None],
    ),
    Case(
        "set_of_lists", Set(Array(Int64)), pa.list_(pa.list_(pa.int64())), [[[1, 2], [3]], [], None]
    ),
    Case(
        "list_of_sets", Array(Set(Int64)), pa.list_(pa.list_(pa.int64())), [[[1, 2], [3]], [], None]
    ),
]

# Stock Feast fails on these columns, or stores something else than what is there.
MENDED: list[Case] = [
    Case("exact_int64", Int64, pa.int64(), [2**53 + 1, None, 2**63 - 1, -(2**63)]),
    Case("float64_of_float", Float64, pa.float32(), [0.5, -1.25, None]),
    Case("map", MapType, pa.map_(pa.string(), pa.string()), [[("b", "x"), ("a", "ž")], [], None]),
    Case(
        "scalar_map",
        ScalarMapType,
        pa.map_(pa.int64(), pa.string()),
        [[(2, "x"), (1, "y")], [], None],
    ),
    Case(
        "zoned_timestamp",
        ZonedTimestampType,
        pa.timestamp("us", tz="UTC"),
        [TIMES[0], TIMES[1], None],
    ),
    Case(
        "floored_times",
        Array(UnixTimestamp),
        pa.list_(pa.timestamp("us", tz="UTC")),
        [[TIMES[2]], [TIMES[1]], [], None],
    ),
    Case("timestamp_of_double", UnixTimestamp, pa.float64(), [0.0, 1.75, -1.5, None]),
]


def mended_values(name: str) -> list[Value]:
    """What feastrs stores for the column of that name in `MENDED`, row by row."""
    none = Value()
    return {
        "exact_int64": [
            Value(int64_val=2**53 + 1),
            none,
            Value(int64_val=2**63 - 1),
            Value(int64_val=-(2**63)),
        ],
        "float64_of_float": [Value(double_val=0.5), Value(double_val=-1.25), none],
        "map": [
            Value(map_val=Map(val={"a": Value(string_val="ž"), "b": Value(string_val="x")})),
            Value(map_val=Map()),
            none,
        ],
        "scalar_map": [
            Value(scalar_map_val=ScalarMap(val=[_entry(2, "x"), _entry(1, "y")])),
            Value(scalar_map_val=ScalarMap()),
            none,
        ],
        "zoned_timestamp": [_zoned(0, "UTC"), _zoned(1709251199, "UTC"), none],
        "floored_times": [
            Value(unix_timestamp_list_val=Int64List(val=[-2])),
            Value(unix_timestamp_list_val=Int64List(val=[1709251199])),
            Value(unix_timestamp_list_val=Int64List()),
            none,
        ],
        "timestamp_of_double": [
            Value(unix_timestamp_val=0),
            Value(unix_timestamp_val=1),
            Value(unix_timestamp_val=-2),
            Value(unix_timestamp_val=-(2**63)),
        ],
    }[name]


def _entry(key: int, text: str) -> ScalarMapEntry:
    return ScalarMapEntry(key=MapKey(int64_key=key), value=Value(string_val=text))


def _zoned(seconds: int, zone: str) -> Value:
    return Value(zoned_timestamp_val=ZonedTimestamp(unix_timestamp=seconds, zone=zone))


def _keyed(**key: Any) -> Value:
    entry = ScalarMapEntry(key=MapKey(**key), value=Value(double_val=0.5))
    return Value(scalar_map_val=ScalarMap(val=[entry]))


# Types and forms that reach a store only as ready-made protobuf values: (dtype, values).
PROTO_ONLY: dict[str, tuple[FeastType, list[Value]]] = {
    "zoned_timestamp": (
        ZonedTimestampType,
        [
            _zoned(0, "UTC"),
            _zoned(1709251199, "Europe/Prague"),
            _zoned(-5, ""),
            _zoned(7, "UTC-07:00"),
        ],
    ),
    "scalar_map": (
        ScalarMapType,
        [
            _keyed(int32_key=-1),
            _keyed(int64_key=2**63 - 1),
            _keyed(float_key=0.5),
            _keyed(double_key=0.1),
            _keyed(bool_key=True),
            _keyed(unix_timestamp_key=1709251199),
            _keyed(bytes_key=b"\x00\xff"),
            _keyed(uuid_key=U1),
            _keyed(time_uuid_key=T1),
            _keyed(decimal_key="1.50"),
            Value(scalar_map_val=ScalarMap()),
        ],
    ),
    "map": (
        MapType,
        [
            Value(map_val=Map(val={"a": Value(int64_list_val=Int64List(val=[1])), "b": Value()})),
            Value(map_val=Map(val={"m": Value(map_val=Map(val={"x": Value(bytes_val=b"\xff")}))})),
        ],
    ),
    "map_list": (
        Array(MapType),
        [Value(map_list_val=MapList(val=[Map(val={"a": Value(float_val=0.5)}), Map()]))],
    ),
    "nested": (
        Array(Array(Int64)),
        [
            Value(list_val=RepeatedValue(val=[Value(int64_list_val=Int64List(val=[1])), Value()])),
            Value(list_val=RepeatedValue()),
        ],
    ),
    "uuid_stored_as_string": (Uuid, [Value(string_val=U1), Value(uuid_val=U2), Value()]),
    "uuid_list_stored_as_strings": (
        Array(Uuid),
        [Value(string_list_val=StringList(val=[U1])), Value(uuid_list_val=StringList(val=[U2]))],
    ),
    "uuid_set_stored_as_strings": (Set(Uuid), [Value(string_set_val=StringSet(val=[U1]))]),
    # A feature whose declared type was changed: the old values come back as they are.
    "int64_stored_as_int32": (Int64, [Value(int32_val=-7), Value(int64_val=8), Value()]),
    "string_stored_as_bytes": (String, [Value(bytes_val=b"\xff"), Value(string_val="x")]),
    "float32_stored_as_double": (Float32, [Value(double_val=0.1), Value(float_val=0.1)]),
    "bytes_stored_as_list": (
        Bytes,
        [Value(bytes_list_val=BytesList(val=[b"a"])), Value(bytes_val=b"b")],
    ),
}
