"""Operating a deployment on a host: apply, rollback, scale, remove. One road for all of them, forwards and back.

The files are compared with what is there (``propose``), the checkers look at them on a scratch root, and then a run
puts them in place, renews what runs and commits. Whatever fails on the way is undone.
"""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiosystemd import scope, systemctl
from aiosystemd.deploy import checks, policy
from aiosystemd.deploy.consequence import Consequence
from aiosystemd.deploy.files import Files, created
from aiosystemd.deploy.moving import meanwhile
from aiosystemd.deploy.proposal import Proposal
from aiosystemd.deploy.recover import find_release, recover, settle
from aiosystemd.deploy.store import Generation, Store, name_of, next_number, texts
from aiosystemd.deploy.transition import Transition, Way
from aiosystemd.deploy.wanted import Wanted, propose, rebuild
from aiosystemd.errors import ExitCode, Location, Problem, ProblemsError
from aiosystemd.host import Host
from aiosystemd.load import read
from aiosystemd.loop import Loop
from aiosystemd.plan import Action
from aiosystemd.rollout import SYSTEMD, session
from aiosystemd.rollout.lock import locked
from aiosystemd.rollout.work import Failed, Interrupted, Options, Say, Step, Work
from aiosystemd.systemctl import SystemctlError
from aiosystemd.values import NAME

HERE = Path("/")
"""Root of the host whose systemd and nginx are talked to."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    name: str
    failure: str = ""
    interrupted: bool = False
    restored: tuple[str, ...] = ()
    """What was put back as it was."""
    lost: tuple[str, ...] = ()
    """What could not be, with the reason."""
    next: tuple[Action, ...] = ()
    """What others are to do."""

    @property
    def status(self) -> int:
        """The exit status that says so."""
        return ExitCode.INTERRUPTED if self.interrupted else ExitCode.PROBLEMS if self.failure else ExitCode.FINE

    def lines(self) -> Iterator[str]:
        """Yield what there is to say."""
        if self.failure or self.interrupted:
            yield f"failed: {self.failure}" if self.failure else "interrupted"
            if self.restored:
                yield f"restored: {', '.join(self.restored)}"
            yield from (f"not restored: {each}" for each in self.lost)
        else:
            yield f"{self.name}: done"
            yield from (f"next: {each.describe()}  # {each.why}" for each in self.next)

    def as_json(self) -> dict[str, object]:
        """Return what ``apply --json`` prints of it, beside the plan and the steps."""
        return {
            "failure": self.failure,
            "interrupted_by_signal": self.interrupted,
            "restored": list(self.restored),
            "not_restored": list(self.lost),
            "next": [each.describe() for each in self.next],
        }


@dataclass(frozen=True, slots=True)
class Entry:
    """A generation, as ``history`` shows it."""

    generation: Generation
    in_force: bool

    def __str__(self) -> str:
        each = self.generation
        release = f", release {each.release.target}" if each.release else ""
        mark = "*" if self.in_force else " "
        return f"{mark} {each.number:>4}  {each.at}  {len(each.instances)} instances{release}  {each.command}"

    def as_json(self) -> dict[str, object]:
        """Return what ``history --json`` prints of it."""
        each = self.generation
        return {
            "number": each.number,
            "in_force": self.in_force,
            "at": each.at,
            "command": each.command,
            "file": each.file,
            "instances": len(each.instances),
            "release": each.release and each.release.target,
            "files": sorted(each.files),
        }


def store_of(name: str, root: Path) -> Store:
    """Return what is kept of a deployment."""
    return Store(name, root / scope.current().state.relative_to("/"))


def in_force(name_or_file: str, root: Path, *, removed: bool = False) -> Generation:
    """Return what is in force of a deployment, or else what a run that was killed wanted.

    With ``removed`` also what was in force until a removal that was killed at its very end. Raises ProblemsError.
    """
    store = _known(name_or_file, root)
    generation = store.current or store.pending or (store.removed.newest if removed else None)
    if generation is None:
        raise _unknown(store)
    return generation


def is_known(name_or_file: str, root: Path) -> bool:
    """Tell whether there is anything of a deployment to be removed; raises ProblemsError."""
    store = _known(name_or_file, root)
    return bool(store.current or store.pending or store.removed.newest)


def earlier(name_or_file: str, number: int | None, root: Path) -> Generation:
    """Return generation ``number``, or without one that before the one in force; raises ProblemsError."""
    store = _known(name_or_file, root)
    current = in_force(name_or_file, root).number
    before = [each for each in store.numbers() if each < current]
    if number is None and not before:
        raise ProblemsError(Problem(Location(str(store.directory)), "there is no earlier generation"))
    return store.generation(number or before[-1])


def generations(name_or_file: str, root: Path) -> Iterator[Entry]:
    """Yield what can be gone back to, oldest first; raises ProblemsError."""
    current = in_force(name_or_file, root).number
    yield from (Entry(each, each.number == current) for each in _known(name_or_file, root).history())


def _known(name_or_file: str, root: Path) -> Store:
    path = Path(name_or_file)
    name = read(path).data.get("name", "") if path.suffix == ".toml" else name_or_file
    store = store_of(str(name), root)
    if not re.fullmatch(NAME, str(name)):
        raise _unknown(store)
    return store


def _unknown(store: Store) -> ProblemsError:
    return ProblemsError(Problem(Location(str(store.directory)), "is not deployed here", "aiosystemd apply does that"))


def plan(make: Callable[[], Wanted], root: Path) -> Proposal:
    """Return what bringing a host to what ``make`` says means, without touching it; raises ProblemsError."""
    wanted = make()
    store = store_of(wanted.built.deployment.name, root)
    return propose(wanted, store, root, store.pending)


@dataclass(frozen=True, slots=True)
class How:
    """Where and how to bring it about."""

    host: Host
    root: Path
    options: Options
    adopt: bool = False
    """Whether to take over files that are others' or were edited."""
    by_policy: bool = False
    """Whether to start and stop no more than policy-rc.d lets a maintainer script."""


