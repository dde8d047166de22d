"""On-demand views through both doors: the user's function, given the same, gives the same."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.demo import DRIVERS, NATIVE_VIEWS
from testbed.doors import ask_both, difference, refuse_both
from testbed.on_demand import make_on_demand
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo


@pytest.fixture(scope="module")
def applied_views(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return make_on_demand(tmp_path_factory.mktemp("on_demand"))


@pytest.fixture(scope="module")
def repo(
    applied_views: Applied,
    either_store: RedisServer | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Repo:
    repo = applied_views.open(tmp_path_factory.mktemp("repo"), either_store)
    repo.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
    return repo


BONUS = [{"driver_id": 1000 + i, "bonus": i / 4} for i in range(DRIVERS + 2)]
DRIVER = [{"driver_id": row["driver_id"]} for row in BONUS]

REQUESTS: dict[str, tuple[list[str], list[dict[str, Any]]]] = {
    "python, stored and request data": (["plus:trips_plus", "plus:rate"], BONUS),
    "one of its features": (["plus:rate"], BONUS),
    "between stored features": (
        ["driver_stats:label", "plus:trips_plus", "driver_profile:age"],
        BONUS,
    ),
    "with an input that is asked for, too": (["driver_stats:trips", "plus:trips_plus"], BONUS),
    "pandas": (["shown:rate32", "shown:trips_doubled", "shown:text"], DRIVER),
    "both modes": (["shown:text", "plus:rate", "driver_stats:conv_rate"], BONUS),
    "one row, one at a time": (["single:trips_per_year", "single:pair"], DRIVER[1:2]),
    "request data alone": (["asked_only:bonus_squared"], BONUS),
    "an input schema": (["of_schema:next_level"], [{"level": 3}, {"level": 4}]),
    "request data that nobody needs": (["driver_stats:trips"], BONUS),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_values(name: str, repo: Repo) -> None:
    features, rows = REQUESTS[name]
    ask_both(repo, lambda store: store.get_online_features(features, rows).to_dict())


@pytest.mark.parametrize("name", REQUESTS)
def test_event_timestamps(name: str, repo: Repo) -> None:
    features, rows = REQUESTS[name]
    ask_both(
        repo,
        lambda store: store.get_online_features(features, rows).to_dict(
            include_event_timestamps=True
        ),
    )


POOL = [
    *("plus:trips_plus", "plus:rate", "asked_only:bonus_squared", "world:mood"),
    *("shown:rate32", "shown:trips_doubled", "shown:text"),
    *("driver_stats:trips", "driver_stats:conv_rate", "driver_stats:embedding"),
    *("driver_profile:age", "driver_profile:joined", "driver_profile:tags"),
]


@given(
    features=st.lists(st.sampled_from(POOL), min_size=1, unique=True),
    rows=st.lists(st.sampled_from(BONUS), min_size=1, max_size=5),
)
def test_any_mixture_of_stored_and_computed(
    features: list[str], rows: list[dict[str, Any]], repo: Repo
) -> None:
    answer = ask_both(repo, lambda store: store.get_online_features(features, rows).to_dict())
    assert list(answer) == ["driver_id", *(name.split(":")[1] for name in features)]


def test_columns_come_in_the_order_asked_for_inputs_hidden(repo: Repo) -> None:
    features = ["shown:text", "driver_stats:trips", "plus:rate", "plus:trips_plus"]
    response = repo.ours().get_online_features(features, BONUS)
    assert list(response.to_dict()) == ["driver_id", "text", "trips", "rate", "trips_plus"]
    assert response.feature_names == ["text", "trips", "rate", "trips_plus"]
    assert response.to_arrow().column_names == list(response.to_dict())
    assert response.statuses()["trips_plus"][-1] == "NULL_VALUE"


def test_a_service_with_on_demand_views(repo: Repo) -> None:
    """An aliased view, and views chosen from."""
    ask_both(
        repo,
        lambda store: store.get_online_features(
            store.get_feature_service("computed_service"), BONUS
        ).to_dict(),
    )
    full = repo.ours().get_online_features(
        repo.ours().get_feature_service("computed_service"), BONUS, full_feature_names=True
    )
    assert full.feature_names == [
        *("driver_profile__age", "extra__trips_plus"),
        *("shown__rate32", "shown__trips_doubled", "shown__text"),
    ]


def test_a_prepared_reader_runs_them_too(repo: Repo) -> None:
    reader = repo.ours().online_reader(["plus:rate", "driver_stats:trips"])
    assert reader.feature_names == ["rate", "trips"]
    again = repo.ours().get_online_features(["plus:rate", "driver_stats:trips"], BONUS)
    assert reader.read(BONUS).to_dict() == again.to_dict()


def test_coroutines_run_them_too(repo: Repo) -> None:
    store, ask = repo.ours(), ["plus:rate", "shown:text", "driver_stats:trips"]
    reader = store.online_reader(ask)

    async def both() -> Any:
        return await asyncio.gather(
            store.get_online_features_async(ask, BONUS, True, True), reader.read_async(BONUS)
        )

    full, short = asyncio.run(both())
    expected = store.get_online_features(ask, BONUS)
    assert difference(short.to_dict(), expected.to_dict()) is None
    assert list(full.to_dict().values()) == list(short.to_dict().values())
    assert full.feature_names == ["plus__rate", "shown__text", "driver_stats__trips"]
    assert full.view_versions() == {"driver_stats": 0}


def test_missing_request_data_is_named(repo: Repo) -> None:
    ours, stock = refuse_both(
        repo, lambda store: store.get_online_features(["plus:rate"], DRIVER).to_dict()
    )
    assert isinstance(ours, type(stock))
    assert "'bonus'" in str(ours)


def test_an_unknown_computed_feature(repo: Repo) -> None:
    ours, stock = refuse_both(
        repo, lambda store: store.get_online_features(["plus:nope"], BONUS).to_dict()
    )
    assert isinstance(ours, type(stock))


def test_what_a_function_raises_comes_through(repo: Repo) -> None:
    rows = [{"driver_id": 1001, "bonus": "much"}]
    ours, stock = refuse_both(
        repo, lambda store: store.get_online_features(["plus:trips_plus"], rows).to_dict()
    )
    assert type(ours) is type(stock)


def test_a_stored_on_demand_view_is_read_as_stored(repo: Repo) -> None:
    store = repo.stock()
    store.write_to_online_store("kept", _ages(), transform_on_write=True)
    ask_both(
        repo,
        lambda store: store.get_online_features(
            ["kept:age_tripled", "driver_profile:age"], DRIVER
        ).to_dict(),
    )
    answer = repo.ours().get_online_features(["kept:age_tripled"], DRIVER[:1]).to_dict()
    assert answer["age_tripled"] == [60]


def _ages() -> Any:
    import pandas as pd

    return pd.DataFrame(
        {
            "driver_id": [1000, 1001],
            "age": [20, 21],
            "event_timestamp": pd.to_datetime(["2024-05-01"] * 2, utc=True),
        }
    )


def test_a_request_without_them_does_not_import_feast(repo: Repo) -> None:
    code = f"""
