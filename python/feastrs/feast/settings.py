"""Settings of ours that the plug-ins take beside Feast's own."""

from __future__ import annotations

from typing import Literal

from feast.repo_config import FeastConfigBaseModel


class ServingSettings(FeastConfigBaseModel):
    """What every online store of ours takes.

    Example:
        >>> from feastrs.feast.settings import ServingSettings
        >>> ServingSettings().enforce_online_ttl
        False
    """

    online_statuses: Literal["feast", "feastrs"] = "feast"
    """How entities that are not there are reported. Here the default is Feast's way, because
    the program around this store was written for Feast: with Redis they are PRESENT and null.
    `feastrs` tells NOT_FOUND and NULL_VALUE apart."""

    enforce_online_ttl: bool = False
    """Whether rows older than the view's `ttl` are OUTSIDE_MAX_AGE and null."""

    equal_timestamps: Literal["overwrite", "skip"] = "overwrite"
    """What a row does that is as new as the stored one, or as another of its batch: the last to
    arrive stays, so that corrections land; or, as in Feast, the first."""
