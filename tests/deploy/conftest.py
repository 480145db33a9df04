"""A deployment on a host, small enough for a test."""

import math
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aiosystemd import deploy
from aiosystemd.deploy import How, Result, carry_out, earlier, in_force, plan
from aiosystemd.deploy.proposal import Proposal
from aiosystemd.deploy.wanted import Wanted, by_count, by_file, by_generation, nothing
from aiosystemd.rollout.work import Options, Step
from tests.deploy.place import APP, HOST, deployment, move_in
from tests.deploy.systemd import Host
from tests.releases import release
from tests.runtime.lab import Client
from tests.runtime.service import adopting_orphans
from tests.tools import require


class Files:
    """The deployment ``shop`` where no systemd runs, and what is done with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = self.root / "etc/aiosystemd/shop.toml"
        self.file.parent.mkdir(parents=True)
        self.steps: list[str] = []
        self.when: dict[str, Callable[[], object]] = {}
        """What to do at the first step that contains a text."""
        self.timeout = math.inf
        self.by_policy = False
        self.release("1", "hello")
        self.link("1")
        self.write()

    def write(self, *lines: str, instances: int = 2) -> None:
        self.file.write_text(deployment(*lines, instances=instances))

    def release(self, name: str, word: str, text: str = "") -> None:
        directory = self.root / "srv/shop" / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "app.py").write_text(text or release(word))

    def link(self, name: str) -> None:
        link = self.root / APP.lstrip("/")
        link.unlink(missing_ok=True)
        link.symlink_to(name)

    def say(self, step: Step) -> None:
        line = f"{step.unit}: {step.text}"
        self.steps.append(line)
        for text in [text for text in self.when if text in line]:
            self.when.pop(text)()

    def run(self, make: Callable[[], Wanted], *, adopt: bool = False) -> Result:
        self.steps.clear()
        options = Options(pause=0, timeout=self.timeout)
        return carry_out(make, How(HOST, self.root, options, adopt, self.by_policy), self.say)

    def apply(self, *, adopt: bool = False, renew: bool = False) -> Result:
        return self.run(lambda: replace(by_file(self.file, HOST, self.root), renew=renew), adopt=adopt)

    def diff(self) -> Proposal:
        """Return what there is to do."""
        return plan(lambda: by_file(self.file, HOST, self.root), self.root)

    def is_in_force(self) -> bool:
        """Tell whether all is as the deployment file says, and nothing of a run is left."""
        left = [name for name in self.files() if name.endswith((".aiosystemd-new", ".aiosystemd-before"))]
        return not (self.diff().anything or left)

    def scale(self, count: int) -> Result:
        return self.run(lambda: by_count(in_force("shop", self.root), count, HOST, self.root))

    def rollback(self, to: int | None = None) -> Result:
        return self.run(lambda: by_generation(earlier("shop", to, self.root), HOST, self.root))

    def remove(self, *, adopt: bool = False) -> Result:
        return self.run(lambda: nothing(in_force("shop", self.root), HOST), adopt=adopt)

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Return all that is on the disk: mode, and content or where a link leads."""
        return dict(self._files())

    def _files(self) -> Iterator[tuple[str, tuple[int, bytes]]]:
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if name.startswith("run/") or name.endswith(".lock") or "__pycache__" in name or path.is_dir():
                continue
            yield (
                name,
                (path.lstat().st_mode, str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()),
            )


class Shop(Files):
    """The deployment ``shop`` on a host whose systemd runs."""

    def __init__(self, host: Host) -> None:
        self.host = host
        super().__init__(host.root)

    def run(self, make: Callable[[], Wanted], *, adopt: bool = False) -> Result:
        self.host.calls.clear()
        return super().run(make, adopt=adopt)

    def is_in_force(self) -> bool:
        """Tell whether all is as the deployment file says, and nothing of a run is left."""
        return super().is_in_force() and not self.state()["unread"]

    def running(self) -> dict[str, tuple[str, str, str]]:
        """Return of each instance what it says, where it listens and how it was started."""
        pids, addresses = self.host.pids(), self.host.addresses()
        return {name: (self.ask(addresses[name]), addresses[name], _command_line(pids[name])) for name in pids}

    def state(self) -> dict[str, object]:
        """Return everything that goes back to what it was."""
        units = [f"shop@{name}.{kind}" for name in self.host.instances for kind in ("service", "socket")]
        return {
            "files": self.files(),
            "running": self.running(),
            "listening": self.host.listening(),
            "targets": set(self.host.targets),
            "site": self.host.site,
            "unread": [unit for unit in units if self.host.stale(unit)],
        }

    def ask(self, socket: str) -> str:
        """Return what an instance says."""
        with Client(socket) as client:
            client.get("/", "Connection: close")
            response = client.response()
            assert response
            return response.body.decode()


def _command_line(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return " ".join(word for word in words if word not in ("--reload", "--alone"))


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Return the deployment, which is not in force yet."""
    # Not tmp_path: with a test's long name in it a socket's path may exceed unix(7)'s 108 bytes.
    directory = Path(tempfile.mkdtemp(prefix="ro"))
    move_in(directory, monkeypatch.setattr)
    monkeypatch.setenv("PATH", f"{directory}/bin:{os.environ['PATH']}")
    with adopting_orphans():
        host = Host(directory)
        try:
            yield Shop(host)
        finally:
            host.close()
    shutil.rmtree(directory)


@pytest.fixture
def applied(shop: Shop) -> Shop:
    """Return the deployment, in force."""
    assert shop.apply().failure == ""
    return shop


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Return the deployment in an image that is built, not in force yet."""
    require("systemctl")
    monkeypatch.setattr(deploy.checks, "verify", lambda *_: iter(()))  # It has tests of its own, and takes its time.
    return Files(tmp_path / "root")


@pytest.fixture
def kept(files: Files) -> Files:
    """Return the deployment in an image, in force."""
    assert files.apply().failure == ""
    return files
