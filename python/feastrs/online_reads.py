"""Features read from the online store: `get_online_features`, and reads that are prepared once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feastrs import errors, tracing
from feastrs.objects import FeatureService
from feastrs.online_reader import OnlineReader
from feastrs.online_response import OnlineResponse
from feastrs.online_writes import OnlineWrites


class OnlineReads(OnlineWrites):
    """The part of :class:`feastrs.FeatureStore` that reads features.

    Example:
        >>> from feastrs.online_reads import OnlineReads
        >>> isinstance(store, OnlineReads)
        True
    """

    def get_online_features(
        self,
        features: Sequence[str] | FeatureService | Any,
        entity_rows: list[dict[str, Any]] | Mapping[str, Sequence[Any]],
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Reads the newest values of features for some entities.

        Args:
            features: references ``"view:feature"``, or a feature service (of feastrs or of
                feast).
            entity_rows: a list of dicts, one for each row, or a dict of columns; join keys and
                their values.
            full_feature_names: name columns ``view__feature`` instead of ``feature``.
            include_feature_view_version_metadata: also say which version of each view was
                read: ``response.view_versions()``, and in ``response.proto``.

        Returns:
            Join keys first, then the features in the order asked; one row for each row of
            ``entity_rows``, in its order.

        Raises:
            feastrs.errors.FeatureViewNotFoundException: a view is not in the registry.
            feastrs.errors.FeatureNameCollisionError: two columns would have one name.
            KeyError: a feature is not in its view, or a join key is not in the rows.
            ValueError: the rows can't be used.
            ConnectionError, TimeoutError: the online store did not answer.
        """
        if tracing.API in tracing.MODULES and (
            span := tracing.read(self, "get_online_features", features, entity_rows)
        ):
            with span:
                return self.get_online_features(
                    features, entity_rows, full_feature_names, include_feature_view_version_metadata
                )
        try:
            result = self._native.get_online_features(
                features, entity_rows, full_feature_names, include_feature_view_version_metadata
            )
        except errors.NeedsFeastError as reason:
            response: OnlineResponse = self._by_feast(
                reason,
                "get_online_features",
                features=features,
                entity_rows=entity_rows,
                full_feature_names=full_feature_names,
                include_feature_view_version_metadata=include_feature_view_version_metadata,
            )
            return response
        return OnlineResponse(result)

    async def get_online_features_async(
        self,
        features: Sequence[str] | FeatureService | Any,
        entity_rows: list[dict[str, Any]] | Mapping[str, Sequence[Any]],
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Like :meth:`get_online_features`, without blocking the event loop.

        Reads in flight share connections, whatever loops they belong to. One that is cancelled
        is over at once. The first read opens the registry: :meth:`initialize` does it before.

        Example:
            >>> import asyncio
            >>> response = asyncio.run(
            ...     store.get_online_features_async(
            ...         ["driver_stats:conv_rate"], [{"driver_id": 1001}]
            ...     )
            ... )
            >>> list(response.to_dict())
            ['driver_id', 'conv_rate']
        """
        from feastrs import event_loop

        if tracing.API in tracing.MODULES and (
            span := tracing.read(self, "get_online_features_async", features, entity_rows)
        ):
            with span:
                return await self.get_online_features_async(
                    features, entity_rows, full_feature_names, include_feature_view_version_metadata
                )
        try:
            result = await event_loop.answer(
                self._native.start_online_features,
                features,
                entity_rows,
                bool(full_feature_names),
                bool(include_feature_view_version_metadata),
            )
        except errors.NeedsFeastError as reason:
            response: OnlineResponse = await self._by_feast(
                reason,
                "get_online_features_async",
                features,
                entity_rows,
                full_feature_names,
                include_feature_view_version_metadata,
            )
            return response
        return OnlineResponse(result)

    def online_reader(
        self, features: Sequence[str] | FeatureService | Any, full_feature_names: bool = False
    ) -> OnlineReader:
        """Prepares the reading of features that are asked for again and again.

        Args:
            features: as in :meth:`get_online_features`.
            full_feature_names: name columns ``view__feature`` instead of ``feature``.

        Returns:
            A reader whose :meth:`~feastrs.OnlineReader.read` takes the entities alone.

        Raises:
            feastrs.errors.NeedsFeastError: the features are such as only Feast itself reads.
            Otherwise as in :meth:`get_online_features`.

        Example:
            >>> reader = store.online_reader(["driver_stats:conv_rate"])
            >>> reader.feature_names
            ['conv_rate']
        """
        return OnlineReader(self._native.online_reader(features, bool(full_feature_names)), self)
