"""Verification of every value type: what stock Feast and feastrs materialized is found clean, and
a value of another row, where it is another, is not."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from feastrs import ViewVerification
from testbed.case_views import DRIVER, ROWS, fields_of, view_of
from testbed.dump import canonical
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo, apply
from testbed.values import CASES, MENDED


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    folder = tmp_path_factory.mktemp("values")
    return apply(folder / "applied", [DRIVER, *(view_of(case, folder) for case in CASES)])


@pytest.fixture(scope="module")
def all_applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    """Those that stock Feast can't materialize, too."""
    folder = tmp_path_factory.mktemp("all_values")
    views = [view_of(case, folder) for case in (*CASES, *MENDED)]
    return apply(folder / "applied", [DRIVER, *views])


def verified(repo: Repo) -> list[ViewVerification]:
    return repo.ours().verify_online(sample=None, examples=ROWS).views


def test_what_stock_feast_wrote_is_clean(
    applied: Applied, any_server: RedisServer | None, tmp_path: Path
) -> None:
    repo = applied.open(tmp_path, any_server)
    repo.stock().materialize(EARLY, LATE)

    views = verified(repo)

    assert len(views) == len(CASES)
    for view in views:
        assert view.matching == ROWS, str(view.examples)


def test_what_we_wrote_is_clean(
    all_applied: Applied, any_server: RedisServer | None, tmp_path: Path
) -> None:
    repo = all_applied.open(tmp_path, any_server)
    repo.ours().materialize(EARLY, LATE)

    for view in verified(repo):
        assert view.matching == ROWS, str(view.examples)


def test_a_value_of_another_row_is_found(
    all_applied: Applied, either_store: RedisServer | None, tmp_path: Path
) -> None:
    """In each view the second driver's value takes the place of the first one's."""
    repo = all_applied.open(tmp_path, either_store)
    repo.ours().materialize(EARLY, LATE)
    names = [case.name for case in (*CASES, *MENDED)]
    differ = {name for name in names if copy_first_value(repo, name)}

    found = {view.view.removeprefix("v_"): view for view in verified(repo)}

    assert len(differ) > len(names) / 2
    for name, view in found.items():
        assert view.different == (1 if name in differ else 0), (name, str(view))
        assert view.findings == view.different
        for example in view.examples:
            assert example.entity == {"driver_id": 0}
            assert str(example)


def copy_first_value(repo: Repo, case: str) -> bool:
    """Whether the two are different."""
    if repo.server is None:
        with sqlite3.connect(repo.sqlite_path) as file:
            table = f'"{repo.config["project"]}_v_{case}"'
            sql = f"SELECT entity_key, value FROM {table} ORDER BY entity_key LIMIT 2"
            (first, before), (_, after) = file.execute(sql)
            sql = f"UPDATE {table} SET value = ? WHERE entity_key = ?"
            file.execute(sql, (after, first))
        file.close()
        return canonical(before or b"") != canonical(after or b"")
    import mmh3

    field = mmh3.hash(f"v_{case}:{case}", signed=False).to_bytes(4, "little")
    first, second = sorted(fields_of(repo, case))[:2]
    with repo.redis() as client:
        before, after = client.hget(first, field), client.hget(second, field)  # type: ignore[arg-type]
        client.hset(first, field, after)  # type: ignore[arg-type]
    return canonical(before) != canonical(after)  # type: ignore[arg-type]
