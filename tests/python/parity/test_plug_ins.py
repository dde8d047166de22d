"""An unchanged Feast whose `feature_store.yaml` names our online store: what Feast does with it
besides `get_online_features`, which `test_retrieval.py` asks through this door, too.
"""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import feast
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from feast.cli.cli import cli
from google.protobuf.json_format import MessageToDict

import feastrs
import feastrs.feast
from feastrs._native import Store
from feastrs.feast.online_response import OnlineResponse
from feastrs.feast.redis import RedisOnlineStoreConfig
from feastrs.feast.sqlite import SqliteOnlineStoreConfig
from testbed.demo import DRIVERS, NATIVE_VIEWS, definitions
from testbed.doors import ask_both, difference
from testbed.redis_server import RedisServer, free_port
from testbed.repo import EARLY, LATE, PLUG_INS, Applied, Repo

FEAST = Path(sys.executable).with_name("feast")
ROWS = [{"driver_id": 1000 + i, "factor": 2} for i in range(DRIVERS + 2)]
FEATURES = ["driver_stats:trips", "driver_stats:label", "driver_profile:age", "driver_profile:tags"]
ON_DEMAND = ["doubled:age_doubled", "driver_stats:trips"]


@pytest.fixture(scope="module")
def repo(
    demo: Applied, either_store: RedisServer | None, tmp_path_factory: pytest.TempPathFactory
) -> Repo:
    repo = demo.open(tmp_path_factory.mktemp("repo"), either_store)
    repo.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
    return repo


def by_name(response: Any) -> dict[str, Any]:
    """The message of an answer; its columns by name, for Feast's come in any order."""
    message = MessageToDict(response.proto)
    names = message["metadata"]["featureNames"]
    names = names["val"] if isinstance(names, dict) else names
    return dict(zip(names, message["results"], strict=True))


class TestAnswer:
    def test_is_ours_and_feasts(self, repo: Repo) -> None:
        response = repo.plugged().get_online_features(FEATURES, ROWS)
        assert isinstance(response, OnlineResponse)
        assert isinstance(response, feast.online_response.OnlineResponse)
        assert list(response.to_dict()) == ["driver_id", "trips", "label", "age", "tags"]
        assert repo.plugged().get_online_features(FEATURES[:1], ROWS).to_numpy().shape == (22, 1)

    def test_message(self, repo: Repo) -> None:
        """Values, statuses and event times, those of entities that are not there included."""
        ask_both(repo, lambda store: by_name(store.get_online_features(FEATURES, ROWS)), "plugged")

    def test_arrow(self, repo: Repo) -> None:
        stock = repo.stock().get_online_features(FEATURES, ROWS).to_arrow()
        ours = repo.plugged().get_online_features(FEATURES, ROWS).to_arrow()
        assert ours.select(sorted(ours.column_names)) == stock.select(sorted(stock.column_names))

    def test_statuses_of_ours_by_setting(self, repo: Repo, tmp_path: Path) -> None:
        online_store = repo.config["online_store"]
        config = repo.config | {
            "online_store": online_store
            | {"type": PLUG_INS[online_store["type"]], "online_statuses": "feastrs"}
        }
        file = tmp_path / "feature_store.yaml"
        file.write_text(yaml.safe_dump(config))
        store = feast.FeatureStore(repo_path=str(repo.folder), fs_yaml_file=file)
        response = store.get_online_features(["driver_stats:trips"], ROWS)
        assert set(response.statuses()["trips"]) == {"PRESENT", "NULL_VALUE", "NOT_FOUND"}


