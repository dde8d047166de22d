"""A proxy in front of a real server that may cut, change or swallow what the server answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Cut:
    """These bytes, and then the end of the connection."""

    data: bytes


Forge = Callable[[bytes], "bytes | Cut"]


class Proxy:
    """Passes bytes on in both directions. What the server sends goes through `forge`, which
    returns what the client is to get instead."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.forge: Forge = lambda data: data
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            there = threading.Thread(target=self._pump, args=(client, server, False), daemon=True)
            there.start()
            self._pump(server, client, True)
            there.join()

    def _pump(self, source: socket.socket, sink: socket.socket, forged: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                passed = self.forge(data) if forged else data
                if isinstance(passed, Cut):
                    sink.sendall(passed.data)
                    break
                sink.sendall(passed)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()
