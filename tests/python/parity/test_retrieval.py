"""`get_online_features` through both doors: the same values, or an error that users catch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import feast
import pytest

from testbed.demo import DRIVERS, NATIVE_VIEWS
from testbed.doors import ask_both, difference, refuse_both
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo


@pytest.fixture(scope="module")
def repo(
    demo: Applied, any_server: RedisServer | None, tmp_path_factory: pytest.TempPathFactory
) -> Repo:
    repo = demo.open(tmp_path_factory.mktemp("repo"), any_server)
    repo.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
    return repo


@pytest.fixture(params=["ours", "plugged"])
def door(request: pytest.FixtureRequest) -> str:
    """`feastrs.FeatureStore`, and stock Feast with our online store."""
    return str(request.param)


ALL_DRIVERS = [{"driver_id": 1000 + i} for i in range(DRIVERS + 2)]
STATS = ["conv_rate", "acc_rate", "trips", "label", "embedding"]
PROFILE = ["age", "vip", "joined", "tags"]

REQUESTS: dict[str, tuple[list[str], Any]] = {
    "one feature": (["driver_stats:trips"], ALL_DRIVERS),
    "a whole view": ([f"driver_stats:{name}" for name in STATS], ALL_DRIVERS),
    "two views of one hash": (
        [f"driver_stats:{name}" for name in STATS] + [f"driver_profile:{name}" for name in PROFILE],
        ALL_DRIVERS,
    ),
    "interleaved": (
        ["driver_profile:age", "driver_stats:trips", "driver_profile:vip", "driver_stats:label"],
        ALL_DRIVERS,
    ),
    "repeated rows": (["driver_stats:trips"], [{"driver_id": 1001}] * 3 + [{"driver_id": 1002}]),
    "columns": (["driver_stats:trips"], {"driver_id": [1003, 1001, 1003]}),
    "composite key": (
        ["order_stats:total", "order_stats:orders"],
        [{"customer_id": f"c{i % 4}", "driver_id": 1000 + i} for i in range(12)],
    ),
    "three kinds of views": (
        ["order_stats:total", "driver_stats:trips", "world:mood"],
        [{"customer_id": "c1", "driver_id": 1000 + i} for i in range(3)],
    ),
    "no entity": (["world:mood"], [{"anything": 1}, {"anything": 2}]),
    "more columns than needed": (["driver_stats:trips"], [{"driver_id": 1001, "other": "x"}]),
    "nulls where no view looks": (
        ["driver_stats:trips"],
        [{"driver_id": 1001, "customer_id": None}, {"driver_id": 1002, "customer_id": "c1"}],
    ),
    "only nulls where no view looks": (
        ["driver_stats:trips"],
        [{"driver_id": 1001, "customer_id": None}],
    ),
    "nobody is there": (["driver_stats:trips", "driver_profile:tags"], [{"driver_id": -1}]),
}


@pytest.mark.parametrize("name", REQUESTS)
class TestRequest:
    def test_values(self, name: str, repo: Repo, door: str) -> None:
        features, rows = REQUESTS[name]
        ask_both(repo, lambda store: store.get_online_features(features, rows).to_dict(), door)

    def test_full_feature_names(self, name: str, repo: Repo, door: str) -> None:
        features, rows = REQUESTS[name]
        ask_both(
            repo,
            lambda store: store.get_online_features(
                features, rows, full_feature_names=True
            ).to_dict(),
            door,
        )

    def test_event_timestamps(self, name: str, repo: Repo, door: str) -> None:
        features, rows = REQUESTS[name]
        ask_both(
            repo,
            lambda store: store.get_online_features(features, rows).to_dict(
                include_event_timestamps=True
            ),
            door,
        )

    def test_data_frame(self, name: str, repo: Repo, door: str) -> None:
        import pandas as pd

        features, rows = REQUESTS[name]
        stock = repo.stock().get_online_features(features, rows).to_df()
        ours = getattr(repo, door)().get_online_features(features, rows).to_df()
        pd.testing.assert_frame_equal(ours[sorted(ours)], stock[sorted(stock)])


def service_rows(name: str) -> list[dict[str, Any]]:
    if name == "driver_service":
        return ALL_DRIVERS
    return [{"origin_id": 1, "target_id": 3}, {"origin_id": 2, "target_id": 2}]


@pytest.mark.parametrize("name", ["driver_service", "route_service"])
def test_services(name: str, repo: Repo, door: str) -> None:
    """Chosen features, aliases, join-key maps; the service taken from either registry."""
    rows = service_rows(name)
    stock = repo.stock().get_online_features(
        repo.stock().get_feature_service(name), rows, full_feature_names=True
    )
    for service in (
        repo.stock().get_feature_service(name),
        getattr(repo, door)().get_feature_service(name),
    ):
        ours = getattr(repo, door)().get_online_features(service, rows, full_feature_names=True)
        assert difference(ours.to_dict(), stock.to_dict()) is None


def test_short_names_of_a_service(repo: Repo, door: str) -> None:
    ask_both(
        repo,
        lambda store: store.get_online_features(
            store.get_feature_service("driver_service"), ALL_DRIVERS
        ).to_dict(),
        door,
    )


@pytest.mark.filterwarnings("ignore:.*(deprecated|join key).*")
@pytest.mark.parametrize("names", [("driver", "driver_id"), ("driver_id", "driver")])
def test_an_entitys_name_beside_its_join_key(names: tuple[str, str], repo: Repo, door: str) -> None:
    rows = [dict(zip(names, (1001, 1002), strict=True))]
    ask_both(
        repo,
        lambda store: store.get_online_features(["driver_stats:trips"], rows).to_dict(),
        door,
    )


@pytest.mark.parametrize("values", [5, None, iter([1001])], ids=repr)
def test_what_is_no_column_of_values_is_named(values: Any, repo: Repo, door: str) -> None:
    with pytest.raises(TypeError, match="'driver_id'"):
        getattr(repo, door)().get_online_features(["driver_stats:trips"], {"driver_id": values})


def test_a_service_that_was_never_applied(repo: Repo, door: str) -> None:
    """Feast takes the projections from the object it is given only if it is registered."""
    view = repo.stock().get_feature_view("driver_stats")
    service = feast.FeatureService(name="unknown", features=[view[["trips"]]])
    refuse_both(repo, lambda store: store.get_online_features(service, ALL_DRIVERS).to_dict(), door)


REFUSED: dict[str, Callable[[Any], Any]] = {
    "unknown view": lambda s: s.get_online_features(["nope:x"], [{"driver_id": 1}]),
    "unknown feature": lambda s: s.get_online_features(["world:nope"], [{"driver_id": 1}]),
    "missing join key": lambda s: s.get_online_features(
        ["driver_stats:trips"], [{"customer_id": "c1"}]
    ),
    "rows of other keys": lambda s: s.get_online_features(
        ["driver_stats:trips"], [{"driver_id": 1}, {"customer_id": "c1"}]
    ),
    "unequal columns": lambda s: s.get_online_features(
        ["driver_stats:trips"], {"driver_id": [1, 2], "customer_id": ["c1"]}
    ),
    "same feature twice": lambda s: s.get_online_features(
        ["driver_stats:trips", "driver_stats:trips"], [{"driver_id": 1}]
    ),
    "same name twice": lambda s: s.get_online_features(
        ["driver_profile:age", "pushed_stats:age"], [{"driver_id": 1}]
    ),
    "alias collision": lambda s: s.get_online_features(
        s.get_feature_service("route_service"), [{"origin_id": 1, "target_id": 3}]
    ),
    "no colon": lambda s: s.get_online_features(["driver_stats"], [{"driver_id": 1}]),
    "no features": lambda s: s.get_online_features([], [{"driver_id": 1}]),
    "unknown service object": lambda s: s.get_feature_service("nope"),
    "unknown entity object": lambda s: s.get_entity("nope"),
    "unknown view object": lambda s: s.get_feature_view("nope"),
    "unknown source object": lambda s: s.get_data_source("nope"),
    "materialize backwards": lambda s: s.materialize(LATE, EARLY),
    "materialize an unknown view": lambda s: s.materialize(EARLY, LATE, feature_views=["nope"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, repo: Repo, door: str) -> None:
    """An `except` for stock's class catches ours; where ours is another, it is a builtin."""
    ours, stock = refuse_both(repo, REFUSED[name], door)
    assert isinstance(ours, type(stock)), (type(ours).__mro__, stock)


