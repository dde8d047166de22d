"""`feastrs.errors`: names of Feast, builtins of Python, and Feast's own classes where loaded."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import feastrs
from feastrs import errors
from testbed.plain import plain
from testbed.repo import Applied, Repo


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def repo(applied: Applied, tmp_path: Path) -> Repo:
    return applied.open(tmp_path)


FEAST_NAMES = [
    "DataSourceObjectNotFoundException",
    "EntityNotFoundException",
    "FeatureNameCollisionError",
    "FeatureServiceNotFoundException",
    "FeatureViewNotFoundException",
]


@pytest.mark.parametrize("name", FEAST_NAMES)
def test_feasts_names_are_there(name: str) -> None:
    ours = getattr(errors, name)
    assert issubclass(ours, Exception)
    assert issubclass(ours, errors.FeastrsError)


def test_feasts_own_classes_are_caught_where_feast_is_loaded(repo: Repo) -> None:
    import feast.errors as stock

    store = repo.ours()
    for kind, action in {
        "FeatureViewNotFoundException": lambda: store.get_feature_view("nope"),
        "EntityNotFoundException": lambda: store.get_entity("nope"),
        "FeatureServiceNotFoundException": lambda: store.get_feature_service("nope"),
        "DataSourceObjectNotFoundException": lambda: store.get_data_source("nope"),
    }.items():
        for classes in (stock, errors):
            with pytest.raises(getattr(classes, kind), match="nope"):
                action()


def test_ours_are_raised_where_feast_is_not_loaded(repo: Repo) -> None:
    code = """
        import sys
        import feastrs
        from feastrs import errors
        store = feastrs.FeatureStore(repo_path=sys.argv[1])
        try:
            store.get_online_features(["nope:x"], [{"driver_id": 1}])
        except errors.FeatureViewNotFoundException as error:
            assert isinstance(error, errors.FeastrsError)
            assert "nope" in str(error)
        else:
            raise SystemExit("nothing was raised")
        try:
            store.get_online_features(["v:nope"], [{"driver_id": 1}])
        except KeyError as error:
            assert "nope" in str(error)
        else:
            raise SystemExit("nothing was raised")
        assert "feast" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(repo.folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_errors_can_be_pickled(repo: Repo) -> None:
    """They cross process borders: multiprocessing, Airflow, Celery."""
    import pickle

    with pytest.raises(Exception, match="nope") as caught:
        repo.ours().get_feature_view("nope")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value)
    assert str(again) == str(caught.value)


def test_every_class_says_what_it_is_for() -> None:
    for name in dir(errors):
        item = getattr(errors, name)
        if isinstance(item, type) and issubclass(item, errors.FeastrsError):
            assert item.__doc__, name


def test_feast_only_calls_go_to_feast(repo: Repo) -> None:
    store = feastrs.FeatureStore(repo_path=str(repo.folder))
    with pytest.raises(AttributeError, match="no_such_method"):
        _ = store.no_such_method
    assert callable(store.get_historical_features)
