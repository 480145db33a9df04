"""Users, groups and units: there, and nobody else's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aiosystemd.compare import compare
from aiosystemd.doctor.finding import Finding, command, then
from aiosystemd.doctor.identity import exists_statically, group_exists
from aiosystemd.doctor.programs import installed
from aiosystemd.doctor.subject import Subject, fault, fine
from aiosystemd.errors import ProblemsError

_UNITS: Final = "/etc/systemd/system"


def users(s: Subject) -> Iterator[Finding]:
    """Look whether the user and the groups are there, or will be, and whether the dynamic user's name is free."""
    found = [*_user(s), *_groups(s), *_writable(s)]
    yield from found
    if not found:
        yield fine(f"the user {s.user.name} {'is made by systemd' if s.deployment.dynamic_user else 'is right'}")


def _user(s: Subject) -> Iterator[Finding]:
    d = s.deployment
    user = d.service.user or d.name
    key = ("service", "user") if d.service.user else ("name",)
    if d.dynamic_user:
        if exists_statically(user):
            # systemd.exec(5), DynamicUser=: a user that exists is used, with whatever it owns.
            what = f"the instances would run as {user}, a user of this host, not as one that systemd makes for them"
            yield s.error(key, what)
    elif not exists_statically(user) and not installed("systemd-sysusers"):
        what = f"the user {user} does not exist, and there is no systemd-sysusers that would create it"
        yield s.error(key, what, command("useradd", "--system", "--user-group", user))


def _groups(s: Subject) -> Iterator[Finding]:
    service, listen, group = s.deployment.service, s.deployment.listen, s.deployment.socket_group
    wanted = [(("service", "groups", index), name) for index, name in enumerate(service.groups)]
    for key, name in wanted:
        if not group_exists(name):
            what = f"the group {name} does not exist: no instance would start"
            yield s.error(key, what, command("groupadd", "--system", name))
    if listen.port is None and not group_exists(group):
        what = f"the group {group} does not exist: no socket would be opened"
        yield s.error(("listen", "group"), what, command("groupadd", "--system", group))


def _writable(s: Subject) -> Iterator[Finding]:
    """Directories that are there already, which tmpfiles.d(5) then leaves to whom they belong."""
    user = s.deployment.service.user
    if user is None or not exists_statically(user) or not s.user.can_be_taken:
        return
    for index, path in enumerate(s.deployment.sandbox.writable):
        if Path(path).exists() and not s.user.may("-w", path):
            what = f"{path} is not writable for {user}"
            yield s.error(("sandbox", "writable", index), what, command("chown", user, path))


def units(s: Subject) -> Iterator[Finding]:
    """Look whether a file of somebody else's stands where one of ours goes, or a unit has its name."""
    try:
        changes = compare(s.build.tree, Path("/"))
    except ProblemsError as error:
        for problem in error.problems:
            yield s.error(("name",), str(problem))
        return
    foreign = [str(change.path) for change in changes if change.kind == "foreign"]
    for path in foreign:
        away = command("mv", path, f"{path}.old")
        # systemd reads a unit when it starts it; what runs from the old file is somebody's to stop.
        mend = then(away, command("systemctl", "daemon-reload")) if path.startswith(_UNITS) else away
        yield fault(path, "is somebody else's, and ours would go there", mend)
    if not foreign:
        yield fine("no unit or file of somebody else's is in the way")
