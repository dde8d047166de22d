"""gRPC as clients and tools find it: health, reflection, TLS, tokens, limits, and how it stops."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from feast.protos.feast.serving import GrpcServer_pb2, ServingService_pb2
from feast.protos.feast.serving.GrpcServer_pb2 import PushRequest, WriteToOnlineStoreRequest
from feast.protos.feast.types import Value_pb2
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from feastrs.server import Limits, Server, listen
from testbed.certificates import write_certificate
from testbed.demo import NATIVE_VIEWS, NOON
from testbed.grpc_server import PATIENCE, Client, code_of, columns, integers, request
from testbed.http import ask, in_flight, until
from testbed.proxy import Proxy
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo

SERVICES = [
    "feast.serving.ServingService",
    "GrpcFeatureServer",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
]
GET = "/feast.serving.ServingService/GetOnlineFeatures"
READ = request({"driver_id": integers(1001)}, ["driver_stats:label"])
Code = grpc.StatusCode
Health = health_pb2.HealthCheckResponse


@contextlib.contextmanager
def serving(repo: Repo, **options: Any) -> Iterator[tuple[Server, Client]]:
    with (
        Server(repo.ours(), port=None, grpc_port=0, no_access_log=True, **options) as server,
        Client(server.grpc_address) as client,
    ):
        yield server, client


@pytest.fixture(scope="module")
def client(repo: Repo) -> Iterator[Client]:
    with serving(repo) as (_, client):
        yield client


def read(client: Client, **options: Any) -> tuple[Code, str]:
    return code_of(client.serving.GetOnlineFeatures, READ, **options)


# -- Health.


def health(client: Client) -> Any:
    return health_pb2_grpc.HealthStub(client.channel)


def test_every_service_is_healthy(client: Client) -> None:
    for service in ["", *SERVICES]:
        asked = health_pb2.HealthCheckRequest(service=service)
        assert health(client).Check(asked, timeout=PATIENCE).status == Health.SERVING
    asked = health_pb2.HealthCheckRequest(service="nope")
    code, text = code_of(health(client).Check, asked)
    assert (code, "nope" in text) == (Code.NOT_FOUND, True)


def test_a_store_that_is_gone_is_not_serving(demo: Applied, tmp_path: Path) -> None:
    redis = RedisServer("7.0")
    with serving(demo.open(tmp_path, redis)) as (_, client):
        watched = health(client).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert next(watched).status == Health.SERVING
        redis.close()
        assert next(watched).status == Health.NOT_SERVING
        asked = health_pb2.HealthCheckRequest()
        assert health(client).Check(asked, timeout=PATIENCE).status == Health.NOT_SERVING
        watched.cancel()


def test_who_watches_hears_of_the_end(repo: Repo) -> None:
    limits = Limits(drain=0.3)
    with serving(repo, limits=limits) as (server, client):
        watched = health(client).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        unknown = health(client).Watch(health_pb2.HealthCheckRequest(service="x"), timeout=PATIENCE)
        assert next(watched).status == Health.SERVING
        assert next(unknown).status == Health.SERVICE_UNKNOWN
        server.stop()
        assert next(watched).status == Health.NOT_SERVING
        for stream in (watched, unknown):
            with pytest.raises(grpc.RpcError) as raised:
                next(stream)
            error: Any = raised.value
            assert error.code() == Code.UNAVAILABLE
        assert server.wait(PATIENCE)


# -- Reflection.


def test_services_describe_themselves(client: Client) -> None:
    database = ProtoReflectionDescriptorDatabase(client.channel)
    assert set(database.get_services()) == set(SERVICES)
    pool = DescriptorPool(database)
    for module in (ServingService_pb2, GrpcServer_pb2, Value_pb2, health_pb2):
        ours, theirs = FileDescriptorProto(), FileDescriptorProto()
        pool.FindFileByName(module.DESCRIPTOR.name).CopyToProto(ours)
        module.DESCRIPTOR.CopyToProto(theirs)
        theirs.ClearField("options")
        assert ours == theirs
    method = pool.FindMethodByName("GrpcFeatureServer.Push")
    assert method.input_type.full_name == "PushRequest"


def test_both_versions_of_reflection_answer(client: Client) -> None:
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    for version in ("v1", "v1alpha"):
        path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        call = client.channel.stream_stream(
            path,
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        answers = list(call(iter([asked, asked]), timeout=PATIENCE))
        assert len(answers) == 2
        names = [one.name for one in answers[0].list_services_response.service]
        assert names == SERVICES
        assert answers[0].original_request == asked


def test_what_is_not_described(client: Client) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(file_by_filename="nope"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="nope"),
        reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type="nope"),
    ]
    for answer in stub.ServerReflectionInfo(iter(asked), timeout=PATIENCE):
        assert answer.error_response.error_code == Code.NOT_FOUND.value[0]
        assert "nope" in answer.error_response.error_message


# -- TLS.


def trusting(address: str, authority: bytes) -> Client:
    return Client(address, grpc.ssl_channel_credentials(authority))


def test_tls_with_certificates_that_change(repo: Repo, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "first")
    first = certificate.read_bytes()
    with (
        serving(repo, tls_cert_path=certificate, tls_key_path=key) as (server, plain),
        trusting(server.grpc_address, first) as client,
    ):
        assert read(client)[0] == Code.OK
        assert code_of(plain.serving.GetOnlineFeatures, READ, timeout=2)[0] != Code.OK
        write_certificate(tmp_path, "second")

        def is_second() -> bool:
            with trusting(server.grpc_address, certificate.read_bytes()) as other:
                return read(other)[0] == Code.OK

        until(is_second, "the new certificate")
        # Connections that are open stay so.
        assert read(client)[0] == Code.OK


# -- What is not gRPC.


def test_http_1_is_told_that_this_is_not_its_port(repo: Repo) -> None:
    with serving(repo) as (server, _):
        assert ask(f"http://{server.grpc_address}", "/health")[0] == 415


def test_nonsense_on_the_wire_harms_nobody(repo: Repo) -> None:
    with serving(repo) as (server, client):
        host, port = server.grpc_address.split(":")
        for data in (b"\x00" * 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100, b"x"):
            with socket.create_connection((host, int(port)), timeout=PATIENCE) as stream:
                until_closed(stream, data)
        assert read(client)[0] == Code.OK


def until_closed(stream: socket.socket, data: bytes) -> None:
    """Sends `data` and waits for the server to close, which it may do before all is sent."""
    try:
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        while stream.recv(65536):
            pass
    except OSError as error:
        if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
            raise


# -- Limits.


def test_a_message_that_is_too_large(repo: Repo) -> None:
    with serving(repo, limits=Limits(body_bytes=1000)) as (_, client):
        for options in ({}, {"compression": grpc.Compression.Gzip}):
            call = client.channel.unary_unary(GET)
            code, text = code_of(call, b"\x12\x00" * 10_000, **options)
            assert code == Code.RESOURCE_EXHAUSTED
            assert "1000" in text or "1005" in text
        assert read(client)[0] == Code.OK


def test_too_many_rows_and_features(repo: Repo) -> None:
    with serving(repo, limits=Limits(rows=10, features=2)) as (_, client):
        rows = request({"driver_id": integers(*range(11))}, ["driver_stats:label"])
        assert code_of(client.serving.GetOnlineFeatures, rows)[0] == Code.INVALID_ARGUMENT
        names = [f"driver_stats:{name}" for name in ("label", "trips", "conv_rate")]
        features = request({"driver_id": integers(1)}, names)
        assert code_of(client.serving.GetOnlineFeatures, features)[0] == Code.INVALID_ARGUMENT


class Held:
    """A repo on a Redis whose answers can be held back."""

    def __init__(self, demo: Applied, folder: Path, redis: RedisServer) -> None:
        direct = demo.open(folder / "direct", redis)
        direct.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
        self.proxy = Proxy(redis.port)
        self.flows = threading.Event()
        self.flows.set()
        self.asked = threading.Event()
        self.proxy.forge = self._pass
        where = f"127.0.0.1:{self.proxy.port},db={direct.database}"
        store = {"type": "redis", "connection_string": where}
        self.repo = demo.open(folder / "held", online_store=store)
        self.repo.config["online_store"].pop("path", None)
        self.repo.write_config()

    def _pass(self, data: bytes) -> bytes:
        self.asked.set()
        self.flows.wait(PATIENCE)
        return data

    def hold(self) -> None:
        self.asked.clear()
        self.flows.clear()


@pytest.fixture
def held(demo: Applied, tmp_path: Path, redis7: RedisServer) -> Iterator[Held]:
    held = Held(demo, tmp_path, redis7)
    yield held
    held.flows.set()
    held.proxy.close()


def test_a_client_that_waits_no_longer(held: Held) -> None:
    with serving(held.repo) as (_, client):
        assert read(client)[0] == Code.OK
        held.hold()
        assert read(client, timeout=0.2)[0] == Code.DEADLINE_EXCEEDED
        # The server's word, where the client would wait.
        code, _ = code_of(
            client.channel.unary_unary(GET),
            READ.SerializeToString(),
            metadata=[("grpc-timeout", "100m")],
        )
        assert code == Code.DEADLINE_EXCEEDED
        held.flows.set()
        assert read(client)[0] == Code.OK


def test_the_server_waits_no_longer(held: Held) -> None:
    with serving(held.repo, limits=Limits(request_timeout=0.3)) as (_, client):
        assert read(client)[0] == Code.OK
        held.hold()
        code, text = read(client)
        assert code == Code.DEADLINE_EXCEEDED
        assert text
        held.flows.set()


def test_too_many_calls_are_refused_at_once(held: Held) -> None:
    with serving(held.repo, limits=Limits(requests_in_flight=1)) as (_, client):
        assert read(client)[0] == Code.OK
        held.hold()
        waiting = client.serving.GetOnlineFeatures.future(READ, timeout=PATIENCE)
        assert held.asked.wait(PATIENCE)
        code, text = read(client)
        assert (code, "in flight" in text) == (Code.RESOURCE_EXHAUSTED, True)
        # Who asks for health is answered.
        asked = health_pb2.HealthCheckRequest(service="nope")
        assert code_of(health(client).Check, asked)[0] == Code.NOT_FOUND
        held.flows.set()
        assert columns(waiting.result())
        assert read(client)[0] == Code.OK


def test_a_client_that_goes_away_leaves_nothing_behind(held: Held) -> None:
    with serving(held.repo, limits=Limits(requests_in_flight=1)) as (_, client):
        assert read(client)[0] == Code.OK
        held.hold()
        waiting = client.serving.GetOnlineFeatures.future(READ, timeout=PATIENCE)
        assert held.asked.wait(PATIENCE)
        waiting.cancel()
        held.flows.set()
        until(lambda: read(client)[0] == Code.OK, "the place of the call that was cancelled")


def test_calls_of_both_ports_are_counted_in_flight(held: Held) -> None:
    with (
        Server(held.repo.ours(), port=0, grpc_port=0, no_access_log=True) as server,
        Client(server.grpc_address) as client,
    ):
        assert read(client)[0] == Code.OK
        held.hold()
        waiting = client.serving.GetOnlineFeatures.future(READ, timeout=PATIENCE)
        assert held.asked.wait(PATIENCE)

        assert in_flight(server.url) == 1
        held.flows.set()
        waiting.result()
        until(lambda: in_flight(server.url) == 0, "the end of the call")


def test_a_message_that_does_not_come(repo: Repo) -> None:
    with serving(repo, limits=Limits(request_timeout=0.3)) as (_, client):
        never = threading.Event()

        def messages() -> Iterator[bytes]:
            never.wait(PATIENCE)
            yield from ()

        code, _ = code_of(client.channel.stream_unary(GET), messages())
        never.set()
        assert code == Code.DEADLINE_EXCEEDED


def test_a_call_has_one_message(client: Client) -> None:
    call = client.channel.stream_unary(GET)
    message = READ.SerializeToString()
    code, text = code_of(call, iter([message, message]))
    assert (code, text) == (Code.INTERNAL, "there is more than one message")
    code, text = code_of(call, iter(()))
    assert (code, text) == (Code.INTERNAL, "there is no message")
    assert code_of(call, iter([message]))[0] == Code.OK


def test_calls_in_flight_end_before_the_server_does(held: Held) -> None:
    with serving(held.repo, limits=Limits(drain=0)) as (server, client):
        assert read(client)[0] == Code.OK
        held.hold()
        waiting = [
            client.serving.GetOnlineFeatures.future(READ, timeout=PATIENCE) for _ in range(20)
        ]
        assert held.asked.wait(PATIENCE)
        server.stop()
        assert not server.wait(0.2)
        held.flows.set()
        answers = [one.result() for one in waiting]
        assert server.wait(PATIENCE)
    assert all(columns(answer)["label"].values[0].string_val for answer in answers)


# -- Rows.


def pushed(driver: int, age: int, **fields: Any) -> PushRequest:
    moment = int(NOON.timestamp()) + 10**6
    row = {
        "driver_id": Value(int64_val=driver),
        "event_timestamp": Value(unix_timestamp_val=moment),
        "age": Value(int32_val=age),
    }
    fields = {"stream_feature_view": "driver_push", "to": "online", **fields}
    return PushRequest(typed_features=row, **fields)


# -- The command, and both protocols in one process.


@contextlib.contextmanager
def command(repo: Repo, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`feastrs` in a process of its own, and what it says of where it serves."""
    line = [sys.executable, "-m", "feastrs", "-c", str(repo.folder), *options]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = []
        for text in process.stderr:
            said.append(text)
            if "serving project" in text:
                break
        else:
            raise AssertionError(f"it did not start: {said}")
        try:
            yield process, text
        finally:
            process.kill()


