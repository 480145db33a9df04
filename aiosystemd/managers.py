"""A deployment under another process manager than systemd: what it loses there, and what cannot be had."""

from collections.abc import Iterator
from typing import Final

from aiosystemd.host import Host, Manager
from aiosystemd.model import Deployment
from aiosystemd.rules import Violation

_NEEDS: Final = "or leave out --manager: systemd does it"

_IGNORED: Final = ("memory_max", "cpu_quota", "tasks_max", "directives")
"""Keys of ``[service]`` that only systemd can put in force."""


def manager_violations(d: Deployment, host: Host) -> Iterator[Violation]:
    """Yield what a deployment, as its file has it, asks of a manager in vain."""
    if host.manager is Manager.SYSTEMD:
        return
    if d.server.kind == "gunicorn":
        what = f"gunicorn is a manager of processes itself, and here for systemd, not for {host.manager}"
        yield Violation((("server", "kind"),), what, "leave out --manager, or server.kind")
    yield from _identity(d, host)
    yield from _secrets(d, host.manager)
    yield from _sockets(d, host.manager)
    yield from _lost(d, host.manager)


def _identity(d: Deployment, host: Host) -> Iterator[Violation]:
    if host.scope.user:
        yield Violation((("name",),), f"--user is for systemd, not for {host.manager}", "leave one of them out")
    if d.dynamic_user:
        keys = (("service", "dynamic_user"), ("service",), ("name",))
        what = f"{host.manager} cannot make users up, and without one the application would run as root"
        yield Violation(keys, what, f'set service.user, as in "{d.name}", {_NEEDS}')


def _secrets(d: Deployment, manager: Manager) -> Iterator[Violation]:
    for name in d.service.credentials:
        what = f"{manager} passes no credentials: the application would start without {name}"
        yield Violation((("service", "credentials", name),), what, f"have it read a file of its user's, {_NEEDS}")
    if d.listen.tls is not None:
        what = f"{manager} passes no credentials: the application would start without its certificate"
        yield Violation((("listen", "tls"),), what, f"remove it, {_NEEDS}")
    for index, file in enumerate(d.service.environment_files):
        what = f"{manager} reads no files of variables: the application would start without those of {file}"
        yield Violation((("service", "environment_files", index),), what, f"use service.environment, {_NEEDS}")


def _sockets(d: Deployment, manager: Manager) -> Iterator[Violation]:
    if d.listen.shared:
        what = f"one port for all processes is written for systemd, not for {manager}"
        yield Violation((("listen", "shared"),), what, f"remove it: each has a port then, {_NEEDS}")
    if manager is Manager.SUPERVISORD and d.listen.port is not None:
        what = "supervisord numbers its processes from one on, and cannot give each a port"
        yield Violation((("listen", "port"),), what, f"remove it: each has a unix socket then, {_NEEDS}")


def _lost(d: Deployment, manager: Manager) -> Iterator[Violation]:
    what = f"{manager} has no sandbox: the application may do whatever its user may"
    yield Violation((("sandbox",), ("name",)), what, severity="warning")
    for key in _IGNORED:
        if key in d.service.model_fields_set:
            yield Violation((("service", key),), f"{manager} does not put service.{key} in force", severity="warning")
    if manager is not Manager.RUNIT and d.service.groups:
        what = f"{manager} takes the groups that the user has in /etc/group, not service.groups"
        yield Violation((("service", "groups"),), what, severity="warning")
    if manager in (Manager.SUPERVISORD, Manager.PROCFILE) and "open_files" in d.service.model_fields_set:
        what = f"{manager} sets no limit on open files for one program"
        yield Violation((("service", "open_files"),), what, severity="warning")
    if "watchdog" in d.timeouts.model_fields_set and d.timeouts.watchdog:
        what = f"{manager} has no watchdog: a blocked event loop stays blocked"
        yield Violation((("timeouts", "watchdog"),), what, severity="warning")
