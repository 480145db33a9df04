"""One instance, looked after as systemd looks after its service."""

import math
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from aiosystemd.contract import INSTANCE_VARIABLE
from aiosystemd.export.serve import serve_command
from aiosystemd.loop import Loop
from aiosystemd.model import Deployment
from aiosystemd.up.notify import Message, NotifySocket, Store
from aiosystemd.up.output import Output
from aiosystemd.up.place import Place
from aiosystemd.up.process import Child, Command, describe, is_clean

_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 5.0
"""Seconds before a new start, which double as long as it never gets ready."""


class State(Enum):
    """Where in its life an instance is."""

    DOWN = auto()
    STARTING = auto()
    READY = auto()
    ENDING = auto()
    """Told to end, or about to; killed at its deadline."""
    STOPPED = auto()
    """Down, and nothing will start it."""


class Instance:
    """Starts a process on its socket, watches it and starts it again."""

    def __init__(self, name: str, place: Place, listener: socket.socket, loop: Loop, output: Output) -> None:
        """Prepare; nothing runs yet. ``listener`` is taken over."""
        d = place.deployment
        self.name = f"{d.name}@{name}"
        self.listener = listener
        self.state = State.DOWN
        self.deadline = math.inf
        self.failures = 0
        """How often it ended without having been told to."""
        self.killed = False
        """Whether its last process had to be killed, or failed as it stopped."""
        self._deployment, self._loop, self._output = d, loop, output
        self._notify = NotifySocket(place.root / f"{name}.notify")
        self._store = Store()
        self._child: Child | None = None
        self._wanted = True
        self._fault = ""
        self._status = ""
        self._delay = _FIRST_DELAY
        self._restarts = True
        self._command = Command(
            serve_command(d),
            place.working,
            {**place.environment, **dict(_protocol(d, name, self._notify))},
            ("LISTEN_PID", "WATCHDOG_PID") if d.timeouts.watchdog else ("LISTEN_PID",),
        )
        loop.watch(self._notify.fileno(), self._hear)

    def start(self) -> None:
        """Start the process."""
        # sd_listen_fds(3): a socket is called by its unit, then come what the service left with its manager.
        names = [f"{self.name}.socket", *self._store.names]
        passed = {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
        command = replace(self._command, environment={**self._command.environment, **passed})
        descriptors = [self.listener.fileno(), *self._store.descriptors]
        self._fault = self._status = ""
        self._child = Child(self._loop, command, self._write, self._ended, descriptors)
        self._enter(State.STARTING, self._deployment.timeouts.start)

    def stop(self) -> None:
        """Let it drain and end, and start it no more."""
        self._wanted = False
        if self._child is None:
            self._enter(State.STOPPED, math.inf)
        elif self.state is not State.ENDING:
            self._child.send(signal.SIGTERM)
            self._enter(State.ENDING, self._deployment.stop)
        # Behind it nobody will accept any more: refused at once is better than waiting.
        self._loop.forget(self.listener.fileno())
        self.listener.close()

    def kill(self) -> None:
        """End it at once, and start it no more."""
        self._wanted = False
        if self._child is None:
            self._enter(State.STOPPED, math.inf)
        else:
            self._child.send(signal.SIGKILL)
            self._enter(State.ENDING, math.inf)

    def close(self) -> None:
        """Leave nothing behind, whatever the state."""
        self.kill()
        if self._child:
            self._child.destroy()
        self._loop.forget(self._notify.fileno())
        self._notify.close()
        self.listener.close()
        self._store.clear()

    def late(self) -> None:
        """Do what the state wants at its deadline."""
        d = self._deployment
        if self.state is State.DOWN and self._restarts:
            self._output.say(f"{self.name} starts again")
            self.start()
        elif self.state is State.DOWN:
            self._output.say(f'{self.name} waits for a connection (service.restart = "{d.service.restart}")')
            self._loop.watch(self.listener.fileno(), self._connected)
            self.deadline = math.inf
        elif self.state is State.STARTING:
            # systemd.service(5), TimeoutStartFailureMode=: terminate.
            self._blame(f"was not ready after {d.timeouts.start:g} s without progress", signal.SIGTERM)
        elif self.state is State.READY:
            # systemd.service(5), WatchdogSec=: SIGABRT, with which Python shows where it stands; SIGKILL comes later.
            self._blame(f"did not answer its watchdog for {d.timeouts.watchdog:g} s", signal.SIGABRT)
        elif self.state is State.ENDING and self._child:
            self._output.say(f"{self.name} did not end within {d.stop:g} s and is killed")
            self._child.send(signal.SIGKILL)
            self.deadline = math.inf

    def _connected(self) -> None:
        self._loop.forget(self.listener.fileno())
        self._output.say(f"{self.name} starts, because of a connection")
        self.start()

    def _blame(self, what: str, number: signal.Signals) -> None:
        self._fault = what
        self._output.say(f"{self.name} {what}" + (f" ({self._status})" if self._status else ""))
        if self._child:
            self._child.send(number)
        self._enter(State.ENDING, self._deployment.stop)

    def _ended(self, status: int) -> None:
        self._hear()
        self._child = None
        clean = is_clean(status) and not self._fault
        before = " before it was ready" if self.state is State.STARTING else ""
        if not self._wanted:
            self.killed = not clean
            self._output.say(f"{self.name} {'has stopped' if clean else describe(status)}")
            self._enter(State.STOPPED, math.inf)
            return
        self.failures += 1
        self._output.say(f"{self.name} {describe(status)}{before}")
        policy = self._deployment.service.restart
        self._restarts = policy == "always" or not clean
        self._enter(State.DOWN, self._delay)
        self._delay = min(self._delay * 2, _LONGEST_DELAY)

    def _enter(self, state: State, seconds: float) -> None:
        self.state = state
        self.deadline = time.monotonic() + seconds

    def _write(self, line: bytes) -> None:
        self._output.write(self.name, line)

    def _hear(self) -> None:
        for message in self._notify.messages():
            # systemd.service(5), NotifyAccess=main: nobody else speaks for it.
            if self._child and message.sender == self._child.pid:
                self._understand(message)
            self._store.take(message)

    def _understand(self, message: Message) -> None:
        said = message.fields
        self._status = said.get("STATUS", self._status)
        if said.get("READY") == "1" and self.state is State.STARTING:
            self._delay = _FIRST_DELAY
            self._enter(State.READY, self._deployment.timeouts.watchdog or math.inf)
            self._output.say(f"{self.name} is ready" + (f": {self._status}" if self._status else ""))
        elif "STATUS" in said and self.state is State.ENDING:
            self._output.say(f"{self.name}: {self._status}")
        if said.get("WATCHDOG") == "1" and self.state is State.READY:
            self._enter(State.READY, self._deployment.timeouts.watchdog or math.inf)
        if said.get("STOPPING") == "1" and self.state is State.READY:
            self._enter(State.ENDING, self._deployment.stop)
        if self.state is not State.READY:
            # sd_notify(3): it never shortens what is left.
            self.deadline = max(self.deadline, time.monotonic() + message.extension)


def _protocol(d: Deployment, name: str, notify: NotifySocket) -> Iterator[tuple[str, str]]:
    yield INSTANCE_VARIABLE, name
    yield "NOTIFY_SOCKET", str(notify.path)
    yield "FDSTORE", "1"
    if d.timeouts.watchdog:
        yield "WATCHDOG_USEC", str(int(d.timeouts.watchdog * 1_000_000))
