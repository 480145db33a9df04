"""Whom the instances and the proxy run as, and what those may reach."""

import grp
import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Self

from aiosystemd.model import Deployment

_DYNAMIC: Final = range(61184, 65520)
"""User numbers of ``DynamicUser=``, systemd.exec(5)."""

_NOBODY: Final = 65534
"""User and group that own nothing, systemd.exec(5); distributions have several names for them."""

_WALK: Final = """
    for path; do test -x "$path" || { printf %s "$path"; exit; }; done
    test -z "$READ" || test -r "$path" || printf %s "$path"
"""
"""Prints the first path that may not be entered, or the last one if it is to be read and may not be."""
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""As a service has it, systemd.exec(5)."""
_PATIENCE: Final = 10.0
"""Seconds to look at the directories of a path; a dead network file system takes for ever."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user with its groups, as a process has them."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @classmethod
    def of_user(cls, name: str, group: str | None = None) -> Self:
        """Return the user ``name`` as initgroups(3) makes it, with another primary group if one is given.

        Raises KeyError when one of them does not exist.
        """
        user = pwd.getpwnam(name)
        gid = grp.getgrnam(group).gr_gid if group else user.pw_gid
        return cls(name, user.pw_uid, gid, tuple(os.getgrouplist(name, gid)))

    @property
    def can_be_taken(self) -> bool:
        """Whether this program may run something as that user."""
        return os.geteuid() in (0, self.uid)

    def run(
        self, *argv: str, stdin: str = "", environment: Mapping[str, str] | None = None, patience: float = _PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as that user, if this program may, and else as whoever runs it.

        Raises OSError when it cannot be started, subprocess.TimeoutExpired after ``patience`` seconds.
        """
        root = os.geteuid() == 0
        return subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=patience,
            cwd="/",
            env={
                "PATH": _PATH,
                "LC_ALL": "C.UTF-8",
                **(environment or {}),
            },
            user=self.uid if root else None,
            group=self.gid if root else None,
            extra_groups=self.groups if root else None,
            umask=0o077,
        )

    def blocked(self, path: str, *, read: bool = False) -> str | None:
        """Return the first part of ``path`` that this user cannot enter or run, or in the end ``read``; None for none.

        Tried rather than reckoned from modes: access control lists, capabilities and security modules have a say too.
        """
        parts = [*map(str, reversed(PurePosixPath(path).parents)), path]
        environment = {"READ": "yes" if read else ""}
        return self.run("/bin/sh", "-c", _WALK, "sh", *parts, environment=environment).stdout or None

    def may(self, test: str, path: str) -> bool:
        """Tell whether a test of test(1), such as ``-w``, holds of ``path`` for this user."""
        return self.run("/bin/sh", "-c", f'test {test} "$1"', "sh", path).returncode == 0


def exists_statically(name: str) -> bool:
    """Tell whether a user is one of the host's, not one that systemd has made up for a running unit."""
    try:
        return pwd.getpwnam(name).pw_uid not in _DYNAMIC
    except KeyError:
        return False


def group_exists(name: str) -> bool:
    """Tell whether there is a group of that name."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def of_service(d: Deployment) -> Identity:
    """Return whom the instances run as; for a user that is not there yet, somebody who owns nothing."""
    extra = tuple(grp.getgrnam(name).gr_gid for name in d.service.groups if group_exists(name))
    user, group = d.service.user, d.service.group
    if user and exists_statically(user):
        found = Identity.of_user(user, group if group and group_exists(group) else None)
        return Identity(user, found.uid, found.gid, (*found.groups, *extra))
    return Identity(user or d.name, _NOBODY, _NOBODY, extra)
