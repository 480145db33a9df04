"""What surrounds the instances of a deployment: its files, the administrator's own ones, and the sandbox."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from aiosystemd import scope, systemctl
from aiosystemd.build import Build
from aiosystemd.compare import Kind, Owned, compare
from aiosystemd.deploy.store import Store
from aiosystemd.errors import ProblemsError
from aiosystemd.rollout.decide import unread
from aiosystemd.rollout.instance import Instance
from aiosystemd.systemctl import SystemctlError

_DRIFT: Final[Mapping[Kind, str]] = {
    "create": "is missing",
    "update": "differs from the deployment file",
    "remove": "is not wanted any more",
    "foreign": "was not made by aiosystemd",
    "edited": "was edited",
}


def drift(built: Build) -> dict[Path, str]:
    """Return the files of a deployment that are not what its file says, each with how.

    Raises ProblemsError when one cannot be read.
    """
    changes = compare(built.tree, Path("/"), _owned(built.deployment.name))
    return {change.path: _DRIFT[change.kind] for change in changes if change.kind in _DRIFT}


def _owned(name: str) -> Owned | None:
    store = Store(name, Path(scope.current().state))
    try:
        return store.owned() if store.manifest else None
    except ProblemsError:
        return None  # For root to see; without it the first line of a file says whose it is.


def drop_ins(instances: Iterable[Instance]) -> tuple[Path, ...]:
    """Return the drop-ins of the units, which are the administrator's; not those for all units of a type."""
    found = (file for each in instances for unit in (each.service, each.socket) for file in unit.files[1:])
    return tuple(sorted({file for file in found if file.parent.name not in ("service.d", "socket.d")}))


def is_unread(instances: Iterable[Instance]) -> bool:
    """Tell whether units have changed since systemd read them."""
    return any(unread(unit) for each in instances for unit in (each.service, each.socket) if unit.load == "loaded")


def exposure(unit: str) -> float | None:
    """Return how exposed a service is, from 0 to 10 by ``systemd-analyze security``; None if it does not say."""
    try:
        found = systemctl.run_program("systemd-analyze", *scope.current().option, "security", "--no-pager", unit)
    except SystemctlError:
        return None
    match = re.search(r"exposure level for \S+: ([0-9.]+)", found)
    return float(match[1]) if match else None


def notes(built: Build, drifted: Mapping[Path, str], instances: Iterable[Instance], *, hidden: bool) -> Iterator[str]:
    """Yield what an administrator should know, a line each; ``hidden`` says that instances may not be asked."""
    every = tuple(instances)
    for path, how in drifted.items():
        yield f"drift: {path} {how}"
    if own := drop_ins(every):
        yield f"drop-ins: {', '.join(map(str, own))}"
    if is_unread(every):
        command = shlex.join(("systemctl", *scope.current().option, "daemon-reload"))
        yield f"units have changed since systemd read them: {command}"
    if hidden:
        command = shlex.join(("sudo", *built.command("status")))
        yield f"connections, requests and releases are for root to see: {command}"
