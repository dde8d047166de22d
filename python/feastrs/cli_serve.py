"""The commands ``feastrs serve`` and ``feastrs listen``, with the options of Feast's."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feastrs import FeatureStore
    from feastrs.server import Limits

_LOG = logging.getLogger("feastrs.server")

# Options that say how Feast's processes are run. Here is one process, which needs none of them.
_IGNORED = ("--max-requests", "--max-requests-jitter")


def add_serve(
    commands: Any,
    open_store: Callable[[argparse.Namespace], FeatureStore],
    usage_error: type[Exception],
) -> None:
    """Adds the commands to a parser's subcommands.

    Args:
        commands: what ``add_subparsers`` gave.
        open_store: opens the store that the options are about.
        usage_error: what to raise when options can't be used.

    Example:
        >>> import argparse
        >>> from feastrs.cli_serve import add_serve
        >>> parser = argparse.ArgumentParser()
        >>> add_serve(parser.add_subparsers(), lambda options: None, ValueError)
        >>> parser.parse_args(["serve", "-p", "8080"]).port
        8080
        >>> parser.parse_args(["listen", "-a", "[::]:50051"]).address
        '[::]:50051'
    """
    for add, run in ((_add_serve, _serve), (_add_listen, _listen)):
        add(commands).set_defaults(command=_command(run, open_store, usage_error))


def _command(
    run: Callable[..., None],
    open_store: Callable[[argparse.Namespace], FeatureStore],
    usage_error: type[Exception],
) -> Callable[[argparse.Namespace], None]:
    """What runs a command: a misuse of it is the caller's kind of error."""

    def command(options: argparse.Namespace) -> None:
        try:
            run(options, open_store)
        except _MisuseError as error:
            raise usage_error(str(error)) from None

    return command


