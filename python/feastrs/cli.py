"""The command ``feastrs``: materialize, read online, look around.

Options are those of the ``feast`` command of the same name. Exit codes: 0 done, 1 failed (one
line on standard error says why), 2 wrong usage, 130 interrupted. ``feastrs verify``, which is
ours, has 1 for what it found and 2 for what failed.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from feastrs import cli_output as output
from feastrs.cli_serve import add_serve
from feastrs.cli_verify import add_verify

if TYPE_CHECKING:
    from feastrs import FeatureStore, MaterializationReport

_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_TIME_EXAMPLE = "2021-07-16T19:20:01"
_INTERRUPTED = 130
_BROKEN_PIPE = 141  # as the shell reports a program that SIGPIPE ended


class UsageError(Exception):
    """The command line can't be understood."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits.

    Args:
        argv: the arguments without the program's name; those of the process by default.

    Raises:
        SystemExit: always, with the exit code.

    Example:
        >>> from feastrs.cli import main
        >>> main(["version"])  # doctest: +SKIP
    """
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Runs one command; returns the exit code (argparse itself exits on wrong usage)."""
    parser = _parser()
    options = parser.parse_args(argv)
    _set_up_logging(options.log_level)
    try:
        code: int | None = options.command(options)
        # Not sys.stdout.flush(): a closed standard output is no object.
        print(end="", flush=True)
    except UsageError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("feastrs: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has gone; what Python flushes at exit must go nowhere too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception as error:
        if options.log_level == "DEBUG":
            raise
        print(f"feastrs: {_one_line(error)}", file=sys.stderr)
        return getattr(options, "failure_code", 1)
    return code or 0


def _one_line(error: Exception) -> str:
    # str() of a KeyError is the repr of its message.
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(text).split()) or type(error).__name__


def _set_up_logging(level: str) -> None:
    logging.basicConfig(
        format="%(asctime)s %(name)s %(levelname)s: %(message)s", level=logging.WARNING
    )
    # A warning of the package is one line of the log, not a Python source line.
    logging.captureWarnings(True)
    logging.getLogger("feastrs").setLevel(level)
    if level == "DEBUG":
        logging.getLogger().setLevel(level)


