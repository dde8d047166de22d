"""Forms of an answer that Feast's class has: its message, tensors, pickles, versions."""

from __future__ import annotations

import copy
import pickle
import sys
import types
from typing import Any

import pytest

from testbed.demo import DRIVERS, NATIVE_VIEWS
from testbed.doors import difference
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo

FEATURES = [
    *("driver_stats:trips", "driver_stats:label", "driver_stats:embedding"),
    *("driver_profile:joined", "driver_profile:tags", "order_stats:total", "world:mood"),
]
ROWS = [{"driver_id": 1000 + i, "customer_id": f"c{i % 3}"} for i in range(DRIVERS + 2)]


@pytest.fixture(scope="module")
def repo(
    demo: Applied, either_store: RedisServer | None, tmp_path_factory: pytest.TempPathFactory
) -> Repo:
    repo = demo.open(
        tmp_path_factory.mktemp("repo"), either_store, online_store={"online_statuses": "feast"}
    )
    stock = demo.open(tmp_path_factory.mktemp("stock"), either_store)
    for one in (stock, repo):
        one.ours().materialize(EARLY, LATE, NATIVE_VIEWS)
    repo._stock = stock.stock()  # the same rows, for our setting is unknown to Feast
    return repo


def columns(proto: Any) -> dict[str, Any]:
    """The message by column: Feast's order differs from run to run."""
    return dict(zip(proto.metadata.feature_names.val, proto.results, strict=True))


@pytest.mark.parametrize("full_feature_names", [False, True])
def test_proto_is_feasts_message(repo: Repo, full_feature_names: bool) -> None:
    ask = (FEATURES, ROWS, full_feature_names)
    ours = repo.ours().get_online_features(*ask).proto
    stock = repo.stock().get_online_features(*ask).proto
    assert type(ours) is type(stock)
    assert columns(ours) == columns(stock)
    assert list(ours.metadata.feature_view_metadata) == []


def test_proto_is_made_once(repo: Repo) -> None:
    response = repo.ours().get_online_features(FEATURES, ROWS)
    assert response.proto is response.proto


def test_version_metadata_is_in_the_message(repo: Repo) -> None:
    ask = {"include_feature_view_version_metadata": True}
    for service in (None, "route_service"):
        features = FEATURES if service is None else repo.stock().get_feature_service(service)
        rows = ROWS if service is None else [{"origin_id": 1, "target_id": 2}]
        full = service is not None
        ours = repo.ours().get_online_features(features, rows, full, **ask)
        stock = repo.stock().get_online_features(features, rows, full, **ask)

        def by_view(response: Any) -> dict[str, int]:
            return {one.name: one.version for one in response.proto.metadata.feature_view_metadata}

        assert by_view(ours) == by_view(stock) == ours.view_versions()
        assert repo.ours().get_online_features(features, rows, full).view_versions() == {}


def test_a_response_can_be_pickled(repo: Repo) -> None:
    response = repo.ours().get_online_features(
        FEATURES, ROWS, include_feature_view_version_metadata=True
    )
    for again in (pickle.loads(pickle.dumps(response)), copy.deepcopy(response)):
        assert difference(again.to_dict(True), response.to_dict(True)) is None
        assert again.statuses() == response.statuses()
        assert again.feature_names == response.feature_names
        assert again.view_versions() == response.view_versions() != {}
        assert again.to_arrow().equals(response.to_arrow())
        assert again.proto == response.proto


class Torch(types.ModuleType):
    """Stands in for PyTorch, which is not installed here."""

    def __init__(self) -> None:
        super().__init__("torch")
        self.cuda = types.SimpleNamespace(is_available=lambda: False)

    def tensor(self, values: list[Any], device: str) -> tuple[str, list[Any], str]:
        if any(not isinstance(value, (int, float)) for value in values):
            raise TypeError("not a number")
        return ("tensor", values, device)


def test_tensors(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = Torch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr("feast.online_response.get_torch", lambda: torch)
    for options in ({}, {"default_value": -1}, {"kind": "torch", "default_value": 0.5}):
        ours = repo.ours().get_online_features(FEATURES, ROWS).to_tensor(**options)
        stock = repo.stock().get_online_features(FEATURES, ROWS).to_tensor(**options)
        assert difference(ours, stock) is None
    for store in (repo.ours(), repo.stock()):
        response = store.get_online_features(FEATURES, ROWS)
        with pytest.raises(ValueError, match="'torch'"):
            response.to_tensor(kind="tf")
        with pytest.raises(ValueError, match="tensor"):
            response.to_tensor(default_value="none")


def test_tensors_need_torch(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'feastrs\[torch\]'"):
        repo.ours().get_online_features(FEATURES, ROWS).to_tensor()
