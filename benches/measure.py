"""How things are measured here: jobs and their lines, rounds in turn, pinned processors."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass
class Job:
    """One line of the table."""

    name: str
    stock: list[float]
    ours: list[float]
    unit: str
    correct: bool
    target: float | None = None
    limit: float | None = None
    """An upper bound on our own figure, where the job is not judged by a ratio."""

    more_is_better: bool = False

    @property
    def ratio(self) -> float:
        ratio = statistics.median(self.stock) / statistics.median(self.ours)
        return 1 / ratio if self.more_is_better else ratio

    @property
    def verdict(self) -> str:
        if self.limit is not None:
            return "yes" if statistics.median(self.ours) <= self.limit else "**NO**"
        if self.target is None:
            return ""
        return "yes" if self.ratio >= self.target else "**NO**"

    @property
    def goal(self) -> str:
        if self.limit is not None:
            return f"≤ {self.limit:g} {self.unit}"
        return f"≥ {self.target:g}x" if self.target is not None else ""

    def line(self) -> str:
        spread = (
            f"{spread_of(self.stock)} / {spread_of(self.ours)}"
            if len(self.stock) > 1 or len(self.ours) > 1
            else ""
        )
        return cells(
            self.name,
            f"{shown(statistics.median(self.stock))} {self.unit}",
            f"{shown(statistics.median(self.ours))} {self.unit}",
            f"{self.ratio:.1f}x",
            spread,
            self.goal,
            self.verdict,
            "yes" if self.correct else "**NO**",
        )


@dataclass
class Bound:
    """One line of the table of limits: a figure of ours beside what nobody can beat."""

    name: str
    limit: list[float]
    ours: list[float]
    unit: str
    at_most: float
    """How many times the limit ours may be."""

    def line(self) -> str:
        ratio = statistics.median(self.ours) / statistics.median(self.limit)
        return cells(
            self.name,
            f"{shown(statistics.median(self.limit))} {self.unit}",
            f"{shown(statistics.median(self.ours))} {self.unit}",
            f"{ratio:.2f}x",
            f"{spread_of(self.limit)} / {spread_of(self.ours)}",
            f"≤ {self.at_most:g}x",
            "yes" if ratio <= self.at_most else "**NO**",
        )


@dataclass
class Rounds:
    """How often each thing is done."""

    stock_materializations: int = 3
    our_materializations: int = 5
    imports: int = 5
    read_rounds: int = 9
    seconds_per_round: float = 0.4
    entities: int = 100_000
    many_entities: int = 1_000_000

    def with_one_of_stock(self) -> Rounds:
        """The same with one materialization by Feast, which takes its time."""
        return replace(self, stock_materializations=1)


QUICK = Rounds(1, 3, 2, 5, 0.15, many_entities=0)


@dataclass
class Timing:
    """What rounds of calls took, a figure for each round, in seconds for one call."""

    wall: list[float]
    cpu: list[float]


def in_turn(calls: Mapping[str, Callable[[], Any]], rounds: Rounds) -> dict[str, Timing]:
    """Each call again and again for a while, one after the other, round after round."""
    found = {name: Timing([], []) for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds.read_rounds):
        for name, call in calls.items():
            wall, cpu = timed(call, rounds.seconds_per_round)
            found[name].wall.append(wall)
            found[name].cpu.append(cpu)
    return found


def timed(call: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Median wall time and mean CPU time of this process of a call, made for that long, at
    least three times."""
    times = []
    cpu = time.process_time()
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times), (time.process_time() - cpu) / len(times)


@contextlib.contextmanager
def pinned(*processes: int) -> Iterator[None]:
    """This process and those on one core, while it lasts."""
    cores = os.sched_getaffinity(0)
    everybody = (0, *processes)
    try:
        for process in everybody:
            os.sched_setaffinity(process, {max(cores)})
        yield
    finally:
        for process in everybody:
            os.sched_setaffinity(process, cores)


def millis(seconds: list[float]) -> list[float]:
    return [1000 * value for value in seconds]


def spread_of(values: list[float]) -> str:
    """Half of the distance from least to most, as a share of the median."""
    share = (max(values) - min(values)) / 2 / statistics.median(values)
    return f"±{share * 100:.0f} %"


def shown(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def cells(*texts: str) -> str:
    return f"| {' | '.join(text or '-' for text in texts)} |"


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
