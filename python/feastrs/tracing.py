"""OpenTelemetry spans around what a store does, in processes that have set a tracer provider.

Nothing is imported for them: where the program has not loaded ``opentelemetry``, or has set no
provider, there is no span, and a read pays for one look into ``sys.modules``. Attributes bear the
names of OpenTelemetry's conventions for databases (``db.…``, ``error.type``), and ``feast.…`` what
these have no name for.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from feastrs._native import __version__

if TYPE_CHECKING:
    from feastrs.online_writes import OnlineWrites

API = "opentelemetry.trace"
"""The module that whoever traces has loaded."""
MODULES = sys.modules

_PROVIDER = "_TRACER_PROVIDER"
_SCHEMA = "https://opentelemetry.io/schemas/1.34.0"

_T = TypeVar("_T")
# Whether a span of ours is open: calls inside of a call are part of it.
_is_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("feastrs_span", default=False)
# The provider that was last seen, and the tracer that it gave.
_known: tuple[Any, Any] = (None, None)


class Span:
    """A span that is open in a ``with`` block, in which no other of ours begins.

    Example:
        >>> from feastrs import tracing
        >>> tracing.span(store, "materialize") is None  # no provider is set here
        True
    """

    def __init__(
        self, store: OnlineWrites, tracer: Any, name: str, attributes: dict[str, Any]
    ) -> None:
        trace = MODULES[API]
        self._span = tracer.start_span(
            name,
            kind=trace.SpanKind.CLIENT,
            attributes=_of_store(store) | {"db.operation.name": name} | attributes,
            record_exception=False,
            set_status_on_exception=False,
        )
        self._current = trace.use_span(
            self._span, record_exception=False, set_status_on_exception=False
        )

    def set(self, name: str, value: Any) -> None:
        """Adds an attribute."""
        self._span.set_attribute(name, value)

    def __enter__(self) -> Span:
        self._token = _is_inside.set(True)
        self._current.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._current.__exit__(None, None, None)
        _is_inside.reset(self._token)
        if error is not None:
            trace = MODULES[API]
            self._span.record_exception(error)
            self._span.set_attribute("error.type", _name_of(type(error)))
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
        self._span.end()


def span(store: OnlineWrites, name: str, **attributes: Any) -> Span | None:
    """A span for a call of ``store``; None where nobody traces.

    Args:
        store: whose method is called.
        name: the method.
        attributes: what the span tells under ``feast.``; None is not told.
    """
    tracer = _tracer()
    if tracer is None:
        return None
    told = {f"feast.{key}": value for key, value in attributes.items() if value is not None}
    return Span(store, tracer, name, told)


def read(store: OnlineWrites, name: str, features: Any, entity_rows: Any) -> Span | None:
    """The same for a read of ``features`` for ``entity_rows``."""
    if _tracer() is None:
        return None
    return span(store, name, **_asked(features), entity_count=_row_count(entity_rows))


def _tracer() -> Any:
    """The tracer of the provider that is set; None: none is, or a span of ours is open."""
    global _known
    trace = MODULES.get(API)
    # Where no provider is set, the API would look into the environment each time.
    if trace is None or getattr(trace, _PROVIDER, trace) is None or _is_inside.get():
        return None
    provider = trace.get_tracer_provider()
    known, tracer = _known
    if provider is known:
        return tracer
    is_none = isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider))
    tracer = None if is_none else provider.get_tracer("feastrs", __version__, schema_url=_SCHEMA)
    _known = (provider, tracer)
    return tracer


def _of_store(store: OnlineWrites) -> dict[str, Any]:
    """What all spans of a store tell."""
    known: dict[str, Any] | None = vars(store).get("_traced")
    if known is None:
        kind = str((store._native.config()["online_store"] or {}).get("type"))
        system = next((one for one in ("redis", "sqlite") if one in kind.lower()), kind)
        known = {"db.system.name": system, "feast.project": store._native.project}
        vars(store)["_traced"] = known
    return known


def _asked(features: Any) -> dict[str, Any]:
    service = getattr(features, "name", None)
    if isinstance(service, str):
        return {"feature_service": service}
    if isinstance(features, (list, tuple)):
        views = dict.fromkeys(str(one).split(":")[0].split("@")[0] for one in features)
        return {"feature_count": len(features), "feature_views": [*views]}
    return {}


def _row_count(rows: Mapping[str, Sequence[Any]] | Sequence[Any] | Any) -> int | None:
    try:
        columns = next(iter(rows.values()), ()) if isinstance(rows, Mapping) else rows
        return len(columns)
    except TypeError:
        # It can't be counted, or is no such thing: the call itself says so.
        return None


def _name_of(kind: type[BaseException]) -> str:
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
