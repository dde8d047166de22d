"""The example of the first page: feastrs and stock Feast agree on it, and its demo runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import feast

import feastrs
from testbed.doors import difference
from testbed.dump import assert_same_sqlite

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "driver_stats"
WINDOW = (datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2026, 2, 1, tzinfo=timezone.utc))
ROWS = [{"driver_id": driver_id} for driver_id in (1001, 1002, 1742, 3000, 9)]


def copy_of_the_example(folder: Path) -> str:
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("*.py", "online.db*"))
    return str(folder)


def stock_store(folder: str) -> feast.FeatureStore:
    store = feast.FeatureStore(repo_path=folder)
    store._get_provider().update_infra(  # the tables that `feast apply` makes
        store.project, [], store.list_feature_views(), [], store.list_entities(), partial=False
    )
    return store


def ask(store: Any) -> dict[str, list[Any]]:
    service = store.get_feature_service("trip_pricing")
    answer: dict[str, list[Any]] = store.get_online_features(service, ROWS).to_dict()
    return answer


def test_stock_feast_agrees(tmp_path: Path) -> None:
    stock = stock_store(copy_of_the_example(tmp_path / "stock"))
    stock.materialize(*WINDOW)
    ours = feastrs.FeatureStore(repo_path=copy_of_the_example(tmp_path / "ours"))
    ours.materialize(*WINDOW)

    assert difference(ask(ours), ask(stock)) is None
    assert_same_sqlite(*(tmp_path / door / "data" / "online.db" for door in ("ours", "stock")))


def test_the_registry_names_no_path_of_the_machine_that_made_it() -> None:
    registry = (EXAMPLE / "data" / "registry.db").read_bytes()
    assert b"online.db" not in registry
    assert b"/data/" not in registry


def test_the_demo_prints_features_and_leaves_the_clone_clean() -> None:
    before = {path: path.read_bytes() for path in EXAMPLE.rglob("*") if path.is_file()}
    done = subprocess.run(
        [sys.executable, EXAMPLE / "demo.py"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Göteborg" in done.stdout
    after = {path: path.read_bytes() for path in EXAMPLE.rglob("*") if path.is_file()}
    assert after == before
