"""``aiosystemd status``: how the deployments of this host are, instance by instance.

systemd tells of the units, the instances count what they serve, the kernel counts processor time and what waits in the
queues, and the journal has the last errors. Whatever dies while it is looked at is shown by what is left of it.
"""

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from aiosystemd import scope
from aiosystemd.build import Build, build
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.host import Host
from aiosystemd.load import find, read
from aiosystemd.rollout import SYSTEMD
from aiosystemd.rollout.instance import Instance
from aiosystemd.status.around import drift, drop_ins, exposure, notes
from aiosystemd.status.errors import Error, last_errors
from aiosystemd.status.figures import Asked, Figures, measure
from aiosystemd.status.queues import waiting
from aiosystemd.status.rows import row
from aiosystemd.status.view import Deployed, View
from aiosystemd.status.where import address, instances, releases
from aiosystemd.systemctl import SystemctlError

_APART: Final = 0.3
"""Seconds between the two looks from which a single view has its figures per second."""

_Measured = Mapping[tuple[str, str], Figures]
"""Figures by deployment and instance."""


@dataclass(frozen=True, slots=True)
class _Around:
    """What is known beside the instances themselves."""

    queues: Mapping[str, int]
    errors: Mapping[str, Error]
    exposures: Mapping[str, float | None]
    complaints: tuple[str, ...] = ()
    """Why something of it is not known."""


class Watcher:
    """Looks at deployments, as often as it is asked to."""

    def __init__(self, name: str | None, host: Host) -> None:
        """Watch the deployment with this name or file, or all in the directory of deployment files.

        Raises ProblemsError when there is no such file, or no systemd.
        """
        if not SYSTEMD.is_dir():
            hint = "do this on the host that serves"
            raise ProblemsError(Problem(Location("aiosystemd"), "systemd does not run here", hint))
        self._file = find(name) if name else None
        if self._file and not os.path.exists(self._file):  # noqa: PTH110 (Path.exists() raises where it may not look)
            read(self._file)
        self._host = host
        self._builds: dict[Path, tuple[object, Build]] = {}
        self._exposures: dict[str, float | None] = {}
        self._before: _Measured | None = None

    def look(self) -> View:
        """Return how things are; raises ProblemsError when systemd does not say."""
        try:
            return self._look()
        except SystemctlError as error:
            raise ProblemsError(Problem(Location(error.command), error.words)) from None

    def _look(self) -> View:
        builds = [self._build(file) for file in ([self._file] if self._file else _files())]
        right = {each.deployment.name: each for each in builds if isinstance(each, Build)}
        found = instances({name: each.deployment for name, each in right.items()}, self._host)
        asked = [_asked(name, each) for name, group in found.items() for each in group.values() if each.pid]
        before = self._before or measure(asked)
        around = self._around(found)
        now = measure(asked) if self._before else _again(asked, before)
        self._before = now
        return View(
            time.time(),
            tuple(
                _deployed(each, found[each.deployment.name], (before, now), around) if isinstance(each, Build) else each
                for each in builds
            ),
        )

    def _build(self, file: Path) -> Build | Deployed:
        """Return what a file describes, or what is wrong with it."""
        key = _fingerprint(file)
        if file not in self._builds or self._builds[file][0] != key:
            self._builds.pop(file, None)
            try:
                self._builds[file] = key, build(str(file), self._host)
            except ProblemsError as error:
                return Deployed(file.stem, file, error.problems)
        return self._builds[file][1]

    def _around(self, found: Mapping[str, Mapping[str, Instance]]) -> _Around:
        every = [each for group in found.values() for each in group.values()]
        since = {each.service.name: each.main_started for each in every if each.main_started and not each.sleeps}
        new = {
            name: next(iter(group.values())) for name, group in found.items() if group and name not in self._exposures
        }
        with ThreadPoolExecutor(max(1, len(new) + 1)) as pool:
            errors = pool.submit(last_errors, since)
            self._exposures.update(
                zip(new, pool.map(lambda each: exposure(each.service.name), new.values()), strict=True)
            )
            queues = waiting()
            try:
                return _Around(queues, errors.result(), self._exposures)
            except SystemctlError as error:
                return _Around(queues, {}, self._exposures, (f"the journal tells no errors: {error}",))


def _files() -> Iterator[Path]:
    directory = Path(scope.current().files)
    try:
        yield from sorted(file for file in directory.iterdir() if file.suffix == ".toml")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ProblemsError(Problem(Location(str(directory)), f"cannot be read: {error.strerror}")) from None


def _fingerprint(file: Path) -> object:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _asked(deployment: str, instance: Instance) -> Asked:
    # It takes orders from the end of its start to the end of its process.
    serves = instance.service.state in ("active", "reloading", "deactivating")
    return Asked(deployment, instance.name, instance.control_group, serves and not _hidden(deployment, instance))


def _hidden(deployment: str, instance: Instance) -> bool:
    """Tell whether this user may not look into the directory in which an instance takes orders."""
    return os.geteuid() != 0 and not os.access(scope.current().run / deployment / instance.name, os.X_OK)


def _again(asked: list[Asked], before: _Measured) -> _Measured:
    """Measure a moment later; those that gave no answer are not asked once more."""
    begin = min((each.at for each in before.values()), default=0.0)
    time.sleep(max(0.0, begin + _APART - time.monotonic()) if asked else 0.0)
    silent = {key: each.silent for key, each in before.items()}
    again = [replace(each, orders=each.orders and not silent[each.deployment, each.name]) for each in asked]
    return {key: replace(each, silent=each.silent or silent[key]) for key, each in measure(again).items()}


def _deployed(
    built: Build, found: Mapping[str, Instance], figures: tuple[_Measured, _Measured], around: _Around
) -> Deployed:
    d = built.deployment
    known = releases(d)
    rows = tuple(
        row(
            each,
            *(look.get((d.name, name)) for look in figures),
            releases=known,
            queue=around.queues.get(address(d, name)),
            error=around.errors.get(each.service.name),
        )
        for name, each in found.items()
    )
    drifted, complaints = _drift(built)
    hidden = any(each.pid and _hidden(d.name, each) for each in found.values())
    sentences = (*notes(built, drifted, found.values(), hidden=hidden), *complaints, *around.complaints)
    return Deployed(
        d.name, built.file, (), rows, around.exposures.get(d.name), drifted, drop_ins(found.values()), sentences
    )


def _drift(built: Build) -> tuple[Mapping[Path, str], tuple[str, ...]]:
    try:
        return drift(built), ()
    except ProblemsError as error:
        return {}, tuple(f"drift: {problem}" for problem in error.problems)