def test_feastrs_listen(repo: Repo) -> None:
    options = ["-a", "127.0.0.1:0", "-w", "2", "-r", "1"]
    with command(repo, "listen", *options) as (process, said):
        found = re.search(r"on (\S+) \(gRPC\)", said)
        assert found
        with Client(found[1]) as client:
            assert read(client)[0] == Code.OK
            assert code_of(client.channel.unary_unary("/nope/nope"), b"")[0] == Code.UNIMPLEMENTED
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout]
    assert [(line["path"], line["status"], line["grpc_status"]) for line in lines] == [
        (GET, 200, "OK"),
        ("/nope/nope", 200, "UNIMPLEMENTED"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["listen", "-a", "50051"], "50051"),
        (["listen", "-a", "localhost:99999"], "99999"),
        (["listen", "-a", "127.0.0.1:0", "-k", "x"], "--cert and --key"),
        (["serve", "-p", "0", "--grpc-port", "70000"], "--grpc-port 70000"),
    ],
)
def test_options_that_can_not_be_used(repo: Repo, options: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "feastrs", "-c", str(repo.folder), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr


def test_an_address_that_is_none(repo: Repo) -> None:
    with pytest.raises(ValueError, match="no host and port"):
        listen(repo.ours(), "nowhere")
    with pytest.raises(ValueError, match="needs a port"):
        Server(repo.ours(), port=None)


def test_http_and_grpc_beside_each_other(repo: Repo) -> None:
    with Server(repo.ours(), port=0, grpc_port=0, no_access_log=True) as server:
        with Client(server.grpc_address) as client:
            found = columns(client.serving.GetOnlineFeatures(READ, timeout=PATIENCE))
        body = json.dumps(
            {"entities": {"driver_id": [1001]}, "features": ["driver_stats:label"]}
        ).encode()
        status, text = ask(server.url, "/get-online-features", body)
        assert status == 200
        assert json.loads(text)["results"][1]["values"] == [found["label"].values[0].string_val]
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=PATIENCE) as metrics:
            counted = metrics.read().decode()
        assert 'feast_feature_server_request_total{endpoint="/get-online-features"' in counted
    for address in (server.url.removeprefix("http://"), server.grpc_address):
        host, port = address.split(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))


def test_writes_of_both_methods_arrive(repo: Repo) -> None:
    asked = request({"driver_id": integers(1001)}, ["pushed_stats:age"])
    row = WriteToOnlineStoreRequest(
        feature_view_name="pushed_stats", typed_features=pushed(1001, 78).typed_features
    )
    with serving(repo) as (_, client):
        for age, call, sent in (
            (77, client.python.Push, pushed(1001, 77)),
            (78, client.python.WriteToOnlineStore, row),
            (79, client.python.Push, pushed(1001, 79, allow_registry_cache=True)),
        ):
            assert call(sent, timeout=PATIENCE).status
            answer = client.serving.GetOnlineFeatures(asked, timeout=PATIENCE)
            assert columns(answer)["age"].values[0].int32_val == age
