"""A registry on S3 or Google Cloud Storage: the same as a local file, asked for when it may have
changed.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import feast
import pytest

import feastrs
from testbed.demo import NATIVE_VIEWS
from testbed.doors import ask_both, difference
from testbed.gcs import GcsServer
from testbed.redis_server import RedisServer, free_port
from testbed.repo import EARLY, LATE, Applied, Repo
from testbed.s3 import BUCKET, S3Server

STORED_AT = f"s3://{BUCKET}/team/registry.db"
FEATURES = ["driver_stats:trips", "driver_stats:label", "driver_profile:age"]
ROWS = [{"driver_id": 1000 + i} for i in range(5)]


@pytest.fixture
def s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    monkeypatch.setenv("FEAST_S3_ENDPOINT_URL", s3.url)
    return s3


@pytest.fixture
def stored(demo: Applied, s3: S3Server, tmp_path: Path) -> Callable[..., Repo]:
    """A repo whose registry is in the bucket; `settings` are of its section."""

    def stored(server: RedisServer | None = None, **settings: Any) -> Repo:
        registry = (demo.folder / "registry.db").read_bytes()
        s3.client().put_object(Bucket=BUCKET, Key="team/registry.db", Body=registry)
        s3.requests.clear()
        return at(demo, tmp_path / "stored", STORED_AT, server, **settings)

    return stored


def at(
    demo: Applied, folder: Path, url: str, server: RedisServer | None = None, **settings: Any
) -> Repo:
    return demo.open(folder, server, settings={"registry": {"path": url, **settings}})


def wait_for(what: Callable[[], Any]) -> None:
    """Polls; the test's own timeout is the limit."""
    while not what():
        time.sleep(0.02)


def definitions(store: Any) -> dict[str, Any]:
    return {
        kind: [repr(one) for one in getattr(store, f"list_{kind}")()]
        for kind in ("entities", "feature_views", "on_demand_feature_views", "feature_services")
    }


def test_is_what_a_local_file_is(demo: Applied, stored: Any, tmp_path: Path) -> None:
    local, far = demo.open(tmp_path / "local").ours(), stored().ours()
    assert difference(definitions(far), definitions(local)) is None
    assert far.project == local.project


def test_is_written_natively_and_read_by_feast(stored: Any) -> None:
    repo = stored()
    report = repo.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
    assert not report.delegated
    ask_both(repo, lambda store: store.get_online_features(FEATURES, ROWS).to_dict())
    repo.stock().refresh_registry()
    for view in repo.stock().list_feature_views():
        assert view.materialization_intervals == [(EARLY, LATE)]


