"""``aiosystemd rollout``: new code, instance by instance, each seen to be good before the next one.

The old version serves until the new one has proved itself. Whatever goes wrong ends the rollout: the instance at hand
is put back where that is possible, the others keep the old version, and the end says how each of them stands.
"""

import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiosystemd import scope, systemctl
from aiosystemd.ask import listens
from aiosystemd.build import Build
from aiosystemd.compare import compare
from aiosystemd.control import Control, ControlError
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.export import instance_names
from aiosystemd.host import Host
from aiosystemd.loop import Loop
from aiosystemd.model import Deployment
from aiosystemd.rollout.decide import missing, outdated, unread, why_restart
from aiosystemd.rollout.instance import Instance, in_order, loaded, look
from aiosystemd.rollout.lock import locked
from aiosystemd.rollout.reload import held_reload
from aiosystemd.rollout.restart import announced_restart
from aiosystemd.rollout.standing import Outcome, stand
from aiosystemd.rollout.work import Failed, Interrupted, Options, Say, Step, Work
from aiosystemd.systemctl import SystemctlError

SYSTEMD = Path("/run/systemd/system")
"""sd_booted(3): a directory that is there where systemd is PID 1."""

_CHANGING = ("deactivating", "reloading")
"""States that pass by themselves."""

_SETTLE = 0.2
"""Seconds between two looks at one that has to pass."""


@contextmanager
def session(name: str, say: Say) -> Iterator[Loop]:
    """Take hold of the deployment ``name`` on this host, and of this process's signals.

    Raises ProblemsError when this is not the place, or somebody else has hold of it.
    """
    _check_host()
    command = shlex.join(("aiosystemd", *sys.argv[1:]))
    with locked(name, command) as before, Loop() as loop:
        if before:
            say(Step(name, f"did not come to its end: {before}", 0, 0))
        yield loop


def roll_out(built: Build, host: Host, options: Options, say: Say) -> Outcome:
    """Put the code that is on this host into the instances of a deployment.

    Raises ProblemsError when nothing could be begun.
    """
    try:
        with session(built.deployment.name, say) as loop:
            return Rollout(built, host, Work(built.deployment, options, loop, say)).run()
    except SystemctlError as error:
        raise ProblemsError(Problem(Location(error.command), error.words)) from None


