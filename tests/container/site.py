"""A deployment on a machine, and the traffic at it."""

import json
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from tests.container.machine import Machine, Response

INSTANCES: Final = ("1", "2", "3", "4")
PATIENCE: Final = 90.0
"""Seconds after which a state that does not come is missing."""

_HERE: Final = Path(__file__).parent
SHAPES: Final = _HERE / "shapes"
"""Applications, each with its deployment file."""
_UNITS: Final = _HERE.parents[1] / "units"


class Answer(NamedTuple):
    """What a client saw."""

    status: int
    text: str
    headers: dict[str, str]


class Connections(NamedTuple):
    """Connections on an instance's socket."""

    accepted: int
    """Those that the process has, busy or idle."""
    queued: int
    """Those that wait in the kernel."""


@dataclass(frozen=True, slots=True)
class Site:
    """One deployment that is installed on ``machine``."""

    machine: Machine
    name: str
    host: str

    @classmethod
    def reference(cls, machine: Machine) -> Self:
        """Install the reference deployment, beside Debian's own default site: it answers to the host's name."""
        machine.copy(_UNITS / "my_app_module.py", "/srv/example/my_app_module.py")
        machine.copy(_UNITS / "example.toml", "/etc/aiosystemd/example.toml")
        site = cls(machine, "example", machine.run("hostname").stdout.strip())
        site._install()
        return site

    @classmethod
    def shape(cls, machine: Machine, name: str, sandbox: str | None = None) -> Self:
        """Install one of the applications in ``shapes/``, with another ``[sandbox]`` if one is given."""
        machine.copy(SHAPES / name, f"/srv/{name}")
        if name == "echo":  # it wants to be the default site
            machine.run("rm", "-f", "/etc/nginx/sites-enabled/default")
        site = cls(machine, name, f"{name}.test")
        site.configure(sandbox)
        return site

    @classmethod
    def files(cls, machine: Machine, name: str) -> Self:
        """Copy one of the applications and its deployment file, and install nothing."""
        machine.copy(SHAPES / name, f"/srv/{name}")
        machine.run("rm", "-f", "/etc/nginx/sites-enabled/default")
        machine.copy(SHAPES / name / "deployment.toml", f"/etc/aiosystemd/{name}.toml")
        return cls(machine, name, f"{name}.test")

    def configure(self, sandbox: str | None = None) -> None:
        """Write the shape's deployment file, with another ``[sandbox]`` if one is given, and install it."""
        text = (SHAPES / self.name / "deployment.toml").read_text()
        if sandbox is not None:
            text = re.sub(r"(?<=\[sandbox\]\n)[^\[]*", sandbox, text)
        self.machine.write(f"/etc/aiosystemd/{self.name}.toml", text)
        self._install()

    def change(self, why: str, line: str) -> None:
        """Add a line to the head of the deployment file, and do what `generate` says is next."""
        path = f"/etc/aiosystemd/{self.name}.toml"
        self.machine.write(path, f"# {why}\n{line}\n{self.machine.read(path)}")
        self._install()

    def _install(self) -> None:
        self.machine.run("aiosystemd", "check", self.name)
        for action in self.machine.run("aiosystemd", "generate", self.name, "--output", "/").stdout.splitlines():
            command = shlex.split(action.removeprefix("next:").partition(" # ")[0])
            # Everything it says to do next, apart from the start, which is what the tests are about.
            if action.startswith("next:") and "enable" not in command:
                self.machine.run(*command, *(("--pause", "0") if "rollout" in command else ()))

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.machine.run("systemctl", *arguments, check=check)

    def state(self, unit: str) -> str:
        return self.machine.show(unit, "ActiveState")["ActiveState"]

    def pids(self) -> dict[str, int]:
        """Return the main process of each instance, 0 where there is none."""
        units = {name: f"{self.name}@{name}.service" for name in INSTANCES}
        return {name: int(self.machine.show(unit, "MainPID")["MainPID"]) for name, unit in units.items()}

    def wait_for(self, state: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not state():
            assert time.monotonic() < end, self.machine.run("systemctl", "status", f"{self.name}*", check=False).stdout
            time.sleep(0.05)

    def ask(self, path: str = "/", body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Ask through the proxy."""
        return _answer(self._http(path, body, {"Host": self.host, **(headers or {})}))

    def ask_instance(self, name: str, path: str = "/", body: bytes | None = None) -> Answer:
        """Ask one instance on its own socket."""
        return _answer(self._http(path, body, {"Host": self.host}, unix=self.socket_path(name)))

    def socket_path(self, name: str) -> str:
        return f"/run/{self.name}/{name}.sock"

    def connect(self, path: str, *head: str, instance: str | None = None, method: str = "GET") -> socket.socket:
        """Return a connection, through the proxy or to an instance, on which the head of a request was sent."""
        connection = self.machine.connect(unix=self.socket_path(instance)) if instance else self.machine.connect()
        connection.settimeout(PATIENCE)
        lines = (f"{method} {path} HTTP/1.1", f"Host: {self.host}", *head, "", "")
        connection.sendall("\r\n".join(lines).encode())
        return connection

    def _http(self, path: str, body: bytes | None, headers: dict[str, str], unix: str | None = None) -> Response:
        method = "GET" if body is None else "POST"
        return self.machine.http(path, method=method, body=body, headers=headers, unix=unix, timeout=PATIENCE)

    def connections(self, name: str) -> Connections:
        """Count the connections on an instance's socket, as ss(8) sees them."""
        path = self.socket_path(name)
        rows = [row.split() for row in self.machine.run("ss", "--unix", "--all", "--no-header").stdout.splitlines()]
        ours = [(state, int(waiting)) for _, state, waiting, _, local, *_ in rows if local == path]
        queued = sum(waiting for state, waiting in ours if state == "LISTEN")
        return Connections(sum(state == "ESTAB" for state, _ in ours), queued)

    def load(self, *, clients: int, pause: float = 0.0, close: bool = False) -> "Traffic":
        """Return traffic at the site, GET and checked POST, that lasts for the context.

        With ``close`` each request has a connection of its own: one that is kept alive may carry a request at the
        moment at which nginx, on its own reload, closes it as idle.
        """
        post = "" if self.name == "example" else "/echo"
        return Traffic(
            self, "--clients", str(clients), "--pause", str(pause), "--post", post, *(["--close"] if close else [])
        )

    def write_app(self, text: str) -> None:
        self.machine.write(f"/srv/{self.name}/app.py", text)


def _answer(response: Response) -> Answer:
    return Answer(response.status, response.body.decode(errors="replace"), response.headers)


class Report(NamedTuple):
    """What the load client has counted."""

    requests: int
    posts: int
    failures: dict[str, int]
    slow: int
    """Requests that took more than a second."""
    slowest: float
    """Seconds."""


class Traffic:
    """The load client at work inside the machine."""

    def __init__(self, site: Site, *options: str) -> None:
        self._site = site
        self._options = options

    def __enter__(self) -> Self:
        machine = self._site.machine
        machine.write("/root/load.py", (_HERE.parent / "load.py").read_text())
        self._process = machine.start("python3", "/root/load.py", "--host", self._site.host, *self._options)
        self._final: Report | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        output, errors = self._process.communicate()
        assert not self._process.returncode, errors
        self._final = _report(output.splitlines()[-1])

    def report(self) -> Report:
        """Return the counts so far, or after the context the last ones."""
        if self._final:
            return self._final
        process = self._process
        assert process.stdin
        assert process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        return _report(process.stdout.readline())

    def wait(self, more: int) -> None:
        """Wait until ``more`` requests are done."""
        wanted = self.report().requests + more
        self._site.wait_for(lambda: self.report().requests >= wanted)


def _report(line: str) -> Report:
    fields = json.loads(line)
    return Report(fields["requests"], fields["posts"], fields["reasons"], fields["slow"], fields["max"] / 1000)
