"""Bars that show how far something is: on a terminal, and in a notebook."""

from __future__ import annotations

import html
import shutil
import sys
from typing import Any, Protocol, TextIO

_WIDTH = 24
# Of each bar where some stand side by side.
_NARROW_WIDTH = 10


class Bars(Protocol):
    """Bars of things that are under way at once, each known by its name."""

    every_seconds: float
    """How often drawing one again makes sense."""

    def draw(self, name: str, fraction: float, text: str) -> None:
        """Shows that ``name`` is done to ``fraction``, 0 to 1, with ``text`` behind the bar."""

    def end(self, name: str) -> None:
        """What was drawn last of ``name`` stays."""

    def close(self) -> None:
        """What was drawn last of all stays; what follows goes below."""


def bars_for(stream: TextIO | None) -> Bars | None:
    """The bars that suit the place: a notebook's, or on ``stream`` if that is a terminal, or none.

    Example:
        >>> import io
        >>> from feastrs.progress_bar import bars_for
        >>> bars_for(io.StringIO()) is None
        True
    """
    display = _notebook_display()
    if display is not None:
        return NotebookBars(display)
    # A process may have closed its standard error, or have none (pythonw).
    if stream and not stream.closed and stream.isatty():
        return TerminalBars(stream)
    return None


class TerminalBars:
    """Bars on the last line of a terminal: one with its text, some side by side without.

    The bar of what has ended gets a line of its own, above.
    """

    every_seconds = 0.1

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn: dict[str, tuple[float, str]] = {}

    def draw(self, name: str, fraction: float, text: str) -> None:
        """See :class:`Bars`."""
        self._drawn[name] = (fraction, text)
        if len(self._drawn) == 1:
            self._write(_wide(name, fraction, text))
        else:
            narrow = (_narrow(name, fraction) for name, (fraction, _) in self._drawn.items())
            self._write("   ".join(narrow))

    def end(self, name: str) -> None:
        """See :class:`Bars`."""
        last = self._drawn.pop(name, None)
        if last is not None:
            self._write(_wide(name, *last), "\n")

    def close(self) -> None:
        """See :class:`Bars`."""
        for name in list(self._drawn):
            self.end(name)

    def _write(self, line: str, end: str = "") -> None:
        width = shutil.get_terminal_size().columns - 1
        try:
            # \x1b[K: clear what a longer line left behind.
            self._stream.write(f"\r{line[:width]}\x1b[K{end}")
            self._stream.flush()
        except (OSError, ValueError):  # the terminal went away: the job matters more
            self._drawn.clear()


def _wide(name: str, fraction: float, text: str) -> str:
    return f"{name}  {_bar(fraction, _WIDTH)} {fraction:4.0%}  {text}"


def _narrow(name: str, fraction: float) -> str:
    return f"{name} {_bar(fraction, _NARROW_WIDTH)} {fraction:4.0%}"


def _bar(fraction: float, width: int) -> str:
    filled = round(fraction * width)
    return f"[{'#' * filled}{'.' * (width - filled)}]"


class NotebookBars:
    """Bars below the cell of a notebook that runs, one below the other."""

    # Each is a message to the browser.
    every_seconds = 0.25

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handles: dict[str, Any] = {}

    def draw(self, name: str, fraction: float, text: str) -> None:
        """See :class:`Bars`."""
        shown = _Drawn(name, fraction, text)
        if name not in self._handles:
            self._handles[name] = self._display(shown, display_id=True)
        else:
            self._handles[name].update(shown)

    def end(self, name: str) -> None:
        """See :class:`Bars`."""
        self._handles.pop(name, None)

    def close(self) -> None:
        """See :class:`Bars`."""
        self._handles.clear()


class _Drawn:
    """A state of a bar, as IPython asks for it: for browsers, and for consoles."""

    def __init__(self, name: str, fraction: float, text: str) -> None:
        self._name, self._fraction, self._text = name, fraction, text

    def __repr__(self) -> str:
        return f"{self._name}  {self._fraction:4.0%}  {self._text}"

    def _repr_html_(self) -> str:
        return (
            f"<div><code>{html.escape(self._name)}</code> "
            f'<progress value="{self._fraction:.4f}" max="1"></progress> '
            f"{self._fraction:.0%} &ensp; {html.escape(self._text)}</div>"
        )


def _notebook_display() -> Any:
    """IPython's ``display`` where a kernel runs this process, else None. Imports nothing anew."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    return display
