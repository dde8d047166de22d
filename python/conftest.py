"""Runs the examples of docstrings as tests: `store` is the example repository, materialized."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def in_the_root_of_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples name files as a reader of the clone would."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(autouse=True)
def store_by_name(doctest_namespace: dict[str, Any], example_store: Any) -> None:
    """Puts the example's store where examples find it."""
    doctest_namespace["store"] = example_store


@pytest.fixture(scope="session")
def example_store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the example, materialized into SQLite."""
    import feastrs

    folder = tmp_path_factory.mktemp("example") / "driver_stats"
    shutil.copytree(ROOT / "examples" / "driver_stats", folder)
    store = feastrs.FeatureStore(repo_path=str(folder))
    store.materialize(
        start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
        end_date=datetime(2026, 2, 1, tzinfo=timezone.utc),
    )
    return store
