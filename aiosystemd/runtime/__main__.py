"""``aiosystemd-serve``, or ``python -m aiosystemd.runtime``."""

import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

from aiosystemd import contract
from aiosystemd.runtime import listening, sign
from aiosystemd.runtime.errors import StartError, Stopped
from aiosystemd.runtime.log import complain, prioritise_errors
from aiosystemd.runtime.notify import Notifier
from aiosystemd.runtime.options import PROGRAM, Options, parse, refuse
from aiosystemd.runtime.tracebacks import shown

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from aiosystemd.runtime.predecessor import Predecessor
    from aiosystemd.runtime.tls import Context


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the application that ``argv`` (default: the command line) names; return the exit status.

    0 after an orderly stop, 1 when the application cannot be started or its clean-up failed, 2 for wrong usage.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    # systemd.service(5) WatchdogSec=: a blocked process gets SIGABRT, and its stack belongs in the journal.
    faulthandler.enable()
    predecessor = _predecessor()
    options = parse(sys.argv[1:] if argv is None else argv)
    try:
        if options.reload:
            return _reload()
        return _run(options, predecessor)
    except StartError as error:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # It ends, and has only to say why.
        cause = shown(error.__cause__) if error.__cause__ else ""
        complain(f"{cause}{PROGRAM}: {error}")
        if predecessor:
            predecessor.tell({"failed": str(error)})
        return 1


_stop_signals: list[int] = []
"""Signals that came: a bare ``except:`` in what is imported may have eaten the exception. No lock, in a handler."""


def _stop(number: int, _: object) -> NoReturn:
    # Until the loop takes over. A long import is left by an exception, which also runs the user's own `finally`.
    _stop_signals.append(number)
    raise Stopped


def _predecessor() -> "Predecessor | None":
    """Return the process that started this one for a reload; None when systemd did."""
    if contract.PREDECESSOR_VARIABLE not in os.environ:
        return None
    from aiosystemd.runtime.predecessor import Predecessor  # noqa: PLC0415

    return Predecessor.meet()


def _reload() -> int:
    from aiosystemd.runtime.reload import reload  # noqa: PLC0415

    reload()
    return 0


def _run(options: Options, predecessor: "Predecessor | None") -> int:
    notifier = Notifier(muted=predecessor is not None)
    try:
        return _take_over(options, notifier, predecessor) if predecessor else _start(options, notifier)
    except StartError as error:
        notifier.status(str(error))
        raise


def _start(options: Options, notifier: Notifier) -> int:
    with ExitStack() as stack:
        mark, sockets = None, []
        for fd, name in (*listening.inherited().items(), *((fd, "--fd") for fd in options.fds)):
            if name == sign.NAME:
                mark = fd
            else:
                sockets.append(stack.enter_context(listening.listener(fd, name)))
        _check_addresses(options, sockets, notifier)
        marker = stack.enter_context(sign.Marker(notifier, mark, [] if options.alone else sockets))
        return _serve(options, sockets, notifier, None, marker.remove)


def _take_over(options: Options, notifier: Notifier, predecessor: "Predecessor") -> int:
    with ExitStack() as stack:
        for sock in predecessor.sockets:
            stack.enter_context(sock)
        return _serve(options, predecessor.sockets, notifier, predecessor, lambda: None)


def _check_addresses(options: Options, sockets: Sequence[socket.socket], notifier: Notifier) -> None:
    if sockets and options.own_address:
        refuse("sockets were passed: leave out --path, --host and --port")
    if sockets or options.own_address:
        return
    if notifier.active:
        refuse("systemd passed no socket: the service needs Requires=NAME.socket, and that socket must be started")
    refuse("nothing to listen on: give --path or --port, or start this from a systemd socket unit")


def _serve(
    options: Options,
    sockets: Sequence[socket.socket],
    notifier: Notifier,
    predecessor: "Predecessor | None",
    on_ready: "Callable[[], None]",
) -> int:
    notifier.status(f"Importing {options.app}")
    notifier.extend_start(options.start)
    # Only now, because it takes longest: whatever is wrong above is told at once, and without aiohttp as well.
    try:
        from aiosystemd.runtime import importer, server  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise StartError(
            f"{error.name!r} is not installed for {sys.executable}: run `pip install aiosystemd[serve]` there"
        ) from None
    import asyncio  # noqa: PLC0415

    context = _tls(options)
    prioritise_errors()
    loaded = importer.load(options.app, options.arguments)
    if _stop_signals:
        raise Stopped
    notifier.extend_start(options.start)
    if predecessor:
        predecessor.tell({"step": True})
    with asyncio.Runner(loop_factory=_loop_factory(options.loop)) as runner:
        return runner.run(server.Server(options, sockets, notifier, predecessor, on_ready, tls=context).run(loaded))


def _tls(options: Options) -> "Context | None":
    if options.tls_certificate is None:
        return None
    from aiosystemd.runtime import tls  # noqa: PLC0415 (ssl takes time and memory)

    return tls.context(options)


def _loop_factory(name: str) -> "Callable[[], asyncio.AbstractEventLoop] | None":
    if name == "asyncio":
        return None
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        if name == "auto":
            return None
        raise StartError(
            f"uvloop is not installed for {sys.executable}: run `pip install aiosystemd[uvloop]` there"
        ) from None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    sys.exit(main())
