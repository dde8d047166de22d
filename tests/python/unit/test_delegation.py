"""What only Feast can do: done by a real `feast.FeatureStore`, or an error that says how."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import feast
import pandas as pd
import pytest
import yaml

import feastrs
from feastrs.errors import UnsupportedError
from testbed.demo import DRIVERS, NATIVE_VIEWS, definitions, write_parquet
from testbed.doors import difference
from testbed.redis_server import RedisServer
from testbed.refusals import SECRET
from testbed.repo import EARLY, LATE, Applied, Repo

ROWS = [{"driver_id": 1000, "factor": 3}, {"driver_id": 1007, "factor": 1}]
ON_DEMAND = ["doubled:age_doubled", "driver_stats:trips"]


@pytest.fixture
def repo(demo: Applied, tmp_path: Path) -> Repo:
    return demo.open(tmp_path / "repo")


@pytest.fixture(scope="module")
def sql_repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose registry is a SQL database, applied by stock Feast."""
    folder = tmp_path_factory.mktemp("sql")
    write_parquet(folder / "data")
    config = {
        "project": "demo",
        "provider": "local",
        "registry": {"registry_type": "sql", "path": f"sqlite:///{folder}/registry.sqlite"},
        "online_store": {"type": "sqlite", "path": "online.db"},
        "offline_store": {"type": "file"},
        "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    feast.FeatureStore(repo_path=str(folder)).apply(definitions(folder / "data"))
    return folder


class TestRegistryOfFeast:
    def test_definitions(self, sql_repo: Path) -> None:
        ours = feastrs.FeatureStore(repo_path=sql_repo)
        stock = feast.FeatureStore(repo_path=str(sql_repo))
        for listing in ("entities", "feature_views", "on_demand_feature_views", "data_sources"):
            names = [one.name for one in getattr(stock, f"list_{listing}")()]
            assert [one.name for one in getattr(ours, f"list_{listing}")()] == names
        assert len(ours.list_feature_services(allow_cache=True)) == 2
        assert ours.get_project().name == "demo"
        assert ours.get_entity("driver").join_key == "driver_id"
        assert ours.get_feature_view("driver_stats", allow_registry_cache=True).online
        assert ours.get_feature_service("driver_service").owner == "ml@example.com"
        with pytest.raises(feastrs.errors.ProjectObjectNotFoundException, match="nobody"):
            ours.get_project("nobody")
        ours.refresh_registry()

    def test_materialized_and_read(self, sql_repo: Path) -> None:
        ours = feastrs.FeatureStore(repo_path=sql_repo)
        report = ours.materialize(EARLY, LATE)
        assert report.views == []
        assert sorted(report.delegated) == sorted(NATIVE_VIEWS)
        assert "registry of type 'sql'" in report.delegated["world"]
        read = ours.get_online_features(
            features=("driver_stats:trips", "driver_profile:age"), entity_rows=ROWS[:1]
        ).to_dict()
        stock = feast.FeatureStore(repo_path=str(sql_repo)).get_online_features(
            features=["driver_stats:trips", "driver_profile:age"], entity_rows=ROWS[:1]
        )
        assert difference(read, stock.to_dict()) is None
        service = ours.get_feature_service("driver_service")
        assert (
            ours.get_online_features(service, entity_rows=ROWS[:1]).to_dict()["trips"]
            == (read["trips"])
        )

    def test_one_view_incrementally(self, sql_repo: Path) -> None:
        ours = feastrs.FeatureStore(repo_path=sql_repo)
        end = datetime(2024, 3, 2, tzinfo=timezone.utc)
        report = ours.materialize_incremental(end, feature_views=["world"])
        assert list(report.delegated) == ["world"]


def test_a_store_of_feast_is_handed_over(
    demo: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = demo.open(tmp_path)
    repo.config["online_store"] = {"type": "dynamodb", "region": "nowhere"}
    repo.write_config()
    asked: list[tuple[str, Any]] = []

    class Asked:
        def __init__(self, repo_path: str) -> None:
            assert repo_path == str(tmp_path)

        def get_online_features(self, features: Any, entity_rows: Any) -> str:
            assert entity_rows == ROWS
            asked.append(("read", features))
            return "Feast's answer"

        def materialize(self, **arguments: Any) -> None:
            asked.append(("materialize", arguments["feature_views"]))

    monkeypatch.setattr(feast, "FeatureStore", Asked)
    store = repo.ours()
    assert len(store.list_feature_views()) == len(NATIVE_VIEWS)
    references = ["driver_stats:trips"]
    answer = store.get_online_features(features=references, entity_rows=ROWS)
    assert answer == "Feast's answer"
    report = store.materialize(EARLY, LATE, feature_views=["world", "driver_stats"])
    assert asked == [
        ("read", references),
        ("materialize", ["driver_stats"]),
        ("materialize", ["world"]),
    ]
    assert report.views == []


def test_each_view_of_feast_fails_by_itself_and_has_the_overlap(
    demo: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = demo.open(tmp_path)
    repo.config["online_store"] = {"type": "dynamodb", "region": "nowhere"}
    repo.write_config()
    asked: list[tuple[str, list[str], datetime | None]] = []

    class Asked:
        def __init__(self, repo_path: str) -> None:
            assert repo_path == str(tmp_path)

        def get_feature_view(self, name: str) -> Any:
            ends = {"world": LATE, "driver_stats": LATE, "driver_profile": None}
            return SimpleNamespace(most_recent_end_time=ends[name])

        def materialize(self, feature_views: list[str], start_date: datetime, **_: Any) -> None:
            asked.append(("materialize", feature_views, start_date))
            if feature_views == ["world"]:
                raise RuntimeError("no such table")

        def materialize_incremental(self, feature_views: list[str], **_: Any) -> None:
            asked.append(("materialize_incremental", feature_views, None))

    monkeypatch.setattr(feast, "FeatureStore", Asked)
    views = ["world", "driver_stats", "driver_profile"]
    with pytest.raises(feastrs.MaterializationError, match="view 'world': no such table") as caught:
        repo.ours().materialize_incremental(LATE, views, overlap=timedelta(hours=1))
    assert sorted(asked) == [
        ("materialize", ["driver_stats"], LATE - timedelta(hours=1)),
        ("materialize", ["world"], LATE - timedelta(hours=1)),
        ("materialize_incremental", ["driver_profile"], None),
    ]
    assert sorted(caught.value.report.delegated) == ["driver_profile", "driver_stats"]


def test_no_store_at_all_is_nobodys(demo: Applied, tmp_path: Path) -> None:
    repo = demo.open(tmp_path)
    repo.config["online_store"] = None
    repo.write_config()
    with pytest.raises(UnsupportedError, match="online_store"):
        repo.ours().get_online_features(features=["driver_stats:trips"], entity_rows=ROWS)


class TestFeastsPart:
    def test_on_demand_next_to_native(self, repo: Repo) -> None:
        report = repo.ours().materialize(EARLY, LATE)
        assert sorted(view.view for view in report) == sorted(NATIVE_VIEWS)
        ours = repo.ours().get_online_features(features=ON_DEMAND, entity_rows=ROWS)
        stock = repo.stock().get_online_features(features=ON_DEMAND, entity_rows=ROWS)
        assert difference(ours.to_dict(), stock.to_dict()) is None
        ages = repo.ours().get_online_features(
            features=["driver_profile:age"], entity_rows=[{"driver_id": 1000}]
        )
        assert ours.to_dict()["age_doubled"][0] == ages.to_dict()["age"][0] * 2

    def test_history(self, repo: Repo) -> None:
        entities = pd.DataFrame({"driver_id": [1000, 1001], "event_timestamp": [LATE, LATE]})
        service = repo.ours().get_feature_service("driver_service")
        frame = repo.ours().get_historical_features(entities, service).to_df()
        assert "trips" in frame.columns

    def test_pushed_and_written(self, repo: Repo) -> None:
        repo.stock()  # makes the tables that `feast apply` would have made
        store = repo.ours()

        def age_after(write: Callable[[str, pd.DataFrame], None], name: str, age: int) -> Any:
            row = {"driver_id": [1000], "event_timestamp": [LATE], "age": [age]}
            write(name, pd.DataFrame(row))
            read = store.get_online_features(["pushed_stats:age"], [{"driver_id": 1000}])
            return read.to_dict()["age"]

        assert age_after(store.write_to_online_store, "pushed_stats", 77) == [77]
        assert age_after(store.push, "driver_push", 78) == [78]

    def test_registry_and_provider_are_feasts(self, repo: Repo) -> None:
        assert repo.ours().registry.get_entity("driver", "demo").join_key == "driver_id"
        assert isinstance(repo.ours().provider, feast.infra.provider.Provider)

    def test_applied_from_nothing_and_torn_down(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "data")
        config = {
            "project": "demo",
            "provider": "local",
            "registry": str(tmp_path / "registry.db"),
            "online_store": {"type": "sqlite", "path": str(tmp_path / "online.db")},
            "offline_store": {"type": "file"},
            "entity_key_serialization_version": 3,
        }
        store = feastrs.FeatureStore(config=config)
        with pytest.raises(feastrs.errors.RegistryNotFoundError):
            store.list_entities()
        store.apply(definitions(tmp_path / "data"))
        assert len(store.list_feature_views()) == len(NATIVE_VIEWS)
        assert store.materialize(EARLY, LATE).entities_written > DRIVERS
        store.teardown()
        assert not (tmp_path / "online.db").exists()

    @pytest.mark.parametrize("given", ["file", "mapping", "config", "strict"])
    def test_teardown_leaves_projects_with_a_longer_name_alone(
        self, given: str, demo: Applied, redis7: RedisServer, tmp_path: Path
    ) -> None:
        """Stock Feast's pattern for the keys of `demo` also matches those of `prod_demo`."""
        repo = demo.open(tmp_path, redis7)
        if given == "strict":  # what Feast itself refuses
            repo.config["online_store"]["read_command"] = "hmget"
            repo.write_config()
        config: Any = {**repo.config, "repo_path": str(tmp_path)}
        if given == "config":
            config = feast.RepoConfig(**config)
        arguments = {"config": config} if given in ("mapping", "config") else {}
        store = feastrs.FeatureStore(**arguments or {"repo_path": tmp_path})
        store.materialize(EARLY, LATE, ["driver_stats"])
        with repo.redis() as client:
            for key in list(client.scan_iter()):
                client.copy(key, key.removesuffix(b"demo") + b"prod_demo")
            store.teardown()
            left = list(client.scan_iter())
        assert len(left) == DRIVERS
        assert all(key.endswith(b"prod_demo") for key in left)

    @pytest.mark.parametrize("by_feast", [True, False])
    def test_a_view_that_is_applied_away_is_deleted_from_this_project(
        self, by_feast: bool, demo: Applied, redis7: RedisServer, tmp_path: Path
    ) -> None:
        repo = demo.open(tmp_path, redis7)
        store = repo.ours()
        store.materialize(EARLY, LATE, ["order_stats", "driver_stats"])
        whose = repo.stock() if by_feast else store
        orders = whose.get_feature_view("order_stats")
        with repo.redis() as client:
            before = len(list(client.scan_iter()))
            for key in list(client.scan_iter()):
                client.copy(key, key.removesuffix(b"demo") + b"prod_demo")
            store.apply([], objects_to_delete=[orders], partial=False)
            left = list(client.scan_iter())
        of_others = [key for key in left if key.endswith(b"prod_demo")]
        assert (len(of_others), len(left) - len(of_others)) == (before, DRIVERS)
        assert "order_stats" not in [view.name for view in store.list_feature_views()]

    def test_what_the_registry_gives_can_be_applied(self, demo: Applied, tmp_path: Path) -> None:
        store = demo.open(tmp_path).ours()
        given = [
            store.get_entity("driver"),
            store.get_feature_view("driver_stats"),
            store.get_data_source("driver_push"),
            store.get_feature_service("driver_service"),
            store.get_on_demand_feature_view(store.list_on_demand_feature_views()[0].name),
        ]
        before = store.list_all_feature_views()
        store.apply(given)
        store.apply(given[1])
        assert [view.name for view in store.list_all_feature_views()] == [v.name for v in before]

    def test_a_version_is_asked_for(self, repo: Repo) -> None:
        def refused(store: Any) -> type[Exception]:
            with pytest.raises(Exception, match="version") as caught:
                store.get_online_features(features=["driver_stats@v1:trips"], entity_rows=ROWS)
            return caught.type

        assert issubclass(refused(repo.ours()), refused(repo.stock()))

    def test_feasts_whole_interface_is_there(self, repo: Repo) -> None:
        # A project set for one context is Feast's own affair; the provider of embeddings is the
        # caller's.
        not_ours = {"set_current_project", "reset_current_project", "embedding_provider"}
        members = {name for name in dir(feast.FeatureStore) if not name.startswith("_")}
        missing = {name for name in members - not_ours if not hasattr(repo.ours(), name)}
        assert missing == set()


@pytest.mark.parametrize("is_mapping", [False, True], ids=["file", "mapping"])
def test_our_settings_are_kept_from_feast(is_mapping: bool, demo: Applied, tmp_path: Path) -> None:
    repo = demo.open(
        tmp_path,
        online_store={"online_statuses": "feast", "equal_timestamps": "skip"},
        settings={"materialization": {"max_memory_mb": 300}},
    )
    store = feastrs.FeatureStore(tmp_path, config=repo.config) if is_mapping else repo.ours()
    assert store.registry.get_entity("driver", "demo").name == "driver"
    assert store.provider is not None


def test_the_login_of_a_registry_is_not_printed(demo: Applied, tmp_path: Path) -> None:
    repo = demo.open(tmp_path)
    path = f"postgresql://someone:{SECRET}@db/feast"
    repo.config["registry"] = {"registry_type": "sql", "path": path}
    repo.write_config()
    config = repo.ours().config
    assert config.registry.path == path
    assert SECRET not in repr(config)
    assert SECRET not in repr(repo.ours())


# Each with `store` opened on a repo, in a process where feast can't be imported.
WITHOUT_FEAST: dict[str, Callable[[Repo], None]] = {
    "store.apply([])": lambda repo: None,
    "store.write_to_online_store('doubled', {})": lambda repo: None,
    "store.registry.list_permissions('demo')": lambda repo: None,
    "store.list_entities()": lambda repo: _with_sql_registry(repo),
    "store.list_batch_feature_views()": lambda repo: _with_sql_registry(repo),
    "store.get_project()": lambda repo: _with_sql_registry(repo),
    "store.refresh_registry()": lambda repo: _with_sql_registry(repo),
    "store.materialize_incremental(NOW)": lambda repo: _with_sql_registry(repo),
    "store.materialize_incremental(NOW, ['world'])": lambda repo: _with_other_store(repo),
    "store.get_online_features(['world:x'], [{}])": lambda repo: _with_sql_registry(repo),
}


def _with_sql_registry(repo: Repo) -> None:
    repo.config["registry"] = {"registry_type": "sql", "path": "sqlite:///nothing.db"}
    repo.write_config()


def _with_other_store(repo: Repo) -> None:
    repo.config["online_store"] = {"type": "dynamodb", "region": "nowhere"}
    repo.write_config()


def test_without_feast_the_extra_is_named(demo: Applied, tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from datetime import datetime
        sys.modules["feast"] = None
        import feastrs
        NOW = datetime(2024, 3, 2)
        for folder, call in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
            store = feastrs.FeatureStore(repo_path=folder)
            try:
                eval(call)
            except feastrs.errors.NeedsFeastError as error:
                print(call, "|", str(error).count("pip install 'feastrs[feast]'"), "|", error)
            else:
                print(call, "| raised nothing")
        """
    )
    arguments: list[str] = []
    for number, (call, change) in enumerate(WITHOUT_FEAST.items()):
        repo = demo.open(tmp_path / str(number))
        change(repo)
        arguments += [str(repo.folder), call]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(WITHOUT_FEAST)
    for line in lines:
        assert "| 1 |" in line, line