def test_same_name_twice_is_fine_with_full_names(repo: Repo, door: str) -> None:
    ask_both(
        repo,
        lambda store: store.get_online_features(
            ["driver_profile:age", "pushed_stats:age"], ALL_DRIVERS, full_feature_names=True
        ).to_dict(),
        door,
    )


class TestGates:
    """Views that may not serve are refused, in the states that Feast knows."""

    @pytest.fixture
    def gated(self, demo: Applied, tmp_path: Path) -> Repo:
        repo = demo.open(tmp_path / "repo")
        repo.stock().materialize(EARLY, LATE, ["driver_stats", "driver_profile"])
        return repo

    def ask(self, store: Any) -> Any:
        return store.get_online_features(["driver_stats:trips"], ALL_DRIVERS).to_dict()

    def test_disabled(self, gated: Repo) -> None:
        gated.stock().disable_feature_view("driver_stats")
        gated.ours().refresh_registry()
        ours, stock = refuse_both(gated, self.ask)
        assert isinstance(ours, type(stock))
        assert "disabled" in str(ours)
        gated.stock().enable_feature_view("driver_stats")
        gated.ours().refresh_registry()
        ask_both(gated, self.ask)

    @pytest.mark.parametrize("state", ["CREATED", "GENERATED", "MATERIALIZING"])
    def test_states(self, state: str, gated: Repo, tmp_path: Path) -> None:
        from feast.feature_view import FeatureViewState

        with_state(gated, FeatureViewState[state])
        ours, stock = refuse_both(gated, self.ask)
        assert isinstance(ours, type(stock))
        assert state in str(ours)

        settings = {"path": str(gated.registry_path), "serve_features_while_materializing": True}
        online = {**gated.config["online_store"], "path": str(gated.sqlite_path)}
        (tmp_path / "serving").mkdir()
        config = {**gated.config, "registry": settings, "online_store": online}
        serving = Repo(tmp_path / "serving", config)
        if state == "MATERIALIZING":
            ask_both(serving, self.ask)
        else:
            refuse_both(serving, self.ask)


