"""The machine: its systemd, limits of its kernel, memory and disk."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aiosystemd import probe
from aiosystemd.doctor.finding import Finding, append, command, then
from aiosystemd.doctor.subject import Subject, fault, fine, unseen
from aiosystemd.export import instance_names
from aiosystemd.host import OLDEST_SYSTEMD

_CGROUP: Final = Path("/sys/fs/cgroup")
_LEAST_FREE: Final = 1 << 20
"""Bytes on a disk; units, a site and their copies are less."""


def manager(s: Subject) -> Iterator[Finding]:
    """Look whether systemd is new enough, and runs."""
    version = probe.systemd_version()
    if version is None:
        yield fault("systemd", "is not installed", command("apt-get", "install", "systemd"))
    elif version < OLDEST_SYSTEMD:
        what = f"is version {version}; {OLDEST_SYSTEMD} is the oldest supported"
        yield fault("systemd", what, command("apt-get", "full-upgrade"))
    elif not s.systemd_runs:
        yield unseen(f"what runs: systemd {version} is installed, but not the first process of this machine")
    else:
        yield fine(f"systemd {version} runs")


def limits(s: Subject) -> Iterator[Finding]:
    """Look whether the kernel grants what the units ask for."""
    found = [*_sysctls(s), *_namespaces(s), *_controllers(s)]
    yield from found
    if not found:
        yield fine("the kernel grants backlog, open files, namespaces and limits")


def _sysctls(s: Subject) -> Iterator[Finding]:
    listen, service = s.deployment.listen, s.deployment.service
    for key, wanted, name in (
        (("listen", "backlog"), listen.backlog, "net.core.somaxconn"),
        (("service", "open_files"), service.open_files, "fs.nr_open"),
    ):
        limit = _number(_sysctl(name))
        if limit is not None and wanted > limit:
            what = f"{wanted} is more than the kernel allows: {name} is {limit}"
            yield s.warning(key, what, _set(s, name, wanted))


def _namespaces(s: Subject) -> Iterator[Finding]:
    name = "user.max_user_namespaces"
    if not s.deployment.sandbox.host_users and (_number(_sysctl(name)) or 0) == 0:
        # systemd.exec(5), PrivateUsers=: the service fails when it is asked for and cannot be had.
        what = f"the kernel allows no user namespaces ({name}): no instance would start"
        yield s.error(("sandbox", "host_users"), what, _set(s, name, 15_000))


def _set(s: Subject, name: str, value: int) -> str:
    file = f"/etc/sysctl.d/60-{s.deployment.name}.conf"
    return then(append(f"{name} = {value}", file), command("sysctl", f"--load={file}"))


def _controllers(s: Subject) -> Iterator[Finding]:
    service = s.deployment.service
    wanted = {
        "memory": ("memory_max", service.memory_max),
        "cpu": ("cpu_quota", service.cpu_quota),
        "pids": ("tasks_max", service.tasks_max),
    }
    there = read(_CGROUP / "cgroup.controllers").split()  # cgroups(7): v2 has this file
    for controller, (key, value) in wanted.items():
        if value is not None and controller not in there:
            # The boot loader's options decide it: bootparam(7), and systemd(1) for its own.
            what = f"is not in force: this machine has no {controller} controller of cgroup v2"
            mend = then(
                append(f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {_BOOT[controller]}"', "/etc/default/grub"),
                command("update-grub"),
                command("systemctl", "reboot"),
            )
            yield s.warning(("service", key), f"service.{key} {what}", mend)


_V2: Final = "systemd.unified_cgroup_hierarchy=1"
_BOOT: Final = {"memory": f"{_V2} cgroup_enable=memory", "cpu": _V2, "pids": _V2}


def memory(s: Subject) -> Iterator[Finding]:
    """Look whether the machine has the memory and the CPUs that all instances may use."""
    d = s.deployment
    count = len(instance_names(d, s.host))
    found = []
    total = _memory()
    if d.service.memory_max and total and count * d.service.memory_max > total:
        what = (
            f"{count} instances may use {count * d.service.memory_max >> 20} MiB, and this machine has "
            f"{total >> 20}: the kernel would kill what it likes before the limit is reached"
        )
        found.append(s.warning(("service", "memory_max"), what))
    if d.instances == "auto" and (quota := _quota()) and quota < s.host.cpus:
        what = f'"auto" means {s.host.cpus} instances here, where the container may use {quota:g} CPUs'
        found.append(s.warning(("instances",), what))
    yield from found
    if not found:
        yield fine(f"{count} instance{'s'[: count > 1]} on {s.host.cpus} CPUs and {total >> 20} MiB of memory")


def _memory() -> int:
    fields = dict(line.split(":") for line in read(Path("/proc/meminfo")).splitlines())
    return int(fields.get("MemTotal", "0").split()[0]) << 10


def _quota() -> float | None:
    quota, _, period = read(_CGROUP / "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() else None


def disks(s: Subject) -> Iterator[Finding]:
    """Look whether there is room where files go, and where instances keep their state."""
    directories = dict.fromkeys([*(str(path.parent) for path in s.build.tree), "/var/lib", "/run"])
    found = [finding for directory in directories for finding in _disk(directory)]
    yield from found
    if not found:
        yield fine(f"there is room in {', '.join(directories)}")


def _disk(directory: str) -> Iterator[Finding]:
    place = next(path for path in (Path(directory), *Path(directory).parents) if path.exists())
    mount = str(next(path for path in (place, *place.parents) if path.is_mount()))
    state = os.statvfs(place)
    if state.f_flag & os.ST_RDONLY:
        yield fault(directory, f"is read-only, on {mount}", command("mount", "--options", "remount,rw", mount))
    elif state.f_bavail * state.f_frsize < _LEAST_FREE:
        yield fault(directory, f"is full, on {mount}", command("du", "--one-file-system", "--human-readable", mount))
    elif state.f_files and not state.f_favail:
        yield fault(directory, f"has no room for another file, on {mount}", command("df", "--inodes", mount))


def _sysctl(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def _number(path: Path) -> int | None:
    text = read(path).strip()
    return int(text) if text.isdigit() else None


def read(path: Path) -> str:
    """Return the text of a file of the kernel's, "" where there is none or it may not be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
