"""A deployment whose releases lie beside one another, with an interpreter each: ``current`` names the one to serve."""

import json
import socket
from contextlib import suppress
from typing import Final

from tests.container.machine import Machine
from tests.container.site import INSTANCES, SHAPES, Site

HOME: Final = "/srv/release"
UNITS: Final = [f"release@{name}.service" for name in INSTANCES]
HALF: Final = bytes(range(256)) * 1000
"""Half of the body of an `upload`."""
APP: Final = (SHAPES / "release" / "app.py").read_text()


def first(machine: Machine, *settings: str) -> Site:
    """Install and start the first release, with more ``settings`` in the deployment file."""
    machine.write("/etc/release.key", "secret", mode=0o600)
    prepare(machine, 1)
    machine.run("ln", "-s", "releases/1", f"{HOME}/current")
    site = Site.shape(machine, "release")
    for line in settings:
        site.change("of this test", line)
    site.systemctl("start", "release.target")
    return site


def prepare(machine: Machine, number: int, code: str = APP) -> None:
    """Put a release beside the others."""
    release = f"{HOME}/releases/{number}"
    machine.run("python3", "-m", "venv", "--without-pip", "--system-site-packages", release)
    packages = machine.run("sh", "-c", f"echo {release}/lib/python3.*/site-packages").stdout.strip()
    machine.write(f"{packages}/of_this_environment.py", f"RELEASE = '{number}'\n")
    machine.write(f"{release}/app.py", code)


def switch(machine: Machine, number: int, code: str = APP) -> None:
    """Make another release the current one, as deploy scripts do: the link is there at every moment."""
    prepare(machine, number, code)
    machine.run("ln", "-s", f"releases/{number}", f"{HOME}/next")
    machine.run("mv", "--no-target-directory", f"{HOME}/next", f"{HOME}/current")


def about(site: Site, name: str) -> dict[str, object]:
    """Return what an instance tells of itself."""
    found: dict[str, object] = json.loads(site.ask_instance(name, "/about").text)
    return found


def processes(site: Site, name: str) -> set[int]:
    """Return all processes of an instance."""
    group = site.machine.show(f"release@{name}.service", "ControlGroup")["ControlGroup"]
    if not group:
        return set()
    found = site.machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs", check=False).stdout
    return {int(pid) for pid in found.split()}


def parent(site: Site, pid: int) -> int:
    """Return the parent of a process, 0 when there is no such process."""
    with suppress(FileNotFoundError, ProcessLookupError):
        fields = dict(line.split(":\t", 1) for line in site.machine.read(f"/proc/{pid}/status").splitlines())
        return int(fields["PPid"])
    return 0


def upload(site: Site, name: str) -> socket.socket:
    """Return a connection to an instance on which half of a body was sent."""
    connection = site.connect(
        "/echo", f"Content-Length: {2 * len(HALF)}", "Connection: close", instance=name, method="POST"
    )
    connection.sendall(HALF)
    return connection


def answer(connection: socket.socket) -> bytes:
    with connection, connection.makefile("rb") as stream:
        return stream.read()


def complete(connection: socket.socket) -> None:
    connection.sendall(HALF)
    assert answer(connection).endswith(HALF + HALF)


def stop(site: Site, name: str) -> None:
    """Begin to stop an instance, with its socket, which would start it again."""
    site.systemctl("stop", "--no-block", f"release@{name}.socket", f"release@{name}.service")
    site.wait_for(lambda: site.state(f"release@{name}.service") == "deactivating")


def assert_stopped_in_order(site: Site, name: str) -> None:
    unit = f"release@{name}.service"
    site.wait_for(lambda: site.state(unit) in {"inactive", "failed"})
    assert site.machine.show(unit, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    assert processes(site, name) == set()
    journal = site.machine.journal(unit=unit)
    assert "SIGKILL" not in journal
    assert "left-over process" not in journal