import sys, feastrs
store = feastrs.FeatureStore({str(repo.folder)!r})
store.get_online_features(["driver_stats:trips"], [{{"driver_id": 1001}}]).to_dict()
assert "feast" not in sys.modules
sys.modules["feast"] = None
try:
    store.get_online_features(["plus:rate"], [{{"driver_id": 1001, "bonus": 1.0}}])
except feastrs.errors.NeedsFeastError as error:
    assert "pip install 'feastrs[feast]'" in str(error), error
else:
    raise SystemExit("no error")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


# -- differences from Feast ---------------------------------------------------------------------


def test_a_singleton_function_runs_for_each_row(repo: Repo) -> None:
    """Feast gives it the first row, and one value for all."""
    ask = ["single:trips_per_year", "single:pair"]
    together = repo.ours().get_online_features(ask, DRIVER).to_dict()
    for position, row in enumerate(DRIVER):
        alone = repo.stock().get_online_features(ask, [row]).to_dict()
        ours = {name: [values[position]] for name, values in together.items()}
        assert difference(ours, alone) is None


def test_full_names_change_no_computed_value(repo: Repo) -> None:
    """Feast leaves out what Python functions compute, and infers the types of the rest."""
    ask = ["plus:rate", "shown:trips_doubled", "driver_stats:trips", "single:pair"]
    short = repo.ours().get_online_features(ask, BONUS).to_dict()
    full = repo.ours().get_online_features(ask, BONUS, full_feature_names=True).to_dict()
    assert list(full) == ["driver_id", *(name.replace(":", "__") for name in ask)]
    assert difference(list(full.values()), list(short.values())) is None


def test_inputs_of_one_name_from_two_views_stay_apart(repo: Repo) -> None:
    """Feast gives both the values of one of them."""
    ask = ["merged:age_gap", "driver_profile:age"]
    answer = repo.ours().get_online_features(ask, DRIVER).to_dict()
    pushed = repo.ours().get_online_features(["pushed_stats:age"], DRIVER).to_dict()["age"]
    expected = [
        None if age is None else 10 * age - other
        for age, other in zip(answer["age"], pushed, strict=True)
    ]
    assert answer["age_gap"] == expected


def test_a_function_must_give_a_value_for_each_row(repo: Repo) -> None:
    import feast.on_demand_feature_view

    from feastrs import on_demand

    result = repo.ours()._native.get_online_features(["plus:rate"], BONUS)
    [(name, definition, _)] = result.on_demand
    view = on_demand.view(name, definition)
    assert isinstance(view, feast.on_demand_feature_view.OnDemandFeatureView)
    with pytest.raises(TypeError, match=r"'plus' gave 1 values of 'rate' for 22 rows"):
        result.with_computed([[[b""]]])
