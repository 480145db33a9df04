"""The socket on which an instance takes orders, from the tool and from ``ExecReload=``.

It lies in the service's runtime directory, mode 0700: who may connect is the service's own user, or root.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path

from aiosystemd import contract
from aiosystemd.runtime.errors import OrderError
from aiosystemd.runtime.packets import Link, Message

LOG = logging.getLogger(__name__)

ACCEPT_AGAIN = 1.0
"""Seconds until the next try, as asyncio itself waits."""


class Peer(Link):
    """Somebody who gives orders."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.when_lost: list[Callable[[], object]] = []
        """What ends with the connection."""


Order = Callable[[Peer, Message], Awaitable[None]]
"""Carries one order out; raises OrderError."""


class Control:
    """The listening socket, and the connections to it."""

    def __init__(self, orders: Mapping[str, Order]) -> None:
        """Take ``orders``, by the word in ``{"do": WORD}``."""
        self._orders = orders
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Listen, in the place of a predecessor; without effect where there is no runtime directory."""
        if directory := os.environ.get("RUNTIME_DIRECTORY"):
            try:
                listener = _listen(Path(directory) / contract.CONTROL)
            except OSError as error:
                LOG.warning("no orders are taken in %s: %s", directory, error.strerror or error)
            else:
                self._run(self._accept(listener))

    def _run(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                except OSError as error:
                    # accept(2): the process has as many descriptors as it may (EMFILE), for now.
                    LOG.warning("an order cannot be taken: %s", error.strerror)
                    await asyncio.sleep(ACCEPT_AGAIN)
                else:
                    self._run(self._obey(Peer(connection)))

    async def _obey(self, peer: Peer) -> None:
        try:
            while message := await peer.receive():
                await self._carry_out(peer, message)
        finally:
            for end in peer.when_lost:
                end()
            peer.close()

    async def _carry_out(self, peer: Peer, message: Message) -> None:
        try:
            await self._orders.get(str(message.get("do")), _unknown)(peer, message)
        except OrderError as error:
            peer.send({"error": str(error)})
        except (LookupError, TypeError, ValueError) as error:
            peer.send({"error": f"malformed order: {error!r}"})


async def _unknown(_: Peer, message: Message) -> None:
    raise OrderError(f"unknown order: {message.get('do')}")


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.setblocking(False)  # noqa: FBT003 (positional only)
        mine = path.with_suffix(f".{os.getpid()}")
        listener.bind(str(mine))
        listener.listen()
        # Atomic: whoever connects meets the predecessor or this process.
        mine.rename(path)
    except OSError:
        listener.close()
        raise
    return listener
