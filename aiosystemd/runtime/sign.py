"""The closed sign: an instance that cannot start sends its clients to the other instances.

systemd keeps the listening socket while ``Restart=`` waits, so whatever connects meanwhile waits too: for a start
that may never succeed, until the proxy's own time-out. A full accept queue of a unix socket refuses every further
connect(2) at once with EAGAIN, and a proxy then tries its next instance with any method, since nothing was sent.

Hanging the sign is shrinking the queue to one place, listen(fd, 0): clients that wait in it keep their places, and
nobody joins them. A start that succeeds next serves them, and its listen(2) opens the shop again. When two starts in
a row have failed, the third turns those who wait away, once: a proxy repeats what may be repeated elsewhere, and
the rest fails now instead of after its time-out. The one client that then takes the place keeps it; turning away
again would only let in another one. (To keep even that one out, a connection of our own would have to take the
place, and connecting needs write permission on the socket's path, which is the proxy's: unix(7).)

Only for unix sockets: a full TCP queue drops the client's SYN, so the client waits instead of moving on.
"""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from aiosystemd.runtime.notify import Notifier

NAME = "starting"
"""Name of the marker among the descriptors that systemd keeps for this service, sd_pid_notify_with_fds(3)."""

PATIENCE = 2
"""Failed starts in a row for which clients in the queue wait."""


class Marker:
    """An eventfd that systemd keeps from the beginning of a start until it has succeeded; a context of the start.

    systemd.service(5) FileDescriptorStoreMax=: the store outlives a crash and ``systemctl restart``, and goes with
    ``systemctl stop``. Hence a process that inherits the marker follows one that died before it was ready. Its
    count tells how many starts in a row did so.
    """

    def __init__(self, notifier: Notifier, inherited: int | None, listeners: Sequence[socket.socket]) -> None:
        """Hang the sign at once if systemd passed a marker, else give it one to keep.

        Args:
            notifier: the service manager.
            inherited: the descriptor named `NAME`, if there was one.
            listeners: the sockets that systemd keeps for us; of no use without a service manager.

        """
        self._notifier = notifier
        self._listeners = [each for each in listeners if notifier.active and each.family == socket.AF_UNIX]
        self._kept = bool(self._listeners)
        if inherited is not None:
            self._hang_sign()
            self._turn_away_once(inherited)
        elif self._kept:
            marker = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            notifier.send("FDSTORE=1", f"FDNAME={NAME}", fds=[marker])
            os.close(marker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        called_off = isinstance(error, SystemExit) and not error.code
        if error is None or called_off:
            self.remove()
        elif self._kept:
            self._hang_sign()

    def remove(self) -> None:
        """Tell systemd that this start has succeeded, or was called off."""
        if self._kept:
            self._notifier.send("FDSTOREREMOVE=1", f"FDNAME={NAME}")
        self._kept = False

    def _hang_sign(self) -> None:
        for listener in self._listeners:
            listener.listen(0)

    def _turn_away_once(self, marker: int) -> None:
        if _failed_starts(marker) == PATIENCE:
            for listener in self._listeners:
                _turn_away(listener)
        os.close(marker)


def _failed_starts(marker: int) -> int:
    """Return how many starts in a row have failed, and count this one, in case it does too."""
    try:
        count = os.eventfd_read(marker)
    except BlockingIOError:  # eventfd(2): nothing was written back, since the process was killed between these lines
        count = 0
    os.eventfd_write(marker, count + 1)
    return count


def _turn_away(listener: socket.socket) -> None:
    listener.setblocking(False)  # noqa: FBT003
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