def carry_out(make: Callable[[], Wanted], how: How, say: Say) -> Result:
    """Bring a host to what ``make`` says is wanted.

    Raises ProblemsError when nothing was begun, and everything is as it was.
    """
    wanted = make()
    name = wanted.built.deployment.name
    root = how.root
    store = store_of(name, root)
    runs = root == HERE and (bool(scope.current().user) or SYSTEMD.is_dir())
    try:
        with session(name, say) if runs else _alone(store) as loop:
            live = runs and not (how.by_policy and _forbidden(wanted, say))
            if killed := recover(store, root):
                say(Step(name, "an earlier run was killed: what it has written is taken back first", 0, 0))
            # What a run that was killed has kept for its way back must not be taken for this one's.
            settle(store, root)
            wanted = make()
            if killed and not live:  # Nothing runs as it was to, and the files are as they were.
                store.abandon(killed.number)
            proposal = propose(wanted, store, root, killed)
            _check(wanted, proposal, how, live=live)
            if not proposal.anything:
                return Result(name)
            files = Files(proposal, _generation(wanted, proposal, store), store)
            if not live:
                return _offline(proposal, files, root, runs=runs)
            return _online(proposal, files, Work(wanted.built.deployment, how.options, loop, say), how.host)
    except SystemctlError as error:
        raise ProblemsError(Problem(Location(error.command), error.words)) from None


def _check(wanted: Wanted, proposal: Proposal, how: How, *, live: bool) -> None:
    """Raise ProblemsError with all that is wrong, before anything is touched."""
    problems = [] if how.adopt else list(proposal.refused())
    if wanted.instances:
        problems += checks.files(wanted, store_of(proposal.name, proposal.root), how.host)
    if proposal.root == HERE:
        problems += checks.proxies(proposal.proxies)
    if live and proposal.renewed and proposal.gravest >= Consequence.RESTART:
        problems += checks.code(wanted, how.host)
    if problems:
        raise ProblemsError(*problems)


