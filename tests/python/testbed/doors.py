"""The same question asked of stock Feast and of feastrs, and the answers compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from testbed.repo import Repo


def difference(ours: Any, stock: Any, path: str = "") -> str | None:
    """Where two answers differ, or `None`. NaN equals NaN; the order of a dict's keys is free.

    Types must be equal too: `1` is not `1.0`, a list is not a tuple.
    """
    if type(ours) is not type(stock):
        return f"{path}: ours {ours!r} ({type(ours)}), stock {stock!r} ({type(stock)})"
    if isinstance(ours, Mapping):
        if ours.keys() != stock.keys():
            return f"{path}: keys {list(ours)} and {list(stock)}"
        pairs = [(f"{path}[{key!r}]", ours[key], stock[key]) for key in ours]
    elif isinstance(ours, (list, tuple)):
        if len(ours) != len(stock):
            return f"{path}: lengths {len(ours)} and {len(stock)}"
        pairs = [(f"{path}[{i}]", *both) for i, both in enumerate(zip(ours, stock, strict=True))]
    elif isinstance(ours, float) and math.isnan(ours) and math.isnan(stock):
        return None
    else:
        same = (
            ours == stock and repr(ours) == repr(stock)
            if isinstance(ours, float)
            else ours == stock
        )
        return None if same else f"{path}: ours {ours!r}, stock {stock!r}"
    return next(filter(None, (difference(o, s, p) for p, o, s in pairs)), None)


def ask_both(repo: Repo, question: Callable[[Any], Any], door: str = "ours") -> Any:
    """Asks stock Feast and `door` of one repo, fails where the answers differ, returns ours."""
    stock = question(repo.stock())
    ours = question(getattr(repo, door)())
    found = difference(ours, stock)
    assert found is None, found
    return ours


def refuse_both(
    repo: Repo, question: Callable[[Any], Any], door: str = "ours"
) -> tuple[Exception, Exception]:
    """Both must raise; ours an exception that an `except` for stock's would catch."""
    stock = _error(repo.stock(), question)
    ours = _error(getattr(repo, door)(), question)
    assert isinstance(ours, (type(stock), ValueError, KeyError, TypeError)), (
        f"ours {type(ours).__mro__}, stock {type(stock)}"
    )
    return ours, stock


def _error(store: Any, question: Callable[[Any], Any]) -> Exception:
    try:
        answer = question(store)
    except Exception as error:
        return error
    raise AssertionError(f"{type(store).__module__} raised nothing and answered {answer!r}")
