"""Ten minutes of `feastrs serve` at 80 % of full load, with everything that goes on around it:
the registry is written again every few seconds, Redis restarts twice, the certificate is
replaced, and in the end the server is told to stop while requests are under way.

    python benches/soak.py                # ten minutes; writes benches/RESULTS-soak.md
    python benches/soak.py --minutes 1    # a try; prints, and writes nothing

Needs the programs `openssl` and `cargo`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import redis

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "python"))

from measure import Rounds, say  # noqa: E402
from reads import Reads, wide  # noqa: E402
from serving import CONNECTIONS, HttpServer, body_of, built  # noqa: E402

from testbed.redis_server import RedisServer, free_port  # noqa: E402

SHARE = 0.8
REFRESH_EVERY = 5
REGISTRY_TTL = 2
SETTLED_AFTER = 60


@dataclass
class Events:
    """When things happened, in seconds of the load, and what was seen."""

    started: float
    refreshes: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)

    def now(self) -> float:
        return time.perf_counter() - self.started


class Certificates:
    """An authority, and certificates for `localhost` that it signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.key, self.cert = (folder / name for name in ("ca.pem", "key.pem", "cert.pem"))
        authority = ["-subj", "/CN=soak", "-keyout", "ca.key", "-out", "ca.pem"]
        self._openssl("req", "-x509", *NEW_KEY, *authority)
        self.replace()

    def replace(self) -> None:
        """A new key and certificate take the place of the ones before."""
        (self.folder / "names").write_text("subjectAltName=DNS:localhost")
        subject = ["-subj", "/CN=localhost", "-keyout", "new.key", "-out", "request"]
        self._openssl("req", *NEW_KEY, *subject)
        signer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
        self._openssl(
            "x509", "-req", "-in", "request", *signer, "-extfile", "names", "-out", "new.pem"
        )
        (self.folder / "new.key").rename(self.key)
        (self.folder / "new.pem").rename(self.cert)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Soak:
    """The server, its load, and what goes on around it."""

    def __init__(self, folder: Path, redis: RedisServer, seconds: float) -> None:
        self.folder, self.redis, self.seconds = folder, redis, seconds
        self.reads = Reads(folder / "reads", redis, Rounds())
        (folder / "tls").mkdir()
        self.certificates = Certificates(folder / "tls")
        self.http_load = built("http_load")
        self.body = body_of(wide(1, 10))
        # What happens once, and at which share of the time.
        self._due = [
            (0.3, self._restart_redis),
            (0.45, self._replace_certificate),
            (0.6, self._restart_redis),
        ]

    def run(self) -> dict[str, Any]:
        with self.redis.client() as client:
            client.save()
        port = free_port()
        files = ["--key", str(self.certificates.key), "--cert", str(self.certificates.cert)]
        options = ["-p", str(port), "--registry_ttl_sec", str(REGISTRY_TTL), "--no-access-log"]
        serve = ["-c", str(self.reads.repo.folder), "serve", "-h", "127.0.0.1", *options, *files]
        command = [str(Path(sys.executable).parent / "feastrs"), *serve]
        server = HttpServer(command, port, self.folder / "serve.log", ca=self.certificates.ca)
        try:
            server.first_answer(self.body)
            full = self._load(server, 0.0, 5.0)["rate"]
            rate = full * SHARE
            say(f"full load is {full:,.0f} requests a second; now {rate:,.0f}")
            return self._under_load(server, rate) | {"rate": rate, "full": full}
        finally:
            server.close()

    def _under_load(self, server: HttpServer, rate: float) -> dict[str, Any]:
        found: dict[str, Any] = {}
        # The load goes on past the end of the server.
        load = threading.Thread(
            target=lambda: found.update(self._load(server, rate, self.seconds + 5))
        )
        events = Events(time.perf_counter())
        load.start()
        while events.now() < self.seconds:
            time.sleep(1)
            self._happen(server, events)
        found["stopped_at"] = events.now()
        server.process.terminate()
        found["exit"] = server.process.wait(30)
        load.join()
        return found | {"events": events}

    def _happen(self, server: HttpServer, events: Events) -> None:
        now = events.now()
        events.memory.append((now, server.memory()))
        if now - (events.refreshes[-1] if events.refreshes else 0) >= REFRESH_EVERY:
            events.refreshes.append(now)
            self._rewrite_registry()
        while self._due and now > self._due[0][0] * self.seconds:
            self._due.pop(0)[1](events)

    def _restart_redis(self, events: Events) -> None:
        say("Redis restarts")
        events.restarts.append(events.now())
        # It answers by closing the connection.
        with self.redis.client() as client, contextlib.suppress(redis.exceptions.ConnectionError):
            client.execute_command("DEBUG", "RESTART")

    def _replace_certificate(self, _events: Events) -> None:
        say("the certificate is replaced")
        self.certificates.replace()

    def _rewrite_registry(self) -> None:
        from feast.protos.feast.core.Registry_pb2 import Registry

        path = self.reads.repo.registry_path
        registry = Registry.FromString(path.read_bytes())
        registry.version_id = f"soak-{time.time_ns()}"
        registry.last_updated.GetCurrentTime()
        fresh = path.with_suffix(".new")
        fresh.write_bytes(registry.SerializeToString())
        fresh.rename(path)

    def _load(self, server: HttpServer, rate: float, seconds: float) -> dict[str, Any]:
        arguments = [server.url, str(CONNECTIONS), str(rate), str(seconds)]
        done = subprocess.run(
            [str(self.http_load), *arguments, str(self.certificates.ca)],
            input=self.body,
            capture_output=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def report(found: dict[str, Any], seconds: float) -> str:
    events: Events = found["events"]
    by_second = {int(second): p99 * 1e3 for second, p99 in found["p99_by_second"].items()}
    troubled = {int(at) + late for at in events.restarts for late in range(4)}
    usual = {s: p99 for s, p99 in by_second.items() if s < found["stopped_at"] - 1}
    usual = {second: p99 for second, p99 in usual.items() if second not in troubled}
    # A registry that was written is read within its ttl.
    over = {int(at) + late for at in events.refreshes for late in range(REGISTRY_TTL + 1)}
    during = statistics.median(p99 for second, p99 in usual.items() if second in over)
    between = statistics.median(p99 for second, p99 in usual.items() if second not in over)
    settled = [memory for at, memory in events.memory if at > min(SETTLED_AFTER, seconds / 4)]
    quarter = max(1, len(settled) // 4)
    early, late = settled[:quarter], settled[-quarter:]
    growth = statistics.median(late) / statistics.median(early) - 1
    lines = [
        "# Ten minutes of `feastrs serve`",
        "",
        "Generated by `make soak` (`benches/soak.py`); not to be edited.",
        "",
        f"{datetime.now(timezone.utc):%Y-%m-%d}; {seconds / 60:.0f} minutes of 1 x 10 over TLS,",
        f"{CONNECTIONS} connections, open loop: {found['rate']:,.0f} requests a second, 80 % of",
        f"the {found['full']:,.0f} that server, load and Redis reach together on these cores.",
        "",
        "| what | found |",
        "|---|---|",
        f"| answers by status | {found['statuses']} |",
        f"| 200 with another content than the first | {found['wrong']} |",
        f"| requests whose answer never came | {found['lost']} |",
        f"| registry written again | {len(events.refreshes)} times |",
        f"| Redis restarted | {len(events.restarts)} times |",
        f"| p99, whole run | {found['p99'] * 1e3:.1f} ms |",
        f"| p99 of a second, median, over a refresh | {during:.2f} ms |",
        f"| p99 of a second, median, between | {between:.2f} ms |",
        f"| memory, early and late | {early[0]:.1f} and {late[-1]:.1f} MB ({growth:+.1%}) |",
        f"| exit code after SIGTERM under load | {found['exit']} |",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS-soak.md")
    options = parser.parse_args()
    server = RedisServer("7.0", {"enable-debug-command": "yes"})
    try:
        with tempfile.TemporaryDirectory(prefix="feastrs-soak-") as folder:
            found = Soak(Path(folder), server, options.minutes * 60).run()
    finally:
        server.close()
    text = report(found, options.minutes * 60)
    print(text)
    if options.minutes >= 10:
        options.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
