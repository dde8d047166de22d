"""Asynchronous reads and writes on asyncio's event loops.

Imports asyncio, so it is imported when needed.

Each loop has its own in an attribute of its own: they live and die with it, whatever thread
it runs on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
import weakref
from collections.abc import Callable
from typing import Any

from feastrs._native import LoopReads

_ATTRIBUTE = "_feastrs_reads"


async def answer(start: Callable[..., int], *arguments: Any) -> Any:
    """Starts a read or a write on the running loop and waits for what it comes to.

    Whoever is cancelled while waiting ends it, too.

    Args:
        start: called with ``arguments``, the loop's reads, and the future to set; gives the
            number of the call.
        arguments: those of ``start``.
    """
    loop = asyncio.get_running_loop()
    reads = _reads_of(loop)
    future: asyncio.Future[Any] = loop.create_future()
    number = start(*arguments, reads, future)
    try:
        return await future
    except BaseException:
        reads.abort(number)
        raise


def _reads_of(loop: asyncio.AbstractEventLoop) -> LoopReads:
    reads: LoopReads | None = getattr(loop, _ATTRIBUTE, None)
    if reads is None or reads.is_inherited:
        reads = LoopReads()
        try:
            loop.add_reader(reads.fileno(), reads.deliver)
        except NotImplementedError:
            _relay(loop, reads)
        setattr(loop, _ATTRIBUTE, reads)
    return reads


def _relay(loop: asyncio.AbstractEventLoop, reads: LoopReads) -> None:
    """Watches for a loop that can't watch itself, on a thread that ends with the loop."""
    known = weakref.ref(loop, lambda _: reads.wake())
    del loop

    def watch() -> None:
        while True:
            select.select([reads.fileno()], [], [])
            # Nothing to read: the loop was faster.
            with contextlib.suppress(BlockingIOError):
                os.read(reads.fileno(), 16)
            loop = known()
            if loop is None:
                return
            try:
                loop.call_soon_threadsafe(reads.deliver)
            except RuntimeError:
                # The loop is closed.
                return
            del loop

    threading.Thread(target=watch, name="feastrs-relay", daemon=True).start()
