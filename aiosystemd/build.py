"""The stages in their order: FILE → Source → Deployment → Plan → Tree, and the checkers' word on it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aiosystemd import scope
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.host import Host, Manager
from aiosystemd.load import Source, find, find_all, load, modelled, read, validate
from aiosystemd.managers import manager_violations
from aiosystemd.model import Deployment
from aiosystemd.neighbours import Neighbour, conflicts
from aiosystemd.plan import Plan, Tree, plan, render
from aiosystemd.render.text import Unrepresentable
from aiosystemd.rules import unknown_to, unknown_to_haproxy, unknown_to_nginx
from aiosystemd.user import settled, user_violations


class Build(NamedTuple):
    """One deployment file and all that follows from it."""

    file: Path
    source: Source
    deployment: Deployment
    plan: Plan
    tree: Tree
    warnings: tuple[Problem, ...] = ()

    def command(self, verb: str) -> tuple[str, ...]:
        """Return the words of an ``aiosystemd`` command for this deployment."""
        name = self.deployment.name
        return ("aiosystemd", verb, *scope.current().option, name if find(name) == self.file else str(self.file))


def build(name_or_file: str, host: Host) -> Build:
    """Take a deployment file through every pure stage, for what works instance by instance.

    Raises ProblemsError with everything that is wrong with it.
    """
    file = find(name_or_file)
    return with_instances(build_source(file, read(file), host))


def with_instances(built: Build) -> Build:
    """Return ``built``; raises ProblemsError where there are no instances, or none that can be asked."""
    instead = "aiosystemd generate --output /, and systemctl"
    refuse_gunicorn(built.deployment, built.source, instead)
    if built.deployment.listen.shared:
        what = "instances on one port cannot be asked one by one: only check, generate and logs are for them"
        raise ProblemsError(built.source.problem(("listen", "shared"), what, f"{instead}; or remove it"))
    return built


def refuse_gunicorn(deployment: Deployment, source: Source, instead: str) -> None:
    """Raise ProblemsError, with what to do instead, where gunicorn's workers are in the place of instances."""
    if deployment.server.kind == "gunicorn":
        what = "gunicorn has one service and no instances: only check and generate are for it"
        hint = f'{instead}; or server.kind = "aiohttp"'
        raise ProblemsError(source.problem(("server", "kind"), what, hint))


def build_source(file: Path, source: Source, host: Host) -> Build:
    """Take what a deployment file says through every pure stage; see ``build``."""
    deployment, warnings = validate(source)
    of_systemd = unknown_to(host.systemd, deployment) if host.manager is Manager.SYSTEMD else ()
    found = (
        *of_systemd,
        *unknown_to_haproxy(host.haproxy, deployment),
        *unknown_to_nginx(host.nginx, deployment),
        *user_violations(deployment, host),
        *manager_violations(deployment, host),
    )
    problems = tuple(source.violation(each) for each in dict.fromkeys(found))
    if any(problem.severity == "error" for problem in problems):
        raise ProblemsError(*problems)
    return _planned(file, source, deployment, host)._replace(warnings=(*warnings, *problems))


def build_accepted(file: Path, source: Source, host: Host) -> Build:
    """Take what is in force already through the stages.

    An earlier version has accepted it, so that it can be gone back to and removed whatever the rules say now.
    """
    return _planned(file, source, modelled(source), host)


def _planned(file: Path, source: Source, deployment: Deployment, host: Host) -> Build:
    deployment = settled(deployment, host)
    try:
        planned = plan(deployment, host, file.name)
        return Build(file, source, deployment, planned, render(planned))
    except Unrepresentable as error:
        raise ProblemsError(Problem(Location(str(file)), str(error))) from None


class Attempt(NamedTuple):
    """A deployment file, what follows from it if it is right, and what is wrong with it or to be thought about."""

    file: Path
    built: Build | None
    problems: tuple[Problem, ...]

    @property
    def failed(self) -> bool:
        """Whether there is anything but warnings."""
        return any(problem.severity == "error" for problem in self.problems)


def attempt(names_or_files: Iterable[str], host: Host) -> list[Attempt]:
    """Build several files, a directory standing for those in it, and compare them with one another."""
    found = {each.file.absolute(): each for name in names_or_files for each in _attempts(name, host)}
    beside = iter(compared([each.built for each in found.values() if each.built]))
    return [each._replace(problems=each.problems + (next(beside) if each.built else ())) for each in found.values()]


def _attempts(name_or_file: str, host: Host) -> Iterator[Attempt]:
    try:
        files = find_all(name_or_file)
    except ProblemsError as error:
        yield Attempt(Path(name_or_file), None, error.problems)
        return
    for file in files:
        try:
            built = build_source(file, read(file), host)
            yield Attempt(file, built, built.warnings)
        except ProblemsError as error:
            yield Attempt(file, None, error.problems)


def build_all(names_or_files: Iterable[str], host: Host) -> tuple[Build, ...]:
    """Build several files, which one host must be able to hold; see ``attempt``.

    Raises ProblemsError with everything that is wrong with any of them.
    """
    attempts = attempt(names_or_files, host)
    if any(each.failed for each in attempts):
        raise ProblemsError(*(problem for each in attempts if each.failed for problem in each.problems))
    return tuple(each.built._replace(warnings=each.problems) for each in attempts if each.built)


def compared(builds: Sequence[Build]) -> list[tuple[Problem, ...]]:
    """Return what is wrong with each of them beside the others, and beside the deployments whose sites they join."""
    given = [Neighbour(str(each.file), each.deployment) for each in builds]
    sites = list(_sites(given))
    problems: list[tuple[Problem, ...]] = [()] * len(builds)
    for index, violation in conflicts((*sites, *given)):
        if (own := index - len(sites)) >= 0:
            problems[own] += (builds[own].source.violation(violation),)
    return problems


def _sites(given: Sequence[Neighbour]) -> Iterator[Neighbour]:
    """Yield the host's own deployments whose sites are joined, and that are right."""
    names = {each.deployment.name for each in given}
    for site in sorted({each.deployment.proxy.site or "" for each in given} - names - {""}):
        file = Path(scope.current().files, f"{site}.toml")
        with suppress(ProblemsError):
            deployment, _ = load(file)
            if deployment.name == site:
                yield Neighbour(str(file), deployment)
