"""The answer of a read, as an `OnlineResponse` of Feast's whose message is made when touched."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import feast.online_response
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse

from feastrs import online_response
from feastrs._native import OnlineResult


class OnlineResponse(feast.online_response.OnlineResponse):
    """What Feast's class of that name is, and `to_numpy` and `statuses` of ours.

    Columns come in the order asked. `to_dict`, `to_df`, `to_numpy` and `statuses` are made from
    the core's columns; `proto` is built when it is first asked for.
    """

    def __init__(self, result: OnlineResult) -> None:
        self._result = result
        # Feast's methods tell UUIDs from text with it; here the columns know.
        self._feature_types: dict[str, Any] = {}

    @cached_property
    def proto(self) -> Any:
        """The `feast.serving.GetOnlineFeaturesResponse` of this answer."""
        return GetOnlineFeaturesResponse.FromString(self._result.to_wire())

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """The columns as lists of Python values; see Feast's method of that name."""
        return self._result.to_dict(include_event_timestamps)

    def to_numpy(self, dtype: Any = "float64", missing: float = math.nan) -> Any:
        """The features as a matrix; see :meth:`feastrs.OnlineResponse.to_numpy`."""
        return online_response.OnlineResponse(self._result).to_numpy(dtype, missing)

    def to_tensor(self, kind: str = "torch", default_value: Any = math.nan) -> dict[str, Any]:
        """The columns as tensors; see Feast's method of that name."""
        return online_response.OnlineResponse(self._result).to_tensor(kind, default_value)

    def statuses(self) -> dict[str, list[str]]:
        """What became of each value; see :meth:`feastrs.OnlineResponse.statuses`."""
        return self._result.statuses()

    def __reduce__(self) -> Any:
        # Without the message, which Python can't take to another process.
        return OnlineResponse, (self._result,)
