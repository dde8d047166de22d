"""Reads on an event loop: 64 in flight, Feast's coroutine beside ours."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from measure import Job, Rounds, say
from reads import Question, wide

if TYPE_CHECKING:
    from testbed.repo import Repo

IN_FLIGHT = 64


def concurrent_reads(repo: Repo, rounds: Rounds) -> list[Job]:
    """Rows for requests a second and for the latency that 99 of 100 keep to."""
    jobs = []
    # One loop for all: Feast's client stays with the first that it sees.
    with asyncio.Runner() as runner:
        for question in (wide(1, 10), wide(10, 50)):
            say(f"{IN_FLIGHT} reads of {question.title} in flight")
            jobs += runner.run(_both(repo, question, rounds))
    return jobs


async def _both(repo: Repo, question: Question, rounds: Rounds) -> list[Job]:
    calls = {"stock": _call(repo.stock(), question), "ours": _call(repo.ours(), question)}
    answers = [await call() for call in calls.values()]
    rates: dict[str, list[float]] = {name: [] for name in calls}
    late: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds.read_rounds):
        for name, call in calls.items():
            times = await _in_flight(call, 3 * rounds.seconds_per_round)
            rates[name].append(len(times) / (3 * rounds.seconds_per_round))
            late[name].append(1000 * statistics.quantiles(times, n=100)[98])
    title = f"asyncio, {IN_FLIGHT} reads of {question.title} in flight"
    correct = answers[0] == answers[1]
    return [
        Job(f"{title}: requests", *rates.values(), "/s", correct=correct, more_is_better=True),
        Job("the same: p99", *late.values(), "ms", correct=correct),
    ]


def _call(store: Any, question: Question) -> Callable[[], Awaitable[Any]]:
    features, entity_rows = list(question.features), question.entity_rows

    async def call() -> Any:
        response = await store.get_online_features_async(features, entity_rows)
        return response.to_dict()

    return call


async def _in_flight(call: Callable[[], Awaitable[Any]], seconds: float) -> list[float]:
    """The time of each call, as many at once as are to be in flight."""
    times: list[float] = []
    until = time.perf_counter() + seconds

    async def worker() -> None:
        while (started := time.perf_counter()) < until:
            await call()
            times.append(time.perf_counter() - started)

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return times
