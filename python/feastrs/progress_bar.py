"""Bars that show how far something is: on a terminal, and in a notebook."""

from __future__ import annotations

import html
import shutil
import sys
from typing import Any, Protocol, TextIO

_WIDTH = 24


class Bar(Protocol):
    """One line that is drawn again and again, until it ends and the next begins."""

    every_seconds: float
    """How often drawing it again makes sense."""

    def draw(self, name: str, fraction: float, text: str) -> None:
        """Shows that ``name`` is done to ``fraction``, 0 to 1, with ``text`` behind the bar."""

    def end(self) -> None:
        """What was drawn last stays; what follows goes below."""


def bar_for(stream: TextIO | None) -> Bar | None:
    """The bar that suits the place: a notebook's, one on ``stream`` if that is a terminal, or none.

    Example:
        >>> import io
        >>> from feastrs.progress_bar import bar_for
        >>> bar_for(io.StringIO()) is None
        True
    """
    display = _notebook_display()
    if display is not None:
        return NotebookBar(display)
    # A process may have closed its standard error, or have none (pythonw).
    if stream and not stream.closed and stream.isatty():
        return TerminalBar(stream)
    return None


class TerminalBar:
    """A bar on one line of a terminal."""

    every_seconds = 0.1

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_drawn = False

    def draw(self, name: str, fraction: float, text: str) -> None:
        """See :class:`Bar`."""
        filled = round(fraction * _WIDTH)
        line = f"{name}  [{'#' * filled}{'.' * (_WIDTH - filled)}] {fraction:4.0%}  {text}"
        width = shutil.get_terminal_size().columns - 1
        self._is_drawn = True
        # \x1b[K: clear what a longer line left behind.
        self._write(f"\r{line[:width]}\x1b[K")

    def end(self) -> None:
        """See :class:`Bar`."""
        if self._is_drawn:
            self._is_drawn = False
            self._write("\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal went away: the job matters more
            self._is_drawn = False


class NotebookBar:
    """A bar below the cell of a notebook that runs."""

    # Each is a message to the browser.
    every_seconds = 0.25

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None

    def draw(self, name: str, fraction: float, text: str) -> None:
        """See :class:`Bar`."""
        shown = _Drawn(name, fraction, text)
        if self._handle is None:
            self._handle = self._display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def end(self) -> None:
        """See :class:`Bar`."""
        self._handle = None


class _Drawn:
    """A state of the bar, as IPython asks for it: for browsers, and for consoles."""

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
