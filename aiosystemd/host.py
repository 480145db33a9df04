"""Facts about the machine that a deployment is written for."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiosystemd.scope import SYSTEM, Scope

OLDEST_SYSTEMD: Final = 252
"""Debian 12's."""

OLDEST_NGINX: Final = (1, 22)
"""Debian 12's."""

OLDEST_HAPROXY: Final = (2, 6)
"""Debian 12's."""


class Manager(StrEnum):
    """What starts the instances."""

    SYSTEMD = "systemd"
    SUPERVISORD = "supervisord"
    CIRCUS = "circus"
    RUNIT = "runit"
    PROCFILE = "procfile"
    """It has many readers, such as honcho and foreman."""


@dataclass(frozen=True, slots=True)
class Host:
    """What was found on a machine, or asked for with ``--systemd``, ``--nginx``, ``--haproxy`` and ``--manager``."""

    systemd: int = OLDEST_SYSTEMD
    nginx: tuple[int, ...] = OLDEST_NGINX
    haproxy: tuple[int, ...] = OLDEST_HAPROXY
    cpus: int = 1
    ipv6: bool = True
    """Whether the kernel has IPv6; nginx does not start when it cannot open an address it is told to."""
    scope: Scope = SYSTEM
    """Whose systemd it is written for."""
    manager: Manager = Manager.SYSTEMD
    """What is to start the instances."""
