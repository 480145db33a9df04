"""What the service manager is told, sd_notify(3)."""

import os
import re
import socket
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from aiosystemd.runtime.errors import StartError

if TYPE_CHECKING:
    import asyncio

_WATCHDOG_PARTS = 3
"""Pings in one watchdog interval; sd_watchdog_enabled(3) advises two, the third covers a busy loop."""


class _Daemon(Protocol):
    """What is used of ``systemd.daemon``, which has no types of its own."""

    def notify(self, status: str, unset_environment: bool, pid: int, fds: Sequence[int] = ...) -> bool: ...  # noqa: FBT001

    def listen_fds_with_names(self, unset_environment: bool) -> dict[int, str]: ...  # noqa: FBT001


def daemon() -> _Daemon:
    """Return the module ``systemd.daemon``.

    Raises:
        StartError: when systemd-python is not installed.

    """
    try:
        module: _Daemon = import_module("systemd.daemon")
    except ImportError as error:
        raise StartError(
            f"started by systemd, but {error.name or 'systemd'!r} cannot be imported:"
            " run `pip install aiosystemd[serve]` in this interpreter's environment"
        ) from None
    return module


_OF_THE_MAIN_PROCESS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY", "JOURNAL_STREAM")
"""Variables that systemd gives to the command of ``ExecStart=`` alone, or differently."""


class Notifier:
    """Sends state to the service manager, or nowhere when there is none."""

    def __init__(self, *, muted: bool = False) -> None:
        """Find the service manager; raises `StartError` when there is one and systemd-python is missing.

        While it is ``muted``, it sends nothing: systemd.service(5) ``NotifyAccess=main`` logs what others send.
        """
        self.variables = {name: os.environ[name] for name in _OF_THE_MAIN_PROCESS if name in os.environ}
        """What a process that takes this one's place needs in its environment."""
        self.muted = muted
        self.active = bool(os.environ.get("NOTIFY_SOCKET"))
        self._notify = daemon().notify if self.active else None
        self._watchdog = _watchdog_interval()

    def send(self, *assignments: str, fds: Sequence[int] = ()) -> None:
        """Send ``NAME=value`` lines, whose values may hold anything: a line break cannot start another line."""
        if self._notify is None or self.muted:
            return
        message = "\n".join(_one_line(assignment) for assignment in assignments)
        try:
            # Positional only in C, and None is not taken for "no descriptors".
            self._notify(message, False, 0, *([list(fds)] if fds else []))  # noqa: FBT003
        except OSError:
            # Telling is not worth dying for: a manager that misses READY=1 or a ping acts by itself.
            import logging  # noqa: PLC0415  (of no use before)

            logging.getLogger(__name__).warning("the service manager does not listen", exc_info=True)

    def status(self, text: str) -> None:
        """Show ``text`` in ``systemctl status``."""
        self.send(f"STATUS={text}")

    def extend_start(self, seconds: float) -> None:
        """Ask for ``seconds`` more until the next step of the start is done, sd_notify(3) EXTEND_TIMEOUT_USEC."""
        self.send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    async def hand_over(self, pid: int) -> None:
        """Name another process as the main one, and fall silent; return when systemd knows it.

        sd_notify(3) BARRIER: the manager closes the descriptor when it has read everything that was sent before.
        """
        import asyncio  # noqa: PLC0415 (this module is loaded before it is certain that anything can be served)

        self.send(f"MAINPID={pid}")
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self.send("BARRIER=1", fds=[theirs.fileno()])
            self.muted = True
            ours.setblocking(False)  # noqa: FBT003 (positional only)
            await asyncio.get_running_loop().sock_recv(ours, 1)

    def keep_watchdog(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Ping the watchdog from ``loop`` for as long as it turns, where systemd set ``WatchdogSec=``.

        A timer of the loop and no thread: a loop that is blocked must miss its ping, or the watchdog watches nothing.
        """
        if self._watchdog and not self.muted:
            self.send("WATCHDOG=1")
            loop.call_later(self._watchdog / _WATCHDOG_PARTS, self.keep_watchdog, loop)


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]+", " ", text)


def _watchdog_interval() -> float:
    """Return the watchdog's interval in seconds, or 0, and keep it from child processes; sd_watchdog_enabled(3)."""
    microseconds = os.environ.pop("WATCHDOG_USEC", "")
    pid = os.environ.pop("WATCHDOG_PID", "") or str(os.getpid())
    if not (microseconds.isascii() and microseconds.isdigit() and int(microseconds)) or pid != str(os.getpid()):
        return 0
    return int(microseconds) / 1_000_000
