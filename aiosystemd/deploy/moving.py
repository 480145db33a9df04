"""Instances that are to listen elsewhere: the proxy knows both places while they move."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from stat import S_ISSOCK

from aiosystemd.ask import Address
from aiosystemd.build import Build
from aiosystemd.deploy.proposal import Proposal
from aiosystemd.export import haproxy, nginx
from aiosystemd.host import Host
from aiosystemd.plan import Rendered, Tree
from aiosystemd.rollout.work import address


def meanwhile(proposal: Proposal, old: Build | None, host: Host) -> Tree:
    """Return the proxy's files as they are to be while instances move; nothing when none does."""
    names, built = proposal.moving, proposal.built
    if old is None or not names or host.scope.user or built.deployment.proxy.kind == "none":
        return {}
    proxy = nginx if built.deployment.proxy.kind == "nginx" else haproxy
    # connect(2) to the place where an instance is not fails at once, and the proxy goes on to the next one.
    also = tuple(proxy.server_address(old.deployment, name) for name in names)
    files = proxy.export(built.deployment, host, built.file.name, also)
    found = {each.path: Rendered(each.mode, each.content.render().encode()) for each in files}
    return {path: each for path, each in found.items() if each != built.tree.get(path)}


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
