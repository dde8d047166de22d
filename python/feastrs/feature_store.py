"""`FeatureStore`: the API of Feast's class of that name, over the Rust core."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from feastrs import errors, objects, tracing
from feastrs._native import Store, __version__
from feastrs.config import RepoConfig, config_json
from feastrs.delegation import or_by_feast
from feastrs.historical import HistoricalReads
from feastrs.materialization import MaterializationError, MaterializationReport, ViewReport
from feastrs.objects import DataSource, Entity, FeatureService, FeatureView, Project
from feastrs.online_reads import OnlineReads
from feastrs.progress import Progress
from feastrs.registry import Registry
from feastrs.times import micros
from feastrs.verification import VerificationReport, verify_online

_LOG = logging.getLogger("feastrs")

_Tagged = TypeVar("_Tagged", DataSource, Entity, FeatureService, FeatureView, Project)


class FeatureStore(OnlineReads, HistoricalReads):
    """A feature repository: its definitions, its online store, and what moves between them.

    Takes the place of ``feast.FeatureStore``: the same names, parameters and defaults. It does
    not import feast; what only Feast can do (``apply``, other stores, transformations) goes to
    a real ``feast.FeatureStore``, made on first need, where feast is installed.

    Args:
        repo_path: folder of the repository; the current one by default.
        config: the settings themselves, instead of a file: a mapping with the keys of
            ``feature_store.yaml``, or a ``feast.RepoConfig``.
        fs_yaml_file: path of the file, if it is not ``feature_store.yaml`` in ``repo_path``.
        embedding_provider: handed to Feast where a call goes there.

    Raises:
        feastrs.errors.FeastConfigError: the configuration is missing or can't be used.
        ValueError: both ``config`` and ``fs_yaml_file`` are given.

    Example:
        >>> from feastrs import FeatureStore
        >>> store = FeatureStore("examples/driver_stats")
        >>> store.project
        'driver_stats'
    """

    def __init__(
        self,
        repo_path: str | Path | None = None,
        config: Any = None,
        fs_yaml_file: str | Path | None = None,
        embedding_provider: Any = None,
    ) -> None:
        if config is not None and fs_yaml_file is not None:
            raise ValueError("give config or fs_yaml_file, not both")
        super().__init__(
            {
                "repo_path": repo_path,
                "config": config,
                "fs_yaml_file": fs_yaml_file,
                "embedding_provider": embedding_provider,
            }
        )
        if config is None:
            self._native = Store.open(repo_path, fs_yaml_file)
        else:
            json, config_path = config_json(config)
            self._native = Store.from_json(json, config_path or repo_path)
        for warning in self._native.warnings:
            warnings.warn(warning, stacklevel=2)

    # -- the repository ---------------------------------------------------------------------

    @property
    def project(self) -> str:
        """Name of the project."""
        return self._native.project

    @property
    def config(self) -> RepoConfig:
        """The settings, with Feast's names as attributes."""
        return RepoConfig(self._native.config(), self._feasts_config)

    @property
    def repo_path(self) -> Path | None:
        """Folder of the repository; None for a configuration without one."""
        path = self._native.config()["repo_path"]
        return Path(path) if path else None

    def version(self) -> str:
        """Version of feastrs."""
        return __version__

    @or_by_feast
    def refresh_registry(self) -> None:
        """Reads the registry again now, instead of when ``cache_ttl_seconds`` have passed."""
        self._native.refresh_registry()

    @property
    def registry(self) -> Registry:
        """The registry, for programs that pass it around."""
        return Registry(self)

    @or_by_feast
    def list_projects(
        self, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[Project]:
        """The projects of the registry.

        Args:
            allow_cache: take the registry as last read; otherwise it is read again.
            tags: only those that carry all of these.
        """
        projects = (Project(**values) for values in self._native.list_projects(allow_cache))
        return _with_tags(projects, tags)

    @or_by_feast
    def list_entities(
        self, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[Entity]:
        """The entities of the project. Arguments as in :meth:`list_projects`."""
        entities = map(objects.entity, self._native.list_entities(allow_cache))
        shown = (one for one in entities if one.name != objects.DUMMY_ENTITY_NAME)
        return _with_tags(shown, tags)

    @or_by_feast
    def list_data_sources(
        self, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[DataSource]:
        """The data sources of the project. Arguments as in :meth:`list_projects`."""
        return _with_tags(
            map(objects.data_source, self._native.list_data_sources(allow_cache)), tags
        )

    @or_by_feast
    def list_all_feature_views(
        self, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[FeatureView]:
        """Views of every kind. Arguments as in :meth:`list_projects`."""
        return self._views("all", allow_cache, tags)

    @or_by_feast
    def list_feature_views(
        self, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[FeatureView]:
        """Plain feature views. Arguments as in :meth:`list_projects`."""
        return self._views("batch", allow_cache, tags)

    def list_batch_feature_views(
        self, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[FeatureView]:
        """Plain feature views. Arguments as in :meth:`list_projects`."""
        return self.list_feature_views(allow_cache, tags)

    @or_by_feast
    def list_stream_feature_views(
        self, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[FeatureView]:
        """Stream feature views. Arguments as in :meth:`list_projects`."""
        return self._views("stream", allow_cache, tags)

    @or_by_feast
    def list_on_demand_feature_views(
        self, allow_cache: bool = False, tags: dict[str, str] | None = None
    ) -> list[FeatureView]:
        """On-demand feature views. Arguments as in :meth:`list_projects`."""
        return self._views("on_demand", allow_cache, tags)

    def _views(
        self, kind: str, allow_cache: bool, tags: dict[str, str] | None
    ) -> list[FeatureView]:
        found = self._native.list_feature_views(kind, allow_cache)
        return _with_tags(map(objects.feature_view, found), tags)

    @or_by_feast
    def list_feature_services(
        self, tags: dict[str, str] | None = None, allow_cache: bool = False
    ) -> list[FeatureService]:
        """The feature services of the project. Arguments as in :meth:`list_projects`."""
        return _with_tags(
            map(objects.feature_service, self._native.list_feature_services(allow_cache)), tags
        )

    @or_by_feast
    def list_feature_view_versions(self, name: str) -> list[dict[str, Any]]:
        """The versions of a feature view, oldest first.

        Returns:
            For each ``version`` ("v2"), ``version_number``, ``feature_view_type``,
            ``created_timestamp`` and ``version_id``; nothing for an unknown view, as in Feast.
        """
        versions = self._native.list_feature_view_versions(name)
        return [
            {**one, "created_timestamp": one["created_timestamp"].replace(tzinfo=None)}
            for one in versions
        ]

    def get_project(self, name: str | None = None) -> Project:
        """The project of that name; this store's own by default.

        Raises:
            feastrs.errors.ProjectObjectNotFoundException: there is none.
        """
        name = name or self.project
        for project in self.list_projects():
            if project.name == name:
                return project
        raise errors.exception_class("ProjectNotFound")(f"project '{name}' is not in the registry")

    @or_by_feast
    def get_entity(self, name: str, allow_registry_cache: bool = False) -> Entity:
        """The entity of that name.

        Args:
            name: its name.
            allow_registry_cache: take the registry as last read; otherwise it is read again.

        Raises:
            feastrs.errors.EntityNotFoundException: there is none.
        """
        return objects.entity(self._native.get_entity(name, allow_registry_cache))

    @or_by_feast
    def get_data_source(self, name: str) -> DataSource:
        """The data source of that name.

        Raises:
            feastrs.errors.DataSourceObjectNotFoundException: there is none.
        """
        return objects.data_source(self._native.get_data_source(name, False))

    @or_by_feast
    def get_feature_view(self, name: str, allow_registry_cache: bool = False) -> FeatureView:
        """The plain feature view of that name. Arguments as in :meth:`get_entity`.

        Raises:
            feastrs.errors.FeatureViewNotFoundException: there is none.
        """
        return objects.feature_view(
            self._native.get_feature_view(name, "batch", allow_registry_cache)
        )

    @or_by_feast
    def get_stream_feature_view(self, name: str, allow_registry_cache: bool = False) -> FeatureView:
        """The stream feature view of that name. Arguments as in :meth:`get_entity`.

        Raises:
            feastrs.errors.FeatureViewNotFoundException: there is none.
        """
        return objects.feature_view(
            self._native.get_feature_view(name, "stream", allow_registry_cache)
        )

    @or_by_feast
    def get_on_demand_feature_view(self, name: str) -> FeatureView:
        """The on-demand feature view of that name.

        Raises:
            feastrs.errors.FeatureViewNotFoundException: there is none.
        """
        return objects.feature_view(self._native.get_feature_view(name, "on_demand", False))

    @or_by_feast
    def get_feature_service(self, name: str, allow_cache: bool = False) -> FeatureService:
        """The feature service of that name.

        Args:
            name: its name.
            allow_cache: take the registry as last read; otherwise it is read again.

        Raises:
            feastrs.errors.FeatureServiceNotFoundException: there is none.
        """
        return objects.feature_service(self._native.get_feature_service(name, allow_cache))

    # -- connections ------------------------------------------------------------------------

    async def initialize(self) -> None:
        """Reads the registry and begins to connect to the online store, before the first read.

        Example:
            >>> import asyncio
            >>> asyncio.run(store.initialize())
        """
        import asyncio

        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self._native.initialize)
        except errors.NeedsFeastError as reason:
            await self._by_feast(reason, "initialize")

    async def close(self) -> None:
        """Closes the connections that nobody uses at the moment. A later read opens them again.

        Example:
            >>> import asyncio
            >>> asyncio.run(store.close())
        """
        self._native.close()
        if self._feast is not None:
            await self._feast.close()

    # -- writing ----------------------------------------------------------------------------

    def materialize(
        self,
        start_date: datetime,
        end_date: datetime,
        feature_views: list[str] | None = None,
        disable_event_timestamp: bool = False,
        full_feature_names: bool = False,
        version: str | None = None,
        force: bool = False,
        run_async: bool = False,
    ) -> MaterializationReport:
        """Writes the newest row of each entity within a time window to the online store.

        Args:
            start_date: begin of the window, inclusive; without a time zone it is UTC.
            end_date: end of the window, inclusive; without a time zone it is UTC.
            feature_views: names; all views that are online by default.
            disable_event_timestamp: take every row from 1970 until now, whatever the window.
            full_feature_names: as in Feast; concerns on-demand views only.
            version: a version of the one view named; goes through Feast.
            force: as in Feast; concerns a remote server only.
            run_async: as in Feast; concerns a remote server only.

        Returns:
            What was done, view by view.

        Raises:
            feastrs.MaterializationError: views could not be materialized; the others were. It
                carries the report, and is a `FileNotFoundError` where a source is missing, and
                so on.
            ValueError: the window ends before it starts.
        """
        start, end = micros("start_date", start_date), micros("end_date", end_date)
        if start > end:
            raise ValueError(f"start_date {start_date} is after end_date {end_date}")
        arguments = {
            "start_date": start_date,
            "end_date": end_date,
            "disable_event_timestamp": disable_event_timestamp,
            "full_feature_names": full_feature_names,
            "version": version,
            "force": force,
            "run_async": run_async,
        }
        return self._materialize("materialize", feature_views, arguments, start, end)

    def materialize_incremental(
        self,
        end_date: datetime,
        feature_views: list[str] | None = None,
        full_feature_names: bool = False,
        version: str | None = None,
        force: bool = False,
        run_async: bool = False,
        *,
        overlap: timedelta | None = None,
    ) -> MaterializationReport:
        """Like :meth:`materialize`, from where the last run of each view ended.

        A view that was never materialized starts at now minus its ``ttl`` (a ``ttl`` of zero
        means one year).

        Args:
            end_date: end of the window, inclusive; without a time zone it is UTC.
            feature_views: names; all views that are online by default.
            full_feature_names: as in Feast; concerns on-demand views only.
            version: a version of the one view named; goes through Feast.
            force: as in Feast; concerns a remote server only.
            run_async: as in Feast; concerns a remote server only.
            overlap: begin so much before the end of the last run, for rows that come late;
                an option of ours. Rows that the store has newer ones of are left out, as ever.

        Returns:
            What was done, view by view.

        Raises:
            feastrs.MaterializationError: as in :meth:`materialize`; a `ValueError` where a view
                was never materialized and has no ``ttl``.
            ValueError: a negative ``overlap``.
        """
        arguments = {
            "end_date": end_date,
            "full_feature_names": full_feature_names,
            "version": version,
            "force": force,
            "run_async": run_async,
        }
        if overlap is not None and overlap < timedelta():
            raise ValueError(f"overlap is {overlap}; it must not be negative")
        end = micros("end_date", end_date)
        return self._materialize(
            "materialize_incremental", feature_views, arguments, None, end, overlap or timedelta()
        )

    def _materialize(
        self,
        method: str,
        feature_views: list[str] | None,
        arguments: dict[str, Any],
        start: int | None,
        end: int,
        overlap: timedelta = timedelta(),
    ) -> MaterializationReport:
        if isinstance(feature_views, str):
            raise TypeError(f"feature_views is the str {feature_views!r}; give a list of names")
        if span := tracing.span(self, method, feature_views=feature_views):
            with span:
                report = self._materialize(method, feature_views, arguments, start, end, overlap)
                span.set("feast.rows_read", sum(view.rows_read for view in report.views))
                span.set("feast.entities_written", report.entities_written)
                return report
        try:
            ours, obstacles = self._native.materialization_plan(feature_views)
        except errors.NeedsFeastError as reason:
            views = feature_views or self._online_views()
            ours, obstacles = [], dict.fromkeys(views, str(reason))
        if arguments["version"] is not None:
            ours, obstacles = [], dict.fromkeys(feature_views or [], "a version is asked for")
        if obstacles:
            reasons = "; ".join(f"view '{view}': {why}" for view, why in obstacles.items())
            feast = self._feast_store(errors.NeedsFeastError(reasons))
        every_time = bool(arguments.get("disable_event_timestamp", False))
        report = MaterializationReport()
        if ours:
            late = overlap // timedelta(microseconds=1)
            with Progress() as progress:
                done, failed = self._native.materialize(
                    ours, start, end, late, every_time, progress
                )
            report.views.extend(ViewReport.of(view) for view in done)
            report.failures.update(failed)
        if obstacles:
            _LOG.info("through Feast: %s", reasons)
            for view, why in obstacles.items():
                failure = _materialize_by_feast(feast, method, view, arguments, overlap)
                if failure is None:
                    report.delegated[view] = why
                else:
                    report.failures[view] = failure
            self.refresh_registry()
        if report.failures:
            raise MaterializationError.of(report)
        return report

    # -- looking after it -------------------------------------------------------------------

    def verify_online(
        self,
        feature_views: list[str] | None = None,
        *,
        sample: int | None = 10_000,
        seed: int = 0,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        examples: int = 10,
    ) -> VerificationReport:
        """Compares what is online with what the sources say it should be.

        Of each entity in the sample, the newest row of the source within the intervals that
        the registry says are materialized is compared with the row online. Nothing is written.
        Rows online that the source does not have are not looked for.

        Args:
            feature_views: names; by default all views that feastrs itself materializes.
            sample: how many entities of each view are compared, chosen by a hash of their keys,
                so that each has the same chance; None for all.
            seed: another seed, another sample.
            start_date: leaves out rows of the source before this time; UTC if it has no zone.
            end_date: leaves out rows of the source after this time.
            examples: how many rows of each kind of finding the report shows, for each view.

        Returns:
            What was found, view by view.

        Raises:
            feastrs.VerificationError: views could not be verified; the others were. It carries
                the report.
            feastrs.errors.NeedsFeastError: a view that was named is one that only Feast
                materializes.
            ConnectionError, TimeoutError: only as the cause of a `VerificationError`.

        Example:
            >>> report = store.verify_online()
            >>> report.is_clean
            True
        """
        return verify_online(
            self._native, feature_views, sample, seed, start_date, end_date, examples
        )

    def compact_materialization_intervals(
        self, feature_views: list[str] | None = None
    ) -> dict[str, int]:
        """Joins recorded intervals that overlap or touch, which years of small runs leave many of.

        What is covered stays the same, and so does where an incremental run begins.

        Args:
            feature_views: names; all views by default.

        Returns:
            For each view that was changed, how many intervals it has now.

        Raises:
            feastrs.errors.FeatureViewNotFoundException: a view is not in the registry.
            feastrs.errors.NeedsFeastError: the registry is not one that feastrs writes.

        Example:
            >>> store.compact_materialization_intervals(["driver_stats"])
            {}
        """
        changed = self._native.compact_intervals(feature_views)
        return {view: after for view, _, after in changed}

    def _online_views(self) -> list[str]:
        on_demand: list[Any] = self.list_on_demand_feature_views()
        by_default = [
            *(view for view in self.list_batch_feature_views() if view.online),
            *(view for view in self.list_stream_feature_views() if view.online),
            *(view for view in on_demand if view.write_to_online_store),
        ]
        return [view.name for view in by_default if view.enabled]

    # -- serving ----------------------------------------------------------------------------

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 6566,
        type_: str = "http",
        no_access_log: bool = True,
        workers: int = -1,
        worker_connections: int = 10_000,
        max_requests: int = 0,
        max_requests_jitter: int = 0,
        metrics: bool = False,
        keep_alive_timeout: float = 30,
        tls_key_path: str | Path = "",
        tls_cert_path: str | Path = "",
        registry_ttl_sec: float = 60,
    ) -> None:
        """Serves features over HTTP until the process is told to stop.

        The same as :func:`feastrs.server.serve`, which has more settings, with Feast's parameters.

        Args:
            host: the name or address to listen on.
            port: the port; 0 for any that is free.
            type_: ``"http"``, the only one.
            no_access_log: leave out the line of JSON on standard output for each request.
            workers: threads of the one process; -1 for one for each core.
            worker_connections: connections that are open at one time.
            max_requests: ignored: there are no processes to replace.
            max_requests_jitter: ignored.
            metrics: serve the metrics on port 8000, too.
            keep_alive_timeout: seconds after which a connection is closed that sends no request.
            tls_key_path: file of the private key; with ``tls_cert_path``, for TLS.
            tls_cert_path: file of the certificate.
            registry_ttl_sec: seconds between refreshes of the registry; 0 for none.

        Raises:
            ValueError: an argument can't be used.
            OSError: the address can't be bound.
            KeyboardInterrupt: it was ended by Ctrl-C.

        Example:
            >>> store.serve(port=8080)  # doctest: +SKIP
        """
        from feastrs import server
        from feastrs.metrics import DEFAULT_PORT

        if type_.lower() != "http":
            raise ValueError(f"type_ is {type_!r}; the server only speaks 'http'")
        server.serve(
            self,
            host,
            port,
            no_access_log=no_access_log,
            workers=workers if workers > 0 else None,
            keep_alive_timeout=keep_alive_timeout,
            registry_ttl_sec=registry_ttl_sec,
            tls_key_path=tls_key_path,
            tls_cert_path=tls_cert_path,
            limits=server.Limits(connections=worker_connections),
            metrics_port=DEFAULT_PORT if metrics else None,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Opened anew where it is unpickled, perhaps in another folder.
        arguments = dict(self._arguments)
        if self.repo_path is not None:
            arguments["repo_path"] = str(self.repo_path)
        if "fs_yaml_file" in arguments:
            arguments["fs_yaml_file"] = str(Path(arguments["fs_yaml_file"]).absolute())
        return _open, (type(self), arguments)

    def __repr__(self) -> str:
        return f"FeatureStore(project={self.project!r}, repo_path={str(self.repo_path)!r})"


def _materialize_by_feast(
    feast: Any, method: str, view: str, arguments: dict[str, Any], overlap: timedelta
) -> Exception | None:
    """What Feast's ``method`` fails with for one view.

    Of an overlap Feast knows nothing: then it is told where to start.
    """
    try:
        if overlap:
            last = getattr(feast.get_feature_view(view), "most_recent_end_time", None)
            if last is not None:
                method, arguments = "materialize", arguments | {"start_date": last - overlap}
        getattr(feast, method)(feature_views=[view], **arguments)
    except Exception as error:
        return error
    return None


def _with_tags(found: Iterable[_Tagged], tags: dict[str, str] | None) -> list[_Tagged]:
    return [one for one in found if not tags or tags.items() <= one.tags.items()]


def _open(cls: type[FeatureStore], arguments: dict[str, Any]) -> FeatureStore:
    return cls(**arguments)
