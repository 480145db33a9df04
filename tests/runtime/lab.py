"""A service manager, a server in a process of its own, and clients that send byte by byte."""

import array
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PYTHON = Path(sys.executable)
RUNTIME = ["-W", "error", "-m", "aiosystemd.runtime"]
PATIENCE = 30.0
"""Seconds after which something that must happen is taken not to happen; no measure of speed."""


def eventually(happened: Callable[[], object]) -> None:
    """Wait until ``happened()`` is true."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


class Manager:
    """The service manager's end of ``NOTIFY_SOCKET``.

    It reads at once, in a thread, as systemd does: ten unread datagrams (net.unix.max_dgram_qlen) block the sender.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[str] = []
        self.senders: list[int] = []
        """Process id of the sender of each message."""
        self.descriptors: list[int] = []
        self.slow = False
        """Whether a BARRIER=1 waits until `catch_up` is called."""
        self._barriers: list[int] = []
        self._seen = 0
        self._arrived = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        # An empty datagram, which sd_notify() never sends, ends the thread.
        while (received := self._socket.recvmsg(65536, 1024, socket.MSG_CMSG_CLOEXEC))[0]:
            message, control = received[0].decode(), {kind: data for _, kind, data in received[1]}
            with self._arrived:
                self.messages.append(message)
                self.senders.append(struct.unpack("3i", control[socket.SCM_CREDENTIALS])[0])
                fds = array.array("i", control.get(socket.SCM_RIGHTS, b""))
                (self._barriers if message == "BARRIER=1" else self.descriptors).extend(fds)
                self._arrived.notify_all()
            if not self.slow:
                self.catch_up()

    def catch_up(self) -> None:
        """Close the descriptors that came with BARRIER=1, sd_notify(3): all that was sent before is known."""
        while self._barriers:
            os.close(self._barriers.pop())

    def sent_by(self, pid: int) -> list[str]:
        """Return the messages of one process."""
        return [message for message, sender in zip(self.messages, self.senders, strict=True) if sender == pid]

    def wait_for(self, text: str) -> list[str]:
        """Wait for a message that contains ``text``; return all since the last call, this one included."""
        with self._arrived:
            begin = at = self._seen
            while True:
                assert self._arrived.wait_for(self._more_than(at), PATIENCE), self.messages
                at += 1
                if text in self.messages[at - 1]:
                    self._seen = at
                    return self.messages[begin:at]

    def _more_than(self, count: int) -> Callable[[], bool]:
        return lambda: len(self.messages) > count

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", str(self.path))
        self._thread.join()
        self._socket.close()
        self.catch_up()
        for fd in self.descriptors:
            os.close(fd)


@dataclass
class Response:
    """A response as it was on the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header that occurs at most once."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) <= 1, found
        return found[0] if found else None


class Client:
    """One connection."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: str | bytes) -> None:
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def get(self, path: str, *headers: str) -> None:
        """Send a GET request."""
        self.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: shop.example", *headers, "", ""]))

    def head(self) -> list[str]:
        """Return the lines of a response's head, nothing when the connection ended before it."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            if not (byte := self._receive(1)):
                assert not data, data
                return []
            data += byte
        return data.decode("latin-1").split("\r\n")[:-2]

    def response(self) -> Response | None:
        """Return the next response, None when the connection ended before it."""
        if not (lines := self.head()):
            return None
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        response = Response(int(lines[0].split()[1]), headers, b"")
        response.body = self.exactly(int(response.header("Content-Length") or 0))
        return response

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (part := self._receive(count - len(data))):
            data += part
        return data

    def ended(self) -> bool:
        """Whether nothing but the end of the connection comes."""
        return self._receive(1) == b""

    def _receive(self, count: int) -> bytes:
        try:
            return self.socket.recv(count)
        except ConnectionError:
            return b""


@dataclass
class Server:
    """A server in a process of its own, and the manager that it reports to."""

    process: subprocess.Popen[bytes]
    manager: Manager
    listeners: Sequence[socket.socket]
    lab: Path
    """A directory through which application and test talk."""
    stderr: Path
    """Not a pipe, whose end comes with that of the last process: a reload leaves another one."""

    @property
    def errors(self) -> str:
        """What was written to stderr so far."""
        return self.stderr.read_text()

    @property
    def address(self) -> str | tuple[str, int]:
        """Where the first socket listens."""
        address: str | tuple[str, int] = self.listeners[0].getsockname()
        return address

    def client(self) -> Client:
        return Client(self.address)

    def ask(self, path: str, *headers: str) -> Response:
        """Return the response to a request on a connection of its own."""
        with self.client() as client:
            client.get(path, *headers)
            response = client.response()
            assert response
            return response

    def ready(self) -> Self:
        try:
            self.manager.wait_for("READY=1")
        except AssertionError:
            self.process.kill()
            pytest.fail(f"not ready, exit status {self.exit()}: {self.errors}")
        return self

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        """Send SIGTERM and wait until the server has taken it in, with at least one connection open."""
        self.signal()
        self.manager.wait_for("STATUS=Draining: ")

    def processes(self) -> set[int]:
        """Return the processes that the server consists of, also those that are nobody's children any more."""
        return set(_writers(self.stderr))

    def kill(self) -> None:
        """End all of them."""
        while pids := self.processes():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def exit(self) -> int:
        """Wait for the process and return its exit status; what it wrote to stderr is in `errors`."""
        return self.process.wait(PATIENCE)

    def said(self, text: str) -> None:
        """Wait until ``text`` was written to stderr."""
        eventually(lambda: text in self.errors)

    def messages_within(self, seconds: float) -> list[str]:
        """Return the messages that come within ``seconds``."""
        before = len(self.manager.messages)
        time.sleep(seconds)
        return self.manager.messages[before:]

    # The application's handlers wait for files here, and leave files.
    def saw(self, name: str) -> None:
        """Wait until the application has left the file ``name``."""
        eventually((self.lab / name).exists)

    def release(self, name: str) -> None:
        """Let the application go on where it waits for the file ``name``."""
        (self.lab / name).touch()

    def left(self, name: str) -> str:
        """Return what the application has written to ``name``."""
        self.saw(name)
        return (self.lab / name).read_text()


