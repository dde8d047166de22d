"""What a verification found, and the error that tells what it could not look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from feastrs import errors
from feastrs.progress import VerificationProgress
from feastrs.times import micros

if TYPE_CHECKING:
    import pandas as pd

    from feastrs import _native

FINDINGS = ("missing", "stale", "different", "unreadable")
"""What is a finding, of what may become of a row."""


@dataclass(frozen=True)
class Difference:
    """A feature of one row whose value online is not that of the source."""

    feature: str
    """Its name."""

    problem: str
    """``value``; ``type``: of another type; ``absent``: the row is there, the feature is not;
    ``undecodable``: bytes that are no value."""

    source: Any
    """The value that the source has."""

    online: Any
    """The value online; the bytes themselves where they are no value, None where there are none."""

    def __str__(self) -> str:
        if self.problem == "absent":
            return f"{self.feature}: {self.source!r} in the source, absent online"
        text = f"{self.feature}: {self.source!r} in the source, {self.online!r} online"
        return text if self.problem == "value" else f"{text} ({self.problem})"


@dataclass(frozen=True)
class Example:
    """A row that is not as it should be."""

    status: str
    """One of :data:`FINDINGS`."""

    entity: dict[str, Any]
    """Join keys and their values; empty for a view without entity."""

    source_time: datetime
    """Event timestamp of the newest row in the source, UTC."""

    online_time: datetime | None
    """Event timestamp of the row online, UTC; None where there is none."""

    differences: list[Difference]
    """The features that differ, for the status ``different``."""

    reason: str | None
    """Why what is online is no row, for the status ``unreadable``."""

    def __str__(self) -> str:
        entity = ", ".join(f"{key}={value!r}" for key, value in self.entity.items())
        text = f"{entity or 'the one row'} of {self.source_time.isoformat()} is {self.status}"
        if self.status == "stale" and self.online_time is not None:
            text += f": the row online is of {self.online_time.isoformat()}"
        if self.differences:
            text += ": " + "; ".join(map(str, self.differences))
        if self.reason:
            text += f": {self.reason}"
        return text


@dataclass(frozen=True)
class Distribution:
    """The values of a feature on one side.

    Moments are of the finite numbers, times in seconds since the epoch; None where there are none.
    """

    nulls: int
    """How many are null; online, also those that are not there or are no value."""

    mean: float | None
    """Their mean."""

    std: float | None
    """Their standard deviation, as of a sample (n - 1)."""

    min: float | None
    """The least."""

    max: float | None
    """The greatest."""

    p5: float | None
    """The quantile at 0.05; like the others of at most 10,000 rows, drawn with equal chances."""

    p25: float | None
    """The quantile at 0.25."""

    p50: float | None
    """The median."""

    p75: float | None
    """The quantile at 0.75."""

    p95: float | None
    """The quantile at 0.95."""


@dataclass(frozen=True)
class FeatureVerification:
    """What was found about one feature."""

    feature: str
    """Its name."""

    value_type: str
    """Its declared type, such as ``INT64``."""

    compared: int
    """Rows whose event timestamp online is that of the source."""

    different: int
    """Those of them in which the feature differs."""

    absent: int
    """Those of them in which the feature is not there at all; they are ``different``, too."""

    rows: int
    """Entities that have a row online, whatever its time: those whose values are compared as
    distributions."""

    psi: float | None
    """The population stability index of what is online against the source, over ten bins with
    about as many rows of the source each (over the 20 most frequent values of both, for texts,
    booleans and numbers of no more than 20 values) and one for nulls: the sum of ``(online -
    source) * ln(online / source)`` of their shares, of which none counts as less than 0.0001.
    Below 0.1 is taken for no change, above 0.25 for a large one. None for types without a
    distribution."""

    source: Distribution
    """What the source has for these entities."""

    online: Distribution
    """What is online."""

    categories: list[tuple[str, float, float]]
    """Texts and booleans: the ten most frequent ones of both, each with its share in the source and
    online. Texts are cut after 64 bytes."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> FeatureVerification:
        """The report of the core, as a value that can be pickled and compared."""
        sides = {name: Distribution(**values[name]) for name in ("source", "online")}
        return cls(**{**values, **sides})

    @property
    def different_share(self) -> float:
        """``different`` of ``compared``, 0 to 1."""
        return _share(self.different, self.compared)


