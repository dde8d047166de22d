"""An offline store of somebody else's, which feastrs does not know: Feast's own, by another name.

Its tables come in several chunks, as those of databases do.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from feast.infra.offline_stores.dask import DaskOfflineStore, DaskOfflineStoreConfig


class OtherOfflineStoreConfig(DaskOfflineStoreConfig):
    """How `feature_store.yaml` names it."""

    type: str = "testbed.other_offline_store.OtherOfflineStore"


class OtherOfflineStore(DaskOfflineStore):
    """Reads files as Feast does, and cuts what it gives into chunks."""

    @staticmethod
    def pull_all_from_table_or_query(*args: Any, **kwargs: Any) -> Any:
        job = DaskOfflineStore.pull_all_from_table_or_query(*args, **kwargs)
        to_arrow = job.to_arrow

        def in_chunks(*args: Any, **kwargs: Any) -> pa.Table:
            return pa.Table.from_batches(to_arrow(*args, **kwargs).to_batches(max_chunksize=7))

        job.to_arrow = in_chunks
        return job
