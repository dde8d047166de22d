"""What travels to other processes: stores to workers, reports to whoever asked for a run."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from testbed.demo import NATIVE_VIEWS, make_demo
from testbed.repo import EARLY, LATE


def test_stores_and_reports_can_be_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import feastrs

    repo = make_demo(tmp_path / "demo").open(tmp_path / "repo")
    monkeypatch.chdir(repo.folder)
    store = feastrs.FeatureStore(".")
    report = store.materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)

    pickled = pickle.dumps((store, report))
    monkeypatch.chdir(tmp_path)
    restored, same_report = pickle.loads(pickled)

    assert same_report == report
    assert [view.view for view in report] == NATIVE_VIEWS
    assert str(report) == "\n".join(str(view) for view in report)
    question = (["driver_stats:trips"], [{"driver_id": 1000}])
    for other in (restored, copy.deepcopy(store)):
        assert other.project == store.project
        answer = other.get_online_features(*question, full_feature_names=1)
        assert answer.to_dict() == store.get_online_features(*question, True).to_dict()
