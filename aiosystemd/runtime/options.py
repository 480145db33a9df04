"""The command line, as one frozen value."""

import argparse
import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from aiosystemd import contract

PROGRAM: Final = "aiosystemd-serve"

_LARGEST: Final = 2**31 - 1
"""What listen(2) takes."""

_LONGEST: Final = 604_800
"""Seconds, a week."""

DRAIN: Final = 40.0
"""Seconds from the stop signal to the end of the last connection."""

START: Final = 30.0
"""Seconds that each step of the start may take."""


_MORE: Final = f"""\
Signals: SIGTERM and SIGINT drain: what is under way is answered, then the process ends. A second
SIGINT waits for no request any more, a third for nothing.

Exit status: 0 after an orderly stop, 1 when the application cannot be started or its clean-up
failed, 2 for wrong usage.

Example: {PROGRAM} --path /run/example/1.sock my_app_module:my_web_app
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for; times in seconds, sizes in bytes."""

    app: str
    arguments: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    fds: tuple[int, ...] = ()
    host: str | None = None
    port: int | None = None
    mode: int = 0o660
    backlog: int = contract.BACKLOG
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    keepalive: float = contract.SERVER_KEEPALIVE
    drain: float = DRAIN
    stop: float = DRAIN + contract.CLEANUP_RESERVE
    idle: float = contract.PROXY_KEEPALIVE + 0.5
    start: float = START
    access_log: Literal["off", "text", "journal"] = "off"
    access_log_format: str = contract.ACCESS_LOG_FORMAT
    forwarded_from: tuple[str, ...] = ()
    body_limit: int | None = None
    alone: bool = False
    direct: bool = False
    reload: bool = False

    @property
    def own_address(self) -> bool:
        """Whether the command line names an address, instead of leaving that to systemd."""
        return bool(self.paths) or self.host is not None or self.port is not None


def parse(argv: Sequence[str]) -> Options:
    """Return the options of ``argv`` (without the program's name).

    Raises:
        SystemExit: with status 2 and the usage on stderr when the command line is wrong, 0 after ``--help``.

    """
    fields = vars(parser().parse_args(argv))
    if (fields["tls_certificate"] is None) != (fields["tls_key"] is None):
        refuse("--tls-certificate and --tls-key need each other")
    arguments = fields.pop("arguments")
    # The separator is for this program; a factory's own argument parser must not see it.
    fields["arguments"] = tuple(arguments[1:] if arguments[:1] == ["--"] else arguments)
    lists = ("paths", "fds", "forwarded_from")
    return Options(**{**fields, **{name: tuple(fields[name]) for name in lists}})


def refuse(message: str) -> None:
    """End the process with the usage and ``message`` on stderr, status 2."""
    parser().error(message)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    program = argparse.ArgumentParser(
        prog=PROGRAM,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Serve an aiohttp application on the sockets that systemd passes, or on addresses of its own.",
        epilog=_MORE,
    )
    _add_application(program)
    _add_addresses(program)
    _add_tls(program)
    _add_times(program)
    _add_requests(program)
    return program


def _add_application(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "app", metavar="MODULE:ATTRIBUTE", help="an aiohttp.web.Application, or a function that returns one"
    )
    parser.add_argument(
        "arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="given to the function as a list"
    )
    parser.add_argument(
        "--alone", action="store_true", help="no other instance could serve clients while this one cannot start"
    )
    parser.add_argument(
        "--direct", action="store_true", help="no proxy in front: after a stop signal, close what clients keep idle"
    )
    parser.add_argument(
        "--reload",
        action="store_true",
        help="for ExecReload=: replace the running process; wait for the outcome",
    )
    parser.add_argument(
        "--loop", choices=["auto", "asyncio", "uvloop"], default="auto", help="event loop (%(default)s)"
    )


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("addresses, when systemd passes no socket")
    group.add_argument(
        "--path", dest="paths", type=Path, action="append", default=[], metavar="PATH", help="unix socket (repeatable)"
    )
    group.add_argument(
        "--fd",
        dest="fds",
        type=_count,
        action="append",
        default=[],
        metavar="NUMBER",
        help="descriptor of a listening socket, passed by another manager such as Circus (repeatable)",
    )
    group.add_argument("--mode", type=_mode, default=0o660, metavar="OCTAL", help="mode of --path (0660)")
    group.add_argument("--host", help="host name or address (127.0.0.1)")
    group.add_argument("--port", type=_port, metavar="NUMBER", help="TCP port (8080)")
    parser.add_argument(
        "--backlog", type=_count, default=contract.BACKLOG, metavar="N", help="length of the accept queue (%(default)s)"
    )


def _add_tls(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("TLS, without a proxy; a name without a directory is a credential of systemd's")
    group.add_argument("--tls-certificate", type=Path, metavar="FILE", help="certificate chain, PEM")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key, PEM, without a passphrase")


def _add_times(parser: argparse.ArgumentParser) -> None:
    def add(name: str, default: float, text: str) -> None:
        parser.add_argument(name, type=_seconds, default=default, metavar="SECONDS", help=f"{text} (%(default)g)")

    add("--keepalive", contract.SERVER_KEEPALIVE, "close a connection that was idle for this long")
    add("--drain", DRAIN, "after a stop signal, close what is left after this long")
    add("--stop", DRAIN + contract.CLEANUP_RESERVE, "after a stop signal, the process is killed after this long")
    add("--idle", contract.PROXY_KEEPALIVE + 0.5, "the proxy closes its idle connections within this time")
    add("--start", START, "time granted to each step of the start")


def _add_requests(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--forwarded-from",
        type=_source,
        action="append",
        default=[],
        metavar="unix|ADDRESS|NETWORK",
        help="believe X-Forwarded-For, -Proto and -Host of this peer (repeatable; default: of nobody)",
    )
    parser.add_argument(
        "--body-limit", type=_count, metavar="BYTES", help="largest request body, instead of the application's own"
    )
    parser.add_argument(
        "--access-log",
        choices=["off", "text", "journal"],
        default="off",
        help="requests: not logged, lines, or journal entries with fields (%(default)s)",
    )
    parser.add_argument(
        "--access-log-format",
        default=contract.ACCESS_LOG_FORMAT,
        metavar="FORMAT",
        help="format of the text log, in aiohttp's notation",
    )


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is not an octal mode such as 0660")
    return mode


def _port(text: str) -> int:
    # 0 asks the kernel for a free port.
    if not (text.isascii() and text.isdigit() and int(text) < 65536):  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _LARGEST):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of up to {_LARGEST}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds of up to {_LONGEST}")
    return seconds


def _source(text: str) -> str:
    if text == "unix":
        return text
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'neither "unix" nor an address or network: {error}') from None
