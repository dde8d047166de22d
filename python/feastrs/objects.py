"""The objects of a registry: what `feast apply` wrote down, with the attributes of Feast's own.

They are values: equal by what they hold, and not to be changed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, cast

from feastrs._native import value_type_names

DUMMY_ENTITY_NAME = "__dummy"
"""Feast's name for the entity of a view without entities."""


class _ByName(enum.Enum):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, enum.Enum) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


# `feast.ValueType`: each member is equal to Feast's of the same name.
ValueType: Any = cast(Any, _ByName)("ValueType", value_type_names(), module=__name__)


class FeastType(str):
    """The dtype of a field as Feast prints it (``Array(Int64)``); equal to Feast's own object.

    Example:
        >>> from feastrs.objects import FeastType
        >>> FeastType("Int64") == "Int64"
        True
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return str.__str__(self)


@dataclass(frozen=True)
class Field:
    """A named, typed column of a view."""

    name: str
    dtype: FeastType
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    vector_index: bool = False
    """Whether it is searched by vectors."""

    vector_length: int = 0
    """How many numbers a vector has; 0 where that is not declared."""

    vector_search_metric: str = ""
    """The distance by which it is searched; empty where that is not declared."""


@dataclass(frozen=True)
class Project:
    """A project of the registry."""

    name: str
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    owner: str = ""
    created_timestamp: datetime | None = None
    last_updated_timestamp: datetime | None = None


@dataclass(frozen=True)
class Entity:
    """What a join key identifies."""

    name: str
    join_key: str
    value_type: enum.Enum
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    owner: str = ""
    created_timestamp: datetime | None = None
    last_updated_timestamp: datetime | None = None


@dataclass(frozen=True)
class DataSource:
    """Where the rows of a view come from: a base class; objects are of a class named as Feast's."""

    name: str
    timestamp_field: str = ""
    created_timestamp_column: str = ""
    field_mapping: dict[str, str] = field(default_factory=dict)
    date_partition_column: str = ""
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    owner: str = ""
    created_timestamp: datetime | None = None
    last_updated_timestamp: datetime | None = None
    class_type: str = ""
    """Feast's class, as the registry names it."""

    path: str = ""
    """File sources: path, folder, pattern or URI."""

    s3_endpoint_override: str = ""
    schema: list[Field] = field(default_factory=list)
    """Request sources: what the request brings."""

    batch_source: DataSource | None = None
    """Push and stream sources: where history is."""


class FileSource(DataSource):
    """Parquet or Delta files."""


class PushSource(DataSource):
    """Rows that are pushed."""


class KafkaSource(DataSource):
    """A Kafka topic."""


class KinesisSource(DataSource):
    """A Kinesis stream."""


class RequestSource(DataSource):
    """Values that come with the request."""


@dataclass(frozen=True)
class FeatureViewProjection:
    """A view as a feature service or an on-demand view uses it."""

    name: str
    name_alias: str | None = None
    features: list[Field] = field(default_factory=list)
    join_key_map: dict[str, str] = field(default_factory=dict)
    version_tag: int | None = None

    def name_to_use(self) -> str:
        """The alias where there is one, with the version if one is pinned."""
        name = self.name_alias or self.name
        return name if self.version_tag is None else f"{name}@v{self.version_tag}"


@dataclass(frozen=True)
class FeatureView:
    """Features of an entity, with where they come from."""

    name: str
    entities: list[str] = field(default_factory=list)
    entity_columns: list[Field] = field(default_factory=list)
    features: list[Field] = field(default_factory=list)
    ttl: timedelta | None = None
    online: bool = True
    offline: bool = False
    enabled: bool = True
    state: str = "STATE_UNSPECIFIED"
    current_version_number: int = 0
    batch_source: DataSource | None = None
    stream_source: DataSource | None = None
    materialization_intervals: list[tuple[datetime, datetime]] = field(default_factory=list)
    mode: str = ""
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    owner: str = ""
    created_timestamp: datetime | None = None
    last_updated_timestamp: datetime | None = None

    kind: ClassVar[str] = "batch"

    @property
    def join_keys(self) -> list[str]:
        """Names of the join keys."""
        return [column.name for column in self.entity_columns]

    @property
    def schema(self) -> list[Field]:
        """Join keys and features."""
        return [*self.entity_columns, *self.features]

    @property
    def source(self) -> DataSource | None:
        """What the view was defined on; of a push source, what it batches to, as in Feast."""
        return self.batch_source

    @property
    def projection(self) -> FeatureViewProjection:
        """The whole view as a projection."""
        return FeatureViewProjection(name=self.name, features=self.features)

    @property
    def most_recent_end_time(self) -> datetime | None:
        """Where the last materialization ended; None if there was none."""
        return max((end for _, end in self.materialization_intervals), default=None)


class StreamFeatureView(FeatureView):
    """A view with a stream source."""

    kind = "stream"

    @property
    def source(self) -> DataSource | None:
        """The stream source."""
        return self.stream_source