def _writers(file: Path) -> Iterator[int]:
    """Return the processes whose stderr is ``file``."""
    for path in Path("/proc").glob("[0-9]*"):
        # What has ended has no descriptors any more, and readlink() fails.
        with suppress(OSError):
            if (path / "fd/2").readlink() == file:
                yield int(path.name)


class MakeServer(Protocol):
    """Starts an application on one inherited unix socket; further keywords are environment variables."""

    def __call__(self, *options: str, app: str = "shop:app", **environment: str) -> Server: ...


@dataclass
class Lab:
    """Makes servers, and ends them."""

    path: Path
    servers: list[Server] = field(default_factory=list)
    listeners: list[socket.socket] = field(default_factory=list)
    managers: list[Manager] = field(default_factory=list)

    def unix(self, name: str = "1.sock") -> socket.socket:
        """Return a listening unix socket, as a socket unit would make it."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path / name))
        listener.listen(4096)
        self.listeners.append(listener)
        return listener

    def tcp(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0))
        self.listeners.append(listener)
        return listener

    def manager(self) -> Manager:
        self.managers.append(Manager(self.path / f"notify{len(self.managers)}"))
        return self.managers[-1]

    def run(  # noqa: PLR0913  (each is one thing that systemd passes)
        self,
        *arguments: str,
        listeners: Sequence[socket.socket] = (),
        descriptors: Iterable[tuple[int, str]] = (),
        stock: bool = False,
        managed: bool = True,
        cwd: Path = HERE / "apps",
        without: Sequence[str] = (),
        launcher: Sequence[str] = (),
        python: Path = PYTHON,
        environment: Mapping[str, str] | None = None,
    ) -> Server:
        """Start ``aiosystemd-serve`` (or, with ``stock``, plain run_app) with what systemd would pass it.

        The modules ``without`` are as good as not installed; ``launcher`` is a command that executes the rest.
        """
        manager = self.manager()
        variables = {**self.variables(without), **(environment or {})}
        if managed and not stock:
            variables["NOTIFY_SOCKET"] = str(manager.path)
        passed = [(each.fileno(), "shop.socket") for each in listeners] + list(descriptors)
        program = ["-W", "error", str(HERE / "stock.py")] if stock else RUNTIME
        command = [str(python), *program, *arguments]
        if passed:
            numbers = ",".join(str(fd) for fd, _ in passed)
            command = [sys.executable, "-I", "-S", str(HERE / "activate.py"), numbers, *command]
            variables["LISTEN_FDNAMES"] = ":".join(name for _, name in passed)
        stderr = self.path / f"stderr{len(self.servers)}"
        with stderr.open("a") as errors:
            process = subprocess.Popen(
                [*launcher, *command],
                cwd=cwd,
                env=variables,
                pass_fds=[fd for fd, _ in passed],
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )
        self.servers.append(Server(process, manager, listeners, self.path, stderr))
        return self.servers[-1]

    def variables(self, without: Sequence[str] = ()) -> dict[str, str]:
        """Return the environment that every program gets here."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PATH", "COV", "LANG"))}
        return {**kept, "PYTHONPATH": self._python_path(without), "LAB": str(self.path)}

    def _python_path(self, without: Sequence[str]) -> str:
        if not without:
            return str(ROOT)
        hidden = self.path / "hidden"
        hidden.mkdir(exist_ok=True)
        for name in without:
            (hidden / f"{name}.py").write_text(f"raise ModuleNotFoundError({name!r}, name={name!r})\n")
        return f"{hidden}:{ROOT}"

    def close(self) -> None:
        for server in self.servers:
            server.kill()
        for listener in self.listeners:
            listener.close()
        for manager in self.managers:
            manager.close()
