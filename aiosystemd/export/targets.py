"""The targets of a deployment: what ``systemctl start``, ``stop`` and ``restart NAME.target`` mean.

Stopping ``NAME.target`` must close the sockets, or the next request would start the site again; restarting it must not,
or what the sockets queue would be lost. ``PartOf=NAME.target`` in the sockets does the first and not the second; two
more targets between them do both. No deployment's name has a dot, so theirs cannot be taken.
"""

from aiosystemd.export import header, instance_names
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.unit import UnitFile, Value, boolean, raw, text


def wanted_by(host: Host) -> Value:
    """Return the target that starts what is enabled; systemd.special(7): that of the boot, or of the first login."""
    return raw("default.target" if host.scope.user else "multi-user.target")


def target(d: Deployment, host: Host, source: str) -> UnitFile:
    """Return ``NAME.target``: all instances."""
    unit = UnitFile(header(source))
    unit.add("Unit", "Description", text(d.name, ", all instances"))
    if d.listen.shared:
        unit.add("Unit", "Wants", raw(f"{d.name}.socket"))
    for name in instance_names(d, host):
        socket = "" if d.listen.shared else f"{d.name}@{name}.socket "
        unit.add("Unit", "Wants", raw(f"{socket}{d.name}@{name}.service"))
    unit.add("Install", "WantedBy", wanted_by(host))
    return unit


def up_target(d: Deployment, source: str) -> UnitFile:
    """Return ``NAME.up.target``, which is there while any socket is."""
    unit = UnitFile(header(source))
    unit.add("Unit", "Description", text(d.name, ", up"))
    why = "Every socket wants this, so that a stop of all reaches the sockets however they were started."
    unit.add("Unit", "PartOf", raw(f"{d.name}.target"), comment=why)
    why = "In a restart of all this is started again first, before a stop that follows could miss it."
    unit.add("Unit", "Before", raw(f"{d.name}.target"), comment=why)
    unit.add("Unit", "Wants", raw(f"{d.name}.sockets.target"))
    unit.add("Unit", "After", raw(f"{d.name}.sockets.target"))
    return unit


def sockets_target(d: Deployment, source: str) -> UnitFile:
    """Return ``NAME.sockets.target``, which the sockets are part of."""
    unit = UnitFile(header(source))
    unit.add("Unit", "Description", text(d.name, ", all sockets"))
    why = (
        f"The sockets stop with this, and this stops when {d.name}.up.target is stopped; not when it is restarted, "
        "since a unit with a queued job still needs what it wants. So a restart of all keeps the sockets."
    )
    unit.add("Unit", "StopWhenUnneeded", boolean(value=True), comment=why)
    return unit
