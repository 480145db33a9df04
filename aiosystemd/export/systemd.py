"""systemd units: a service and a socket template, and the targets that hold the instances together."""

from collections.abc import Iterator

from aiosystemd.contract import INSTANCE_VARIABLE
from aiosystemd.export import File, header, instance_names, tcp_address
from aiosystemd.export.sandbox import Directive, sandbox
from aiosystemd.export.serve import reload_command, serve_command
from aiosystemd.export.targets import sockets_target, target, up_target, wanted_by
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.unit import (
    UnitFile,
    Value,
    boolean,
    command,
    credential,
    environment,
    environment_file,
    number,
    path,
    raw,
    seconds,
    size,
    text,
    words,
)

_RESTART = 0.5
"""Seconds before ``Restart=``. Requests wait for it after a crash; a start that fails again and again costs a third of
a CPU. Not ``RestartSteps=`` (systemd 254): its count is never reset, so that later crashes would all wait longest."""


def export(d: Deployment, host: Host, source: str) -> Iterator[File]:
    """Yield the units of ``d``: service and socket template (a socket per port with TCP) and their targets."""
    units = host.scope.units
    yield File(units / f"{d.name}@.service", _service(d, host, source))
    if d.listen.port is None:
        address = path(d.socket_directory, "/", raw("%i"), ".sock")
        yield File(units / f"{d.name}@.socket", _socket(d, host, source, address))
    else:
        for name in instance_names(d, host):
            address = raw(tcp_address(d, int(name)))
            yield File(units / f"{d.name}@{name}.socket", _socket(d, host, source, address))
    yield File(units / f"{d.name}.target", target(d, host, source))
    yield File(units / f"{d.name}.up.target", up_target(d, source))
    yield File(units / f"{d.name}.sockets.target", sockets_target(d, source))


def _service(d: Deployment, host: Host, source: str) -> UnitFile:
    unit = UnitFile(header(source))
    unit.add("Unit", "Description", text(d.name, ", instance ", raw("%i")))
    why = "systemctl start gets the socket too; stopping or restarting the socket takes the service with it."
    unit.add("Unit", "Requires", raw(f"{d.name}@%i.socket"), comment=why)
    unit.add("Unit", "PartOf", raw(f"{d.name}.target"))
    if not host.scope.user:  # whose systemd has no such unit
        unit.add("Unit", "After", raw("network.target"))
    why = "Never give up: a start limit would close the socket too, and keep it closed when the code is mended."
    unit.add("Unit", "StartLimitIntervalSec", number(0), comment=why)
    for name, value, comment in (
        *_process(d, host),
        *_identity(d, host),
        *_life(d),
        *_limits(d),
        *sandbox(d, host),
    ):
        unit.add("Service", name, value, comment=comment)
    for name, given in d.service.directives.items():
        for item in given if isinstance(given, tuple) else (given,):
            unit.add("Service", name, boolean(item) if isinstance(item, bool) else raw(str(item)))
    unit.add("Install", "WantedBy", wanted_by(host))
    return unit


def _process(d: Deployment, host: Host) -> Iterator[Directive]:
    yield "Type", raw("notify"), None
    yield "NotifyAccess", raw("main"), None
    yield "ExecStart", command(serve_command(d)), None
    why = "Starts the new code beside the old, and ends when it serves, or fails; the old process serves until then."
    if host.scope.user:
        # Each process of the unit gets a user namespace, and only the first one's may enter the IPC and network
        # namespaces that it has made (measured: 252, 257). It gives an order, no more: the new code runs inside.
        why += " It is outside of the sandbox, the new code is in it."
    yield "ExecReload", command(reload_command(d), sandboxed=not host.scope.user), why
    if d.directory:
        yield "WorkingDirectory", path(d.directory), None
    yield "SyslogIdentifier", raw("%N"), None
    yield "Environment", environment(INSTANCE_VARIABLE, (raw("%i"),)), None
    # systemd.exec(5): $HOME is not set for a dynamic user, and many libraries expand "~".
    yield "Environment", environment("HOME", (raw("%S/"), d.name)), None
    for name, value in d.service.environment.items():
        yield "Environment", environment(name, value), None
    for file in d.service.environment_files:
        yield "EnvironmentFile", environment_file(file.removeprefix("-"), optional=file.startswith("-")), None
    for name, file in d.service.credentials.items():
        yield "LoadCredential", credential(name, path(file)), None


def _identity(d: Deployment, host: Host) -> Iterator[Directive]:
    if not host.scope.user:
        yield from _user(d)
    yield "StateDirectory", words([d.name]), None
    yield "StateDirectoryMode", raw("0700"), None
    yield "RuntimeDirectory", raw(f"{d.name}/%i"), "Of the instance alone, where it takes orders, as for a reload."
    yield "RuntimeDirectoryMode", raw("0700"), None


def _user(d: Deployment) -> Iterator[Directive]:
    if d.dynamic_user:
        yield "DynamicUser", boolean(value=True), None
    if d.service.user:
        yield "User", text(d.service.user), None
    if d.service.group:
        yield "Group", text(d.service.group), None
    if d.service.groups:
        yield "SupplementaryGroups", text(" ".join(d.service.groups)), None


def _life(d: Deployment) -> Iterator[Directive]:
    yield "Restart", raw(d.service.restart), None
    yield "RestartSec", seconds(_RESTART), "What the socket queues waits for this and for the start."
    why = "Kept from one start to the next: a mark that this one has not succeeded, so that clients go elsewhere."
    yield "FileDescriptorStoreMax", number(1), why
    yield "TimeoutStartSec", seconds(d.timeouts.start), "Extended by the server for each step that it completes."
    yield "TimeoutStopSec", seconds(d.stop), f"Requests have {d.drain:g} s to end, clean-up the rest."
    yield "KillMode", raw("mixed"), "SIGTERM is for the server; its own processes may be at work for a request."
    if d.timeouts.watchdog:
        yield "WatchdogSec", seconds(d.timeouts.watchdog), None


def _limits(d: Deployment) -> Iterator[Directive]:
    service = d.service
    yield "LimitNOFILE", number(service.open_files), None
    if service.memory_max is not None:
        yield "MemoryMax", size(service.memory_max), "Two processes need room in a reload."
    yield "OOMPolicy", raw("continue"), "Of two processes, or a process and its own ones, one may be killed alone."
    if service.cpu_quota is not None:
        yield "CPUQuota", raw(f"{service.cpu_quota}%"), None
    if service.tasks_max is not None:
        yield "TasksMax", number(service.tasks_max), None


def _socket(d: Deployment, host: Host, source: str, address: Value) -> UnitFile:
    unit = UnitFile(header(source))
    unit.add("Unit", "Description", text(d.name, ", socket of instance ", raw("%i")))
    unit.add("Unit", "PartOf", raw(f"{d.name}.sockets.target"))
    unit.add("Unit", "Wants", raw(f"{d.name}.up.target"))
    unit.add("Socket", "ListenStream", address)
    if d.listen.port is None:
        unit.add("Socket", "SocketMode", raw(d.listen.mode))
        if not host.scope.user or "group" in d.listen.model_fields_set:
            unit.add("Socket", "SocketGroup", text(d.listen.group), comment="The proxy's.")
    why = "Requests that wait while the instance restarts; capped by net.core.somaxconn."
    unit.add("Socket", "Backlog", number(d.listen.backlog), comment=why)
    unit.add("Install", "WantedBy", raw("sockets.target"))
    return unit
