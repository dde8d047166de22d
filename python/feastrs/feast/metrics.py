"""What `feast serve --metrics` counts of each read, where Feast's own code would have counted."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from feast import FeatureService

from feastrs._native import OnlineResult


def count_read(
    result: OnlineResult, features: list[str] | FeatureService, read_seconds: float
) -> None:
    """Adds one read to Feast's metrics, if they are on in this process.

    Example:
        >>> from feastrs.feast.metrics import count_read
        >>> count_read(None, ["driver_stats:trips"], 0.001)  # metrics are off: nothing is looked at
    """
    metrics = sys.modules.get("feast.metrics")
    if metrics is None or not metrics._config.online_features:
        return
    metrics.track_online_store_read(read_seconds)
    present: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    statuses = result.statuses()
    for view, name in zip(_views(features), result.feature_names, strict=True):
        not_found = statuses[name].count("NOT_FOUND")
        missing[view] += not_found
        present[view] += len(statuses[name]) - not_found
    for view in present:
        metrics.track_feature_statuses(view, present[view], missing[view])


def _views(features: Any) -> list[str]:
    """For each feature asked, the name of its view."""
    if isinstance(features, FeatureService):
        projections = features.feature_view_projections
        return [projection.name for projection in projections for _ in projection.features]
    return [reference.split(":")[0].split("@")[0] for reference in features]
