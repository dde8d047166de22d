"""gRPC: the same requests to stock Feast's server and to ours, with Feast's own stubs; and what
tools of gRPC ask of any server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import grpc
import pytest
from feast.protos.feast.serving.GrpcServer_pb2 import PushRequest, WriteToOnlineStoreRequest
from feast.protos.feast.serving.ServingService_pb2 import (
    FieldStatus,
    GetFeastServingInfoRequest,
    GetOnlineFeaturesResponse,
)
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from google.protobuf.timestamp_pb2 import Timestamp

from feastrs.server import Server
from testbed.grpc_server import (
    PATIENCE,
    Client,
    code_of,
    columns,
    integers,
    request,
    stock_grpc_server,
    texts,
)
from testbed.many_types import over_one_store
from testbed.redis_server import RedisServer
from testbed.repo import Repo

REQUESTS = 800
STATS = ["rate", "acc", "trips", "label", "vip", "raw", "seen", "floats", "names", "facts", "n"]
GET = "/feast.serving.ServingService/GetOnlineFeatures"


class Servers:
    """Both servers, over one store."""

    def __init__(self, repo: Repo, stock: Client, ours: Client) -> None:
        self.repo = repo
        self.stock = stock
        self.ours = ours


@pytest.fixture(scope="module")
def servers(
    either_store: RedisServer | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    ours, stock = over_one_store(tmp_path_factory.mktemp("grpc"), either_store)
    with (
        stock_grpc_server(stock) as theirs,
        Server(ours.ours(), port=None, grpc_port=0, no_access_log=True) as server,
        Client(server.grpc_address) as client,
    ):
        yield Servers(ours, theirs, client)


@pytest.fixture
def ours(servers: Servers) -> Client:
    return servers.ours


def refused(code: grpc.StatusCode, call: Any, *arguments: Any, **options: Any) -> str:
    """The message of a call that ends with that code."""
    found, text = code_of(call, *arguments, **options)
    assert found == code, (found, text)
    return text


# -- Reads.


def well_formed(dice: random.Random) -> Any:
    rows = dice.choice([1, 1, 2, 3, 7])
    drivers = integers(*dice.choices([1001, 1002, 1003, 9, -1, 2**62], k=rows))
    users = texts(*dice.choices(["u1", "u2", "", "ü"], k=rows))
    flags: dict[str, Any] = {"full_feature_names": dice.random() < 0.3}
    match dice.randrange(5):
        case 0:
            name = dice.choice(["svc", "renamed"])
            entities = {"driver_id": drivers} | ({"user_id": users} if name == "svc" else {})
            return request(entities, service=name, **flags)
        case 1:
            entities = {"driver_id": drivers, "user_id": users}
            return request(entities, ["by_both:both", "stats:trips"], **flags)
        case 2:
            small = [Value(int32_val=number) for number in dice.choices([1, 2, 3], k=rows)]
            return request({"small_id": small}, ["by_small:x"], **flags)
        case _:
            features = [f"stats:{name}" for name in dice.sample(STATS, dice.randint(1, 6))]
            return request({"driver_id": drivers}, features, **flags)


def test_well_formed_requests_have_equal_answers(servers: Servers) -> None:
    dice = random.Random(67)
    for _ in range(REQUESTS):
        asked = well_formed(dice)
        stock = servers.stock.python.GetOnlineFeatures(asked, timeout=PATIENCE)
        for ours in (servers.ours.python, servers.ours.serving):
            answer = ours.GetOnlineFeatures(asked, timeout=PATIENCE)
            assert columns(answer) == columns(stock), asked
            assert answer.status == stock.status


def test_columns_come_in_the_order_asked(ours: Client) -> None:
    features = ["stats:trips", "stats:acc", "by_user:x"]
    entities = {"driver_id": integers(1001), "user_id": texts("u1")}
    answer = ours.serving.GetOnlineFeatures(request(entities, features), timeout=PATIENCE)
    names = list(answer.metadata.feature_names.val)
    assert set(names[:2]) == {"driver_id", "user_id"}
    assert names[2:] == ["trips", "acc", "x"]


def test_keys_are_taken_as_their_declared_type(servers: Servers) -> None:
    """Feast looks for a key of the type that came, and finds none, or can't take it at all."""
    moment = int(datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc).timestamp())
    for key, value, feature, found in (
        ("driver_id", Value(int32_val=1001), "stats:trips", 1),
        ("driver_id", Value(double_val=1001.0), "stats:trips", 1),
        ("small_id", Value(int64_val=2), "by_small:x", 4),
        ("user_id", Value(uuid_val="u1"), "by_user:x", 7),
        ("raw_id", Value(bytes_val=b"\xff"), "by_raw:x", 6),
        ("moment_id", Value(unix_timestamp_val=moment), "by_moment:x", 5),
        ("moment_id", Value(int64_val=moment), "by_moment:x", 5),
    ):
        asked = request({key: [value]}, [feature])
        answer = servers.ours.serving.GetOnlineFeatures(asked, timeout=PATIENCE)
        assert columns(answer)[feature.split(":")[1]].values[0].int64_val == found, key
    asked = request({"driver_id": [Value(int32_val=1001)]}, ["stats:trips"])
    stock = columns(servers.stock.python.GetOnlineFeatures(asked, timeout=PATIENCE))
    assert stock["trips"].values[0].WhichOneof("val") is None


