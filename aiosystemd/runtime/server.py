"""The life of one server: start, ready, wait for the stop, drain."""

import asyncio
import faulthandler
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from aiosystemd.runtime import access, forwarded, importer, listening, startup
from aiosystemd.runtime.control import Control
from aiosystemd.runtime.drain import Drain, Limits, Runner, raise_if_cancelled
from aiosystemd.runtime.errors import StartError
from aiosystemd.runtime.handover import Handover
from aiosystemd.runtime.notify import Notifier
from aiosystemd.runtime.options import PROGRAM, Options
from aiosystemd.runtime.orders import Orders
from aiosystemd.runtime.predecessor import Predecessor
from aiosystemd.runtime.responses import Responses
from aiosystemd.runtime.sites import Sites
from aiosystemd.runtime.tracebacks import summary

if TYPE_CHECKING:
    from aiosystemd.runtime.tls import Context

T = TypeVar("T")

LOG = logging.getLogger(__name__)

CANCEL = 2.0
"""Seconds that a request has to end after the drain's deadline; aiohttp grants them before it cancels, and after."""

LAST_RESORT = 1.0
"""Seconds before systemd's ``TimeoutStopSec=`` at which a process that still hangs ends itself."""


class Server:
    """Serves one application until it is told to stop."""

    def __init__(  # noqa: PLR0913 (each is another part of what is served)
        self,
        options: Options,
        inherited: Sequence[socket.socket],
        notifier: Notifier,
        predecessor: Predecessor | None,
        on_ready: Callable[[], None],
        *,
        tls: "Context | None" = None,
    ) -> None:
        """Prepare to serve.

        Args:
            options: the command line.
            inherited: the sockets that were passed; without any, those of ``options`` are bound.
            notifier: the service manager.
            predecessor: the process to take over from, in a reload.
            on_ready: called when the application has started and its sockets are served.
            tls: what speaks TLS on them.

        """
        self._options = options
        self._sockets = inherited
        self._notifier = notifier
        self._predecessor = predecessor
        self._on_ready = on_ready
        self._tls = tls
        self._own = listening.Own()
        self._runner: Runner | None = None
        self._stopping = asyncio.Event()
        self._relieved = False
        self._interruptible: asyncio.Task[object] | None = None

    async def run(self, loaded: importer.Loaded) -> int:
        """Serve the application, or what the awaitable of its factory makes, until told to stop.

        Returns:
            The exit status: 1 when a shutdown or clean-up hook of the application failed, else 0.

        Raises:
            StartError: when the application cannot be started.

        """
        self._listen_for_signals()
        drained, serving = True, None
        try:
            if serving := await self._unless_stopped(self._start(loaded)):
                await self._until_stopped(serving)
                await self._unless_stopped(self._drain(serving))
                drained = not serving.drain.failed
        finally:
            cleaned = await self._clean_up()
            self._own.close()
            if serving:
                await serving.handover.alone()
            # Closing the loop restores the default action; a late second SIGTERM must not change the exit status.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        return 0 if drained and cleaned else 1

    async def _start(self, loaded: importer.Loaded) -> "_Serving":
        self._notifier.status(f"Starting {self._options.app}")
        app = await importer.resolve(self._options.app, loaded)
        self._step_done()
        if app.pre_frozen:
            raise StartError(
                f'"{self._options.app}" was already started, or added to another application: name that one'
            )
        trust = forwarded.Trust(self._options.forwarded_from)
        responses = Responses(app, trust)
        startup.report_steps(app, self._step_done)
        self._runner = runner = self._make_runner(app)
        drain = Drain(runner, responses)
        await self._set_up(runner)
        if runner.server:
            forwarded.install(runner.server, trust, self._options.body_limit)
        sites = await self._serve(runner)
        handover = Handover(
            sites, responses, self._notifier, self._predecessor, step=self._options.start, relieved=self._relieve
        )
        return _Serving(sites, drain, handover, Orders(runner, sites, responses, handover))

    def _make_runner(self, app: web.Application) -> Runner:
        return Runner(
            app,
            handle_signals=False,
            keepalive_timeout=self._options.keepalive,
            shutdown_timeout=CANCEL,
            **access.server_options(self._options.access_log, self._options.access_log_format),
        )

    async def _set_up(self, runner: Runner) -> None:
        try:
            await runner.setup()
        except Exception as error:
            raise StartError(f'the start of "{self._options.app}" failed: {summary(error)}') from error

    async def _serve(self, runner: Runner) -> Sites:
        if not self._sockets:
            # Only now: until it listens, a proxy is refused and goes to another instance.
            listening.bind(self._own, self._options)
            self._sockets = self._own.sockets
        sites = Sites(runner, self._sockets, self._options.backlog, self._tls)
        self._where = ", ".join(map(listening.describe, self._sockets))
        await sites.open()
        return sites

    async def _until_stopped(self, serving: "_Serving") -> None:
        if self._predecessor and not await self._unless_stopped(self._predecessor.chosen(serving.orders.counts)):
            # Else it would wait for word from this process, which waits for its end.
            self._predecessor.tell({"failed": "the new process was stopped"})
            self._relieved = True
            return
        control = Control(serving.orders.all())
        control.open()
        self._ready()
        await self._stopping.wait()
        if not self._relieved:
            await serving.handover.call_off()

    def _ready(self) -> None:
        self._notifier.muted = False
        self._on_ready()
        if self._predecessor:
            self._predecessor.tell({"main": True})
        self._notifier.send("READY=1", f"STATUS=Serving on {self._where}")
        if not self._notifier.active:
            sys.stderr.write(f"{PROGRAM}: serving on {self._where}\n")
        self._notifier.keep_watchdog(asyncio.get_running_loop())

    @property
    def _limits(self) -> Limits:
        return Limits(self._options.drain, self._options.idle, self._options.direct)

    async def _drain(self, serving: "_Serving") -> None:
        # Whatever the application does from here on, a loop that blocks or a thread that never ends: the stacks go to
        # stderr and the process ends, before systemd's own TimeoutStopSec= would kill it without a word.
        faulthandler.dump_traceback_later(max(self._options.stop - LAST_RESORT, self._options.drain), exit=True)
        # systemd.service(5): this begins the stop even if it was not systemd that sent the signal.
        self._notifier.send("STOPPING=1", "STATUS=Draining")
        self._own.remove_paths()
        linger = serving.orders.state == "serving" and not self._relieved
        serving.orders.state = "draining"
        await serving.drain.run(serving.sites, self._limits, self._report_drain, linger=linger)

    async def _clean_up(self) -> bool:
        """Run the application's clean-up hooks; return whether they went well."""
        try:
            if self._runner:
                await self._runner.cleanup()
        except asyncio.CancelledError:
            raise_if_cancelled()
        except Exception:
            LOG.exception("a clean-up hook failed")
            return False
        return True

    async def _unless_stopped(self, work: Coroutine[object, object, T]) -> T | None:
        """Return the result of ``work``, or None when a signal called it off."""
        self._interruptible = task = asyncio.get_running_loop().create_task(work)
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        if self._notifier.active:
            # By old habit; its default would end the process, with all that it has in hand.
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)

    def _relieve(self) -> None:
        self._relieved = True
        # The new process serves what this one has bound.
        self._own.paths.clear()
        self._stopping.set()

    def _hang_up(self) -> None:
        LOG.warning("SIGHUP does nothing: `systemctl reload` starts the new code")

    def _stop(self) -> None:
        if not self._stopping.is_set() and self._interruptible:
            self._interruptible.cancel()  # The start, if it is not done.
        # A second SIGTERM changes nothing: systemd sends one to every process of a unit, and so may a person.
        self._stopping.set()

    def _interrupt(self) -> None:
        """Stop at the first Ctrl-C, at the second wait for no request any more, at the third for nothing."""
        if self._stopping.is_set() and self._interruptible:
            self._interruptible.cancel()
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._stop()

    def _step_done(self) -> None:
        if self._predecessor:
            self._predecessor.tell({"step": True})
        self._notifier.extend_start(self._options.start)

    def _report_drain(self, connections: int) -> None:
        self._notifier.status(f"Draining: {connections} connection{'' if connections == 1 else 's'}")


@dataclass(frozen=True, slots=True)
class _Serving:
    """An application that is served."""

    sites: Sites
    drain: Drain
    handover: Handover
    orders: Orders
