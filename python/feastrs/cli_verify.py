"""The command ``feastrs verify``: a report for whoever looks, an exit code for a scheduler."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feastrs import cli_output as output

if TYPE_CHECKING:
    from feastrs import FeatureStore, VerificationReport

DRIFTED = 0.1
"""Features with a population stability index as high as this are shown."""
FOUND = 1
"""Exit code: something is not as it should be."""
FAILED = 2
"""Exit code: it could not be found out."""


def add_verify(
    commands: Any,
    open_store: Callable[[argparse.Namespace], FeatureStore],
    parse_time: Callable[[str, str], datetime],
    usage_error: type[Exception],
) -> None:
    """Adds the command to a parser's subcommands.

    Args:
        commands: what ``add_subparsers`` gave.
        open_store: opens the store that the options are about.
        parse_time: makes a time of an option's name and text.
        usage_error: what to raise when options can't be used.

    Example:
        >>> import argparse
        >>> from feastrs.cli_verify import add_verify
        >>> parser = argparse.ArgumentParser()
        >>> add_verify(parser.add_subparsers(), print, print, ValueError)
        >>> parser.parse_args(["verify", "--all"]).sample is None
        True
    """
    summary = "compare what is online with what the sources say it should be"
    command = commands.add_parser(
        "verify",
        help=summary,
        description=f"{summary}. Exit codes: 0 clean, 1 more findings than may be, 2 failed.",
    )
    add = command.add_argument
    add(
        "-v",
        "--views",
        action="append",
        metavar="VIEW",
        help="a feature view; repeat for more (default: all)",
    )
    entities = command.add_mutually_exclusive_group()
    entities.add_argument(
        "--sample",
        type=int,
        default=10_000,
        metavar="N",
        help="compare so many entities of each view (default: %(default)s)",
    )
    entities.add_argument(
        "--all", action="store_const", const=None, dest="sample", help="compare all entities"
    )
    add("--seed", type=int, default=0, metavar="N", help="another seed, another sample")
    add("--start", metavar="TS", help="leave out rows of the sources before this time")
    add("--end", metavar="TS", help="leave out rows of the sources after this time")
    add(
        "--examples",
        type=int,
        default=10,
        metavar="N",
        help="show so many rows of each kind of finding (default: %(default)s)",
    )
    for name, what in (
        ("missing", "may be missing"),
        ("stale", "may be older than in the source"),
        ("different", "may have other values, or be unreadable"),
    ):
        add(
            f"--max-{name}",
            type=_share,
            default=0.0,
            metavar="SHARE",
            help=f"the share of a view's rows that {what}, 0 to 1 (default: 0)",
        )
    add(
        "--max-psi",
        type=float,
        metavar="PSI",
        help="the population stability index that a feature may have, such as 0.25 (default: any)",
    )
    add("--json", metavar="FILE", help="write the report as JSON, too; - for standard output alone")

    def verify(options: argparse.Namespace) -> int:
        if options.sample is not None and options.sample < 1:
            raise usage_error(f"--sample {options.sample}: give 1 or more, or --all")
        if options.examples < 0:
            raise usage_error(f"--examples {options.examples} must not be negative")
        times = {
            f"{name}_date": parse_time(f"--{name}", text)
            for name, text in (("start", options.start), ("end", options.end))
            if text
        }
        if len(times) == 2 and times["start_date"] > times["end_date"]:
            raise usage_error(f"--start {options.start} is after --end {options.end}")
        return _verify(options, open_store, times)

    command.set_defaults(command=verify, failure_code=FAILED)


def _verify(
    options: argparse.Namespace,
    open_store: Callable[[argparse.Namespace], FeatureStore],
    times: dict[str, datetime],
) -> int:
    from feastrs import VerificationError

    try:
        report = open_store(options).verify_online(
            options.views,
            sample=options.sample,
            seed=options.seed,
            examples=options.examples,
            **times,
        )
    except VerificationError as error:
        _tell(options, error.report, [])
        raise
    excesses = report.excesses(
        options.max_missing, options.max_stale, options.max_different, options.max_psi
    )
    _tell(options, report, excesses)
    return FOUND if excesses else 0


def _tell(options: argparse.Namespace, report: VerificationReport, excesses: list[str]) -> None:
    if options.json:
        document = {"excesses": excesses, **report.to_dict()}
        if options.json == "-":
            output.print_json(document)
            return
        Path(options.json).write_text(output.json_text(document) + "\n", encoding="utf-8")
    print_report(report)
    for excess in excesses:
        print(f"FOUND {excess}")
    if not excesses and not report.failures:
        print("clean" if report.is_clean else "clean enough")


def print_report(report: VerificationReport) -> None:
    """A table of the views, one of the features that differ, and the examples."""
    titles = (
        *("VIEW", "ROWS", "ENTITIES", "COMPARED", "MATCHING", "MISSING", "STALE", "DIFFERENT"),
        *("UNREADABLE", "NEWER", "EXPIRED", "SECONDS"),
    )
    rows = [
        (
            *(view.view, view.rows_read, f"{'~' * view.entities_estimated}{view.entities}"),
            *(view.compared, view.matching, view.missing, view.stale, view.different),
            *(view.unreadable, view.newer, view.expired, f"{view.seconds:.2f}"),
        )
        for view in report.views
        if view.is_materialized
    ]
    output.print_table(titles, rows)
    differing: list[tuple[object, ...]] = [
        (
            *(view.view, one.feature, one.different, f"{one.different_share:.2%}", one.absent),
            *(one.source.nulls, one.online.nulls, one.source.mean, one.online.mean, one.psi),
        )
        for view in report.views
        for one in view.features
        if one.different or (one.psi or 0) >= DRIFTED
    ]
    if differing:
        print()
        names = ("VIEW", "FEATURE", "DIFFERENT", "SHARE", "ABSENT", "NULLS", "NULLS ONLINE")
        output.print_table((*names, "MEAN", "MEAN ONLINE", "PSI"), differing)
    for view in report.views:
        for example in view.examples:
            print(f"{view.view}: {example}")
        if not view.is_materialized:
            print(view)
        if view.null_keys:
            print(f"{view.view}: {view.null_keys:,} rows of the source have no key")
    for name, reason in report.skipped.items():
        print(f"{name}: not verified ({reason})")
    for name in report.failures:
        print(f"{name}: failed")


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError
    return share


_share.__name__ = "share from 0 to 1"
