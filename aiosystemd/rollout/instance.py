"""Instances as systemd sees them."""

import re
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from aiosystemd import systemctl
from aiosystemd.systemctl import Properties

_OF_A_UNIT: Final = (
    *("LoadState", "ActiveState", "SubState", "Result", "FragmentPath", "DropInPaths", "NeedDaemonReload"),
    *("InactiveExitTimestamp", "InactiveExitTimestampMonotonic"),
)
_OF_A_SERVICE: Final = (
    *("MainPID", "NRestarts", "CanReload", "EnvironmentFiles", "MemoryMax", "MemoryCurrent", "ControlGroup"),
    *("ExecMainStartTimestamp", "StateChangeTimestamp"),
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit, as far as a rollout needs it."""

    name: str
    load: str
    """``loaded``, or why not."""
    state: str
    """``active``, ``inactive``, ``failed`` or what is in between."""
    sub: str
    """The same, in the words of its type."""
    result: str
    """Why it failed, where it did."""
    files: tuple[Path, ...]
    """The files that it is made of."""
    stale: bool
    """Whether they have changed since systemd read them."""
    started: float
    """Time of day at which it left the inactive state; 0 if never."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance: its service and its socket."""

    name: str
    service: Unit
    socket: Unit
    pid: int
    """The main process; 0 without one."""
    restarts: int
    """How often systemd has restarted it by itself."""
    reloads: bool
    """Whether its unit knows how to reload it."""
    environment_files: tuple[tuple[Path, bool], ...]
    """Each with whether it must exist."""
    memory_max: int | None
    memory: int | None
    """Bytes, both; None where there is no limit or no count."""
    control_group: str = ""
    """Its cgroup, from the root of the hierarchy; "" without one."""
    main_started: float = 0.0
    """Time of day at which the main process, or the last one, became that; 0 if there was none."""
    changed: float = 0.0
    """Time of day at which the service came into its state."""

    @property
    def runs(self) -> bool:
        """Whether its process serves, as far as systemd knows."""
        return self.service.state == "active" and self.pid > 0

    @property
    def masked(self) -> bool:
        """Whether the administrator forbids that it is started, systemctl(1), mask."""
        return "masked" in (self.service.load, self.socket.load)

    @property
    def sleeps(self) -> bool:
        """Whether nothing runs until the next request."""
        return self.service.state == "inactive" and self.socket.state == "active"

    @property
    def condition(self) -> str:
        """What the service is, in a few words."""
        result = "" if self.service.result in ("", "success") else f", {self.service.result}"
        return f"{self.service.state} ({self.service.sub}{result})"


def loaded(deployment: str) -> tuple[str, ...]:
    """Return the names of the instances that systemd has loaded, whatever the deployment file says.

    Raises SystemctlError.
    """
    pattern = re.compile(rf"{re.escape(deployment)}@(.+)\.service")
    units = systemctl.show([f"{deployment}@*.service"], [])
    return tuple(match[1] for match in map(pattern.fullmatch, units) if match)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names without repetition, "2" before "10"."""
    return tuple(sorted(set(names), key=lambda name: (not name.isdecimal(), len(name) * name.isdecimal(), name)))


def look(deployment: str, names: Iterable[str]) -> dict[str, Instance]:
    """Return instances by name, as they are now.

    Raises SystemctlError.
    """
    return look_at_all({deployment: names})[deployment]


def look_at_all(deployments: Mapping[str, Iterable[str]]) -> dict[str, dict[str, Instance]]:
    """Return instances by deployment and name, all seen at once.

    Raises SystemctlError.
    """
    units = {
        deployment: {name: (f"{deployment}@{name}.service", f"{deployment}@{name}.socket") for name in names}
        for deployment, names in deployments.items()
    }
    every = [unit for pairs in units.values() for pair in pairs.values() for unit in pair]
    # systemctl(1): without a unit it shows the manager itself.
    found = systemctl.show(every, (*_OF_A_UNIT, *_OF_A_SERVICE)) if every else {}
    none: Properties = {"LoadState": "not-found"}
    return {
        deployment: {
            name: _instance(name, *((unit, found.get(unit, none)) for unit in pair)) for name, pair in pairs.items()
        }
        for deployment, pairs in units.items()
    }


def _instance(name: str, service: tuple[str, Properties], socket: tuple[str, Properties]) -> Instance:
    properties = service[1]
    return Instance(
        name,
        _unit(*service),
        _unit(*socket),
        pid=_number(properties, "MainPID") or 0,
        restarts=_number(properties, "NRestarts") or 0,
        reloads=properties.get("CanReload") == "yes",
        environment_files=tuple(_environment_files(properties)),
        memory_max=_number(properties, "MemoryMax"),
        memory=_number(properties, "MemoryCurrent"),
        control_group=properties.get("ControlGroup", ""),
        main_started=_time(properties.get("ExecMainStartTimestamp", "")),
        changed=_time(properties.get("StateChangeTimestamp", "")),
    )


def _unit(name: str, properties: Properties) -> Unit:
    get = properties.get
    # Each drop-in that has a blank in its name is quoted.
    files = (*filter(None, [get("FragmentPath")]), *shlex.split(get("DropInPaths", "")))
    return Unit(
        name,
        load=get("LoadState", ""),
        state=get("ActiveState", ""),
        sub=get("SubState", ""),
        result=get("Result", ""),
        files=tuple(map(Path, files)),
        stale=get("NeedDaemonReload") == "yes",
        started=_started(properties),
    )


def _started(properties: Properties) -> float:
    """Return the time of day at which the unit was started, on the clock as it was set then or as it is now.

    The earlier one: when the clock was set back in between, files from after the start bear an earlier time.
    """
    since_boot = _number(properties, "InactiveExitTimestampMonotonic") or 0
    if not since_boot:
        return 0.0
    noted = _time(properties["InactiveExitTimestamp"])
    return min(noted, time.time() - time.monotonic() + since_boot / 1_000_000)


def _time(text: str) -> float:
    """Return a time of day as systemctl.show() prints it; 0 for none."""
    if not text or text == "n/a":
        return 0.0
    return datetime.strptime(text.replace("UTC", "+0000"), "%a %Y-%m-%d %H:%M:%S.%f %z").timestamp()


def _environment_files(properties: Properties) -> Iterable[tuple[Path, bool]]:
    for line in properties.get("EnvironmentFiles", "").splitlines():
        if match := re.fullmatch(r"(.*) \(ignore_errors=(yes|no)\)", line):
            yield Path(match[1]), match[2] == "no"


def _number(properties: Mapping[str, str], name: str) -> int | None:
    # "infinity" and "[not set]" are the others.
    value = properties.get(name, "")
    return int(value) if value.isdecimal() else None
