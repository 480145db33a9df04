"""Instances that come and go, without a lost request."""

import time
from collections.abc import Iterable, Sequence

from aiosystemd import systemctl
from aiosystemd.control import Control, ControlError, Counts
from aiosystemd.rollout.instance import Instance, look
from aiosystemd.rollout.restart import closed
from aiosystemd.rollout.watch import watch
from aiosystemd.rollout.work import Failed, Work
from aiosystemd.systemctl import Command, last_error


def start(work: Work, names: Sequence[str], *others: str) -> None:
    """Start instances, after ``others``, and see that each of them answers.

    Raises:
        Failed: one of them does not.
        Interrupted: a signal asks for the end.

    """
    begin = time.time()
    units = [f"{work.unit(name)}.{kind}" for name in names for kind in ("socket", "service")]
    with Command(work.loop, "start", *others, *units) as command:
        if not work.until(lambda: command.status is not None, work.options.timeout):
            raise Failed(f"the instances have not started within {work.options.timeout:g} s")
    found = look(work.deployment.name, names)
    for name in names:
        if not found[name].runs:
            words = last_error(found[name].service.name, begin, time.time()) or command.words
            raise Failed(f"{work.unit(name)}: did not start: {words or found[name].condition}")
        _try_out(work, found[name])
        work.done += 1
        work.say(name, f"serves, process {found[name].pid}")


def _try_out(work: Work, instance: Instance) -> None:
    try:
        watch(work, instance.name, lambda: _counts(work, instance), lambda: _ended(work, instance))
    except Failed as error:
        raise Failed(f"{work.unit(instance.name)}: {error}") from None


def _counts(work: Work, instance: Instance) -> Counts:
    try:
        with Control(work.deployment.name, instance.name) as control:
            return control.status()
    except ControlError as error:
        raise Failed(str(error)) from None


def _ended(work: Work, instance: Instance) -> str:
    now = look(work.deployment.name, [instance.name])[instance.name]
    return "" if now.pid == instance.pid else f"process {instance.pid} has ended: {now.condition}"


def retire(work: Work, instance: Instance, *, others: bool) -> None:
    """Stop an instance that no proxy sends new requests to, once it has answered those that it has.

    Raises:
        Failed: it does not stop.
        Interrupted: a second signal asks for the end; systemd goes on with it.

    """
    # Somebody may still be on the way to it: a worker of the proxy from before the reload.
    with closed(work, instance, others=others):
        work.say(instance.name, "is stopped, after the requests that it has")
        _stop(work, [f"{work.unit(instance.name)}.{kind}" for kind in ("socket", "service")])
    _forget(look(work.deployment.name, [instance.name])[instance.name])
    work.done += 1


def _forget(instance: Instance) -> None:
    # systemctl(1), reset-failed: a unit that has failed stays in memory, and in every list, for people to look at.
    if failed := [unit.name for unit in (instance.service, instance.socket) if unit.state == "failed"]:
        systemctl.run("reset-failed", *failed)


def _stop(work: Work, units: Iterable[str]) -> None:
    with Command(work.loop, "stop", *units) as command:
        work.until(lambda: command.status is not None, signals=2)
    if command.status:
        raise Failed(f"systemctl stop: {command.words}")
