"""What is made of what ``systemctl show`` prints."""

import os
import stat
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aiosystemd import systemctl
from aiosystemd.rollout.instance import in_order, loaded, look
from aiosystemd.systemctl import SystemctlError

SHOWN = """\
MainPID=76
NRestarts=2
MemoryCurrent=[not set]
MemoryMax=104857600
EnvironmentFiles=/srv/e v.env (ignore_errors=no)
EnvironmentFiles=/srv/e2.env (ignore_errors=yes)
EnvironmentFiles=/srv/glob*.env (ignore_errors=yes)
Id=t@1.service
LoadState=loaded
ActiveState=active
SubState=running
Result=success
FragmentPath=/etc/systemd/system/t@.service
DropInPaths="/etc/systemd/system/t@.service.d/a b.conf" /etc/systemd/system/t@.service.d/c.conf
InactiveExitTimestamp={realtime}
InactiveExitTimestampMonotonic={monotonic}
CanReload=yes
NeedDaemonReload=no

MemoryMax=infinity
Id=t@1.socket
LoadState=loaded
ActiveState=active
SubState=listening
FragmentPath=/etc/systemd/system/t@.socket
DropInPaths=
InactiveExitTimestamp=
InactiveExitTimestampMonotonic=0
CanReload=no
NeedDaemonReload=yes

Id=t@2.service
LoadState=not-found
ActiveState=inactive
SubState=dead
Result=success
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a ``systemctl`` that prints the file ``shown`` there, which systemd 252 and 257 could."""
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\ncat {tmp_path}/shown\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def show(fake: Path, started: float, *, boot: float | None = None) -> None:
    """Let a unit have been started at a time of day, and that many seconds after the boot."""
    realtime = datetime.fromtimestamp(started, UTC).strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")
    since_boot = time.monotonic() - (time.time() - started) if boot is None else boot
    (fake / "shown").write_text(SHOWN.format(realtime=realtime, monotonic=int(since_boot * 1_000_000)))


def test_instances_are_read(fake: Path) -> None:
    started = time.time() - 1000
    show(fake, started)
    found = look("t", ["1", "2"])
    arguments = (fake / "arguments").read_text().split()
    assert arguments[-4:] == ["t@1.service", "t@1.socket", "t@2.service", "t@2.socket"]
    one, two = found["1"], found["2"]
    assert (one.pid, one.restarts, one.reloads, one.memory_max, one.memory) == (76, 2, True, 100 << 20, None)
    assert one.environment_files == (
        (Path("/srv/e v.env"), True),
        (Path("/srv/e2.env"), False),
        (Path("/srv/glob*.env"), False),
    )
    drop_ins = Path("/etc/systemd/system/t@.service.d")
    assert one.service.files == (Path("/etc/systemd/system/t@.service"), drop_ins / "a b.conf", drop_ins / "c.conf")
    assert abs(one.service.started - started) < 0.01
    assert (one.socket.stale, one.socket.started, one.service.stale) == (True, 0.0, False)
    assert (one.runs, one.sleeps, one.condition) == (True, False, "active (running)")
    assert (two.service.load, two.socket.load, two.pid, two.runs, two.sleeps) == ("not-found",) * 2 + (0, False, False)


@pytest.mark.parametrize("step", [3600, -3600])
def test_clock_that_was_set_does_not_hide_a_change(fake: Path, step: float) -> None:
    """Of the time of day as it was noted, and as it is by the clock that nobody sets, the earlier one counts."""
    now = time.time()
    show(fake, now - 100 - step, boot=time.monotonic() - 100)
    assert look("t", ["1"])["1"].service.started < now - 99.9


def test_instances_beyond_the_file_are_found(fake: Path) -> None:
    (fake / "shown").write_text("Id=t@1.service\n\nId=t@blue.service\n\nId=t@1.socket\n\nId=tt@3.service\n")
    assert loaded("t") == ("1", "blue")
    (fake / "shown").write_text("")
    assert loaded("t") == ()


def test_order_is_that_of_numbers() -> None:
    assert in_order(["10", "2", "blue", "1", "2", "b"]) == ("1", "2", "10", "b", "blue")


def test_failure_is_told_with_the_command_in_systemctls_own_words(fake: Path) -> None:
    (fake / "systemctl").write_text("#!/bin/sh\necho 'Unit x is masked.' >&2\necho more >&2\nexit 4\n")
    with pytest.raises(SystemctlError, match=r"^systemctl restart x: Unit x is masked\.$"):
        systemctl.run("restart", "--quiet", "x")
    (fake / "systemctl").write_text("#!/bin/sh\nexit 4\n")
    with pytest.raises(SystemctlError, match=r"^systemctl restart x: failed with status 4$"):
        systemctl.run("restart", "x")