def _add_serve(commands: Any) -> argparse.ArgumentParser:
    summary = "serve features over HTTP, in place of `feast serve`"
    # -h is the host, as in Feast.
    command: argparse.ArgumentParser = commands.add_parser(
        "serve", help=summary, description=summary, add_help=False
    )
    add = command.add_argument
    add("--help", action="help", help="show this help message and exit")
    add("-h", "--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    add("-p", "--port", type=int, default=6566, help="0 for any free one (default: %(default)s)")
    add("--grpc-port", type=int, metavar="PORT", help="serve gRPC, too, on this port")
    add("-t", "--type", default="http", metavar="TYPE", help="http is the only one")
    add("--no-access-log", action="store_true", help="no line of JSON for each request")
    add(
        "-w",
        "--workers",
        type=int,
        metavar="N",
        help="threads of the one process (default, and for -1: one for each core)",
    )
    add(
        "--worker-connections",
        type=int,
        metavar="N",
        help="connections open at one time (default: 10000)",
    )
    add(
        "--keep-alive-timeout",
        type=float,
        default=30,
        metavar="SECONDS",
        help="close a connection that sends no request for so long (default: %(default)s)",
    )
    _add_shared(command, registry_ttl_sec=60)
    for option in _IGNORED:
        add(option, type=int, metavar="N", help="ignored: there are no processes to replace")
    return command


def _add_listen(commands: Any) -> argparse.ArgumentParser:
    summary = "serve features over gRPC, in place of `feast listen`"
    command: argparse.ArgumentParser = commands.add_parser(
        "listen", help=summary, description=summary
    )
    add = command.add_argument
    add(
        "-a",
        "--address",
        default="localhost:50051",
        help="where to listen; port 0 for any free one (default: %(default)s)",
    )
    add(
        "-w",
        "--max_workers",
        "--max-workers",
        dest="max_workers",
        type=int,
        metavar="N",
        help="threads (default: one for each core)",
    )
    add("--no-access-log", action="store_true", help="no line of JSON for each call")
    _add_shared(command, registry_ttl_sec=5)
    return command


def _add_shared(command: argparse.ArgumentParser, registry_ttl_sec: int) -> None:
    """Adds what both commands have."""
    add = command.add_argument
    add(
        "-r",
        "--registry_ttl_sec",
        "--registry-ttl-sec",
        dest="registry_ttl_sec",
        type=float,
        default=registry_ttl_sec,
        metavar="SECONDS",
        help="between refreshes of the registry, 0 for none (default: %(default)s)",
    )
    add("-k", "--key", default="", metavar="FILE", help="private key for TLS, PEM")
    add("-c", "--cert", default="", metavar="FILE", help="certificate for TLS, PEM")
    add(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a limit of feastrs.server.Limits, such as request_timeout=5; repeat for more",
    )
    add("-m", "--metrics", action="store_true", help="serve metrics on port 8000")


class _MisuseError(Exception):
    """Options that can't be used."""


def _serve(options: argparse.Namespace, open_store: Callable[[Any], FeatureStore]) -> None:
    from feastrs import metrics, server

    if options.type.lower() != "http":
        raise _MisuseError(f"--type {options.type}: the server only speaks http")
    for name, port in (("--port", options.port), ("--grpc-port", options.grpc_port)):
        if not 0 <= (port or 0) < 65536:
            raise _MisuseError(f"{name} {port} is no port")
    _check_tls(options)
    limits = _limits(options)
    store = open_store(options)
    _warn(options, store)
    server.serve(
        store,
        options.host,
        options.port,
        grpc_port=options.grpc_port,
        no_access_log=options.no_access_log,
        workers=options.workers if (options.workers or 0) > 0 else None,
        keep_alive_timeout=options.keep_alive_timeout,
        registry_ttl_sec=options.registry_ttl_sec,
        tls_key_path=options.key,
        tls_cert_path=options.cert,
        limits=limits,
        metrics_port=metrics.DEFAULT_PORT if options.metrics else None,
    )


def _listen(options: argparse.Namespace, open_store: Callable[[Any], FeatureStore]) -> None:
    from feastrs import metrics, server

    try:
        server._divided(options.address)
    except ValueError as error:
        raise _MisuseError(f"--address: {error}") from None
    _check_tls(options)
    limits = _limits(options)
    server.listen(
        open_store(options),
        options.address,
        no_access_log=options.no_access_log,
        max_workers=options.max_workers if (options.max_workers or 0) > 0 else None,
        registry_ttl_sec=options.registry_ttl_sec,
        tls_key_path=options.key,
        tls_cert_path=options.cert,
        limits=limits,
        metrics_port=metrics.DEFAULT_PORT if options.metrics else None,
    )


def _check_tls(options: argparse.Namespace) -> None:
    if bool(options.key) != bool(options.cert):
        raise _MisuseError("please pass --cert and --key to serve over TLS")


def _limits(options: argparse.Namespace) -> Limits:
    from feastrs.server import Limits

    defaults = dataclasses.asdict(Limits())
    given: dict[str, Any] = {}
    if getattr(options, "worker_connections", None) is not None:
        given["connections"] = options.worker_connections
    for text in options.limit:
        name, equals, value = text.partition("=")
        if name not in defaults or not equals:
            raise _MisuseError(
                f"--limit {text}: must be NAME=VALUE, NAME one of {', '.join(defaults)}"
            )
        try:
            given[name] = type(defaults[name])(value)
        except ValueError:
            raise _MisuseError(f"--limit {text}: {value!r} is no number of {name}") from None
    try:
        return Limits(**given)
    except ValueError as error:
        raise _MisuseError(str(error)) from None


def _warn(options: argparse.Namespace, store: FeatureStore) -> None:
    """Says what is asked for and not done."""
    for option in _IGNORED:
        if getattr(options, option.strip("-").replace("-", "_")) is not None:
            _LOG.warning("%s is ignored: there is one process, which is never replaced", option)
    if store.repo_path and (Path(store.repo_path) / "static_artifacts.py").exists():
        _LOG.warning(
            "static_artifacts.py is not run: on-demand views that need what it loads load it "
            "themselves"
        )