class TestOtherWaysToAsk:
    def test_async(self, repo: Repo) -> None:
        async def answers() -> list[Any]:
            store = repo.plugged()
            asked = [store.get_online_features_async(FEATURES, ROWS[i:]) for i in range(8)]
            return await asyncio.gather(*asked)

        for i, answer in enumerate(asyncio.run(answers())):
            assert isinstance(answer, OnlineResponse)
            stock = repo.stock().get_online_features(FEATURES, ROWS[i:])
            assert difference(answer.to_dict(), stock.to_dict()) is None

    def test_on_demand_views(self, repo: Repo) -> None:
        def ask(store: feast.FeatureStore) -> Any:
            return store.get_online_features(ON_DEMAND, ROWS).to_dict()

        answer = ask_both(repo, ask, "plugged")
        far = asyncio.run(repo.plugged().get_online_features_async(ON_DEMAND, ROWS))
        assert difference(far.to_dict(), answer) is None

    def test_versions_of_views(self, repo: Repo) -> None:
        ask_both(
            repo,
            lambda store: MessageToDict(
                store.get_online_features(
                    FEATURES[:2], ROWS, include_feature_view_version_metadata=True
                ).proto.metadata.feature_view_metadata[0]
            ),
            "plugged",
        )

    def test_a_service_that_was_changed_and_not_applied(self, repo: Repo) -> None:
        """Feast warns, and takes some from the registry, some from the object."""

        def question(store: feast.FeatureStore) -> Any:
            service = copy.deepcopy(store.get_feature_service("driver_service"))
            service.feature_view_projections[0].name_alias = "other"
            with pytest.warns(UserWarning, match="inconsistent"):
                return store.get_online_features(service, ROWS).to_dict()

        with pytest.raises(Exception, match="driver_stats") as stock:
            question(repo.stock())
        with pytest.raises(type(stock.value)):
            question(repo.plugged())

    def test_command_line(self, repo: Repo) -> None:
        repo.plugged()
        arguments = ["get-online-features", "-e", "driver_id=1001", "-e", "driver_id=1010"]
        arguments += [part for name in FEATURES for part in ("-f", name)]

        def printed(file: str) -> Any:
            folder = str(repo.folder)
            result = CliRunner().invoke(cli, ["-c", folder, "-f", f"{folder}/{file}", *arguments])
            assert result.exit_code == 0, result.output
            return json.loads(result.output[result.output.index("{") :])

        stock = printed("feature_store.yaml")
        assert difference(printed("plugged.yaml"), stock) is None
        assert stock["age"] == [21, 30]


