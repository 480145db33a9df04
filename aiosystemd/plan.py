"""Deployment + Host → Plan → Tree. Pure: no file, process, clock or environment."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from aiosystemd.export import File, circus, haproxy, nginx, procfile, runit, supervisord, systemd, users
from aiosystemd.export.serve import process_names
from aiosystemd.host import Host, Manager
from aiosystemd.model import Deployment
from aiosystemd.user import has_own_proxy


@dataclass(frozen=True, slots=True)
class Action:
    """A command to run once the files are in place, and why."""

    argv: tuple[str, ...]
    why: str
    file: PurePosixPath | None = field(default=None, compare=False)
    """The file that calls for it when it has changed; without one, any does. Two may call for the same."""

    def describe(self) -> str:
        """Return the command as a person would type it."""
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a deployment needs on a host."""

    files: tuple[File, ...]
    actions: tuple[Action, ...]


Exporter = Callable[[Deployment, Host, str], Iterator[File]]

_PROXY = PurePosixPath("/etc/nginx")
_MANAGERS: Mapping[Manager, Exporter] = {
    Manager.SYSTEMD: systemd.export,
    Manager.SUPERVISORD: supervisord.export,
    Manager.CIRCUS: circus.export,
    Manager.RUNIT: runit.export,
    Manager.PROCFILE: procfile.export,
}


class Rendered(NamedTuple):
    """A file as it will be on disk."""

    mode: int
    content: bytes


Tree = Mapping[PurePosixPath, Rendered]
"""Absolute path on the target → mode and bytes, in the order of writing."""


def plan(deployment: Deployment, host: Host, source: str) -> Plan:
    """Return the files and actions for ``deployment``; ``source`` is what the files' headers call its file.

    Raises ``Unrepresentable`` when a value cannot be spelt in one of the formats.
    """
    exporters: tuple[Exporter, ...] = (_MANAGERS[host.manager], users.export, nginx.export, haproxy.export)
    written = (file for export in exporters for file in export(deployment, host, source))
    files = tuple(file._replace(path=placed(file.path, host)) for file in written)
    return Plan(files, tuple(_actions(deployment, host, {file.path for file in files})))


def placed(path: PurePosixPath, host: Host) -> PurePosixPath:
    """Return where a file is written: a user has the proxy's in a directory of the same shape, until root copies them.

    An ``nginx.conf`` there, of an nginx that is the user's own, finds them as that of the machine does.
    """
    below = host.scope.user and path.is_relative_to(_PROXY)
    return host.scope.files / "nginx" / path.relative_to(_PROXY) if below else path


def render(plan: Plan) -> Tree:
    """Return the plan's files, spelt."""
    return {file.path: Rendered(file.mode, file.content.render().encode()) for file in plan.files}


def _actions(d: Deployment, host: Host, paths: set[PurePosixPath]) -> Iterator[Action]:
    for action in _of_user(d, host) if host.scope.user else _of_root(d, host):
        if action.file is None or action.file in paths:
            yield action


def _of_root(d: Deployment, host: Host) -> Iterator[Action]:
    sysusers, tmpfiles = users.sysusers_path(d), users.tmpfiles_path(d)
    nginx_files = (nginx.site_path(d), nginx.locations_path(d))
    yield Action(("systemd-sysusers", sysusers.name), "create the user", sysusers)
    yield Action(("systemd-tmpfiles", "--create", tmpfiles.name), "create writable directories", tmpfiles)
    yield from _started(d, host)
    yield from (Action(("nginx", "-t"), "is it right beside the other sites?", file) for file in nginx_files)
    yield from (Action(("systemctl", "reload", "nginx"), "read the site", file) for file in nginx_files)
    yield from _haproxy(d)


def _haproxy(d: Deployment) -> Iterator[Action]:
    site, drop_in = haproxy.site_path(d), haproxy.drop_in_path(d)
    check = ("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg", "-f", str(haproxy.CONFIGURATION))
    yield Action(check, "is it right beside the other sites?", site)
    yield Action(("systemctl", "daemon-reload"), "read what HAProxy is to be started with", drop_in)
    yield Action(("systemctl", "restart", "haproxy"), "only a start gives it new options and sockets", drop_in)
    yield Action(("systemctl", "reload", "haproxy"), "read the site", site)


def _started(d: Deployment, host: Host) -> Iterator[Action]:
    match host.manager:
        case Manager.SYSTEMD:
            yield Action(("systemctl", "daemon-reload"), "read the units")
            yield Action(("systemctl", "enable", "--now", *_enabled(d)), "start, now and at boot")
        case Manager.SUPERVISORD:
            yield Action(("supervisorctl", "update"), "read the programs and start them")
        case Manager.CIRCUS:
            yield Action(("circusctl", "reloadconfig"), "read the watchers and start them")
        case Manager.RUNIT:
            for name in process_names(d, host).values():
                yield Action(("ln", "-s", str(runit.directory(name)), "/etc/service/"), "start, now and at boot")
        case Manager.PROCFILE:
            started = ("honcho", "--procfile", str(procfile.path(d)), "start")
            yield Action(("runuser", "--user", d.service.user or "", "--", *started), "start, in the foreground")


def _enabled(d: Deployment) -> tuple[str, ...]:
    return (f"{d.name}.socket", f"{d.name}.service") if d.server.kind == "gunicorn" else (f"{d.name}.target",)


def _of_user(d: Deployment, host: Host) -> Iterator[Action]:
    systemctl = ("systemctl", *host.scope.option)
    yield Action((*systemctl, "daemon-reload"), "read the units")
    yield Action((*systemctl, "enable", "--now", *_enabled(d)), "start, now and with your systemd")
    if not host.scope.lingers:
        yield Action(("loginctl", "enable-linger"), "or it ends when you log out, and waits for you after a boot")
    if has_own_proxy(d, host.scope):
        return
    here = {placed(path, host): path for path in (nginx.site_path(d), nginx.locations_path(d))}
    for file, there in here.items():
        yield Action(("sudo", "install", "-D", "--mode=0644", str(file), str(there)), "for root: the site", file)
    for file in here:
        yield Action(("sudo", "nginx", "-t"), "is it right beside the other sites?", file)
    for file in here:
        yield Action(("sudo", "systemctl", "reload", "nginx"), "read the site", file)
