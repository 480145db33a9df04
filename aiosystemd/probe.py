"""The only asker: finds out about the machine that this program runs on."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from aiosystemd.host import OLDEST_NGINX, OLDEST_SYSTEMD, Host

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def probe(systemd: int | None = None, nginx: tuple[int, ...] | None = None) -> Host:
    """Return the facts of this host; ``systemd`` and ``nginx`` are versions to assume in place of its own.

    A program that is not installed counts as the oldest version supported.
    """
    return Host(
        systemd=systemd or max(systemd_version() or 0, OLDEST_SYSTEMD),
        nginx=nginx or max(nginx_version() or (), OLDEST_NGINX),
        cpus=len(os.sched_getaffinity(0)),
        ipv6=Path("/proc/net/if_inet6").exists(),
    )


def program(name: str) -> str | None:
    """Return the path of a program, also of an administrator's one that a user's ``$PATH`` leaves out."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


def _output(name: str, *arguments: str) -> str:
    path = program(name)
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def systemd_version() -> int | None:
    """Return the version of this host's systemd, supported or not."""
    match = re.match(r"systemd (\d+)", _output("systemctl", "--version"))
    return int(match[1]) if match else None


def nginx_version() -> tuple[int, ...] | None:
    """Return the version of this host's nginx, supported or not."""
    match = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", _output("nginx", "-v"))
    return tuple(map(int, match.groups())) if match else None
