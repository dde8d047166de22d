"""The feature server as an ASGI app, to be mounted beside a model.

In FastAPI or Starlette::

    app = FastAPI()
    app.mount("/features", feastrs.asgi.get_app(store))

Requests are parsed, read and written out by the Rust core on its own threads; the event loop only
passes bytes on. Limits on connections, TLS and the access log are those of the server that runs
the app.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from feastrs import errors, event_loop
from feastrs.hosting import Host

if TYPE_CHECKING:
    from feastrs.feature_store import FeatureStore

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]

_LOG = logging.getLogger("feastrs.asgi")

# Bytes of one body; more is 413. As in the server.
_MAX_BODY = 32 * 1024 * 1024
_TOO_LARGE = b'"the body is larger than 32 MiB, the limit; ask in parts"'


def get_app(store: FeatureStore) -> App:
    """An ASGI app that answers what ``feast serve`` answers.

    Args:
        store: whose features are served.

    Returns:
        The app, which needs no framework.

    Raises:
        feastrs.errors.FeastrsError: the registry can't be read.

    Example:
        >>> from feastrs.asgi import get_app
        >>> app = get_app(store)
    """
    return App(store)


class App:
    """Feature server as an ASGI 3 app; made by :func:`get_app`.

    Example:
        >>> import asyncio
        >>> from feastrs.asgi import App
        >>> async def ask(app: App) -> int:
        ...     scope = {"type": "http", "method": "GET", "path": "/health", "headers": []}
        ...     sent = []
        ...     async def send(message):
        ...         sent.append(message)
        ...     await app(scope, None, send)
        ...     return sent[0]["status"]
        >>> asyncio.run(ask(App(store)))
        200
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._app = store._native.server_app(Host(store))

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answers one request, or goes along with the life of the server."""
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(receive, send)
        elif kind == "websocket":
            # There are none.
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        method = scope["method"]
        body = b"" if method in ("GET", "HEAD") else await _body(receive)
        if body is None:
            await _send(send, 413, [(b"content-type", b"application/json")], _TOO_LARGE)
            return
        headers = dict(scope["headers"])
        status, answered, content = await event_loop.answer(
            self._app.start,
            method,
            _path(scope),
            scope.get("query_string", b""),
            headers.get(b"content-type", b""),
            headers.get(b"authorization", b""),
            body,
        )
        await _send(send, status, answered, content)

    async def _lifespan(self, receive: _Receive, send: _Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._store.initialize()
                except errors.FeastrsError as error:
                    # Each request will say so; the store may come back.
                    _LOG.warning("the store is not ready: %s", error)
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self._app.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _path(scope: _Message) -> str:
    """The path below where the app is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root) else path


async def _body(receive: _Receive) -> bytes | None:
    """The whole body; None if it is too large."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > _MAX_BODY:
            return None
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _send(
    send: _Send, status: int, headers: list[tuple[bytes, bytes]], content: bytes
) -> None:
    length = (b"content-length", str(len(content)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": content})
