"""The lame duck: after a stop signal every request that was or will be sent is answered, then the process ends.

A request is lost when the server closes a connection on which the proxy may still send. So this server closes one only
after a response that said ``Connection: close``, or after the proxy has closed it; idle ones are left to the proxy.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from aiohttp import WSCloseCode, WSMsgType, web

from aiosystemd.runtime import DRAINING
from aiosystemd.runtime.responses import Responses
from aiosystemd.runtime.sites import Sites

LOG = logging.getLogger(__name__)

POLL = 0.02
"""Seconds between two looks at the connections, for whose end aiohttp has no event."""

STATUS_EVERY = 1.0
"""Seconds between two reports to the service manager."""

FAREWELLS = 5.0
"""Seconds in which every websocket gets its Close frame: its client comes back, and not all are to come at once."""

FAREWELLS_AT_ONCE = 4
"""Websockets that get it in the same instant, even if fewer would do."""

CLIENTS_IDLE = 1.0
"""Seconds in which a client that has just connected sends a request; without a proxy, what is idle is closed then."""

WEBSOCKET_ANSWER = 5.0
"""Longest time, in seconds, that the peer of a websocket has for its answer to a Close frame."""


class Runner(web.AppRunner):
    """An `AppRunner` whose shutdown hooks run once, when the drain wants them; its cleanup() runs them again."""

    __slots__ = ("_hooks_ran",)

    async def shutdown(self) -> None:
        if not getattr(self, "_hooks_ran", False):
            self._hooks_ran = True
            await super().shutdown()


class Limits(NamedTuple):
    """How a drain ends."""

    seconds: float
    """The time after which whatever is left is given up."""
    idle: float
    """Seconds after which the proxy has closed its idle connections."""
    direct: bool
    """Whether there is no proxy, and idle connections are the server's to close."""


class Drain:
    """What one application needs so that it can be stopped without losing a request."""

    def __init__(self, runner: Runner, responses: Responses) -> None:
        """Install the event `DRAINING` in the runner's application, which must not be frozen yet."""
        self._runner = runner
        self._responses = responses
        self.failed = False
        """Whether a shutdown hook of the application raised or did not end."""
        self._draining = runner.app[DRAINING] = asyncio.Event()
        self._farewells: set[asyncio.Task[None]] = set()

    async def run(self, sites: Sites, limits: "Limits", report: Callable[[int], None], *, linger: bool) -> None:
        """Drain the connections of the runner; cancel this to end the wait.

        Args:
            sites: the sockets that it still accepts on.
            limits: how long, and who closes what is idle.
            report: told the number of connections, about once a second.
            linger: whether nobody else accepts on these sockets meanwhile.

        """
        seconds, idle = limits.seconds, limits.idle
        now = asyncio.get_running_loop().time()
        wait = _Wait(self._runner, sites, report, self._farewells_until(now + min(FAREWELLS, seconds / 2)))
        # 1. Each response from here on ends its connection, and handlers that stream for ever are asked to return.
        #    While connections from before are left, the proxy may still send on them: it has closed its idle ones
        #    within `idle`. New ones are accepted meanwhile: in the kernel's queue they would wait for the next
        #    process for as long as that takes, instead of for its start alone.
        self._responses.closing = True
        self._draining.set()
        if not linger:
            await sites.end()
        await wait.until(now + min(idle, seconds), among=set(wait.connections()))
        # 2. Accept no more; the kernel's queue stays with systemd. The proxy sends no request any more but on a
        #    connection that it opened last, and the application is told to end what it has open itself.
        await sites.end()
        await self._run_hooks(now + seconds)
        # 3. What is left is requests still at work, and idle connections of clients that are not the proxy.
        if limits.direct:
            await wait.until(min(now + seconds, asyncio.get_running_loop().time() + CLIENTS_IDLE))
            await self._close_idle(wait, now + seconds)
        await wait.until(now + seconds)
        if left := len(wait.connections()):
            LOG.warning("the drain took too long: cutting connections, %d still busy or idle", left)

    async def _close_idle(self, wait: "_Wait", end: float) -> None:
        """Close each connection as soon as it has no request, until the loop's time ``end``.

        Its client asks again when it finds it closed between two requests: RFC 9112, 9.3.1.
        """
        if server := self._runner.server:
            server.pre_shutdown()  # Else what is idle is waited for.
            closing = asyncio.create_task(server.shutdown(max(0, end - asyncio.get_running_loop().time())))
            await wait.until(end)
            closing.cancel()
            with suppress(asyncio.CancelledError):
                await closing

    async def _run_hooks(self, end: float) -> None:
        try:
            async with asyncio.timeout_at(end):
                await self._runner.shutdown()
        except asyncio.CancelledError:
            raise_if_cancelled()
        except Exception:
            # The requests still at work must not pay for it.
            self.failed = True
            LOG.exception("a shutdown hook failed")

    def _farewells_until(self, end: float) -> Callable[[], None]:
        """Return what says good-bye to a part of the websockets each time, to all by the loop's time ``end``."""
        loop = asyncio.get_running_loop()
        answer = min(WEBSOCKET_ANSWER, end - loop.time())

        def look() -> None:
            # Also those that were opened during the drain; a task each, since a peer may take its time.
            looks = max(1, (end - loop.time()) / POLL)
            prepared = [websocket for websocket in self._responses.websockets if websocket.prepared]
            for websocket in prepared[: max(FAREWELLS_AT_ONCE, math.ceil(len(prepared) / looks))]:
                self._responses.websockets.discard(websocket)
                task = loop.create_task(_close(websocket, answer))
                self._farewells.add(task)
                task.add_done_callback(self._farewells.discard)

        return look


def raise_if_cancelled() -> None:
    """Raise again the CancelledError that is being handled, unless it is an application's own.

    A hook that cancels a task of the application and awaits it lets that task's error out, which ends nothing here.
    """
    task = asyncio.current_task()
    if task and task.cancelling():
        raise  # noqa: PLE0704 (called where it is handled)


class _Wait:
    """Waiting for the end of connections."""

    def __init__(
        self, runner: Runner, sites: Sites, report: Callable[[int], None], on_look: Callable[[], None]
    ) -> None:
        self._runner = runner
        self._sites = sites
        self._report = report
        self._report_at = 0.0
        self._on_look = on_look

    def connections(self) -> list[web.RequestHandler]:
        return self._runner.server.connections if self._runner.server else []

    async def until(self, end: float, among: set[web.RequestHandler] | None = None) -> None:
        """Return when no connection is left, or none of ``among``, or at the loop's time ``end``."""
        loop = asyncio.get_running_loop()
        while (now := loop.time()) < end:
            connections = self.connections()
            if not (connections or self._sites.handshakes) or (among is not None and among.isdisjoint(connections)):
                return
            self._on_look()
            if now >= self._report_at:
                self._report(len(connections) + self._sites.handshakes)
                self._report_at = now + STATUS_EVERY
            await asyncio.sleep(POLL)


async def _close(websocket: web.WebSocketResponse, answer: float) -> None:
    # Not websocket.close(): from another task that ends the handler's receive() and then the connection, before the
    # peer has answered. After a bare Close frame the handler's own receive() gets the peer's answer and ends.
    # aiohttp 3.11 calls one prepared whose head is not written yet, and raises RuntimeError.
    with suppress(ConnectionError, RuntimeError):
        await websocket.send_frame(WSCloseCode.SERVICE_RESTART.to_bytes(2, "big"), WSMsgType.CLOSE)
    await asyncio.sleep(answer)
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(1):
            await websocket.close(code=WSCloseCode.SERVICE_RESTART)
