"""systemd units: a service and a socket template, and the targets that hold the instances together."""

from collections.abc import Iterator
from itertools import chain

from aiosystemd.contract import INSTANCE_VARIABLE
from aiosystemd.export import File, gunicorn, header, instance_names, service, tcp_address
from aiosystemd.export.sandbox import Directive, sandbox
from aiosystemd.export.serve import reload_command, serve_command
from aiosystemd.export.targets import sockets_target, target, up_target, wanted_by
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.unit import (
    UnitFile,
    Value,
    command,
    environment,
    number,
    path,
    raw,
    seconds,
    text,
)


def export(d: Deployment, host: Host, source: str) -> Iterator[File]:
    """Yield the units of ``d``: service and socket template (with TCP a socket per port, or one) and their targets."""
    if d.server.kind == "gunicorn":
        yield from gunicorn.export(d, host, source)
        return
    units = host.scope.units
    yield File(units / f"{d.name}@.service", _service(d, host, source))
    if d.listen.shared:
        yield File(units / f"{d.name}.socket", _socket(d, host, source, raw(tcp_address(d, ""))))
    elif d.listen.port is None:
        address = path(d.socket_directory, "/", raw("%i"), ".sock")
        yield File(units / f"{d.name}@.socket", _socket(d, host, source, address))
    else:
        for name in instance_names(d, host):
            address = raw(tcp_address(d, name))
            yield File(units / f"{d.name}@{name}.socket", _socket(d, host, source, address))
    yield File(units / f"{d.name}.target", target(d, host, source))
    yield File(units / f"{d.name}.up.target", up_target(d, source))
    yield File(units / f"{d.name}.sockets.target", sockets_target(d, source))


def _service(d: Deployment, host: Host, source: str) -> UnitFile:
    unit = UnitFile(header(source))
    unit.add("Unit", "Description", text(d.name, ", instance ", raw("%i")))
    why = "systemctl start gets the socket too; stopping or restarting the socket takes the service with it."
    unit.add("Unit", "Requires", raw(f"{d.name}.socket" if d.listen.shared else f"{d.name}@%i.socket"), comment=why)
    unit.add("Unit", "PartOf", raw(f"{d.name}.target"))
    if not host.scope.user:  # whose systemd has no such unit
        unit.add("Unit", "After", raw("network.target"))
    why = "Never give up: a start limit would close the socket too, and keep it closed when the code is mended."
    unit.add("Unit", "StartLimitIntervalSec", number(0), comment=why)
    limits = service.limits(d, memory="Two processes need room in a reload.")
    service.add(unit, chain(_process(d, host), _identity(d, host), _life(d), limits, sandbox(d, host)), d)
    unit.add("Install", "WantedBy", wanted_by(host))
    return unit


def _process(d: Deployment, host: Host) -> Iterator[Directive]:
    yield "Type", raw("notify"), None
    yield "NotifyAccess", raw("main"), None
    if d.listen.shared:
        yield "Sockets", raw(f"{d.name}.socket"), "Passed to every instance: each accepts from it."
    yield "ExecStart", command(serve_command(d)), None
    why = "Starts the new code beside the old, and ends when it serves, or fails; the old process serves until then."
    if host.scope.user:
        # Each process of the unit gets a user namespace, and only the first one's may enter the IPC and network
        # namespaces that it has made (measured: 252, 257). It gives an order, no more: the new code runs inside.
        why += " It is outside of the sandbox, the new code is in it."
    yield "ExecReload", command(reload_command(d), sandboxed=not host.scope.user), why
    yield from service.surroundings(d, ("Environment", environment(INSTANCE_VARIABLE, (raw("%i"),)), None))


def _identity(d: Deployment, host: Host) -> Iterator[Directive]:
    yield from service.identity(d, host)
    yield "RuntimeDirectory", raw(f"{d.name}/%i"), "Of the instance alone, where it takes orders, as for a reload."
    yield "RuntimeDirectoryMode", raw("0700"), None


def _life(d: Deployment) -> Iterator[Directive]:
    yield from service.restart(d)
    why = "Kept from one start to the next: a mark that this one has not succeeded, so that clients go elsewhere."
    yield "FileDescriptorStoreMax", number(1), why
    yield "TimeoutStartSec", seconds(d.timeouts.start), "Extended by the server for each step that it completes."
    yield "TimeoutStopSec", seconds(d.stop), f"Requests have {d.drain:g} s to end, clean-up the rest."
    yield "KillMode", raw("mixed"), "SIGTERM is for the server; its own processes may be at work for a request."
    if d.timeouts.watchdog:
        yield "WatchdogSec", seconds(d.timeouts.watchdog), None


def _socket(d: Deployment, host: Host, source: str, address: Value) -> UnitFile:
    unit = UnitFile(header(source))
    whose = ("socket of all instances",) if d.listen.shared else ("socket of instance ", raw("%i"))
    unit.add("Unit", "Description", text(d.name, ", ", *whose))
    unit.add("Unit", "PartOf", raw(f"{d.name}.sockets.target"))
    unit.add("Unit", "Wants", raw(f"{d.name}.up.target"))
    for name, value, comment in service.socket(d, host, address):
        unit.add("Socket", name, value, comment=comment)
    if d.listen.shared:
        first = instance_names(d, host)[0]
        unit.add("Socket", "Service", raw(f"{d.name}@{first}.service"), comment="Started by a client when none runs.")
    unit.add("Install", "WantedBy", raw("sockets.target"))
    return unit
