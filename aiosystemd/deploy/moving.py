"""Instances that are to listen elsewhere: the proxy knows both places while they move."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from stat import S_ISSOCK

from aiosystemd.ask import Address
from aiosystemd.build import Build
from aiosystemd.deploy.proposal import Proposal
from aiosystemd.export import nginx
from aiosystemd.host import Host
from aiosystemd.plan import Rendered, Tree
from aiosystemd.rollout.work import address


def meanwhile(proposal: Proposal, old: Build | None, host: Host) -> Tree:
    """Return the proxy's site as it is to be while instances move; nothing when none does."""
    names = proposal.moving
    if old is None or not names or host.scope.user:
        return {}
    # connect(2) to the place where an instance is not fails at once, and the proxy goes on to the next one.
    also = tuple(nginx.server_address(old.deployment, name) for name in names)
    built = proposal.built
    files = nginx.export(built.deployment, host, built.file.name, also)
    site = nginx.site_path(built.deployment)
    return {each.path: Rendered(each.mode, each.content.render().encode()) for each in files if each.path == site}


def where(old: Build, names: Iterable[str]) -> dict[str, Address]:
    """Return where instances have listened so far."""
    return {name: address(old.deployment, name) for name in names}


def clear(old: Build, names: Iterable[str]) -> None:
    """Remove the unix sockets that instances have left: systemd.socket(5), RemoveOnStop= is off."""
    for at in where(old, names).values():
        with suppress(OSError):
            if isinstance(at, str) and S_ISSOCK(Path(at).lstat().st_mode):
                Path(at).unlink()
                Path(at).parent.rmdir()  # Only if it is empty.