@pytest.mark.parametrize(
    "value",
    [
        Value(string_val="1001"),
        Value(double_val=1001.5),
        Value(bool_val=True),
        Value(),
        Value(null_val=0),
        Value(bytes_val=b"1"),
    ],
)
def test_keys_that_can_not_be_used_are_the_clients_mistake(ours: Client, value: Value) -> None:
    asked = request({"driver_id": [*integers(1001), value]}, ["stats:trips"])
    text = refused(grpc.StatusCode.INVALID_ARGUMENT, ours.serving.GetOnlineFeatures, asked)
    assert text.startswith("'driver_id', row 1: ")


def test_request_data_comes_with_entities_or_as_context(servers: Servers) -> None:
    given = RepeatedValue(val=integers(10, 20))
    drivers = integers(1001, 1002)
    for asked in (
        request({"driver_id": drivers, "val": given.val}, ["computed:sum"]),
        request({"driver_id": drivers}, ["computed:sum"], request_context={"val": given}),
        request({"driver_id": drivers}, service="computing", request_context={"val": given}),
    ):
        answer = servers.ours.serving.GetOnlineFeatures(asked, timeout=PATIENCE)
        assert [value.int64_val for value in columns(answer)["sum"].values] == [11, 22]
    twice = request({"driver_id": drivers, "val": given.val}, ["computed:sum"])
    twice.request_context["val"].CopyFrom(given)
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert "'val'" in refused(invalid, servers.ours.serving.GetOnlineFeatures, twice)
    asked = request({"driver_id": drivers}, ["computed:sum"])
    assert "'val'" in refused(invalid, servers.ours.serving.GetOnlineFeatures, asked)


def test_versions_are_told_when_asked_for(ours: Client) -> None:
    asked = request(
        {"driver_id": integers(1001)}, ["stats:trips"], include_feature_view_version_metadata=True
    )
    answer = ours.serving.GetOnlineFeatures(asked, timeout=PATIENCE)
    assert [one.name for one in answer.metadata.feature_view_metadata] == ["stats"]
    asked.include_feature_view_version_metadata = False
    answer = ours.serving.GetOnlineFeatures(asked, timeout=PATIENCE)
    assert not answer.metadata.feature_view_metadata


