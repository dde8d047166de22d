"""A `feature_store.yaml` or a registry that can't be used: an error that names it."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

import feastrs
from testbed.plain import plain
from testbed.refusals import fails
from testbed.repo import EARLY, LATE, Applied


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return plain(tmp_path_factory.mktemp("plain"))


class TestConfiguration:
    def test_no_yaml(self, tmp_path: Path) -> None:
        fails(
            Exception,
            lambda: feastrs.FeatureStore(repo_path=str(tmp_path)),
            "feature_store.yaml",
            str(tmp_path),
        )

    def test_no_folder(self, tmp_path: Path) -> None:
        missing = tmp_path / "nowhere"
        fails(Exception, lambda: feastrs.FeatureStore(repo_path=str(missing)), str(missing))

    @pytest.mark.parametrize(
        "text", ["project: [demo", "project: demo\n\tx: 1", "- a\n- b", "", "project: 5: 6"]
    )
    def test_broken_yaml(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "feature_store.yaml").write_text(text)
        fails(
            Exception, lambda: feastrs.FeatureStore(repo_path=str(tmp_path)), "feature_store.yaml"
        )

    def test_unset_variable(
        self, applied: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("FEASTRS_TEST_UNSET", raising=False)
        repo = applied.open(tmp_path)
        repo.config["online_store"]["path"] = "${FEASTRS_TEST_UNSET}/online.db"
        repo.write_config()
        fails(Exception, repo.ours, "FEASTRS_TEST_UNSET")

    def test_variables_and_defaults(
        self, applied: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEASTRS_TEST_PROJECT", "demo")
        repo = applied.open(tmp_path)
        text = (tmp_path / "feature_store.yaml").read_text()
        text = text.replace("project: demo", "project: $FEASTRS_TEST_PROJECT")
        text = text.replace("path: online.db", 'path: ${FEASTRS_TEST_UNSET:"other.db"}')
        (tmp_path / "feature_store.yaml").write_text(text)
        repo.ours().materialize(EARLY, LATE)
        assert repo.ours().project == "demo"
        assert (tmp_path / "other.db").exists()

    def test_unknown_online_setting(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path, online_store={"pahts": "x.db"})
        fails(ValueError, repo.ours, "pahts", "online_store")

    @pytest.mark.parametrize("version", [1, 4, "x"])
    def test_unsupported_key_version(self, version: Any, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path, settings={"entity_key_serialization_version": version})
        fails(ValueError, repo.ours, "entity_key_serialization_version")

    def test_unknown_top_level_key_warns(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path, settings={"feets": 1})
        with pytest.warns(UserWarning, match="feets"):
            repo.ours()

    def test_no_project(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        del repo.config["project"]
        repo.write_config()
        fails(ValueError, repo.ours, "project")

    def test_config_and_file_together(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        fails(
            ValueError,
            lambda: feastrs.FeatureStore(
                config=repo.config, fs_yaml_file=tmp_path / "feature_store.yaml"
            ),
        )


class TestRegistry:
    def test_missing(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        repo.registry_path.unlink()
        fails(Exception, lambda: repo.ours().list_entities(), "registry.db")

    @pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
    def test_truncated(self, share: float, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        data = repo.registry_path.read_bytes()
        repo.registry_path.write_bytes(data[: int(len(data) * share)])
        fails(Exception, lambda: repo.ours().list_entities(), "registry.db")

    @pytest.mark.parametrize(
        "data",
        [b"SQLite format 3\x00" + bytes(100), b"\xff" * 64, b"project: demo\n", b"PAR1" * 9],
        ids=["sqlite", "ones", "yaml", "parquet"],
    )
    def test_not_a_registry(self, data: bytes, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        repo.registry_path.write_bytes(data)
        fails(Exception, lambda: repo.ours().list_entities(), "registry.db")

    def test_a_folder(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        repo.registry_path.unlink()
        repo.registry_path.mkdir()
        fails(Exception, lambda: repo.ours().list_entities(), "registry.db")

    def test_another_project(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        repo.config["project"] = "stranger"
        repo.write_config()
        fails(
            Exception,
            lambda: repo.ours().get_online_features(["v:x"], [{"driver_id": 1}]),
            "v",
            "stranger",
        )


def test_window_must_be_times(applied: Applied, tmp_path: Path) -> None:
    store = applied.open(tmp_path).ours()
    fails(TypeError, lambda: store.materialize("yesterday", datetime.now(timezone.utc)))


def test_views_must_be_a_list(applied: Applied, tmp_path: Path) -> None:
    store = applied.open(tmp_path / "repo").ours()
    fails(TypeError, lambda: store.materialize(EARLY, LATE, "v"), "feature_views", "'v'", "list")


def test_config_mapping_needs_no_file(applied: Applied, tmp_path: Path) -> None:
    repo = applied.open(tmp_path)
    config = yaml.safe_load((tmp_path / "feature_store.yaml").read_text())
    config["registry"] = str(repo.registry_path)
    config["online_store"]["path"] = str(repo.sqlite_path)
    store = feastrs.FeatureStore(config=config)
    assert [view.name for view in store.list_feature_views()] == ["v"]
