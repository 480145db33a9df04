"""Unit files read back by systemd itself: by its checker, and by a manager that runs them."""

import re
import subprocess
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiosystemd.render.unit import UnitFile, command, environment, raw
from tests.tools import require, require_root

_REPORT = r"""
cat /proc/$$/cmdline >"$REPORT/cmdline"
cat /proc/$$/environ >"$REPORT/environ"
readlink -n /proc/$$/cwd >"$REPORT/directory"
[ -z "${CREDENTIALS_DIRECTORY-}" ] || cat "$CREDENTIALS_DIRECTORY"/* >"$REPORT/credentials"
"""

# Own process ids, mounts and control group: the manager sees nothing of this machine and leaves nothing behind.
_MANAGER = r"""
set -e
mount -t cgroup2 none /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$1"
echo 0 >"/sys/fs/cgroup/$1/cgroup.procs"
unshare --cgroup --pid --fork --mount --mount-proc sh -c '
    mount --bind "/sys/fs/cgroup/$1" /sys/fs/cgroup
    mount -t tmpfs none /run
    mkdir -p /run/systemd/system /run/runtime
    mount --make-rshared /  # or credentials, mounted by a helper of the manager, would not reach the service
    timeout --kill-after=1 20 "$2" --user --unit=report.service --log-target=console || exit $?
' sh "$1" "$2" || status=$?
echo 0 >/sys/fs/cgroup/cgroup.procs
find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} +
exit ${status-0}
"""


def dump(directory: Path, units: Mapping[str, UnitFile]) -> dict[str, dict[str, list[str]]]:
    """Let systemd-analyze check ``units``, without a word of complaint, and return what it read from them.

    The result maps each unit to its properties, each with the values in order, as the manager's dump shows them.
    """
    for name, unit in units.items():
        (directory / name).write_text(unit.render(), newline="")
    quiet = _analyze(directory, units)
    said = quiet.stdout + quiet.stderr
    assert (said, quiet.returncode) == (b"", 0), said.decode()
    return _properties(_analyze(directory, units, SYSTEMD_LOG_LEVEL="debug").stdout.decode())


def _analyze(directory: Path, units: Mapping[str, UnitFile], **variables: str) -> subprocess.CompletedProcess[bytes]:
    checker = (require("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no")
    return subprocess.run(
        (*checker, *(name.replace("@.", "@an-instance.") for name in units)),
        env={"SYSTEMD_UNIT_PATH": str(directory), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"} | variables,
        capture_output=True,
        check=False,
        timeout=60,
    )


def _properties(text: str) -> dict[str, dict[str, list[str]]]:
    units: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    unit = ""
    for line in text.split("\n"):
        if found := re.fullmatch(r"\t(?:->|→) Unit (.*):", line):
            unit = found[1]
        elif found := re.fullmatch(r"\t{2,3}([A-Za-z ]+): (.*)", line):
            units[unit][found[1]].append(found[2])
    return units


def unescape(value: str) -> str:
    """Undo the C escapes of a dumped value, some of which stand for bytes of UTF-8."""
    return re.sub(rb"\\(x[0-9a-f]{2}|[0-7]{3}|.)", _unescaped, value.encode()).decode()


def _unescaped(found: re.Match[bytes]) -> bytes:
    named = dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True))
    escape = found[1]
    if escape[:1] == b"x":
        return bytes((int(escape[1:], 16),))
    if escape.isdigit():
        return bytes((int(escape, 8),))
    return bytes((named.get(escape[0], escape[0]),))


def split(line: str) -> list[str]:
    """Split a dumped command line into its arguments."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|([^ ]+)', line)
    return [bare or unescape(quoted) for quoted, bare in found]


@dataclass(frozen=True, slots=True)
class Report:
    """What a service saw of itself."""

    argv: list[str]
    environ: dict[str, str]
    directory: str
    credentials: str


def run(scratch: Path, service: UnitFile, argv: tuple[str, ...], *, sockets: UnitFile | None = None) -> Report:
    """Start ``service`` as ``argv`` by a systemd of its own, and return what it saw; ``argv[0]`` must be a shell."""
    require_root()
    for action in ("SuccessAction", "FailureAction"):
        service.add("Unit", action, raw("exit-force"))
    service.add("Service", "Type", raw("oneshot"))
    service.add("Service", "Environment", environment("REPORT", str(scratch)))
    service.add("Service", "ExecStart", command((argv[0], "-c", _REPORT, *argv[1:])))
    units = {"report.service": service}
    if sockets:
        service.add("Unit", "Requires", raw("report.socket"))
        units["report.socket"] = sockets
    for name, unit in units.items():
        # The targets that units want by default are not here: the scratch directory is all that is searched.
        unit.add("Unit", "DefaultDependencies", raw("no"))
        (scratch / name).write_text(unit.render(), newline="")
    _manage(scratch)
    return _read(scratch)


def _manage(scratch: Path) -> None:
    name = f"aiosystemd-test-{uuid.uuid4().hex}"
    done = subprocess.run(
        (require("unshare"), "--mount", "sh", "-c", _MANAGER, "sh", name, require("systemd")),
        env={"SYSTEMD_UNIT_PATH": str(scratch), "XDG_RUNTIME_DIR": "/run/runtime", "PATH": "/usr/bin:/bin:/sbin"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    said = done.stdout + done.stderr
    assert (said, done.returncode) == (b"", 0), said.decode() or f"exit status {done.returncode}"


def _read(scratch: Path) -> Report:
    def content(name: str) -> str:
        file = scratch / name
        return file.read_bytes().decode() if file.exists() else ""

    argv = content("cmdline").removesuffix("\0").split("\0")
    environ = (entry.partition("=") for entry in content("environ").split("\0"))
    return Report(
        argv=[argv[0], *argv[3:]],
        environ={name: value for name, _, value in environ},
        directory=content("directory"),
        credentials=content("credentials"),
    )
