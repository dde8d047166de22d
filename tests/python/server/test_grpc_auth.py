"""Who may call what over gRPC: tokens and permissions decide as they do over HTTP, in one server
that speaks both. (Stock Feast's gRPC server asks for nothing.)"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import pytest
from feast import Entity, FeatureService, FeatureView, Field, PushSource, ValueType
from feast.permissions.action import AuthzedAction
from feast.permissions.permission import Permission
from feast.permissions.policy import GroupBasedPolicy, RoleBasedPolicy
from feast.protos.feast.serving.GrpcServer_pb2 import PushRequest, WriteToOnlineStoreRequest
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Int64
from grpc_health.v1 import health_pb2, health_pb2_grpc

from feastrs.server import Limits, Server
from testbed.grpc_server import PATIENCE, Client, code_of, columns, integers, request
from testbed.http import ask, until
from testbed.identity_provider import KEYS, IdentityProvider
from testbed.repo import apply, file_source

AT = datetime(2026, 1, 2, tzinfo=timezone.utc)
READER = {"roles": ["reader"]}
WRITER = {"roles": ["reader"], "groups": ["writers"]}
CODES = {
    200: grpc.StatusCode.OK,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
}


def definitions(folder: Path) -> list[Any]:
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    source = file_source(folder / "none.parquet")

    def view(name: str, source: Any) -> FeatureView:
        fields = [Field(name="driver_id", dtype=Int64), Field(name="trips", dtype=Int64)]
        return FeatureView(
            name=name, entities=[driver], ttl=timedelta(0), schema=fields, source=source
        )

    push = PushSource(name="pushed", batch_source=source)
    stats, hidden = view("stats", push), view("hidden", source)
    read, write = [AuthzedAction.READ_ONLINE], [AuthzedAction.WRITE_ONLINE]

    def permission(name: str, kind: Any, pattern: str, actions: Any, policy: Any) -> Permission:
        return Permission(
            name=name, types=[kind], name_patterns=[pattern], actions=actions, policy=policy
        )

    readers = RoleBasedPolicy(roles=["reader"])
    return [
        *(driver, push, stats, hidden),
        FeatureService(name="svc", features=[stats, hidden]),
        permission("reading", FeatureView, "stats", read, readers),
        permission("serving", FeatureService, "svc", read, readers),
        permission("writing", FeatureView, "stats", write, GroupBasedPolicy(["writers"])),
    ]


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()
    yield provider
    provider.stop()


class Door:
    """A server of both protocols, and its audit log."""

    def __init__(self, server: Server, client: Client, log: Path) -> None:
        self.server = server
        self.client = client
        self.log = log

    def http(self, path: str, body: Any, token: str | None) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return ask(self.server.url, path, json.dumps(body).encode(), **headers)[0]

    def grpc(self, call: Any, asked: Any, token: str | None) -> tuple[grpc.StatusCode, str]:
        metadata = [] if token is None else [("authorization", f"Bearer {token}")]
        return code_of(call, asked, metadata=metadata)


@pytest.fixture(scope="module")
def door(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("auth")
    block = {"type": "oidc", "auth_discovery_url": provider.url, "client_id": "feast"}
    log = folder / "audit.log"
    audit = {"enabled": True, "sink": "file", "file_path": str(log)}
    settings = {"auth": block, "feature_server": {"type": "local", "audit_logging": audit}}
    repo = apply(folder / "applied", definitions(folder)).open(folder / "repo", settings=settings)
    rows = pd.DataFrame({"driver_id": [1], "trips": [7], "event_timestamp": [AT]})
    for view in ("stats", "hidden"):
        repo.stock().write_to_online_store(view, df=rows)
    limits = Limits(body_bytes=10_000)
    with (
        Server(repo.ours(), port=0, grpc_port=0, no_access_log=True, limits=limits) as server,
        Client(server.grpc_address) as client,
    ):
        yield Door(server, client, log)


TOKENS: dict[str, Any] = {
    "good": lambda idp: idp.token(**READER),
    "no role": lambda idp: idp.token(),
    "none": lambda idp: None,
    "two words": lambda idp: f"{idp.token(**READER)} x",
    "garbage": lambda idp: "a.b.c",
    "expired": lambda idp: idp.token(exp=int(time.time()) - 3600, **READER),
    "never expires": lambda idp: idp.token(exp=None, **READER),
    "unsigned": lambda idp: idp.unsigned_token(**READER),
    "the public key as secret": lambda idp: idp.token_with_secret(**READER),
    "another key of the same name": lambda idp: idp.token("k2", kid="k1", **READER),
}


@pytest.mark.parametrize("case", TOKENS)
def test_tokens_are_those_of_http(case: str, door: Door, provider: IdentityProvider) -> None:
    token = TOKENS[case](provider)
    body = {"entities": {"driver_id": [1]}, "features": ["stats:trips"]}
    http = door.http("/get-online-features", body, token)
    asked = request({"driver_id": integers(1)}, ["stats:trips"])
    for stub in (door.client.serving, door.client.python):
        code, text = door.grpc(stub.GetOnlineFeatures, asked, token)
        assert code == CODES[http]
        assert code == grpc.StatusCode.OK or text
    if http == 401:
        assert text == "Invalid or expired access token"


def row() -> dict[str, Value]:
    return {
        "driver_id": Value(int64_val=1),
        "trips": Value(int64_val=7),
        "event_timestamp": Value(unix_timestamp_val=int(AT.timestamp())),
    }


def test_permissions_are_those_of_http(door: Door, provider: IdentityProvider) -> None:
    df = {"driver_id": [1], "trips": [7], "event_timestamp": [AT.isoformat()]}
    entities = {"driver_id": [1]}
    keys = {"driver_id": integers(1)}
    get = door.client.serving.GetOnlineFeatures
    push, write = door.client.python.Push, door.client.python.WriteToOnlineStore
    cases: list[tuple[str, Any, Any, Any]] = [
        ("/get-online-features", {"features": ["hidden:trips"]}, get, ["hidden:trips"]),
        ("/get-online-features", {"features": ["nope:trips"]}, get, ["nope:trips"]),
        ("/get-online-features", {"feature_service": "svc"}, get, "svc"),
        ("/push", "online", push, "online"),
        ("/push", "online_and_offline", push, "online_and_offline"),
        ("/write-to-online-store", "stats", write, "stats"),
        ("/write-to-online-store", "hidden", write, "hidden"),
    ]
    seen = set()
    for path, of_http, call, of_grpc in cases:
        asked: Any
        if call is get:
            body = {"entities": entities, "full_feature_names": True, **of_http}
            names = (None, of_grpc) if isinstance(of_grpc, str) else (of_grpc, None)
            asked = request(keys, *names, full_feature_names=True)
        elif call is push:
            body = {"push_source_name": "pushed", "df": df, "to": of_http}
            asked = PushRequest(stream_feature_view="pushed", to=of_grpc, typed_features=row())
        else:
            body = {"feature_view_name": of_http, "df": df}
            asked = WriteToOnlineStoreRequest(feature_view_name=of_grpc, typed_features=row())
        for claims in ({}, READER, WRITER):
            token = provider.token(**claims)
            http = door.http(path, body, token)
            code, text = door.grpc(call, asked, token)
            assert code == CODES[http], (path, of_http, claims, http, text)
            seen.add(http)
    assert seen == {200, 403, 404}


def test_a_token_comes_before_the_message(door: Door, provider: IdentityProvider) -> None:
    call = door.client.channel.unary_unary("/feast.serving.ServingService/GetOnlineFeatures")
    for data in (b"\xff", bytes(20_000)):
        assert door.grpc(call, data, None)[0] == grpc.StatusCode.UNAUTHENTICATED
    token = provider.token(**READER)
    assert door.grpc(call, b"\xff", token)[0] == grpc.StatusCode.INTERNAL
    assert door.grpc(call, bytes(20_000), token)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_audit_log_says_who_asks(door: Door, provider: IdentityProvider) -> None:
    token = provider.token(**WRITER, preferred_username="auditor")
    body = {"entities": {"driver_id": [1]}, "features": ["stats:trips"]}
    assert door.http("/get-online-features", body, token) == 200
    asked = request({"driver_id": integers(1)}, ["stats:trips"])
    assert door.grpc(door.client.serving.GetOnlineFeatures, asked, token)[0] == grpc.StatusCode.OK

    def told() -> list[dict[str, Any]]:
        events = [json.loads(line) for line in door.log.read_text().splitlines()]
        return [event for event in events if event["principal"]["username"] == "auditor"]

    until(lambda: len(told()) == 2, "both events")
    assert {event["source"]["transport"] for event in told()} == {"http", "grpc"}
    assert [event["principal"]["roles"] for event in told()] == [["reader"]] * 2


def test_health_and_reflection_need_no_token(door: Door) -> None:
    stub = health_pb2_grpc.HealthStub(door.client.channel)
    asked = health_pb2.HealthCheckRequest()
    assert door.grpc(stub.Check, asked, None)[0] == grpc.StatusCode.OK


def test_keys_are_rotated_for_both(door: Door, provider: IdentityProvider) -> None:
    asked = request({"driver_id": integers(1)}, ["stats:trips"])
    before = provider.asked[KEYS]
    provider.published = ["k1", "k3"]
    token = provider.token("k3", **READER)
    deadline = time.monotonic() + PATIENCE
    while door.grpc(door.client.serving.GetOnlineFeatures, asked, token)[0] != CODES[200]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert provider.asked[KEYS] > before
    metadata = [("authorization", f"Bearer {token}")]
    answer = door.client.serving.GetOnlineFeatures(asked, timeout=PATIENCE, metadata=metadata)
    assert columns(answer)["trips"].values[0].int64_val == 7
