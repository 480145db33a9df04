"""Limits, memory and disks of this machine, and of those that a directory of the kernel's files stands for."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from aiosystemd.doctor import confinement, identity, machine
from aiosystemd.doctor.subject import Subject
from aiosystemd.host import Host
from tests.doctor.hosts import editor, nothing_installed, says, seen_by_root, stand_in, subject, told
from tests.unprivileged import NOBODY, open_to_others, unprivileged


@pytest.mark.parametrize(
    ("version", "systemd", "expected"),
    [
        (249, True, ("error", "is version 249; 252 is the oldest supported", "apt-get full-upgrade")),
        (257, True, ("fine", "systemd 257 runs", "")),
        (
            *(257, False),
            ("unseen", "what runs: systemd 257 is installed, but not the first process of this machine", ""),
        ),
    ],
)
def test_systemd_of_some_version(
    *, version: int, systemd: bool, expected: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_by_root(monkeypatch, systemd=systemd)
    stand_in(tmp_path, monkeypatch, "systemctl", says(f"systemd {version} ({version}.1-1)\n+PAM +AUDIT"))
    assert list(map(told, machine.manager(subject(tmp_path)))) == [expected]


def test_host_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_installed(tmp_path, monkeypatch)
    (finding,) = machine.manager(subject(tmp_path))
    assert told(finding) == ("error", "is not installed", "apt-get install systemd")
    assert str(finding) == "systemd: error: is not installed"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory that stands for the kernel's files, of a machine that grants everything."""
    directory = tmp_path / "kernel"
    directory.mkdir()
    for name, value in (("net.core.somaxconn", 4096), ("fs.nr_open", 1048576), ("user.max_user_namespaces", 1000)):
        (directory / name).write_text(f"{value}\n")
    (directory / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    monkeypatch.setattr(machine, "_sysctl", lambda name: directory / name)
    monkeypatch.setattr(machine, "_CGROUP", directory)
    return directory


_LIMITED = 'service = { memory_max = "1G", cpu_quota = 50, tasks_max = 100 }\n'


def test_kernel_that_grants_everything_is_fine(kernel: Path, tmp_path: Path) -> None:
    expected = ("fine", "the kernel grants backlog, open files, namespaces and limits", "")
    assert list(map(told, machine.limits(subject(tmp_path, _LIMITED)))) == [expected]
    (kernel / "net.core.somaxconn").unlink()  # as in a container that hides it
    assert list(map(told, machine.limits(subject(tmp_path)))) == [expected]


def test_limits_of_the_kernel_are_those_of_proc() -> None:
    shown = Path("/proc/sys/fs/nr_open").read_text().strip()
    assert machine._number(machine._sysctl("fs.nr_open")) == int(shown)


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [("listen.backlog", 4097, "net.core.somaxconn"), ("service.open_files", 1048577, "fs.nr_open")],
)
def test_more_than_the_kernel_allows(key: str, value: int, name: str, kernel: Path, tmp_path: Path) -> None:
    (finding,) = machine.limits(subject(tmp_path, f"{key} = {value}\n"))
    limit = (kernel / name).read_text().strip()
    file = "/etc/sysctl.d/60-shop.conf"
    mend = f"echo '{name} = {value}' >> {file} && sysctl --load={file}"
    assert told(finding) == ("warning", f"{value} is more than the kernel allows: {name} is {limit}", mend)
    assert finding.at
    assert finding.at.line == 3


def test_kernel_without_user_namespaces(kernel: Path, tmp_path: Path) -> None:
    (kernel / "user.max_user_namespaces").write_text("0\n")
    name, file = "user.max_user_namespaces", "/etc/sysctl.d/60-shop.conf"
    what = f"the kernel allows no user namespaces ({name}): no instance would start"
    mend = f"echo '{name} = 15000' >> {file} && sysctl --load={file}"
    assert list(map(told, machine.limits(subject(tmp_path)))) == [("error", what, mend)]
    without = subject(tmp_path, "sandbox.host_users = true\n")
    assert [each.severity for each in machine.limits(without)] == ["fine"]


def test_limits_without_their_controllers(kernel: Path, tmp_path: Path) -> None:
    (kernel / "cgroup.controllers").write_text("cpuset\n")
    v2 = "systemd.unified_cgroup_hierarchy=1"
    grub = "/etc/default/grub && update-grub && systemctl reboot"
    boot = "echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {}\"' >> " + grub
    missing = "service.{} is not in force: this machine has no {} controller of cgroup v2"
    assert list(map(told, machine.limits(subject(tmp_path, _LIMITED)))) == [
        ("warning", missing.format("memory_max", "memory"), boot.format(f"{v2} cgroup_enable=memory")),
        ("warning", missing.format("cpu_quota", "cpu"), boot.format(v2)),
        ("warning", missing.format("tasks_max", "pids"), boot.format(v2)),
    ]


@pytest.mark.usefixtures("kernel")
def test_more_memory_than_the_machine_has(tmp_path: Path) -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    s = subject(tmp_path, 'instances = 3\nservice.memory_max = "1T"\n')
    what = (
        f"3 instances may use {3 << 20} MiB, and this machine has {total}: "
        "the kernel would kill what it likes before the limit is reached"
    )
    assert list(map(told, machine.memory(s))) == [("warning", what, editor(s, 4))]
    enough = subject(tmp_path, 'instances = 1\nservice.memory_max = "1M"\n', Host(cpus=2))
    assert list(map(told, machine.memory(enough))) == [("fine", f"1 instance on 2 CPUs and {total} MiB of memory", "")]


