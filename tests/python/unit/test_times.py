"""Begin and end of a materialization as datetimes of other libraries."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from testbed.plain import AT, plain


class Pendulum(datetime):
    """As pendulum's, of which Airflow's are: differences are no plain `timedelta`."""

    def __sub__(self, other: Any) -> Any:
        return "an interval"


@pytest.mark.parametrize(
    "end",
    [Pendulum(2024, 5, 1, 8, tzinfo=timezone.utc), pd.Timestamp(AT), AT.replace(tzinfo=None)],
    ids=["pendulum", "pandas", "naive"],
)
def test_any_datetime_is_a_time(end: datetime, tmp_path: Path) -> None:
    store = plain(tmp_path).open(tmp_path / "repo").ours()

    [full] = store.materialize(end, end)
    [incremental] = store.materialize_incremental(end)

    assert full.entities_written == 3
    assert (full.start, full.end, incremental.end) == (AT, AT, AT)
