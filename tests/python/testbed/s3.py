"""An S3 endpoint of the tests' own: moto's server, whose requests are kept."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "objects"

# What a client that wants to reach it finds in its environment.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class S3Server:
    """Serves until closed. `requests` is what was asked: method, path and status. `before` is
    called before a request is answered, with its environment of WSGI; a status that it returns
    is the answer.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, int]] = []
        self.before: Callable[[dict[str, Any]], str | None] = lambda _: None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self._server.port}"

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.may_answer.wait()

        def started(status: str, *rest: Any) -> Any:
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            self.requests.append((method, path, int(status.split()[0])))
            return start(status, *rest)

        refused = self.before(environ)
        if refused is not None:
            started(refused, [("Content-Length", "0")])
            return []
        return self._app(environ, started)  # type: ignore[no-any-return]

    def command(self, name: str, argument: str = "") -> None:
        """Moto's own commands: `reset`, `reset-auth`."""
        url = f"{self.url}/moto-api/{name}"
        plain = {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, argument.encode(), plain)).close()

    def count(self, method: str, status: int) -> int:
        """How many requests of that method were answered so."""
        return sum((method, status) == (m, s) for m, _, s in self.requests)

    def client(self) -> Any:
        """A boto3 client, with the environment's credentials."""
        return boto3.client("s3", endpoint_url=self.url)

    def close(self) -> None:
        """Stops serving."""
        self.may_answer.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
