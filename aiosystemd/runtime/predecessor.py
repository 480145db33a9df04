"""The new process of a reload: it serves beside the old one, which then makes it the main process.

The old process starts it with one end of a link, over which it passes the listening sockets. Messages to the old
process: ``{"pid": N}``; ``{"step": true}`` for each step of the start; ``{"ready": true}``; while it waits
``{"requests": N, "errors": N, "connections": N}``; ``{"main": true}``; or ``{"failed": "why"}``. From the old
process: ``{"main": true}``; the end of its messages before that means that the new one is not wanted.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from aiosystemd import contract
from aiosystemd.runtime.errors import Stopped
from aiosystemd.runtime.packets import Link, Message, send

SOCKETS = 64
"""Most sockets that are passed."""

COUNT_EVERY = 0.5
"""Seconds between two reports of what was served."""


class Predecessor:
    """The process that this one takes over from."""

    def __init__(self, link: socket.socket, sockets: list[socket.socket]) -> None:
        self.sockets = sockets
        """Those that it passed."""
        self._socket = link
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    def meet(cls) -> Self:
        """Become a child of PID 1 and take the sockets; to be called before all else.

        Raises:
            Stopped: when the old process has given up already.

        """
        # systemd ends only its own children in order: a main process that was somebody else's child when MAINPID=
        # came gets SIGTERM and at once SIGKILL.
        if os.fork():
            os._exit(0)
        link = socket.socket(fileno=int(os.environ.pop(contract.PREDECESSOR_VARIABLE)))
        link.set_inheritable(False)
        _, fds, _, _ = socket.recv_fds(link, 1024, SOCKETS)
        try:
            send(link, {"pid": os.getpid()})
        except OSError:
            raise Stopped from None
        return cls(link, [socket.socket(fileno=fd) for fd in fds])

    def tell(self, message: Message) -> None:
        """Send a message, if the old process is still there."""
        with suppress(OSError):
            send(self._socket, message)

    async def chosen(self, counts: Callable[[], Message]) -> bool:
        """Tell the old process that this one serves, and ``counts`` from time to time; return whether to take over."""
        self.tell({"ready": True})
        loop = asyncio.get_running_loop()
        decision: asyncio.Future[bool] = loop.create_future()
        self._listening = loop.create_task(self._listen(decision))
        while not (await asyncio.wait([decision], timeout=COUNT_EVERY))[0]:
            self.tell(counts())
        return decision.result()

    async def _listen(self, decision: asyncio.Future[bool]) -> None:
        link = Link(self._socket)
        while (message := await link.receive()) or not decision.done():
            if not decision.done():
                decision.set_result(bool(message))

    async def gone(self) -> None:
        """Wait for the end of the old process.

        systemd.kill(5) KillMode=mixed: when the main process ends in a stop, the others are killed.
        """
        if self._listening:
            await asyncio.shield(self._listening)
            # Open until this process ends: by that a process which has taken over again knows.
            self._socket.detach()
