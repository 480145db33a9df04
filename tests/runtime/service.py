"""An instance that is reloaded: its processes, its orders, and the command in ``ExecReload=``."""

import ctypes
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self, TypedDict

from aiosystemd import contract
from tests.runtime.lab import HERE, PATIENCE, PYTHON, RUNTIME, Client, Lab, Server, eventually

_PR_SET_CHILD_SUBREAPER = 36


class Who(TypedDict):
    """What `apps/release.py` tells about itself."""

    pid: int
    code: str
    arguments: list[str]
    directory: str
    prefix: str
    environment: dict[str, str]


class Orders:
    """A connection to the control socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, do: str, **more: object) -> dict[str, object]:
        """Return the reply to an order."""
        self.send(json.dumps({"do": do, **more}).encode())
        return self.hear()

    def send(self, packet: bytes) -> None:
        self.socket.send(packet)

    def hear(self) -> dict[str, object]:
        """Return the next message."""
        message: dict[str, object] = json.loads(self.socket.recv(1 << 20))
        return message

    def lost(self) -> bool:
        """Whether nothing but the end of the connection comes."""
        return self.socket.recv(1 << 20) == b""


@dataclass
class Reload:
    """The command in ``ExecReload=``, while it runs."""

    process: subprocess.Popen[str]

    def outcome(self) -> tuple[int, str]:
        """Return its exit status and what it said."""
        output, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output


@dataclass
class Service:
    """An instance with a runtime directory, and this process as the parent of its orphans, as PID 1 is."""

    lab: Lab
    arguments: tuple[str, ...]
    server: Server
    runtime: Path
    main: int
    """Process id of the main process at first."""
    reloads: list[Reload] = field(default_factory=list)

    def reload(
        self,
        environment: Mapping[str, str] | None = None,
        cwd: Path = HERE / "apps",
        python: Path = PYTHON,
        launcher: Sequence[str] = (),
    ) -> Reload:
        """Run ``ExecReload=``."""
        process = subprocess.Popen(
            [*launcher, str(python), *RUNTIME, "--reload", *self.arguments],
            cwd=cwd,
            env={**self.lab.variables(), "RUNTIME_DIRECTORY": str(self.runtime), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.reloads.append(Reload(process))
        return self.reloads[-1]

    def reloaded(self) -> int:
        """Reload and return the new main process."""
        assert self.reload().outcome() == (0, "")
        return self.who()["pid"]

    def is_now(self, code: str) -> None:
        """Say what the code is from now on."""
        (self.lab.path / "code").write_text(code)

    def client(self) -> Client:
        return self.server.client()

    def who(self) -> Who:
        """Return what a new connection leads to."""
        answer: Who = json.loads(self.server.ask("/who").body)
        return answer

    def orders(self) -> Orders:
        return Orders(self.runtime / contract.CONTROL)

    def status(self) -> dict[str, object]:
        with self.orders() as orders:
            return orders.ask("status")

    def hold(self, name: str) -> Client:
        """Return a client whose request is at work until ``NAME_release`` is released."""
        client = self.client()
        client.get(f"/hold/{name}")
        self.server.saw(f"{name}_begun")
        return client

    def new_process(self) -> int:
        """Wait for the process that a reload has started; return its id."""
        self.server.saw("holding")
        (new,) = self.server.processes() - {self.main}
        return new

    def becomes(self, *processes: int) -> None:
        """Wait until these processes are left, and no other."""
        eventually(lambda: self.server.processes() == set(processes))

    def close(self) -> None:
        for reload in self.reloads:
            if reload.process.poll() is None:
                os.killpg(reload.process.pid, signal.SIGKILL)
            reload.process.communicate()
        self.server.kill()


def ended(orphan: int) -> int:
    """Wait for a process that a reload has left to this one; return its exit status, or less the signal's number."""
    eventually(lambda: os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    return os.waitstatus_to_exitcode(os.waitpid(orphan, 0)[1])


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class MakeService(Protocol):
    """Starts `apps/release.py` on one inherited unix socket; further keywords are environment variables."""

    def __call__(
        self, *options: str, arguments: Sequence[str] = (), cwd: Path = ..., python: Path = ..., **environment: str
    ) -> Service: ...


def start(
    lab: Lab,
    *arguments: str,
    cwd: Path = HERE / "apps",
    python: Path = PYTHON,
    own_socket: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Service:
    """Start an instance as systemd does and wait until it serves; with ``own_socket``, ``arguments`` name it."""
    runtime = lab.path / "runtime"
    runtime.mkdir(0o700)
    server = lab.run(
        *arguments,
        listeners=[] if own_socket else [lab.unix()],
        cwd=cwd,
        python=python,
        environment={"RUNTIME_DIRECTORY": str(runtime), **(environment or {})},
    ).ready()
    return Service(lab, arguments, server, runtime, server.process.pid)


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """Be the parent of orphans, prctl(2)."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        assert prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0
        with suppress(ChildProcessError):
            while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG):
                pass
