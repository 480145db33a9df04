"""What has to be right before a run begins."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from aiosystemd import load
from aiosystemd.build import Build, compared
from aiosystemd.deploy import proxy
from aiosystemd.deploy.store import Store, kept
from aiosystemd.deploy.wanted import Wanted, rebuild
from aiosystemd.doctor.attempt import imports
from aiosystemd.doctor.subject import Subject
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.host import Host
from aiosystemd.verify import verify


def files(wanted: Wanted, store: Store, host: Host) -> Iterator[Problem]:
    """Yield what the checkers say on a scratch root, and what other deployments of the host have already."""
    yield from (problem for problem in _said(wanted, store, host) if problem.severity == "error")


def _said(wanted: Wanted, store: Store, host: Host) -> Iterator[Problem]:
    for verdict in verify(wanted.built.deployment, host, wanted.built.file.name):
        yield from verdict.problems
    yield from compared((*_others(store, host), wanted.built))[-1]


def proxies(names: Iterable[str]) -> Iterator[Problem]:
    """Yield what proxies have against their configurations, before anything in them is changed."""
    for name in names:
        if words := proxy.refusal(name):
            hint = f"{name} refuses what it has, before anything is changed: mend that first"
            yield Problem(Location(proxy.CHECKER[name]), words, hint)


def code(wanted: Wanted, host: Host) -> Iterator[Problem]:
    """Import the new code as an instance would, and yield what is wrong: a restart finds out too late."""
    source = load.parse(str(wanted.built.file), wanted.source)
    for finding in imports(Subject(source, wanted.built, host)):
        if finding.severity == "error":
            yield Problem(finding.at or Location(source.file), finding.what, source=finding.source)


def _others(store: Store, host: Host) -> Iterator[Build]:
    """Yield what is in force of the other deployments of the host."""
    state, own = store.directory.parent, store.directory.name
    for name in kept(state):
        with suppress(ProblemsError):  # Of an earlier version, which does not stand in the way of this one.
            if name != own and (current := Store(name, state).current):
                yield rebuild(current, host)