class Rollout:
    """One rollout, of all instances or of those that are ``chosen``."""

    def __init__(self, built: Build, host: Host, work: Work, chosen: Iterable[str] | None = None) -> None:
        self._built = built
        self._work = work
        self._name = built.deployment.name
        everyone = (*instance_names(built.deployment, host), *_others(built.deployment))
        self._chosen = chosen
        self._names = in_order(everyone if chosen is None else chosen)
        self._stale: set[str] = set()
        work.done, work.all = 0, len(self._names)

    def run(self) -> Outcome:
        """Do it, and say how things stand then.

        Raises ProblemsError when nothing could be begun.
        """
        failure, interrupted = "", False
        before = self._prepare()
        try:
            self._each()
        except Interrupted:
            interrupted = True
        except (Failed, SystemctlError) as error:
            failure = str(error)
        standings = tuple(stand(self._name, before, look(self._name, self._names)))
        return Outcome(self._name, standings, failure, interrupted, self._next(failure, interrupted=interrupted))

    def _next(self, failure: str, *, interrupted: bool) -> str:
        command = shlex.join(self._built.command("rollout"))
        if failure:
            return f"mend what failed, then: {command}"
        if interrupted or self._work.done < self._work.all:
            return f"the others: {command}"
        return ""

    def _prepare(self) -> dict[str, Instance]:
        """See that all is in place, and return the instances as they are before anything was done to them."""
        found = look(self._name, self._names)
        _check(*_unloadable(found.values()), *self._deaf(found.values()))
        for path in _differing(self._built) if self._chosen is None else ():
            self._work.say("", f"{path} is not what {self._built.file} says: aiosystemd generate would change it")
        return self._read_units(found)

    def _read_units(self, found: dict[str, Instance]) -> dict[str, Instance]:
        """Have systemd read units that have changed, and return the instances as they are then."""
        if not any(unread(unit) for each in found.values() for unit in (each.service, each.socket)):
            return found
        self._work.say("", f"units have changed: {scope.current().systemctl} daemon-reload")
        systemctl.run("daemon-reload")
        new = look(self._name, self._names)
        _check(*_unloadable(new.values()))
        for name, each in found.items():
            # The instance may have been started between the change and now, by the unit as systemd knew it.
            if each.service.stale or each.service.files != new[name].service.files:
                self._stale.add(name)
        return new

    def _each(self) -> None:
        renewed = 0
        for name in self._names:
            if renewed == self._work.options.canary > 0:
                self._work.say("", f"stops here, after {renewed} of {len(self._names)} instances")
                return
            renewed += self._one(name)
            self._work.done += 1
        self._work.say("", f"renewed {renewed} of {len(self._names)} instances")

    def _one(self, name: str) -> bool:
        """Renew an instance; return whether there was one."""
        self._work.rest(0)
        found = self._settled(name)
        instance = found[name]
        others = any(each.runs for each in found.values() if each is not instance)
        try:
            if instance.sleeps and not instance.masked and outdated(instance.socket):
                instance = self._awake(instance)
            if left := _left(instance):
                self._work.say(name, left)
                return False
            self._renew(instance, others=others)
        except (Failed, SystemctlError) as error:
            raise Failed(f"{self._work.unit(name)}: {error}") from None
        return True

    def _settled(self, name: str) -> dict[str, Instance]:
        """Return all instances, once this one is in no state that passes."""
        found = look(self._name, self._names)
        if found[name].service.state in _CHANGING:
            self._work.say(name, f"is {found[name].condition}: waiting")
        while found[name].service.state in _CHANGING:
            self._work.rest(_SETTLE)
            found = look(self._name, self._names)
        return found

    def _awake(self, instance: Instance) -> Instance:
        """Start an instance, whose socket could not be closed to new connections otherwise."""
        self._work.say(instance.name, "is started: its socket has changed")
        systemctl.run("start", instance.service.name)
        return look(self._name, [instance.name])[instance.name]

    def _renew(self, instance: Instance, *, others: bool) -> None:
        if instance.socket.state == "active" and outdated(instance.socket):
            why = f"{instance.socket.files[0].name} has changed"
            announced_restart(self._work, instance, why, others=others, anew=True)
            return
        method = self._work.options.method
        why = "asked for" if method == "restart" else why_restart(instance, stale=instance.name in self._stale)
        if method == "reload" and instance.runs:
            why = ""
        elif not why:
            why = self._disobedience(instance)
        if not why:
            held_reload(self._work, instance)
        elif path := missing(instance):
            raise Failed(f"needs a restart ({why}), which would fail: there is no {path}")
        else:
            announced_restart(self._work, instance, why, others=others)

    def _disobedience(self, instance: Instance) -> str:
        """Return why an instance cannot be told to reload."""
        try:
            with Control(self._name, instance.name) as control:
                control.status()
        except ControlError as error:
            return f"it {error}"
        return ""

    def _deaf(self, instances: Iterable[Instance]) -> Iterator[Problem]:
        """Yield a problem for each instance that listens elsewhere than the deployment says.

        Nothing but a restart of its socket helps: systemd.socket(5) units get a new address when they are started.
        After a daemon-reload systemd would not pass the old one on, so that a restart of the service would fail.
        """
        for each in instances:
            address = self._work.address(each.name)
            if each.runs and not each.masked and not any(map(listens, (address, self._work.listening(each.name)))):
                at = address if isinstance(address, str) else ":".join(map(str, address))
                what = f"runs, but nothing listens on {at}"
                command = scope.current().systemctl
                hint = f"{command} daemon-reload && {command} restart '{self._name}@*.socket'"
                yield Problem(Location(each.service.name), what, hint)


def _check(*problems: Problem) -> None:
    if problems:
        raise ProblemsError(*problems)


def _check_host() -> None:
    at = Location("aiosystemd")
    if not SYSTEMD.is_dir():
        _check(Problem(at, "systemd does not run here", "do this on the host that serves"))
    here = scope.current()
    if here.user and not Path(here.run, "systemd").is_dir():
        hint = f"log in as {here.user}, or let it run without: sudo loginctl enable-linger {here.user}"
        _check(Problem(at, f"no systemd runs for {here.user}", hint))
    if not here.user and os.geteuid() != 0:
        _check(Problem(at, "only root may reload and restart services", "use sudo"))


def _others(d: Deployment) -> Iterator[str]:
    """Yield the instances that run beside those of the file."""
    yield from (name for name in loaded(d.name) if d.listen.port is None or name.isdecimal())


def _unloadable(instances: Iterable[Instance]) -> Iterator[Problem]:
    for each in instances:
        if each.service.load != "loaded" and not each.masked:
            what = f"systemd cannot load it: {each.service.load}"
            yield Problem(Location(each.service.name), what, "aiosystemd generate --output / writes the units")


def _differing(built: Build) -> Iterator[Path]:
    try:
        yield from (change.path for change in compare(built.tree, Path("/")) if change.kind == "update")
    except ProblemsError:
        return  # What generate would refuse is not what is served.


def _left(instance: Instance) -> str:
    """Return why an instance is left as it is, "" if it is not."""
    if instance.masked:
        return "is masked, and left so"
    if instance.sleeps:
        return "sleeps: its next request starts the new version"
    taken_out = instance.service.state == "failed" and instance.socket.state == "inactive"
    if instance.service.state == "inactive" or taken_out:
        return "is stopped, and left so"
    return ""
