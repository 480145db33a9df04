"""A Debian machine with a real systemd as its PID 1, booted by systemd-nspawn on a throw-away overlay."""

import ctypes
import errno
import io
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

BOOT_SECONDS: Final = 60.0
_CLONE_FS: Final = 0x200
_LIBC: Final = ctypes.CDLL(None, use_errno=True)  # os.setns() and os.unshare() are new in Python 3.12
_T = TypeVar("_T")
_SIGRTMIN_HALT: Final = signal.SIGRTMIN + 4
"""systemd(1): asks PID 1 to power off."""

# Arguments: the overlay's options, its mount point, then the cgroups to enter, "--", and the program.
_LAUNCH: Final = """
    set -e
    mount -t overlay overlay -o "$1" "$2"
    shift 2
    while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done
    shift
    exec "$@"
"""


class Response(NamedTuple):
    """An HTTP response, read to its end; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class BootError(Exception):
    """The machine did not come up; the message has what its console said."""


class Machine:
    """A machine over the trees ``lower`` (topmost first), which are never written to.

    Entering it boots it; leaving it ends its processes and mounts, also after a failure or an interrupt.
    """

    def __init__(self, *lower: Path) -> None:
        self._lower = lower
        # Not under a temporary directory that may itself be an overlay, on which overlayfs does not stack; and its
        # name is the machine's, in which mkdtemp()'s underscores are not allowed.
        self._directory = Path("/var/tmp", f"machine-{secrets.token_hex(4)}")  # noqa: S108 - made below, must not exist
        self._cgroups: list[Path] = []
        self._container: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Self:
        try:
            for name in ("", "upper", "work", "tree"):
                (self._directory / name).mkdir()
            self._cgroups = _make_cgroups(self._directory.name)
            self.boot()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean()

    @property
    def root(self) -> Path:
        """The machine's ``/`` as a path of this host, while it runs."""
        return Path(f"/proc/{self._init}/root")

    def boot(self) -> None:
        """Start the machine and wait until every start job has ended, well or not.

        Raises `BootError`.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            path = self._directory / "notify"
            path.unlink(missing_ok=True)
            notify.bind(str(path))
            with (self._directory / "console").open("wb") as console:
                self._container = subprocess.Popen(
                    self._command(),
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    env=_environment(path),
                    start_new_session=True,  # an interrupt at the terminal is ours to handle, in order
                )
            self._init = self._await_ready(notify)
        self.run("systemctl", "is-system-running", "--wait", check=False)

    def poweroff(self) -> None:
        """Shut the machine down in order and wait for its end; its files stay for the next `boot`."""
        assert self._container
        os.kill(self._init, _SIGRTMIN_HALT)
        self._container.wait(BOOT_SECONDS)

    def reboot(self) -> None:
        self.poweroff()
        self.boot()

    def run(self, *argv: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program in the machine as root and wait for it.

        Raises `subprocess.CalledProcessError`, with the program's output in its note, if ``check`` and it fails.
        """
        done = subprocess.run(self._enter(argv), input=stdin, capture_output=True, text=True, check=False)
        if check and done.returncode:
            error = subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
            error.add_note(f"{done.stdout}{done.stderr}")
            raise error
        return done

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program in the machine as root; its output is to be read by the caller, its end awaited too."""
        return subprocess.Popen(
            self._enter(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def kill(self, signal: str, *pids: int) -> None:
        """Send these processes a signal, by its name without ``SIG``, all in the same moment."""
        self.run("sh", "-c", f"kill -{signal} {' '.join(map(str, pids))}")

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        """Return what systemctl printed, without the last newline."""
        return self.run("systemctl", *arguments, check=check).stdout.rstrip("\n")

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return the unit's properties as systemctl shows them."""
        names = [f"--property={name}" for name in properties]
        lines = self.systemctl("show", *names, "--", unit).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def limit_memory(self, unit: str) -> Callable[[], int]:
        """Put ``MemoryMax=`` of a unit in force for the main process that it has now, and for that one's children.

        systemd in the machine does it by itself where the host's memory controller is one of cgroup v2. Where it is
        one of v1, out of the machine's reach, the process goes into a cgroup of v1 with the same limit.

        Returns:
            A function that counts the processes that the kernel killed because of it.

        """
        shown = self.show(unit, "MemoryMax", "MainPID", "ControlGroup")
        if self.run("test", "-e", f"/sys/fs/cgroup{shown['ControlGroup']}/memory.max", check=False).returncode == 0:
            return lambda: self.journal(unit).count("killed by the OOM killer")
        cgroup = _make_memory_cgroup(f"{self._directory.name}-{secrets.token_hex(2)}")
        self._cgroups.append(cgroup)
        (cgroup / "memory.limit_in_bytes").write_text(shown["MemoryMax"])
        (cgroup / "cgroup.procs").write_text(str(self._outside(int(shown["MainPID"]))))
        return lambda: _oom_kills(cgroup)

    def _outside(self, pid: int) -> int:
        """Return what this host calls the process that the machine calls ``pid``."""
        namespace = Path(f"/proc/{self._init}/ns/pid").readlink()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                inner = re.search(r"^NSpid:.*\t(\d+)$", (process / "status").read_text(), re.MULTILINE)
                if inner and int(inner[1]) == pid and (process / "ns/pid").readlink() == namespace:
                    return int(process.name)
        raise ProcessLookupError(pid)

    def journal(self, unit: str | None = None, priority: str | None = None) -> str:
        """Return this boot's messages, one a line, without time and sender."""
        chosen = [*(("--unit", unit) if unit else ()), *(("--priority", priority) if priority else ())]
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--boot", "--quiet", "--no-pager", "--output=cat", *chosen).stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, with its directories."""

        def write() -> None:
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            target.chmod(mode)

        _within(self._init, write)

    def read(self, path: str) -> str:
        return _within(self._init, lambda: Path(path).read_text(encoding="utf-8"))

    def copy(self, source: Path, path: str) -> None:
        """Copy a file or a directory of the host to ``path``, which is its new name; root will own it."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(source, path.lstrip("/"), filter=_owned_by_root)
        extract = self._enter(("tar", "--extract", "--directory=/"))
        subprocess.run(extract, input=archive.getvalue(), capture_output=True, check=True)

    def connect(self, *, unix: str | None = None, port: int = 80) -> socket.socket:
        """Return a connection to a listener in the machine: the unix socket at that path, or 127.0.0.1 and the port."""
        connection, address = (
            (socket.socket(socket.AF_UNIX), unix)
            if unix
            else (_within(self._init, lambda: socket.socket(socket.AF_INET)), ("127.0.0.1", port))
        )
        try:
            _within(self._init, lambda: connection.connect(address))
        except BaseException:
            connection.close()
            raise
        return connection

    def http(  # noqa: PLR0913 - an HTTP request has that many parts
        self,
        path: str = "/",
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        unix: str | None = None,
        port: int = 80,
        timeout: float = 30.0,
    ) -> Response:
        """Send one request on a connection of its own; see `connect` for ``unix`` and ``port``."""
        connection = HTTPConnection("localhost")
        connection.sock = self.connect(unix=unix, port=port)
        connection.sock.settimeout(timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, found, response.read())
        finally:
            connection.close()

    def _enter(self, argv: Sequence[str]) -> tuple[str, ...]:
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        clean = ("/usr/bin/env", "-i", path, "LC_ALL=C.UTF-8", "HOME=/root", "TERM=dumb")
        return ("nsenter", f"--target={self._init}", "--all", "--root", "--wd", *clean, *argv)

    def _command(self) -> tuple[str, ...]:
        directory = self._directory
        lower = ":".join(map(str, self._lower))
        layers = f"lowerdir={lower},upperdir={directory / 'upper'},workdir={directory / 'work'}"
        # Mounted in a namespace of its own, which ends with the container: no mount is ever left behind.
        # If we are killed, the signal makes systemd-nspawn shut the machine down in order.
        launch = ("unshare", "--mount", "--propagation=private", "setpriv", "--pdeathsig=TERM")
        tree = str(directory / "tree")
        cgroups = map(str, self._cgroups)
        shell = ("sh", "-c", _LAUNCH, "sh", layers, tree, *cgroups, "--")
        return (*launch, *shell, *_nspawn(tree, directory.name))

    def _await_ready(self, notify: socket.socket) -> int:
        """Return PID 1 of the machine, as systemd-nspawn(1) with --notify-ready= tells it at the end of the boot."""
        assert self._container
        notify.settimeout(0.2)
        leader = 0
        end = time.monotonic() + BOOT_SECONDS
        while self._container.poll() is None and time.monotonic() < end:
            with suppress(TimeoutError):
                fields = dict(line.partition("=")[::2] for line in notify.recv(4096).decode().splitlines())
                leader = int(fields.get("X_NSPAWN_LEADER_PID", leader))
                if leader and fields.get("READY") == "1":
                    return leader
        raise BootError((self._directory / "console").read_text(errors="replace"))

    def _clean(self) -> None:
        for cgroup in self._cgroups:
            if (kill := cgroup / "cgroup.kill").exists():  # cgroups(7) v2
                # Its PID 1 outlives systemd-nspawn; this ends all that is in there, in every namespace.
                kill.write_text("1")
        if self._container:
            self._container.kill()
            self._container.wait()
        for cgroup in self._cgroups:
            _remove_cgroup(cgroup)
        shutil.rmtree(self._directory, ignore_errors=True)


def _nspawn(tree: str, name: str) -> tuple[str, ...]:
    return (
        "systemd-nspawn",
        "--quiet",
        f"--directory={tree}",
        f"--machine={name}",
        "--private-network",
        "--register=no",
        "--keep-unit",
        "--notify-ready=yes",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        # IPAddressDeny=, DevicePolicy= and SocketBindDeny= are BPF programs on cgroups.
        "--system-call-filter=bpf",
        "--boot",
    )


def _environment(notify: Path) -> dict[str, str]:
    # Debian 12 and 13 boot with cgroup v2 alone; on a host that still has v1 too, nspawn must be told.
    return {
        "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
        "NOTIFY_SOCKET": str(notify),
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    }


def _make_cgroups(name: str) -> list[Path]:
    """Make a cgroup for the machine in each hierarchy that a systemd manages.

    Two containers started from one cgroup would share the cgroups of their units.
    """
    made = []
    for mount in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = mount.split(" - ")
        if after.startswith("cgroup2 ") or ("name=systemd" in after and after.startswith("cgroup ")):
            cgroup = Path(before.split()[4]) / name
            cgroup.mkdir()
            made.append(cgroup)
    return made


def _make_memory_cgroup(name: str) -> Path:
    for mount in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = mount.split(" - ")
        if after.startswith("cgroup ") and "memory" in after.split()[-1].split(","):
            cgroup = Path(before.split()[4]) / name
            cgroup.mkdir()
            return cgroup
    raise BootError("no cgroup limits memory here")


def _oom_kills(cgroup: Path) -> int:
    fields = dict(line.split() for line in (cgroup / "memory.oom_control").read_text().splitlines())
    return int(fields["oom_kill"])


def _remove_cgroup(top: Path) -> None:
    end = time.monotonic() + BOOT_SECONDS
    for directory, _, _ in os.walk(top, topdown=False):
        # Killed processes leave a cgroup a moment after they were waited for.
        while not _rmdir(directory):
            if time.monotonic() > end:
                raise TimeoutError(f"{directory} still has processes")
            time.sleep(0.01)


def _rmdir(directory: str) -> bool:
    with suppress(FileNotFoundError):
        try:
            Path(directory).rmdir()
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
    return True


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _within(process: int, call: Callable[[], _T]) -> _T:
    """Call a function in the mount and network namespaces of ``process``, where a path means what it means there.

    Through ``/proc/PID/root`` an absolute symbolic link of the machine would lead into this host.
    """

    def enter() -> _T:
        # setns(2): a thread that shares its working directory with others may not change its mount namespace.
        _check(_LIBC.unshare(_CLONE_FS))
        for kind in ("net", "mnt"):
            with Path(f"/proc/{process}/ns/{kind}").open() as namespace:
                _check(_LIBC.setns(namespace.fileno(), 0))
        return call()

    # A thread of its own for each call: it has left our namespaces, and ends with the pool.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(enter).result()


def _check(failed: int) -> None:
    if failed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
