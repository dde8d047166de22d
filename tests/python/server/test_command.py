"""`feastrs serve` and `FeatureStore.serve`: their options, the log, and how signals end them."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from testbed.demo import make_demo
from testbed.http import ask
from testbed.repo import EARLY, LATE, Repo


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("demo")
    repo = make_demo(folder / "definitions").open(folder / "repo")
    repo.ours().materialize(EARLY, LATE, feature_views=["driver_stats"])
    return repo


@dataclass
class Running:
    """A server process that has said where it listens."""

    process: subprocess.Popen[str]
    url: str
    log: list[str]

    def end(self, number: signal.Signals) -> int:
        """Sends a signal; gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Running]:
    """A Python process with these arguments, which serves."""
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        log = []
        for line in process.stderr:
            log.append(line)
            if found := re.search(r"on (https?://\S+)", line):
                break
        else:
            raise AssertionError(f"it did not start: {log}")
        try:
            yield Running(process, found[1], log)
        finally:
            process.kill()


def serving(repo: Repo, *options: str) -> contextlib.AbstractContextManager[Running]:
    return running("-m", "feastrs", "-c", str(repo.folder), "serve", "-p", "0", *options)


def refused(repo: Repo, *options: str) -> str:
    """What it says of options that it does not take."""
    done = subprocess.run(
        [sys.executable, "-m", "feastrs", "-c", str(repo.folder), "serve", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_the_access_log_is_json_and_sigterm_ends_well(repo: Repo) -> None:
    with serving(repo) as server:
        assert ask(server.url, "/health")[0] == 200
        assert ask(server.url, "/nope?a=b")[0] == 404
        assert server.end(signal.SIGTERM) == 0
        assert server.process.stdout is not None
        lines = [json.loads(line) for line in server.process.stdout]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("GET", "/health", 200),
        ("GET", "/nope?a=b", 404),
    ]
    assert lines[0].keys() == {
        "time",
        "client",
        "method",
        "path",
        "protocol",
        "status",
        "bytes",
        "ms",
    }


PROGRAM = """
import logging, sys
from feastrs import FeatureStore

logging.basicConfig(level=logging.INFO)
try:
    FeatureStore(sys.argv[1]).serve("127.0.0.1", 0, "http", sys.argv[2] == "quiet", workers=2)
    print("ended")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGTERM, "ended"), (signal.SIGINT, "interrupted")]
)
def test_a_store_serves_itself_until_it_is_told_to_stop(
    repo: Repo, number: signal.Signals, said: str
) -> None:
    with running("-c", PROGRAM, str(repo.folder), "loud") as server:
        asked = {"features": ["driver_stats:trips"], "entities": {"driver_id": [1001]}}
        status, body = ask(server.url, "/get-online-features", json.dumps(asked).encode())
        assert (status, json.loads(body)["results"][1]["statuses"]) == (200, ["PRESENT"])
        assert server.end(number) == 0
        assert server.process.stdout is not None
        line, last = server.process.stdout
    assert json.loads(line)["path"] == "/get-online-features"
    assert last.strip() == said


def test_a_store_serves_itself_without_a_log_and_over_http_only(repo: Repo) -> None:
    with running("-c", PROGRAM, str(repo.folder), "quiet") as server:
        assert ask(server.url, "/health")[0] == 200
        assert server.end(signal.SIGTERM) == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == "ended\n"
    with pytest.raises(ValueError, match="type_ is 'grpc'"):
        repo.ours().serve(type_="grpc")


def test_ctrl_c_ends_it(repo: Repo) -> None:
    with serving(repo, "--no-access-log") as server:
        assert ask(server.url, "/health")[0] == 200
        assert server.end(signal.SIGINT) == 130
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""


def test_what_has_no_meaning_here_is_said_to_be_ignored(repo: Repo) -> None:
    options = ["--max-requests", "10", "--max-requests-jitter", "5", "-w", "4"]
    with serving(repo, *options, "--worker-connections", "7", "-r", "1") as server:
        text = "".join(server.log)
        assert "--max-requests is ignored" in text
        assert "--max-requests-jitter is ignored" in text
        assert server.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--type", "grpc"], "http"),
        (["--key", "k.pem"], "--cert"),
        (["--port", "70000"], "70000"),
        (["--limit", "nonsense=1"], "request_timeout"),
        (["--limit", "rows=many"], "rows"),
        (["--limit", "rows=-1"], "positive"),
    ],
)
def test_options_that_can_not_be_used(options: list[str], message: str, repo: Repo) -> None:
    assert message in refused(repo, *options)


def test_help_lists_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    from feastrs.cli import run

    with pytest.raises(SystemExit):
        run(["serve", "--help"])
    text = capsys.readouterr().out
    for option in ("--host", "--port", "--workers", "--registry_ttl_sec", "--key", "--cert"):
        assert option in text


def test_no_request_is_lost_at_sigterm(repo: Repo) -> None:
    answered, lost = [], []

    def client(url: str) -> None:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        while True:
            try:
                connection.request("GET", "/health")
            except ConnectionRefusedError:
                return
            try:
                response = connection.getresponse()
                response.read()
            except OSError as error:
                lost.append(error)
                return
            answered.append(response.status)
            if response.getheader("connection") == "close":
                # The next one would go to another server.
                connection.close()
                return

    with serving(repo, "--no-access-log") as server:
        clients = [threading.Thread(target=client, args=(server.url,)) for _ in range(8)]
        for thread in clients:
            thread.start()
        while len(answered) < 100:
            assert not lost
        assert server.end(signal.SIGTERM) == 0
        for thread in clients:
            thread.join(60)
    assert not lost
    assert set(answered) == {200}


def test_a_folder_without_a_repo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "feastrs", "-c", str(tmp_path), "serve"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "feature_store.yaml" in done.stderr