class LabelView(FeatureView):
    """A view of labels."""

    kind = "label"


@dataclass(frozen=True)
class OnDemandFeatureView(FeatureView):
    """Features that are computed when they are asked for, or when they are written."""

    source_feature_view_projections: dict[str, FeatureViewProjection] = field(default_factory=dict)
    source_request_sources: dict[str, DataSource] = field(default_factory=dict)
    write_to_online_store: bool = False
    singleton: bool = False

    kind: ClassVar[str] = "on_demand"


class LoggingDestination:
    """Where what a feature service serves is logged: its settings are its attributes.

    Example:
        >>> from feastrs.objects import LoggingDestination
        >>> LoggingDestination("file_destination", {"path": "logs"}).path
        'logs'
    """

    def __init__(self, kind: str, settings: dict[str, Any]) -> None:
        self.kind = kind
        self.settings = settings

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["settings"][name]
        except KeyError:
            raise AttributeError(f"a logging destination has no setting '{name}'") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoggingDestination) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.kind)

    def __repr__(self) -> str:
        return f"LoggingDestination({self.kind!r}, {self.settings!r})"


@dataclass(frozen=True)
class LoggingConfig:
    """How what a feature service serves is logged."""

    destination: LoggingDestination
    sample_rate: float = 1.0


@dataclass(frozen=True)
class FeatureService:
    """A named set of features."""

    name: str
    feature_view_projections: list[FeatureViewProjection] = field(default_factory=list)
    logging_config: LoggingConfig | None = None
    precompute_online: bool = False
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    owner: str = ""
    created_timestamp: datetime | None = None
    last_updated_timestamp: datetime | None = None


_SOURCES: dict[str, type[DataSource]] = {
    "Parquet": FileSource,
    "OtherFile": FileSource,
    "Push": PushSource,
    "Kafka": KafkaSource,
    "Kinesis": KinesisSource,
    "Request": RequestSource,
}
_VIEWS: dict[str, type[FeatureView]] = {
    view.kind: view for view in (FeatureView, StreamFeatureView, OnDemandFeatureView, LabelView)
}


def entity(values: dict[str, Any]) -> Entity:
    """An entity from what the core gives."""
    return Entity(**{**_naive_dates(values), "value_type": ValueType(values["value_type"])})


def data_source(values: dict[str, Any]) -> DataSource:
    """A data source from what the core gives."""
    values = dict(values)
    cls = _SOURCES.get(values.pop("kind"), DataSource)
    values["schema"] = _fields(values["schema"])
    values["batch_source"] = _maybe_source(values["batch_source"])
    return cls(**values)


def feature_view(values: dict[str, Any]) -> FeatureView:
    """A view of any kind from what the core gives."""
    values = _naive_dates(values)
    cls = _VIEWS[values.pop("kind")]
    # Feast hides the entity that it gives to views without one.
    if DUMMY_ENTITY_NAME in values["entities"]:
        values["entities"], values["entity_columns"] = [], []
    values["features"] = _fields(values["features"])
    values["entity_columns"] = _fields(values["entity_columns"])
    values["batch_source"] = _maybe_source(values["batch_source"])
    values["stream_source"] = _maybe_source(values["stream_source"])
    if cls is OnDemandFeatureView:
        projections, requests = (
            values["source_feature_view_projections"],
            values["source_request_sources"],
        )
        values["source_feature_view_projections"] = {
            name: projection(one) for name, one in projections.items()
        }
        values["source_request_sources"] = {
            name: data_source(one) for name, one in requests.items()
        }
    return cls(**values)


def projection(values: dict[str, Any]) -> FeatureViewProjection:
    """A projection from what the core gives."""
    return FeatureViewProjection(**{**values, "features": _fields(values["features"])})


def feature_service(values: dict[str, Any]) -> FeatureService:
    """A feature service from what the core gives."""
    values = _naive_dates(values)
    values["feature_view_projections"] = [
        projection(one) for one in values["feature_view_projections"]
    ]
    if logging := values.get("logging_config"):
        destination = LoggingDestination(logging["kind"], logging["settings"])
        values["logging_config"] = LoggingConfig(destination, logging["sample_rate"])
    return FeatureService(**values)


def _naive_dates(values: dict[str, Any]) -> dict[str, Any]:
    """A copy whose own dates are naive UTC, as Feast has them everywhere but in sources."""
    dates = ("created_timestamp", "last_updated_timestamp")
    naive = {name: values[name].replace(tzinfo=None) for name in dates if values.get(name)}
    return {**values, **naive}


def _fields(values: list[dict[str, Any]]) -> list[Field]:
    return [Field(**{**one, "dtype": FeastType(one["dtype"])}) for one in values]


def _maybe_source(values: dict[str, Any] | None) -> DataSource | None:
    return None if values is None else data_source(values)