def test_cpus_that_a_container_may_not_use(kernel: Path, tmp_path: Path) -> None:
    (kernel / "cpu.max").write_text("100000 100000\n")
    s = subject(tmp_path, 'instances = "auto"\n', Host(cpus=4))
    what = '"auto" means 4 instances here, where the container may use 1 CPUs'
    assert list(map(told, machine.memory(s))) == [("warning", what, editor(s, 3))]


def test_room_on_the_disks_is_fine(tmp_path: Path) -> None:
    (finding,) = machine.disks(subject(tmp_path))
    assert (finding.severity, finding.what.partition(" /")[0]) == ("fine", "there is room in")
    assert finding.what.endswith("/var/lib, /run")


_FULL: tuple[tuple[dict[str, int], Callable[[str], str], Callable[[str], str]], ...] = (
    ({"flag": os.ST_RDONLY}, lambda m: f"is read-only, on {m}", lambda m: f"mount --options remount,rw {m}"),
    ({"bavail": 255}, lambda m: f"is full, on {m}", lambda m: f"du --one-file-system --human-readable {m}"),
    ({"favail": 0}, lambda m: f"has no room for another file, on {m}", lambda m: f"df --inodes {m}"),
)


@pytest.mark.parametrize(("changed", "what", "mend"), _FULL)
def test_disk_that_takes_nothing_more(
    changed: dict[str, int],
    what: Callable[[str], str],
    mend: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"bsize": 4096, "frsize": 4096, "blocks": 9999, "bfree": 9999, "bavail": 256}
    values |= {"files": 99, "ffree": 99, "favail": 99, "flag": 0, "namemax": 255, **changed}
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values.values()))
    directory = str(tmp_path / "none/yet")
    mount = subprocess.run(("stat", "-c", "%m", tmp_path), check=True, capture_output=True, text=True).stdout.strip()
    (finding,) = machine._disk(directory)
    assert told(finding) == ("error", what(mount), mend(mount))
    assert str(finding) == f"{directory}: error: {what(mount)}"
    assert {each.severity for each in machine.disks(subject(tmp_path))} == {"error"}


def _confined(s: Subject) -> list[tuple[str, str, str]]:
    return [told(finding) for finding in confinement.confinement(s)]


def test_confinement_of_nginx_is_not_looked_at_without_nginx(tmp_path: Path) -> None:
    assert not _confined(subject(tmp_path, 'proxy.kind = "none"\n'))


def test_only_root_may_see_the_profiles_of_apparmor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = tmp_path / "profiles"
    profiles.write_text("nginx (enforce)\n")
    profiles.chmod(0)
    monkeypatch.setattr(confinement, "_APPARMOR", profiles)
    s = subject(tmp_path)
    expected = [("unseen", "whether AppArmor confines nginx: only root may see its profiles", "")]
    assert unprivileged(lambda: _confined(s)) == expected
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert _confined(s) == expected


def test_connections_to_ports_that_selinux_does_not_let_nginx_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "enforce").write_text("1\n")
    monkeypatch.setattr(confinement, "_SELINUX", tmp_path / "enforce")
    monkeypatch.setattr(confinement, "_APPARMOR", tmp_path / "none")
    s = subject(tmp_path, "listen.port = 9000\n")
    for answer in ("off", "on"):
        stand_in(tmp_path, monkeypatch, "getsebool", says(f"$1 --> {answer}"))
        what = "SELinux is enforcing, and does not let nginx connect to TCP ports"
        refused = [("error", what, "setsebool -P httpd_can_network_connect on")]
        allowed = [("fine", "neither SELinux nor AppArmor keeps nginx from the instances", "")]
        assert _confined(s) == (allowed if answer == "on" else refused)


def test_users_and_groups_are_those_of_the_host(tmp_path: Path) -> None:
    s = subject(tmp_path, 'service = { user = "daemon", group = "nosuchgroup", groups = ["mail", "nosuchgroup"] }\n')
    found = identity.of_service(s.deployment)
    daemon = identity.Identity.of_user("daemon")
    mail = identity.Identity.of_user("daemon", "mail").gid
    assert (found.uid, found.gid, found.groups) == (daemon.uid, daemon.gid, (*daemon.groups, mail))
    unknown = identity.of_service(subject(tmp_path, 'service.user = "nosuchuser"\n').deployment)
    assert (unknown.name, unknown.uid, unknown.gid) == ("nosuchuser", NOBODY, NOBODY)
    assert identity.exists_statically("daemon")
    assert not identity.exists_statically("nosuchuser")


def test_what_a_user_may_do_is_tried(tmp_path: Path) -> None:
    open_to_others(tmp_path)
    user = identity.Identity("me", os.getuid(), os.getgid()) if os.geteuid() else identity.Identity.of_user("daemon")
    assert user.can_be_taken
    (tmp_path / "closed").mkdir(mode=0)
    assert user.may("-d", str(tmp_path / "closed"))
    assert not user.may("-x", str(tmp_path / "closed"))
    assert user.blocked(str(tmp_path / "closed/inside")) == str(tmp_path / "closed")
    assert user.blocked(str(tmp_path), read=True) is None
