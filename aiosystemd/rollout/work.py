"""What the parts of a rollout share: the deployment, how to wait, and whom to tell."""

import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aiosystemd.ask import Address, listens
from aiosystemd.export import proxy_target
from aiosystemd.loop import Loop, Timed
from aiosystemd.model import Deployment


@dataclass(frozen=True, slots=True)
class Step:
    """Something that a rollout has done or found."""

    unit: str
    """What it concerns: ``example@1``, or the deployment as a whole."""
    text: str
    """Words that follow its name."""
    done: int
    """Instances that are done with."""
    of: int
    """All instances."""


Say = Callable[[Step], None]


class Failed(Exception):  # noqa: N818 (it ends a rollout, as expected of one)
    """An instance is not what it should be; the text says how, in words that follow its name."""


class Interrupted(Exception):  # noqa: N818 (nothing is wrong)
    """A signal asks for the end."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to roll out."""

    canary: int = 0
    """Number of instances after which to stop; 0: all."""
    pause: float = 5.0
    """Seconds for which each instance is watched."""
    timeout: float = math.inf
    """Seconds that a reload or a restart may take; by default systemd's own limits hold."""
    method: Literal["auto", "reload", "restart"] = "auto"
    """What to do to each instance; by default what its changes need."""


def address(d: Deployment, name: str) -> Address:
    """Return where this host reaches an instance."""
    if d.listen.port is None:
        return f"{d.socket_directory}/{name}.sock"
    return proxy_target(d), d.listen.port + int(name) - 1


class Work:
    """A rollout at work. Signals are noted, and end a wait: between two waits everything is in order."""

    def __init__(self, deployment: Deployment, options: Options, loop: Loop, say: Say) -> None:
        self.deployment = deployment
        self.options = options
        self.loop = loop
        self.signals: list[signal.Signals] = []
        """Those that came so far."""
        self.was: Mapping[str, Address] = {}
        """Where instances listen that will do so elsewhere when they are renewed."""
        self.done = self.all = 0
        """Instances."""
        self.tell = say
        """Who is told each step."""
        loop.on_signal = lambda number: self.signals.append(signal.Signals(number))

    def part(self, deployment: Deployment, options: Options) -> "Work":
        """Return a part of this work, done in another way; a signal is for both."""
        part = Work(deployment, options, self.loop, self.tell)
        part.signals = self.signals
        return part

    def unit(self, name: str) -> str:
        """Return what systemctl calls an instance."""
        return f"{self.deployment.name}@{name}"

    def say(self, name: str, text: str) -> None:
        """Tell a step of an instance, or with ``""`` one of the whole."""
        self.tell(Step(self.unit(name) if name else self.deployment.name, text, self.done, self.all))

    def address(self, name: str) -> Address:
        """Return where an instance listens."""
        return address(self.deployment, name)

    def listening(self, name: str) -> Address:
        """Return where an instance listens until it has moved."""
        return self.was[name] if name in self.was and listens(self.was[name]) else self.address(name)

    def until(
        self,
        condition: Callable[[], object],
        seconds: float = math.inf,
        *,
        timed: Sequence[Timed] = (),
        signals: int = 1,
    ) -> bool:
        """Wait for ``condition``, at most ``seconds``, and return whether it came.

        Raises Interrupted once there have been as many ``signals``.
        """
        end = time.monotonic() + seconds
        self.loop.turn(timed, 0)  # What has come meanwhile.
        while not condition():
            if len(self.signals) >= signals:
                raise Interrupted
            if (left := end - time.monotonic()) <= 0:
                return False
            self.loop.turn(timed, left)
        return True

    def rest(self, seconds: float) -> None:
        """Let time pass; raises Interrupted."""
        self.until(lambda: False, seconds)
