"""What every service and socket of ours says, whatever is started: surroundings, identity, limits."""

from collections.abc import Iterator

from aiosystemd import contract
from aiosystemd.export.sandbox import Directive
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.unit import (
    UnitFile,
    Value,
    boolean,
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


def add(unit: UnitFile, directives: Iterator[Directive], d: Deployment) -> None:
    """Add directives to the service, and then the deployment's own."""
    for name, value, comment in directives:
        unit.add("Service", name, value, comment=comment)
    for name, given in d.service.directives.items():
        for item in given if isinstance(given, tuple) else (given,):
            unit.add("Service", name, boolean(item) if isinstance(item, bool) else raw(str(item)))


def surroundings(d: Deployment, *own: Directive) -> Iterator[Directive]:
    """Yield where it runs, and with which variables and secrets; ``own`` are variables of one kind of service."""
    if d.directory:
        yield "WorkingDirectory", path(d.directory), None
    yield "SyslogIdentifier", raw("%N"), None
    yield from own
    # systemd.exec(5): $HOME is not set for a dynamic user, and many libraries expand "~".
    yield "Environment", environment("HOME", (raw("%S/"), d.name)), None
    for name, value in d.service.environment.items():
        yield "Environment", environment(name, value), None
    for file in d.service.environment_files:
        yield "EnvironmentFile", environment_file(file.removeprefix("-"), optional=file.startswith("-")), None
    for name, file in d.service.credentials.items():
        yield "LoadCredential", credential(name, path(file)), None
    if d.listen.tls:
        why = "Read by systemd, before it drops privileges, at each start: a reload keeps the certificate."
        yield "LoadCredential", credential(contract.TLS_CERTIFICATE, path(d.listen.tls.certificate)), why
        yield "LoadCredential", credential(contract.TLS_KEY, path(d.listen.tls.key)), None


def identity(d: Deployment, host: Host) -> Iterator[Directive]:
    """Yield whom it runs as, and the directory that it keeps."""
    if not host.scope.user:
        yield from _user(d)
    yield "StateDirectory", words([d.name]), None
    yield "StateDirectoryMode", raw("0700"), None


def _user(d: Deployment) -> Iterator[Directive]:
    if d.dynamic_user:
        yield "DynamicUser", boolean(value=True), None
    if d.service.user:
        yield "User", text(d.service.user), None
    if d.service.group:
        yield "Group", text(d.service.group), None
    if d.service.groups:
        yield "SupplementaryGroups", text(" ".join(d.service.groups)), None


def restart(d: Deployment) -> Iterator[Directive]:
    """Yield when it is started again."""
    yield "Restart", raw(d.service.restart), None
    yield "RestartSec", seconds(_RESTART), "What the socket queues waits for this and for the start."


def limits(d: Deployment, *, memory: str) -> Iterator[Directive]:
    """Yield what it may use; ``memory`` says what that must have room for."""
    service = d.service
    yield "LimitNOFILE", number(service.open_files), None
    if service.memory_max is not None:
        yield "MemoryMax", size(service.memory_max), memory
    yield "OOMPolicy", raw("continue"), "Of two processes, or a process and its own ones, one may be killed alone."
    if service.cpu_quota is not None:
        yield "CPUQuota", raw(f"{service.cpu_quota}%"), None
    if service.tasks_max is not None:
        yield "TasksMax", number(service.tasks_max), None


def socket(d: Deployment, host: Host, address: Value) -> Iterator[Directive]:
    """Yield what a socket says of itself."""
    yield "ListenStream", address, None
    if d.listen.port is None:
        yield "SocketMode", raw(d.listen.mode), None
        if not host.scope.user or "group" in d.listen.model_fields_set:
            yield "SocketGroup", text(d.socket_group), "The proxy's."
    why = "Requests that wait while the instance restarts; capped by net.core.somaxconn."
    yield "Backlog", number(d.listen.backlog), why
