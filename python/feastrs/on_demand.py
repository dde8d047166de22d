"""On-demand feature views: the user's own function, run on what a read has found.

The core says which stored features and request data a function needs, and reads them together
with whatever else was asked. Here Feast's own object runs the function, and Feast's own
conversion types what comes back. It imports feast, and only when a request needs it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from feastrs import _native, errors

if TYPE_CHECKING:
    from feastrs._native import OnlineResult

# Feast's objects, by their definitions: reading a function back is slow. Past this many, old
# ones are forgotten.
_MAX_VIEWS = 256
_views: dict[bytes, Any] = {}


def finish(result: OnlineResult) -> OnlineResult:
    """The whole answer to a read: with what its on-demand views compute, without the inputs.

    Args:
        result: what the core read; one without on-demand views comes back as it is.

    Raises:
        feastrs.errors.NeedsFeastError: feast is not installed.
        feastrs.errors.TypeMismatchError: a function gave another number of rows.
        Exception: whatever a function raises.

    Example:
        >>> from feastrs import on_demand
        >>> result = store.get_online_features(
        ...     ["driver_stats:conv_rate"], [{"driver_id": 1001}]
        ... )._result
        >>> on_demand.finish(result) is result
        True
    """
    wanted = result.on_demand
    if wanted is None:
        return result
    computed = []
    for position, (name, definition, features) in enumerate(wanted):
        found = view(name, definition)
        inputs = result.on_demand_inputs(position)
        started = time.perf_counter()
        outputs = _run(found, inputs, len(result))
        if getattr(found, "track_metrics", False):
            _native.count_transformation(found.name, found.mode, time.perf_counter() - started)
        computed.append([_serialized(found, outputs, one, len(result)) for one in features])
    return result.with_computed(computed)


def view(name: str, definition: bytes) -> Any:
    """Feast's object of an on-demand view.

    Args:
        name: its name, for messages.
        definition: the serialized ``OnDemandFeatureView``.

    Raises:
        feastrs.errors.NeedsFeastError: feast is not installed.

    Example:
        >>> from feastrs import on_demand
        >>> callable(on_demand.view)
        True
    """
    known = _views.get(definition)
    if known is None:
        try:
            from feast.on_demand_feature_view import OnDemandFeatureView
            from feast.protos.feast.core.OnDemandFeatureView_pb2 import (
                OnDemandFeatureView as Message,
            )
        except ImportError as missing:
            raise errors.NeedsFeastError(
                f"'{name}' is an on-demand feature view: only Feast itself can run its function; "
                "install it with pip install 'feastrs[feast]'"
            ) from missing
        known = OnDemandFeatureView.from_proto(Message.FromString(definition))
        if len(_views) >= _MAX_VIEWS:
            _views.clear()
        _views[definition] = known
    return known


def columns(
    of: Any, table: Any, request_name: str, wanted: Sequence[str], full_feature_names: bool
) -> dict[str, Any]:
    """What an on-demand view computes from the rows of an Arrow table.

    Args:
        of: the view, as Feast's object.
        table: a ``pyarrow.Table`` with its inputs.
        request_name: the name by which the request knows it.
        wanted: names of the columns that are asked for.
        full_feature_names: columns are named ``view__feature``.

    Returns:
        Name to values, an Arrow array.

    Raises:
        feastrs.errors.TypeMismatchError: the function gave another number of rows, or no such
            column.

    Example:
        >>> from feastrs import on_demand
        >>> callable(on_demand.columns)
        True
    """
    import pyarrow

    inputs = _with_both_names(of, table)
    if of.singleton:
        outputs = pyarrow.table(_run(of, inputs.to_pydict(), inputs.num_rows))
    else:
        outputs = of.feature_transformation.transform_arrow(inputs, of.features)
    computed = {}
    for name in wanted:
        short = name.removeprefix(f"{request_name}__") if full_feature_names else name
        names = (short, f"{of.name}__{short}", name)
        found = next((one for one in names if one in outputs.column_names), None)
        if found is None or outputs.num_rows != table.num_rows:
            what = "no column" if found is None else f"{outputs.num_rows} values of"
            raise errors.exception_class("TypeMismatch")(
                f"on demand feature view '{of.name}' gave {what} '{short}' for "
                f"{table.num_rows} rows; it must give one value for each row"
            )
        computed[name] = outputs.column(found)
    return computed


def _with_both_names(of: Any, table: Any) -> Any:
    """The table with each input under its short name and its full one, where they are plain."""
    projections = of.source_feature_view_projections.values()
    inputs = [(one.name, feature.name) for one in projections for feature in one.features]
    shorts = [short for _, short in inputs]
    names = list(table.column_names)
    for view_name, short in inputs:
        full = f"{view_name}__{short}"
        if full not in names and short in names:
            table = table.append_column(full, table.column(short))
        elif short not in names and shorts.count(short) == 1:
            table = table.append_column(short, table.column(full))
    return table


def _run(view: Any, inputs: dict[str, list[Any]], rows: int) -> dict[str, Any]:
    """What the function of ``view`` gives, by its features' short names."""
    if view.mode == "pandas":
        import pyarrow
        from feast.online_response import _convert_uuids_for_arrow

        table = pyarrow.Table.from_pydict(_convert_uuids_for_arrow(inputs))
        transformed = view.transform_arrow(table, False)
        return {name: transformed[name] for name in transformed.column_names}
    if not view.singleton:
        outputs: dict[str, Any] = view.transform_dict(inputs)
        return outputs
    # The function takes one row. Feast gives it the first one alone.
    row_by_row = [
        view.transform_dict({name: [values[row]] for name, values in inputs.items()})
        for row in range(rows)
    ]
    names = dict.fromkeys(name for outputs in row_by_row for name in outputs)
    return {name: [_of_row(view, name, outputs) for outputs in row_by_row] for name in names}


def _of_row(view: Any, name: str, outputs: dict[str, Any]) -> Any:
    """The value of one row, which a function may also give as a list of that one value."""
    value = outputs.get(name)
    if not isinstance(value, list) or len(value) != 1:
        return value
    is_list = any(field.name == name and _is_collection(field) for field in view.features)
    return value[0] if not is_list or isinstance(value[0], (list, set, tuple)) else value


def _is_collection(field: Any) -> bool:
    return any(word in str(field.dtype) for word in ("Array", "Set"))


def _serialized(
    view: Any, outputs: dict[str, Any], feature: tuple[str, int], rows: int
) -> list[bytes] | None:
    """One feature's values, of its declared type; None where the function gave none."""
    from feast.type_map import python_values_to_proto_values
    from feast.value_type import ValueType

    name, value_type = feature
    if name not in outputs:
        return None
    values = _column(view, outputs[name], rows)
    messages = python_values_to_proto_values(values, ValueType(value_type))
    return [message.SerializeToString() for message in messages]


def _column(view: Any, values: Any, rows: int) -> Sequence[Any]:
    """The values as a sequence, one for each row."""
    if isinstance(values, list):
        return values
    if view.mode == "pandas":
        return values.to_numpy()  # type: ignore[no-any-return]
    is_sequence = hasattr(values, "__len__") and not isinstance(values, (str, bytes, dict, set))
    return list(values) if is_sequence and len(values) == rows else [values]
