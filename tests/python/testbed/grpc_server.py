"""gRPC servers: stock Feast's, in this process, and what the clients of both are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from feast.infra.contrib.grpc_server import GrpcFeatureServer
from feast.protos.feast.serving.GrpcServer_pb2_grpc import (
    GrpcFeatureServerStub,
    add_GrpcFeatureServerServicer_to_server,
)
from feast.protos.feast.serving.ServingService_pb2 import (
    FeatureList,
    GetOnlineFeaturesRequest,
    GetOnlineFeaturesResponse,
)
from feast.protos.feast.serving.ServingService_pb2_grpc import ServingServiceStub
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value

from testbed.repo import Repo

PATIENCE = 30


class Client:
    """Feast's own stubs on one channel."""

    def __init__(self, address: str, credentials: Any = None, options: Any = ()) -> None:
        self.channel = (
            grpc.secure_channel(address, credentials, options)
            if credentials
            else grpc.insecure_channel(address, options)
        )
        self.python = GrpcFeatureServerStub(self.channel)
        self.serving = ServingServiceStub(self.channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, path: str, data: bytes, **options: Any) -> bytes:
        """What a method answers to these bytes."""
        answer: bytes = self.channel.unary_unary(path)(data, timeout=PATIENCE, **options)
        return answer


def code_of(call: Any, *arguments: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    """How a call ends, and what it says of that."""
    try:
        call(*arguments, **{"timeout": PATIENCE, **options})
    except grpc.RpcError as raised:
        error: Any = raised
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


@contextmanager
def stock_grpc_server(repo: Repo) -> Iterator[Client]:
    """Stock Feast's server as `feast listen` puts it together, with a client of it."""
    servicer = GrpcFeatureServer(repo.stock(), registry_ttl_sec=3600)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    add_GrpcFeatureServerServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Client(f"127.0.0.1:{port}") as client:
            yield client
    finally:
        # Or its thread keeps the process for an hour.
        assert servicer._active_timer is not None
        servicer._active_timer.cancel()
        server.stop(None).wait()


def request(
    entities: Mapping[str, Sequence[Value]],
    features: Sequence[str] | None = None,
    service: str | None = None,
    **fields: Any,
) -> GetOnlineFeaturesRequest:
    """A request for features."""
    if features is not None:
        fields["features"] = FeatureList(val=features)
    if service is not None:
        fields["feature_service"] = service
    columns = {name: RepeatedValue(val=values) for name, values in entities.items()}
    return GetOnlineFeaturesRequest(entities=columns, **fields)


def integers(*numbers: int) -> list[Value]:
    """INT64 values."""
    return [Value(int64_val=number) for number in numbers]


def texts(*texts: str) -> list[Value]:
    """STRING values."""
    return [Value(string_val=text) for text in texts]


def columns(response: GetOnlineFeaturesResponse) -> dict[str, Any]:
    """The columns of an answer by name."""
    names = response.metadata.feature_names.val
    assert len(names) == len(response.results)
    return dict(zip(names, response.results, strict=True))
