"""Writes what the server's reflection describes: the messages and services of Feast and of gRPC.

Names, numbers and types are taken from the modules that Feast, grpcio-health-checking and
grpcio-reflection install; options of other languages' compilers are left out. Run it with the
test environment's Python after a new Feast is pinned:

    .venv/bin/python tests/golden/make_descriptors.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import feast
from feast.protos.feast.serving import GrpcServer_pb2, ServingService_pb2
from feast.protos.feast.types import Value_pb2
from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

FEAST_VERSION = "0.67.0"
WRITTEN = Path(__file__).parents[2] / "src/server/grpc/descriptors.binpb"


def descriptors() -> bytes:
    """A serialized `google.protobuf.FileDescriptorSet`."""
    modules: list[Any] = [
        timestamp_pb2,
        Value_pb2,
        ServingService_pb2,
        GrpcServer_pb2,
        health_pb2,
        reflection_pb2,
    ]
    files = [FileDescriptorProto.FromString(one.DESCRIPTOR.serialized_pb) for one in modules]
    files.append(_version_1(files[-1]))
    for file in files:
        file.ClearField("options")
    return FileDescriptorSet(file=files).SerializeToString(deterministic=True)


def _version_1(alpha: FileDescriptorProto) -> FileDescriptorProto:
    """The same service in its later version, which differs in its package."""
    file = FileDescriptorProto()
    file.CopyFrom(alpha)
    file.name = file.name.replace("v1alpha", "v1")
    file.package = file.package.replace("v1alpha", "v1")
    for message in file.message_type:
        for field in message.field:
            field.type_name = field.type_name.replace("v1alpha", "v1")
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace("v1alpha", "v1")
            method.output_type = method.output_type.replace("v1alpha", "v1")
    return file


if __name__ == "__main__":
    assert feast.__version__ == FEAST_VERSION, feast.__version__
    WRITTEN.write_bytes(descriptors())