@dataclass(frozen=True)
class ViewVerification:
    """What was found about one view."""

    view: str
    """Its name."""

    is_materialized: bool
    """Whether the registry has an interval that is materialized, within the time range asked for.
    Nothing is compared of a view without."""

    start: datetime | None
    """Begin of the event timestamps that were looked at, UTC; None before year 1."""

    end: datetime | None
    """Their end."""

    rows_read: int
    """Rows of the source that were looked at; row groups outside the intervals are not."""

    null_keys: int
    """Rows of the source that were left out because a join key is null."""

    entities: int
    """Entities that the source has in the materialized intervals."""

    entities_estimated: bool
    """Whether ``entities`` is an estimate, made from the sample."""

    matching: int
    """Entities whose row online has the event timestamp and the values of the source."""

    missing: int
    """Entities without a row online. A finding."""

    stale: int
    """Entities whose row online is older than the newest row of the source. A finding."""

    different: int
    """Entities whose row online has the event timestamp of the source and other values. A
    finding."""

    unreadable: int
    """Entities of which there is something online that is no row. A finding."""

    newer: int
    """Entities whose row online is newer than the source: pushed, for instance. No finding."""

    expired: int
    """Entities without a row online, which ``key_ttl_seconds`` or ``field_ttl`` explain. No
    finding."""

    features: list[FeatureVerification]
    """Feature by feature."""

    examples: list[Example]
    """Some of the findings."""

    seconds: float
    """How long it took."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ViewVerification:
        """The report of the core, as a value that can be pickled and compared."""
        features = [FeatureVerification.of(one) for one in values["features"]]
        examples = [
            Example(**{**one, "differences": [Difference(**each) for each in one["differences"]]})
            for one in values["examples"]
        ]
        return cls(**{**values, "features": features, "examples": examples})

    @property
    def compared(self) -> int:
        """Entities that were compared, whatever came out."""
        return self.findings + self.matching + self.newer + self.expired

    @property
    def findings(self) -> int:
        """Entities that are not as they should be."""
        return self.missing + self.stale + self.different + self.unreadable

    @property
    def is_clean(self) -> bool:
        """Whether all that was compared is as it should be."""
        return self.findings == 0

    def share(self, status: str) -> float:
        """The share of the compared entities with a status, such as ``missing``; 0 to 1."""
        return _share(getattr(self, status), self.compared)

    def __str__(self) -> str:
        if not self.is_materialized:
            return f"{self.view}: nothing is materialized in the time range; nothing compared"
        about = "about " if self.entities_estimated else ""
        text = f"{self.view}: {self.compared:,} of {about}{self.entities:,} entities compared"
        told = (*FINDINGS, "newer", "expired")
        parts = [
            f"{getattr(self, name):,} {name} ({self.share(name):.2%})"
            for name in told
            if getattr(self, name)
        ]
        return f"{text}: {', '.join(parts) or 'all matching'}"


@dataclass(frozen=True)
class VerificationReport:
    """What a verification found.

    Example:
        >>> from feastrs import VerificationReport
        >>> VerificationReport().is_clean
        True
    """

    views: list[ViewVerification] = field(default_factory=list)
    """One for each view that could be looked at."""

    skipped: dict[str, str] = field(default_factory=dict)
    """Views that only Feast materializes, each with the reason; they can't be verified."""

    failures: dict[str, Exception] = field(default_factory=dict)
    """Views that failed, each with its error. A report that is returned has none."""

    sample: int | None = None
    """How many entities of each view were to be compared; None: all."""

    seed: int = 0
    """What the sample was drawn with."""

    @property
    def is_clean(self) -> bool:
        """Whether all that was compared is as it should be, and no view failed."""
        return not self.failures and all(view.is_clean for view in self.views)

    def excesses(
        self,
        max_missing: float = 0.0,
        max_stale: float = 0.0,
        max_different: float = 0.0,
        max_psi: float | None = None,
    ) -> list[str]:
        """What is more than it may be, in words; empty if nothing is.

        Args:
            max_missing: the share of a view's compared entities that may be missing, 0 to 1.
            max_stale: that may be stale.
            max_different: that may be different or unreadable.
            max_psi: the population stability index that a feature may have; None: any.
        """
        limits = {
            "missing": max_missing,
            "stale": max_stale,
            "different": max_different,
            "unreadable": max_different,
        }
        drifted = [
            f"{view.view}: the values of {one.feature} have drifted: PSI {one.psi:.3f}, "
            f"{max_psi:.3f} may be"
            for view in self.views
            for one in view.features
            if max_psi is not None and one.psi is not None and one.psi > max_psi
        ]
        return [
            f"{view.view}: {getattr(view, name):,} of {view.compared:,} rows "
            f"({view.share(name):.2%}) are {name}, {limit:.2%} may be"
            for view in self.views
            for name, limit in limits.items()
            if view.share(name) > limit
        ] + drifted

    def to_dict(self) -> dict[str, Any]:
        """The report as dicts and lists of plain values, shares included."""
        views = []
        for view in self.views:
            values = asdict(view)
            values |= {"compared": view.compared, "is_clean": view.is_clean}
            values |= {f"{name}_share": view.share(name) for name in FINDINGS}
            for one, feature in zip(values["features"], view.features, strict=True):
                one["different_share"] = feature.different_share
            views.append(values)
        return {
            "is_clean": self.is_clean,
            "sample": self.sample,
            "seed": self.seed,
            "views": views,
            "skipped": dict(self.skipped),
            "failures": {view: str(error) for view, error in self.failures.items()},
        }

    def to_df(self, of: str = "views") -> pd.DataFrame:
        """The report as a pandas frame.

        Args:
            of: ``views``: a row for each view; ``features``: a row for each feature of each view;
                ``examples``: a row for each example.
        """
        import pandas as pd

        if of not in ("views", "features", "examples"):
            raise ValueError(f"of is {of!r}; give 'views', 'features' or 'examples'")
        views = self.to_dict()["views"]
        if of == "views":
            inner = ("features", "examples")
            rows = [{k: v for k, v in view.items() if k not in inner} for view in views]
        else:
            rows = [{"view": view["view"], **_flat(one)} for view in views for one in view[of]]
        return pd.DataFrame(rows)

    def __iter__(self) -> Iterator[ViewVerification]:
        return iter(self.views)

    def __str__(self) -> str:
        lines = []
        for view in self.views:
            lines.append(str(view))
            lines += [f"  {example}" for example in view.examples]
        lines += [f"{view}: not verified ({reason})" for view, reason in self.skipped.items()]
        lines += [f"{view}: FAILED, {error}" for view, error in self.failures.items()]
        return "\n".join(lines) or "nothing to verify"

    def __repr__(self) -> str:
        verdict = "clean" if self.is_clean else "not clean"
        return f"<VerificationReport: {verdict}>\n{self}"


