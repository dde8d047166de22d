"""What an error must be: of the right class, naming the thing, silent about secrets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SECRET = "hunter2-and-more"


def fails(kind: type[BaseException], action: Callable[[], Any], *names: str) -> str:
    """The action raises `kind`; returns the text."""
    with pytest.raises(kind) as caught:
        action()
    text = str(caught.value)
    for name in names:
        assert name in text, f"{name!r} is not in {text!r}"
    assert SECRET not in text
    assert SECRET not in repr(caught.value)
    return text
