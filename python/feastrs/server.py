"""The feature server: what ``feast serve`` and ``feast listen`` answer, without the GIL.

It is one process, which speaks HTTP, gRPC, or both.
:func:`serve` and :func:`listen` block until the process is told to stop; :class:`Server` runs
beside other Python code.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from feastrs import _native
from feastrs.hosting import Host

if TYPE_CHECKING:
    from feastrs import FeatureStore

_LOG = logging.getLogger("feastrs.server")


@dataclass(frozen=True)
class Limits:
    """How much a server takes on, on each port. What is beyond is refused, each with a status code.

    The codes below are HTTP's. Over gRPC they are RESOURCE_EXHAUSTED, INVALID_ARGUMENT for rows and
    features, and DEADLINE_EXCEEDED for time; connections that are too many are closed.

    Example:
        >>> from feastrs.server import Limits
        >>> Limits(rows=1000).rows
        1000
    """

    connections: int = 10_000
    """Connections that are open at one time; those beyond get 503 and are closed."""
    requests_in_flight: int = 1_024
    """Requests that are worked on at one time; those beyond get 503."""
    header_bytes: int = 64 * 1024
    """Bytes of the head of a request; more is 431. At least 8192."""
    body_bytes: int = 32 * 1024 * 1024
    """Bytes of the body of a request; more is 413."""
    body_bytes_in_flight: int = 256 * 1024 * 1024
    """Bytes of the bodies of all requests in flight; more is 503."""
    rows: int = 100_000
    """Entity rows of a request; more is 422."""
    features: int = 10_000
    """Features of a request; more is 422."""
    request_timeout: float = 30.0
    """Seconds from the head of a request to its answer; longer is 408 while the body is on its
    way, 504 after. Materializations take what they take."""
    drain: float = 0.5
    """Seconds after SIGTERM in which connections are still taken, each answer saying that its
    connection closes after it. Behind a load balancer that takes a while to notice, more."""
    shutdown_timeout: float = 30.0
    """Seconds after that in which requests in flight may end."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            # A drain of no time is one.
            if value < 0 or (value == 0 and name != "drain"):
                raise ValueError(f"the limit {name} must be positive, not {value}")
        if self.header_bytes < 8192:
            raise ValueError(
                f"the limit header_bytes must be at least 8192, not {self.header_bytes}"
            )


