"""The feature servers, Feast's and ours, under the same load, and ours beside a server that
only says hello."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc_serving
from measure import Bound, Job, Rounds, say
from reads import Question, wide

from testbed.redis_server import free_port

if TYPE_CHECKING:
    from testbed.repo import Repo

HERE = Path(__file__).resolve().parent
PATH = "/get-online-features"
CONNECTIONS = 64
TICKS = os.sysconf("SC_CLK_TCK")
READY_WITHIN = 120.0


@dataclass
class Load:
    """What one run of wrk found."""

    rate: float
    cpu: float
    """CPU seconds of the server for one request."""


class HttpServer:
    """A server in a process of its own, with its children."""

    def __init__(self, command: list[str], port: int, log: Path, ca: Path | None = None) -> None:
        self.port = port
        self._tls = ssl.create_default_context(cafile=ca) if ca else None
        started = time.perf_counter()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"FEAST_USAGE": "False"},
            )
        self.log = log
        self._started = started

    @property
    def url(self) -> str:
        """Where features are asked for."""
        scheme = "https" if self._tls else "http"
        return f"{scheme}://localhost:{self.port}{PATH}"

    def first_answer(self, body: bytes) -> float:
        """Seconds from the start to the first good answer."""
        while not self._answers(body):
            waited = time.perf_counter() - self._started
            if self.process.poll() is not None or waited > READY_WITHIN:
                raise RuntimeError(self.log.read_text()[-2000:])
            time.sleep(0.002)
        return time.perf_counter() - self._started

    def _answers(self, body: bytes) -> bool:
        with contextlib.suppress(OSError):
            self.ask(body)
            return True
        return False

    def ask(self, body: bytes) -> Any:
        request = urllib.request.Request(
            self.url,
            data=body,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30, context=self._tls) as response:
            return json.load(response)

    def _processes(self) -> list[Path]:
        """Those of the server's session."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rsplit(")", 1)[1].split()
                if int(fields[3]) == self.process.pid:
                    found.append(stat.parent)
        return found

    def cpu(self) -> float:
        """CPU seconds so far."""
        total = 0
        for process in self._processes():
            with contextlib.suppress(OSError):
                fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
                total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def memory(self) -> float:
        """MB of memory, what processes share counted once."""
        total = 0
        for process in self._processes():
            with contextlib.suppress(OSError):
                rollup = (process / "smaps_rollup").read_text()
                total += int(re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE).group(1))  # type: ignore[union-attr]
        return total / 1024

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Serving:
    """Both servers over the filled store of the reads."""

    def __init__(self, folder: Path, repo: Repo, rounds: Rounds) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.repo, self.rounds = folder, repo, rounds
        # Feast answers 64 connections that ask for 100 x 50 once in three seconds.
        self.seconds = max(4.0, rounds.seconds_per_round * 12)
        self.jobs: list[Job] = []
        self.bounds: list[Bound] = []
        self.notes: list[str] = []
        self.wrk = shutil.which("wrk")

    def run(self) -> None:
        if self.wrk is None:
            say("no wrk on this machine (Debian's package `wrk`): servers are not measured")
            return
        self.http_load, self.hello = built("http_load"), built("hello_http")
        with self._feast(1) as stock, self._ours() as ours:
            self.sizes(stock, ours)
            self.throughput(stock, ours, wide(1, 10), 20, "one worker")
            self.throughput(stock, ours, wide(100, 50), 30, "one worker")
        with self._feast(2) as stock, self._ours() as ours:
            self.throughput(stock, ours, wide(1, 10), 15, "two workers")
        with self._ours() as ours:
            self.latencies(ours)
            self.beside_hello(ours)
            self.at_a_rate(ours)
        self.calls()

    # -- both -----------------------------------------------------------------------------------

    def sizes(self, stock: HttpServer, ours: HttpServer) -> None:
        """From the start to the first answer. The servers were started one after the other, so
        each had the machine to itself."""
        times = self.first_answers
        self.jobs.append(
            Job("server: start to first answer", [times[0]], [times[1]], "s", True, target=20)
        )
        self._load(stock, wide(100, 50))
        self._load(ours, wide(100, 50))
        memory = [stock.memory()], [ours.memory()]
        self.jobs.append(Job("server: memory after load", *memory, "MB", True, target=5))

    def throughput(
        self, stock: HttpServer, ours: HttpServer, question: Question, target: float, of: str
    ) -> None:
        title = f"server: requests a second, {question.title}, {CONNECTIONS} connections, {of}"
        say(title)
        correct = _same(stock.ask(body_of(question)), ours.ask(body_of(question)))
        rates: list[list[float]] = [[], []]
        for _ in range(max(3, self.rounds.read_rounds // 2)):
            for server, found in zip((stock, ours), rates, strict=True):
                found.append(self._load(server, question).rate)
        self.jobs.append(Job(title, *rates, "/s", correct, target=target, more_is_better=True))

    def calls(self) -> None:
        """gRPC, beside `feast listen`."""
        servers = []
        try:
            for name in ("feast", "feastrs"):
                port, program = free_port(), str(Path(sys.executable).parent / name)
                command = grpc_serving.command(program, self.repo.folder, port)
                servers.append(HttpServer(command, port, self.folder / f"{name}-listen.log"))
            rounds = max(3, self.rounds.read_rounds // 2)
            self.jobs += grpc_serving.jobs(wide(1, 50), *servers, self.seconds, rounds)
        finally:
            for server in servers:
                server.close()

    # -- ours -----------------------------------------------------------------------------------

    def latencies(self, ours: HttpServer) -> None:
        """At half of full load, open loop; and with one client beside that asks for much."""
        small, big = wide(1, 10), wide(1000, 50)
        say("server: latencies at half of full load")
        full = statistics.median([self._load(ours, small).rate for _ in range(3)])
        alone, beside = [], []
        for _ in range(max(3, self.rounds.read_rounds // 2)):
            alone.append(self._open_loop(ours, small, full / 2)["p99"] * 1e3)
            with self._hammer(ours, big):
                beside.append(self._open_loop(ours, small, full / 2)["p99"] * 1e3)
        rate = f"{full / 2:,.0f} requests a second"
        self.bounds.append(
            Bound(f"server: p99 at {rate}, 1 x 10 (limit: allowance)", [8.0], alone, "ms", 1.0)
        )
        title = "server: p99 of 1 x 10 beside a client that asks for 1000 x 50 (limit: alone)"
        self.bounds.append(Bound(title, alone, beside, "ms", 2.0))

    def beside_hello(self, ours: HttpServer) -> None:
        """The same answer, ready-made, from the same HTTP library."""
        question = wide(1, 10)
        say("server: beside one that says hello")
        with self._hello(ours, question) as hello:
            rates: list[list[float]] = [[], []]
            cpu: list[list[float]] = [[], []]
            for _ in range(max(3, self.rounds.read_rounds // 2)):
                for index, server in enumerate((hello, ours)):
                    load = self._load(server, question)
                    rates[index].append(1e6 / load.rate)
                    cpu[index].append(load.cpu * 1e6)
        where = f"1 x 10, {CONNECTIONS} connections (limit: a server that says hello)"
        self.bounds.append(Bound(f"server: wall time for a request, {where}", *rates, "us", 2.0))
        self.bounds.append(Bound(f"server: CPU for a request, {where}", *cpu, "us", 3.0))

    def at_a_rate(self, ours: HttpServer) -> None:
        """What 10,000 requests a second cost."""
        say("server: CPU at 10,000 requests a second")
        question, rate = wide(1, 50), 10_000.0
        cpu = []
        for _ in range(3):
            before, started = ours.cpu(), time.perf_counter()
            self._open_loop(ours, question, rate)
            cpu.append((ours.cpu() - before) / (time.perf_counter() - started))
        title = "server: cores used at 10,000 requests a second, 1 x 50 (limit: allowance)"
        self.bounds.append(Bound(title, [1.0], cpu, "cores", 1.0))

    # -- loads ----------------------------------------------------------------------------------

    def _load(self, server: HttpServer, question: Question) -> Load:
        script = self.folder / f"{question.title}.lua"
        body = body_of(question).decode().replace("\\", "\\\\").replace("'", "\\'")
        script.write_text(
            f"wrk.method = 'POST'\nwrk.body = '{body}'\n"
            "wrk.headers['Content-Type'] = 'application/json'\n"
        )
        wrk = [
            self.wrk or "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{self.seconds:.0f}s",
            "--timeout=30s",
        ]
        before = server.cpu()
        done = subprocess.run(
            [*wrk, "-s", str(script), server.url], capture_output=True, text=True, check=True
        )
        cpu = server.cpu() - before
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: .*", done.stdout)
        if bad:
            raise RuntimeError(f"{bad.group(0)}\n{server.log.read_text()[-2000:]}")
        requests = int(re.search(r"(\d+) requests in", done.stdout).group(1))  # type: ignore[union-attr]
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1))  # type: ignore[union-attr]
        return Load(rate, cpu / requests)

    def _open_loop(self, server: HttpServer, question: Question, rate: float) -> dict[str, Any]:
        arguments = [server.url, str(CONNECTIONS), str(rate), str(self.seconds)]
        done = subprocess.run(
            [str(self.http_load), *arguments],
            input=body_of(question),
            capture_output=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        if found["statuses"].keys() != {"200"} or found["wrong"] or found["lost"]:
            raise RuntimeError(f"requests failed: {found['statuses']}, {found['lost']} lost")
        return found

    @contextlib.contextmanager
    def _hammer(self, server: HttpServer, question: Question) -> Iterator[None]:
        """One client asks again and again."""
        seconds = str(self.seconds + 2)
        process = subprocess.Popen(
            [str(self.http_load), server.url, "1", "0", seconds],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        process.stdin.write(body_of(question))
        process.stdin.close()
        try:
            yield
        finally:
            process.kill()
            process.wait()

    # -- servers --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _feast(self, workers: int) -> Iterator[HttpServer]:
        # Feast's workers would end and begin anew after a thousand requests.
        endless = ["--max-requests", "0", "--max-requests-jitter", "0"]
        options = ["--workers", str(workers), "--no-access-log", *endless]
        with self._server("feast", "feast", options) as server:
            yield server

    @contextlib.contextmanager
    def _ours(self) -> Iterator[HttpServer]:
        with self._server("feastrs", "feastrs", ["--no-access-log"]) as server:
            yield server

    first_answers: tuple[float, float] = (0.0, 0.0)

    @contextlib.contextmanager
    def _server(self, name: str, module: str, options: list[str]) -> Iterator[HttpServer]:
        port = free_port()
        command = str(Path(sys.executable).parent / module)
        serve = ["-c", str(self.repo.folder), "serve", "-h", "127.0.0.1", "-p", str(port)]
        server = HttpServer([command, *serve, *options], port, self.folder / f"{name}.log")
        try:
            seconds = server.first_answer(body_of(wide(1, 10)))
            stock, ours = self.first_answers
            self.first_answers = (stock, seconds) if name == "feastrs" else (seconds, ours)
            yield server
        finally:
            server.close()

    @contextlib.contextmanager
    def _hello(self, ours: HttpServer, question: Question) -> Iterator[HttpServer]:
        answer = self.folder / "answer.json"
        request = urllib.request.Request(
            ours.url,
            data=body_of(question),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:
            answer.write_bytes(response.read())
        port = free_port()
        command = [str(self.hello), str(port), str(answer)]
        server = HttpServer(command, port, self.folder / "hello.log")
        try:
            server.first_answer(body_of(question))
            yield server
        finally:
            server.close()


def built(name: str) -> Path:
    """A program of `benches/`, built."""
    build = ["cargo", "bench", "--locked", "--no-run", "--bench", name, "--message-format=json"]
    done = subprocess.run(build, cwd=HERE.parent, capture_output=True, check=True)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == name and message.get("executable"):
            return Path(message["executable"])
    raise RuntimeError(f"cargo built no {name}")


def body_of(question: Question) -> bytes:
    keys = [row[question.join_key] for row in question.entity_rows]
    entities = {question.join_key: keys}
    return json.dumps({"features": list(question.features), "entities": entities}).encode()


def _same(theirs: Any, ours: Any) -> bool:
    """The same columns with the same content, in whatever order they come."""
    return _columns(theirs) == _columns(ours)


def _columns(answer: Any) -> dict[str, Any]:
    names = answer["metadata"]["feature_names"]
    return dict(zip(names, answer["results"], strict=True))
