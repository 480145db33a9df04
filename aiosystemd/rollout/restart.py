"""A restart, announced where there is somebody to take over: clients go to the other instances at once."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiosystemd.control import Control, ControlError, Counts
from aiosystemd.rollout.instance import Instance, look
from aiosystemd.rollout.watch import watch
from aiosystemd.rollout.work import Failed, Work
from aiosystemd.systemctl import Command, last_error

_PATIENCE: Final = 2.0
"""Seconds in which the accept queue of an instance that lets everybody in is found empty once."""


def announced_restart(work: Work, instance: Instance, why: str, *, others: bool, anew: bool = False) -> None:
    """Stop an instance and start it; ``others`` says whether another one serves, ``anew`` takes its socket too.

    Raises:
        Failed: there is no way back, and what it is now is to be found out.
        Interrupted: the same.

    """
    name = instance.name
    with closed(work, instance, others=others) as hung:
        meanwhile = "requests go to the other instances" if hung else "requests wait for its start"
        work.say(name, f"restart: {why}; {meanwhile}")
        _restart(work, instance, (instance.socket.name, instance.service.name) if anew else (instance.service.name,))
    new = look(work.deployment.name, [name])[name]
    work.say(name, f"process {new.pid} has started")
    watch(work, name, lambda: _counts(work, name), lambda: _ended(work, new))
    work.say(name, f"the new version serves, process {new.pid}")


def _restart(work: Work, instance: Instance, units: tuple[str, ...]) -> None:
    begin = time.time()
    seconds = work.options.timeout
    with Command(work.loop, "restart", *units) as command:
        work.until(lambda: command.status is not None or work.signals, seconds, signals=2)
        if work.signals and command.status is None:
            work.say(instance.name, "the restart comes to its end first; another Ctrl-C leaves it to systemd")
            work.until(lambda: command.status is not None, seconds, signals=2)
        if command.status is None:
            raise Failed(f"has not restarted within {seconds:g} s; systemd goes on with it")
    if command.status:
        # Only until now: systemd starts it again, and it may be about to say something else.
        words = last_error(instance.service.name, begin, time.time()) or command.words
        raise Failed(f"did not restart: {words}")


@contextmanager
def closed(work: Work, instance: Instance, *, others: bool) -> Iterator[bool]:
    """Hang the closed sign, if there is somebody to go to; yield whether it hangs.

    It is a full accept queue: connect(2) to a unix socket then fails at once with EAGAIN, and a proxy, which has sent
    nothing yet, tries the next instance, whatever the method. The instance shrinks the queue to one place, and a
    connection of our own takes it, which stands there until the next process opens the queue again.
    """
    address = work.listening(instance.name)
    if not others or not instance.runs or not isinstance(address, str):
        yield False
        return
    with socket.socket(socket.AF_UNIX) as place:
        try:
            control = Control(work.deployment.name, instance.name)
        except ControlError as error:
            work.say(instance.name, f"{error}")
            yield False
            return
        with control:
            yield _hung(work, instance, control, place, address)


def _hung(work: Work, instance: Instance, control: Control, place: socket.socket, address: str) -> bool:
    place.setblocking(False)  # noqa: FBT003 (positional only)
    end = time.monotonic() + _PATIENCE
    try:
        control.order("close")
        while not (taken := _taken(place, address)) and time.monotonic() < end:
            control.order("accept")
    except (ControlError, OSError) as error:
        work.say(instance.name, f"is not closed first: {error}")
        taken = False
    if not taken:
        control.close()  # That opens it again.
    return taken


def _taken(place: socket.socket, address: str) -> bool:
    try:
        place.connect(address)
    except BlockingIOError:  # Somebody sits there.
        return False
    return True


def _counts(work: Work, name: str) -> Counts:
    try:
        with Control(work.deployment.name, name) as control:
            return control.status()
    except ControlError as error:
        raise Failed(str(error)) from None


def _ended(work: Work, new: Instance) -> str:
    now = look(work.deployment.name, [new.name])[new.name]
    if new.pid and now.pid == new.pid and now.restarts == new.restarts:
        return ""
    return f"process {new.pid} has ended: {now.condition}"