class Server:
    """A feature server that runs beside this thread until it is stopped.

    As a context manager it stops at the end, gracefully. In a forked child it is not running:
    the server is the parent's.

    Args:
        store: whose features it serves.
        host: the name or address to listen on.
        port: the port for HTTP; 0 for any that is free, None for no HTTP.
        grpc_port: the port for gRPC; 0 for any that is free, None for no gRPC.
        no_access_log: leave out the line of JSON on standard output for each request.
        workers: threads, one for each core unless said otherwise; large answers get as many of
            their own. Feast's processes are not needed: no request waits for another's.
        keep_alive_timeout: seconds after which a connection is closed that sends no request.
        registry_ttl_sec: seconds between refreshes of the registry; 0 for none.
        tls_key_path: file of the private key, PEM, unencrypted.
        tls_cert_path: file of the certificate, PEM. Both are read again when they change.
        limits: how much it takes on.
        metrics_port: another port for metrics alone, on all interfaces; 0 for any that is free.
            Without it 8000 where ``feature_server.metrics.enabled`` is set, else none. One that is
            taken is logged, and the server goes without.

    Raises:
        ValueError: an argument can't be used.
        OSError: the address can't be bound.
        feastrs.errors.FeastrsError: registry, online store or certificate can't be used.

    Example:
        >>> import urllib.request
        >>> from feastrs.server import Server
        >>> with Server(store, port=0, no_access_log=True) as server:
        ...     urllib.request.urlopen(f"{server.url}/health").status
        200
    """

    def __init__(
        self,
        store: FeatureStore,
        host: str = "127.0.0.1",
        port: int | None = 6566,
        *,
        grpc_port: int | None = None,
        no_access_log: bool = False,
        workers: int | None = None,
        keep_alive_timeout: float = 30,
        registry_ttl_sec: float = 60,
        tls_key_path: str | os.PathLike[str] | None = None,
        tls_cert_path: str | os.PathLike[str] | None = None,
        limits: Limits | None = None,
        metrics_port: int | None = None,
    ) -> None:
        if port is None and grpc_port is None:
            raise ValueError("a server needs a port: for HTTP, for gRPC, or for both")
        if bool(tls_key_path) != bool(tls_cert_path):
            raise ValueError("TLS needs both tls_key_path and tls_cert_path")
        tls = (
            (os.fspath(tls_cert_path), os.fspath(tls_key_path))
            if tls_cert_path and tls_key_path
            else None
        )
        self._scheme = "https" if tls else "http"
        self._native = _native.Server.start(
            store._native,
            Host(store),
            host,
            port,
            grpc_port,
            workers or os.cpu_count() or 1,
            keep_alive_timeout,
            not no_access_log,
            registry_ttl_sec,
            tls,
            limits or Limits(),
            metrics_port,
        )

    @property
    def url(self) -> str:
        """Where it listens for HTTP, such as ``http://127.0.0.1:6566``; empty: nowhere."""
        address = self._native.address
        return f"{self._scheme}://{_joined(*address)}" if address else ""

    @property
    def grpc_address(self) -> str:
        """Where it listens for gRPC, such as ``127.0.0.1:50051``; empty: nowhere."""
        address = self._native.grpc_address
        return _joined(*address) if address else ""

    @property
    def metrics_url(self) -> str | None:
        """Where metrics are served beside ``/metrics``; None: nowhere."""
        port = self._native.metrics_port
        return None if port is None else f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        """Begins to stop: no longer ready, ends what is in flight, closes. Does not wait."""
        self._native.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end; Python's signal handlers run meanwhile.

        Args:
            timeout: seconds after which to wait no longer.

        Returns:
            Whether it has ended.
        """
        return self._native.wait(timeout)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Nobody sends requests to a server whose block has ended: no need to drain.
        self._native.stop_soon()
        self._native.wait()


def serve(
    store: FeatureStore,
    host: str = "127.0.0.1",
    port: int = 6566,
    *,
    grpc_port: int | None = None,
    no_access_log: bool = False,
    workers: int | None = None,
    keep_alive_timeout: float = 30,
    registry_ttl_sec: float = 60,
    tls_key_path: str | os.PathLike[str] | None = None,
    tls_cert_path: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    metrics_port: int | None = None,
) -> None:
    """Serves features, in place of ``feast serve``, until the process is told to stop.

    SIGTERM ends it gracefully: it is no longer ready, answers what is asked still, and then
    closes. Ctrl-C ends what is in flight and takes nothing new; pressed again, it ends at once.

    Args:
        store: whose features to serve.
        host: as for :class:`Server`, and so are the others.
        port: the port.
        grpc_port: another port, for gRPC.
        no_access_log: no access log.
        workers: threads.
        keep_alive_timeout: seconds.
        registry_ttl_sec: seconds.
        tls_key_path: file of the private key.
        tls_cert_path: file of the certificate.
        limits: how much it takes on.
        metrics_port: another port for metrics.

    Raises:
        KeyboardInterrupt: it was ended by Ctrl-C.

    Example:
        >>> from feastrs import FeatureStore, server
        >>> server.serve(FeatureStore("examples/driver_stats"))  # doctest: +SKIP
    """
    _run(
        store,
        Server(
            store,
            host,
            port,
            grpc_port=grpc_port,
            no_access_log=no_access_log,
            workers=workers,
            keep_alive_timeout=keep_alive_timeout,
            registry_ttl_sec=registry_ttl_sec,
            tls_key_path=tls_key_path,
            tls_cert_path=tls_cert_path,
            limits=limits,
            metrics_port=metrics_port,
        ),
    )


def listen(
    store: FeatureStore,
    address: str = "localhost:50051",
    *,
    no_access_log: bool = False,
    max_workers: int | None = None,
    registry_ttl_sec: float = 5,
    tls_key_path: str | os.PathLike[str] | None = None,
    tls_cert_path: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    metrics_port: int | None = None,
) -> None:
    """Serves features over gRPC, in place of ``feast listen``, until the process is told to stop.

    Signals end it as they end :func:`serve`.

    Args:
        store: whose features to serve.
        address: host and port, such as ``[::]:50051``.
        no_access_log: as for :class:`Server`, and so are the others.
        max_workers: threads.
        registry_ttl_sec: seconds.
        tls_key_path: file of the private key.
        tls_cert_path: file of the certificate.
        limits: how much it takes on.
        metrics_port: another port for metrics.

    Raises:
        ValueError: the address is none.
        KeyboardInterrupt: it was ended by Ctrl-C.

    Example:
        >>> from feastrs import FeatureStore, server
        >>> server.listen(FeatureStore("examples/driver_stats"))  # doctest: +SKIP
    """
    host, port = _divided(address)
    _run(
        store,
        Server(
            store,
            host,
            None,
            grpc_port=port,
            no_access_log=no_access_log,
            workers=max_workers,
            registry_ttl_sec=registry_ttl_sec,
            tls_key_path=tls_key_path,
            tls_cert_path=tls_cert_path,
            limits=limits,
            metrics_port=metrics_port,
        ),
    )


def _run(store: FeatureStore, server: Server) -> None:
    """Waits until a server has ended, which signals make it do."""
    places = [server.url] if server.url else []
    places += [f"{server.grpc_address} (gRPC)"] if server.grpc_address else []
    with _stopped_by_signals(server._native) as interrupted:
        # Whoever reads this may send a signal at once.
        _LOG.info("serving project %s on %s", store.project, " and ".join(places))
        try:
            server.wait()
        except BaseException:
            server._native.stop_now()
            raise
    if interrupted:
        raise KeyboardInterrupt


def _joined(host: str, port: int) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def _divided(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"the address {address!r} is no host and port, such as localhost:50051")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host or "0.0.0.0", int(port)


@contextlib.contextmanager
def _stopped_by_signals(server: _native.Server) -> Iterator[list[int]]:
    """Has SIGTERM and SIGINT stop a server; gives the list of SIGINTs that came."""
    interrupted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        # Signals are the main thread's.
        yield interrupted
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        server.stop()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if interrupted:
            server.stop_now()
        else:
            server.stop_soon()
        interrupted.append(number)

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminate),
        signal.SIGINT: signal.signal(signal.SIGINT, interrupt),
    }
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
