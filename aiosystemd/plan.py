"""Deployment + Host → Plan → Tree. Pure: no file, process, clock or environment."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from aiosystemd.export import File, nginx, systemd, users
from aiosystemd.host import Host
from aiosystemd.model import Deployment


@dataclass(frozen=True, slots=True)
class Action:
    """A command to run once the files are in place, and why."""

    argv: tuple[str, ...]
    why: str
    file: PurePosixPath | None = None
    """The file that calls for it when it has changed; without one, any does."""

    def describe(self) -> str:
        """Return the command as a person would type it."""
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a deployment needs on a host."""

    files: tuple[File, ...]
    actions: tuple[Action, ...]


class Rendered(NamedTuple):
    """A file as it will be on disk."""

    mode: int
    content: bytes


Tree = Mapping[PurePosixPath, Rendered]
"""Absolute path on the target → mode and bytes, in the order of writing."""


def plan(deployment: Deployment, host: Host, source: str) -> Plan:
    """Return the files and actions for ``deployment``; ``source`` is what the files' headers call its file.

    Raises ``Unrepresentable`` when a value cannot be spelt in one of the formats.
    """
    exporters = (systemd.export, users.export, nginx.export)
    files = tuple(file for export in exporters for file in export(deployment, host, source))
    return Plan(files, _actions(deployment, {file.path for file in files}))


def render(plan: Plan) -> Tree:
    """Return the plan's files, spelt."""
    return {file.path: Rendered(file.mode, file.content.render().encode()) for file in plan.files}


def _actions(d: Deployment, paths: set[PurePosixPath]) -> tuple[Action, ...]:
    sysusers, tmpfiles, site = users.sysusers_path(d), users.tmpfiles_path(d), nginx.site_path(d)
    actions = (
        Action(("systemd-sysusers", sysusers.name), "create the user", sysusers),
        Action(("systemd-tmpfiles", "--create", tmpfiles.name), "create writable directories", tmpfiles),
        Action(("systemctl", "daemon-reload"), "read the units"),
        Action(("systemctl", "enable", "--now", f"{d.name}.target"), "start, now and at boot"),
        Action(("nginx", "-t"), "is it right beside the other sites?", site),
        Action(("systemctl", "reload", "nginx"), "read the site", site),
    )
    return tuple(action for action in actions if action.file is None or action.file in paths)