def with_state(repo: Repo, state: Any) -> None:
    """Writes a state of `driver_stats` to the registry, as an interrupted run leaves it."""
    from feast.protos.feast.core.Registry_pb2 import Registry

    registry = Registry()
    registry.ParseFromString(repo.registry_path.read_bytes())
    for view in registry.feature_views:
        if view.spec.name == "driver_stats":
            view.meta.state = state.to_proto()
    repo.registry_path.write_bytes(registry.SerializeToString())
    repo.ours().refresh_registry()
    repo.stock().refresh_registry()


def test_stream_feature_views(redis7: RedisServer, tmp_path: Path) -> None:
    """By their own entity columns and features; rows come by `push`."""
    from datetime import timedelta

    import pandas as pd
    from feast import Entity, Field, KafkaSource, StreamFeatureView, ValueType
    from feast.data_format import JsonFormat
    from feast.types import Float64, Int64

    from testbed.repo import apply, file_source

    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        view = StreamFeatureView(
            name="stream",
            entities=[driver],
            ttl=timedelta(days=1),
            schema=[Field(name="driver_id", dtype=Int64), Field(name="x", dtype=Float64)],
            source=KafkaSource(
                name="rides",
                kafka_bootstrap_servers="localhost:1",
                topic="rides",
                timestamp_field="event_timestamp",
                message_format=JsonFormat("driver_id integer"),
                batch_source=file_source(tmp_path / "none.parquet", name="batch"),
            ),
        )
    service = feast.FeatureService(
        name="streamed", features=[view.with_name("fast").with_join_key_map({"driver_id": "who"})]
    )
    repo = apply(tmp_path / "applied", [driver, view, service]).open(tmp_path / "repo", redis7)
    rows = pd.DataFrame({"driver_id": [1, 2], "x": [0.5, None], "event_timestamp": [LATE, LATE]})
    repo.stock().write_to_online_store("stream", rows)

    ask_both(
        repo,
        lambda store: store.get_online_features(
            ["stream:x"], [{"driver_id": driver} for driver in (2, 1, 3)]
        ).to_dict(include_event_timestamps=True),
    )
    ask_both(
        repo,
        lambda store: store.get_online_features(
            store.get_feature_service("streamed"), {"who": [1, 2]}, full_feature_names=True
        ).to_dict(),
    )