# -- the command line ---------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="feastrs", description="The hot work of a Feast feature store, done in Rust."
    )
    parser.add_argument(
        "-c",
        "--chdir",
        metavar="DIR",
        default=os.environ.get("FEATURE_REPO_DIR_ENV_VAR"),
        help="the feature repository (default: FEATURE_REPO_DIR_ENV_VAR, else this folder)",
    )
    parser.add_argument(
        "-f",
        "--feature-store-yaml",
        metavar="FILE",
        default=os.environ.get("FEAST_FS_YAML_FILE_PATH"),
        help="its configuration (default: FEAST_FS_YAML_FILE_PATH, else feature_store.yaml in it)",
    )
    parser.add_argument(
        "--log-level",
        type=str.upper,
        choices=_LOG_LEVELS,
        # A bar and the table say the same on a terminal.
        default="WARNING" if sys.stderr and sys.stderr.isatty() else "INFO",
        metavar="LEVEL",
        help="one of %(choices)s (default: INFO, on a terminal WARNING); DEBUG shows tracebacks",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_materialize(commands)
    _add_compact_intervals(commands)
    _add_get_online_features(commands)
    add_serve(commands, _open, UsageError)
    add_verify(commands, _open, _parse_time, UsageError)
    for kind in output.KINDS:
        _add_kind(commands, kind)
    version = _add_command(commands, "version", "print the versions of feastrs and of Feast")
    version.set_defaults(command=_version)
    return parser


def _add_command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    return command


def _add_materialize(commands: Any) -> None:
    full = _add_command(
        commands, "materialize", "write the newest row of each entity to the online store"
    )
    full.add_argument("start", metavar="START_TS", nargs="?", help=f"such as {_TIME_EXAMPLE}")
    full.add_argument("end", metavar="END_TS", nargs="?", help="both ends belong to the window")
    full.add_argument(
        "--disable-event-timestamp",
        action="store_true",
        help="take all rows, from 1970 until now; START_TS and END_TS are left out",
    )
    full.set_defaults(command=_materialize)

    incremental = _add_command(
        commands, "materialize-incremental", "the same, from where the last run of a view ended"
    )
    incremental.add_argument("end", metavar="END_TS", help=f"such as {_TIME_EXAMPLE}")
    incremental.add_argument(
        "--overlap",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="begin so much before the end of the last run, for rows that come late",
    )
    incremental.set_defaults(command=_materialize_incremental)

    for command in (full, incremental):
        command.add_argument(
            "-v",
            "--views",
            action="append",
            metavar="VIEW",
            help="a feature view; repeat for more (default: all)",
        )
        command.add_argument(
            "--version",
            metavar="V",
            help="a version (such as v2) of the one view named; goes through Feast",
        )


def _add_compact_intervals(commands: Any) -> None:
    command = _add_command(
        commands, "compact-intervals", "join materialization intervals that overlap or touch"
    )
    command.add_argument(
        "-v",
        "--views",
        action="append",
        metavar="VIEW",
        help="a feature view; repeat for more (default: all)",
    )
    command.set_defaults(command=_compact_intervals)


def _add_get_online_features(commands: Any) -> None:
    command = _add_command(commands, "get-online-features", "read features from the online store")
    command.add_argument(
        "-e",
        "--entities",
        action="append",
        required=True,
        metavar="KEY=VALUE",
        help="a join key and its value; repeat for more keys and more rows",
    )
    command.add_argument(
        "-f",
        "--features",
        action="append",
        required=True,
        metavar="VIEW:FEATURE",
        help="a feature; repeat for more",
    )
    command.set_defaults(command=_get_online_features)


def _add_kind(commands: Any, kind: output.Kind) -> None:
    group = commands.add_parser(kind.command, help=f"look at {kind.plural}")
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = _add_command(actions, "list", f"list all {kind.plural}")
    listing.add_argument(
        "--tags",
        action="append",
        default=[],
        metavar="KEY:VALUE",
        help="only those with this tag; repeat (or separate by commas) for all of several",
    )
    listing.set_defaults(command=_list, kind=kind)
    describe = _add_command(actions, "describe", f"show one of the {kind.plural}")
    describe.add_argument("name", metavar="NAME")
    describe.set_defaults(command=_describe, kind=kind)


# -- the commands -------------------------------------------------------------------------------


def _open(options: argparse.Namespace) -> FeatureStore:
    from feastrs import FeatureStore

    return FeatureStore(
        repo_path=os.path.abspath(options.chdir or "."),  # noqa: PTH100 (symlinks stay)
        fs_yaml_file=options.feature_store_yaml or None,
    )


def _materialize(options: argparse.Namespace) -> None:
    if options.disable_event_timestamp:
        if options.start or options.end:
            raise UsageError("--disable-event-timestamp takes all rows: leave out the times")
        start, end = datetime.fromtimestamp(0, timezone.utc), datetime.now(timezone.utc)
    else:
        if not options.start or not options.end:
            raise UsageError("START_TS and END_TS are required, or --disable-event-timestamp")
        start, end = _parse_time("START_TS", options.start), _parse_time("END_TS", options.end)
    if start > end:
        raise UsageError(f"START_TS {options.start} is after END_TS {options.end}")
    with _report_of_failure(options):
        report = _open(options).materialize(
            start_date=start,
            end_date=end,
            feature_views=options.views,
            disable_event_timestamp=options.disable_event_timestamp,
            version=options.version,
        )
    _print_report(options, report)


def _materialize_incremental(options: argparse.Namespace) -> None:
    end = _parse_time("END_TS", options.end)
    if options.overlap < 0:
        raise UsageError(f"--overlap {options.overlap:g} must not be negative")
    with _report_of_failure(options):
        report = _open(options).materialize_incremental(
            end_date=end,
            feature_views=options.views,
            version=options.version,
            overlap=timedelta(seconds=options.overlap),
        )
    _print_report(options, report)


@contextlib.contextmanager
def _report_of_failure(options: argparse.Namespace) -> Iterator[None]:
    """Prints what was done of a materialization of which views failed."""
    from feastrs import MaterializationError

    try:
        yield
    except MaterializationError as error:
        _print_report(options, error.report)
        raise


def _print_report(options: argparse.Namespace, report: MaterializationReport) -> None:
    if options.json:
        views = [output.attributes(view, output.REPORT_ATTRIBUTES) for view in report.views]
        failures = {view: _one_line(error) for view, error in report.failures.items()}
        output.print_json({"views": views, "delegated": report.delegated, "failures": failures})
        return
    rows: list[Sequence[object]] = [
        (
            *(v.view, v.start, v.end, v.rows_read, v.entities_written),
            *(v.rows_older, v.null_keys, f"{v.seconds:.2f}"),
        )
        for v in report.views
    ]
    titles = ("VIEW", "START", "END", "ROWS", "ENTITIES", "OLDER", "NULL KEYS", "SECONDS")
    output.print_table(titles, rows)
    for view, reason in report.delegated.items():
        print(f"{view}: by Feast ({reason})")
    for done in report.views:
        if done.is_empty:
            print(f"{done.view}: no rows within the window; the interval is recorded")
    for name in report.failures:
        print(f"{name}: failed")


def _compact_intervals(options: argparse.Namespace) -> None:
    changed = _open(options).compact_materialization_intervals(options.views)
    if options.json:
        output.print_json(changed)
    else:
        output.print_table(("VIEW", "INTERVALS"), list(changed.items()))


def _get_online_features(options: argparse.Namespace) -> None:
    entity_rows = _parse_entities(options.entities)
    response = _open(options).get_online_features(
        features=options.features, entity_rows=entity_rows
    )
    columns = response.to_dict()
    if options.json:
        output.print_json(columns)
    else:
        output.print_table(tuple(columns), list(zip(*columns.values(), strict=True)))


def _list(options: argparse.Namespace) -> None:
    kind: output.Kind = options.kind
    store = _open(options)
    listed = getattr(store, kind.list_method)(tags=_parse_tags(options.tags))
    if options.json:
        output.print_json([output.attributes(one, kind.attributes) for one in listed])
    else:
        output.print_table(kind.headers, [kind.row(one) for one in listed])


def _describe(options: argparse.Namespace) -> None:
    kind: output.Kind = options.kind
    described = output.attributes(kind.find(_open(options), options.name), kind.attributes)
    if options.json:
        output.print_json(described)
    else:
        output.print_described(described)


def _version(options: argparse.Namespace) -> None:
    from importlib import metadata

    from feastrs import __version__

    versions: dict[str, str | None] = {"feastrs": __version__, "feast": None}
    with contextlib.suppress(metadata.PackageNotFoundError):  # nothing here needs it
        versions["feast"] = metadata.version("feast")
    if options.json:
        output.print_json(versions)
    else:
        print(f"feastrs {versions['feastrs']} (feast {versions['feast'] or 'not installed'})")


# -- arguments ----------------------------------------------------------------------------------


def _parse_time(name: str, text: str) -> datetime:
    """ISO 8601; without a time zone it is UTC."""
    # Python 3.10 knows no Z.
    iso = f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        raise UsageError(
            f"{name} '{text}' is not a time in ISO 8601, such as {_TIME_EXAMPLE}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _parse_entities(pairs: Sequence[str]) -> dict[str, list[str]]:
    """``key=value`` pairs as columns: the first value of each key is the first row."""
    columns: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise UsageError(f"-e '{pair}' is not KEY=VALUE, such as driver_id=1001")
        columns.setdefault(key, []).append(value)
    counts = {key: len(values) for key, values in columns.items()}
    if len(set(counts.values())) > 1:
        given = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise UsageError(f"each key needs as many values as the others (given: {given})")
    return columns


def _parse_tags(texts: Sequence[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for pair in ",".join(texts).split(","):
        if not pair.strip():
            continue
        key, colon, value = pair.partition(":")
        if not colon:
            raise UsageError(f"--tags '{pair.strip()}' is not KEY:VALUE")
        tags[key.strip()] = value.strip()
    return tags
