"""The way from what runs on a host to what is wanted, and back when a step of it fails."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from aiosystemd import apply, systemctl
from aiosystemd.build import Build
from aiosystemd.deploy import proxy
from aiosystemd.deploy.consequence import Consequence
from aiosystemd.deploy.files import Files
from aiosystemd.deploy.instances import retire, start
from aiosystemd.deploy.moving import clear, where
from aiosystemd.deploy.proposal import Proposal, is_unit
from aiosystemd.errors import ProblemsError
from aiosystemd.host import Host
from aiosystemd.plan import Action, Tree
from aiosystemd.rollout import Rollout
from aiosystemd.rollout.decide import outdated
from aiosystemd.rollout.instance import Instance, in_order, loaded, look
from aiosystemd.rollout.work import Failed, Interrupted, Options, Work
from aiosystemd.systemctl import SystemctlError
from aiosystemd.verify import verify_installed


@dataclass(frozen=True, slots=True)
class Way:
    """What a run works with."""

    proposal: Proposal
    old: Build | None
    """The deployment in force."""
    meanwhile: Tree
    """What stands in for some files until the instances are renewed."""
    host: Host


class Transition:
    """One run on a host whose systemd runs."""

    def __init__(self, way: Way, files: Files, work: Work) -> None:
        self._way = way
        self._proposal = way.proposal
        self._files = files
        self._work = work
        self._name = way.proposal.name
        self._target = f"{self._name}.target"
        self._found = self._look()
        self._up = frozenset(name for name, each in self._found.items() if each.runs or each.sleeps)
        self._enabled = self._enabled_units()
        self._ran = self._target_runs()

    def forward(self) -> None:
        """Go all the way.

        Raises:
            Failed, Interrupted, SystemctlError, ProblemsError: a step failed; ``back`` undoes those before it.

        """
        self._files.put(self._way.meanwhile)
        self._users()
        self._read_units()
        self._verify()
        if self._way.meanwhile:
            self._tell_proxies()
        self._enable()
        self._start()
        self._renew()
        self._files.finish(self._way.meanwhile)
        self._read_units_of_proxy()
        self._tell_proxies()
        self._retire(self._way.old, self._proposal.removed)
        if self._way.meanwhile and self._way.old:
            clear(self._way.old, self._proposal.moving)
        self._disable()
        if self._files.remove_units():
            systemctl.run("daemon-reload")

    def back(self) -> Iterator[tuple[str, str]]:
        """Undo what was done, as far as it can be undone; yield each part with what went wrong there, "" if nothing."""
        self._work.signals.clear()
        # A unit is enabled, or not any more, while its file is there.
        enablement = {"enablement": self._put_enablement_back}
        parts: Mapping[str, Callable[[], None]] = {
            **(enablement if self._proposal.instances else {}),
            "files": self._files.go_back,
            "units": self._read_units,
            "proxy meanwhile": self._let_proxy_know_both,
            "instances": self._put_back,
            "proxy": self._put_proxy_back,
            "added instances": self._drop,
            **enablement,
        }
        for what, step in parts.items():
            try:
                step()
            except (Failed, SystemctlError, ProblemsError, OSError) as error:
                yield what, str(error)
            except Interrupted:
                yield what, "interrupted"
            else:
                yield what, ""

    def _look(self) -> Mapping[str, Instance]:
        before = self._proposal.before.instances if self._proposal.before else ()
        return look(self._name, in_order((*before, *self._proposal.instances, *loaded(self._name))))

    @property
    def _ours(self) -> Iterator[str]:
        """Yield the instances that are wanted, without those that the administrator has masked."""
        return (name for name in self._proposal.instances if not self._found[name].masked)

    @property
    def _units_change(self) -> bool:
        return any(is_unit(change.path) for change in self._proposal.changed)

    def _users(self) -> None:
        changed = {change.name for change in self._proposal.changed if change.wanted}
        for action in self._proposal.built.plan.actions:
            if action.file in changed and action.argv[0] in ("systemd-sysusers", "systemd-tmpfiles"):
                self._run(action)

    def _run(self, action: Action) -> None:
        self._work.say("", action.describe())
        systemctl.run_program(*action.argv)

    def _read_units(self) -> None:
        if not self._units_change:
            return
        self._work.say("", "systemctl daemon-reload")
        systemctl.run("daemon-reload")
        found = look(self._name, self._proposal.instances)
        for each in found.values():
            for unit in (each.service, each.socket):
                if unit.load not in ("loaded", "not-found", "masked"):
                    raise Failed(f"{unit.name}: systemd cannot load it: {unit.load}")

    def _verify(self) -> None:
        """Have systemd look at the units where they are; what it says of the administrator's drop-ins is passed on."""
        ours = {str(change.path) for change in self._proposal.changes}
        first = next(iter(self._ours), "")
        units = (f"{self._name}@{first}.service", f"{self._name}@{first}.socket", self._target)
        for problem in verify_installed(units) if first and self._units_change else ():
            if problem.at.file in ours:
                raise Failed(f"systemd-analyze verify: {problem}")
            self._work.say("", f"systemd-analyze verify: {problem}")

    def _enable(self) -> None:
        if self._proposal.anew and self._proposal.instances and self._target not in self._enabled:
            self._work.say("", f"systemctl enable {self._target}")
            systemctl.run("enable", self._target)

    def _start(self) -> None:
        new = [name for name in self._proposal.added if name in self._ours and name not in self._up]
        if not new:
            return
        if self._proposal.anew:
            start(self._quick(self._proposal.built), new, self._target)
        elif self._up:
            start(self._quick(self._proposal.built), new)
        else:
            self._work.say("", "is stopped, and left so")

    def _quick(self, built: Build) -> Work:
        """Return a way of working in which nothing is watched for longer than it takes to answer once."""
        return self._work.part(built.deployment, Options(pause=0, timeout=self._work.options.timeout))

    def _renew(self) -> None:
        names = [name for name in self._ours if name in self._up]
        gravest = self._proposal.gravest
        if gravest >= Consequence.RELOAD and names:
            limits = (self._work.options.pause, self._work.options.timeout)
            options = Options(0, *limits, "reload" if gravest is Consequence.RELOAD else "auto")
            self._roll_out(self._proposal.built, options, names, self._way.old)

    def _roll_out(self, built: Build, options: Options, names: list[str], was: Build | None) -> None:
        work = self._work.part(built.deployment, options)
        if was and self._way.meanwhile:
            work.was = where(was, self._proposal.moving)
        outcome = Rollout(built, self._way.host, work, names).run()
        if outcome.interrupted:
            raise Interrupted
        if outcome.failure:
            raise Failed(outcome.failure)

    def _retire(self, built: Build | None, names: tuple[str, ...]) -> None:
        if built is None:
            return
        work = self._work.part(built.deployment, self._work.options)
        found = look(self._name, names)
        stay = any(each.runs for each in look(self._name, self._proposal.instances).values())
        for each in found.values():
            work.rest(0)
            if each.service.state != "inactive" or each.socket.state != "inactive":
                retire(work, each, others=stay)
        clear(built, names)

    def _disable(self) -> None:
        kinds = ("socket", "service")
        gone = {f"{self._name}@{name}.{kind}" for name in self._proposal.removed for kind in kinds}
        if not self._proposal.instances:
            gone.add(self._target)
            systemctl.run("stop", self._target)
        if units := sorted(gone & self._enabled):
            self._work.say("", f"systemctl disable {' '.join(units)}")
            systemctl.run("disable", *units)

    def _put_back(self) -> None:
        """Renew the instances that were renewed, and start those that were stopped."""
        if self._ran and not self._target_runs():
            # systemctl(1), --job-mode=: it alone, not what it wants that was stopped before.
            systemctl.run("start", "--job-mode=ignore-dependencies", self._target)
        now = look(self._name, self._found)
        old = self._way.old or self._proposal.built
        stopped = [n for n in self._up if not (now[n].runs or now[n].sleeps)]
        # Those whose socket had moved, or had other settings: what is left in its queue goes with it.
        if anew := [now[n].socket.name for n in stopped if now[n].socket.state == "active" and outdated(now[n].socket)]:
            systemctl.run("stop", *anew)
        if stopped:
            start(self._quick(old), in_order(stopped))
        touched = [n for n in self._up if n not in stopped and now[n].pid != self._found[n].pid]
        if touched:
            options = Options(0, 0, self._work.options.timeout)
            self._roll_out(old, options, list(in_order(touched)), self._proposal.built)

    def _tell_proxies(self) -> None:
        builds = (self._proposal.built, self._way.old) if self._way.meanwhile else (self._proposal.built,)
        found = (each.deployment for each in builds if each)
        directories = [each.socket_directory for each in found if each.listen.port is None]
        for name in self._proposal.proxies:
            proxy.reload(self._work, name, directories if self._proposal.instances else ())

    def _read_units_of_proxy(self) -> None:
        if any(map(is_unit, self._way.meanwhile)):
            systemctl.run("daemon-reload")

    def _let_proxy_know_both(self) -> None:
        for path, each in self._way.meanwhile.items():
            apply.replace(self._proposal.root / path.relative_to("/"), each.content, each.mode)
        if self._way.meanwhile:
            self._read_units_of_proxy()
            self._tell_proxies()

    def _put_proxy_back(self) -> None:
        old = self._way.old.tree if self._way.old else {}
        for path in self._way.meanwhile:
            target = self._proposal.root / path.relative_to("/")
            if before := old.get(path):
                apply.replace(target, before.content, before.mode)
            else:
                apply.delete(target)
        self._read_units_of_proxy()
        for name in reversed(self._proposal.proxies):
            proxy.reload(self._work, name)

    def _drop(self) -> None:
        names = tuple(name for name in self._proposal.added if name not in self._up)
        self._retire(self._proposal.built, names)
        if self._proposal.before is None and not self._up:
            # All of them by name: systemd has read that their files are gone, and with those what is PartOf= what.
            systemctl.run("stop", *(path.name for path in self._proposal.built.tree if path.suffix == ".target"))

    def _put_enablement_back(self) -> None:
        now = self._enabled_units()
        if more := sorted(now - self._enabled):
            systemctl.run("disable", *more)
        if fewer := sorted(self._enabled - now):
            systemctl.run("enable", *fewer)

    def _target_runs(self) -> bool:
        return systemctl.show([self._target], ["ActiveState"]).get(self._target, {}).get("ActiveState") == "active"

    def _enabled_units(self) -> frozenset[str]:
        units = [unit.name for each in self._found.values() for unit in (each.service, each.socket)]
        found = systemctl.show([self._target, *units], ["UnitFileState"])
        return frozenset(name for name, each in found.items() if each.get("UnitFileState") == "enabled")
