"""The gRPC servers, Feast's and ours, asked by one client on the same processors."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import Job, say

if TYPE_CHECKING:
    from reads import Question
    from serving import HttpServer

IN_FLIGHT = 8
METHOD = "/GrpcFeatureServer/GetOnlineFeatures"


def message_of(question: Question) -> bytes:
    """A serialized request."""
    from testbed.grpc_server import integers, request

    keys = integers(*(row[question.join_key] for row in question.entity_rows))
    message: bytes = request({question.join_key: keys}, question.features).SerializeToString()
    return message


class Caller:
    """A client that neither writes nor reads messages while it is measured."""

    def __init__(self, port: int, message: bytes) -> None:
        import grpc

        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._method = self.channel.unary_unary(METHOD)
        self._message = message

    def ask(self) -> Any:
        """An answer, by column."""
        from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse

        from testbed.grpc_server import columns

        answer = self._method(self._message, timeout=30, wait_for_ready=True)
        return columns(GetOnlineFeaturesResponse.FromString(answer))

    def load(self, seconds: float) -> float:
        """Calls for so long, some of them in flight; how many a second were answered."""
        waiting: deque[Any] = deque()
        answered, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            waiting.append(self._method.future(self._message, timeout=30))
            if len(waiting) == IN_FLIGHT:
                waiting.popleft().result()
                answered += 1
        taken = time.perf_counter() - started
        for one in waiting:
            one.result()
        return answered / taken


def jobs(
    question: Question, stock: HttpServer, ours: HttpServer, seconds: float, rounds: int
) -> list[Job]:
    """Calls a second, and what one costs the server."""
    say(f"server: gRPC, {question.title}")
    message = message_of(question)
    callers = [Caller(server.port, message) for server in (stock, ours)]
    correct = callers[0].ask() == callers[1].ask()
    rates: list[list[float]] = [[], []]
    cpu: list[list[float]] = [[], []]
    for _ in range(rounds):
        for index, (server, caller) in enumerate(zip((stock, ours), callers, strict=True)):
            before, started = server.cpu(), time.perf_counter()
            rate = caller.load(seconds)
            calls = rate * (time.perf_counter() - started)
            rates[index].append(rate)
            cpu[index].append((server.cpu() - before) / calls * 1e6)
    for caller in callers:
        caller.channel.close()
    title = f"server: gRPC, {question.title}, one client with {IN_FLIGHT} calls in flight"
    return [
        Job(f"{title}: calls a second", *rates, "/s", correct, more_is_better=True),
        Job("the same: CPU of the server for a call", *cpu, "us", correct),
    ]


def command(module: str, folder: Path, port: int) -> list[str]:
    """How a server is started."""
    return [module, "-c", str(folder), "listen", "-a", f"127.0.0.1:{port}"]
