"""Deployment files → changed files under a root, all of them or none."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aiosystemd import apply
from aiosystemd.build import Build, build_all
from aiosystemd.compare import Change, compare, foreign
from aiosystemd.errors import Problem, ProblemsError
from aiosystemd.host import Host
from aiosystemd.plan import Action
from aiosystemd.verify import verify


@dataclass(frozen=True, slots=True)
class Generated:
    """What was written, what to do next, and what to think about."""

    changes: tuple[Change, ...]
    actions: tuple[Action, ...]
    warnings: tuple[Problem, ...]


def generate_all(names_or_files: Iterable[str], host: Host, root: Path, *, force: bool = False) -> Generated:
    """Write what ``names_or_files`` describe below ``root``; with ``force`` over other people's files too.

    Raises ProblemsError, before anything is written, with all that is wrong.
    """
    builds = build_all(names_or_files, host)
    changes = tuple(change for each in builds for change in compare(each.tree, root))
    problems = [problem for each in builds for problem in _refused_directives(each, host)]
    problems += () if force else foreign(changes)
    if problems:
        raise ProblemsError(*problems)
    apply.write(changes)
    actions = (action for each in builds for action in each.plan.actions) if _is_live(root, changes) else ()
    return Generated(changes, tuple(dict.fromkeys(actions)), tuple(w for each in builds for w in each.warnings))


def _is_live(root: Path, changes: tuple[Change, ...]) -> bool:
    return root.resolve() == Path("/") and any(change.kind != "unchanged" for change in changes)


def _refused_directives(each: Build, host: Host) -> Iterable[Problem]:
    # Everything else is right by construction; these are the user's own words and only systemd knows them all.
    if each.deployment.service.directives:
        for verdict in verify(each.deployment, host, each.file.name):
            yield from verdict.problems