def test_writers_at_the_same_time_lose_nothing(
    stored: Any, s3: S3Server, redis7: RedisServer
) -> None:
    """Each replaces the registry only if it is the one that he has changed."""
    folder = stored(redis7).folder
    stores = [feastrs.FeatureStore(repo_path=folder) for _ in NATIVE_VIEWS]

    def write(store: feastrs.FeatureStore, view: str) -> None:
        store.materialize(EARLY, LATE, feature_views=[view])

    threads = [
        threading.Thread(target=write, args=pair) for pair in zip(stores, NATIVE_VIEWS, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    views = feastrs.FeatureStore(repo_path=folder).list_feature_views()
    assert [len(view.materialization_intervals) for view in views] == [1] * len(NATIVE_VIEWS)
    assert s3.count("PUT", 200) >= len(NATIVE_VIEWS)


def test_unchanged_is_not_fetched_again(stored: Any, s3: S3Server) -> None:
    store = stored(cache_ttl_seconds=1).ours()
    assert store.list_feature_views(allow_cache=True)
    wait_for(lambda: store.list_entities(allow_cache=True) and s3.count("GET", 304) >= 2)
    store.refresh_registry()
    assert s3.count("GET", 200) == 1
    assert s3.count("GET", 304) >= 3


@pytest.mark.parametrize("mode", ["sync", "thread"])
def test_a_change_is_seen_when_the_time_is_up(
    mode: str, stored: Any, demo: Applied, tmp_path: Path
) -> None:
    store = stored(cache_ttl_seconds=1, cache_mode=mode).ours()
    assert len(store.list_feature_services(allow_cache=True)) == 2
    feasts = at(demo, tmp_path / "feasts", STORED_AT).stock()
    view = feasts.get_feature_view("driver_stats")
    feasts.apply([feast.FeatureService(name="new", features=[view[["label"]]])])
    wait_for(lambda: len(store.list_feature_services(allow_cache=True)) == 3)


def test_with_cache_mode_thread_nobody_waits(stored: Any, s3: S3Server) -> None:
    store = stored(cache_ttl_seconds=1, cache_mode="thread").ours()
    assert store.list_entities()
    s3.may_answer.clear()
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert store.list_entities(allow_cache=True)
    assert s3.count("GET", 304) == 0
    s3.may_answer.set()
    wait_for(lambda: store.list_entities(allow_cache=True) and s3.count("GET", 304))


class TestWhatIsWrongIsNamed:
    def test_no_object(self, demo: Applied, s3: S3Server, tmp_path: Path) -> None:
        store = at(demo, tmp_path, f"s3://{BUCKET}/nothing.db").ours()
        with pytest.raises(feastrs.errors.RegistryNotFoundError, match=r"nothing\.db.*feast apply"):
            store.list_entities()

    def test_no_bucket(self, demo: Applied, s3: S3Server, tmp_path: Path) -> None:
        store = at(demo, tmp_path, "s3://nobodys/registry.db").ours()
        with pytest.raises(feastrs.errors.RegistryNotFoundError, match="no bucket 'nobodys'"):
            store.list_entities()

    def test_refused_credentials(self, stored: Any, s3: S3Server) -> None:
        repo = stored()
        s3.command("reset-auth", "0")
        with pytest.raises(feastrs.errors.RegistryDeniedError) as refused:
            repo.ours().list_entities()
        assert "team/registry.db" in str(refused.value)
        assert "testing-secret" not in str(refused.value)

    def test_a_profile_that_is_not_there(
        self, stored: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repo = stored()
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.setenv("AWS_PROFILE", "nobodys")
        with pytest.raises(feastrs.errors.RegistryDeniedError, match="'nobodys'"):
            repo.ours().list_entities()

    def test_nobody_there(self, stored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        repo = stored()
        monkeypatch.setenv("FEAST_S3_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(feastrs.errors.RegistryUnavailableError, match="can't be reached"):
            repo.ours().list_entities()

    def test_who_has_a_snapshot_goes_on(
        self, stored: Any, s3: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = stored(cache_ttl_seconds=1).ours()
        assert store.list_entities()
        s3.client().delete_object(Bucket=BUCKET, Key="team/registry.db")
        wait_for(lambda: store.list_entities(allow_cache=True) and s3.count("GET", 404))
        assert store.list_entities(allow_cache=True)
        with pytest.raises(feastrs.errors.RegistryNotFoundError):
            store.refresh_registry()


def test_credentials_of_a_profile(
    stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = stored()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    file.write_text("[team]\naws_access_key_id = one\naws_secret_access_key = two\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "team")
    assert repo.ours().list_entities()


def test_arguments_of_boto3_are_left_to_feast(stored: Any) -> None:
    repo = stored(s3_additional_kwargs={"ServerSideEncryption": "AES256"})
    assert repo.ours().list_entities()
    plan, obstacles = repo.ours()._native.materialization_plan(["world"])
    assert plan == []
    assert "s3_additional_kwargs" in obstacles["world"]


class TestGoogleCloudStorage:
    """Against a stand-in that knows the few requests of the XML API that are made."""

    URL = "gs://bucket/team/registry.db"

    @pytest.fixture
    def gcs(self, demo: Applied, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
        server = GcsServer()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        registry = (demo.folder / "registry.db").read_bytes()
        server.objects["/bucket/team/registry.db"] = registry, 1
        yield server
        server.close()

    @staticmethod
    def stored(gcs: GcsServer, folder: Path) -> feast.FeatureStore:
        """Stock Feast's store of what is in the bucket now."""
        (folder / "registry.db").write_bytes(gcs.objects["/bucket/team/registry.db"][0])
        settings = (folder / "feature_store.yaml").read_text()
        path = folder / "local.yaml"
        path.write_text(settings.replace(TestGoogleCloudStorage.URL, "registry.db"))
        return feast.FeatureStore(repo_path=str(folder), fs_yaml_file=path)

    def test_is_what_a_local_file_is(self, demo: Applied, gcs: GcsServer, tmp_path: Path) -> None:
        store = at(demo, tmp_path, self.URL, cache_ttl_seconds=1).ours()
        local = demo.open(tmp_path / "local").ours()
        assert difference(definitions(store), definitions(local)) is None
        wait_for(lambda: store.list_entities(allow_cache=True) and gcs.count("GET", 304))
        absent = at(demo, tmp_path / "absent", "gs://bucket/nothing.db").ours()
        with pytest.raises(feastrs.errors.RegistryNotFoundError, match=r"gs://bucket/nothing\.db"):
            absent.list_entities()

    @pytest.mark.parametrize("how", ["emulator", "service account"])
    def test_is_written_natively_and_read_by_feast(
        self,
        how: str,
        demo: Applied,
        gcs: GcsServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if how == "service account":
            monkeypatch.delenv("STORAGE_EMULATOR_HOST")
            key = {"gcs_base_url": gcs.url, "disable_oauth": True}
            key |= dict.fromkeys(["client_email", "private_key", "private_key_id"], "")
            (tmp_path / "key.json").write_text(json.dumps(key))
            monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "key.json"))
        repo = at(demo, tmp_path / "repo", self.URL)

        report = repo.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)

        assert not report.delegated
        for view in self.stored(gcs, repo.folder).list_feature_views():
            assert view.materialization_intervals == [(EARLY, LATE)]
        assert repo.ours().get_online_features(FEATURES, ROWS).to_dict()

    def test_writers_at_the_same_time_lose_nothing(
        self, demo: Applied, gcs: GcsServer, redis7: RedisServer, tmp_path: Path
    ) -> None:
        """They change the same generation: one is refused, and changes the next one."""
        folder = at(demo, tmp_path, self.URL, redis7).folder
        pair = NATIVE_VIEWS[:2]
        firsts, meeting = iter(pair), threading.Barrier(2)

        def meet() -> None:
            if next(firsts, None):
                meeting.wait(timeout=60)

        gcs.before_write = meet
        stores = [feastrs.FeatureStore(repo_path=folder) for _ in pair]

        def write(store: feastrs.FeatureStore, view: str) -> None:
            store.materialize(EARLY, LATE, feature_views=[view])

        threads = [
            threading.Thread(target=write, args=each) for each in zip(stores, pair, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert gcs.count("PUT", 412) >= 1
        store = self.stored(gcs, folder)
        for view in pair:
            assert store.get_feature_view(view).materialization_intervals == [(EARLY, LATE)]

    def test_a_write_too_soon_after_another_is_repeated(
        self, demo: Applied, gcs: GcsServer, tmp_path: Path
    ) -> None:
        """The real one takes no more than one a second of the same object."""
        answers = iter([429, 429, 503, 429])
        gcs.before_write = lambda: next(answers, None)
        repo = at(demo, tmp_path, self.URL)
        view = NATIVE_VIEWS[0]

        repo.ours().materialize(EARLY, LATE, feature_views=[view])

        assert gcs.count("PUT", 429) == 3
        stored = self.stored(gcs, repo.folder).get_feature_view(view)
        assert stored.materialization_intervals == [(EARLY, LATE)]
