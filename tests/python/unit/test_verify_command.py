"""`feastrs verify`: what it prints, and how it exits."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

import feastrs
from testbed.corruption import AT, VIEW, drivers, online_rows
from testbed.demo import NATIVE_VIEWS, make_demo
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Repo

COUNT = 200


@pytest.fixture
def repo(either_store: RedisServer | None, tmp_path: Path) -> Repo:
    repo = drivers(tmp_path / "own", COUNT).open(tmp_path / "repo", either_store)
    repo.ours().materialize(EARLY, LATE)
    return repo


@pytest.fixture
def wrong(repo: Repo) -> Repo:
    """Two rows missing, one different, one unreadable."""
    with online_rows(repo) as rows:
        rows.drop_row(1)
        rows.drop_row(2)
        rows.drop(3, "name")
        rows.spoil_time(4)
    return repo


def verify(repo: Repo, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "feastrs", "-c", str(repo.folder), "verify", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_clean(repo: Repo) -> None:
    done = verify(repo)
    assert done.returncode == 0, done.stderr
    header, row, last = done.stdout.splitlines()
    assert header.split()[:4] == ["VIEW", "ROWS", "ENTITIES", "COMPARED"]
    assert row.split()[:5] == [VIEW, str(2 * COUNT), str(COUNT), str(COUNT), str(COUNT)]
    assert last == "clean"


def test_findings(wrong: Repo) -> None:
    done = verify(wrong, "-v", VIEW, "--all")
    assert done.returncode == 1, done.stderr
    assert f"FOUND {VIEW}: 2 of 200 rows (1.00%) are missing, 0.00% may be" in done.stdout
    assert "driver_id=1 of 2024-05-01T08:00:01+00:00 is missing" in done.stdout
    assert "name: 'driver 3' in the source, absent online" in done.stdout
    assert "is unreadable: " in done.stdout


def test_findings_that_may_be(wrong: Repo) -> None:
    allowed = ("--max-missing", "0.01", "--max-different", "0.005")
    done = verify(wrong, *allowed)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "clean enough"
    assert verify(wrong, "--max-missing", "0.009", *allowed[2:]).returncode == 1


def test_drift(repo: Repo) -> None:
    rows = {"driver_id": list(range(100)), "event_timestamp": [AT + timedelta(days=1)] * 100}
    values = {"x": [0.0] * 100, "n": [1] * 100, "name": ["a"] * 100}
    repo.ours().write_to_online_store(VIEW, pd.DataFrame(rows | values))
    assert verify(repo).returncode == 0
    done = verify(repo, "--max-psi", "0.25")
    assert done.returncode == 1
    assert "the values of x have drifted: PSI " in done.stdout
    assert "MEAN ONLINE" in done.stdout


def test_json(wrong: Repo, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    done = verify(wrong, "--json", str(path), "--sample", "200", "--seed", "3")
    assert done.returncode == 1
    assert "FOUND" in done.stdout
    report = json.loads(path.read_text())
    assert (report["is_clean"], report["sample"], report["seed"]) == (False, 200, 3)
    (view,) = report["views"]
    assert (view["missing"], view["missing_share"], view["matching"]) == (2, 0.01, 196)
    assert {one["feature"]: one["different"] for one in view["features"]}["name"] == 1
    assert len(report["excesses"]) == 3

    printed = json.loads(verify(wrong, "--json", "-", "--seed", "3").stdout)
    assert printed["views"][0]["examples"] == view["examples"]


def test_failures(repo: Repo) -> None:
    assert verify(repo, "-v", "nope").returncode == 2
    (repo.folder / ".." / "own" / "drivers.parquet").unlink()
    done = verify(repo)
    assert done.returncode == 2
    assert "drivers: failed" in done.stdout
    assert "no file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sample", "0"),
        ("--sample", "5", "--all"),
        ("--max-missing", "2"),
        ("--start", "yesterday"),
        ("--start", "2024-01-02", "--end", "2024-01-01"),
        ("--examples", "-1"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    repo = Repo(tmp_path, {"project": "p", "registry": "registry.db", "provider": "local"})
    done = verify(repo, *arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_only_feast_materializes_is_skipped_unless_it_is_named(tmp_path: Path) -> None:
    repo = make_demo(tmp_path / "demo").open(tmp_path / "repo")
    repo.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)

    report = repo.ours().verify_online()

    assert {view.view for view in report.views} == set(NATIVE_VIEWS)
    assert report.is_clean, report
    for name in report.skipped:
        with pytest.raises(feastrs.errors.NeedsFeastError, match=name):
            repo.ours().verify_online([name])


def test_the_report_in_other_forms(wrong: Repo) -> None:
    report = wrong.ours().verify_online()

    assert pickle.loads(pickle.dumps(report)) == report
    assert repr(report).startswith("<VerificationReport: not clean>\ndrivers: 200 of 200 entities")
    views = report.to_df()
    assert views["missing"].tolist() == [2]
    assert views["missing_share"].tolist() == [0.01]
    features = report.to_df("features").set_index("feature")
    assert features.loc["name", "different"] == 1
    assert features.loc["x", "absent"] == 0
    examples = report.to_df("examples")
    assert sorted(examples["status"]) == ["different", "missing", "missing", "unreadable"]
    assert examples["source_time"].min() > AT
    assert features.loc["x", "source_mean"] > 0
    assert features.loc["x", "psi"] == 0
    with pytest.raises(ValueError, match="'features'"):
        report.to_df("rows")
    error = feastrs.VerificationError.of(
        feastrs.VerificationReport(failures={"v": ValueError("no")})
    )
    assert str(pickle.loads(pickle.dumps(error))) == "no"