def _generation(wanted: Wanted, proposal: Proposal, store: Store) -> Generation:
    return Generation(
        number=next_number(store),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(("aiosystemd", *sys.argv[1:])),
        file=wanted.file or name_of(wanted.built.file, proposal.root),
        source=wanted.source,
        files=dict(texts(wanted.built.tree)),
        created=created(proposal.changes),
        instances=wanted.instances,
        release=wanted.release,
        led=find_release(wanted.built.deployment.directory, proposal.root),
    )


@contextmanager
def _alone(store: Store) -> Iterator[Loop]:
    command = shlex.join(("aiosystemd", *sys.argv[1:]))
    with locked(store.directory.name, command, store.directory.parent), Loop() as loop:
        yield loop


def _forbidden(wanted: Wanted, say: Say) -> bool:
    """Tell whether nothing is to be started or stopped, although systemd runs."""
    name = wanted.built.deployment.name
    forbidden = policy.forbids(f"{name}.target", "restart" if wanted.instances else "stop")
    if forbidden:
        say(Step(name, "policy-rc.d forbids to start and stop it: files are put in place, no more", 0, 0))
    return forbidden


def _offline(proposal: Proposal, files: Files, root: Path, *, runs: bool) -> Result:
    """Put the files in place and enable the deployment; where systemd ``runs`` it is told to read them, no more."""
    target = f"{proposal.name}.target"
    enabled = _enabled(root, target)
    try:
        files.put({})
        if not proposal.instances:
            systemctl.run(f"--root={root}", "disable", target)
        files.remove_units()
        if proposal.anew and proposal.instances and not enabled:
            systemctl.run(f"--root={root}", "enable", target)
        if runs:
            systemctl.run("daemon-reload")
        files.commit()
    except (ProblemsError, SystemctlError, OSError) as error:
        return _taken_back(files, root, target, enabled, str(error))
    return Result(proposal.name)


def _taken_back(files: Files, root: Path, target: str, enabled: bool, failure: str) -> Result:  # noqa: FBT001
    name = target.removesuffix(".target")
    try:
        if not enabled and _enabled(root, target):
            systemctl.run(f"--root={root}", "disable", target)
        files.go_back()
        if enabled and not _enabled(root, target):
            systemctl.run(f"--root={root}", "enable", target)
    except (ProblemsError, SystemctlError, OSError) as error:
        return Result(name, failure, lost=(f"files: {error}",))
    return Result(name, failure, restored=("files", "enablement"))


def _enabled(root: Path, target: str) -> bool:
    try:
        return systemctl.run(f"--root={root}", "is-enabled", target).strip() == "enabled"
    except SystemctlError:  # systemctl(1): a status other than 0 says no.
        return False


def _for_others(proposal: Proposal) -> Iterator[Action]:
    """Yield what a user cannot do: install the site for the machine's nginx, and stay when nobody is logged in."""
    changed = {change.name for change in proposal.changed if change.wanted}
    for action in proposal.built.plan.actions if proposal.instances and scope.current().user else ():
        if action.argv[0] in ("sudo", "loginctl") and (action.file is None or action.file in changed):
            yield action


def _online(proposal: Proposal, files: Files, work: Work, host: Host) -> Result:
    old = rebuild(proposal.before, host) if proposal.before else None
    transition = Transition(Way(proposal, old, meanwhile(proposal, old, host), host), files, work)
    failure, interrupted = "", False
    try:
        transition.forward()
        files.commit()
    except Interrupted:
        interrupted = True
    except (Failed, SystemctlError, ProblemsError, OSError) as error:
        failure = str(error)
    else:
        return Result(proposal.name, next=tuple(_for_others(proposal)))
    work.say("", f"{failure or 'interrupted'}: everything goes back")
    parts = tuple(transition.back())
    restored = tuple(what for what, wrong in parts if not wrong)
    return Result(
        proposal.name, failure, interrupted, restored, tuple(f"{what}: {wrong}" for what, wrong in parts if wrong)
    )
