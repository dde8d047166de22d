"""`bare_client.rs` from Python: the limit that reads and writes are held against."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.repo import Repo


class BareClient:
    """`bare_client.rs`, built."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.binary = folder / "bare_client"
        if not self.binary.exists():
            source = Path(__file__).parent / "bare_client.rs"
            rustc = ["rustc", "-O", "--edition", "2024", str(source), "-o", str(self.binary)]
            subprocess.run(rustc, check=True)

    def measure(self, commands: bytes, replies: int, seconds: float) -> tuple[float, float]:
        """Median wall time and mean CPU time of a round, seconds."""
        done = subprocess.run(
            [str(self.binary), str(self.port), str(replies), str(seconds)],
            input=commands,
            capture_output=True,
            check=True,
        )
        found = json.loads(done.stdout)
        return found["wall"], found["cpu"]

    def write(self, chunks: Iterable[tuple[bytes, int]]) -> float:
        """Wall time of sending every chunk (commands, and how many), seconds."""
        framed = b"".join(
            struct.pack("<II", len(commands), replies) + commands for commands, replies in chunks
        )
        done = subprocess.run(
            [str(self.binary), "write", str(self.port)],
            input=framed,
            capture_output=True,
            check=True,
        )
        wall: float = json.loads(done.stdout)["wall"]
        return wall

    @contextlib.contextmanager
    def replaying(self, repo: Repo, commands: bytes, count: int) -> Iterator[Any]:
        """A store of ours over a server that has the replies to the commands ready."""
        import feastrs

        process = subprocess.Popen(
            [str(self.binary), "serve", str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(_replies(self.port, commands, count))
            process.stdin.close()
            port = int(process.stdout.readline())
            online = {"type": "redis", "connection_string": f"127.0.0.1:{port}"}
            settings = repo.config | {
                "registry": str(repo.registry_path),
                "online_store": online | {"read_command": "hgetall"},
            }
            yield feastrs.FeatureStore(config=settings)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _replies(port: int, commands: bytes, count: int) -> bytes:
    """What the server answers, as it stands on the wire."""
    import hiredis

    reader, received, whole = hiredis.Reader(), [], 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(commands)
        while whole < count:
            received.append(connection.recv(1 << 20))
            reader.feed(received[-1])
            while reader.gets() is not False:
                whole += 1
    return b"".join(received)
