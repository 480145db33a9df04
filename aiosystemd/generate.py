"""Deployment files → changed files under a root, all of them or none."""

import shlex
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from aiosystemd import apply, scope
from aiosystemd.build import Build, build_all
from aiosystemd.compare import Change, compare, foreign
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.host import Host
from aiosystemd.plan import Action


class Generated(NamedTuple):
    """What was written, what to do next, and what to think about."""

    changes: tuple[Change, ...]
    actions: tuple[Action, ...]
    warnings: tuple[Problem, ...]


def generate_all(names_or_files: Iterable[str], host: Host, root: Path, *, force: bool = False) -> Generated:
    """Write what ``names_or_files`` describe below ``root``; with ``force`` over other people's files too.

    Raises ProblemsError, before anything is written, with all that is wrong.
    """
    builds = build_all(names_or_files, host)
    compared = [compare(each.tree, root) for each in builds]
    changes = tuple(chain.from_iterable(compared))
    said = [problem for each in builds for problem in _checked(each, host)]
    problems = [problem for problem in said if problem.severity == "error"]
    if not force:
        problems += (*foreign(changes), *_applied(builds, compared, root))
    if problems:
        raise ProblemsError(*problems)
    apply.write(changes)
    live = root.resolve() == Path("/")
    steps = chain.from_iterable(map(_steps, builds, compared)) if live else ()
    warnings = (*(w for each in builds for w in each.warnings), *(p for p in said if p.severity == "warning"))
    return Generated(changes, tuple(dict.fromkeys(steps)), warnings)


def _applied(builds: tuple[Build, ...], compared: list[tuple[Change, ...]], root: Path) -> Iterator[Problem]:
    """Yield a problem for each deployment of which ``apply`` knows what is in place, if that would be another thing."""
    for each, changes in zip(builds, compared, strict=True):
        manifest = root / scope.current().state.relative_to("/") / each.deployment.name / "manifest.json"
        if manifest.exists() and any(change.kind != "unchanged" for change in changes):
            what = "is of a deployment that apply has put in place: its way back would be lost"
            yield Problem(Location(str(manifest)), what, f"{shlex.join(each.command('apply'))}, or use --force")


def _steps(each: Build, changes: tuple[Change, ...]) -> Iterator[Action]:
    """Yield the plan's actions that the changes call for, and then what has changed units used."""
    changed = {path: c.kind for path, c in zip(each.tree, changes, strict=True) if c.kind != "unchanged"}
    updated = [path for path, kind in changed.items() if kind == "update"]
    for action in each.plan.actions if changed else ():
        if action.file is None or action.file in changed:
            yield action
        if "daemon-reload" in action.argv:
            yield from _renewal(each, updated)


def _renewal(each: Build, updated: Iterable[PurePosixPath]) -> Iterator[Action]:
    """Yield the restart or rollout that changed units need."""
    name, systemctl = each.deployment.name, ("systemctl", *scope.current().option)
    if each.deployment.server.kind == "gunicorn" or each.deployment.listen.shared:
        # One socket, whose queue waits for them.
        service = f"{name}@*.service" if each.deployment.listen.shared else f"{name}.service"
        kinds = {path.suffix for path in updated if path.name.startswith((f"{name}.", f"{name}@"))}
        units = [f"{name}.socket"] if ".socket" in kinds else []
        if kinds & {".socket", ".service", ".py"}:
            yield Action((*systemctl, "restart", *units, service), "use what has changed")
        return
    kinds = {path.suffix for path in updated if path.name.startswith(f"{name}@")}
    if ".socket" in kinds:
        # systemd.socket(5): a socket's options are applied when it starts, and its service goes with it.
        yield Action((*systemctl, "restart", f"{name}@*.socket"), "open the sockets anew, their services too")
    elif ".service" in kinds:
        yield Action(each.command("rollout"), "use the new unit, instance by instance")


def _checked(each: Build, host: Host) -> Iterator[Problem]:
    # Everything else is right by construction; only systemd knows all directives, and what a sandbox is worth.
    if each.deployment.service.directives or each.deployment.sandbox.max_exposure is not None:
        from aiosystemd.verify import verify  # noqa: PLC0415 (most deployments need none of it)

        for verdict in verify(each.deployment, host, each.file.name):
            yield from verdict.problems
            if not verdict.ran and verdict.checker.startswith("systemd"):
                what = f"service.directives and sandbox.max_exposure are unchecked: {verdict}"
                yield Problem(Location(str(each.file)), what, severity="warning")
