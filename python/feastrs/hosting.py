"""What the server asks of Python: on-demand views, and what only Feast itself can do.

The server calls a :class:`Host` on threads of its own, a few at a time; requests that need no
Python never get here. It imports feast and pandas, and only when a request needs them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from feastrs import errors
from feastrs.materialization import MaterializationError
from feastrs.online_response import OnlineResponse
from feastrs.online_writes import _as_table

if TYPE_CHECKING:
    from feastrs.feature_store import FeatureStore

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1", "1.0"})


class Host:
    """Does the server's Python work with a store.

    Args:
        store: whose features are served.

    Example:
        >>> from feastrs.hosting import Host
        >>> body = b'{"features": ["driver_stats:conv_rate"], "entities": {"driver_id": [1001]}}'
        >>> isinstance(Host(store).read(body), bytes)
        True
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store

    def read(self, body: bytes) -> bytes:
        """Answers a request for features.

        Args:
            body: that of ``POST /get-online-features``, known to be valid.

        Returns:
            A serialized ``feast.serving.GetOnlineFeaturesResponse``.
        """
        request = json.loads(body)
        service = request.get("feature_service")
        features = self._store.get_feature_service(service) if service else request["features"]
        metadata = "include_feature_view_version_metadata"
        response: Any = self._store.get_online_features(
            features=features,
            entity_rows=request["entities"],
            full_feature_names=_is_true(request.get("full_feature_names", False)),
            include_feature_view_version_metadata=_is_true(request.get(metadata, False)),
        )
        if isinstance(response, OnlineResponse):
            return response._result.to_wire()
        message: bytes = response.proto.SerializeToString()
        return message

    def write(
        self,
        body: bytes,
        online: Mapping[str, str],
        appended: list[str],
        offline: list[str],
        renewed: list[str],
        allow_registry_cache: bool,
        transform_on_write: bool,
    ) -> None:
        """Does of a push what the core has left.

        Args:
            body: a JSON object with the rows as ``df``.
            online: views that Feast writes to the online store, each with the reason.
            appended: views to whose sources the core adds the rows.
            offline: views whose offline store Feast writes.
            renewed: services whose vectors are computed anew.
            allow_registry_cache: as in Feast.
            transform_on_write: as in Feast.
        """
        reasons = {
            view: online.get(view) or "its source is Feast's" for view in (*online, *offline)
        }
        why = "; ".join(f"view '{view}': {reason}" for view, reason in reasons.items())
        why = why or f"the vectors of {', '.join(renewed)} have to be computed anew"
        feast: Any = None
        if reasons or renewed:
            feast = self._store._feast_store(errors.NeedsFeastError(why))
        df = json.loads(body)["df"]
        cache = {"allow_registry_cache": allow_registry_cache}
        if appended:
            with _mistakes_of_clients():
                self._store._native.append_frame(appended, _as_table(_columns(df)))
        for view in online:
            feast.write_to_online_store(
                view, _pandas(df), transform_on_write=transform_on_write, **cache
            )
        for view in offline:
            feast.write_to_offline_store(view, _pandas(df), **cache)
        for service in renewed:
            feast.precompute_feature_service(service)

    def materialize(
        self,
        views: list[str],
        start: int | None,
        end: int,
        disable_event_timestamp: bool,
        full_feature_names: bool,
        version: str | None,
    ) -> None:
        """Materializes views that only Feast can.

        Args:
            views: their names.
            start: microseconds since 1970; None: from where the last one ended.
            end: microseconds since 1970.
            disable_event_timestamp: as in Feast.
            full_feature_names: as in Feast.
            version: as in Feast.
        """
        options: dict[str, Any] = {
            "feature_views": views,
            "full_feature_names": full_feature_names,
            "version": version,
        }
        try:
            if start is None:
                self._store.materialize_incremental(_moment(end), **options)
            else:
                options["disable_event_timestamp"] = disable_event_timestamp
                self._store.materialize(_moment(start), _moment(end), **options)
        except MaterializationError as error:
            failures = list(error.report.failures.values())
            # One failure is told in its own words, and with its own class.
            raise failures[0] if len(failures) == 1 else error from None


@contextlib.contextmanager
def _mistakes_of_clients() -> Iterator[None]:
    """Rows that pyarrow can't make a table of are a mistake of whoever sent them."""
    try:
        yield
    except errors.FeastrsError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise errors.InvalidArgumentError(str(error)) from error


def describe(error: BaseException) -> tuple[str | None, int, str | None, str]:
    """What an answer tells of what Python raised.

    Args:
        error: anything raised.

    Returns:
        The kind of an error of ours, or None; otherwise the HTTP status code and the class of an
        error of Feast's, or 500 and None; and the message.

    Example:
        >>> from feastrs import errors, hosting
        >>> hosting.describe(errors.NullKeyError("row 3 has no driver_id"))
        ('NullKey', 500, None, 'row 3 has no driver_id')
        >>> hosting.describe(ZeroDivisionError("division by zero"))
        (None, 500, None, 'division by zero')
    """
    name = type(error).__name__
    if isinstance(error, errors.FeastrsError):
        kinds = (kind for kind, ours in errors._CLASSES.items() if ours.__name__ == name)
        return next(kinds, None), 500, None, str(error)
    status = getattr(error, "http_status_code", None)
    if callable(status) and type(error).__module__ == "feast.errors":
        return None, int(status()), name, str(error)
    return None, 500, None, str(error)


def _is_true(value: Any) -> bool:
    return str(value).lower() in _TRUE


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _pandas(df: dict[str, Any]) -> Any:
    import pandas

    return pandas.DataFrame(df)


def _columns(df: dict[str, Any]) -> dict[str, list[Any]]:
    """Lists of one length, of what pandas takes for a frame."""
    lists = {
        name: list(values.values()) if isinstance(values, dict) else values
        for name, values in df.items()
    }
    rows = next((len(values) for values in lists.values() if isinstance(values, list)), 0)
    return {
        name: values if isinstance(values, list) else [values] * rows
        for name, values in lists.items()
    }
