"""A static user and the directories it may write: sysusers.d(5) and tmpfiles.d(5)."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from aiosystemd.export import File, header
from aiosystemd.export.serve import state_directory
from aiosystemd.host import Host, Manager
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
    """Yield what ``d`` needs of both."""
    if not host.scope.user:
        yield from _user(d, source)
        directories = Table(header(source))
        for mode, user, group, path in _directories(d, host):
            directories.add(words(["d", path, mode, user, group, "-"]))
        if directories.lines:
            yield File(tmpfiles_path(d), directories)


def _user(d: Deployment, source: str) -> Iterator[File]:
    user, group = d.service.user, d.service.group
    if user is None or d.dynamic_user:
        return
    declared = Table(header(source))
    if group is not None and group != user:
        declared.add(words(["g", group, "-"]))
    # The same for each deployment of that user, since sysusers.d(5) takes a user's first line and warns of others.
    declared.add(words(["u", user, f"-:{group}" if group else "-", f"{user}, for aiosystemd"]))
    yield File(sysusers_path(d), declared)


def _directories(d: Deployment, host: Host) -> Iterator[tuple[str, str, str, str]]:
    """Yield mode, owner, group and path."""
    user = d.service.user
    if user and not d.dynamic_user:
        group = d.service.group or user
        yield from (("0750", user, group, path) for path in d.sandbox.writable)
        if host.manager is not Manager.SYSTEMD:  # which makes these itself
            yield "0700", user, group, state_directory(d)
            if d.listen.port is None:
                yield "2750", user, d.socket_group, d.socket_directory  # a socket gets the group of such a directory
    if host.manager is Manager.SYSTEMD and d.proxy.kind == "haproxy" and d.listen.port is None:
        # It must be there when HAProxy starts, whose view of files is made then.
        yield "0755", "root", "root", d.socket_directory
