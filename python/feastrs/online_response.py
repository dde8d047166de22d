"""The answer of an online read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from feastrs import errors
from feastrs._native import ResponseBase

if TYPE_CHECKING:
    import numpy
    import pandas
    import torch
    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse

    from feastrs._native import OnlineResult


class OnlineResponse(ResponseBase):
    """Features of some entities, as columns in the order asked.

    The join keys of the request come first, then the features. Python objects are made by the
    method that is called, and not before.

    It is an Arrow stream (the PyCapsule interface), so ``pyarrow.table(response)`` and
    ``polars.DataFrame(response)`` take it as it is.

    Example:
        >>> response = store.get_online_features(
        ...     features=["driver_stats:conv_rate"],
        ...     entity_rows=[{"driver_id": 1001}],
        ... )
        >>> list(response.to_dict())
        ['driver_id', 'conv_rate']
    """

    __slots__ = ("_proto",)

    _proto: Any

    def to_df(self, include_event_timestamps: bool = False) -> pandas.DataFrame:
        """The columns as a pandas DataFrame, one row for each row of the request.

        Args:
            include_event_timestamps: as in :meth:`to_dict`.

        Raises:
            ImportError: pandas is not installed (``pip install 'feastrs[pandas]'``).
        """
        import pandas

        return pandas.DataFrame(self.to_dict(include_event_timestamps))

    def to_arrow(self, include_event_timestamps: bool = False) -> Any:
        """The columns as an Arrow table.

        Args:
            include_event_timestamps: as in :meth:`to_dict`.

        Returns:
            A ``pyarrow.Table`` where pyarrow is installed; otherwise an object with
            ``__arrow_c_stream__``, which every Arrow library takes.
        """
        stream = ArrowStream(self._result, include_event_timestamps)
        try:
            import pyarrow
        except ImportError:
            return stream
        return pyarrow.table(stream)

    def to_numpy(
        self, dtype: Any = "float64", missing: float = math.nan
    ) -> numpy.ndarray[Any, Any]:
        """The features, without the join keys, as a matrix.

        Integers, floats, booleans (0 and 1) and timestamps (seconds since the epoch) fit.

        Args:
            dtype: ``float64`` or ``float32``, in any form that NumPy takes.
            missing: stands where a value is null or not there.

        Returns:
            An array of shape (rows of the request, features), columns in the order asked.

        Raises:
            TypeError: a feature is no number.
            ValueError: the dtype is another one.
            ImportError: NumPy is not installed.
        """
        import numpy

        return self._result.to_numpy(numpy.dtype(dtype).name, missing)

    def to_tensor(
        self, kind: str = "torch", default_value: Any = math.nan
    ) -> dict[str, torch.Tensor | list[Any]]:
        """The columns as PyTorch tensors.

        Args:
            kind: ``torch``, the only one there is.
            default_value: stands where a value is null or not there.

        Returns:
            Column name to a tensor (integers, floats and booleans) or a list (everything else),
            one value for each row of the request.

        Raises:
            ValueError: ``kind`` is another one, or a column and ``default_value`` make no tensor.
            ImportError: PyTorch is not installed (``pip install 'feastrs[torch]'``).
        """
        return tensors(self.to_dict(), kind, default_value)

    @property
    def proto(self) -> GetOnlineFeaturesResponse:
        """The answer as Feast's message, made when it is first asked for.

        Raises:
            feastrs.errors.NeedsFeastError: feast, whose class it is, is not installed.
        """
        if not hasattr(self, "_proto"):
            try:
                from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
            except ImportError as missing:
                raise errors.NeedsFeastError(
                    "OnlineResponse.proto is a message of Feast's; install it with "
                    "pip install 'feastrs[feast]'"
                ) from missing
            self._proto = GetOnlineFeaturesResponse.FromString(self._result.to_wire())
        message: GetOnlineFeaturesResponse = self._proto
        return message

    def view_versions(self) -> dict[str, int]:
        """Which version of each view was read, where the request asked for that.

        Returns:
            View (or its alias) to version; empty without
            ``include_feature_view_version_metadata=True``.
        """
        return self._result.view_versions()

    def statuses(self) -> dict[str, list[str]]:
        """What became of each value.

        Returns:
            Column name to one of ``PRESENT``, ``NULL_VALUE``, ``NOT_FOUND`` and
            ``OUTSIDE_MAX_AGE`` for each row of the request.
        """
        return self._result.statuses()

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in the order asked, without the join keys."""
        return self._result.feature_names

    def __len__(self) -> int:
        return len(self._result)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._result.arrow_c_stream(requested_schema)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._result,)

    def __repr__(self) -> str:
        return f"OnlineResponse({len(self)} rows; {', '.join(self._result.names)})"


class ArrowStream:
    """Columns of an answer, ready for any Arrow library."""

    __slots__ = ("_include_event_timestamps", "_result")

    def __init__(self, result: OnlineResult, include_event_timestamps: bool) -> None:
        self._result = result
        self._include_event_timestamps = include_event_timestamps

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._result.arrow_c_stream(requested_schema, self._include_event_timestamps)


def tensors(
    columns: dict[str, list[Any]], kind: str, default_value: Any
) -> dict[str, torch.Tensor | list[Any]]:
    """Columns as PyTorch tensors, or as lists where they hold no numbers.

    Args:
        columns: name to values.
        kind: ``torch``, the only one there is.
        default_value: stands where a value is None.

    Raises:
        ValueError: ``kind`` is another one, or a column and ``default_value`` make no tensor.
        ImportError: PyTorch is not installed.

    Example:
        >>> from feastrs.online_response import tensors
        >>> callable(tensors)
        True
    """
    if kind != "torch":
        raise ValueError(f"kind is {kind!r}; the only one that is supported is 'torch'")
    try:
        import torch
    except ImportError as missing:
        raise ImportError(
            "to_tensor needs PyTorch; install it with pip install 'feastrs[torch]'"
        ) from missing
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made: dict[str, torch.Tensor | list[Any]] = {}
    for name, values in columns.items():
        present = next((value for value in values if value is not None), default_value)
        filled = [default_value if value is None else value for value in values]
        if not isinstance(present, (int, float)):
            made[name] = filled
            continue
        try:
            made[name] = torch.tensor(filled, device=device)
        except Exception as error:
            raise ValueError(f"the values of '{name}' make no tensor: {error}") from error
    return made