@pytest.mark.parametrize(
    ("asked", "code", "text"),
    [
        (
            request({"driver_id": integers(1)}, service="nope"),
            grpc.StatusCode.NOT_FOUND,
            "Feature service nope does not exist in project demo",
        ),
        (
            request({"driver_id": integers(1)}, ["nope:x"]),
            grpc.StatusCode.NOT_FOUND,
            "Feature view nope does not exist in project demo",
        ),
        (request({"driver_id": integers(1)}, ["stats:nope"]), grpc.StatusCode.NOT_FOUND, "nope"),
        (request({"driver_id": integers(1)}), grpc.StatusCode.INVALID_ARGUMENT, "no features"),
        (
            request({"driver_id": integers(1)}, ["stats:trips", "other:trips"]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "full_feature_names=True",
        ),
        (request({}, ["stats:trips"]), grpc.StatusCode.INVALID_ARGUMENT, "entities"),
        (
            request({"user_id": texts("u1")}, ["stats:trips"]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "driver_id",
        ),
        (
            request({"driver_id": integers(1), "user_id": texts("a", "b")}, ["stats:trips"]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "all entity rows must have the same columns",
        ),
        (request({"driver_id": integers(1)}, ["off:x"]), grpc.StatusCode.INVALID_ARGUMENT, "off"),
    ],
)
def test_mistakes_have_codes(servers: Servers, asked: Any, code: Any, text: str) -> None:
    """In Feast nearly all of them are UNKNOWN."""
    assert text in refused(code, servers.ours.serving.GetOnlineFeatures, asked)


def test_columns_of_different_lengths_are_a_mistake(ours: Client) -> None:
    asked = request({"driver_id": integers(1, 2), "user_id": texts("a")}, ["by_both:both"])
    refused(grpc.StatusCode.INVALID_ARGUMENT, ours.serving.GetOnlineFeatures, asked)


def test_the_server_says_what_it_is(ours: Client) -> None:
    info = ours.serving.GetFeastServingInfo(GetFeastServingInfoRequest(), timeout=PATIENCE)
    assert info.version


def test_what_there_is_not(ours: Client) -> None:
    for path in ("/feast.serving.ServingService/Nope", "/Nope/Push", "/nope"):
        text = refused(grpc.StatusCode.UNIMPLEMENTED, ours.channel.unary_unary(path), b"")
        assert path in text


# -- Broken requests.


def test_broken_messages_are_refused_or_understood(servers: Servers) -> None:
    """Of random bytes there is a code; what was understood by both is the same."""
    dice = random.Random(5)
    codes = set()
    for _ in range(REQUESTS):
        data = bytearray(well_formed(dice).SerializeToString())
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(len(data) + 1)
            match dice.randrange(4):
                case 0:
                    data[place:place] = bytes([dice.randrange(256)])
                case 1:
                    del data[place : place + dice.randint(1, 5)]
                case 2:
                    del data[place:]
                case _:
                    data[place : place + 1] = bytes([dice.randrange(256)])
        try:
            GetOnlineFeaturesResponse.FromString(servers.ours.call(GET, bytes(data)))
            codes.add(grpc.StatusCode.OK)
        except grpc.RpcError as raised:
            error: Any = raised
            codes.add(error.code())
            assert error.details()
    assert codes <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
    }
    assert len(codes) == 4


def test_random_bytes_have_a_code(ours: Client) -> None:
    dice = random.Random(6)
    paths = [
        GET,
        "/GrpcFeatureServer/Push",
        "/GrpcFeatureServer/WriteToOnlineStore",
        "/grpc.health.v1.Health/Check",
    ]
    for _ in range(200):
        data = dice.randbytes(dice.choice([1, 3, 20, 500]))
        try:
            ours.call(dice.choice(paths), data)
        except grpc.RpcError as raised:
            error: Any = raised
            assert error.code() in {
                grpc.StatusCode.INTERNAL,
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.NOT_FOUND,
            }, (data, error)


def test_bytes_that_are_no_request_are_named(ours: Client) -> None:
    text = refused(grpc.StatusCode.INTERNAL, ours.channel.unary_unary(GET), b"\x0a\xff")
    assert "GetOnlineFeaturesRequest" in text


def test_compressed_messages_are_taken(ours: Client) -> None:
    asked = request({"driver_id": integers(*[1001] * 500)}, ["stats:trips"])
    answer = ours.serving.GetOnlineFeatures(
        asked, timeout=PATIENCE, compression=grpc.Compression.Gzip
    )
    assert [value.int64_val for value in columns(answer)["trips"].values] == [1] * 500
    text = refused(
        grpc.StatusCode.UNIMPLEMENTED,
        ours.serving.GetOnlineFeatures,
        asked,
        compression=grpc.Compression.Deflate,
    )
    assert "deflate" in text


# -- Writes.


def written(servers: Servers, driver: int) -> dict[str, Value]:
    """What is stored of a driver."""
    names = ["rate", "acc", "trips", "label", "vip", "raw", "seen", "floats", "names", "n"]
    asked = request({"driver_id": integers(driver)}, [f"stats:{name}" for name in names])
    answer = servers.ours.serving.GetOnlineFeatures(asked, timeout=PATIENCE)
    found = columns(answer)
    return {name: found[name].values[0] for name in names} | {
        "at": found["trips"].event_timestamps[0]
    }


MOMENT = 1_770_000_000
TYPED = {
    "rate": Value(float_val=0.25),
    "acc": Value(double_val=1e-7),
    "trips": Value(int64_val=2**53 + 1),
    "label": Value(string_val='ü"\\'),
    "vip": Value(bool_val=True),
    "raw": Value(bytes_val=b"\x00\xff"),
    "seen": Value(unix_timestamp_val=MOMENT - 1),
    "floats": Value(float_list_val={"val": [0.5, -0.0]}),
    "names": Value(string_list_val={"val": ["a", ""]}),
    "n": Value(int32_val=-5),
}
TIMES = {
    "event_timestamp": Value(unix_timestamp_val=MOMENT),
    "created": Value(unix_timestamp_val=MOMENT),
}


def test_a_typed_row_is_written_as_it_is(servers: Servers) -> None:
    row = {**TYPED, **TIMES, "driver_id": Value(int64_val=5001)}
    asked = WriteToOnlineStoreRequest(
        feature_view_name="stats", typed_features={**row, "facts": Value(null_val=0)}
    )
    assert servers.ours.python.WriteToOnlineStore(asked, timeout=PATIENCE).status is True
    found = written(servers, 5001)
    assert {name: found[name] for name in TYPED} == TYPED
    assert found["at"] == Timestamp(seconds=MOMENT)


def test_a_row_of_text_is_what_its_columns_say(servers: Servers) -> None:
    """Feast can't take text for most types."""
    row = {
        "driver_id": "5002",
        "event_timestamp": "2026-02-02T02:40:00",
        "created": "2026-02-02T02:40:00",
        "rate": "0.25",
        "acc": "1e-7",
        "trips": "9007199254740993",
        "label": "7",
        "vip": "true",
        "raw": "AP8=",
        "seen": str(MOMENT - 1),
        "floats": "[0.5, -0.0]",
        "names": '["a", ""]',
        "facts": "{}",
        "n": "-5",
    }
    asked = WriteToOnlineStoreRequest(feature_view_name="stats", features=row)
    assert servers.ours.python.WriteToOnlineStore(asked, timeout=PATIENCE).status is True
    found = written(servers, 5002)
    assert {name: found[name] for name in TYPED} == TYPED | {"label": Value(string_val="7")}


def test_nothing_to_write_is_written(servers: Servers) -> None:
    asked = WriteToOnlineStoreRequest(feature_view_name="stats")
    assert servers.ours.python.WriteToOnlineStore(asked, timeout=PATIENCE).status is True


@pytest.mark.parametrize(
    ("method", "asked", "code", "text"),
    [
        (
            "WriteToOnlineStore",
            WriteToOnlineStoreRequest(feature_view_name="nope", features={"a": "1"}),
            grpc.StatusCode.NOT_FOUND,
            "nope",
        ),
        (
            "WriteToOnlineStore",
            WriteToOnlineStoreRequest(feature_view_name="stats", features={"driver_id": "1"}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "event_timestamp",
        ),
        (
            "WriteToOnlineStore",
            WriteToOnlineStoreRequest(
                feature_view_name="other",
                typed_features={
                    **TIMES,
                    "driver_id": Value(int64_val=1),
                    "trips": Value(string_val="x"),
                },
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "'trips'",
        ),
        (
            "Push",
            PushRequest(stream_feature_view="nope", features={"a": "1"}, to="online"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "Unable to find push source 'nope'.",
        ),
        (
            "Push",
            PushRequest(stream_feature_view="nope", features={"a": "1"}, to="nowhere"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "nowhere is not a supported push format",
        ),
        (
            "Push",
            PushRequest(features={"a": "1"}, typed_features={"a": Value(int64_val=1)}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "Only one of features or typed_features may be set, not both",
        ),
        (
            "WriteToOnlineStore",
            WriteToOnlineStoreRequest(
                features={"a": "1"}, typed_features={"a": Value(int64_val=1)}
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "Only one of features or typed_features may be set, not both",
        ),
    ],
)
def test_mistakes_of_writes_have_codes(
    servers: Servers, method: str, asked: Any, code: Any, text: str
) -> None:
    assert text in refused(code, getattr(servers.ours.python, method), asked)


def test_both_kinds_of_columns_are_refused_as_in_feast(servers: Servers) -> None:
    asked = PushRequest(features={"a": "1"}, typed_features={"a": Value(int64_val=1)})
    answers = {code_of(client.python.Push, asked) for client in (servers.stock, servers.ours)}
    assert len(answers) == 1


def test_statuses_are_feasts(ours: Client, tmp_path: Path) -> None:
    asked = request({"driver_id": integers(1001, 9)}, ["stats:rate"])
    found = columns(ours.serving.GetOnlineFeatures(asked, timeout=PATIENCE))
    assert found["driver_id"].statuses == [FieldStatus.PRESENT] * 2
    assert found["driver_id"].event_timestamps == [Timestamp()] * 2
