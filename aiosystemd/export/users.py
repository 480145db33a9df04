"""A static user and the directories it may write: sysusers.d(5) and tmpfiles.d(5)."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from aiosystemd.export import File, header
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.table import Table
from aiosystemd.render.unit import words


def sysusers_path(d: Deployment) -> PurePosixPath:
    """Return where the user is declared."""
    return PurePosixPath(f"/usr/lib/sysusers.d/{d.name}.conf")


def tmpfiles_path(d: Deployment) -> PurePosixPath:
    """Return where the directories are declared."""
    return PurePosixPath(f"/usr/lib/tmpfiles.d/{d.name}.conf")


def export(d: Deployment, host: Host, source: str) -> Iterator[File]:
    """Yield what ``d`` needs of both: nothing for a dynamic user, or one who is there already."""
    user, group = d.service.user, d.service.group
    if user is None or d.dynamic_user or host.scope.user:
        return
    declared = Table(header(source))
    if group is not None and group != user:
        declared.add(words(["g", group, "-"]))
    # The same for each deployment of that user, since sysusers.d(5) takes a user's first line and warns of others.
    declared.add(words(["u", user, f"-:{group}" if group else "-", f"{user}, for aiosystemd"]))
    yield File(sysusers_path(d), declared)
    if d.sandbox.writable:
        directories = Table(header(source))
        for path in d.sandbox.writable:
            directories.add(words(["d", path, "0750", user, group or user, "-"]))
        yield File(tmpfiles_path(d), directories)
