"""A deployment on a host, small enough for a test."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd import rollout, scope
from aiosystemd.build import Build, build
from aiosystemd.host import Host
from aiosystemd.rollout import roll_out
from aiosystemd.rollout.standing import Outcome
from aiosystemd.rollout.work import Options, Step
from tests.releases import APP
from tests.rollout.systemd import Instance, Systemd
from tests.runtime.lab import Client
from tests.runtime.service import adopting_orphans

NAMES = ("1", "2", "3")


class Deploy:
    """The deployment ``shop``, and rollouts of it."""

    def __init__(self, directory: Path, systemd: Systemd) -> None:
        self.directory = directory
        self.systemd = systemd
        self.host = Host(cpus=len(NAMES))
        self.steps: list[str] = []
        self.when: dict[str, Callable[[], object]] = {}
        """What to do at the first step that contains a text."""

    def release(self, text: str) -> None:
        (self.directory / "app" / "app.py").write_text(text)

    def built(self, *lines: str) -> Build:
        file = self.directory / "shop.toml"
        file.write_text("\n".join(('name = "shop"', 'app = "app:create"', 'instances = "auto"', *lines, "")))
        built = build(str(file), self.host)
        d = built.deployment
        # Sockets in a temporary directory are refused, and there is no other for a test.
        here = d.listen.model_copy(update={"directory": str(self.directory)})
        return built._replace(deployment=d.model_copy(update={"listen": here}))

    def say(self, step: Step) -> None:
        line = f"{step.unit}: {step.text}"
        self.steps.append(line)
        for text in [text for text in self.when if text in line]:
            self.when.pop(text)()

    def __call__(self, options: Options | None = None, *lines: str) -> Outcome:
        return roll_out(self.built(*lines), self.host, options or Options(pause=0.05), self.say)

    def ask(self, name: str, path: str = "/") -> str:
        """Return what an instance says on its own socket."""
        with Client(f"{self.directory}/{name}.sock") as client:
            client.get(path, "Connection: close")
            response = client.response()
            assert response
            return response.body.decode()

    def says(self, word: str) -> bool:
        return all(self.ask(name) == f"{word} from {name}" for name in NAMES)


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploy]:
    """Return the deployment, with all instances started."""
    # Not tmp_path: with a test's long name in it a socket's path may exceed unix(7)'s 108 bytes.
    directory = Path(tempfile.mkdtemp(prefix="ro"))
    (directory / "app").mkdir()
    (directory / "app" / "app.py").write_text(APP)
    here = replace(scope.SYSTEM, run=PurePosixPath(directory), drop_ins=())
    monkeypatch.setattr(scope, "_current", here)
    monkeypatch.setattr(rollout, "SYSTEMD", directory)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{directory}/bin:{os.environ['PATH']}")
    with adopting_orphans():
        systemd = Systemd(directory, NAMES)
        try:
            with ThreadPoolExecutor() as pool:
                assert all(pool.map(Instance.start, systemd.instances.values()))
            yield Deploy(directory, systemd)
        finally:
            systemd.close()
    shutil.rmtree(directory)