class VerificationError(errors.FeastrsError):
    """Views could not be verified; those that could are in its report.

    Example:
        >>> from feastrs import VerificationError, VerificationReport
        >>> report = VerificationReport(failures={"v": ValueError("no source")})
        >>> str(VerificationError.of(report))
        'no source'
    """

    report: VerificationReport
    """What was found, and the errors of the views that failed."""

    @classmethod
    def of(cls, report: VerificationReport) -> VerificationError:
        """The error of a report with failures."""
        error = cls("; ".join(str(failure) for failure in report.failures.values()))
        error.report = report
        error.__cause__ = next(iter(report.failures.values()))
        return error

    def __reduce__(self) -> tuple[object, ...]:
        return VerificationError.of, (self.report,)


def verify_online(
    native: _native.Store,
    feature_views: list[str] | None,
    sample: int | None,
    seed: int,
    start_date: datetime | None,
    end_date: datetime | None,
    examples: int,
) -> VerificationReport:
    """See :meth:`feastrs.FeatureStore.verify_online`."""
    if isinstance(feature_views, str):
        raise TypeError(f"feature_views is the str {feature_views!r}; give a list of names")
    if sample is not None and sample < 1:
        raise ValueError(f"sample is {sample}; give 1 or more, or None for all entities")
    if examples < 0:
        raise ValueError(f"examples is {examples}; it must not be negative")
    start = None if start_date is None else micros("start_date", start_date)
    end = None if end_date is None else micros("end_date", end_date)
    if start is not None and end is not None and start > end:
        raise ValueError(f"start_date {start_date} is after end_date {end_date}")
    ours, obstacles = native.materialization_plan(feature_views)
    if obstacles and feature_views is not None:
        reasons = "; ".join(f"view '{view}' {why}" for view, why in obstacles.items())
        raise errors.NeedsFeastError(f"what only Feast materializes can't be verified: {reasons}")
    with VerificationProgress() as progress:
        done, failed = native.verify_online(
            ours, start, end, sample, seed % 2**64, examples, progress
        )
    views = [ViewVerification.of(values) for values in done]
    report = VerificationReport(views, obstacles, dict(failed), sample, seed)
    if report.failures:
        raise VerificationError.of(report)
    return report


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """With ``source_mean``, ``online_mean`` and so on in place of dicts."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and name != "entity":
            flat |= {f"{name}_{inner}": one for inner, one in value.items()}
        else:
            flat[name] = value
    return flat


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
