"""The lame duck: after a stop signal every request that was or will be sent is answered, then the process ends.

A request is lost when the server closes a connection on which the proxy may still send. So this server closes one only
after a response that said ``Connection: close``, or after the proxy has closed it; idle ones are left to the proxy.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from weakref import WeakSet

from aiohttp import WSCloseCode, WSMsgType, web

from aiosystemd.runtime import DRAINING

LOG = logging.getLogger(__name__)

POLL = 0.02
"""Seconds between two looks at the connections, for whose end aiohttp has no event."""

STATUS_EVERY = 1.0
"""Seconds between two reports to the service manager."""

WEBSOCKET_ANSWER = 5.0
"""Longest time, in seconds, that the peer of a websocket has for its answer to a Close frame."""


class Runner(web.AppRunner):
    """An `AppRunner` whose shutdown hooks run once, when the drain wants them; its cleanup() runs them again."""

    __slots__ = ("_hooks_ran",)

    async def shutdown(self) -> None:
        if not getattr(self, "_hooks_ran", False):
            self._hooks_ran = True
            await super().shutdown()


class Drain:
    """What one application needs so that it can be stopped without losing a request."""

    def __init__(self, runner: Runner) -> None:
        """Install the hooks in the runner's application, which must not be frozen yet."""
        self._runner = runner
        self.failed = False
        """Whether a shutdown hook of the application raised or did not end."""
        self._draining = runner.app[DRAINING] = asyncio.Event()
        self._websockets: WeakSet[web.WebSocketResponse] = WeakSet()
        self._farewells: set[asyncio.Task[None]] = set()
        # The root application's hooks also see the responses of
        # sub-applications, HTTP exceptions, 404, files and streams.
        runner.app.on_response_prepare.append(self._mark)

    async def _mark(self, _: web.Request, response: web.StreamResponse) -> None:
        if isinstance(response, web.WebSocketResponse):
            self._websockets.add(response)
        elif self._draining.is_set() and response.status != 101:  # noqa: PLR2004 (an upgrade keeps its connection)
            # The header makes the proxy forget the connection, force_close() makes aiohttp close it. aiohttp itself
            # does only the second, and a proxy may then send another request before it sees the end.
            response.headers["Connection"] = "close"
            response.force_close()

    async def run(
        self, listeners: Sequence[socket.socket], seconds: float, idle: float, report: Callable[[int], None]
    ) -> None:
        """Drain the connections of the runner, whose sites still listen; cancel this to end the wait.

        Args:
            listeners: the sockets of the runner's sites.
            seconds: the time after which whatever is left is given up.
            idle: seconds after which the proxy has closed its idle connections.
            report: told the number of connections, about once a second.

        """
        now = asyncio.get_running_loop().time()
        wait = _Wait(self._runner, report, lambda: self._say_goodbye(min(WEBSOCKET_ANSWER, seconds / 2)))
        # 1. Each response from here on ends its connection, and handlers that stream for ever are asked to return.
        #    While connections from before are left, the proxy may still send on them: it has closed its idle ones
        #    within `idle`. New ones are accepted meanwhile: in the kernel's queue they would wait for the next
        #    process for as long as that takes, instead of for its start alone.
        self._draining.set()
        before = set(wait.connections())
        await wait.until(now + min(idle, seconds), before)
        # 2. Accept no more; the kernel's queue stays with systemd. The proxy sends no request any more but on a
        #    connection that it opened last, and the application is told to end what it has open itself.
        await _stop_listening(self._runner, listeners)
        await self._run_hooks(now + seconds)
        # 3. What is left is requests still at work, and idle connections of clients that are not the proxy.
        await wait.until(now + seconds)
        if left := len(wait.connections()):
            LOG.warning("the drain took too long: cutting connections, %d still busy or idle", left)

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

    def _say_goodbye(self, answer: float) -> None:
        """Send a Close frame to each websocket that has none yet; one may still be opened during the drain."""
        for websocket in [each for each in self._websockets if each.prepared]:
            self._websockets.discard(websocket)
            task = asyncio.get_running_loop().create_task(_close(websocket, answer))
            self._farewells.add(task)
            task.add_done_callback(self._farewells.discard)


def raise_if_cancelled() -> None:
    """Raise again the CancelledError that is being handled, unless it is an application's own.

    A hook that cancels a task of the application and awaits it lets that task's error out, which ends nothing here.
    """
    task = asyncio.current_task()
    if task and task.cancelling():
        raise  # noqa: PLE0704 (called where it is handled)


class _Wait:
    """Waiting for the end of connections."""

    def __init__(self, runner: Runner, report: Callable[[int], None], on_look: Callable[[], None]) -> None:
        self._runner = runner
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
            if not connections or (among is not None and among.isdisjoint(connections)):
                return
            self._on_look()
            if now >= self._report_at:
                self._report(len(connections))
                self._report_at = now + STATUS_EVERY
            await asyncio.sleep(POLL)


async def _stop_listening(runner: Runner, listeners: Sequence[socket.socket]) -> None:
    # A connection that was accepted becomes one of the server's some turns later: asyncio makes its transport in a task
    # of its own, which schedules connection_made(). And asyncio drops it if its Server was closed meanwhile: so at
    # first the loop only looks at the sockets no more. (uvloop does without both, and without a reader to remove.)
    for listener in listeners:
        asyncio.get_running_loop().remove_reader(listener)
    await _turn()
    # This closes our copies. shutdown(2) on an inherited listener would refuse clients for ever, in the next process
    # as well.
    for site in list(runner.sites):
        await site.stop()
    await _turn()


async def _turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


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
