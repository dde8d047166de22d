"""What this process counts while it serves features, for Prometheus.

Names, labels and buckets are those of Feast's server, so that dashboards carry over; what starts
with ``feastrs_`` is ours. A server counts by itself (``GET /metrics``, and ``feastrs serve
--metrics``); a process that embeds the library counts its reads from the first call of anything
here on.

Example:
    >>> from feastrs import metrics
    >>> "# TYPE feast_feature_server_memory_usage gauge" in metrics.text()
    True
"""

from __future__ import annotations

from types import TracebackType

from feastrs import _native

DEFAULT_PORT = 8000
"""Feast's port for metrics."""


def enable() -> None:
    """Counts reads of this process's stores from now on.

    Example:
        >>> from feastrs import metrics
        >>> metrics.enable()
    """
    _native.count_library()


def text() -> str:
    """All that was counted in this process, in Prometheus' text format.

    Returns:
        What ``GET /metrics`` answers; its media type is
        ``text/plain; version=0.0.4; charset=utf-8``.

    Example:
        >>> from feastrs import metrics
        >>> metrics.enable()
        >>> _ = store.get_online_features(["driver_stats:conv_rate"], {"driver_id": [1001]})
        >>> 'feast_online_features_status_total{feature_view="driver_stats"' in metrics.text()
        True
    """
    enable()
    return _native.metrics_text()


class Exporter:
    """Serves the metrics on a port of their own; made by :func:`start_http_server`.

    Example:
        >>> import urllib.request
        >>> from feastrs import metrics
        >>> with metrics.start_http_server(port=0) as exporter:
        ...     urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}/metrics").status
        200
    """

    def __init__(self, port: int) -> None:
        self._native = _native.MetricsExporter.start(port)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._native.port

    def close(self) -> None:
        """Closes the port."""
        self._native.close()

    def __enter__(self) -> Exporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def start_http_server(port: int = DEFAULT_PORT) -> Exporter:
    """Serves the metrics of this process to whoever can reach the port, on any path.

    It is served by threads of the core, which take no part in Python's GIL. A forked child does
    not have it: each process that is to be scraped starts its own, on its own port.

    Args:
        port: where to listen, on all interfaces; 0 for any that is free.

    Returns:
        What to close it with.

    Raises:
        OSError: the port is in use.

    Example:
        >>> from feastrs import metrics
        >>> with metrics.start_http_server(port=0) as exporter:
        ...     exporter.port > 0
        True
    """
    enable()
    return Exporter(port)
