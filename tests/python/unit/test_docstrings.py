"""The examples of docstrings, run. `store` is the example repository, materialized."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import shutil
from datetime import datetime, timezone
from pathlib import Path

import pytest

import feastrs

ROOT = Path(__file__).parents[3]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(feastrs.__path__, "feastrs.")
    if module.name != "feastrs.__main__"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> feastrs.FeatureStore:
    folder = tmp_path_factory.mktemp("example") / "driver_stats"
    shutil.copytree(ROOT / "examples" / "driver_stats", folder)
    store = feastrs.FeatureStore(repo_path=str(folder))
    store.materialize(
        start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
        end_date=datetime(2026, 2, 1, tzinfo=timezone.utc),
    )
    return store


@pytest.mark.parametrize("name", ["feastrs", *MODULES])
def test_examples(name: str, store: feastrs.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # examples name files as a reader of the clone would
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"store": store})
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples, see above"
