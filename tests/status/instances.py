"""Instances as systemd and the runtime tell of them, with what a test wants different."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from aiosystemd.control import Status
from aiosystemd.rollout.instance import Instance, Unit
from aiosystemd.status.figures import Figures

SOCKET = Unit("web@1.socket", "loaded", "active", "running", "success", (), stale=False, started=1.0)
SERVICE = replace(SOCKET, name="web@1.service", files=(Path("/etc/systemd/system/web@.service"),))


def instance(service: str = "active running", socket: str = "active running", **changes: Any) -> Instance:
    """Return an instance; service and socket are in the states given, each with the word of its type."""
    found = Instance(
        "1",
        _in(SERVICE, *service.split()),
        _in(SOCKET, *socket.split()),
        pid=76,
        restarts=0,
        reloads=True,
        environment_files=(),
        memory_max=None,
        memory=None,
        main_started=1000.0,
        changed=2000.0,
    )
    return replace(found, **changes)


def _in(unit: Unit, state: str, sub: str) -> Unit:
    return replace(unit, state=state, sub=sub)


def figures(at: float = 10.0, cpu: float | None = None, silent: str = "", **status: Any) -> Figures:
    """Return what was measured; without a word of the status the instance did not answer."""
    known = {"pid": 76, "state": "serving", "directory": "/srv/web", **status} if status else None
    return Figures(at, Status.model_validate(known) if known else None, silent, cpu)
