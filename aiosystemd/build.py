"""The stages in their order: FILE → Source → Deployment → Plan → Tree, and the checkers' word on it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.host import Host
from aiosystemd.load import find, load
from aiosystemd.model import Deployment
from aiosystemd.plan import Plan, Tree, plan, render
from aiosystemd.render.text import Unrepresentable


@dataclass(frozen=True, slots=True)
class Build:
    """One deployment file and all that follows from it."""

    file: Path
    deployment: Deployment
    plan: Plan
    tree: Tree
    warnings: tuple[Problem, ...] = ()


def build(name_or_file: str, host: Host) -> Build:
    """Take a deployment file through every pure stage.

    Raises ProblemsError with everything that is wrong with it.
    """
    file = find(name_or_file)
    deployment, warnings = load(file)
    try:
        planned = plan(deployment, host, file.name)
        return Build(file, deployment, planned, render(planned), warnings)
    except Unrepresentable as error:
        raise ProblemsError(Problem(Location(str(file)), str(error))) from None


def build_all(names_or_files: Iterable[str], host: Host) -> tuple[Build, ...]:
    """Build several files, which must not write the same paths.

    Raises ProblemsError with everything that is wrong with any of them.
    """
    builds: list[Build] = []
    problems: list[Problem] = []
    for each in names_or_files:
        try:
            builds.append(build(each, host))
        except ProblemsError as error:
            problems.extend(error.problems)
    problems.extend(_conflicts(builds))
    if problems:
        raise ProblemsError(*problems)
    return tuple(builds)


def _conflicts(builds: list[Build]) -> Iterable[Problem]:
    first: dict[str, Path] = {}
    for each in builds:
        if (other := first.setdefault(each.deployment.name, each.file)) is not each.file:
            what = f'describes "{each.deployment.name}", and so does {other}'
            yield Problem(Location(str(each.file)), what, "give it another name")
