"""Sources on S3, Google Cloud Storage and the web: the same rows as from disk, by ranges."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

import feastrs
from feastrs import errors
from testbed.dump import assert_same_redis
from testbed.gcs import GcsServer
from testbed.plain import AT, MATERIALIZE, TIME, plain_definitions, plain_table
from testbed.redis_server import RedisServer, free_port
from testbed.repo import EARLY, LATE, Repo, apply
from testbed.s3 import BUCKET, S3Server

TREE = {
    "one.parquet": 3,
    "days/day=2/part-2.parquet": 5,
    "days/day=2/part-10.parquet": 7,
    "days/day=11/part-1.parquet": 2,
    "days/_SUCCESS": 0,
    "days/.hidden/x.parquet": 4,
}


def rows(first: int, count: int) -> pa.Table:
    ids = range(first, first + count)
    return pa.table(
        {
            "driver_id": pa.array(ids, pa.int64()),
            "event_timestamp": pa.array([AT] * count, TIME),
            "x": pa.array([i / 2 for i in ids]),
        }
    )


def write_tree(folder: Path) -> None:
    """Files of rows that overlap, so that their order counts."""
    for at, (name, count) in enumerate(TREE.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows(at * 2, count), path)


def upload(server: S3Server, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            key = path.relative_to(folder).as_posix()
            server.client().put_object(
                Bucket=BUCKET, Key=key, Body=path.read_bytes(), ACL="public-read"
            )
    server.requests.clear()


def open_repo(
    folder: Path, path: str, server: RedisServer | None = None, source: Any = None, **settings: Any
) -> Repo:
    applied = apply(folder / "applied", plain_definitions(path, **(source or {})))
    return applied.open(folder / "repo", server, settings=settings)


def of_s3(
    s3: S3Server, folder: Path, key: str, server: RedisServer | None = None, **settings: Any
) -> Repo:
    source = {"s3_endpoint_override": s3.url}
    return open_repo(folder, f"s3://{BUCKET}/{key}", server, source, **settings)


def materialize(repo: Repo) -> Any:
    [report] = repo.ours().materialize(EARLY, LATE).views
    return report


def of_one_that_changes(s3: S3Server, folder: Path) -> Repo:
    """A repo of an object that is replaced once its footer has been read."""
    write_tree(folder / "tree")
    upload(s3, folder / "tree")
    again = (folder / "tree" / "days/day=2/part-2.parquet").read_bytes()
    looks: list[str] = []

    def change(environ: dict[str, Any]) -> None:
        if environ["REQUEST_METHOD"] == "GET" and "HTTP_RANGE" in environ:
            looks.append(environ["HTTP_RANGE"])
            if len(looks) == 2:
                s3.client().put_object(Bucket=BUCKET, Key="one.parquet", Body=again)

    repo = of_s3(s3, folder, "one.parquet")
    s3.before = change
    return repo


class TestOnS3:
    @pytest.mark.parametrize(
        "key", ["one.parquet", "days", "days/", "days/*/part-*.parquet", "days/day=2", "days/day=*"]
    )
    def test_is_what_a_disk_holds(
        self, key: str, s3: S3Server, redis7: RedisServer, tmp_path: Path
    ) -> None:
        write_tree(tmp_path / "tree")
        upload(s3, tmp_path / "tree")
        far = of_s3(s3, tmp_path / "far", key, redis7)
        near = open_repo(tmp_path / "near", str(tmp_path / "tree" / key), redis7)
        s3.requests.clear()

        assert materialize(far).rows_read == materialize(near).rows_read > 0

        assert_same_redis(far.redis(), near.redis())
        gets = [(path, status) for method, path, status in s3.requests if method == "GET"]
        assert {status for path, status in gets if path.endswith(".parquet")} == {206}

    def test_is_verified(self, s3: S3Server, redis7: RedisServer, tmp_path: Path) -> None:
        """What is wrong is a finding only if the object is still the one that was read."""
        write_tree(tmp_path / "tree")
        upload(s3, tmp_path / "tree")
        repo = of_s3(s3, tmp_path / "far", "one.parquet", redis7)
        materialize(repo)
        with repo.redis() as client:
            client.delete(client.randomkey())  # type: ignore[arg-type]

        (view,) = repo.ours().verify_online().views
        assert (view.matching, view.missing) == (2, 1)

        def replace(environ: dict[str, Any]) -> None:
            if environ.get("HTTP_RANGE") == "bytes=0-0":
                body = (tmp_path / "tree" / "days/day=2/part-2.parquet").read_bytes()
                s3.client().put_object(Bucket=BUCKET, Key="one.parquet", Body=body)

        s3.before = replace
        with pytest.raises(feastrs.VerificationError, match="changed while it was read"):
            repo.ours().verify_online()

    def test_in_little_memory(self, s3: S3Server, redis7: RedisServer, tmp_path: Path) -> None:
        """Columns do not fit the budget: each comes in windows."""
        count = 60_000
        table = rows(0, count)
        tree = tmp_path / "tree"
        tree.mkdir()
        pq.write_table(table, tree / "one.parquet", compression="none", use_dictionary=False)
        upload(s3, tree)
        small = {"materialization": {"max_memory_mb": 1}}
        far = of_s3(s3, tmp_path / "far", "one.parquet", redis7, **small)
        near = open_repo(tmp_path / "near", str(tree / "one.parquet"), redis7)
        s3.requests.clear()

        assert materialize(far).entities_written == materialize(near).entities_written == count

        assert_same_redis(far.redis(), near.redis())
        assert s3.count("GET", 206) > 10

    def test_several_files_come_at_once(
        self, s3: S3Server, redis7: RedisServer, tmp_path: Path
    ) -> None:
        """Who is far away is not waited for file by file."""
        files, count = 6, 5_000
        tree = tmp_path / "tree"
        (tree / "days").mkdir(parents=True)
        for number in range(files):
            pq.write_table(rows(number * count, count), tree / f"days/{number}.parquet")
        upload(s3, tree)
        repo = of_s3(s3, tmp_path / "far", "days", redis7)
        lock, waiting, most = threading.Lock(), [0], [0]

        def wait(environ: dict[str, Any]) -> None:
            # Where the data of a file begins; its footer is asked for from its end.
            if environ.get("HTTP_RANGE", "").startswith("bytes=4-"):
                with lock:
                    waiting[0] += 1
                    most[0] = max(most[0], waiting[0])
                time.sleep(0.2)
                with lock:
                    waiting[0] -= 1

        s3.before = wait
        assert materialize(repo).entities_written == files * count
        # One ahead of the one that is decoded would be two.
        assert most[0] > 2

    def test_what_fails_for_a_moment_is_asked_for_again(self, s3: S3Server, tmp_path: Path) -> None:
        write_tree(tmp_path / "tree")
        upload(s3, tmp_path / "tree")
        repo = of_s3(s3, tmp_path, "one.parquet")
        answers = iter(["503 Slow Down", None, "500 Oops", None, "503 Slow Down"])
        s3.before = lambda _: next(answers, None)

        assert materialize(repo).entities_written == 3

    def test_a_file_that_changes_is_noticed(self, s3: S3Server, tmp_path: Path) -> None:
        repo = of_one_that_changes(s3, tmp_path)
        with pytest.raises(errors.SourceChangedError, match=rf"s3://{BUCKET}/one\.parquet"):
            materialize(repo)
        assert repo.stock().get_feature_view("v").materialization_intervals == []

    def test_anonymous_requests_are_not_signed(self, s3: S3Server, tmp_path: Path) -> None:
        write_tree(tmp_path / "tree")
        upload(s3, tmp_path / "tree")
        signed: list[bool] = []
        s3.before = lambda environ: signed.append("HTTP_AUTHORIZATION" in environ)

        repo = of_s3(s3, tmp_path / "signed", "one.parquet")
        signed.clear()
        assert materialize(repo).entities_written == 3
        assert all(signed)

        public = {"offline_store": {"type": "file", "anonymous": True, "s3_region": "eu-west-3"}}
        repo = of_s3(s3, tmp_path / "public", "one.parquet", **public)
        signed.clear()
        assert materialize(repo).entities_written == 3
        assert signed
        assert not any(signed)

    def test_region_and_profile_are_settings(
        self, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_tree(tmp_path / "tree")
        upload(s3, tmp_path / "tree")
        file = tmp_path / "credentials"
        file.write_text("[team]\naws_access_key_id = one\naws_secret_access_key = two\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        store = {"type": "file", "s3_region": "eu-west-3", "s3_profile": "team"}
        repo = of_s3(s3, tmp_path, "one.parquet", offline_store=store)
        seen: set[str] = set()
        s3.before = lambda environ: seen.add(environ["HTTP_AUTHORIZATION"])

        assert materialize(repo).entities_written == 3
        assert all("Credential=one/" in one and "/eu-west-3/s3/" in one for one in seen)

    def test_an_interrupt_ends_waiting(
        self, s3: S3Server, redis7: RedisServer, tmp_path: Path
    ) -> None:
        write_tree(tmp_path / "tree")
        upload(s3, tmp_path / "tree")
        repo = of_s3(s3, tmp_path, "one.parquet", redis7)
        ranges: list[str] = []
        is_hanging = threading.Event()

        def hang(environ: dict[str, Any]) -> None:
            ranges.extend(filter(None, [environ.get("HTTP_RANGE")]))
            if len(ranges) >= 2:
                is_hanging.set()
                s3.may_answer.clear()
                s3.may_answer.wait()

        s3.before = hang
        child = subprocess.Popen(
            [sys.executable, "-c", MATERIALIZE, str(repo.folder)], stderr=subprocess.PIPE, text=True
        )
        try:
            assert is_hanging.wait(30)
            child.send_signal(signal.SIGINT)
            _, text = child.communicate(timeout=10)
        finally:
            child.kill()
            s3.before = lambda _: None
            s3.may_answer.set()
        assert "KeyboardInterrupt" in text
        assert "materializing v failed after 0 of 3 rows" in text
        assert child.returncode != 0


class TestWhatIsWrongIsNamed:
    def refused(self, repo: Repo, kind: type[Exception], match: str) -> str:
        with pytest.raises(kind, match=match) as caught:
            materialize(repo)
        assert isinstance(caught.value, feastrs.MaterializationError)
        assert "testing-secret" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("key", ["nothing.parquet", "nothing/", "no*.parquet"])
    def test_no_object(self, key: str, s3: S3Server, tmp_path: Path) -> None:
        repo = of_s3(s3, tmp_path, key)
        self.refused(repo, FileNotFoundError, rf"s3://{BUCKET}/no.*no such object")

    def test_not_parquet(self, s3: S3Server, tmp_path: Path) -> None:
        for body in (b"", b"PAR1", b"x" * 100_000):
            s3.client().put_object(Bucket=BUCKET, Key="x.parquet", Body=body)
            repo = of_s3(s3, tmp_path, "x.parquet")
            self.refused(repo, errors.SourceInvalidError, r"x\.parquet' is not a Parquet file")

    def test_refused_credentials(self, s3: S3Server, tmp_path: Path) -> None:
        repo = of_s3(s3, tmp_path, "one.parquet")
        s3.command("reset-auth", "0")
        self.refused(repo, PermissionError, r"one\.parquet' may not be used.*anonymous")

    def test_nobody_there(self, s3: S3Server, tmp_path: Path) -> None:
        source = {"s3_endpoint_override": f"http://127.0.0.1:{free_port()}"}
        repo = open_repo(tmp_path, f"s3://{BUCKET}/x.parquet", None, source)
        self.refused(repo, ConnectionError, r"x\.parquet' can't be reached")

    def test_no_such_profile(self, s3: S3Server, tmp_path: Path) -> None:
        store = {"type": "file", "s3_profile": "nobodys"}
        repo = of_s3(s3, tmp_path, "one.parquet", offline_store=store)
        self.refused(repo, PermissionError, "'nobodys'")


class TestPointInTimeJoins:
    LABELS = pa.table(
        {
            "driver_id": pa.array([0, 3, 99, 7, 12, 3], pa.int64()),
            "event_timestamp": pa.array([AT] * 6, TIME),
        }
    )

    def joined(self, repo: Repo) -> pa.Table:
        return pa.table(repo.ours().get_historical_features(self.LABELS, ["v:x"]).to_arrow())

    @pytest.mark.parametrize("key", ["one.parquet", "days", "days/*/part-*.parquet", "days/day=2"])
    def test_on_s3_as_on_a_disk(self, key: str, s3: S3Server, tmp_path: Path) -> None:
        write_tree(tmp_path / "tree")
        upload(s3, tmp_path / "tree")
        far = of_s3(s3, tmp_path / "far", key)
        near = open_repo(tmp_path / "near", str(tmp_path / "tree" / key))
        s3.requests.clear()

        found = self.joined(far)

        assert found.equals(self.joined(near))
        assert 0 < found["x"].null_count < 6
        gets = [status for method, path, status in s3.requests if ".parquet" in path]
        assert set(gets) <= {200, 206}

    def test_on_google_cloud_storage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        server = GcsServer()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        write_tree(tmp_path / "tree")
        for name in TREE:
            server.objects[f"/{BUCKET}/{name}"] = ((tmp_path / "tree" / name).read_bytes(), 1)
        try:
            far = open_repo(tmp_path / "far", f"gs://{BUCKET}/days")
            near = open_repo(tmp_path / "near", str(tmp_path / "tree" / "days"))
            assert self.joined(far).equals(self.joined(near))
        finally:
            server.close()

    def test_on_the_web(self, s3: S3Server, tmp_path: Path) -> None:
        write_tree(tmp_path / "tree")
        upload(s3, tmp_path / "tree")
        far = open_repo(tmp_path / "far", f"{s3.url}/{BUCKET}/one.parquet")
        assert self.joined(far)["x"].to_pylist() == [0.0, None, None, None, None, None]

    def test_what_fails_for_a_moment_is_asked_for_again(self, s3: S3Server, tmp_path: Path) -> None:
        write_tree(tmp_path / "tree")
        upload(s3, tmp_path / "tree")
        repo = of_s3(s3, tmp_path, "one.parquet")
        answers = iter(["503 Slow Down", None, "500 Oops", None, "503 Slow Down"])
        s3.before = lambda _: next(answers, None)
        assert self.joined(repo)["x"][0].as_py() == 0.0

    def test_an_object_that_changes_is_noticed(self, s3: S3Server, tmp_path: Path) -> None:
        repo = of_one_that_changes(s3, tmp_path)
        with pytest.raises(errors.SourceChangedError, match=rf"s3://{BUCKET}/one\.parquet"):
            self.joined(repo)

    def test_an_unchanged_feast_reads_and_saves_there(self, s3: S3Server, tmp_path: Path) -> None:
        write_tree(tmp_path / "tree")
        upload(s3, tmp_path / "tree")
        store = {"type": "feastrs.feast.FileOfflineStore"}
        repo = of_s3(s3, tmp_path, "one.parquet", offline_store=store)
        feasts = repo.stock()
        job: Any = feasts.get_historical_features(self.LABELS.to_pandas(), ["v:x"])
        storage = SavedDatasetFileStorage(
            path=f"s3://{BUCKET}/saved.parquet", s3_endpoint_override=s3.url
        )
        job.persist(storage)
        with pytest.raises(SavedDatasetLocationAlreadyExists):
            job.persist(storage)
        body = s3.client().get_object(Bucket=BUCKET, Key="saved.parquet")["Body"].read()
        assert pq.read_table(pa.BufferReader(body))["x"].to_pylist()[:2] == [0.0, None]

        source = feasts.get_feature_view("v").batch_source
        offline_store = feasts._get_provider().offline_store  # type: ignore[attr-defined]
        pulled = offline_store.pull_latest_from_table_or_query(
            feasts.config, source, ["driver_id"], ["x"], "event_timestamp", None, EARLY, LATE
        )
        assert pulled.to_arrow()["x"].to_pylist() == [0.0, 0.5, 1.0]


def test_google_cloud_storage(
    redis7: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a stand-in that knows the few requests of the XML API that are made."""
    server = GcsServer()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    write_tree(tmp_path / "tree")
    for name in TREE:
        server.objects[f"/{BUCKET}/{name}"] = ((tmp_path / "tree" / name).read_bytes(), 1)
    try:
        far = open_repo(tmp_path / "far", f"gs://{BUCKET}/days", redis7)
        near = open_repo(tmp_path / "near", str(tmp_path / "tree" / "days"), redis7)
        assert materialize(far).rows_read == materialize(near).rows_read == 14
        assert_same_redis(far.redis(), near.redis())
        assert server.count("GET", 206) >= 6
    finally:
        server.close()


def test_a_web_server(s3: S3Server, redis7: RedisServer, tmp_path: Path) -> None:
    write_tree(tmp_path / "tree")
    upload(s3, tmp_path / "tree")
    url = f"{s3.url}/{BUCKET}"

    far = open_repo(tmp_path / "far", f"{url}/one.parquet", redis7)
    assert materialize(far).entities_written == plain_table().num_rows
    folder = open_repo(tmp_path / "folder", f"{url}/days", redis7)
    with pytest.raises(FileNotFoundError, match="can't be listed"):
        materialize(folder)
