"""Where the server accepts connections: sockets that are served, left alone, or served again."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from aiosystemd.runtime.tls import Context


class Sites:
    """The listening sockets of one runner."""

    def __init__(
        self,
        runner: web.AppRunner,
        sockets: Sequence[socket.socket],
        backlog: int,
        tls: "Context | None" = None,
    ) -> None:
        """Serve ``sockets`` once `open` is called, each with an accept queue of ``backlog`` connections."""
        self.sockets = sockets
        self._runner = runner
        self._backlog = backlog
        self._tls = tls
        self._served: list[socket.socket] = []
        for sock in sockets:
            # fcntl(2): the flag belongs to all who share the socket, and dup() copies Python's idea of it: without this
            # it makes the socket block for a moment, in which a reload's other process gets stuck in accept(2).
            sock.setblocking(False)  # noqa: FBT003 (positional only)

    @property
    def handshakes(self) -> int:
        """How many connections are none of the runner's yet, because their TLS handshake is under way."""
        return len(self._tls.handshakes) if self._tls else 0

    async def open(self) -> None:
        """Accept connections."""
        for sock in self.sockets:
            # A copy, because the loop closes what it has served. The last listen(2) decides the length of the queue
            # of a shared socket, and asyncio calls it again: with 128 where nothing is said.
            self._served.append(sock.dup())
            site = web.SockSite(self._runner, self._served[-1], backlog=self._backlog, ssl_context=self._tls)
            await site.start()

    async def close(self) -> None:
        """Accept no more. The kernel's queue stays, for `open` or for another process.

        shutdown(2) on an inherited listener would refuse clients for ever, in the next process as well.
        """
        # A connection that was accepted becomes one of the server's some turns later: asyncio makes its transport in a
        # task of its own, which schedules connection_made(). And asyncio drops it if its Server was closed meanwhile:
        # so at first the loop only looks at the sockets no more. (uvloop does without both, and without a reader.)
        for sock in self._served:
            asyncio.get_running_loop().remove_reader(sock)
        self._served.clear()
        await _turn()
        for site in list(self._runner.sites):
            await site.stop()
        await _turn()

    async def end(self) -> None:
        """Accept no more, and let go of the sockets: what nobody else listens on refuses its clients."""
        await self.close()
        for sock in self.sockets:
            sock.close()

    def narrow(self) -> None:
        """Shrink the queues of the unix sockets to one place; who finds it taken is refused at once (unix(7))."""
        for sock in self._unix():
            sock.listen(0)

    async def admit(self) -> None:
        """Accept what waits in the queues of the unix sockets, which are closed."""
        loop = asyncio.get_running_loop()
        for sock in self._unix():
            with suppress(BlockingIOError):
                while self._runner.server:
                    connection, _ = sock.accept()
                    await loop.connect_accepted_socket(self._runner.server, connection, ssl=self._tls)

    def _unix(self) -> list[socket.socket]:
        return [sock for sock in self.sockets if sock.family == socket.AF_UNIX]


async def _turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
