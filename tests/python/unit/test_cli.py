"""The command line: what it prints, as text and as JSON, and how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testbed.demo import NATIVE_VIEWS
from testbed.repo import EARLY, LATE, Applied, Repo


def cli(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "feastrs", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
        check=False,
    )


def json_of(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_version() -> None:
    import feastrs

    done = cli("version")
    assert done.returncode == 0, done.stderr
    assert feastrs.__version__ in done.stdout


def test_help_names_every_command() -> None:
    done = cli("--help")
    assert done.returncode == 0
    for command in (
        "materialize",
        "materialize-incremental",
        "compact-intervals",
        "get-online-features",
        "serve",
        "verify",
        "feature-views",
        "entities",
        "feature-services",
        "version",
    ):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("entities", ["driver", "customer", "place"]),
        ("feature-views", [*NATIVE_VIEWS, "doubled"]),
        ("feature-services", ["driver_service", "route_service"]),
    ],
)
def test_lists(command: str, names: list[str], repo: Repo) -> None:
    text = cli("-c", str(repo.folder), command, "list")
    assert text.returncode == 0, text.stderr
    for name in names:
        assert name in text.stdout

    listed = json_of(cli("-c", str(repo.folder), command, "list", "--json"))
    assert set(names) <= {item["name"] for item in listed}


def test_chdir_and_yaml_file(repo: Repo) -> None:
    assert cli("entities", "list", cwd=repo.folder).returncode == 0
    assert cli("--chdir", str(repo.folder), "entities", "list").returncode == 0
    yaml_file = str(repo.folder / "feature_store.yaml")
    assert cli("-f", yaml_file, "entities", "list", cwd=repo.folder).returncode == 0


def test_get_online_features(repo: Repo) -> None:
    arguments = (
        *("-c", str(repo.folder), "get-online-features"),
        *("-e", "driver_id=1001", "-e", "driver_id=1"),
        *("-f", "driver_stats:trips", "-f", "driver_stats:label"),
    )
    text = cli(*arguments)
    assert text.returncode == 0, text.stderr
    assert "41" in text.stdout
    assert "dř-41" in text.stdout

    answer = json_of(cli(*arguments, "--json"))
    assert "41" in json.dumps(answer)


def test_materialize(demo: Applied, tmp_path: Path) -> None:
    repo = demo.open(tmp_path)
    done = cli(
        *("-c", str(tmp_path), "materialize"),
        *("2000-01-01T00:00:00", "2040-01-01T00:00:00", "-v", "driver_stats", "-v", "world"),
    )
    assert done.returncode == 0, done.stderr
    assert "driver_stats" in done.stdout + done.stderr
    store = repo.stock()
    assert store.get_feature_view("driver_stats").materialization_intervals == [(EARLY, LATE)]
    assert store.get_feature_view("world").materialization_intervals == [(EARLY, LATE)]
    assert store.get_feature_view("driver_profile").materialization_intervals == []


def test_materialize_incremental(demo: Applied, tmp_path: Path) -> None:
    repo = demo.open(tmp_path)
    done = cli(
        "-c", str(tmp_path), "materialize-incremental", "2026-01-01T00:00:00", "-v", "driver_stats"
    )
    assert done.returncode == 0, done.stderr
    assert len(repo.stock().get_feature_view("driver_stats").materialization_intervals) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("materialize", "yesterday", "2024-01-01T00:00:00"),
        ("materialize", "2024-01-01T00:00:00"),
        ("materialize", "2024-01-01T00:00:00", "2024-01-02T00:00:00", "-v", "nope"),
        ("get-online-features", "-e", "driver_id=1", "-f", "nope:x"),
        ("get-online-features", "-e", "driver_id", "-f", "driver_stats:trips"),
        ("get-online-features", "-e", "driver_id=x", "-f", "driver_stats:trips"),
    ],
)
def test_failures_say_why_and_exit_with_a_code(arguments: tuple[str, ...], repo: Repo) -> None:
    done = cli("-c", str(repo.folder), *arguments)
    assert done.returncode != 0
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_no_repo(tmp_path: Path) -> None:
    done = cli("-c", str(tmp_path), "entities", "list")
    assert done.returncode != 0
    assert "feature_store.yaml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("redirection", "code"), [(">&-", 0), (">/dev/full", 1), ("| true", 0)], ids=str
)
def test_what_becomes_of_output_that_goes_nowhere(redirection: str, code: int, repo: Repo) -> None:
    command = f"{sys.executable} -m feastrs -c '{repo.folder}' entities list {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "NoneType" not in done.stderr
