"""Moments as the core counts them: microseconds since the epoch."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def micros(name: str, moment: datetime) -> int:
    """``moment``, or TypeError that names the argument ``name``; without a time zone it is UTC.

    Example:
        >>> from datetime import datetime
        >>> micros("end_date", datetime(1970, 1, 1, 0, 0, 1))
        1000000
    """
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} is of type {type(moment).__name__}; give a datetime")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    # Not `moment - _EPOCH`: Airflow's times are pendulum's, whose differences are other things.
    return datetime.__sub__(moment, _EPOCH) // timedelta(microseconds=1)
