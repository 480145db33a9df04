"""One thread that waits for descriptors, deadlines and signals."""

import math
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import Protocol, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Timed(Protocol):
    """Something that has at most one thing to do later."""

    deadline: float
    """When, on the clock of ``time.monotonic``; infinite when there is nothing."""

    def late(self) -> None:
        """Do it; it moves the deadline."""


class Loop:
    """Calls back when a descriptor is readable, a deadline has passed or a signal came; a context."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # signal.set_wakeup_fd: the interpreter writes each signal's number there; so none is lost between two waits.
        self._signals, self._wakeup = socket.socketpair()
        for end in (self._signals, self._wakeup):
            end.settimeout(0)
        self.on_signal: Callable[[int], None] = lambda _: None
        self.watch(self._signals.fileno(), self._read_signals)

    def __enter__(self) -> Self:
        self._descriptor_before = signal.set_wakeup_fd(self._wakeup.fileno())
        # nohup(1) asks to ignore a hang-up.
        taken = (each for each in _SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN)
        self._before = {each: signal.signal(each, lambda *_: None) for each in taken}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._descriptor_before)
        self._selector.close()
        self._signals.close()
        self._wakeup.close()

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever ``descriptor`` can be read."""
        self._selector.register(descriptor, selectors.EVENT_READ, callback)

    def forget(self, descriptor: int) -> None:
        """Watch ``descriptor`` no more; nothing happens if it was not watched, or is -1 because it was closed."""
        if descriptor >= 0 and descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def turn(self, timed: Iterable[Timed], at_most: float = math.inf) -> None:
        """Wait for the next event, until the first deadline of ``timed``, or ``at_most`` seconds; then act."""
        timed = tuple(timed)
        seconds = min(at_most, *(each.deadline - time.monotonic() for each in timed), math.inf)
        for key, _ in self._selector.select(None if seconds == math.inf else max(seconds, 0)):
            # An earlier callback of this turn may have closed it.
            if self._selector.get_map().get(key.fd) == key:
                key.data()
        for each in timed:
            if each.deadline <= time.monotonic():
                each.late()

    def _read_signals(self) -> None:
        for number in self._signals.recv(4096):
            self.on_signal(number)