Ask = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def served(repo: Repo) -> Iterator[tuple[Ask, Ask]]:
    """What asks `feast serve` of the repo: with Feast's store, and with ours."""
    repo.plugged()
    ports = free_port(), free_port()
    servers = [
        subprocess.Popen(
            [FEAST, "-c", repo.folder, "-f", repo.folder / file, "serve", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for file, port in zip(("feature_store.yaml", "plugged.yaml"), ports, strict=True)
    ]
    try:
        for server, port in zip(servers, ports, strict=True):
            while server.poll() is None and not is_served(port):
                time.sleep(0.1)
        yield asking(ports[0]), asking(ports[1])
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def is_served(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
    except OSError:
        return False
    return True


def asking(port: int) -> Ask:
    def ask(body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/get-online-features",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    return ask


def sorted_json(answer: dict[str, Any]) -> dict[str, Any]:
    """The columns of an answer of the server by name."""
    names = answer["metadata"]["feature_names"]
    return dict(zip(names, answer["results"], strict=True))


@pytest.mark.parametrize(
    "question",
    [
        {"features": FEATURES},
        {"features": FEATURES, "full_feature_names": True},
        {"feature_service": "driver_service"},
        {"features": ON_DEMAND},
    ],
    ids=["features", "full names", "service", "on demand"],
)
def test_feast_serve(question: dict[str, Any], served: tuple[Ask, Ask]) -> None:
    ids = [row["driver_id"] for row in ROWS]
    entities: dict[str, Any] = {"driver_id": ids}
    if question.get("features") == ON_DEMAND:
        entities["factor"] = [2] * len(ids)
    stock, ours = (sorted_json(ask(question | {"entities": entities})) for ask in served)
    assert difference(ours, stock) is None


def test_feasts_metrics_go_on(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = pytest.importorskip("feast.metrics")
    counted: list[tuple[str, int, int]] = []
    reads: list[float] = []
    monkeypatch.setattr(metrics._config, "online_features", True)
    monkeypatch.setattr(metrics, "track_feature_statuses", lambda *all_: counted.append(all_))
    monkeypatch.setattr(metrics, "track_online_store_read", reads.append)

    repo.stock().get_online_features(FEATURES, ROWS)
    by_stock = sorted(counted)
    counted.clear()
    repo.plugged().get_online_features(FEATURES, ROWS)

    assert len(by_stock) == 2
    # Feast's Redis store counts the timestamp as a feature, though it is never there.
    extra = len(ROWS) if repo.server else 0
    assert sorted(counted) == [(view, present, gone - extra) for view, present, gone in by_stock]
    assert len(reads) == 2


class TestRegistries:
    """The core is given what Feast knows of its registry, whenever that changes."""

    def test_own_changes_are_seen(self, demo: Applied, tmp_path: Path) -> None:
        store = demo.open(tmp_path).plugged()
        store.materialize(EARLY, LATE, ["driver_stats"])
        view = store.get_feature_view("driver_stats")
        assert store.get_online_features(["driver_stats:trips"], ROWS[1:2]).to_dict()
        service = feast.FeatureService(name="new", features=[view[["label"]]])
        store.apply([service])

        answer = store.get_online_features(store.get_feature_service("new"), ROWS[1:2])

        assert isinstance(answer, OnlineResponse)
        assert list(answer.to_dict()) == ["driver_id", "label"]

    def test_changes_of_others_are_seen(self, demo: Applied, tmp_path: Path) -> None:
        repo = demo.open(tmp_path)
        store = repo.plugged()
        repo.stock().materialize(EARLY, LATE, ["driver_stats"])
        assert store.get_online_features(["driver_stats:trips"], ROWS[1:2]).to_dict()
        view = repo.stock().get_feature_view("driver_stats")
        repo.stock().apply([feast.FeatureService(name="new", features=[view[["label"]]])])

        answer = store.get_online_features(store.get_feature_service("new"), ROWS[1:2])

        assert list(answer.to_dict()) == ["driver_id", "label"]

    def test_sql(self, demo: Applied, tmp_path: Path) -> None:
        registry = {"registry_type": "sql", "path": f"sqlite:///{tmp_path}/registry.sqlite"}
        repo = demo.open(tmp_path, settings={"registry": registry})
        repo.stock().apply(definitions(demo.folder.parent / "data"))
        repo.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
        answer = ask_both(repo, lambda s: by_name(s.get_online_features(FEATURES, ROWS)), "plugged")
        assert len(answer) == 5
        response = repo.plugged().get_online_features(FEATURES, ROWS)
        assert isinstance(response, OnlineResponse)

    def test_remote(self, repo: Repo) -> None:
        from feast.registry_server import start_server

        port = free_port()
        server = start_server(repo.stock(), port, wait_for_termination=False)
        try:
            registry = {"registry_type": "remote", "path": f"localhost:{port}"}
            far = Repo(repo.folder, repo.config | {"registry": registry}, repo.server)
            response = far.plugged().get_online_features(FEATURES, ROWS)
            assert isinstance(response, OnlineResponse)
            stock = repo.stock().get_online_features(FEATURES, ROWS)
            assert difference(response.to_dict(), stock.to_dict()) is None
            with pytest.raises(feast.errors.FeatureViewNotFoundException):
                far.plugged().get_online_features(["nope:x"], ROWS)
        finally:
            server.stop(None)
            repo.write_config()


class TestWrites:
    def test_a_push_is_read_at_once(self, demo: Applied, tmp_path: Path) -> None:
        store = demo.open(tmp_path).plugged()
        store.materialize(EARLY, LATE, ["pushed_stats"])
        row = {"driver_id": [1001], "age": [99], "event_timestamp": [LATE]}
        store.push("driver_push", pd.DataFrame(row))
        answer = store.get_online_features(["pushed_stats:age"], ROWS[1:2]).to_dict()
        assert answer == {"driver_id": [1001], "age": [99]}

    def test_teardown_and_again(self, demo: Applied, tmp_path: Path) -> None:
        """SQLite: the file goes, and a new one is read, not the old one's ghost."""
        repo = demo.open(tmp_path)
        store = repo.plugged()
        store.materialize(EARLY, LATE, ["world"])
        before = store.get_online_features(["world:mood"], [{"x": 1}]).to_dict()
        store.provider.teardown_infra(store.project, store.list_feature_views(), [])
        store.provider.update_infra(
            store.project, [], store.list_feature_views(), [], [], partial=False
        )
        after = store.get_online_features(["world:mood"], [{"x": 1}]).to_dict()
        assert (before, after) == ({"mood": [3]}, {"mood": [None]})


class TestFeastrsDoor:
    """`feastrs.FeatureStore` on the same `feature_store.yaml`."""

    @pytest.fixture
    def ours(self, demo: Applied, either_store: RedisServer | None, tmp_path: Path) -> Any:
        repo = demo.open(tmp_path, either_store)
        repo.config["online_store"]["type"] = PLUG_INS[repo.config["online_store"]["type"]]
        repo.write_config()
        return repo.ours()

    def test_materializes_and_reads_natively(self, ours: Any) -> None:
        report = ours.materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
        assert sorted(view.view for view in report) == sorted(NATIVE_VIEWS)
        assert not report.delegated
        response = ours.get_online_features(FEATURES, ROWS)
        assert isinstance(response, feastrs.OnlineResponse)
        # Its own default, which is not that of an unchanged Feast.
        assert response.statuses()["label"][-1] == "NOT_FOUND"

    def test_hands_feast_its_settings(self, ours: Any) -> None:
        ours.materialize(EARLY, LATE, feature_views=["driver_profile", "driver_stats"])
        answer = ours.get_online_features(ON_DEMAND, ROWS[:2]).to_dict()
        assert answer["age_doubled"] == [40, 42]


@pytest.mark.parametrize(
    ("kind", "config_class"),
    [("redis", RedisOnlineStoreConfig), ("sqlite", SqliteOnlineStoreConfig)],
)
class TestSettings:
    def test_are_those_of_the_core(self, kind: str, config_class: Any) -> None:
        """Whatever the core takes can be written for Feast, and the other way round."""
        settings = {"type": PLUG_INS[kind], "surely_unknown": 1}
        config = {"project": "p", "registry": "r.db", "online_store": settings}
        with pytest.raises(feastrs.errors.FeastConfigError) as refused:
            Store.from_json(json.dumps(config))
        supported = str(refused.value).split("supported here: ")[1].split(", ")
        assert sorted(config_class.model_fields) == sorted(supported)

    def test_unknown_ones_are_refused(self, kind: str, config_class: Any) -> None:
        with pytest.raises(ValueError, match="surely_unknown"):
            config_class(surely_unknown=1)
        with pytest.raises(ValueError, match="online_statuses"):
            config_class(online_statuses="nobody's")

    def test_every_name_of_the_class_is_known_to_the_core(
        self, kind: str, config_class: Any
    ) -> None:
        full_name = f"{config_class.__module__}.{config_class.__name__.removesuffix('Config')}"
        for name in (PLUG_INS[kind], full_name):
            config = {"project": "p", "registry": "r.db", "online_store": {"type": name}}
            store = Store.from_json(json.dumps(config))
            assert store.config()["online_store"]["type"] == kind


def test_what_the_package_does_not_have() -> None:
    with pytest.raises(AttributeError, match="'NoSuchStore'"):
        feastrs.feast.NoSuchStore  # noqa: B018
