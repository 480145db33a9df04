"""The only asker: finds out about the machine that this program runs on."""

import contextlib
import grp
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from aiosystemd import scope
from aiosystemd.host import OLDEST_HAPROXY, OLDEST_NGINX, OLDEST_SYSTEMD, Host, Manager
from aiosystemd.scope import Scope

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"

_PATIENCE = 10.0
"""Seconds for a program to say its version."""


Version: TypeAlias = tuple[int, ...]


def probe(
    systemd: int | None = None,
    nginx: Version | None = None,
    haproxy: Version | None = None,
    manager: Manager = Manager.SYSTEMD,
) -> Host:
    """Return the facts of this host; the first three are versions to assume in place of its own.

    A program that is not installed counts as the oldest version supported.
    """
    return start(systemd, nginx, haproxy, manager)()


def start(
    systemd: int | None = None,
    nginx: Version | None = None,
    haproxy: Version | None = None,
    manager: Manager = Manager.SYSTEMD,
) -> Callable[[], Host]:
    """Begin what ``probe`` does, and return what ends it: the programs asked run while something else is done."""
    asked_systemd = None if systemd else _ask_systemd()
    asked_nginx = None if nginx else _ask_nginx()
    asked_haproxy = None if haproxy else _ask_haproxy()

    def host() -> Host:
        return Host(
            systemd=systemd or max(_systemd(asked_systemd) or 0, OLDEST_SYSTEMD),
            nginx=nginx or max(_nginx(asked_nginx) or (), OLDEST_NGINX),
            haproxy=haproxy or max(_haproxy(asked_haproxy) or (), OLDEST_HAPROXY),
            cpus=len(os.sched_getaffinity(0)),
            ipv6=Path("/proc/net/if_inet6").exists(),
            scope=scope.current(),
            manager=manager,
        )

    return host


def program(name: str) -> str | None:
    """Return the path of a program, also of an administrator's one that a user's ``$PATH`` leaves out."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


def user_scope() -> Scope:
    """Return the scope of the user that this program runs as."""
    user = pwd.getpwuid(os.getuid())
    home = PurePosixPath(user.pw_dir)
    return scope.of_user(
        user.pw_name,
        home=home,
        config=_directory("XDG_CONFIG_HOME", home / ".config"),
        state=_directory("XDG_STATE_HOME", home / ".local/state"),
        run=_directory("XDG_RUNTIME_DIR", PurePosixPath("/run/user", str(user.pw_uid))),
        groups=frozenset(_groups(user)),
        lingers=Path("/var/lib/systemd/linger", user.pw_name).exists(),
        controllers=_controllers(user.pw_uid),
        lowest_port=_lowest_port(),
    )


def _directory(variable: str, default: PurePosixPath) -> PurePosixPath:
    # XDG Base Directory Specification: a path that is not absolute is to be ignored.
    value = os.environ.get(variable, "")
    return PurePosixPath(value) if value.startswith("/") else default


def _groups(user: pwd.struct_passwd) -> Iterator[str]:
    for number in os.getgrouplist(user.pw_name, user.pw_gid):
        with contextlib.suppress(KeyError):
            yield grp.getgrgid(number).gr_name


def _controllers(uid: int) -> frozenset[str] | None:
    manager = Path(f"/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service")
    try:
        return frozenset((manager / "cgroup.controllers").read_text().split())
    except OSError:  # It does not run, or cgroups are those of version 1.
        return None


def _lowest_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def systemd_version() -> int | None:
    """Return the version of this host's systemd, supported or not."""
    return _systemd(_ask_systemd())


def nginx_version() -> Version | None:
    """Return the version of this host's nginx, supported or not."""
    return _nginx(_ask_nginx())


_Asked: TypeAlias = subprocess.Popen[str] | None


def _ask_systemd() -> _Asked:
    return _ask("systemctl", "--version")


def _systemd(asked: _Asked) -> int | None:
    match = re.match(r"systemd (\d+)", _answer(asked))
    return int(match[1]) if match else None


def _ask_nginx() -> _Asked:
    return _ask("nginx", "-v")


def _nginx(asked: _Asked) -> Version | None:
    match = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", _answer(asked))
    return tuple(map(int, match.groups())) if match else None


def haproxy_version() -> Version | None:
    """Return the version of this host's HAProxy, supported or not."""
    return _haproxy(_ask_haproxy())


def _ask_haproxy() -> _Asked:
    return _ask("haproxy", "-v")


def _haproxy(asked: _Asked) -> Version | None:
    match = re.search(r"HAProxy version (\d+)\.(\d+)\.(\d+)", _answer(asked))
    return tuple(map(int, match.groups())) if match else None


def _ask(name: str, *arguments: str) -> _Asked:
    path = program(name)
    if path is None:
        return None
    try:
        return subprocess.Popen(
            [path, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    except OSError:
        return None


def _answer(asked: _Asked) -> str:
    if asked is None:
        return ""
    with asked:
        try:
            return asked.communicate(timeout=_PATIENCE)[0]
        except subprocess.TimeoutExpired:
            asked.kill()
            return ""
