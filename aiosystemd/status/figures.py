"""What an instance counts, at one moment: its own counters, and the kernel's of its processor time."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiosystemd.control import Control, ControlError, Status

_PATIENCE: Final = 0.5
"""Seconds in which an instance answers; one that serves does so within milliseconds."""

_AT_ONCE: Final = 128
"""Instances that are asked in the same moment, so that those that hang cost the patience once."""

CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Figures:
    """An instance at one moment."""

    at: float
    """Seconds of the monotonic clock."""
    status: Status | None = None
    """What it says of itself; None when it does not."""
    silent: str = ""
    """Why it says nothing, in words that follow its name."""
    cpu: float | None = None
    """Seconds of processor time that its processes have used since its start."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An instance to ask."""

    deployment: str
    name: str
    control_group: str
    orders: bool = True
    """Whether its control socket is worth a try."""


def measure(instances: Iterable[Asked]) -> dict[tuple[str, str], Figures]:
    """Return the figures of instances by deployment and name."""
    asked = tuple(instances)
    with ThreadPoolExecutor(max(1, min(len(asked), _AT_ONCE))) as pool:
        return {
            (each.deployment, each.name): found for each, found in zip(asked, pool.map(_measure, asked), strict=True)
        }


def _measure(instance: Asked) -> Figures:
    status, silent = None, ""
    if instance.orders:
        try:
            with Control(instance.deployment, instance.name, _PATIENCE) as control:
                status = control.status()
        except ControlError as error:
            silent = str(error)
    return Figures(time.monotonic(), status, silent, cpu_seconds(instance.control_group))


def cpu_seconds(group: str) -> float | None:
    """Return the processor time, in seconds, that a cgroup's processes have used; None where nobody counts."""
    if not group:
        return None
    with suppress(OSError, ValueError, LookupError):
        # cgroups(7), v2: there without the cpu controller too.
        lines = (CGROUPS / f".{group}" / "cpu.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["usage_usec"]) / 1_000_000
    with suppress(OSError, ValueError):
        return int((CGROUPS / f"cpuacct{group}" / "cpuacct.usage").read_text()) / 1_000_000_000
    return None
