"""What a materialization tells while it runs: in logs, on a terminal, in a notebook."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from jupyter_client.manager import start_new_kernel

import feastrs
from feastrs import progress
from testbed.plain import AT, plain, plain_table
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Repo

LOGGER = "feastrs.materialization"
HOUR = timedelta(hours=1)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """Three drivers in a file, to be written to SQLite."""
    return plain(tmp_path).open(tmp_path / "repo")


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    # The logger itself: Feast's command sets a level for each that has feast in its name.
    with caplog.at_level(logging.INFO, LOGGER):
        yield caplog


def lines(told: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    assert {record.name for record in told.records} == {LOGGER}
    return [(record.levelname, record.getMessage()) for record in told.records]


def report(**found: int) -> feastrs.ViewReport:
    numbers = {"rows_read": 9, "entities_written": 4, "rows_older": 3, "null_keys": 0} | found
    return feastrs.ViewReport(view="v", start=AT, end=AT + HOUR, seconds=1.25, **numbers)


class TestLogs:
    def test_begin_and_end_of_a_view(
        self,
        repo: Repo,
        told: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        repo.ours().materialize(AT - HOUR, AT)

        begin, end = lines(told)
        assert begin == ("INFO", "materializing v: 3 rows in its source")
        assert end[0] == "INFO"
        assert end[1].startswith(f"materialized v, {AT - HOUR} to {AT}: 3 rows read, 3 entities ")
        # Not a word anywhere else.
        assert tuple(capfd.readouterr()) == ("", "")

    def test_all_that_a_report_says(self, told: pytest.LogCaptureFixture) -> None:
        progress.Progress().view_finished(report(rows_read=12_345, null_keys=2))

        assert lines(told) == [
            (
                "INFO",
                "materialized v, 2024-05-01 08:00:00+00:00 to 2024-05-01 09:00:00+00:00: 12,345 "
                "rows read, 4 entities written, 3 older than the store, 2 null keys, 1.2 s",
            ),
            ("WARNING", "v: 2 rows are left out because a join key is null"),
        ]

    def test_rows_and_share_now_and_then(
        self, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress, "_LOG_EVERY_SECONDS", 0.0)
        shown = progress.Progress()

        shown.view_started("v", 4_000)
        shown.waiting("v", 2_000)
        shown.advanced("v", 1_000)
        shown.waiting("v", 4_000)

        searching, first, second = (text for _, text in lines(told)[1:])
        assert searching == "materializing v: finding the newest rows: 2,000 of 4,000 rows (50%)"
        assert first.startswith("materializing v: 1,000 of 4,000 rows (25%), ")
        assert first.endswith(" rows/s")
        assert second.startswith("materializing v: 1,000 of 4,000 rows (25%), ")

    def test_a_run_that_waits_for_its_store_is_heard_of(
        self, tmp_path: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress, "_LOG_EVERY_SECONDS", 0.0)
        server = RedisServer("7.0")
        repo = plain(tmp_path).open(tmp_path / "repo", server)
        repo.config["online_store"]["connection_string"] += ",socket_timeout=1"
        repo.write_config()

        try:
            with server.client() as client:
                # What reads is answered: the store is looked at before the rows are.
                client.client_pause(60_000, all=False)
            with pytest.raises(TimeoutError):
                repo.ours().materialize(EARLY, LATE)
        finally:
            server.close()

        waiting = "materializing v: finding the newest rows: 3 of 3 rows (100%)"
        assert ("INFO", waiting) in lines(told)
        level, text = lines(told)[-1]
        assert level == "ERROR"
        assert text.startswith("materializing v failed after 0 of 3 rows (0%): view 'v': ")

    def test_rows_without_a_key(self, tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
        table = plain_table().set_column(0, "driver_id", pa.array([0, None, 2], pa.int64()))
        settings = {"materialization": {"on_null_key": "skip"}}
        repo = plain(tmp_path, table).open(tmp_path / "repo", settings=settings)

        repo.ours().materialize(EARLY, LATE)

        warning = ("WARNING", "v: 1 rows are left out because a join key is null")
        assert lines(told)[-1] == warning


def drawn_on(terminal: int) -> str:
    """What was drawn until the bar's last line ended, which may come in pieces."""
    drawn = b""
    while not drawn.endswith(b"\n"):
        drawn += os.read(terminal, 10_000)
    return drawn.decode()


class TestTerminal:
    def test_a_bar(self, repo: Repo, told: pytest.LogCaptureFixture) -> None:
        master, slave = os.openpty()
        with os.fdopen(slave, "w") as terminal, progress.Progress(terminal) as shown:
            shown.view_started("v", 200)
            shown._views["v"].shown = 0.0
            shown.advanced("v", 100)
            shown.view_finished(report())
        drawn = drawn_on(master)
        os.close(master)

        half, full = drawn.split("\r")[1:3]
        assert half.startswith("v  [############............]  50%  100 of 200 rows (50%), ")
        assert full.startswith("v  [########################] 100%  4 entities written")
        # Its numbers are not logged besides.
        assert [text.split()[0] for _, text in lines(told)] == ["materializing", "materialized"]

    def test_bars_of_views_that_are_under_way_at_once(self) -> None:
        master, slave = os.openpty()
        with os.fdopen(slave, "w") as terminal, progress.Progress(terminal) as shown:
            shown._every_seconds = 0.0
            shown.view_started("v", 200)
            shown.view_started("w", 50)
            shown.advanced("v", 100)
            shown.advanced("w", 10)
            shown.view_finished(report())
            shown.advanced("w", 10)
        drawn = drawn_on(master)
        os.close(master)

        pieces = drawn.replace("\n", "").split("\r")
        lines = [piece.removesuffix("\x1b[K") for piece in pieces if piece]
        both = "v [#####.....]  50%   w [##........]  20%"
        assert both in lines
        [finished] = (line for line in lines if line.endswith("4 entities written"))
        assert finished.startswith("v  [########################] 100%  ")
        assert lines[-1].startswith("w  [##########..............]  40%  20 of 50 rows (40%), ")

    def test_the_command_draws_and_does_not_log(self, repo: Repo) -> None:
        command = [sys.executable, "-m", "feastrs", "-c", str(repo.folder), "materialize"]
        command += ["2000-01-01T00:00:00", "2040-01-01T00:00:00"]
        master, slave = os.openpty()
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=slave,
            text=True,
            timeout=60,
            check=False,
        )
        os.close(slave)
        drawn = drawn_on(master)
        os.close(master)

        assert done.returncode == 0
        assert "\rv  [########################] 100%  3 entities written" in drawn
        assert "INFO" not in drawn
        assert "VIEW" in done.stdout


def test_a_notebook(repo: Repo) -> None:
    """A real kernel, and what it sends to the browser."""
    manager, client = start_new_kernel(kernel_name="python3")
    sent = []
    try:
        client.execute_interactive(
            textwrap.dedent(
                f"""
                from datetime import datetime
                import feastrs
                store = feastrs.FeatureStore({str(repo.folder)!r})
                report = store.materialize(datetime(2000, 1, 1), datetime(2040, 1, 1))
                """
            ),
            timeout=60,
            output_hook=sent.append,
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)

    told = [(m["msg_type"], m["content"]) for m in sent]
    assert "error" not in dict(told), told
    assert "stream" not in dict(told), told
    [shown] = [content["data"] for kind, content in told if kind == "display_data"]
    assert shown["text/plain"] == "v  100%  3 entities written"
    assert '<progress value="1.0000" max="1">' in shown["text/html"]
