"""Requests made up from the server's own description: no 500, no hang, no answer that it does not
describe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feastrs.server import Limits, Server
from testbed.api import Api
from testbed.demo import NATIVE_VIEWS, make_demo
from testbed.http import ask
from testbed.repo import EARLY, LATE, Repo

EXAMPLES = 300


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("demo")
    repo = make_demo(folder / "definitions").open(folder / "repo")
    repo.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
    return repo


@pytest.fixture(scope="module")
def server(repo: Repo) -> Iterator[Server]:
    limits = Limits(request_timeout=20)
    with Server(repo.ours(), port=0, no_access_log=True, limits=limits) as server:
        yield server


@pytest.fixture(scope="module")
def api(repo: Repo, server: Server) -> Api:
    status, text = ask(server.url, "/openapi.json")
    assert status == 200
    views = repo.ours().list_all_feature_views()
    fields = [f"{view.name}:{feature.name}" for view in views for feature in view.features]
    services = [service.name for service in repo.ours().list_feature_services()]
    names = [view.name for view in views]
    words = {
        "features": fields,
        "feature_service": services,
        "feature_views": names,
        # What a function of the user's raises is a 500, as in Feast.
        "feature_view_name": NATIVE_VIEWS,
        "push_source_name": ["driver_push"],
    }
    keys = ["driver_id", "customer_id", "place_id", "event_timestamp", "conv_rate", "trips"]
    return Api(json.loads(text), words, keys)


@pytest.mark.parametrize(
    "path",
    [
        "/get-online-features",
        "/push",
        "/write-to-online-store",
        "/materialize",
        "/materialize-incremental",
    ],
)
@pytest.mark.timeout(600)
def test_made_up_requests_get_answers_that_are_described(
    path: str, api: Api, server: Server
) -> None:
    query = st.sampled_from(["", "?async=true", "?force=1", "?async=perhaps", "?%ff=&&=", "?async"])

    @settings(max_examples=EXAMPLES, deadline=timedelta(seconds=30))
    @given(body=api.bodies(path), query=query)
    def check(body: bytes, query: str) -> None:
        status, answer = ask(server.url, path + query, body)
        assert status != 500, answer
        assert status in api.statuses("post", path), answer
        _is_json(answer)

    check()
    assert ask(server.url, "/health")[0] == 200


def _is_json(answer: bytes) -> None:
    if answer:
        json.loads(answer, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def test_what_is_described_is_there(api: Api, server: Server) -> None:
    for method, path in api.operations():
        status, _ = ask(server.url, path, b"" if method == "post" else None)
        assert status in api.statuses(method, path), path
