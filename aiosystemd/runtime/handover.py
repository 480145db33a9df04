"""Reloads, in the process that serves: start a new one, see it serve, make it the main process, and drain.

Whatever goes wrong before that, this process serves on as if nothing had happened.
"""

import asyncio
from collections.abc import Callable

from aiosystemd.runtime.errors import OrderError
from aiosystemd.runtime.notify import Notifier
from aiosystemd.runtime.packets import Link, Message
from aiosystemd.runtime.predecessor import Predecessor
from aiosystemd.runtime.responses import Responses
from aiosystemd.runtime.sites import Sites
from aiosystemd.runtime.successor import Successor

MARGIN = 5.0
"""Seconds that systemd waits longer for each step than we do, so that the reason it gives is ours."""

TURN = 0.01
"""Seconds in which the loop has heard whatever was there before."""

ABANDONED = "the rollout ended before it had decided"


class Handover:
    """The reloads of one process, one after the other."""

    def __init__(  # noqa: PLR0913 (each is another part of what is handed over)
        self,
        sites: Sites,
        responses: Responses,
        notifier: Notifier,
        predecessor: Predecessor | None,
        *,
        step: float,
        relieved: Callable[[], None],
    ) -> None:
        """Prepare for reloads.

        Args:
            sites: the sockets that are served, and that a new process gets.
            responses: told whether they end their connections.
            notifier: the service manager.
            predecessor: whose end each reload waits for: there are never more than two processes.
            step: seconds that each step of the new process's start may take.
            relieved: called when the new process is the main one.

        """
        self._sites = sites
        self._responses = responses
        self._notifier = notifier
        self._predecessor = predecessor
        self._step = step
        self._relieved = relieved
        self._task: asyncio.Task[None] | None = None
        self._switch: asyncio.Task[None] | None = None
        self._called_off = False
        self._dismissed: list[Successor] = []
        self._holder: Link | None = None
        self._abandoned = False
        self._decision: asyncio.Future[str] | None = None
        self.successor: Successor | None = None
        """The process that is being started or held."""
        self.error = ""
        """Why the last reload failed, if it did."""

    @property
    def busy(self) -> bool:
        """Whether a reload is under way."""
        return self._task is not None and not self._task.done()

    def begin(self, order: Message) -> "asyncio.Task[None]":
        """Start a reload; its task raises `OrderError`. To cancel it is to call the reload off.

        Raises:
            OrderError: when there is one already.

        """
        if self.busy:
            raise OrderError("another reload is under way")
        self._task = asyncio.get_running_loop().create_task(self._reload(order))
        return self._task

    def hold(self, holder: Link) -> None:
        """Let ``holder`` decide about new processes from now on.

        Raises:
            OrderError: when somebody else does.

        """
        if self._holder:
            raise OrderError("another rollout is under way")
        self._holder = holder

    def decide(self, holder: Link, against: str = "") -> None:
        """Take the new process that is held, or tell what speaks against it.

        Raises:
            OrderError: when none is held, or somebody else holds it.

        """
        if holder is not self._holder or not self._decision or self._decision.done():
            raise OrderError("no new process waits for your word")
        self._decision.set_result(against)

    def release(self) -> None:
        """Forget the holder, who is gone; nobody takes what it held, or was to hold."""
        self._holder = None
        self._abandoned = True
        if self._decision and not self._decision.done():
            self._decision.set_result(ABANDONED)

    async def call_off(self) -> None:
        """End a reload that is under way, since this process is to stop."""
        self._called_off = True
        if self._switch:
            await asyncio.wait([self._switch])
        elif self._task and self.busy:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def alone(self) -> None:
        """Wait until this is the only process, or at least none is left that ends with this one.

        systemd.kill(5) KillMode=mixed: when the main process ends in a stop, the others are killed.
        """
        if self._predecessor:
            await self._predecessor.gone()
        while self._dismissed:
            await self._dismissed[0].gone()
            self._dismissed.pop(0)

    async def _reload(self, order: Message) -> None:
        self.error = ""
        self._abandoned = False
        try:
            await self._alone_in_time()
            await self._change_over(order)
        except OrderError as error:
            self._failed(str(error))
            raise
        except asyncio.CancelledError:
            if not self._switch:
                self._failed("it was called off")
            raise
        finally:
            self.successor = None

    def _failed(self, why: str) -> None:
        self.error = why
        self._notifier.status(f"Serving; the last reload failed: {why}")
        if self._holder:
            self._holder.send({"event": "failed", "why": why})

    async def _alone_in_time(self) -> None:
        waiting = asyncio.ensure_future(self.alone())
        try:
            while not (await asyncio.wait([waiting], timeout=1))[0]:
                self._notifier.extend_start(self._step + MARGIN)
        finally:
            waiting.cancel()

    async def _change_over(self, order: Message) -> None:
        new = self.successor = Successor(order, self._notifier.variables, self._sites.sockets)
        try:
            await self._started(new)
            if self._abandoned:
                raise OrderError(ABANDONED)  # noqa: TRY301 (the same end)
        except BaseException:
            new.kill()
            raise
        if self._holder:
            await self._held(new, self._holder)
        # From here on there is no way back, and to call it off comes too late.
        self._switch = asyncio.get_running_loop().create_task(self._hand_over(new))
        await asyncio.shield(self._switch)

    async def _started(self, new: Successor) -> None:
        while "ready" not in await self._hear(new):
            pass

    async def _hear(self, new: Successor) -> Message:
        self._notifier.extend_start(self._step + MARGIN)
        return await new.hear(self._step)

    async def _held(self, new: Successor, holder: Link) -> None:
        """Let the new process serve alone, until the holder has decided; take over again if that is against it."""
        self._decision = asyncio.get_running_loop().create_future()
        try:
            self._responses.closing = True
            await self._sites.close()
            holder.send({"event": "ready", "pid": new.pid})
            await self._decided(new, self._decision)
        except BaseException:
            # At once: when systemd stops the unit, a second cancellation follows the first, and ends what waits here.
            self._dismiss(new)
            self._responses.closing = False
            await self._sites.close()
            await self._sites.open()
            raise
        finally:
            self._decision = None

    async def _decided(self, new: Successor, decision: "asyncio.Future[str]") -> None:
        while not decision.done():
            # It reports twice a second.
            await self._hear(new)
        if against := decision.result():
            raise OrderError(against)

    async def _hand_over(self, new: Successor) -> None:
        await self._notifier.hand_over(new.pid)
        # A SIGTERM that systemd sent before it read MAINPID=, and then ignored that, is heard by now.
        await asyncio.sleep(TURN)
        if self._called_off:
            self._dismiss(new)
            raise OrderError("the instance is being stopped")
        new.promote()
        try:
            while "main" not in await new.hear(self._step):
                pass
            self._responses.closing = True
            await self._sites.close()
        finally:
            new.leave()
            self._relieved()

    def _dismiss(self, new: Successor) -> None:
        new.dismiss()
        self._dismissed.append(new)
