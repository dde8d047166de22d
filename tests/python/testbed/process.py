"""Child processes that a test has forked."""

from __future__ import annotations

import os
import signal
import time


def wait_for(child: int) -> int:
    """The status that `child` ended with.

    Raises:
        AssertionError: it hangs, and was killed.
    """
    deadline = time.monotonic() + 60
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError("the forked child hangs")
        time.sleep(0.01)
