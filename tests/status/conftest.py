"""Three instances of the runtime on a host, small enough for a test."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd import scope, status
from aiosystemd.host import Host
from tests.releases import APP
from tests.rollout.systemd import Instance, Reply, Systemd
from tests.runtime.lab import Client
from tests.runtime.service import adopting_orphans

NAMES = ("1", "2", "3")
_EXPOSURE = "#!/bin/sh\necho '→ Overall exposure level for shop@1.service: 0.2 SAFE'\n"


class Manager(Systemd):
    """Lists its units too, and keeps a journal of them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, NAMES)
        self.errors: list[tuple[str, str]] = []
        """Unit and text of each message, the oldest first."""
        self.failure = ""
        """What systemctl says instead of an answer."""
        self.journal_failure = ""
        program = directory / "bin" / "systemd-analyze"
        program.write_text(_EXPOSURE)
        program.chmod(0o755)

    def _systemctl(self, argv: list[str]) -> Reply:
        if self.failure:
            return (1, "", self.failure)
        if "list-units" not in argv:
            return super()._systemctl(argv)
        units = [
            {"unit": f"shop@{name}.{kind}", "active": active}
            for name, each in self.instances.items()
            for kind, active in (("service", each.state), ("socket", each.socket_state))
        ]
        return (0, json.dumps(units), "")

    def _service(self, unit: str, instance: Instance) -> str:
        started = datetime.fromtimestamp(instance.started, UTC).strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")
        return f"{super()._service(unit, instance)}ExecMainStartTimestamp={started}\n"

    def _journal(self, argv: list[str]) -> Reply:
        assert "--reverse" in argv
        if self.journal_failure:
            return (1, "", self.journal_failure)
        at = int(time.time() * 1_000_000)
        entries = [
            {
                "__REALTIME_TIMESTAMP": str(at),
                ("UNIT" if text.startswith("Failed") else "_SYSTEMD_UNIT"): unit,
                "MESSAGE": text,
            }
            for unit, text in reversed(self.errors)
        ]
        return (0, "".join(f"{json.dumps(entry)}\n" for entry in entries), "")


class Shop:
    """The deployment ``shop`` on its host."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.systemd = Manager(directory)
        self.host = Host(cpus=len(NAMES))
        self.file = directory / "files" / "shop.toml"
        self.file.write_text('name = "shop"\napp = "app:create"\ninstances = 3\n')

    def ask(self, name: str, path: str = "/") -> int:
        with Client(f"{self.directory}/{name}.sock") as client:
            client.get(path, "Connection: close")
            response = client.response()
            assert response
            return response.status


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Return the deployment, with all instances started."""
    # Not tmp_path: with a test's long name in it a socket's path may exceed unix(7)'s 108 bytes.
    directory = Path(tempfile.mkdtemp(prefix="st"))
    for name in ("app", "files"):
        (directory / name).mkdir()
    (directory / "app" / "app.py").write_text(APP)
    here = replace(scope.SYSTEM, run=PurePosixPath(directory), files=PurePosixPath(directory / "files"), drop_ins=())
    monkeypatch.setattr(scope, "_current", here)
    monkeypatch.setattr(status, "SYSTEMD", directory)
    monkeypatch.setattr(status, "_APART", 0.05)
    monkeypatch.setenv("PATH", f"{directory}/bin:{os.environ['PATH']}")
    with adopting_orphans():
        found = Shop(directory)
        try:
            with ThreadPoolExecutor() as pool:
                assert all(pool.map(Instance.start, found.systemd.instances.values()))
            yield found
        finally:
            found.systemd.close()
    shutil.rmtree(directory)
