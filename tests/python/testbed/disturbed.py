"""Materializations in the middle of which something happens to the store."""

from __future__ import annotations

import threading
from collections.abc import Callable

from feastrs import errors
from testbed.plain import WIDE_FEATURES
from testbed.redis_topologies import eventually
from testbed.repo import EARLY, LATE, Repo


def materialize_disturbed(
    repo: Repo, entities: Callable[[], int], disturb: Callable[[], None]
) -> bool:
    """Materializes the view `wide`, and disturbs it when some entities are there.

    Whether it failed: then the error is one of a store that is not there, and nothing is
    recorded; otherwise the interval is.
    """
    failed: list[BaseException] = []
    store = repo.ours()

    def materialize() -> None:
        try:
            store.materialize(EARLY, LATE)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=materialize)
    thread.start()
    eventually("some entities are there", lambda: entities() > 0)
    disturb()
    thread.join()
    for error in failed:
        assert isinstance(error, (errors.StoreUnavailableError, errors.StoreTimeoutError)), error
    recorded = repo.ours().get_feature_view("wide").materialization_intervals
    assert recorded == ([] if failed else [(EARLY, LATE)])
    return bool(failed)


def assert_wide(repo: Repo, drivers: int) -> None:
    """Every row of the view `wide` is in the store as it should be."""
    rows = {"driver_id": list(range(drivers))}
    features = ["wide:f_0", f"wide:f_{WIDE_FEATURES - 1}"]
    answer = repo.ours().get_online_features(features, rows).to_dict()
    expected = [driver / 7 for driver in range(drivers)]
    assert answer["f_0"] == expected
    assert answer[f"f_{WIDE_FEATURES - 1}"] == expected
