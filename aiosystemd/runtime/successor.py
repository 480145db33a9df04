"""The new process of a reload, seen from the old one, which starts it; see also predecessor.py."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self, cast

from aiosystemd import contract
from aiosystemd.runtime.errors import OrderError
from aiosystemd.runtime.packets import Link, Message

_OF_ITS_OWN = ("MAINPID", "SYSTEMD_EXEC_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
"""Variables of the command that asks for the reload, which the new process must not have."""


class Successor:
    """The new process, seen from the old one."""

    def __init__(self, order: Message, variables: Mapping[str, str], sockets: Sequence[socket.socket]) -> None:
        """Start a process.

        Args:
            order: its ``executable``, ``argv``, ``directory`` and ``environment``.
            variables: what systemd told this process only, for the environment of the new one.
            sockets: those that it is to serve.

        Raises:
            OrderError: when that fails.

        """
        self.pid = 0
        self.counts: Message = {}
        """What it has served, while it waits to become the main process."""
        command = _Command.of(order)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link = Link(self._socket)
        with theirs:
            try:
                self._process = _spawn(command, variables, theirs.fileno())
            except OrderError:
                self._link.close()
                raise
        self._link.send({}, [sock.fileno() for sock in sockets])

    async def hear(self, seconds: float) -> Message:
        """Return what it says next.

        Raises:
            OrderError: when it says nothing for ``seconds``, has failed, or is gone.

        """
        try:
            async with asyncio.timeout(seconds):
                message = await self._link.receive()
        except TimeoutError:
            raise OrderError(f"the new process did nothing for {seconds:g} s") from None
        if message is None:
            raise OrderError("the new process has ended" if self.pid else "the new process did not start")
        if "failed" in message:
            raise OrderError(str(message["failed"]))
        self._learn(message)
        return message

    def _learn(self, message: Message) -> None:
        if "pid" in message:
            self.pid = cast("int", message["pid"])
            # What we started has made an orphan of it, and ended; see Predecessor.meet().
            self._process.wait()
        elif "requests" in message:
            self.counts = message

    def promote(self) -> None:
        """Tell it that it is the main process."""
        self._link.send({"main": True})

    def kill(self) -> None:
        """End it at once, with the processes that it has started: it serves nothing yet."""
        self._sweep()
        self._process.wait()
        self._link.close()

    def _sweep(self) -> None:
        # Its group is called by the number of the process that we started, which stays taken as long as one is in it.
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def leave(self) -> None:
        """Hear no more of it, but keep the link until this process ends: by that it knows."""
        self._socket.detach()

    def dismiss(self) -> None:
        """Let it drain what it has accepted, and end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def gone(self) -> None:
        """Wait for its end, and end what it left behind."""
        while await self._link.receive():
            pass
        self.kill()


@dataclass(frozen=True, slots=True)
class _Command:
    """What to start, and where."""

    executable: str
    argv: list[str]
    directory: str
    environment: dict[str, str]

    @classmethod
    def of(cls, order: Message) -> Self:
        """Check an order; raises OrderError."""
        executable, argv, directory, environment = map(order.get, ("executable", "argv", "directory", "environment"))
        if isinstance(argv, list) and argv and isinstance(environment, dict):
            words = [executable, directory, *argv, *environment, *environment.values()]
            if all(isinstance(word, str) and "\0" not in word for word in words):
                return cls(str(executable), argv, str(directory), environment)
        raise OrderError("malformed order: it names no executable, argv, directory and environment")


def _spawn(command: _Command, variables: Mapping[str, str], link: int) -> subprocess.Popen[bytes]:
    environment = {**command.environment, **variables}
    for name in _OF_ITS_OWN:
        environment.pop(name, None)
    try:
        return subprocess.Popen(
            command.argv,
            executable=command.executable,
            cwd=command.directory,
            env={**environment, contract.PREDECESSOR_VARIABLE: str(link)},
            pass_fds=[link],
            start_new_session=True,
        )
    except OSError as error:
        raise OrderError(f"cannot start the new process: {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise OrderError(f"malformed order: {error}") from None
