"""`/materialize` and `/materialize-incremental`: asked of Feast's server and of ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import feast
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, RequestSource, ValueType
from feast.errors import FeatureViewNotFoundException
from feast.feature_server import get_app as feasts_app
from feast.feature_view import FeatureViewState
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Int64
from google.protobuf.message import DecodeError

from feastrs.asgi import get_app
from testbed.asgi_client import Answer, AsgiClient
from testbed.dump import assert_same_redis
from testbed.redis_server import RedisServer
from testbed.repo import Applied, Repo, apply, file_source

AT = datetime(2026, 1, 2, tzinfo=timezone.utc)
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
ONE = [Field(name="driver_id", dtype=Int64), Field(name="x", dtype=Int64)]
WINDOW = {"start_ts": "2026-01-01", "end_ts": "2026-01-03T00:00:00"}
PATIENCE = 30


def definitions(folder: Path) -> list[Any]:
    rows = {"driver_id": [1, 2, 1], "x": [7, 8, 9], "other": [1, 2, 3]}
    times = [AT, AT, AT + timedelta(hours=1)]
    table = pa.table({**rows, "event_timestamp": pa.array(times, pa.timestamp("us", tz="UTC"))})
    pq.write_table(table, folder / "rows.parquet")

    def view(name: str, file: str = "rows", **options: Any) -> FeatureView:
        source = file_source(folder / f"{file}.parquet", name=f"{name}_source")
        ttl = timedelta(days=36500)
        options.setdefault("schema", ONE)
        return FeatureView(name=name, entities=[DRIVER], ttl=ttl, source=source, **options)

    stats = view("stats")

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[stats, RequestSource(name="r", schema=[Field(name="y", dtype=Int64)])],
        schema=[Field(name="sum", dtype=Int64)],
        mode="python",
    )
    def computed(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"sum": inputs["x"]}

    return [
        DRIVER,
        stats,
        view("second"),
        view("off", enabled=False),
        view("offline_only", online=False),
        view("broken", schema=[ONE[0], Field(name="nothing", dtype=Int64)]),
        computed,
    ]


@dataclass
class Side:
    """One repository behind a server."""

    repo: Repo
    client: AsgiClient

    def state(self, view: str) -> Any:
        # A store that no server changes at the same time.
        store = feast.FeatureStore(repo_path=str(self.repo.folder))
        return store.get_feature_view(view).state

    def set_state(self, view: str, state: Any) -> None:
        store = self.repo.stock()
        found = store.registry.get_feature_view(view, store.project, allow_cache=False)
        found.state = state  # type: ignore[attr-defined]
        store.registry.apply_feature_view(found, store.project)

    def intervals(self, view: str) -> list[Any]:
        store = self.repo.stock()
        found = store.registry.get_feature_view(view, store.project, allow_cache=False)
        return list(found.materialization_intervals)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def applied_definitions(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    folder = tmp_path_factory.mktemp("materializations")
    return apply(folder / "applied", definitions(folder))


@pytest.fixture
def sides(
    applied_definitions: Applied, tmp_path: Path, redis7: RedisServer
) -> Iterator[tuple[Side, Side]]:
    ours, stock = applied_definitions.twins(tmp_path, redis7)
    pair = (
        Side(ours, AsgiClient(get_app(ours.ours()))),
        Side(stock, AsgiClient(feasts_app(stock.stock()))),
    )
    yield pair
    for side in pair:
        side.client.close()


def ask(sides: tuple[Side, Side], path: str, body: Any) -> tuple[Answer, Answer]:
    ours, stock = (side.client.post(path, body) for side in sides)
    return ours, stock


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it does not come about"


def is_done(side: Side, view: str) -> Callable[[], bool]:
    return has_state(side, view, FeatureViewState.AVAILABLE_ONLINE)


def has_state(side: Side, view: str, state: Any) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return bool(side.state(view) == state)
        except (FeatureViewNotFoundException, DecodeError, ValueError):
            return False  # stock Feast is writing the registry

    return look


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/materialize", {**WINDOW, "feature_views": ["stats"]}),
        ("/materialize", {"feature_views": ["stats"], "disable_event_timestamp": True}),
        ("/materialize", {**WINDOW, "feature_views": []}),
        ("/materialize?force=true", {**WINDOW, "feature_views": ["stats", "second"]}),
        ("/materialize-incremental", {"end_ts": "2026-01-04", "feature_views": ["stats"]}),
    ],
)
def test_the_same_store_and_answer(path: str, body: Any, sides: tuple[Side, Side]) -> None:
    ours, stock = ask(sides, path, body)
    assert (ours.status, ours.body) == (stock.status, stock.body) == (200, b"null")
    assert_same_redis(sides[0].repo.redis(), sides[1].repo.redis())
    for view in body["feature_views"]:
        assert sides[0].state(view) == sides[1].state(view) == FeatureViewState.AVAILABLE_ONLINE
        mine, feasts = (side.intervals(view) for side in sides)
        if not body.get("disable_event_timestamp") and "start_ts" in body:
            assert mine == feasts
        assert len(mine) == len(feasts) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/materialize", {**WINDOW, "feature_views": ["nope"]}),
        ("/materialize?async=1", {**WINDOW, "feature_views": ["nope"]}),
        ("/materialize?async=maybe&force=2", {**WINDOW, "feature_views": ["stats"]}),
        ("/materialize", {"start_ts": 1, "end_ts": None, "feature_views": "x", "version": 1}),
        ("/materialize-incremental", {"feature_views": ["stats"]}),
        ("/materialize-incremental", {"end_ts": None}),
        ("/materialize-incremental?async=x", {"feature_views": 1}),
        ("/materialize", []),
    ],
)
def test_what_is_wrong_is_told_alike(path: str, body: Any, sides: tuple[Side, Side]) -> None:
    ours, stock = ask(sides, path, body)
    assert (ours.status, ours.body) == (stock.status, stock.body)
    assert stock.status in (404, 422)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/materialize", {"feature_views": ["stats"]}, 422),
        ("/materialize", {"start_ts": "x", "end_ts": "y", "feature_views": ["stats"]}, 422),
        (
            "/materialize",
            {"start_ts": "2026-01-03", "end_ts": "2026-01-01", "feature_views": ["stats"]},
            422,
        ),
        (
            "/materialize",
            {"start_ts": "2026-01-03", "end_ts": "2026-01-03", "feature_views": ["stats"]},
            422,
        ),
        ("/materialize", {**WINDOW, "feature_views": ["off"]}, 400),
        ("/materialize", {**WINDOW, "feature_views": ["offline_only"]}, 400),
        ("/materialize", {**WINDOW, "feature_views": ["computed"]}, 400),
        ("/materialize", {**WINDOW, "feature_views": ["stats"], "version": "v1"}, 400),
        ("/materialize", {**WINDOW, "version": "v1"}, 400),
        ("/materialize-incremental", {"end_ts": "x", "feature_views": ["stats"]}, 422),
        ("/materialize-incremental", {"end_ts": "", "feature_views": ["stats"]}, 422),
    ],
)
def test_mistakes_are_the_clients(
    path: str, body: Any, status: int, sides: tuple[Side, Side]
) -> None:
    ours, stock = ask(sides, path, body)
    assert stock.status == 500
    assert ours.status == status
    assert isinstance(ours.json, str)
    assert sides[0].state("stats") == sides[1].state("stats")


def test_a_source_that_does_not_fit_is_a_failure(sides: tuple[Side, Side]) -> None:
    ours, stock = ask(sides, "/materialize", {**WINDOW, "feature_views": ["broken"]})
    assert (ours.status, stock.status) == (500, 500)
    assert "nothing" in ours.json
    assert sides[0].state("broken") == sides[1].state("broken")


@pytest.mark.parametrize("path", ["/materialize", "/materialize-incremental"])
def test_asynchronously(path: str, sides: tuple[Side, Side]) -> None:
    body = {"end_ts": "2026-01-03T00:00:00", "feature_views": ["stats"]}
    body |= {"start_ts": "2026-01-01"} if path == "/materialize" else {}
    ours, stock = ask(sides, f"{path}?async=true", body)
    assert (ours.status, ours.body) == (stock.status, stock.body)
    assert ours.json == {"status": "accepted", "feature_views": ["stats"]}
    for side in sides:
        wait_until(is_done(side, "stats"))
    assert_same_redis(sides[0].repo.redis(), sides[1].repo.redis())


def test_one_at_a_time_for_a_view(sides: tuple[Side, Side]) -> None:
    for side in sides:
        side.set_state("stats", FeatureViewState.MATERIALIZING)
    body = {**WINDOW, "feature_views": ["stats", "second"]}
    ours, stock = ask(sides, "/materialize?async=true", body)
    assert (ours.status, ours.body) == (stock.status, stock.body)
    assert ours.status == 409

    ours, stock = ask(sides, "/materialize?async=true&force=true", body)
    assert (ours.status, ours.body) == (stock.status, stock.body)
    assert ours.status == 202
    for side in sides:
        wait_until(is_done(side, "stats"))
        wait_until(is_done(side, "second"))


def test_one_that_fails_gives_its_view_back(sides: tuple[Side, Side]) -> None:
    body = {**WINDOW, "feature_views": ["broken"]}
    ours, stock = ask(sides, "/materialize?async=true", body)
    assert (ours.status, ours.body) == (stock.status, stock.body)
    for side in sides:
        wait_until(has_state(side, "broken", FeatureViewState.GENERATED))


def test_requests_for_one_view_wait_for_each_other(sides: tuple[Side, Side]) -> None:
    side = sides[0]
    app, answers = get_app(side.repo.ours()), []

    def ask_one() -> None:
        client = AsgiClient(app)
        answers.append(client.post("/materialize", {**WINDOW, "feature_views": ["stats"]}))
        client.close()

    threads = [threading.Thread(target=ask_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 4
    assert len(side.intervals("stats")) == 4


def test_what_only_feast_can_is_done_by_feast(
    tmp_path: Path, redis7: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view whose rows are also written offline goes through Feast."""
    objects = definitions(tmp_path)
    objects[1].offline = True
    ours, _ = apply(tmp_path / "applied", objects).twins(tmp_path / "twins", redis7)
    side = Side(ours, AsgiClient(get_app(ours.ours())))
    asked: list[list[str]] = []
    feast = side.repo.ours()._feast_store(NotImplementedError("wanted"))
    monkeypatch.setattr(
        feast, "materialize", lambda *args, feature_views, **kwargs: asked.append(feature_views)
    )
    answer = side.client.post("/materialize", {**WINDOW, "feature_views": ["stats", "second"]})
    side.client.close()
    assert answer.status == 200, answer.body
    assert asked == [["stats"]]
    assert side.state("second") == FeatureViewState.AVAILABLE_ONLINE
