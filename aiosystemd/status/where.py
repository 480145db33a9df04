"""Which instances a deployment has on this host, where they listen, and from where they run."""

import json
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from aiosystemd import systemctl
from aiosystemd.export import instance_names, tcp_address
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.rollout.instance import Instance, in_order, look_at_all
from aiosystemd.status.rows import Releases


def instances(deployments: Mapping[str, Deployment], host: Host) -> dict[str, dict[str, Instance]]:
    """Return the instances of deployments, those that the files name and those that are there besides.

    Raises SystemctlError.
    """
    there = _there(deployments)
    wanted = {
        name: in_order((*instance_names(each, host), *(there.get(name, ())))) for name, each in deployments.items()
    }
    return look_at_all(wanted)


def _there(names: Mapping[str, object]) -> dict[str, set[str]]:
    """Return the instances of deployments of which systemd has anything that is not at rest."""
    if not names:
        return {}
    patterns = [f"{name}@*" for name in names]
    options = ("--all", "--no-pager", "--output=json", "--type=service,socket")
    found: dict[str, set[str]] = {}
    for unit in json.loads(systemctl.run("list-units", *options, "--", *patterns) or "[]"):
        match = re.fullmatch(r"([^@]+)@(.+)\.(?:service|socket)", unit["unit"])
        if match and unit["active"] != "inactive":
            found.setdefault(match[1], set()).add(match[2])
    return found


def address(d: Deployment, name: str) -> str:
    """Return where an instance listens, as ``queues`` spells it; "" where that is unknown."""
    if d.listen.port is None:
        return f"{d.socket_directory}/{name}.sock"
    return tcp_address(d, name, str(ip_address(d.listen.address))) if name.isdecimal() else ""


def releases(d: Deployment) -> Releases:
    """Return how the releases of a deployment are called, from where its directory leads now."""
    try:
        return Releases(d.directory, d.directory and str(Path(d.directory).resolve(strict=True)))
    except OSError:
        return Releases(d.directory, None)
