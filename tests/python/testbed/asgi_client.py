"""Requests to an ASGI app in this process: Feast's server, or ours mounted as an app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class AsgiClient:
    """Asks an app on an event loop of its own, as asynchronous clients of stores want it.

    The app's lifespan does not begin: what it starts in the background is not asked for.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Asks with these headers and those of each client. A path may have a query."""
        return self._loop.run_until_complete(self._ask(method, path, body, headers))

    def post(
        self,
        path: str,
        body: Any,
        content_type: str = "application/json",
        authorization: str | None = None,
    ) -> Answer:
        """Posts a body: bytes as they are, anything else as JSON. A path may have a query."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": content_type, "authorization": authorization}
        return self.ask("POST", path, data, {name: text for name, text in given.items() if text})

    def get(self, path: str) -> Answer:
        """Gets a path."""
        return self.ask("GET", path, b"", {})

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs what belongs to the app's loop."""
        self._loop.run_until_complete(work)

    def close(self) -> None:
        """Ends what the app left running on the loop, and the loop."""
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        path, _, query = path.partition("?")
        sent_headers = {"host": "testserver", "content-length": str(len(body)), **headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [
                (name.lower().encode(), text.encode()) for name, text in sent_headers.items()
            ],
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
        }
        messages: list[dict[str, Any]] = []
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()  # the client stays
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        try:
            await self._app(scope, receive, send)
        except Exception:
            # Starlette raises what a handler of errors has answered once more.
            if not messages:
                raise
        start = messages[0]
        answered = {name.decode(): value.decode() for name, value in start["headers"]}
        data = b"".join(message.get("body", b"") for message in messages[1:])
        return Answer(start["status"], answered, data)
