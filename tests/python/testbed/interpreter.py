"""A Python process of the tests' own that runs what it is told and can be interrupted."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What Ctrl-C, a cancelled task and the interpreter's exit may take. No machine is idle all the
# time, so it holds for the usual one of some tries; none may come near the servers' timeouts.
PROMISED = 0.2
AT_MOST = 1.0
TRIES = 5

_CODE = """
import asyncio, sys, threading, time
import feastrs
store = feastrs.FeatureStore(repo_path=sys.argv[1])

def ask(*drivers):
    return store.get_online_features(["v:x"], [{"driver_id": i} for i in drivers or [1]])

def ask_async():
    return store.get_online_features_async(["v:x"], [{"driver_id": 1}])

async def ask_many():
    await asyncio.gather(*(ask_async() for _ in range(50)))

print("ready", flush=True)
for line in sys.stdin:
    try:
        exec(line)
        print("done", flush=True)
    except KeyboardInterrupt:
        print(time.monotonic(), flush=True)
"""


class Interpreter:
    """Runs lines of Python in which `store` is the repo in `folder`, and `ask`, `ask_async` and
    `ask_many` read from it."""

    def __init__(self, folder: Path, setup: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _CODE, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"
        if setup:
            self.run(setup)

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def run(self, line: str) -> None:
        """Runs `line` to its end."""
        self._tell(line)
        assert self._answer() == "done"

    def interrupted(self, line: str, when: Callable[[], Any] = lambda: None) -> float:
        """Runs `line` until it is blocked (and `when` has returned), then sends Ctrl-C; gives the
        seconds until that was raised."""
        self._tell(line)
        when()
        self.wait_until_blocked()
        return self.interrupt()

    def interrupt(self) -> float:
        """Sends Ctrl-C now; gives the seconds until it was raised."""
        sent = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        return float(self._answer()) - sent

    def begin(self, line: str) -> None:
        """Begins to run `line`."""
        self._tell(line)

    def exited(self) -> float:
        """Ends the process as a program does that has no more to do; gives the seconds."""
        self._tell("print(time.monotonic(), flush=True); sys.exit()")
        began = float(self._answer())
        self._process.wait(timeout=60)
        took = time.monotonic() - began
        self._assert_well()
        return took

    def outlives_itself(self, seconds: float) -> None:
        """Ends the interpreter, and only after `seconds` its process."""
        self.run(
            "import ctypes; libc = ctypes.CDLL(None); libc.__cxa_atexit(libc.getchar, None, None)"
        )
        self._tell("sys.exit()")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        assert self._process.poll() is None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._assert_well()

    def _assert_well(self) -> None:
        assert self._process.stderr is not None
        errors = self._process.stderr.read()
        assert self._process.returncode == 0, errors
        assert "panicked" not in errors, errors

    def wait_until_blocked(self) -> None:
        """Until the process has burned no CPU for a while."""
        deadline = time.monotonic() + 30
        last, since = -1, time.monotonic()
        while time.monotonic() - since < 0.2:
            ticks = self._ticks()
            if ticks != last:
                last, since = ticks, time.monotonic()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def wait_until_busy(self) -> None:
        """Until the process has burned some CPU from now on."""
        deadline = time.monotonic() + 30
        first = self._ticks()
        while self._ticks() < first + 20:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _ticks(self) -> int:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline().strip()
        assert answer, self._process.communicate()[1]
        return answer


def assert_prompt(attempt: Callable[[], float]) -> None:
    """Asserts that what `attempt` measures keeps the promise."""
    took = sorted(attempt() for _ in range(TRIES))
    print("took", [f"{seconds:.3f}" for seconds in took])
    assert took[TRIES // 2] < PROMISED, took
    assert took[-1] < AT_MOST, took
