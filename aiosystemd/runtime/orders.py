"""What the control socket can be asked for."""

import asyncio
import os
import time
from pathlib import Path

from aiosystemd.runtime.control import Order, Peer
from aiosystemd.runtime.drain import Runner
from aiosystemd.runtime.errors import OrderError
from aiosystemd.runtime.handover import Handover
from aiosystemd.runtime.packets import Message
from aiosystemd.runtime.responses import Responses
from aiosystemd.runtime.sites import Sites


class Orders:
    """The orders of one serving process.

    ``status``: how it is. ``reload``: put a new process in its place; the answer is the outcome. ``hold``: as long as
    the connection lasts, a new process that serves is told to this peer, who says ``commit``, or ``revert`` with a
    reason. ``close``: accept nothing more, as long as the connection lasts or until the stop; ``accept``: but what is
    in the queue.
    """

    def __init__(self, runner: Runner, sites: Sites, responses: Responses, handover: Handover) -> None:
        self._runner = runner
        self._sites = sites
        self._responses = responses
        self._handover = handover
        self._since = time.time()
        self._opening: asyncio.Task[None] | None = None
        self._directory = str(Path.cwd())
        self.state = "serving"
        """Or "closed", or "draining"."""

    def all(self) -> dict[str, Order]:
        """Return each order by its word."""
        orders = (self.status, self.reload, self.hold, self.commit, self.revert, self.close, self.accept)
        return {order.__name__: order for order in orders}

    def counts(self) -> Message:
        """Return what was served so far."""
        server = self._runner.server
        return {
            "requests": server.requests_count if server else 0,
            "errors": self._responses.errors,
            "connections": len(server.connections) if server else 0,
        }

    async def status(self, peer: Peer, _: Message) -> None:
        new = self._handover.successor
        peer.send(
            {
                "pid": os.getpid(),
                "state": self.state,
                "since": self._since,
                **self.counts(),
                "directory": self._directory,
                "successor": {"pid": new.pid, **new.counts} if new else None,
                "reload_error": self._handover.error,
            }
        )

    async def reload(self, peer: Peer, order: Message) -> None:
        self._only_while_serving()
        task = self._handover.begin(order)
        peer.when_lost.append(task.cancel)

        def answer(_: "asyncio.Task[None]") -> None:
            if task.cancelled():
                peer.send({"error": "the instance is being stopped", "stopping": True})
            else:
                error = task.exception()
                peer.send({"error": str(error)} if error else {"ok": True})

        task.add_done_callback(answer)

    async def hold(self, peer: Peer, _: Message) -> None:
        self._only_while_serving()
        self._handover.hold(peer)
        peer.when_lost.append(self._handover.release)
        peer.send({"ok": True})

    async def commit(self, peer: Peer, _: Message) -> None:
        self._handover.decide(peer)
        peer.send({"ok": True})

    async def revert(self, peer: Peer, order: Message) -> None:
        self._handover.decide(peer, against=str(order.get("why") or "the rollout decided against it"))
        peer.send({"ok": True})

    async def close(self, peer: Peer, _: Message) -> None:
        self._only_while_serving()
        if self._handover.busy:
            raise OrderError("a reload is under way")
        self.state = "closed"
        peer.when_lost.append(self._open_again)
        self._responses.closing = True
        await self._sites.close()
        self._sites.narrow()
        await self._sites.admit()
        peer.send({"ok": True})

    async def accept(self, peer: Peer, _: Message) -> None:
        if self.state != "closed":
            raise OrderError(f"the instance is {self.state}")
        await self._sites.admit()
        peer.send({"ok": True})

    def _open_again(self) -> None:
        if self.state == "closed":
            self.state = "serving"
            self._responses.closing = False
            self._opening = asyncio.ensure_future(self._sites.open())

    def _only_while_serving(self) -> None:
        if self.state != "serving":
            raise OrderError(f"the instance is {self.state}")
